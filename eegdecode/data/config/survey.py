"""What a survey looks at."""

from dataclasses import dataclass, field

from eegdecode.data.config.reading import Events, Matlab
from hpc.rank.context import Input


@dataclass(frozen=True)
class Survey:
    study: tuple[Input, ...]  # one or several, looked at together: what is in two of them is found
    files: str = ""  # how recordings are called in a folder that is not BIDS: EEGdata/{subject}/*_{run}.set
    events: Events | None = None  # where the trials come from: events.tsv, unless you say otherwise
    matlab: Matlab = field(default_factory=Matlab)  # what .mat files do not say themselves
    samples: bool = True  # read every sample, for damage and duplicates; without it headers only, in seconds
