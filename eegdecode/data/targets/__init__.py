"""What is decoded: streams of the stimulus on the clock of the recording, and values of each trial.

    made = make(Envelope(), trials, study, duration_s)      a Stream, read a stretch at a time; or [trial, feature]
    lookup(made, times_s)                                   its values at any times

Sample k of a stream is at k / sfreq of the recording; outside of the trials it is 0.

`eegdecode/data/targets/NAME.py` has the target of each name: its config, a frozen dataclass, and the function

    make(cfg, trials, study, duration_s)        a Stream, [trial, feature], or a list with the label of each trial

and, if it needs them, some of these:

    files(cfg, trials, study)                   the files that it is computed from
    stored_name(cfg)                            the name under which it is stored, if not that of the config
    column(cfg)                                 the column of the events with its labels; names become class numbers
    of_recording(cfg, names)                    the config for one recording, `{subject}` and the like filled in
    stimulus_end(cfg, stimulus, study)          (the file of a stimulus, where it ends in seconds), or None
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.data.targets.config import TARGETS, Target, TargetConfig
from eegdecode.data.targets.parts import labels
from eegdecode.data.targets.parts.clock import speed
from eegdecode.data.targets.parts.labels import classes, values
from eegdecode.data.targets.parts.lookup import lookup
from eegdecode.signals import Stream, Trial
from hpc.config.choices import code_of

__all__ = [
    "TARGETS", "Target", "TargetConfig", "classes", "column", "files", "lookup", "make", "overlong_trials",
    "stored_name", "values",
]  # fmt: skip

MOST_SILENT = 0.5  # fraction of a trial; with more of it missing, the file is the wrong one


def make(
    cfg: TargetConfig,
    trials: Sequence[Trial],
    study: Path,
    duration_s: float,
    known: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> Stream | np.ndarray:
    """Compute a target of a recording: a Stream on its clock, or [trial, feature], float32.

    Parameters
    ----------
    known
        For labels: the names of their classes in the whole study, by `classes`.
    names
        The values of `{subject}`, `{run}` and the like in paths.
    """
    made: Stream | np.ndarray | list[str | float]
    made = code_of(cfg).make(_of_recording(cfg, names or {}), trials, study, duration_s)
    return labels.numbered(column(cfg) or stored_name(cfg), made, known) if isinstance(made, list) else made


def files(cfg: TargetConfig, trials: Sequence[Trial], study: Path, names: Mapping[str, str]) -> set[Path]:
    """The files that a target is computed from; whether they exist is checked by `make`."""
    own = _function(cfg, "files")
    return set(own(_of_recording(cfg, names), trials, study)) if own else set()


def stored_name(cfg: TargetConfig) -> str:
    """The name under which a target is stored, and selected in training."""
    own = _function(cfg, "stored_name")
    return own(cfg) if own else cfg.name


def column(cfg: TargetConfig) -> str | None:
    """The column of the events with the labels of a target; None where it has none."""
    own = _function(cfg, "column")
    return own(cfg) if own else None


def overlong_trials(cfg: TargetConfig, trials: Sequence[Trial], study: Path) -> list[str]:
    """Notes on trials that last longer than their stimulus's file. Refused where most of a trial is missing."""
    stimulus_end = _function(cfg, "stimulus_end")
    if stimulus_end is None:
        return []
    ends: dict[str, tuple[Path, float] | None] = {}
    over: list[tuple[float, str]] = []
    for trial in trials:
        name, piece_s = stimuli.whole(trial.stimulus)
        if name not in ends:
            ends[name] = stimulus_end(cfg, name, study)
        if (end := ends[name]) is None:
            continue
        path, end_s = end
        lasts_s = trial.duration * speed(trial)
        lacking_s = min(piece_s + lasts_s - end_s, lasts_s)
        if lacking_s > MOST_SILENT * lasts_s:
            raise ValueError(
                f"{path} ends after {end_s:.2f} s, but the trial at {trial.start:.2f} s presents {trial.stimulus!r} "
                f"for {lasts_s:.2f} s: fetch all of it, or correct the events"
            )
        if lacking_s > max(_sample_s(cfg), 0.1):
            over.append((lacking_s, trial.stimulus))
    if not over:
        return []
    longest_s, which = max(over)
    return [f"{len(over)} trials outlast their {cfg.name}, by up to {longest_s:.2f} s ({which}): filled with 0"]


def _of_recording(cfg: TargetConfig, names: Mapping[str, str]) -> TargetConfig:
    own = _function(cfg, "of_recording")
    return own(cfg, names) if own else cfg


def _sample_s(cfg: Any) -> float:
    return float(1 / cfg.sfreq)


def _function(cfg: TargetConfig, name: str) -> Callable[..., Any] | None:
    """That of the target's own file, if it has one of this name."""
    return getattr(code_of(cfg), name, None)
