"""Rename, pick, order, re-reference and interpolate channels."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from eegdecode.preprocessing import sphere
from eegdecode.preprocessing.config import Aliases, Pick, SetChannels
from eegdecode.signals import Kind, Stream

OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
PLACE = re.compile(r"(NZ?|FP|AFP?|F|FT|FC|T|TP|C|CP|P|PO|O|I)(\d{1,2}|Z)", re.IGNORECASE)
AROUND = re.compile(r"^EEG[ _:-]*|[ ._-]*(REF|LE|AVG|AR)$|[ ._*-]+$", re.IGNORECASE)

TEN_TWENTY = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz",
    "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip

REFERENCED: tuple[Kind, ...] = ("eeg", "ecog", "seeg")
"""The kinds that are measured against a reference electrode, which can be changed afterwards."""


def alias(name: str, table: Mapping[str, str]) -> str:
    """Today's spelling in the 10-20 system; other names stay as they are."""
    if name in table:
        return table[name]
    bare = name
    while (shorter := AROUND.sub("", bare)) != bare:
        bare = shorter
    match = PLACE.fullmatch(bare)
    if not match:
        return name
    row = {"FP": "Fp", "NZ": "Nz"}.get(match[1].upper(), match[1].upper())
    spelled = row + match[2].lower()
    return table.get(spelled, OLD_NAMES.get(spelled, spelled))


def rename(step: Aliases, stream: Stream) -> Stream:
    table = {
        name: alias(name, step.table) if stream.sensor(name).kind == "eeg" else step.table.get(name, name)
        for name in stream.channels
    }
    sensors = {table[name]: sensor for name, sensor in stream.sensors.items() if name in table}
    return replace(stream, channels=tuple(table.values()), sensors=sensors)


def pick(step: Pick, stream: Stream) -> Stream:
    channels = stream.channels
    _all_there([*step.names, *step.drop], channels, "pick")
    chosen = [
        name
        for name in channels
        if stream.sensor(name).kind in step.kinds
        and (name in step.names or (step.regex and re.search(step.regex, name)) or not (step.names or step.regex))
        and name not in step.drop
    ]
    if not chosen:
        raise ValueError(f"pick leaves none of the channels {', '.join(channels)}: loosen kinds, names or regex")
    return select(stream, chosen)


def set_channels(step: SetChannels, stream: Stream) -> Stream:
    wanted = [name for entry in step.channels for name in (TEN_TWENTY if entry in ("1020", "10-20") else (entry,))]
    missing = [name for name in dict.fromkeys(wanted) if name not in stream.channels]
    if not missing:
        return select(stream, wanted)
    if step.missing == "error":
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


def select(stream: Stream, names: Sequence[str]) -> Stream:
    """These channels, in this order."""
    if tuple(names) == stream.channels:
        return stream
    columns = [stream.channels.index(name) for name in names]
    sensors = {name: stream.sensors[name] for name in names if name in stream.sensors}
    return replace(
        stream, channels=tuple(names), sensors=sensors, read=lambda first, stop: stream.read(first, stop)[:, columns]
    )


def mapped(stream: Stream, matrix: np.ndarray, channels: Sequence[str] | None = None) -> Stream:
    """Each sample times `matrix`, [new channel, channel]; a channel that keeps its name keeps its sensor."""
    names = stream.channels if channels is None else tuple(channels)
    transposed = matrix.T

    def read(first: int, stop: int) -> np.ndarray:
        data = stream.read(first, stop)
        return data @ transposed.astype(data.dtype)

    return replace(
        stream,
        channels=names,
        sensors={name: sensor for name, sensor in stream.sensors.items() if name in names},
        read=read,
    )


def reference(names: Sequence[str], stream: Stream) -> Stream:
    """Subtract the mean of `names`, or of all channels of the same kind."""
    kinds = [stream.sensor(name).kind for name in stream.channels]
    groups = [[index for index, kind in enumerate(kinds) if kind == one] for one in REFERENCED]
    groups = [group for group in groups if group]
    if not groups:
        raise ValueError(
            f"reference: none of {', '.join(stream.channels)} is {' or '.join(REFERENCED)}, and nothing else has a "
            "reference electrode: leave out this step"
        )
    _all_there(names, stream.channels, "reference")
    pairs = [(group, [stream.channels.index(name) for name in names] or group) for group in groups]

    def read(first: int, stop: int) -> np.ndarray:
        data = stream.read(first, stop)
        if len(pairs) == 1 and len(pairs[0][1]) == stream.n_channels:
            return data - data.mean(axis=1, keepdims=True)
        out = data.copy()
        for group, over in pairs:
            out[:, group] -= data[:, over].mean(axis=1, keepdims=True)
        return out

    return replace(stream, read=read)


def interpolated(stream: Stream, bads: Sequence[str]) -> Stream:
    """Interpolate the bad channels from the good ones, by spherical splines."""
    if not bads:
        return stream
    places = sphere.positions(stream)
    unplaced = [name for name in bads if name not in places]
    good = [index for index, name in enumerate(stream.channels) if name in places and name not in bads]
    if unplaced or len(good) < 4:
        lacking = ", ".join(unplaced) or "enough others"
        raise ValueError(
            f"{', '.join(bads)} cannot be interpolated: the place of {lacking} is not known (only EEG, by position or "
            "by its 10-10 name); drop these channels by pick, for all recordings"
        )
    columns = [stream.channels.index(name) for name in bads]
    matrix = sphere.spline([places[stream.channels[index]] for index in good], [places[name] for name in bads])

    def read(first: int, stop: int) -> np.ndarray:
        data = np.array(stream.read(first, stop))
        data[:, columns] = data[:, good] @ matrix.T.astype(data.dtype)
        return data

    return replace(stream, read=read)


def _all_there(names: Iterable[str], there: Sequence[str], what: str) -> None:
    if unknown := [name for name in names if name not in there]:
        raise ValueError(f"{what}: there is no channel {', '.join(unknown)} among {', '.join(there)}")
