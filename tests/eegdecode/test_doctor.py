"""What is wrong with a training is said in words; with a good one, nothing is."""

import numpy as np
import pytest

from eegdecode.training.monitor import doctor

STEPS = np.arange(1, 201)
Lines = list[dict[str, float]]


def lines(train: np.ndarray, val: np.ndarray, **figures: float) -> Lines:
    """Two hundred steps with noise, and a validation each twenty."""
    noisy = train + 0.03 * np.random.default_rng(0).normal(size=len(train))
    every: Lines = [{"step": int(step), "loss": float(loss)} for step, loss in zip(STEPS, noisy, strict=True)]
    for step in range(20, 201, 20):
        every[step - 1] |= {"val_loss": float(val[step - 1])} | {f"val_{name}": x for name, x in figures.items()}
    return every


FALLING = 0.7 * np.exp(-STEPS / 40)
LEVEL = 0.2 + FALLING
GOOD = {"most_predicted": 0.55, "auroc": 0.9, "balanced_accuracy": 0.8}
SHUFFLED = {"most_predicted": 0.55, "auroc": 0.5, "balanced_accuracy": 0.5}
ONE_CLASS = {"most_predicted": 1.0, "auroc": 0.85, "balanced_accuracy": 0.5}

CASES = [
    ("good", lines(FALLING, LEVEL, **GOOD), ""),
    ("good numbers", lines(FALLING, LEVEL), ""),
    ("one class", lines(FALLING, LEVEL, **ONE_CLASS), "One class is predicted for 100% of the validation windows"),
    ("short", lines(1 - STEPS / 300, 1 - STEPS / 320, **GOOD), "still falling at the last step, from 0.531 to 0.375"),
    ("overfitted", lines(FALLING, 0.5 + ((STEPS - 60) / 200) ** 2, **GOOD), "Overfitted from step 60 of 200 on"),
    ("shuffled", lines(FALLING, 0.69 + STEPS / 400, **SHUFFLED), "as if labels were shuffled"),
    ("shuffled numbers", lines(FALLING, 1 + 0.001 * np.sin(STEPS)), "as if labels were shuffled"),
    ("nothing learned", lines(0 * FALLING + 0.69, 0 * FALLING + 0.69, **SHUFFLED), ""),
]


@pytest.mark.parametrize(("name", "history", "sentence"), CASES, ids=[case[0] for case in CASES])
def test_what_is_wrong_is_named_and_nothing_else(name: str, history: Lines, sentence: str) -> None:
    said = doctor.remarks(history, n_classes=2 if "val_auroc" in history[-1] else 0)
    assert len(said) == bool(sentence), said
    assert all(sentence in each for each in said)


def test_short_histories_say_nothing() -> None:
    assert doctor.remarks([]) == doctor.remarks([{"step": 1, "loss": 1.0, "val_loss": 1.0}]) == []


def test_a_rare_class_that_is_never_predicted_is_no_fault_of_the_threshold() -> None:
    assert not doctor.one_class(0.97, 0.9, 0.8, 2, "test"), "the others are predicted too"
    assert not doctor.one_class(0.97, 0.55, 0.5, 2, "test"), "nothing tells them apart"
