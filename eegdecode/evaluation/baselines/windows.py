"""Linear baselines for windows that have one target each, on the same split and windows as the network.

Classes: see OF_CLASSES; of windows that are locked to events also EVOKED, and of classes that are frequencies
STEADY_STATE. Embeddings and numbers: ridge from the window. Each subject has a decoder of its own; a subject with test
trials only is decoded by a decoder trained on all others.
"""

import logging
from collections.abc import Callable
from functools import cache, partial
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np

from eegdecode.data.config import EpochWindows
from eegdecode.data.loading import gather, windows
from eegdecode.data.split.splits import Segment
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.baselines.bandpower import BandPower
from eegdecode.evaluation.baselines.classes import USUAL, HeldOut
from eegdecode.evaluation.baselines.csp import CSP
from eegdecode.evaluation.baselines.evoked import Evoked, Xdawn
from eegdecode.evaluation.baselines.riemann import Riemann
from eegdecode.evaluation.baselines.steady_state import FBCCA, TRCA, FilterBank, frequencies
from eegdecode.evaluation.baselines.window_ridge import WindowRidge
from eegdecode.evaluation.config import Average, Tune
from eegdecode.evaluation.decode.averaging import by_stimulus
from eegdecode.evaluation.decode.predict import open_data
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.training import validator
from eegdecode.training.model_file import Trained
from hpc.rank.context import Context, Preempted
from hpc.runs import records

log = logging.getLogger(__name__)

MOST = 1 << 28
"""Samples of the training and of the validation set that are held in memory, in all channels; of a larger set, evenly
spaced batches are taken."""
FEWEST = 8
"""Training windows that a subject needs for a decoder of its own."""
MOST_FITTED = 1 << 14
"""Windows, drawn at random from more, to which a decoder is fitted that takes milliseconds for each."""

Decode = Callable[[np.ndarray], np.ndarray]


class Outputs(NamedTuple):
    """Of each baseline by name, [row, feature], on the test set and on the validation set; and sentences on those that
    could not be fitted."""

    test: dict[str, np.ndarray]
    val: dict[str, np.ndarray]
    failures: list[str]


def baselines(
    trained: Trained,
    decoded: Decoded,
    ctx: Context,
    tune: Tune = "equal",
    n_tried: int = 1,
    average: Average = "none",
) -> Outputs:
    """Fit all of them to the training set, and decode. `tune`: see Scoring. `n_tried`: settings of the network that
    were tried. `average`: see Evaluate."""
    data, parts = open_data(trained, ctx)
    sets = [_tested(trained, part, data, average) for part in (parts.test, parts.val)]
    train = _windows(trained, parts.train, data, ctx, "training windows")
    val = _windows(trained, parts.val, data, ctx, "validation windows")
    task = Task(trained, decoded.classes, n_settings(trained, n_tried) if tune == "equal" else 1)
    outputs = Outputs({}, {}, [])
    for name, fit in fits_of(trained, decoded).items():
        decoder = _by_subject(name, partial(fit, task=task), train, val, ctx)
        try:
            rows: list[np.ndarray] = []
            for done, part in enumerate(chain(*sets)):
                ctx.progress(name, done, sum(map(len, sets)))
                if ctx.should_stop():
                    raise Preempted
                rows.append(_decoded(decoder, part()))
            outputs.test[name], outputs.val[name] = (
                np.concatenate(part) for part in (rows[: len(sets[0])], rows[len(sets[0]) :])
            )
        except ValueError as error:  # as where all subjects together have too few windows of a class
            sentence = f"The linear baseline {name} is left out, as it could not be fitted: {str(error).rstrip('.')}."
            log.warning("%s", sentence)
            outputs.failures.append(sentence)
    return outputs


def _tested(trained: Trained, part: tuple[Segment, ...], data: Store, average: Average) -> "list[Callable[[], _Part]]":
    """Functions that read the batches of a set, in the order in which the network has decoded it."""
    batches = validator.batches(trained.train().windows, part, data, whole_trials=False)
    if average == "none":
        return [partial(_gathered, trained, places, data) for places in batches]
    averaging = by_stimulus(batches, data)

    def averages(number: int) -> _Part:
        whole, first = _gathered(trained, averaging.batches[number], data), averaging.firsts[number]
        return _Part(averaging.mean(number, whole.x), whole.y[first], whole.subject[first])

    return [partial(averages, number) for number in range(len(averaging.batches))]


def fits_of(trained: Trained, decoded: Decoded) -> "dict[str, Fit]":
    """The baselines for these windows, by name."""
    if decoded.kind != "classes":
        return {"ridge": _ridge}
    is_locked = isinstance(trained.train().windows, EpochWindows)
    has_frequencies = bool(frequencies(decoded.classes))
    return OF_CLASSES | (EVOKED if is_locked else {}) | (STEADY_STATE if has_frequencies else {})


def n_settings(trained: Trained, n_tried: int = 1) -> int:
    """The budget of tuning: as many settings of a baseline are tried on the validation set as steps of the network
    were, up to the usual ones; and at least as many as settings of the network."""
    n_steps = sum("val_loss" in line for line in records.metrics(trained.run)) or 1
    return max(min(n_steps, USUAL), n_tried)


def _by_subject(
    name: str, fit: "Callable[[_Part, _Part], Decode]", train: "_Part", val: "_Part", ctx: Context
) -> Callable[[int], Decode]:
    """The decoder of a subject, fitted when it is first asked for."""

    def fitted(learned: _Part, chosen: _Part) -> Decode:
        if ctx.should_stop():
            raise Preempted
        with ctx.beating():
            return fit(learned, chosen)

    @cache
    def of_all() -> Decode:
        return fitted(train, val)

    @cache
    def of(subject: int) -> Decode:
        learned, chosen = (part.of(subject) if part.has(subject) else part for part in (train, val))
        if learned is train and chosen is val:
            return of_all()
        try:
            return fitted(learned, chosen)
        except ValueError as error:  # for example, a subject has only one class
            log.info("%s of subject %s: %s; it is decoded by a decoder of all subjects", name, subject, error)
            return of_all()

    return of


def _decoded(decoder: Callable[[int], Decode], part: "_Part") -> np.ndarray:
    """[window, feature]: each window decoded by the decoder of its subject."""
    each = {int(subject): decoder(int(subject))(part.x[part.subject == subject]) for subject in np.unique(part.subject)}
    outputs = np.zeros((len(part.x), next(iter(each.values())).shape[1]))
    for subject, own in each.items():
        outputs[part.subject == subject] = own
    return outputs


class _Part:
    """Windows [window, time, channel], their targets [window, feature] and subjects [window]."""

    def __init__(self, x: np.ndarray, y: np.ndarray, subject: np.ndarray) -> None:
        self.x, self.y, self.subject = x, y, subject

    def has(self, subject: int) -> bool:
        return int((self.subject == subject).sum()) >= FEWEST

    def of(self, subject: int) -> "_Part":
        return self.take(self.subject == subject)

    def take(self, rows: np.ndarray) -> "_Part":
        return _Part(self.x[rows], self.y[rows], self.subject[rows])

    def to_fit(self) -> "_Part":
        if len(self.x) <= MOST_FITTED:
            return self
        return self.take(np.sort(np.random.default_rng(0).permutation(len(self.x))[:MOST_FITTED]))


def _windows(trained: Trained, part: tuple[Segment, ...], data: Store, ctx: Context, what: str) -> _Part:
    length = trained.spec.n_times
    batches = validator.batches(trained.train().windows, part, data, whole_trials=False)
    if length is not None and part != ():
        n_windows = sum(len(places.start) for places in batches)
        keep = max(1, -(-n_windows * length * trained.spec.n_channels // MOST))
        batches = batches[::keep] if len(batches) > keep else batches
    each = []
    for done, places in enumerate(batches):
        ctx.progress(what, done, len(batches))
        if ctx.should_stop():
            raise Preempted
        each.append(_gathered(trained, places, data))
    return _Part(*(np.concatenate([getattr(batch, word) for batch in each]) for word in ("x", "y", "subject")))


def _gathered(trained: Trained, places: windows.Places, data: Store) -> _Part:
    baseline = windows.n_baseline(trained.train().windows, trained.spec.sfreq)
    x, y, subject = gather.gather(data, places, trained.target, trained.spec.n_times, baseline)
    return _Part(x, y.reshape(len(y), -1), subject)


class Task(NamedTuple):
    """What all baselines of classes are fitted to. `n_settings`: how many of a baseline's are tried."""

    trained: Trained
    classes: tuple[str, ...]
    n_settings: int

    @property
    def sfreq(self) -> float:
        return self.trained.spec.sfreq

    def places(self, part: _Part) -> np.ndarray:
        """[window]: the class, as a place among all."""
        return np.searchsorted(np.array(self.trained.spec.class_values), part.y[:, 0])

    def held_out(self, val: _Part) -> HeldOut:
        val = val.to_fit()
        return HeldOut(val.x, self.places(val), self.n_settings)


class Fit(Protocol):
    """Fits a decoder to the training set, tuned on the validation set."""

    def __call__(self, train: _Part, val: _Part, task: Task) -> Decode: ...


def _csp(train: _Part, val: _Part, task: Task) -> Decode:
    train = train.to_fit()
    fitted = CSP.fit(train.x, task.places(train), task.sfreq, len(task.classes), held_out=task.held_out(val))
    return fitted.log_probabilities


def _bandpower(train: _Part, val: _Part, task: Task) -> Decode:
    fitted = BandPower.fit(train.x, task.places(train), task.sfreq, len(task.classes), held_out=task.held_out(val))
    return fitted.log_probabilities


def _riemann(train: _Part, val: _Part, task: Task) -> Decode:
    train = train.to_fit()
    return Riemann.fit(train.x, task.places(train), len(task.classes), task.held_out(val)).log_probabilities


def _mdm(train: _Part, val: _Part, task: Task) -> Decode:
    train = train.to_fit()
    return Riemann.nearest_mean(train.x, task.places(train), len(task.classes)).log_probabilities


def _evoked(train: _Part, val: _Part, task: Task) -> Decode:
    train = train.to_fit()
    return Evoked.fit(train.x, task.places(train), len(task.classes), task.held_out(val)).log_probabilities


def _xdawn(train: _Part, val: _Part, task: Task) -> Decode:
    train = train.to_fit()
    return Xdawn.fit(train.x, task.places(train), len(task.classes), task.held_out(val)).log_probabilities


def _steady(kind: type[FBCCA] | type[TRCA] | type[FilterBank], train: _Part, val: _Part, task: Task) -> Decode:
    train, hz = train.to_fit(), frequencies(task.classes)
    return kind.fit(train.x, task.places(train), task.sfreq, hz, task.held_out(val)).log_probabilities


OF_CLASSES: dict[str, Fit] = {"csp": _csp, "bandpower": _bandpower, "riemann": _riemann, "mdm": _mdm}
EVOKED: dict[str, Fit] = {"evoked": _evoked, "xdawn": _xdawn}
STEADY_STATE: dict[str, Fit] = {
    "fbcca": partial(_steady, FBCCA),
    "trca": partial(_steady, TRCA),
    "filterbank": partial(_steady, FilterBank),
}


def _ridge(train: _Part, val: _Part, task: Task) -> Decode:
    return WindowRidge.fit(train.x, train.y, val.x, val.y).decode
