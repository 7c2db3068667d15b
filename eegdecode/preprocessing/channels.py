"""What steps on channels share: choose among them, and map them by a matrix."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from eegdecode.signals import Stream


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


def need_all(names: Iterable[str], there: Sequence[str], what: str) -> None:
    if unknown := [name for name in names if name not in there]:
        raise ValueError(f"{what}: there is no channel {', '.join(unknown)} among {', '.join(there)}")
