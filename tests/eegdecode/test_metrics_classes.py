"""Metrics of classes are scikit-learn's; hits of retrieval are at chance for who guesses."""

import numpy as np
import pytest
from sklearn import metrics as sk

from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.metrics import top_k
from eegdecode.evaluation.metrics.balanced_accuracy import balanced_accuracy
from eegdecode.evaluation.metrics.kappa import kappa
from eegdecode.evaluation.metrics.weighted_f1 import weighted_f1
from eegdecode.evaluation.statistics import distances, retrieval
from eegdecode.evaluation.statistics.confusion import confusion, confusion_of
from eegdecode.training.validator import mean_auroc


def said(n: int = 300, n_classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes of uneven frequency, and log probabilities that know something of them, with ties."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(n_classes, n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
    scores = np.round(rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[truth], 1)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return truth, np.log(probabilities)


def counted(truth: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Their confusion matrix."""
    return confusion(truth, outputs.argmax(axis=1), outputs.shape[1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_classes", [2, 4, 7])
def test_all_are_scikit_learns(n_classes: int, seed: int) -> None:
    truth, outputs = said(n_classes=n_classes, seed=seed)
    counts, answers = counted(truth, outputs), outputs.argmax(axis=1)
    np.testing.assert_array_equal(counts, sk.confusion_matrix(truth, answers))
    assert balanced_accuracy(counts) == pytest.approx(sk.balanced_accuracy_score(truth, answers), abs=1e-12)
    assert kappa(counts) == pytest.approx(sk.cohen_kappa_score(truth, answers), abs=1e-12)
    assert weighted_f1(counts) == pytest.approx(sk.f1_score(truth, answers, average="weighted"), abs=1e-12)
    one_vs_rest = [sk.roc_auc_score(truth == number, outputs[:, number]) for number in range(n_classes)]
    assert mean_auroc(truth, outputs) == pytest.approx(np.mean(one_vs_rest), abs=1e-12)
    if n_classes > 2:
        multi = sk.roc_auc_score(truth, np.exp(outputs), multi_class="ovr", average="macro")
        assert mean_auroc(truth, outputs) == pytest.approx(multi, abs=1e-7)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_a_class_that_never_occurs_counts_for_nothing_as_with_scikit_learn() -> None:
    truth, outputs = said()
    truth, outputs = truth[truth != 1], outputs[truth != 1]
    counts, answers = counted(truth, outputs), outputs.argmax(axis=1)
    assert balanced_accuracy(counts) == pytest.approx(sk.balanced_accuracy_score(truth, answers))
    assert weighted_f1(counts) == pytest.approx(sk.f1_score(truth, answers, average="weighted"))
    one_vs_rest = [sk.roc_auc_score(truth == number, outputs[:, number]) for number in (0, 2, 3)]
    assert mean_auroc(truth, outputs) == pytest.approx(np.mean(one_vs_rest), abs=1e-12)


def test_many_confusions_are_judged_at_once() -> None:
    several = np.stack([counted(*said(seed=seed)) for seed in range(6)]).reshape(2, 3, 4, 4)
    for figure in (balanced_accuracy, kappa, weighted_f1):
        assert figure(several).shape == (2, 3)
        assert figure(several)[1, 2] == figure(several[1, 2])


def test_who_always_says_the_same_is_at_chance() -> None:
    always = np.array([[0, 90], [0, 10]])
    assert balanced_accuracy(always) == 0.5
    assert kappa(always) == kappa(np.array([[0, 0], [0, 10]])) == 0
    assert mean_auroc(np.array([0, 1, 1]), np.zeros((3, 2))) == 0.5
    assert np.isnan(mean_auroc(np.ones(3, int), np.zeros((3, 2)))), "there is no window of another class"


def test_a_class_without_an_output_is_refused() -> None:
    trials = [
        DecodedTrial("sub-0", "x", np.array([[truth]]), np.zeros((1, 4)), "r", i) for i, truth in enumerate((0.0, 4.0))
    ]
    with pytest.raises(ValueError, match="classes from 0 to 4, but there are outputs for 4"):
        confusion_of(Decoded(0.0, tuple(trials), (), "classes", "side", tuple("abcd")))


@pytest.mark.parametrize(("k", "ways"), [(1, None), (10, None), (1, 200), (5, 200)])
def test_retrieval_finds_what_was_planted(k: int, ways: int | None) -> None:
    candidates = np.random.default_rng(0).normal(size=(300, 20))
    truth = np.arange(600) % 300
    scores = retrieval.cosine(7 * candidates[truth], candidates)
    assert np.all(top_k.hits(scores, truth, k, ways) == 1)


@pytest.mark.parametrize(("k", "ways"), [(1, None), (10, None), (1, 200), (5, 200)])
def test_retrieval_of_noise_is_at_chance(k: int, ways: int | None) -> None:
    rng = np.random.default_rng(0)
    scores = retrieval.cosine(rng.normal(size=(3000, 20)), rng.normal(size=(250, 20)))
    hits = top_k.hits(scores, rng.integers(250, size=3000), k, ways)
    chance = k / (ways or 250)
    assert hits.mean() == pytest.approx(chance, abs=3.5 * np.sqrt(chance / 3000))


def test_who_says_the_same_of_all_has_exactly_chance() -> None:
    np.testing.assert_allclose(top_k.hits(np.zeros((3, 40)), np.array([0, 7, 39]), 5), 5 / 40)
    np.testing.assert_allclose(top_k.hits(np.zeros((3, 40)), np.array([0, 7, 39]), 2, 10), 2 / 10)


def test_k_way_is_the_mean_over_seeded_subsets() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(20, 50)), np.arange(20)
    scores[truth, truth] += 1.5
    drawn = np.zeros(20)
    for _ in range(4000):
        others = rng.permuted(np.tile(np.arange(49), (20, 1)), axis=1)[:, :9]
        others += others >= truth[:, None]
        better = np.take_along_axis(scores, others, axis=1) > scores[truth, truth][:, None]
        drawn += better.sum(axis=1) < 2
    np.testing.assert_allclose(top_k.hits(scores, truth, 2, 10), drawn / 4000, atol=0.04)


def test_top_k_is_scikit_learns_without_ties() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(200, 30)), rng.integers(30, size=200)
    oracle = sk.top_k_accuracy_score(truth, scores, k=4, labels=np.arange(30))
    assert top_k.hits(scores, truth, 4).mean() == pytest.approx(oracle)


def test_the_table_of_all_candidates_says_the_same() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(5, size=(10, 12)).astype(float)
    table = top_k.hits_of_all(scores, 3, 7)
    for candidate in range(12):
        np.testing.assert_allclose(table[:, candidate], top_k.hits(scores, np.full(10, candidate), 3, 7))


def test_what_was_shown_often_is_one_candidate() -> None:
    targets = np.array([[1.0, 2], [0, 1], [1, 2], [1, 2]])
    candidates, truth = retrieval.distinct(targets)
    assert len(candidates) == 2
    np.testing.assert_array_equal(candidates[truth], targets)


def test_more_ways_than_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="top 1 of 200 needs at least 200 candidates and k from 1 to 200, got 50"):
        top_k.hits(np.zeros((1, 50)), np.zeros(1, int), 1, 200)


def test_the_distance_of_diagonal_gaussians_has_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    mean, mean_ = rng.normal(size=(2, 5))
    variance, variance_ = rng.uniform(0.1, 3, size=(2, 5))
    closed = np.sum((mean - mean_) ** 2) + np.sum((np.sqrt(variance) - np.sqrt(variance_)) ** 2)
    assert distances.frechet(mean, np.diag(variance), mean_, np.diag(variance_)) == pytest.approx(closed)


def test_equal_gaussians_have_no_distance_and_it_knows_no_order() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(50, 8)), rng.normal(size=(70, 8)) @ rng.normal(size=(8, 8))
    assert distances.frechet_of(one, one) == pytest.approx(0, abs=1e-9)
    assert distances.frechet_of(one, other) == pytest.approx(distances.frechet_of(other, one))
    assert distances.frechet_of(one[:5], other[:5]) > 0  # fewer vectors than features
    assert distances.frechet_of(one[:, :1], one[:, :1] + 2) == pytest.approx(4)


def test_a_distance_needs_vectors() -> None:
    with pytest.raises(ValueError, match="at least 2 vectors, got 1 and 5"):
        distances.frechet_of(np.zeros((1, 3)), np.zeros((5, 3)))
