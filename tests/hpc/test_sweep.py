"""A sweep is every combination of the values of its words, counted before it is made."""

import numpy as np
import pytest

from hpc.errors import ConfigError
from hpc.plan.sweep import draws, grid


def test_a_grid_is_every_combination_the_last_word_fastest() -> None:
    assert grid(["a=1,2", "b=x"]) == [["a=1", "b=x"], ["a=2", "b=x"]]
    assert grid(["s=-1..1"]) == [["s=-1"], ["s=0"], ["s=1"]]
    assert grid(["s=0..1,7", "t="]) == [["s=0", "t="], ["s=1", "t="], ["s=7", "t="]]
    assert grid(["bands=[1,4],[8,12]", "name='a,b'"]) == [
        ["bands=[1,4]", "name='a,b'"],
        ["bands=[8,12]", "name='a,b'"],
    ]
    assert grid(["m={name: a, n: [1, 2]},it's"]) == [["m={name: a, n: [1, 2]}"], ["m=it's"]]
    assert grid(["bands=[[1,4],[8,12]]"]) == [["bands=[[1,4],[8,12]]"]]
    assert len(grid(["n=100,1000,5000,10000,100000", "p=4,16", "s=0.2,0.5", "r=VC,all", "f=a,b", "m=c,d"])) == 160


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s=4..0"], r"'s=4..0': 4..0 runs backwards; say s=0..4"),
        (["s=1,,2"], "'s=1,,2' has nothing between two commas, or after the last: say `s=a,b`"),
        (["s=1,"], "'s=1,' has nothing between"),
        (["s=0..99", "t=0..99", "u=1,2"], "these are 20000 combinations, and a sweep has 10000 at most"),
        (["lr=log:1e-4..1e-2"], "'lr=log:1e-4..1e-2': log:1e-4..1e-2 is a range: --draws N draws"),
        (["p=0..0.5", "s=1,2"], "Without --draws list the values, p=a,b"),
        (["s=0..999999999999999999"], "these are 1000000000000000000 combinations"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(words)


SPACE = ["lr=log:1e-4..1e-2", "n=1,2,3", "seed=0..9", "width=log:8..256", "p=0..0.5"]


def values(drawn: list[list[str]], which: int) -> np.ndarray:
    return np.array([float(words[which].partition("=")[2]) for words in drawn])


def test_draws_are_the_same_when_asked_for_again_and_more_begin_with_the_fewer() -> None:
    few, many = draws(SPACE, 20), draws(SPACE, 300)
    assert many[:20] == few == draws(SPACE, 20)
    assert [words[0] for words in draws(SPACE[:1], 20)] == [words[0] for words in few], "each word by itself"
    assert few[0] == ["lr=0.004062", "n=3", "seed=7", "width=149", "p=0.07481"], "runs that people have would be lost"


def test_draws_are_spread_as_they_are_said() -> None:
    drawn = draws(SPACE, 3000)
    assert len({tuple(words) for words in drawn}) == 3000
    exponents = np.log10(values(drawn, 0))
    assert (exponents >= -4).all() and (exponents <= -2).all()
    np.testing.assert_allclose(np.histogram(exponents, 4, (-4, -2))[0], 750, rtol=0.15)
    for which, there in ((1, [1, 2, 3]), (2, list(range(10)))):
        found, n = np.unique(values(drawn, which), return_counts=True)
        assert found.tolist() == there
        np.testing.assert_allclose(n, 3000 / len(there), rtol=0.2)
    width = values(drawn, 3)
    assert (width == width.round()).all() and (width.min(), width.max()) == (8, 256)
    assert np.median(width) == pytest.approx(np.sqrt(8 * 257), rel=0.1)
    assert np.histogram(values(drawn, 4), 2, (0, 0.5))[0].min() > 1350
    assert np.abs(np.corrcoef([values(drawn, which) for which in range(5)]) - np.eye(5)).max() < 0.06


def test_all_of_few_combinations_can_be_drawn_and_no_more() -> None:
    assert sorted(draws(["a=1,2,5..6", "b=x,y"], 8)) == sorted(grid(["a=1,2,5..6", "b=x,y"]))
    assert draws(["a=0..1000000000000000", "b=[1,2],[3,4]"], 3)[0][1] in ("b=[1,2]", "b=[3,4]")


@pytest.mark.parametrize(
    ("words", "n", "message"),
    [
        (["a=1,2", "b=0..2"], 7, "there are only 6 combinations to draw 7 of: without --draws a sweep takes them all"),
        (["a=1"], 2, r"what is to be drawn\? Write key=a,b"),
        (["a=log:0..1"], 2, "'a=log:0..1' is no range to draw from: .* with log: from above 0"),
        (["a=0.5..0.1"], 2, "it goes from lower to higher"),
        (
            ["a=log:1..2,7"],
            2,
            "log:1..2 is a range: --draws N draws N values from it, and then it stands alone",
        ),
        (["a=0.5..1"], 20_000, "these are 20000 combinations, and a sweep has 10000 at most: draw fewer"),
    ],
)
def test_draws_that_cannot_be_meant_are_refused(words: list[str], n: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draws(words, n)
