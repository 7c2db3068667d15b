"""How often studies in which nothing can be decoded are above chance, for the designs that people have.

    python -m bench nulls [--quick]

Each study is made up: signals of nothing but noise, white or with a slow drift of each recording, a linear decoder
fitted to the training part, judged by the p of the headline as `evaluate` does. p < .05 may come in one of twenty: the
confidence interval (Clopper and Pearson, 95 %) of each rate has to contain .05 or lie below. In random orders an effect
is planted too, and found as often as by permuting all trials of a subject (goal: .9).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bench.compare import Goal, judged
from eegdecode.evaluation import results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.metrics import metrics
from eegdecode.evaluation.metrics.balanced_accuracy import balanced_accuracy
from eegdecode.evaluation.statistics import grouping, nulls
from eegdecode.evaluation.statistics.confusion import confusion_of, predicted, truth
from eegdecode.evaluation.statistics.nulls import ALPHA

FEATURES, WINDOWS = 6, 2
DRIFT = 1.5
"""How far a drift goes in a recording, in standard deviations of the noise."""
EFFECT = 0.35
SCORING = Scoring(n_null=200)
Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """A recording: the class of each trial, and whose it is."""

    subject: int
    classes: np.ndarray
    is_test: bool


@dataclass(frozen=True)
class Noise:
    drifts: bool
    effect: float = 0.0

    def __str__(self) -> str:
        return "drifting" if self.drifts else "white"

    def of(self, rng: Rng, n_times: int, n_features: int) -> np.ndarray:
        x = rng.normal(size=(n_times, n_features))
        if self.drifts:
            walk = rng.normal(size=(n_times, n_features)).cumsum(axis=0)
            x += DRIFT * (walk / np.sqrt(n_times) * 2 + rng.normal(size=n_features))
        return x


Study = Callable[[Rng, Noise], Decoded]


def of_classes(parts: Callable[[Rng], Sequence[Part]]) -> Study:
    """A study of classes: least squares on the classes of the training part, answers for the test part."""

    def study(rng: Rng, noise: Noise) -> Decoded:
        every = list(parts(rng))
        n = 1 + max(int(part.classes.max()) for part in every)
        signals = []
        for part in every:
            x = noise.of(rng, len(part.classes) * WINDOWS, FEATURES)
            x[:, :n] += noise.effect * np.eye(n)[np.repeat(part.classes, WINDOWS)]
            signals.append(x)
        fitted = [(x, part) for x, part in zip(signals, every, strict=True) if not part.is_test]
        x = np.concatenate([x for x, _ in fitted])
        own = np.concatenate([np.repeat(part.classes, WINDOWS) for _, part in fitted])
        weights = np.linalg.lstsq(np.c_[x, np.ones(len(x))], np.eye(n)[own], rcond=None)[0]
        trials = [
            DecodedTrial(
                f"sub-{part.subject}", "", target[None], output[None], f"run-{number:03d}", k // WINDOWS, float(k)
            )
            for number, (x, part) in enumerate(zip(signals, every, strict=True))
            if part.is_test
            for k, (target, output) in enumerate(
                zip(
                    np.repeat(part.classes, WINDOWS)[:, None].astype(float),
                    np.c_[x, np.ones(len(x))] @ weights,
                    strict=True,
                )
            )
        ]
        return Decoded(0.0, tuple(trials), (), "classes", "", tuple(map(str, range(n))))

    return study


def _runs(order: Callable[[Rng], np.ndarray], n_train: int = 3, n_test: int = 1, n_subjects: int = 1) -> Study:
    """Recordings of each subject, some for training, with the classes in that order."""
    return of_classes(
        lambda rng: [
            Part(subject, order(rng), number >= n_train)
            for subject in range(n_subjects)
            for number in range(n_train + n_test)
        ]
    )


def _people(order: Callable[[Rng], Sequence[np.ndarray]], n_train: int, n_test: int) -> Study:
    """Subjects, with the recordings that `order` makes for each; others are tested than trained on."""
    return of_classes(
        lambda rng: [
            Part(subject, classes, subject >= n_train) for subject in range(n_train + n_test) for classes in order(rng)
        ]
    )


def _patients(n_train: int, n_test: int) -> Study:
    """One class a subject, as often each."""

    def parts(rng: Rng) -> list[Part]:
        of_each = [rng.permutation(np.arange(n) % 2) for n in (n_train, n_test)]
        return [Part(s, np.full(10, own), s >= n_train) for s, own in enumerate(np.concatenate(of_each))]

    return of_classes(parts)


def _shuffled(n: int, n_classes: int = 2, weights: Sequence[float] = ()) -> Callable[[Rng], np.ndarray]:
    if weights:
        counts = np.round(np.array(weights) * n).astype(int)
        return lambda rng: rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return lambda rng: rng.permutation(np.arange(n) % n_classes)


def _in_blocks(length: int, n_blocks: int, n_classes: int = 2) -> Callable[[Rng], np.ndarray]:
    return lambda rng: np.repeat(rng.permutation(np.arange(n_blocks) % n_classes), length)


def _recordings_of_one_class(n: int) -> Callable[[Rng], list[np.ndarray]]:
    return lambda rng: [np.full(12, own) for own in rng.permutation(np.arange(n) % 2)]


def _in_unlike_shares(rng: Rng) -> list[np.ndarray]:
    """Two recordings, of one class mostly each."""
    return [_shuffled(20, weights=shares)(rng) for shares in rng.permutation([(0.3, 0.7), (0.7, 0.3)]).tolist()]


def of_values(slow: bool, n_recordings: int = 1, n_windows: int = 80, per_subject: bool = False) -> Study:
    """Numbers of each window, or of each subject, which drift if slow; the decoder's answers are of noise."""

    def study(rng: Rng, noise: Noise) -> Decoded:
        trials = []
        for subject in range(12 if per_subject else 3):
            for number in range(n_recordings):
                target = Noise(slow).of(rng, n_windows, 1)
                target = np.full_like(target, target[0]) if per_subject else target
                output = noise.of(rng, n_windows, 1) + noise.effect * target
                name = f"run-{subject}-{number}"
                trials += [
                    DecodedTrial(f"sub-{subject}", "", target[[k]], output[[k]], name, k, float(k))
                    for k in range(n_windows)
                ]
        return Decoded(0.0, tuple(trials), (), "values", "")

    return study


def of_pictures(category: int, n_subjects: int = 1) -> Study:
    """Retrieval among 48 pictures; with categories, so many of one come after each other."""

    def study(rng: Rng, noise: Noise) -> Decoded:
        centres = rng.normal(size=(48 // category, 12)) * (category > 1)
        pictures = np.repeat(centres, category, axis=0) + 0.5 * rng.normal(size=(48, 12))
        trials = []
        for subject in range(n_subjects):
            blocks = rng.permutation(48 // category)
            order = np.concatenate([b * category + rng.permutation(category) for b in blocks])
            outputs = noise.of(rng, 48, 12) + noise.effect * pictures[order]
            trials += [
                DecodedTrial(f"sub-{subject}", "", pictures[[p]], outputs[[k]], f"run-{subject}", k, float(k))
                for k, p in enumerate(order)
            ]
        return Decoded(0.0, tuple(trials), (), "retrieval", "")

    return study


def of_envelopes(seconds: float) -> Study:
    """Time courses at 16 Hz of a minute, smoothed over so many seconds; the decoder's answers are as slow."""

    def smooth(rng: Rng) -> np.ndarray:
        n = max(1, round(seconds * 16))
        return np.convolve(rng.normal(size=960 + n - 1), np.ones(n) / n, "valid")[:, None]

    def study(rng: Rng, noise: Noise) -> Decoded:
        pieces = [smooth(rng) for _ in range(3)]
        trials = [
            DecodedTrial(
                f"sub-{subject}",
                f"piece-{number}",
                piece,
                smooth(rng) + noise.effect * piece + (noise.of(rng, 960, 1) if noise.drifts else 0),
                f"run-{subject}",
                number,
                60.0 * number,
            )
            for subject in range(3)
            for number, piece in enumerate(pieces)
        ]
        return Decoded(16.0, tuple(trials), (), "sequence", "")

    return study


RANDOM: dict[str, Study] = {
    "random order": _runs(_shuffled(40)),
    "random order, 8 subjects": _people(lambda rng: [_shuffled(16)(rng)], 8, 8),
    "random order, four classes": _runs(_shuffled(48, 4)),
    "random order, one class of five": _runs(_shuffled(40, weights=(0.8, 0.2))),
}
"""Where what could be permuted before is so still: here an effect must be found as often."""
DESIGNS: dict[str, Study] = {
    **RANDOM,
    "alternating": _runs(lambda rng: (np.arange(40) + rng.integers(2)) % 2),
    "pairs": _runs(_in_blocks(2, 20)),
    "blocks of 10": _runs(_in_blocks(10, 8), n_train=2, n_test=2),
    "blocks of 10, four classes": _runs(_in_blocks(10, 8, 4), n_train=2, n_test=2),
    "two halves": _runs(_in_blocks(20, 2), n_train=2, n_test=2),
    "two halves, 12 subjects": _people(lambda rng: [_in_blocks(20, 2)(rng)], 8, 12),
    "class = recording, one subject": of_classes(
        lambda rng: [Part(0, c, k >= 12) for k, c in enumerate(_recordings_of_one_class(24)(rng))]
    ),
    "class = recording, leave subjects out": _people(_recordings_of_one_class(2), 12, 8),
    "leave one subject out, by run": _people(lambda rng: [_shuffled(20)(rng) for _ in range(2)], 8, 1),
    "within subject by run, 6 subjects": _runs(_shuffled(20), n_subjects=6),
    "recordings of unlike shares": _people(_in_unlike_shares, 8, 6),
    "one class a patient": _patients(20, 14),
    "one class a patient, few": _patients(20, 4),
    "retrieval": of_pictures(1),
    "retrieval, in blocks of a category": of_pictures(8),
    "retrieval, in blocks, 4 subjects": of_pictures(8, 4),
    "values": of_values(slow=False),
    "values that drift": of_values(slow=True),
    "values that drift, 4 short recordings": of_values(slow=True, n_recordings=4, n_windows=24),
    "a value a subject": of_values(slow=False, n_windows=5, per_subject=True),
    "fast envelopes": of_envelopes(0.2),
    "slow envelopes": of_envelopes(1.5),
}


def is_above(decoded: Decoded) -> bool:
    """Whether `evaluate` would say above chance."""
    metric = metrics(decoded.kind)[results.headline(decoded)]
    assert metric.headline is not None
    permuted = metric.headline.permuted(decoded)
    if permuted is not None and permuted.smallest_p >= ALPHA:
        return False
    score = metric.score(decoded, SCORING)
    assert score is not None
    return results.figure_of(metric, score, decoded, SCORING, True).is_above_chance


def is_above_by_all_trials(decoded: Decoded) -> bool:
    """The same with all trials of a subject permuted, whatever the design."""
    subjects, trials = grouping.numbers(decoded)
    own, answers, n = truth(decoded), predicted(decoded), len(decoded.classes)
    null = balanced_accuracy(nulls.confusions_dealt(own, answers, n, SCORING.n_null, 0, trials, subjects))
    return bool(nulls.p_value(float(balanced_accuracy(confusion_of(decoded))), null) < ALPHA)


def interval(n_above: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's, 95 %."""
    found = stats.binomtest(n_above, n).proportion_ci()
    return float(found.low), float(found.high)


def studies(study: Study, noise: Noise, n: int) -> Iterator[Decoded]:
    for seed in range(n):
        yield study(np.random.default_rng([seed, noise.drifts]), noise)


def run(quick: bool) -> bool:
    n = 60 if quick else 400
    print(f"{'':<40} {'white':>22} {'drifting':>22}   of {n} null studies each")
    too_often = []
    for name, study in DESIGNS.items():
        cells = []
        for noise in (Noise(False), Noise(True)):
            n_above = sum(map(is_above, studies(study, noise, n)))
            low, high = interval(n_above, n)
            cells.append(f"{n_above / n:.3f} [{low:.3f}, {high:.3f}]")
            if low > ALPHA:
                too_often.append(f"{name}, {noise}")
        print(f"{name:<40} {cells[0]:>22} {cells[1]:>22}", flush=True)
    print(f"\n{'effects':<40} {'units':>10} {'all trials':>12}")
    kept = []
    for name, study in RANDOM.items():
        planted = list(studies(study, Noise(False, EFFECT), n))
        ours, before = sum(map(is_above, planted)), sum(map(is_above_by_all_trials, planted))
        kept.append(ours / max(1, before))
        print(f"{name:<40} {ours / n:>10.3f} {before / n:>12.3f}", flush=True)
    for each in too_often:
        print(f"above chance too often: {each}")
    return judged(
        {
            "designs_above_chance_too_often": Goal(len(too_often), 0),
            "power_of_units_over_all_trials": Goal(min(kept), 0.9, at_least=True),
        }
    )
