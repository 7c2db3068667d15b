"""One value a trial, from the events."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eegdecode.data.io import guard
from eegdecode.data.targets.parts import labels
from eegdecode.signals import Trial


@dataclass(frozen=True)
class Label:
    """One value a trial: a column of the events, or its stimulus. Numbers stay, names become class numbers."""

    name: Literal["label"] = "label"
    column: str = "stimulus"  # column of the events that has the value; `stimulus`: the stimulus itself


def make(cfg: Label, trials: Sequence[Trial], study: Path, duration_s: float) -> list[str | float]:
    return labels.values(cfg.column, trials)


def column(cfg: Label) -> str:
    return cfg.column


def stored_name(cfg: Label) -> str:
    return guard.safe_name(cfg.column)
