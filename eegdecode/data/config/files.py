"""The configs of what files do not say: of tables and arrays, and the units and kinds of channels in any format."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from eegdecode.data.config.reading import Matlab
from eegdecode.signals import Kind


@dataclass(frozen=True)
class Table:
    """What a table (.csv, .tsv, .parquet) or an array (.npy, .npz) does not say.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz; 0: from the column with times, or from an array fs, sfreq or the like of an .npz.
    time
        The column with the time of each row, in seconds, or in ms or µs where its name or its steps say so; by default
        the one called time, t, timestamp or the like.
    data
        The array of an .npz that holds the samples; by default the only large one.
    channels
        Of a table, the columns to read; by default all with numbers. Of an array, the names of its channels.
    rows
        Whether a row is a point in time, or a channel. By default the longer side is time.
    unit
        The unit of the numbers, as uV or mV; by default that in the header, as in `Fz [uV]`, or else by their size.
    """

    sfreq: float = 0.0
    time: str = ""
    data: str = ""
    channels: tuple[str, ...] = ()
    rows: Literal["", "times", "channels"] = ""
    unit: Literal["", "V", "mV", "uV", "nV", "T", "pT", "fT"] = ""

    def __post_init__(self) -> None:
        if not 0 <= self.sfreq < math.inf:
            raise ValueError(f"table.sfreq is a rate in Hz (0: the file says it), got {self.sfreq}")
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"table.channels has a name twice: {', '.join(self.channels)}")


UNIT_NAMES = ("V", "mV", "uV", "nV", "pV", "T", "mT", "uT", "nT", "pT", "fT", "T/m", "fT/cm", "fT/m")


@dataclass(frozen=True)
class Reading:
    """All that says how the files of a study are read."""

    matlab: Matlab = field(default_factory=Matlab)
    table: Table = field(default_factory=Table)
    units: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    look: bool = True
    """Whether samples may be read to decide what the headers leave open."""

    def __post_init__(self) -> None:
        if wrong := {pattern: unit for pattern, unit in self.units.items() if unit not in UNIT_NAMES}:
            pattern, unit = next(iter(wrong.items()))
            raise ValueError(f"units says {pattern}: {unit}, but a unit is one of {', '.join(UNIT_NAMES)}")
        if wrong := {pattern: kind for pattern, kind in self.kinds.items() if kind not in get_args(Kind)}:
            pattern, kind = next(iter(wrong.items()))
            raise ValueError(f"kinds says {pattern}: {kind}, but a kind is one of {', '.join(get_args(Kind))}")
