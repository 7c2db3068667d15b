"""Nulls are what chance gives: p is uniform where there is nothing, tiny where there is something. By a seed alone."""

import numpy as np
import pytest
from scipy import stats

from eegdecode.evaluation.metrics.balanced_accuracy import balanced_accuracy
from eegdecode.evaluation.statistics import intervals, nulls, ranking
from eegdecode.evaluation.statistics.confusion import confusion


def test_p_counts_the_value_itself() -> None:
    null = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]])
    np.testing.assert_allclose(nulls.p_value(np.array([0.2, 0.6]), null), [3 / 4, 1 / 4])


def test_p_of_what_is_no_number_is_1_and_rounding_breaks_no_ties() -> None:
    null = np.array([0.1 + 0.2, 0.1])
    assert nulls.p_value(np.nan, null) == nulls.p_value(0.2, np.full(2, np.nan)) == 1
    assert nulls.p_value(0.3, null) == nulls.p_value(0.3 + 2e-16, null) == 2 / 3


def test_few_pieces_are_dealt_out_in_every_other_way_once() -> None:
    table = np.arange(9.0).reshape(3, 3)
    null = nulls.pieces_dealt(table, np.arange(3), 100, 0)
    assert sorted(map(tuple, null)) == [(0, 5, 7), (1, 3, 8), (1, 5, 6), (2, 3, 7), (2, 4, 6)]


def test_rotations_of_many_trials_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(2, 3, 41, 2))
    rotations = nulls.rotated(outputs, targets)
    for k in (0, 1, 17):
        rolled = np.roll(targets, k, axis=1)
        by_hand = [np.mean([np.corrcoef(outputs[i, :, f], rolled[i, :, f])[0, 1] for f in range(2)]) for i in range(3)]
        np.testing.assert_allclose(rotations[:, k], by_hand, atol=1e-12)


def test_no_rotation_is_nearer_than_asked() -> None:
    by = nulls.shifts(np.array([0.0, 0.5, 1 - 1e-12]), 100, 10)
    assert by.tolist() == [10, 50, 89]


def test_permutations_stay_within_their_groups() -> None:
    groups = np.array(["b", "a", "b", "a", "c", "b"])
    orders = nulls.permutations(6, 50, 0, groups)
    assert np.all(groups[orders] == groups)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(6), (50, 1)))
    assert len(np.unique(orders, axis=0)) > 6


def test_the_seed_alone_decides() -> None:
    np.testing.assert_array_equal(nulls.permutations(9, 5, 1), nulls.permutations(9, 5, 1))
    assert np.any(nulls.permutations(9, 5, 1) != nulls.permutations(9, 5, 2))


def test_p_of_shuffled_pieces_is_uniform_and_small_where_they_are_known() -> None:
    rng = np.random.default_rng(0)
    own, p = np.arange(40) % 8, []
    for seed in range(200):
        fit = rng.normal(size=(40, 8)) + rng.normal(size=8)  # some pieces fit all brains better
        table = ranking.ranks_of_all(fit)
        null = nulls.pieces_dealt(table, own, 199, seed).mean(axis=1)
        p.append(float(nulls.p_value(ranking.ranks(fit, own).mean(), null)))
    assert stats.kstest(p, "uniform").pvalue > 0.01
    fit[np.arange(40), own] += 2
    null = nulls.pieces_dealt(ranking.ranks_of_all(fit), own, 199, 0).mean(axis=1)
    assert nulls.p_value(ranking.ranks(fit, own).mean(), null) == 1 / 200


def test_dealt_classes_keep_their_counts() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(3, size=(2, 90))
    dealt = nulls.confusions_dealt(truth, predicted, 3, 20, 0)
    assert dealt.shape == (20, 3, 3)
    np.testing.assert_array_equal(dealt.sum(axis=2), np.tile(np.bincount(truth), (20, 1)))
    np.testing.assert_array_equal(dealt.sum(axis=1), np.tile(np.bincount(predicted), (20, 1)))


def test_dealing_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(3, size=(2, 90))
    whole = nulls.confusions_dealt(truth, predicted, 3, 20, 0)
    monkeypatch.setattr(nulls, "CHUNK", 90 * 7)
    np.testing.assert_array_equal(nulls.confusions_dealt(truth, predicted, 3, 20, 0), whole)


def test_windows_of_a_trial_are_dealt_together_or_noise_would_pass() -> None:
    """All ten windows of a trial say the same, so that windows as draws would find effects everywhere."""
    rng = np.random.default_rng(0)
    trials, subjects, by_trial, by_window = np.repeat(np.arange(24), 10), np.repeat([0, 1], 120), [], []
    for seed in range(150):
        truth, predicted = np.repeat(rng.integers(2, size=24), 10), np.repeat(rng.integers(2, size=24), 10)
        value = balanced_accuracy(confusion(truth, predicted, 2))
        for p_values, numbered in ((by_trial, trials), (by_window, None)):
            dealt = nulls.confusions_dealt(truth, predicted, 2, 99, seed, numbered, subjects)
            p_values.append(float(nulls.p_value(value, balanced_accuracy(dealt))))
    assert np.mean(np.array(by_trial) < 0.05) < 0.12 < np.mean(np.array(by_window) < 0.05)


def test_a_trial_has_one_class() -> None:
    with pytest.raises(ValueError, match="windows of a trial have different classes"):
        nulls.confusions_dealt(np.array([0, 1]), np.array([0, 1]), 2, 10, 0, np.array([5, 5]))


@pytest.mark.parametrize("n", [3, 4, 6, 30])
def test_the_interval_holds_the_mean_in_19_of_20_cases_also_of_few_subjects(n: int) -> None:
    low, high = intervals.of_mean(np.random.default_rng(0).normal(0.3, 1.0, size=(n, 2000)))
    assert low.shape == high.shape == (2000,)
    assert 0.935 < np.mean((low < 0.3) & (high > 0.3)) < 0.965


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=20)
    oracle = stats.ttest_1samp(values, 0).confidence_interval()
    np.testing.assert_allclose(intervals.of_mean(values), oracle, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2])
def test_two_subjects_have_no_interval(n: int) -> None:
    assert np.isnan(intervals.of_mean(np.ones((n, 2)))).all()


def test_truths_of_windows_drift_anew_within_recordings_and_are_dealt_where_these_are_short() -> None:
    rng, recordings = np.random.default_rng(0), [np.arange(9), np.arange(9, 21)]
    outputs, truth = (x - x.mean(axis=0) for x in rng.normal(size=(2, 21, 3)).cumsum(axis=1))
    decoded, true = (np.concatenate([*nulls._rhythms(x, recordings)]) for x in (outputs, truth))
    assert len(true) == 20  # all but the mean of all
    np.testing.assert_allclose((decoded * true).sum(axis=0), (outputs * truth).sum(axis=0))
    np.testing.assert_allclose((true**2).sum(axis=0), (truth**2).sum(axis=0))
    null = nulls.correlations_dealt(truth, truth, recordings, 500, 0)
    assert abs(null.mean()) < 0.1 and null.max() <= 1 and len(np.unique(null.round(9))) > 400
    two = nulls.correlations_dealt(np.c_[outputs, outputs], np.c_[truth, truth], recordings, 500, 0)
    np.testing.assert_allclose(two, nulls.correlations_dealt(outputs, truth, recordings, 500, 0))
    x = np.arange(14.0)[:, None] ** 2
    short = nulls.correlations_dealt(x, x, [np.arange(7), np.arange(7, 14)], 200, 0)
    assert len(np.unique(short.round(9))) > 150


@pytest.mark.parametrize("n", [10, 30])
def test_p_of_turned_signs_is_scipys(n: int) -> None:
    differences = np.random.default_rng(0).normal(0.3, 1.0, size=n)
    oracle = stats.permutation_test((differences,), np.mean, permutation_type="samples", alternative="greater", rng=0)
    assert intervals.sign_flip(differences) == pytest.approx(oracle.pvalue, abs=1e-12 if n == 10 else 0.01)


def test_all_subjects_above_chance_is_as_sure_as_so_few_can_be() -> None:
    assert intervals.sign_flip(np.array([0.1, 0.2, 0.3, 0.1])) == 1 / 16
    assert intervals.sign_flip(np.zeros(4)) == intervals.wilcoxon(np.zeros(4)) == 1
    assert intervals.wilcoxon(np.arange(1.0, 6.0)) == 1 / 32


@pytest.mark.parametrize("test", [intervals.sign_flip, intervals.wilcoxon])
def test_subjects_at_chance_pass_in_5_of_100_studies(test: object) -> None:
    rng = np.random.default_rng(0)
    p = [test(rng.normal(size=8)) for _ in range(300)]  # type: ignore[operator]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_corrections_are_those_of_their_paper() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(intervals.holm(p), [0.03, 0.06, 0.06, 0.02])
    assert len(intervals.holm(p[:0])) == 0
    np.testing.assert_allclose(intervals.holm(np.array([0.9, 0.8])), 1)
