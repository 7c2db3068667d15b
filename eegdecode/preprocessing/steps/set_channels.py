"""Bring channels into one order, the same for all recordings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from eegdecode import sphere
from eegdecode.preprocessing.channels import select
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class SetChannels:
    """Keep these channels, in this order, and leave out the others; `1020` stands for the 19 of the 10-20 system."""

    FORMER_NAMES: ClassVar[tuple[str, ...]] = ("montage",)
    name: Literal["set_channels"] = "set_channels"
    channels: tuple[str, ...] = ("1020",)  # names in their order; `1020`: the 19 of the 10-20 system
    missing: Literal["error", "interpolate"] = "error"  # a channel that is not there: refuse, or interpolate it
    allow_nan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("set_channels needs the names of channels, or 1020, but got none")


TEN_TWENTY = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz",
    "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip


def apply(cfg: SetChannels, stream: Stream, trials: Sequence[Trial]) -> Stream:
    wanted = [name for entry in cfg.channels for name in (TEN_TWENTY if entry in ("1020", "10-20") else (entry,))]
    missing = [name for name in dict.fromkeys(wanted) if name not in stream.channels]
    if not missing:
        return select(stream, wanted)
    if cfg.missing == "error":
        raise ValueError(
            f"set_channels needs {', '.join(missing)}, but there are {', '.join(stream.channels)}: "
            "rename them (aliases), leave them out of set_channels, or say missing: interpolate"
        )
    places, by_name = sphere.positions(stream), sphere.ten_ten()
    known = [index for index, name in enumerate(stream.channels) if name in places]
    unknown = [name for name in missing if name not in by_name]
    if unknown or not known:
        unplaced = ", ".join(unknown or stream.channels)
        raise ValueError(
            f"set_channels lacks {', '.join(missing)}, and the place of {unplaced} is not known: "
            "nothing can be interpolated; leave them out of set_channels"
        )
    present = [name for name in wanted if name in stream.channels]
    columns, places_present, places_missing = (
        [stream.channels.index(name) for name in present],
        [wanted.index(name) for name in present],
        [wanted.index(name) for name in missing],
    )
    weights = sphere.spline([places[stream.channels[index]] for index in known], [by_name[name] for name in missing])

    def read(first: int, stop: int) -> np.ndarray:
        data = stream.read(first, stop)
        out = np.empty((len(data), len(wanted)), data.dtype)
        out[:, places_present] = data[:, columns]
        out[:, places_missing] = data[:, known] @ weights.T.astype(data.dtype)
        return out

    sensors = {name: stream.sensors[name] for name in present if name in stream.sensors}
    return replace(stream, channels=tuple(wanted), sensors=sensors, read=read)


def of_windows(cfg: SetChannels, windows: SingleWindows) -> SingleWindows:
    return windows.through(apply, cfg)
