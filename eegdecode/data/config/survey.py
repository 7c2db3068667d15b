"""The config of a survey of raw studies."""

from dataclasses import dataclass, field
from typing import ClassVar

from eegdecode.data.config.files import Reading, Table
from eegdecode.data.config.reading import EventsOrDefault, Matlab
from hpc.rank.context import Input


@dataclass(frozen=True)
class Survey:
    study: tuple[Input, ...]  # a folder of recordings, or several: recordings that are in two of them are found
    files: str = ""  # names of recordings that are not BIDS, {subject}/*_{run}.set, or their table, files.tsv
    events: EventsOrDefault = None  # where trials come from; by default events.tsv
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say
    table: Table = field(default_factory=Table)  # what .csv, .tsv, .parquet, .npy and .npz do not say
    units: dict[str, str] = field(default_factory=dict)
    """The unit of the numbers in the files, by the names of channels: {"*": mV}, {"EMG*": V}. It is final."""
    kinds: dict[str, str] = field(default_factory=dict)
    """The kinds of channels, by their names: {"GYR*": misc, EXG1: eog}. It is final."""
    samples: bool = True  # read every sample, to find damage and duplicates; false reads headers only, in seconds

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("table", "units", "kinds")

    @property
    def reading(self) -> Reading:
        return Reading(self.matlab, self.table, self.units, self.kinds, look=self.samples)
