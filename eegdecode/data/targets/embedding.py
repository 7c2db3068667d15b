"""The embedding of the stimulus of each trial."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.data.io.bids import read_tsv
from eegdecode.data.targets.parts import tables
from eegdecode.data.targets.parts.tables import stored_name
from eegdecode.signals import Trial

__all__ = ["Embedding", "files", "make", "stored_name"]


@dataclass(frozen=True)
class Embedding:
    """One vector a trial: the embedding of its stimulus by a model of images, text or sound.

    Either one .npy [stimulus, feature] and an `index`, a .tsv whose column `stimulus` names that of each row; or one
    .npy [feature] for each stimulus, with `{stimulus}` or `{stem}` in its path.
    """

    file: str  # path of the .npy from the study's folder; with `{stimulus}` or `{stem}`, there is one a stimulus
    index: str = ""  # path of the .tsv with the stimulus of each row; empty where there is a file a stimulus
    name: Literal["embedding"] = "embedding"
    title: str = ""  # the name under which it is stored; by default that of the file

    def __post_init__(self) -> None:
        if bool(self.index) == ("{" in self.file):
            raise ValueError(
                f"embedding needs either an index, or {{stem}} in its file's name: got file {self.file!r} "
                f"and index {self.index!r}"
            )


def make(cfg: Embedding, trials: Sequence[Trial], study: Path, duration_s: float) -> np.ndarray:
    if not trials:
        return np.empty((0, 0), np.float32)
    shown = [stimuli.whole(trial.stimulus)[0] for trial in trials]
    if stimuli.is_for_each(cfg.file):
        vectors = {name: _vector(stimuli.file_of(cfg.file, name, study), name) for name in sorted(set(shown))}
        lengths = sorted({len(vector) for vector in vectors.values()})
        if len(lengths) > 1:
            raise ValueError(f"{cfg.file} has {lengths[0]} to {lengths[-1]} features: compute all with one model")
        return np.stack([vectors[name] for name in shown])
    rows, place = tables.table(study / cfg.file), _index(study / cfg.index)
    if rows.ndim != 2 or len(rows) != len(place):
        raise ValueError(f"{cfg.file} is {rows.shape}, but {cfg.index} names {len(place)} stimuli: give each one row")
    missing = sorted(set(shown) - place.keys())
    if missing:
        raise ValueError(
            f"{cfg.index} has no embedding of {', '.join(missing[:3])} ({len(missing)} of {len(set(shown))} stimuli): "
            "compute them, or correct its column stimulus"
        )
    for name in sorted(set(shown)):
        tables.numbers(rows[place[name]][None], study / cfg.file, place[name])
    return np.asarray(rows[[place[name] for name in shown]], dtype=np.float32)


def files(cfg: Embedding, trials: Sequence[Trial], study: Path) -> set[Path]:
    if stimuli.is_for_each(cfg.file):
        return {stimuli.file_of(cfg.file, trial.stimulus, study) for trial in trials}
    return {study / cfg.file, study / cfg.index}


def _vector(path: Path, stimulus: str) -> np.ndarray:
    if not path.is_file():
        raise ValueError(f"there is no embedding {path} for the stimulus {stimulus!r}: compute it, or correct file")
    return np.asarray(tables.numbers(tables.table(path), path), dtype=np.float32).ravel()


@functools.lru_cache(maxsize=4)
def _index(path: Path) -> dict[str, int]:
    rows = read_tsv(path)
    if not rows or "stimulus" not in rows[0]:
        raise ValueError(f"{path} needs a column stimulus, which names the stimulus of each row")
    place = {row["stimulus"]: number for number, row in enumerate(rows)}
    if len(place) < len(rows):
        raise ValueError(
            f"{path} names {len(rows)} stimuli, but only {len(place)} different ones: keep one row of each"
        )
    return place
