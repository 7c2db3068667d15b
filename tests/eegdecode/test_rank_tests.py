"""Ranks over data sets, against Demšar's published example and scipy."""

import numpy as np
import pytest
from scipy import stats

from eegdecode.evaluation.statistics import rank_tests

# Demšar (JMLR 7:1-30, 2006), table 6: the ranks of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets
DEMSAR = np.array(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
)


def test_the_published_example_of_demsar() -> None:
    own = rank_tests.ranks(-DEMSAR)
    np.testing.assert_array_equal(own, DEMSAR)
    assert own.mean(axis=0) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert rank_tests.critical_difference(14, 4) == pytest.approx(1.25, abs=0.005)
    n, k = own.shape
    chi2, _, _ = rank_tests.friedman(-DEMSAR)
    ties = sum(float(t**3 - t) for row in own for t in np.unique(row, return_counts=True)[1])
    without = chi2 * (1 - ties / (n * (k**3 - k)))  # the paper does not correct for ties
    assert without == pytest.approx(9.28, abs=0.005)
    f = (n - 1) * without / (n * (k - 1) - without)
    assert f == pytest.approx(3.69, abs=0.005)
    assert stats.f.isf(0.05, k - 1, (k - 1) * (n - 1)) == pytest.approx(2.85, abs=0.005)


def test_friedman_is_that_of_scipy_and_its_p_is_of_iman_and_davenport() -> None:
    values = np.random.default_rng(0).normal(size=(12, 5)) + np.linspace(0, 1, 5)
    chi2, f, p = rank_tests.friedman(values)
    assert chi2 == pytest.approx(stats.friedmanchisquare(*values.T).statistic)
    assert f == pytest.approx(11 * chi2 / (12 * 4 - chi2)) and p == pytest.approx(stats.f.sf(f, 4, 44))


def test_friedman_of_what_has_no_order_or_always_the_same() -> None:
    assert rank_tests.friedman(np.ones((5, 3)))[2] == 1
    _, f, p = rank_tests.friedman(np.tile([1.0, 2.0, 3.0], (5, 1)))
    assert (f, p) == (np.inf, 0)
    with pytest.raises(ValueError, match="needs 2 data sets and 3 decoders at least, got 5 and 2"):
        rank_tests.friedman(np.ones((5, 2)))


def test_one_p_of_several_studies_is_that_of_scipy() -> None:
    p, weights = np.array([0.01, 0.2, 0.6]), np.sqrt([10, 20, 30])
    z = stats.norm.isf(p)
    assert rank_tests.stouffer(p, weights) == pytest.approx(
        stats.norm.sf((weights * z).sum() / np.sqrt((weights**2).sum()))
    )
    assert 0 < rank_tests.stouffer(np.array([1.0, 1 / 1024]), np.ones(2)) < 1, "all flips reach a p of 1"
