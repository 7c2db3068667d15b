"""The steps of preprocessing, each Stream -> Stream: zero phase, no shift in time, float32 out, bounded memory.

Steps are lazy, except for those that need the whole recording: scale, bad channels, ICA, alignment.
"""

import importlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eegdecode.preprocessing import bads as bad_channels
from eegdecode.preprocessing import channels, ica, statistics
from eegdecode.preprocessing.config import (
    ICA,
    Aliases,
    Align,
    BadChannels,
    Bandpass,
    Clip,
    Gain,
    Notch,
    Pick,
    Reference,
    Resample,
    Scale,
    SetChannels,
    Sources,
    Step,
)
from eegdecode.preprocessing.designs import Filter, design
from eegdecode.preprocessing.fft import fused
from eegdecode.signals import Sensor, Stream, Trial

log = logging.getLogger(__name__)

Filtering = Notch | Bandpass | Resample
OF_THE_WHOLE = (BadChannels, ICA, Scale, Align)
BEFORE_SUMS = (Aliases, Pick, SetChannels, BadChannels)
"""Steps that a channel with NaN may pass: it can still be dropped or interpolated."""


def apply(
    steps: Sequence[Step],
    stream: Stream,
    *,
    trials: Sequence[Trial] = (),
    bads: Sequence[str] = (),
    scratch: Path | None = None,
) -> Stream:
    """All steps, in order.

    Parameters
    ----------
    trials
        The trials of the recording, for `align`.
    bads
        Channels that the recording calls bad, for `bad_channels`.
    scratch
        Folder for temporary data beyond 64 MiB; by default the system's.
    """
    checked = dear = False
    for group in _groups(steps):
        step = group[0]
        if not checked and not isinstance(step, BEFORE_SUMS):
            stream, checked = _finite(stream), True
        if dear and needs_whole(step):  # or filters would run twice
            stream, dear = statistics.keep(stream, scratch), False
        if isinstance(step, Aliases):
            bads = [channels.alias(name, step.table) for name in bads]
        if isinstance(step, Notch | Bandpass | Resample):
            stream, dear = _filtered([one for one in group if isinstance(one, Filtering)], stream), True
        else:
            stream = _apply(step, stream, trials, bads)
    return replace(stream, read=lambda first, stop: stream.read(first, stop).astype(np.float32, copy=False))


def needs_whole(step: Step) -> bool:
    """Whether a step reads the whole recording before it gives its first sample."""
    return isinstance(step, OF_THE_WHOLE) or bool(getattr(step, "needs_whole", False))


def _of_package(step: Step, stream: Stream, trials: Sequence[Trial]) -> Stream:
    """A step of another package: the function `apply` of the module that declares its config."""
    applied: Stream = importlib.import_module(type(step).__module__).apply(step, stream, trials)
    return applied


def _groups(steps: Sequence[Step]) -> list[list[Step]]:
    """Neighbouring filters, up to a resampling, are one group; any other step is a group of its own."""
    groups: list[list[Step]] = []
    for step in steps:
        joins = isinstance(step, Filtering) and groups and isinstance(groups[-1][-1], Notch | Bandpass)
        if joins:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def _filtered(group: Sequence[Filtering], stream: Stream) -> Stream:
    sfreq = next((step.sfreq for step in group if isinstance(step, Resample)), stream.sfreq)
    filters: list[Filter] = [design(step, stream.sfreq) for step in group if not isinstance(step, Resample)]
    if sum(filter.reach for filter in filters) < stream.n_times:
        return fused(stream, filters, sfreq)
    for filter in filters:  # the reflected ends are too short for all at once
        stream = fused(stream, [filter], stream.sfreq)
    return fused(stream, [], sfreq)


def _apply(step: Step, stream: Stream, trials: Sequence[Trial], bads: Sequence[str]) -> Stream:
    match step:
        case Aliases():
            return channels.rename(step, stream)
        case Pick():
            return channels.pick(step, stream)
        case SetChannels():
            return channels.set_channels(step, stream)
        case BadChannels():
            reasons = bad_channels.find(step, stream, bads)
            log.info("bad channels: %s", ", ".join(f"{name} ({why})" for name, why in reasons.items()) or "none")
            return channels.interpolated(stream, list(reasons))
        case Reference():
            return channels.reference(step.channels, stream)
        case ICA():
            return ica.remove(step, stream)
        case Sources():
            from eegdecode.preprocessing import sources

            names, matrix = sources.regions(step, stream)
            return replace(channels.mapped(stream, matrix, names), sensors={n: Sensor("source") for n in names})
        case Scale():
            return scale(step, stream)
        case Gain():
            return replace(stream, read=lambda first, stop: stream.read(first, stop) * np.float32(step.factor))
        case Clip():
            return replace(stream, read=lambda first, stop: stream.read(first, stop).clip(-step.limit, step.limit))
        case Align():
            return align(stream, trials)
        case _:
            return _of_package(step, stream, trials)


def scale(step: Scale, stream: Stream) -> Stream:
    if step.method == "standard":
        middle, spread = statistics.moments(stream)
    else:
        low, middle, high = statistics.quantiles(stream, (0.25, 0.5, 0.75))
        spread = (high - low) / 1.349  # the standard deviation, were it normal
    flat = spread <= 1e-7 * np.abs(middle)  # a dead channel stays zero
    centre = middle.astype(np.float32)
    factor = np.where(flat, 0, 1 / np.where(flat, 1, spread)).astype(np.float32)

    def read(first: int, stop: int) -> np.ndarray:
        data = (stream.read(first, stop) - centre).astype(np.float32, copy=False)
        data *= factor
        return data.clip(-step.clip, step.clip, out=data)

    return replace(stream, read=read)


def align(stream: Stream, trials: Sequence[Trial]) -> Stream:
    """By the inverse root of the mean covariance (He & Wu 2020, doi:10.1109/TBME.2019.2913914)."""
    strength, axes = np.linalg.eigh(statistics.covariance(stream, trials))
    nonzero = strength > 1e-7 * strength.max()  # a dimension that a reference removed stays removed
    root = (axes[:, nonzero] / np.sqrt(strength[nonzero])) @ axes[:, nonzero].T
    return channels.mapped(stream, root)


def _finite(stream: Stream) -> Stream:
    """The stream; reading a value that is NaN or infinite raises."""

    def read(first: int, stop: int) -> np.ndarray:
        data = stream.read(first, stop)
        if not np.isfinite(data.sum()):
            wrong = ~np.isfinite(data)
            names = [name for name, one in zip(stream.channels, wrong.any(axis=0), strict=True) if one]
            at = (first + int(wrong.any(axis=1).argmax())) / stream.sfreq
            raise ValueError(
                f"{', '.join(names)}: no number at {at:.3f} s; put bad_channels before the other steps to "
                "interpolate such channels, or drop them by pick"
            )
        return data

    return replace(stream, read=read)
