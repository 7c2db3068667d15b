"""What a null permutes follows from the order of the classes; of studies of nothing one in twenty is above chance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench import nulls as designs
from eegdecode.evaluation import results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.report import export
from eegdecode.evaluation.statistics import exchange, nulls

SHUFFLED = [list(np.random.default_rng(seed).permutation([0, 1] * 20)) for seed in range(3)]


def units(orders: Sequence[Sequence[int]], subjects: Sequence[int] = (), blocks: Sequence[str] = ()) -> exchange.Units:
    """Of recordings with the classes of their trials in order, two windows a trial; the rows are in no order."""
    rows = [
        (own, 100 * number + trial, number, subjects[number] if subjects else 0, float(trial), block)
        for number, order in enumerate(orders)
        for trial, own in enumerate(order)
        for block in [blocks[trial] if blocks else ""] * 2
    ][::-1]
    *columns, names = zip(*rows, strict=True)
    return exchange.units(*map(np.array, columns), names)


@pytest.mark.parametrize(
    ("orders", "subjects", "wanted", "smallest_p"),
    [
        (SHUFFLED, [], "120 trials", 0.0),
        ([[0, 1] * 20], [], "40 trials", 0.0),
        ([[0] * 10 + [1] * 10 + [0] * 10 + [1] * 20], [], "5 blocks", 1 / 10),
        ([[0] * 7 + [1] * 10 + [0] * 11 + [1] * 9], [], "4 blocks", 1 / 6),
        ([[0] * 20 + [1] * 20], [], "2 blocks", 1 / 2),
        ([[0] * 5, [1] * 5] * 4, [0, 0, 1, 1, 2, 2, 3, 3], "8 recordings", 1 / 16),
        ([[0] * 5, [1] * 5] * 4, list(range(8)), "8 subjects", 1 / 70),
        ([[0] * 5, [1] * 5, [0] * 5, [0, 1, 0, 1, 1]], [0, 0, 1, 2], "5 trials, 2 recordings and 1 subject", 1 / 20),
    ],
)
def test_units_follow_from_the_order_of_the_classes(
    orders: list[list[int]], subjects: list[int], wanted: str, smallest_p: float
) -> None:
    of_study = units(orders, subjects)
    assert str(of_study) == wanted and of_study.smallest_p == pytest.approx(smallest_p, abs=1e-9)


def test_blocks_that_the_events_name_are_believed_unless_they_have_two_classes() -> None:
    order = [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert str(units([order], blocks=[f"{number // 3}" for number in range(12)])) == "4 blocks"
    assert str(units([order], blocks=[f"{number // 4}" for number in range(12)])) in ("4 blocks", "12 trials")


def test_windows_of_a_trial_have_one_class() -> None:
    with pytest.raises(ValueError, match="windows of a trial have different classes"):
        exchange.units(np.array([0, 1]), np.zeros(2, int), np.zeros(2, int), np.zeros(2, int), np.zeros(2))


def test_with_too_few_units_nothing_is_decided(tmp_path: Path) -> None:
    halves = designs.of_classes(lambda rng: [designs.Part(0, np.repeat([0, 1], 20), k > 1) for k in range(4)])
    result = results.evaluate(halves(np.random.default_rng(0), designs.Noise(False, 5.0)), Scoring(n_null=100))
    assert result.verdict == "cannot be decided" and not result.is_above_chance
    assert result.permuted == "4 blocks" and result.smallest_p == 0.25
    export.write(tmp_path, result)
    assert "The null permutes 4 blocks, which allow no p below 0.25." in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("orders", "confound"),
    [
        ([[0] * 10 + [1] * 10] * 12, "time: the classes come in the same order in all 12 recordings"),
        ([[0] * 10, [1] * 10] * 8, "the recording: its classes come in the same order in all 8 subjects"),
        ([[0] * 10, [1] * 10, [1] * 10, [0] * 10] * 4, ""),
    ],
)
def test_what_goes_along_with_the_classes_everywhere_caps_the_headline(orders: list[list[int]], confound: str) -> None:
    subjects = [k if len(orders[0]) == 20 else k // 2 for k in range(len(orders))]
    assert units(orders, subjects).confound == confound
    trials = tuple(
        DecodedTrial(f"sub-{subject}", "", np.array([[own]]), np.eye(2)[[own]], f"run-{number:02d}", k, float(k))
        for number, (order, subject) in enumerate(zip(orders, subjects, strict=True))
        for k, own in enumerate(order)
    )
    result = results.evaluate(Decoded(0.0, trials, (), "classes", "", ("a", "b")), Scoring(n_null=100))
    assert result.is_above_chance
    assert result.verdict == ("above chance, but confounded" if confound else "above chance")
    assert result.confound == confound and confound in export.markdown(result)


@pytest.mark.parametrize("drifts", [False, True], ids=["white", "drifting"])
@pytest.mark.parametrize(
    "design",
    ["blocks of 10", "two halves, 12 subjects", "class = recording, leave subjects out", "values that drift",
     "retrieval, in blocks of a category"],
)  # fmt: skip
def test_studies_of_nothing_are_above_chance_one_time_in_twenty(design: str, drifts: bool) -> None:
    """`python -m bench nulls` takes 400 of each design; 9 and more of 60 come in 1 of 500 such tests."""
    above = sum(map(designs.is_above, designs.studies(designs.DESIGNS[design], designs.Noise(drifts), 60)))
    assert above <= 8


def test_neighbours_that_are_alike_are_known_from_their_targets_alone() -> None:
    rng = np.random.default_rng(0)
    rows = [np.arange(60)]
    walk, white = rng.normal(size=(60, 5)).cumsum(axis=0), [rng.normal(size=(60, 5)) for _ in range(100)]
    assert nulls.neighbours_are_alike(walk, rows)
    assert sum(nulls.neighbours_are_alike(each, rows) for each in white) <= 12


def test_a_recording_slides_along_itself_and_recordings_of_one_order_alike() -> None:
    own = np.array([3, 1, 2, 0, 3, 1, 2, 0, 7, 8])
    slid = nulls.slid([np.arange(4), np.arange(4, 8), np.arange(8, 10)], own, 50, 0)
    assert {tuple(own[row[:4]]) for row in slid} <= {
        tuple(np.tile(np.r_[[3, 1, 2, 0], [0, 2, 1, 3]], 2)[start : start + 4]) for start in range(8)
    }
    assert np.array_equal(own[slid[:, :4]], own[slid[:, 4:8]]) and set(slid[:, 8:].ravel()) == {8, 9}


def test_predictions_of_before_have_no_sessions_and_blocks(tmp_path: Path) -> None:
    row = DecodedTrial("sub-1", "x", np.zeros((1, 1)), np.zeros((1, 2)), "run-1", 0, 0.0, "ses-1", "block-1")
    decoded = Decoded(0.0, (row,), (), "classes", "", ("a", "b"))
    predictions.write(tmp_path / "new.h5", decoded)
    assert predictions.read(tmp_path / "new.h5").trials[0].block == "block-1"
    names = predictions.NAMES
    try:
        predictions.NAMES = tuple(name for name in names if name not in ("session", "block"))  # type: ignore[misc]
        predictions.write(tmp_path / "old.h5", decoded)
    finally:
        predictions.NAMES = names  # type: ignore[misc]
    again = predictions.read(tmp_path / "old.h5").trials[0]
    assert (again.subject, again.session, again.block) == ("sub-1", "", "")
