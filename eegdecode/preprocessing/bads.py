"""Detect bad channels, from the median over blocks of a recording."""

from collections.abc import Sequence

import numpy as np

from eegdecode.preprocessing.config import BadChannels
from eegdecode.signals import BRAIN, Stream

MOST_BLOCKS = 300  # spread evenly over the recording
FLAT = 1e-3  # of the median channel's loudness


def find(step: BadChannels, stream: Stream, given: Sequence[str] = ()) -> dict[str, str]:
    """Bad channels and why, in the order of the channels. Channels are compared with others of their kind."""
    reasons = {name: "the recording says so" for name in given if name in stream.channels}
    data = list(_blocks(step, stream))
    for name, finite in zip(stream.channels, np.all([np.isfinite(x).all(axis=0) for x in data], axis=0), strict=True):
        if not finite:
            reasons.setdefault(name, "not a number")
    compared = 0
    for kind in dict.fromkeys(stream.sensor(name).kind for name in stream.channels):
        names = [name for name in stream.channels if stream.sensor(name).kind == kind]
        compared += len(names) if kind in BRAIN else 0
        names = [name for name in names if name not in reasons]
        if kind in BRAIN and len(names) >= 3:
            columns = [stream.channels.index(name) for name in names]
            why = _judge(step, [block[:, columns] for block in data])
            reasons |= {name: reason for name, reason in zip(names, why, strict=True) if reason}
    bads = {name: reasons[name] for name in stream.channels if name in reasons}
    if len(bads) > step.most * compared:
        listing = "; ".join(f"{name}: {why}" for name, why in bads.items())
        raise ValueError(
            f"{len(bads)} of {compared} channels are bad, and at most {step.most:.0%} can be interpolated ({listing}): "
            "leave this recording out, or relax bad_channels (z, correlation, most)"
        )
    return bads


def _blocks(step: BadChannels, stream: Stream) -> list[np.ndarray]:
    length = min(stream.n_times, max(2, round(step.block_s * stream.sfreq)))
    n = max(1, min(MOST_BLOCKS, stream.n_times // length))
    starts = np.linspace(0, stream.n_times - length, n).astype(int)
    # Decimated to 250 Hz: enough to judge a channel, and a day fits into memory
    thin = max(1, int(stream.sfreq // 250))
    return [np.asarray(stream.read(first, first + length), np.float32)[::thin] for first in starts.tolist()]


def _judge(step: BadChannels, data: Sequence[np.ndarray]) -> list[str]:
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
    log = np.log(np.where(flat, 1, loud))
    middle = np.median(log[~flat]) if not flat.all() else 0.0
    width = 1.4826 * np.median(np.abs(log[~flat] - middle)) if not flat.all() else 0.0
    z = (log - middle) / max(width, 0.05)  # differences below 5 % do not count
    return [
        "flat" if flat[i]
        else f"{'louder' if z[i] > 0 else 'quieter'} than the others, z = {z[i]:.1f}" if abs(z[i]) > step.z
        else f"unlike all others, r = {most_alike[i]:.2f}" if most_alike[i] < step.correlation
        else ""
        for i in range(len(loud))
    ]  # fmt: skip
