"""Chains of preprocessing steps: applied to a recording or to single windows, and how far they look ahead.

What a step does, and what it needs, its own file says (eegdecode/preprocessing/steps).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eegdecode.data.events import bad_spans
from eegdecode.preprocessing import fft, statistics
from eegdecode.preprocessing.designs import Filter, Resampling
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps.config import StepConfig
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.signals import Decisions, Stream, Trial
from hpc.config.choices import code_of


def apply(
    steps: Sequence[StepConfig], stream: Stream, *, trials: Sequence[Trial] = (), scratch: Path | None = None
) -> Stream:
    """All steps, in order; float32 out.

    Parameters
    ----------
    trials
        The trials of the recording, for `align` and `reject`.
    scratch
        Folder for temporary data beyond 64 MiB; by default the system's.
    """
    checked = dear = False
    left = tuple(steps)
    while left:
        step = left[0]
        if not checked and not getattr(step, "allow_nan", False):
            stream, checked = _finite(stream), True
        if dear and needs_whole(step):  # or filters would run twice
            stream, dear = statistics.keep(stream, scratch), False
        if filters := _filters(left, stream.sfreq):
            stream, dear = _filtered(filters, stream), True
        else:
            stream = _applied(step, stream, trials)
            trials = [trial for trial in trials if not _is_bad(trial, stream)]
        left = left[len(filters) or 1 :]
    return replace(stream, read=lambda first, stop: stream.read(first, stop).astype(np.float32, copy=False))


def with_pick(steps: Sequence[StepConfig]) -> tuple[StepConfig, ...]:
    """The steps; before them a pick of what measures the brain, where none of them picks."""
    return tuple(steps) if any(isinstance(step, Pick) for step in steps) else (Pick(), *steps)


def needs_whole(step: StepConfig) -> bool:
    """Whether a step reads the whole recording before it gives its first sample."""
    return bool(getattr(step, "needs_whole", False))


def files(step: StepConfig, subject: str) -> list[Path]:
    """The files that a step reads for a subject, whose content a recording is made from too."""
    named = getattr(code_of(step), "files", None)
    return list(named(step, subject)) if named else []


def on_windows(steps: Sequence[StepConfig], windows: SingleWindows) -> SingleWindows:
    """What the steps do to single windows; refuses those that can do nothing with them."""
    for step in steps:
        of_windows = getattr(code_of(step), "of_windows", None)
        if of_windows is None:
            why = "needs a whole recording" if needs_whole(step) else "has no `of_windows`"
            raise windows.refused(step.name, why)
        windows = of_windows(step, windows)
    return windows


def ahead_s(steps: Sequence[StepConfig], sfreq: float) -> float:
    """How far the filters and resamplings of a chain look ahead, in seconds, at first at that rate."""
    ahead = 0.0
    for step in steps:
        filter = _as_filter(step, sfreq)
        if isinstance(filter, Resampling):
            ratio = fft.fraction(sfreq, filter.sfreq)
            ahead += fft.Polyphase(*ratio.as_integer_ratio()).reach / sfreq if ratio != 1 else 0.0
            sfreq = filter.sfreq
        elif filter:
            ahead += filter.reach / sfreq
    return ahead


def _as_filter(step: StepConfig, sfreq: float) -> Filter | Resampling | None:
    """The step at that rate, if it is a filter."""
    as_filter = getattr(code_of(step), "as_filter", None)
    return None if as_filter is None else as_filter(step, sfreq)


def _filters(steps: Iterable[StepConfig], sfreq: float) -> list[Filter | Resampling]:
    """Those that the steps begin with, up to a resampling."""
    filters: list[Filter | Resampling] = []
    for step in steps:
        filter = _as_filter(step, sfreq)
        if filter is None:
            break
        filters.append(filter)
        if isinstance(filter, Resampling):
            break
    return filters


def _filtered(row: Sequence[Filter | Resampling], stream: Stream) -> Stream:
    sfreq = next((each.sfreq for each in row if isinstance(each, Resampling)), stream.sfreq)
    filters = [each for each in row if isinstance(each, Filter)]
    if sum(filter.reach for filter in filters) < stream.n_times:
        return fft.fused(stream, filters, sfreq)
    for filter in filters:  # the reflected ends are too short for all at once
        stream = fft.fused(stream, [filter], stream.sfreq)
    return fft.fused(stream, [], sfreq)


def _applied(step: StepConfig, stream: Stream, trials: Sequence[Trial]) -> Stream:
    """What the recording calls bad, and what was decided, is kept, also by a step that makes a stream anew."""
    applied: Stream = code_of(step).apply(step, stream, trials)
    decisions = stream.decisions if applied.decisions == Decisions() else applied.decisions
    return replace(applied, bads=applied.bads or stream.bads, decisions=decisions)


def _is_bad(trial: Trial, stream: Stream) -> bool:
    """Whether a step has found a bad span in the trial: the steps after it do not go by that trial."""
    return any(bad_spans.touches(span, trial.start, trial.start + trial.duration) for span in stream.decisions.spans)


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
