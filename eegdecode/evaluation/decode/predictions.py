"""The predictions, window by window, in predictions.h5: every metric can be computed from it without the model.

    window/subject, session, recording, block, stimulus, trial, start_s    one row a window, in the test set's order
    window/first, window/count                               its rows in the arrays below
    truth, output                                            [row, feature]; outputs of other decoders in baseline/NAME
    validation/of, value                                     names of decoders, and their headline metric there
    confounds/of, value                                      what else may tell the target, and how well it does

Attributes say the kind of task, the rate in Hz (0 where a window has one row), the target and the names of classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import h5py
import numpy as np

from eegdecode.data.io.hdf5 import opened
from eegdecode.data.store import hdf5
from eegdecode.data.store.hdf5 import Draft
from eegdecode.signals import SOUND_HZ
from hpc.runs import products

BANDS = 7
"""A time course of so many features or more is a spectrogram."""
Kind = Literal["sequence", "classes", "retrieval", "values"]
NAMES = ("subject", "session", "recording", "block", "stimulus")
TEXT = h5py.string_dtype()
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class DecodedTrial:
    """The target of a window and the output for it: both [time, feature], or one row if the window has one value."""

    subject: str
    stimulus: str
    target: np.ndarray
    output: np.ndarray
    recording: str = ""
    trial: int = 0
    start_s: float = 0.0
    session: str = ""
    block: str = ""
    fold: str = ""  # of a cross-validation; in no file


@dataclass(frozen=True)
class Decoded:
    """The decoded windows of the test set; `audit` has sentences on what the split means.

    Parameters
    ----------
    kind
        sequence: a time course. classes: outputs are log probabilities. retrieval: outputs are compared with the
        targets of all windows. values: numbers.
    """

    sfreq: float
    trials: tuple[DecodedTrial, ...]
    audit: tuple[str, ...]
    kind: Kind = "sequence"
    target: str = ""
    classes: tuple[str, ...] = ()
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The outputs of baseline decoders for the same rows, [row, feature]."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """The headline metric of each decoder on the validation set, by which the best is chosen: `network` and baselines.
    """
    confounds: Mapping[str, float] = field(default_factory=dict)
    """Sentences on what else than the brain may tell the target here, each with the headline metric of that alone."""
    weights: np.ndarray | None = field(default=None, repr=False, compare=False)
    """Of the linear decoder of time courses, [lag, channel]; in no file."""
    computed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `once` keeps; a copy of these windows begins without it."""

    @property
    def is_sound(self) -> bool:
        """Whether one can listen to it: a waveform."""
        return self.trials[0].target.shape[1] == 1 and self.sfreq > SOUND_HZ

    @property
    def is_spectrogram(self) -> bool:
        return self.sfreq > 0 and self.trials[0].target.shape[1] >= BANDS

    @property
    def truth(self) -> np.ndarray:
        """All windows' rows, one after the other."""
        return np.concatenate([trial.target for trial in self.trials])

    @property
    def output(self) -> np.ndarray:
        return np.concatenate([trial.output for trial in self.trials])

    def by(self, baseline: str) -> "Decoded":
        """The same windows with the outputs of a baseline."""
        ends = np.cumsum([len(trial.output) for trial in self.trials])
        rows = np.split(self.baselines[baseline], ends[:-1])
        trials = (replace(trial, output=output) for trial, output in zip(self.trials, rows, strict=True))
        return replace(self, trials=tuple(trials), baselines={}, validation={})


def once(compute: Callable[Concatenate[Decoded, P], T]) -> Callable[Concatenate[Decoded, P], T]:
    """Decorate a function of decoded windows that several metrics call: it is computed once for the same windows and
    the same other arguments, and kept as long as the windows are."""

    @wraps(compute)
    def computed(decoded: Decoded, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = compute, args, tuple(kwargs.items())
        if key not in decoded.computed:
            decoded.computed[key] = compute(decoded, *args, **kwargs)
        value: T = decoded.computed[key]
        return value

    return computed


def write(path: Path, decoded: Decoded) -> None:
    def fill(draft: Draft) -> None:
        file = draft.file
        file.attrs.update(kind=decoded.kind, sfreq=decoded.sfreq, target=decoded.target)
        file.attrs["classes"] = np.array(decoded.classes, TEXT) if decoded.classes else np.empty(0)
        file.attrs["audit"] = np.array(decoded.audit, TEXT)
        counts = np.array([len(trial.target) for trial in decoded.trials])
        columns: dict[str, np.ndarray] = {
            word: np.array([getattr(trial, word) for trial in decoded.trials], TEXT) for word in NAMES
        }
        columns |= {word: np.array([getattr(trial, word) for trial in decoded.trials]) for word in ("trial", "start_s")}
        for word, column in (columns | {"first": np.cumsum(counts) - counts, "count": counts}).items():
            file[f"window/{word}"] = column
        draft.array("truth", decoded.truth)
        draft.array("output", decoded.output)
        for name, rows in decoded.baselines.items():
            draft.array(f"baseline/{name}", rows)
        for name, numbers in (("validation", decoded.validation), ("confounds", decoded.confounds)):
            file[f"{name}/of"] = np.array(list(numbers), TEXT) if numbers else np.empty(0)
            file[f"{name}/value"] = np.array(list(numbers.values()), np.float64)

    hdf5.write(path, fill)


def read(path: Path) -> Decoded:
    """Read predictions.h5 of an evaluate run: each decoded window with its target."""
    products.verify(path)
    with opened(path, "run evaluate again") as file:
        columns = {
            word: data.asstr()[:].tolist() if h5py.check_string_dtype(data.dtype) else data[:].tolist()
            for word, data in file["window"].items()
        }
        truth, output = file["truth"][:], file["output"][:]
        ends = np.cumsum(columns["count"])
        if (ends - columns["count"]).tolist() != columns["first"] or {len(truth), len(output)} != {*ends[-1:].tolist()}:
            raise ValueError("its windows are not those of its rows")
        words = [word for word in (*NAMES, "trial", "start_s") if word in columns]  # older ones lack session and block
        trials = tuple(
            DecodedTrial(
                target=truth[first : first + n],
                output=output[first : first + n],
                **dict(zip(words, row, strict=True)),
            )
            for first, n, *row in zip(*(columns[word] for word in ("first", "count", *words)), strict=True)
        )
        about = file.attrs
        return Decoded(
            float(about["sfreq"]),
            trials,
            tuple(map(str, about["audit"])),
            about["kind"],
            about["target"],
            tuple(map(str, about["classes"])),
            {name: rows[:] for name, rows in file.get("baseline", {}).items()},
            validation=_numbers(file, "validation"),
            confounds=_numbers(file, "confounds"),
        )


def _numbers(file: h5py.File, name: str) -> dict[str, float]:
    """Numbers with their names; none in older files."""
    if name not in file or not len(file[f"{name}/of"]):
        return {}
    names, values = file[f"{name}/of"].asstr()[:].tolist(), file[f"{name}/value"][:].tolist()
    return dict(zip(names, values, strict=True))
