"""The preprocessing recipe of a trained model: what makes of a raw recording the signal that it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eegdecode.data.config import BucketedWindows, EpochWindows, Windows
from eegdecode.data.loading.windows import in_patches
from eegdecode.data.split.segments import n_samples
from eegdecode.data.store.store import open_store
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.signals import Kind
from eegdecode.training import setup
from eegdecode.training.model_file import Trained
from hpc import config
from hpc.errors import first_of
from hpc.rank.context import input_run


@dataclass(frozen=True)
class PreprocessingRecipe:
    """What makes of a raw recording the signal that a model reads.

    Parameters
    ----------
    channels, sfreq, unit
        Of the signal that the network reads: names in order, rate in Hz; V, T, 1 after a step that scales, or empty if
        that is not known.
    n_times
        Samples of a window; None if the network takes any number.
    windows
        How windows were cut in training.
    steps
        The steps of preprocessing, in their order; None if the training knew nothing of them.
    raw_sfreq
        The rate of the raw recordings of the training in Hz, the lowest; 0 if that is not known.
    kinds
        The kinds of the raw channels of the training, by their names.
    """

    channels: tuple[str, ...]
    sfreq: float
    unit: str
    n_times: int | None
    windows: Windows
    steps: tuple[StepConfig, ...] | None
    raw_sfreq: float = 0.0
    kinds: Mapping[str, Kind] = field(default_factory=dict, hash=False)

    def length(self, length_s: float | None) -> int:
        """The number of samples that are read for a window, before its start is repeated to fill a patch."""
        own = self._length_s()
        if length_s is not None and self.n_times is not None and own is not None and length_s != own:
            raise ValueError(f"this model reads windows of {own:g} s, so leave out length_s, which is {length_s:g}")
        length_s = own if length_s is None else length_s
        if length_s is None:
            raise ValueError("this model was trained on whole trials: say how long its windows are here, as length_s=4")
        return n_samples(length_s, self.sfreq)

    def _length_s(self) -> float | None:
        if isinstance(self.windows, EpochWindows):
            return self.windows.tmax_s - self.windows.tmin_s
        return None if isinstance(self.windows, BucketedWindows) else self.windows.length_s

    def filled(self, length: int) -> int:
        """The number of samples of a window, filled up to whole patches."""
        return in_patches(length, self.windows, self.sfreq)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a file that other programs read."""
        return {
            "channels": list(self.channels),
            "sfreq": self.sfreq,
            "unit": self.unit,
            "n_times": self.n_times,
            "windows": config.plain(self.windows),
            "steps": None if self.steps is None else [config.plain(step) for step in self.steps],
            "raw_sfreq": self.raw_sfreq,
        }

    def __str__(self) -> str:
        length = "any length" if self.n_times is None else f"{self.n_times} samples"
        unit = {"1": "scaled", "": "in an unknown unit"}.get(self.unit, f"in {self.unit}")
        steps = "unknown" if self.steps is None else ", ".join(step.name for step in self.steps) or "none"
        return (
            f"{len(self.channels)} channels ({first_of(self.channels, 4)}) at {self.sfreq:g} Hz, {unit}; windows of "
            f"{length}; steps: {steps}"
        )


def of(trained: Trained) -> PreprocessingRecipe:
    """The recipe of a trained model: from its file, or of an older one from the preprocess run that it has read."""
    spec, ways = trained.spec, trained.preprocessing or _of_its_data(trained)
    steps, unlike = _steps(ways)
    return PreprocessingRecipe(
        channels=spec.channels,
        sfreq=spec.sfreq,
        unit=spec.unit,
        n_times=trained.network_n_times,
        windows=trained.train().windows,
        steps=None if unlike else steps,
        raw_sfreq=min((float(way["sfreq"]) for way in ways), default=0.0),
        kinds={name: kind for way in reversed(ways) for name, kind in way["kinds"].items()},
    )


def _steps(ways: Sequence[Mapping[str, Any]]) -> tuple[tuple[StepConfig, ...] | None, bool]:
    """The steps that all recordings have had; whether some had others."""
    built = [config.build(Preprocess, {"study": "", "steps": list(way["steps"])}, "preprocess").steps for way in ways]
    return (built[0] if built else None), len(set(map(str, built))) > 1


def _of_its_data(trained: Trained) -> list[dict[str, Any]]:
    """How the data were made, from their stores, if these are still there."""
    runs = trained.run.path.parent
    folders = [run.out if (run := input_run(name, runs)) else Path(name) for name in trained.data]
    if not all((folder / "manifest.json").is_file() for folder in folders):
        return []
    return setup.preprocessing(open_store(*folders, verified=False))
