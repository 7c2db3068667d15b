"""What a null permutes follows from the order of the classes; of studies of nothing one in twenty is above chance."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench import nulls as designs
from eegdecode.evaluation import results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.cross_validation import folds
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.report import export
from eegdecode.evaluation.results import Result
from eegdecode.evaluation.statistics import exchange, intervals, nulls

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


def people(n: int, seed: int) -> Result:
    """Two patients among so many people, each of whom is told rightly."""
    rows = (
        DecodedTrial(f"s{one}", "", np.array([[one < 2]]), np.eye(2)[[int(one < 2)]], f"run-{one}") for one in range(n)
    )
    return results.evaluate(Decoded(0.0, tuple(rows), (), "classes", "", ("a", "b")), Scoring(seed=seed))


def test_few_orders_are_all_tried_so_that_p_is_exact_and_of_no_seed() -> None:
    of_seeds = [people(7, seed) for seed in range(5)]
    assert [one.figures[one.headline].p for one in of_seeds] == pytest.approx([1 / 21] * 5)
    assert {one.verdict for one in of_seeds} == {"above chance"}
    scores = Decoded(
        0.0,
        tuple(DecodedTrial(f"s{one}", "", np.array([[one]]), np.array([[one]]), f"run-{one}") for one in range(4)),
        (), "values",
    )  # fmt: skip
    p = [results.evaluate(scores, Scoring(seed=seed)).figures["r"].p for seed in range(5)]
    assert p == pytest.approx([1 / 24] * 5)


@pytest.mark.parametrize(("labels", "groups"), [("aabbb", "11111"), ("abab", "1122"), ("abca", "1111")])
def test_arrangements_are_the_different_orders_within_groups(labels: str, groups: str) -> None:
    own, group = np.array(list(labels)), np.array(list(groups))
    ways = [
        own[list(order)] for order in itertools.permutations(range(len(own))) if (group[list(order)] == group).all()
    ]
    others = {tuple(way) for way in ways} - {tuple(own)}
    arrangements = nulls.arrangements(np.unique(own, return_inverse=True)[1], group, 100)
    assert arrangements is not None and len(arrangements) == len(others)
    assert {tuple(np.unique(own)[row]) for row in arrangements} == others
    assert nulls.arrangements(np.unique(own, return_inverse=True)[1], group, len(others)) is None


def test_slides_are_all_tried_if_they_are_few_and_else_drawn_with_that_of_no_slide() -> None:
    recordings, own = [np.arange(4), np.arange(4, 8)], np.array([3, 1, 2, 0, 1, 2, 3, 0])
    assert nulls.n_slides(recordings, own) == 64
    every = nulls.slid(recordings, own, 64, 0)
    assert len(every) == 63 and len(np.unique(every, axis=0)) == 63 and not (every == np.arange(8)).all(axis=1).any()
    drawn = nulls.slid(recordings, own, 60, 0)
    assert len(drawn) == 60 and (drawn[:, :4] == np.arange(4)).all(axis=1).any(), "one may stay while the other slides"


def test_a_candidate_that_was_shown_more_often_counts_as_much_more() -> None:
    features, own = np.eye(5, 16), [0, 1, 2, 3] + [4] * 20
    rows = (
        DecodedTrial("s", f"{each}", features[[each]], features[[4]], "run", at, at * 37 % 24)
        for at, each in enumerate(own)
    )
    result = results.evaluate(
        Decoded(0.0, tuple(rows), (), "retrieval", "", (), {"linear": features[own] * 0}), Scoring()
    )
    assert result.difference is not None
    main, linear = result.figures[result.headline].value, result.baselines["linear"][result.headline]
    assert result.difference.value == pytest.approx(main - linear) == pytest.approx(20 / 24 - 1 / 5)


def test_folds_of_a_retrieval_may_have_unlike_numbers_of_candidates() -> None:
    def fold(name: str, n: int) -> folds.Fold:
        target = np.eye(n, 16)
        rows = (DecodedTrial(name, f"{i}", target[[i]], target[[i]], name, i, float(i)) for i in range(n))
        return folds.Fold(name, "", Decoded(0.0, tuple(rows), (), "retrieval"))

    result = folds.evaluate([fold("a", 4), fold("b", 5), fold("c", 7)], Scoring()).result
    assert result.verdict == "above chance" and len(result.subjects) == 3
    assert (result.figures[result.headline].p or 1) < 0.01, "each is permuted by itself: 4! x 5! x 7! orders"


def test_what_is_not_a_number_shows_no_difference() -> None:
    assert intervals.two_sided(np.array([0.1, -0.2, np.nan, 0.3, 0.1, -0.2])) == 1.0
