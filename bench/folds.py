"""How often cross-validations in which nothing can be decoded are above chance, all folds pooled.

    python -m bench folds [--quick]

As `python -m bench nulls`, but every part of a study is tested once, by least squares fitted to the others. Beside
ours, p < .05 of a null that takes the outputs as given, as if folds were independent; and how often any fold alone is
above chance. Where an effect is planted: how often ours finds it, and the first fold alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.compare import Goal, judged
from bench.nulls import DRIFT, FEATURES, SCORING, interval
from eegdecode.evaluation import results
from eegdecode.evaluation.cross_validation import folds
from eegdecode.evaluation.cross_validation.folds import Fold
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial, Kind
from eegdecode.evaluation.metrics import metrics
from eegdecode.evaluation.statistics import nulls
from eegdecode.evaluation.statistics.nulls import ALPHA

EFFECT = 0.25
Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """A recording: the target of each trial [trial, feature], whose it is, and the fold that tests it."""

    subject: int
    targets: np.ndarray
    fold: int


def of_classes(
    order: Callable[[Rng], np.ndarray], n_subjects: int, n_runs: int, by_run: bool = False
) -> Callable[[Rng], list[Part]]:
    """Folds are subjects, or runs of all of them."""
    return lambda rng: [
        Part(subject, order(rng)[:, None].astype(float), run if by_run else subject)
        for subject in range(n_subjects)
        for run in range(n_runs)
    ]


def of_recordings(n_subjects: int) -> Callable[[Rng], list[Part]]:
    """Two recordings of each subject, of one class each; folds are subjects."""
    return lambda rng: [
        Part(subject, np.full((12, 1), float(own)), subject)
        for subject in range(n_subjects)
        for own in rng.permutation(2)
    ]


def of_patients(n: int, n_folds: int) -> Callable[[Rng], list[Part]]:
    """One class a subject."""
    return lambda rng: [
        Part(subject, np.full((10, 1), float(own)), subject % n_folds)
        for subject, own in enumerate(rng.permutation(np.arange(n) % 2))
    ]


def of_values(n_subjects: int, slow: bool) -> Callable[[Rng], list[Part]]:
    return lambda rng: [
        Part(s, drifting(rng, 60, 1) if slow else rng.normal(size=(60, 1)), s) for s in range(n_subjects)
    ]


def of_pictures(n_subjects: int) -> Callable[[Rng], list[Part]]:
    """All subjects see the same; folds are subjects."""

    def parts(rng: Rng) -> list[Part]:
        pictures = rng.normal(size=(40, 4))
        return [Part(subject, pictures[rng.permutation(40)], subject) for subject in range(n_subjects)]

    return parts


def drifting(rng: Rng, n: int, n_features: int) -> np.ndarray:
    walk = rng.normal(size=(n, n_features)).cumsum(axis=0)
    return rng.normal(size=(n, n_features)) + DRIFT * (walk / np.sqrt(n) * 2 + rng.normal(size=n_features))


def shuffled(n: int, n_classes: int = 2) -> Callable[[Rng], np.ndarray]:
    return lambda rng: rng.permutation(np.arange(n) % n_classes)


DESIGNS: dict[str, tuple[Kind, Callable[[Rng], list[Part]]]] = {
    "leave one of 8 subjects out": ("classes", of_classes(shuffled(24), 8, 1)),
    "by run, one subject, 5 folds": ("classes", of_classes(shuffled(24), 1, 5, by_run=True)),
    "by run, 4 subjects, 3 folds": ("classes", of_classes(shuffled(20), 4, 3, by_run=True)),
    "blocks of 8, leave one of 6 out": (
        "classes", of_classes(lambda rng: np.repeat(rng.permutation(np.arange(6) % 2), 8), 6, 1)
    ),
    "class = recording, leave one of 10 out": ("classes", of_recordings(10)),
    "one class a patient, 20 in 5 folds": ("classes", of_patients(20, 5)),
    "values, leave one of 6 out": ("values", of_values(6, slow=False)),
    "values that drift, leave one of 6 out": ("values", of_values(6, slow=True)),
    "retrieval, leave one of 6 out": ("retrieval", of_pictures(6)),
}  # fmt: skip
RANDOM = ("leave one of 8 subjects out", "by run, one subject, 5 folds", "retrieval, leave one of 6 out")


def study(design: str, rng: Rng, drifts: bool, effect: float = 0.0) -> list[Fold]:
    """Signals of noise, and what the least squares of the other folds make of each."""
    kind, made = DESIGNS[design]
    parts = made(rng)
    n_classes = 1 + int(max(part.targets.max() for part in parts)) if kind == "classes" else 0
    wanted = [np.eye(n_classes)[part.targets[:, 0].astype(int)] if n_classes else part.targets for part in parts]
    signals = []
    for own in wanted:
        x = (drifting if drifts else lambda rng, n, k: rng.normal(size=(n, k)))(rng, len(own), FEATURES)
        x[:, : own.shape[1]] += effect * own
        signals.append(np.c_[x, np.ones(len(x))])
    decoded = []
    for fold in sorted({part.fold for part in parts}):
        learned = [k for k, part in enumerate(parts) if part.fold != fold]
        x, y = (np.concatenate([each[k] for k in learned]) for each in (signals, wanted))
        weights = np.linalg.lstsq(x, y, rcond=None)[0]
        trials = tuple(
            DecodedTrial(f"sub-{part.subject}", "", target[None], output[None], f"run-{k:02d}", n, float(n))
            for k, part in enumerate(parts)
            if part.fold == fold
            for n, (target, output) in enumerate(zip(part.targets, signals[k] @ weights, strict=True))
        )
        names = tuple(map(str, range(n_classes)))
        decoded.append(Fold(f"fold {fold}", "", Decoded(0.0, trials, (), kind, "", names)))
    return decoded


def p_of(several: Sequence[Fold]) -> tuple[float, float]:
    """p of all folds together; and that of a null of outputs as given. 1 if it cannot be decided."""
    pooled = folds.pool(several)
    first = pooled.repetitions[0][0]
    metric = folds.of_folds(metrics(first.kind)[results.headline(first)])
    assert metric.headline is not None and metric.null is not None
    permuted = metric.headline.permuted(pooled)
    if permuted is not None and permuted.smallest_p >= ALPHA:
        return 1.0, 1.0
    value, null = metric.score(pooled, SCORING), metric.null(pooled, SCORING)
    assert isinstance(value, float)
    factor = folds.WIDER if len(several) > 1 else 1.0
    given = null.mean() + (null - null.mean()) / factor
    return float(nulls.p_value(value, null)), float(nulls.p_value(value, given))


def studies(design: str, drifts: bool, n: int, effect: float = 0.0) -> Iterator[list[Fold]]:
    for seed in range(n):
        yield study(design, np.random.default_rng([seed, drifts]), drifts, effect)


def run(quick: bool) -> bool:
    n = 40 if quick else 400
    print(
        f"{'':<40} {'white':>22} {'drifting':>22} {'outputs as given':>18} {'any fold':>9}   of {n} null studies each"
    )
    too_often = []
    for name in DESIGNS:
        cells, given, any_fold = [], [], []
        for drifts in (False, True):
            every = list(studies(name, drifts, n))
            p = np.array([p_of(each) for each in every])
            n_above = int((p[:, 0] < ALPHA).sum())
            low, high = interval(n_above, n)
            cells.append(f"{n_above / n:.3f} [{low:.3f}, {high:.3f}]")
            given.append((p[:, 1] < ALPHA).mean())
            too_often += [f"{name}, {'drifting' if drifts else 'white'}"] * (low > ALPHA)
            if not drifts:
                any_fold = [any(p_of([fold])[0] < ALPHA for fold in each) for each in every[: n // 4]]
        as_given = f"{given[0]:.3f} {given[1]:.3f}"
        print(f"{name:<40} {cells[0]:>22} {cells[1]:>22} {as_given:>18} {np.mean(any_fold):>9.2f}", flush=True)
    print(f"\n{'effects':<40} {'all folds':>10} {'as given':>10} {'first fold':>11}")
    gained = []
    for name in RANDOM:
        planted = list(studies(name, False, n // 2, EFFECT))
        p, first = np.array([p_of(each) for each in planted]), [p_of(each[:1])[0] for each in planted]
        ours, given, alone = ((values < ALPHA).mean() for values in (p[:, 0], p[:, 1], np.array(first)))
        gained.append(ours - alone)
        print(f"{name:<40} {ours:>10.3f} {given:>10.3f} {alone:>11.3f}", flush=True)
    for each in too_often:
        print(f"above chance too often: {each}")
    return judged(
        {
            "cross_validations_above_chance_too_often": Goal(len(too_often), 0),
            "power_of_all_folds_minus_one": Goal(float(min(gained)), 0.0, at_least=True),
        }
    )
