"""Any model as an estimator of scikit-learn: `EEGClassifier("eegnet", sfreq=128).fit(X, y)`.

It is trained by the loop of the stage `train`, so that every setting of a training is there, and pipelines,
cross_val_score and GridSearchCV of scikit-learn work with it.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d

from eegdecode.data.store import store
from eegdecode.decoder import recipe as recipes
from eegdecode.decoder.decoder import Decoder
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training import loop, model_file
from eegdecode.training.config import Train
from hpc import config
from hpc.rank.context import Context, World
from hpc.runs import records
from hpc.runs.rundir import RunDir

TARGET = "y"
SET = "set"
"""The label of a window that says whether it is in the training or in the validation set."""


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share."""

    _objective: ClassVar[dict[str, Any]]

    def __init__(
        self,
        model: str | Mapping[str, Any] = "eegnet",
        *,
        sfreq: float = 128.0,
        channels: tuple[str, ...] | list[str] | None = None,
        steps: int = 300,
        batch: int = 32,
        lr: float = 1e-3,
        validation: float = 0.2,
        settings: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.sfreq = sfreq
        self.channels = channels
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.validation = validation
        self.settings = settings
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.target_tags.required = True
        return tags

    def _fit(self, X: np.ndarray, rows: np.ndarray, classes: tuple[str, ...], groups: Any) -> None:
        """Train on windows [window, channel, time] and their targets [window, feature]."""
        if len(X) < 3:
            raise ValueError(f"n_samples={len(X)}: training needs 3 windows at least, some of them for validation")
        in_val = self._validation_set(rows[:, 0] if classes else None, len(X), groups)
        with tempfile.TemporaryDirectory(prefix="eegdecode-") as folder, torch.random.fork_rng():
            data = RunDir(Path(folder, "preprocess-windows")).out
            _write(data, self._recordings(X, rows, in_val, groups), classes)
            run = RunDir(Path(folder, "train-estimator"))
            loop.fit(self._config(data, X.shape[2], int((~in_val).sum())), Context(World(), run))
            trained = model_file.load(run.out)
            self.decoder_ = Decoder(trained, recipes.of(trained))
            self.history_ = records.metrics(run)
        self.n_features_in_ = X.shape[1]

    def _config(self, data: Path, n_times: int, n_train: int) -> Train:
        """The config of the training, in which `settings` have the last word."""
        plain: dict[str, Any] = {
            "data": [str(data)],
            "target": TARGET,
            "model": dict(self.model) if isinstance(self.model, Mapping) else self.model,
            "objective": self._objective,
            "split": {"by": "label", "label": SET, "shared": ["subject", "stimulus"]},
            "windows": {"name": "epochs", "tmax_s": n_times / self.sfreq, "batch": min(self.batch, n_train)},
            "optim": {
                "steps": self.steps,
                "lr": self.lr,
                "validate_every": max(1, self.steps // 10),
                "warmup_steps": min(20, self.steps // 10),
            },
            "seed": self.random_state,
        }
        words = [f"{key}={_text(value)}" for key, value in (self.settings or {}).items()]
        return config.build(Train, config.apply_words(plain, words), "train")

    def _validation_set(self, y: np.ndarray | None, n: int, groups: Any) -> np.ndarray:
        """Of each window whether it is in the validation set; whole groups, where there are any."""
        if not 0 < self.validation < 1:
            raise ValueError(f"validation is a fraction of the windows, above 0 and below 1, got {self.validation}")
        size: dict[str, Any] = {"test_size": self.validation, "random_state": self.random_state}
        places = np.arange(n)
        if groups is not None:
            (_, val), *_ = GroupShuffleSplit(1, **size).split(places, groups=groups)
        else:
            size["test_size"] = n_val = max(1, round(self.validation * n))
            counts = [] if y is None else np.unique(y, return_counts=True)[1].tolist()
            stratified = counts and min(counts) > 1 and len(counts) <= min(n_val, n - n_val)
            (_, val), *_ = (StratifiedShuffleSplit if stratified else ShuffleSplit)(1, **size).split(places, y)
        in_val = np.zeros(n, bool)
        in_val[val] = True
        return in_val

    def _recordings(self, X: np.ndarray, rows: np.ndarray, in_val: np.ndarray, groups: Any) -> list[Recording]:
        """The windows of each group, one after the other, as a recording. The last ones of the first group, all zeros,
        are the test set, which a training has and nobody looks at here."""
        names = tuple(self.channels or (f"channel{number + 1}" for number in range(X.shape[1])))
        if len(names) != X.shape[1]:
            raise ValueError(f"channels has {len(names)} names, but the windows have {X.shape[1]} channels")
        whose = np.zeros(len(X), int) if groups is None else np.unique(groups, return_inverse=True)[1]
        made, lasts_s = [], X.shape[2] / self.sfreq
        idle = np.unique(rows, axis=0) if self._objective["name"] == "classification" else rows[:1]
        for group in np.unique(whose):
            chosen = np.flatnonzero(whose == group)
            sets = ["val" if in_val[row] else "train" for row in chosen]
            windows, values = X[chosen], rows[chosen]
            if group == 0:
                n_idle = len(idle)
                windows, values = np.concatenate([windows, 0 * X[:1].repeat(n_idle, 0)]), np.concatenate([values, idle])
                sets += ["test"] * n_idle
            data = np.ascontiguousarray(windows.transpose(0, 2, 1).reshape(-1, X.shape[1]), np.float32)
            trials = tuple(Trial(k * lasts_s, lasts_s, f"window{k}", {SET: name}) for k, name in enumerate(sets))
            signal = Signal(data, self.sfreq, names).stream()
            made.append(Recording(f"group-{group:04d}", f"group-{group}", signal, trials, values={TARGET: values}))
        return made

    def _decode(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "decoder_")
        X = _windows(X)
        _, n_channels, n_times = X.shape
        spec = self.decoder_.spec
        if n_channels != self.n_features_in_ or n_times != (spec.n_times or n_times):
            raise ValueError(
                f"X has {n_channels} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                f"as input: windows of {self.n_features_in_} channels x {spec.n_times} samples, not of "
                f"{n_channels} x {n_times}"
            )
        parts = []
        with torch.inference_mode():
            for first in range(0, len(X), 256):
                parts.append(self.decoder_(torch.from_numpy(X[first : first + 256])).float())
        values: np.ndarray = torch.cat(parts).numpy()
        return values


class EEGClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A model that classifies windows [window, channel, time], as an estimator of scikit-learn.

    Parameters
    ----------
    model
        The name of a model, or its settings, as {"name": "eegnet", "filters": 4}: `hpc settings train.model`.
    sfreq
        The rate of the windows in Hz.
    channels
        The names of the channels, for models that know positions or names; by default they are numbered.
    steps, batch, lr
        How many steps are done of how many windows each, and the highest learning rate.
    validation
        The fraction of the windows, or of the groups, that is not trained on but chooses the best step.
    settings
        Other settings of a training, as {"optim.weight_decay": 0.01, "augment": ["mixup"]}.
    random_state
        Seed of everything that is drawn.

    Attributes
    ----------
    classes_
        The classes, sorted.
    decoder_
        The trained network, as `eegdecode.load_model` gives it.
    history_
        The figures of each step.
    """

    _objective: ClassVar[dict[str, Any]] = {"name": "classification"}

    def fit(self, X: Any, y: Any, groups: Any = None) -> "EEGClassifier":
        """Train on windows and their classes. With groups, such as subjects, validation is on groups of its own."""
        X = _windows(X)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y, groups)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"there is nothing to classify: y has 1 class, {self.classes_[0]}")
        self._fit(X, numbers[:, None].astype(np.float32), tuple(map(str, self.classes_)), groups)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits [window, class]; of two classes [window], of the second against the first."""
        logits = self._decode(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [window, class]."""
        values: np.ndarray = torch.from_numpy(self._decode(X)).double().softmax(dim=1).numpy()
        return values

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each window."""
        best = self._decode(X).argmax(axis=1)
        values: np.ndarray = self.classes_[best]
        return values


class EEGRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A model that decodes numbers from windows [window, channel, time], as an estimator of scikit-learn. Parameters
    and attributes are those of EEGClassifier, but for `classes_`."""

    _objective: ClassVar[dict[str, Any]] = {"name": "regression", "loss": "mse", "standardize": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, groups: Any = None) -> "EEGRegressor":
        """Train on windows and their numbers, [window] or [window, output]."""
        if y is None:
            raise ValueError("EEGRegressor requires y to be passed, but the target y is None")
        X = _windows(X)
        rows = check_array(y, ensure_2d=False, dtype=np.float32, input_name="y")
        check_consistent_length(X, rows, groups)
        self._is_flat = rows.ndim == 1
        self._fit(X, rows.reshape(len(rows), -1), (), groups)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Numbers, of the shape of y."""
        values = self._decode(X)
        return values[:, 0] if self._is_flat else values


def _windows(X: Any) -> np.ndarray:
    X = check_array(X, dtype=np.float32, ensure_2d=False, allow_nd=True, input_name="X")
    if X.ndim != 3:
        raise ValueError(f"X is [window, channel, time], but got an array of shape {X.shape}: reshape your data")
    array: np.ndarray = X
    return array


def _write(folder: Path, recordings: list[Recording], classes: tuple[str, ...]) -> None:
    """Write a store, as a run of preprocess leaves it."""
    made = {"raw": {"sfreq": recordings[0].signal.sfreq}, "steps": [], "classes": {TARGET: classes} if classes else {}}
    folder.mkdir(parents=True)
    store.write_manifest(folder, [recording.name for recording in recordings])
    for recording in recordings:
        store.write(folder, recording, made, key=recording.name)
    store.write_index(folder)


def _text(value: Any) -> str:
    """A setting as the command line has it."""
    return value if isinstance(value, str) else json.dumps(value)
