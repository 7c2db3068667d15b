"""Detect bad channels, from every sample and from the median over blocks of a recording, and interpolate them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from eegdecode import sphere
from eegdecode.preprocessing import statistics
from eegdecode.signals import BRAIN, Decisions, Stream, Trial


@dataclass(frozen=True)
class BadChannels:
    """Find channels with NaN, flat ones, and those much louder or quieter than the others, or unlike all others, and
    interpolate them.

    Channels that the recording itself calls bad are always among them.
    """

    name: Literal["bad_channels"] = "bad_channels"
    z: float = 5.0
    """A channel whose log loudness is more than this many robust standard deviations from the others' is bad."""
    correlation: float = 0.3  # least correlation of a good channel with its most similar one; 0 switches this test off
    block_s: float = 10.0  # length of a block in seconds; the median over blocks counts
    bad_percent: float = 5.0  # a channel that is flat in more than this percentage of the seconds is bad, as in MNE
    most: float = 0.34  # largest fraction of bad channels; with more of them, the recording is refused
    needs_whole: ClassVar[bool] = True
    allow_nan: ClassVar[bool] = True
    ADDED_LATER: ClassVar[tuple[str, ...]] = ("bad_percent",)

    def __post_init__(self) -> None:
        if self.z <= 0 or self.block_s <= 0 or not 0 <= self.correlation < 1 or not 0 < self.most < 1:
            raise ValueError(
                "z and block_s are above 0, correlation and most within 0 to 1, "
                f"got {self.z}, {self.block_s}, {self.correlation} and {self.most}"
            )
        if not 0 <= self.bad_percent <= 100:
            raise ValueError(f"bad_percent is a percentage, 0 to 100, got {self.bad_percent:g}")


log = logging.getLogger(__name__)

MOST_BLOCKS = 300  # spread evenly over the recording
FLAT = 1e-3  # of the median channel's loudness


def apply(cfg: BadChannels, stream: Stream, trials: Sequence[Trial]) -> Stream:
    reasons = find(cfg, stream)
    log.info("bad channels: %s", ", ".join(f"{name} ({why})" for name, why in reasons.items()) or "none")
    repaired = tuple({"name": name, "decision": "interpolated", "reason": why} for name, why in reasons.items())
    stream = replace(stream, decisions=stream.decisions + Decisions(channels=repaired))
    return interpolated(stream, list(reasons))


def find(cfg: BadChannels, stream: Stream) -> dict[str, str]:
    """Bad channels and why, in the order of the channels. Channels are compared with others of their kind."""
    reasons = {name: "the recording says so" for name in stream.unrepaired if name in stream.channels}
    for name, why in _of_every_sample(cfg, stream).items():
        reasons.setdefault(name, why)
    data = list(_blocks(cfg, stream))
    compared = 0
    for kind in dict.fromkeys(stream.sensor(name).kind for name in stream.channels):
        names = [name for name in stream.channels if stream.sensor(name).kind == kind]
        compared += len(names) if kind in BRAIN else 0
        names = [name for name in names if name not in reasons]
        if kind in BRAIN and len(names) >= 3:
            columns = [stream.channels.index(name) for name in names]
            judged = _judge(cfg, [block[:, columns] for block in data])
            reasons |= {name: reason for name, reason in zip(names, judged, strict=True) if reason}
    bads = {name: reasons[name] for name in stream.channels if name in reasons}
    if len(bads) > cfg.most * compared:
        listing = "; ".join(f"{name}: {why}" for name, why in bads.items())
        raise ValueError(
            f"{len(bads)} of {compared} channels are bad, and at most {cfg.most:.0%} can be interpolated ({listing}): "
            "leave this recording out, or relax bad_channels (z, correlation, most)"
        )
    return bads


def _of_every_sample(cfg: BadChannels, stream: Stream) -> dict[str, str]:
    """Channels with a value that is no number, and those that measure the brain and are flat for too many seconds."""
    second = max(2, round(stream.sfreq))
    at_once = max(1, statistics.BLOCK_VALUES // (second * stream.n_channels)) * second
    n_wrong, n_flat = np.zeros(stream.n_channels, np.int64), np.zeros(stream.n_channels, np.int64)
    n_seconds = 0
    for first in range(0, stream.n_times, at_once):
        block = stream.read(first, min(first + at_once, stream.n_times))
        if not np.isfinite(block.sum()):
            n_wrong += (~np.isfinite(block)).sum(axis=0)
        starts = np.arange(0, max(1, len(block) - second + 1), second)  # a rest goes with the second before it
        n_flat += (np.maximum.reduceat(block, starts) == np.minimum.reduceat(block, starts)).sum(axis=0)
        n_seconds += len(starts)
    reasons = {}
    for name, wrong, flat in zip(stream.channels, n_wrong.tolist(), n_flat.tolist(), strict=True):
        if wrong:
            reasons[name] = f"not a number in {wrong} of {stream.n_times} samples"
        elif flat == n_seconds and stream.sensor(name).kind in BRAIN:
            reasons[name] = "flat"
        elif 100 * flat > cfg.bad_percent * n_seconds and stream.sensor(name).kind in BRAIN:
            reasons[name] = f"flat for {100 * flat / n_seconds:.0f} % of the time"
    return reasons


def _blocks(cfg: BadChannels, stream: Stream) -> list[np.ndarray]:
    length = min(stream.n_times, max(2, round(cfg.block_s * stream.sfreq)))
    n = max(1, min(MOST_BLOCKS, stream.n_times // length))
    starts = np.linspace(0, stream.n_times - length, n).astype(int)
    # Decimated to 250 Hz: enough to judge a channel, and a day fits into memory
    thin = max(1, int(stream.sfreq // 250))
    return [np.asarray(stream.read(first, first + length), np.float32)[::thin] for first in starts.tolist()]


def _judge(cfg: BadChannels, data: Sequence[np.ndarray]) -> list[str]:
    """The reason why each channel is bad; empty where it is good."""
    spread, alike = [], []
    for block in data:
        low, high = np.quantile(block, (0.25, 0.75), axis=0)
        spread.append((high - low) / 1.349)
        centred = block.astype(np.float64) - block.mean(axis=0)
        length = np.sqrt((centred**2).sum(axis=0))
        normed = centred / np.where(length == 0, 1, length)
        correlation = np.abs(normed.T @ normed)
        np.fill_diagonal(correlation, 0)
        alike.append(correlation.max(axis=0))
    loud, most_alike = np.median(spread, axis=0), np.median(alike, axis=0)
    flat = loud <= FLAT * np.median(loud)
    log_loud = np.log(np.where(flat, 1, loud))
    middle = np.median(log_loud[~flat]) if not flat.all() else 0.0
    width = 1.4826 * np.median(np.abs(log_loud[~flat] - middle)) if not flat.all() else 0.0
    z = (log_loud - middle) / max(width, 0.05)  # differences below 5 % do not count
    return [
        "flat" if flat[i]
        else f"{'louder' if z[i] > 0 else 'quieter'} than the others, z = {z[i]:.1f}" if abs(z[i]) > cfg.z
        else f"unlike all others, r = {most_alike[i]:.2f}" if most_alike[i] < cfg.correlation
        else ""
        for i in range(len(loud))
    ]  # fmt: skip


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
