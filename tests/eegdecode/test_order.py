"""An order is a pure function of seed and place: each epoch is complete, fair, and any place takes equally long."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from eegdecode.data.loading.order import Order, subset, uniform


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 99_991])
def test_each_epoch_has_everything_once_and_is_another_order(n: int) -> None:
    order = Order(n, seed=0)
    epochs = [order[np.arange(epoch * n, (epoch + 1) * n)] for epoch in (0, 1, 10**6)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    if n > 7:
        assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_place_is_the_same_alone_or_among_others_and_depends_on_the_seed() -> None:
    together = Order(1000, 3)[np.arange(5000)]
    assert [int(Order(1000, 3)[np.array([place])][0]) for place in (0, 17, 999, 1000, 4999)] == [
        int(together[place]) for place in (0, 17, 999, 1000, 4999)
    ]
    assert (Order(1000, 4)[np.arange(5000)] != together).mean() > 0.99


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_all_orders_of_a_few_things_are_equally_frequent(n: int) -> None:
    drawn = Counter(map(tuple, Order(n, seed=0)[np.arange(30_000 * n)].reshape(-1, n).tolist()))
    assert stats.chisquare([drawn[each] for each in permutations(range(n))]).pvalue > 0.001


def test_neighbours_tell_nothing_of_each_other() -> None:
    drawn = Order(101, seed=0)[np.arange(3000 * 101)].reshape(-1, 101)
    step = np.bincount(((drawn[:, 1:] - drawn[:, :-1]) % 101).ravel(), minlength=101)[1:]
    assert stats.chisquare(step).pvalue > 0.001
    assert stats.chisquare(np.bincount(drawn[:, 0], minlength=101)).pvalue > 0.001


def test_classes_come_equally_often_and_so_do_the_things_of_each() -> None:
    classes = [0] * 3 + [1] * 10 + [2] * 87
    turns = Order(100, 0, classes).turns(np.arange(3 * 870))
    count = np.bincount(turns.item, minlength=100)
    for kind, (first, last) in enumerate([(0, 3), (3, 13), (13, 100)]):
        of_kind = count[first:last]
        assert of_kind.sum() == 870 and np.ptp(of_kind) <= 1, kind
    for item in (0, 5, 50):  # how often it came before is counted
        assert turns.visit[turns.item == item].tolist() == list(range(count[item]))


def test_weights_say_how_often() -> None:
    drawn = Order(4, 0, weights=[1, 2, 0, 5])[np.arange(80_000)]
    assert stats.chisquare(np.bincount(drawn, minlength=4)[[0, 1, 3]], [10_000, 20_000, 50_000]).pvalue > 0.001
    assert 2 not in drawn


def test_a_small_subset_is_contained_in_a_large_one() -> None:
    """1 % in 10 % in all, whatever their sizes."""
    parts = [set(subset(12_345, fraction, seed=5).tolist()) for fraction in (0.01, 0.1, 1.0)]
    assert [len(part) for part in parts] == [123, 1234, 12_345]
    assert parts[0] < parts[1] < parts[2]
    assert set(subset(12_345, 0.01, seed=6).tolist()) != parts[0]


def test_chance_is_uniform() -> None:
    drawn = uniform(np.arange(100_000), 0, 1)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw from"):
        Order(0, 0)
