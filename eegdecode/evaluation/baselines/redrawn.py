"""How a figure depends on which subjects are tested: the sets drawn anew by subject, with a linear decoder each time.

A network would have to be trained again for each; the logistic regression of log band powers takes milliseconds.
"""

from collections.abc import Callable, Sequence

import numpy as np

from eegdecode.data.loading import gather, windows
from eegdecode.data.split.splits import Splits
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.baselines.bandpower import log_powers
from eegdecode.evaluation.baselines.classes import of_all_classes
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.statistics.nulls import draws
from eegdecode.training import validator
from eegdecode.training.model_file import Trained
from hpc.rank.context import Context, Preempted

SETS = 12  # separates these draws from others of the same seed
MOST = 20_000
"""Windows; of a larger study, evenly spaced ones are taken."""


def figures(
    trained: Trained, data: Store, parts: Splits, ctx: Context, score: Callable[[Decoded], float], n_draws: int
) -> np.ndarray:
    """The figure of each draw, [draw]. Each has as many subjects in the three sets as the split that the network was
    trained on; the validation set is not used."""
    powers, classes, subjects = _features(trained, data, parts, ctx)
    names = np.unique(subjects)
    n_test = len({parts.subjects[segment.recording] for segment in parts.test})
    n_val = len({parts.subjects[segment.recording] for segment in parts.val})
    random, values = draws(trained.split.seed, SETS), []
    for number in range(n_draws):
        ctx.progress("redraws", number, n_draws)
        if ctx.should_stop():
            raise Preempted
        order = random.permutation(names)
        test, train = (np.isin(subjects, part) for part in (order[:n_test], order[n_test + n_val :]))
        if len(np.unique(classes[train])) < 2 or len(np.unique(classes[test])) < 2:
            continue
        log_p = _decoded(powers[train], classes[train], powers[test], len(trained.spec.classes))
        values.append(score(_as_decoded(log_p, classes[test], subjects[test], trained.spec.classes)))
    return np.array(values)


def _features(trained: Trained, data: Store, parts: Splits, ctx: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[window, feature], and of each window its class and its subject, of all three sets."""
    cfg, spec = trained.train().windows, trained.spec
    part = [*parts.train, *parts.val, *parts.test]
    batches = validator.batches(cfg, part, data, whole_trials=False)
    batches = batches[:: max(1, -(-sum(len(places.start) for places in batches) // MOST))]
    powers, targets, subjects = [], [], []
    for done, places in enumerate(batches):
        ctx.progress("band powers", done, len(batches))
        if ctx.should_stop():
            raise Preempted
        baseline = windows.n_baseline(cfg, spec.sfreq)
        x, y, _ = gather.gather(data, places, trained.target, spec.n_times, baseline)
        powers.append(log_powers(x, spec.sfreq))
        targets.append(y.reshape(len(y), -1)[:, 0])
        subjects += [parts.subjects[recording] for recording in places.recording.tolist()]
    classes = np.searchsorted(np.array(spec.class_values), np.concatenate(targets))
    return np.concatenate(powers), classes, np.array(subjects)


def _decoded(train: np.ndarray, classes: np.ndarray, test: np.ndarray, n_classes: int) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    pipeline = make_pipeline(StandardScaler(), regression).fit(train, classes)
    return of_all_classes(pipeline.predict_log_proba(test), regression.classes_, n_classes)


def _as_decoded(log_p: np.ndarray, classes: np.ndarray, subjects: np.ndarray, names: Sequence[str]) -> Decoded:
    trials = tuple(
        DecodedTrial(str(subject), str(true), np.array([[float(true)]]), row[None], trial=number)
        for number, (subject, true, row) in enumerate(zip(subjects, classes, log_p, strict=True))
    )
    return Decoded(0.0, trials, (), "classes", classes=tuple(names))
