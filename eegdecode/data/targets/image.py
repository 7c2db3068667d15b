"""The image that was shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eegdecode.data.events import stimuli
from eegdecode.data.targets.parts import labels
from eegdecode.signals import Trial


@dataclass(frozen=True)
class Image:
    """The image that was shown, as a class number; its file must exist."""

    name: Literal["image"] = "image"
    file: str = "stimuli/{stimulus}"  # path of an image from the study's folder, by `{stimulus}` or `{stem}`


def make(cfg: Image, trials: Sequence[Trial], study: Path, duration_s: float) -> list[str | float]:
    for trial in trials:
        image_file(cfg, trial.stimulus, study)
    return labels.values(column(cfg), trials)


def column(cfg: Image) -> str:
    return "stimulus"


def files(cfg: Image, trials: Sequence[Trial], study: Path) -> set[Path]:
    if not stimuli.is_for_each(cfg.file):
        return set()
    return {stimuli.file_of(cfg.file, trial.stimulus, study) for trial in trials}


def image_file(cfg: Image, stimulus: str, study: Path) -> Path:
    """The file of an image that was shown."""
    path = stimuli.file_of(cfg.file, stimulus, study)
    if not path.is_file():
        raise ValueError(f"there is no image {path} for the stimulus {stimulus!r}: add it, or correct file")
    return path
