"""A sweep is every combination of what its words list, counted before it is made."""

import pytest

from hpc.errors import ConfigError
from hpc.grid import grid


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
        (["s=0..999999999999999999"], "these are 1000000000000000000 combinations"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(words)
