"""What is wrong with a training, by its losses: `remarks(lines, n_classes)` of the lines of metrics.jsonl.

The log has these sentences at the end of a training, and the page of an evaluation has them too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ONE_CLASS = 0.95
"""Share of the windows that are given the same class, from which it is one class."""
RANKED = 0.65
"""AUROC from which classes are told apart, though none but one is predicted."""
FALLING = 0.1
"""Share of its whole fall by which the validation loss falls in the last quarter of a training that was too short."""
RISING = 0.25
"""Share of its fall by which it rises after its lowest point if a network is overfitted."""
NOTHING = 0.02
"""Share of its first value by which it has to fall, or nothing was learned that holds beyond the training set."""
LEARNED = 0.7
"""Share of its first value below which a training loss is that of a network which knows its training set."""
AT_CHANCE = 0.55  # AUROC
FEWEST = 4  # validations

Lines = Sequence[Mapping[str, Any]]


def remarks(lines: Lines, n_classes: int = 0) -> list[str]:
    """`n_classes`: 0 if the target has none."""
    validations = [line for line in lines if "val_loss" in line]
    losses = np.array([line["loss"] for line in lines if "loss" in line], float)
    if len(validations) < 2 or len(losses) < 2:
        return []
    steps, val = (np.array([line[name] for line in validations], float) for name in ("step", "val_loss"))
    best = int(val.argmin())
    sentences = [_one_class(validations[best], n_classes), _shuffled(losses, validations, val)]
    if not sentences[1]:
        sentences += [_short(steps, val, best), _overfitted(lines, steps, val, best)]
    return [sentence for sentence in sentences if sentence]


def one_class(share: float, auroc: float, balanced_accuracy: float, n_classes: int, where: str) -> str:
    """A sentence if all windows are given one class, though their scores tell classes apart; else empty."""
    at_chance = n_classes > 1 and balanced_accuracy < 1 / n_classes + 0.05
    if share < ONE_CLASS or auroc < RANKED or not at_chance:
        return ""
    return (
        f"One class is predicted for {share:.0%} of the {where} windows, though AUROC is {auroc:.2f}: the scores tell "
        "classes apart, and the threshold does not. Train longer, balance the classes (objective.balanced=true), or "
        "choose the step by optim.choose_by=balanced_accuracy."
    )


def constant(share: float, auroc: float, n_classes: int) -> str:
    """A sentence if all test windows are given one class, and their scores do not tell classes apart; else empty."""
    if share < 1 or auroc >= RANKED or n_classes < 2:
        return ""
    return (
        f"One class is predicted for all of the test windows, and AUROC is {auroc:.2f}: the network has learned to "
        "answer with a constant, so its figures have no spread, and say nothing of the data. Train longer, or "
        "balance the classes (objective.balanced=true)."
    )


def _one_class(best: Mapping[str, Any], n_classes: int) -> str:
    figures = [best.get(f"val_{name}") for name in ("most_predicted", "auroc", "balanced_accuracy")]
    if any(figure is None for figure in figures):
        return ""
    share, auroc, accuracy = (float(figure) for figure in figures if figure is not None)
    return one_class(share, auroc, accuracy, n_classes, "validation")


def _shuffled(losses: np.ndarray, validations: Lines, val: np.ndarray) -> str:
    first, last = _ends(losses)
    fell = (val[0] - val.min()) / max(abs(val[0]), 1e-12)
    areas = [line["val_auroc"] for line in validations if "val_auroc" in line]
    if last > LEARNED * first or fell > NOTHING or (areas and max(areas) > AT_CHANCE):
        return ""
    return (
        f"The training loss fell from {first:.3g} to {last:.3g}, but the validation loss never fell below "
        f"{val.min():.3g} from its first {val[0]:.3g}, as if labels were shuffled: what was learned holds for the "
        "training set alone. Look at events and labels, and at what differs between the sets of the split."
    )


def _short(steps: np.ndarray, val: np.ndarray, best: int) -> str:
    if best < len(val) - 1 or len(val) < FEWEST:
        return ""
    before = float(np.interp(0.75 * steps[-1], steps, val))
    if val[0] <= val[-1] or (before - val[-1]) < FALLING * (val[0] - val[-1]):
        return ""
    return (
        f"The validation loss was still falling at the last step, from {before:.3g} to {val[-1]:.3g} in the last "
        f"quarter: train longer than optim.steps={int(steps[-1])}."
    )


def _overfitted(lines: Lines, steps: np.ndarray, val: np.ndarray, best: int) -> str:
    fall, rise = val[0] - val[best], val[-1] - val[best]
    if best == len(val) - 1 or len(val) < FEWEST or rise <= RISING * fall or rise <= 0:
        return ""
    after = [float(line["loss"]) for line in lines if "loss" in line and line["step"] > steps[best]]
    first, last = _ends(np.array(after))
    if last >= first:
        return ""
    return (
        f"Overfitted from step {int(steps[best])} of {int(steps[-1])} on: since then the training loss fell from "
        f"{first:.3g} to {last:.3g}, and the validation loss rose from {val[best]:.3g} to {val[-1]:.3g}. Train shorter "
        "(optim.patience), on more data, or with more dropout, weight decay or augmentation."
    )


def _ends(losses: np.ndarray) -> tuple[float, float]:
    """The means of the first and of the last tenth, as the losses of steps vary."""
    n = max(1, len(losses) // 10)
    return float(losses[:n].mean()), float(losses[-n:].mean())
