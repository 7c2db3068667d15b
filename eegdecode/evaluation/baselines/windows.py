"""Linear baselines for windows that have one target each, on the same split and windows as the network.

Classes: CSP with LDA, and band powers with logistic regression. Embeddings and numbers: ridge from the window. Each
subject has a decoder of its own; a subject with test trials only is decoded by a decoder trained on all others.
"""

import logging
from collections.abc import Callable

import numpy as np

from eegdecode.data.loading import gather, windows
from eegdecode.data.split.splits import Segment
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.baselines.bandpower import BandPower
from eegdecode.evaluation.baselines.csp import CSP
from eegdecode.evaluation.baselines.window_ridge import WindowRidge
from eegdecode.evaluation.decode.predict import open_data
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.training import validator
from eegdecode.training.model_file import Trained
from hpc.rank.context import Context, Preempted

log = logging.getLogger(__name__)

MOST = 1 << 28
"""Samples of a set that are held in memory, in all channels; of a larger set, evenly spaced windows are taken."""
FEWEST = 8
"""Training windows that a subject needs for a decoder of its own."""

Decode = Callable[[np.ndarray], np.ndarray]


def baselines(trained: Trained, decoded: Decoded, ctx: Context) -> tuple[dict[str, np.ndarray], list[str]]:
    """The outputs of each baseline by name, [row, feature]; and sentences on those that could not be fitted."""
    data, parts = open_data(trained, ctx)
    train, val, test = (_windows(trained, part, data, ctx) for part in (parts.train, parts.val, parts.test))
    fits = {"csp": _csp, "bandpower": _bandpower} if decoded.kind == "classes" else {"ridge": _ridge}
    outputs: dict[str, np.ndarray] = {}
    failures: list[str] = []
    for name, fit in fits.items():
        try:
            outputs[name] = _decoded(name, fit, (train, val, test), trained, decoded, ctx)
        except ValueError as error:  # as where all subjects together have too few windows of a class
            sentence = f"The linear baseline {name} is left out, as it could not be fitted: {str(error).rstrip('.')}."
            log.warning("%s", sentence)
            failures.append(sentence)
    return outputs, failures


def _decoded(
    name: str,
    fit: "Callable[[_Part, _Part, Trained, Decoded], Decode]",
    parts: "tuple[_Part, _Part, _Part]",
    trained: Trained,
    decoded: Decoded,
    ctx: Context,
) -> np.ndarray:
    """The outputs of one baseline on the test set, subject by subject, [row, feature]."""
    train, val, test = parts
    outputs = np.zeros((len(test.x), decoded.output.shape[1]))
    for done, subject in enumerate(np.unique(test.subject)):
        ctx.progress(name, done, len(np.unique(test.subject)))
        if ctx.should_stop():
            raise Preempted
        mine = test.subject == subject
        learned, chosen = (part.of(subject) if part.has(subject) else part for part in (train, val))
        try:
            outputs[mine] = fit(learned, chosen, trained, decoded)(test.x[mine])
        except ValueError as error:  # for example, a subject has only one class
            log.info("%s of subject %s: %s; it is decoded by a decoder of all subjects", name, subject, error)
            outputs[mine] = fit(train, val, trained, decoded)(test.x[mine])
    return outputs


class _Part:
    """Windows [window, time, channel], their targets [window, feature] and subjects [window]."""

    def __init__(self, x: np.ndarray, y: np.ndarray, subject: np.ndarray) -> None:
        self.x, self.y, self.subject = x, y, subject

    def has(self, subject: int) -> bool:
        return int((self.subject == subject).sum()) >= FEWEST

    def of(self, subject: int) -> "_Part":
        mine = self.subject == subject
        return _Part(self.x[mine], self.y[mine], self.subject[mine])


def _windows(trained: Trained, part: tuple[Segment, ...], data: Store, ctx: Context) -> _Part:
    cfg, length = trained.train(), trained.spec.n_times
    batches = validator.batches(cfg.windows, part, data, whole_trials=False)
    if length is not None and part != ():
        n_windows = sum(len(places.start) for places in batches)
        keep = max(1, -(-n_windows * length * trained.spec.n_channels // MOST))
        batches = batches[::keep] if len(batches) > keep else batches
    baseline = windows.n_baseline(cfg.windows, trained.spec.sfreq)
    columns = [gather.gather(data, places, trained.target, length, baseline) for places in batches]
    ctx.beat()
    x, y, subject = (np.concatenate(column) for column in zip(*columns, strict=True))
    return _Part(x, y.reshape(len(y), -1), subject)


def _places(y: np.ndarray, trained: Trained) -> np.ndarray:
    return np.searchsorted(np.array(trained.spec.class_values), y[:, 0])


def _csp(train: _Part, val: _Part, trained: Trained, decoded: Decoded) -> Decode:
    fitted = CSP.fit(train.x, _places(train.y, trained), trained.spec.sfreq, len(decoded.classes))
    return fitted.log_probabilities


def _bandpower(train: _Part, val: _Part, trained: Trained, decoded: Decoded) -> Decode:
    fitted = BandPower.fit(train.x, _places(train.y, trained), trained.spec.sfreq, len(decoded.classes))
    return fitted.log_probabilities


def _ridge(train: _Part, val: _Part, trained: Trained, decoded: Decoded) -> Decode:
    return WindowRidge.fit(train.x, train.y, val.x, val.y).decode
