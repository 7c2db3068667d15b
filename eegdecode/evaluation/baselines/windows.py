"""Linear baselines for windows that have one target each, on the same split and windows as the network.

Classes: CSP with LDA; band powers, and covariances in a tangent space, with logistic regression. Embeddings and
numbers: ridge from the window. Each subject has a decoder of its own; a subject with test trials only is decoded by a
decoder trained on all others.
"""

import logging
from collections.abc import Callable
from functools import cache, partial

import numpy as np

from eegdecode.data.loading import gather, windows
from eegdecode.data.split.splits import Segment
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.baselines.bandpower import BandPower
from eegdecode.evaluation.baselines.csp import CSP
from eegdecode.evaluation.baselines.riemann import Riemann
from eegdecode.evaluation.baselines.window_ridge import WindowRidge
from eegdecode.evaluation.decode.predict import open_data
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.training import validator
from eegdecode.training.model_file import Trained
from hpc.rank.context import Context, Preempted

log = logging.getLogger(__name__)

MOST = 1 << 28
"""Samples of the training and of the validation set that are held in memory, in all channels; of a larger set, evenly
spaced batches are taken."""
FEWEST = 8
"""Training windows that a subject needs for a decoder of its own."""
MOST_FITTED = 1 << 14
"""Windows, drawn at random from more, to which a decoder is fitted that takes milliseconds for each."""

Decode = Callable[[np.ndarray], np.ndarray]


def baselines(trained: Trained, decoded: Decoded, ctx: Context) -> tuple[dict[str, np.ndarray], list[str]]:
    """The outputs of each baseline by name, [row, feature]; and sentences on those that could not be fitted."""
    data, parts = open_data(trained, ctx)
    test = validator.batches(trained.train().windows, parts.test, data, whole_trials=False)
    train = _windows(trained, parts.train, data, ctx, "training windows")
    val = _windows(trained, parts.val, data, ctx, "validation windows")
    fits = OF_CLASSES if decoded.kind == "classes" else {"ridge": _ridge}
    outputs: dict[str, np.ndarray] = {}
    failures: list[str] = []
    for name, fit in fits.items():
        decoder = _by_subject(name, partial(fit, trained=trained, decoded=decoded), train, val, ctx)
        try:
            rows = []
            for done, places in enumerate(test):
                ctx.progress(name, done, len(test))
                if ctx.should_stop():
                    raise Preempted
                rows.append(_decoded(decoder, _gathered(trained, places, data)))
            outputs[name] = np.concatenate(rows)
        except ValueError as error:  # as where all subjects together have too few windows of a class
            sentence = f"The linear baseline {name} is left out, as it could not be fitted: {str(error).rstrip('.')}."
            log.warning("%s", sentence)
            failures.append(sentence)
    return outputs, failures


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


def _places(y: np.ndarray, trained: Trained) -> np.ndarray:
    return np.searchsorted(np.array(trained.spec.class_values), y[:, 0])


def _csp(train: _Part, val: _Part, trained: Trained, decoded: Decoded) -> Decode:
    train = train.to_fit()
    fitted = CSP.fit(train.x, _places(train.y, trained), trained.spec.sfreq, len(decoded.classes))
    return fitted.log_probabilities


def _bandpower(train: _Part, val: _Part, trained: Trained, decoded: Decoded) -> Decode:
    fitted = BandPower.fit(train.x, _places(train.y, trained), trained.spec.sfreq, len(decoded.classes))
    return fitted.log_probabilities


def _riemann(train: _Part, val: _Part, trained: Trained, decoded: Decoded) -> Decode:
    train = train.to_fit()
    return Riemann.fit(train.x, _places(train.y, trained), len(decoded.classes)).log_probabilities


OF_CLASSES = {"csp": _csp, "bandpower": _bandpower, "riemann": _riemann}


def _ridge(train: _Part, val: _Part, trained: Trained, decoded: Decoded) -> Decode:
    return WindowRidge.fit(train.x, train.y, val.x, val.y).decode
