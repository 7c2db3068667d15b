"""The config of a survey of raw studies."""

from dataclasses import dataclass, field

from eegdecode.data.config.reading import EventsOrDefault, Matlab
from hpc.rank.context import Input


@dataclass(frozen=True)
class Survey:
    study: tuple[Input, ...]  # a folder of recordings, or several: recordings that are in two of them are found
    files: str = ""  # names of recordings that are not BIDS, {subject}/*_{run}.set, or their table, files.tsv
    events: EventsOrDefault = None  # where trials come from; by default events.tsv
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say
    samples: bool = True  # read every sample, to find damage and duplicates; false reads headers only, in seconds
