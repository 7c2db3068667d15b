"""Errors suggest the nearest valid choices, and not too many of them."""

import pytest

from hpc.errors import did_you_mean


@pytest.mark.parametrize(
    ("word", "choices", "sentence"),
    [
        ("layer", ["lr", "layers"], " Did you mean 'layers'? There is: lr, layers."),
        ("x", ["lr"], " There is: lr."),
        ("x", [], " There is none."),
    ],
)
def test_the_nearest_is_named_and_all_there_is(word: str, choices: list[str], sentence: str) -> None:
    assert did_you_mean(word, choices) == sentence


def test_of_many_only_the_nearest_are_shown() -> None:
    said = did_you_mean("train-77", [f"train-{number}" for number in range(100)])
    assert said.startswith(" Did you mean 'train-77'? There is: train-77, train-")
    assert said.endswith(" and 88 more.")
    assert said.count("train-") == 1 + 12
