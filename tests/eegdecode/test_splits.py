"""A split is the same everywhere, and what leaks is refused by name."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from eegdecode.data import Split
from eegdecode.data.splits import Parts, Segment, split
from eegdecode.data.store import Block, Stored
from eegdecode.signals import Trial


def study(n_subjects: int = 4, n_pieces: int = 10) -> list[Stored]:
    """Every subject heard every piece, each in another order."""
    return [
        Stored(
            Path("nowhere.h5"), f"sub-{subject}_run-1", f"sub-{subject}", "", "1", ("Cz",),
            tuple(Trial(10.0 * at, 8.0, f"piece-{(at + 3 * subject) % n_pieces}.wav") for at in range(n_pieces)),
            {"signal": Block(0, (64 * 10 * n_pieces, 1), 64.0)},
        )
        for subject in range(1, n_subjects + 1)
    ]  # fmt: skip


def stimuli(part: Sequence[Segment]) -> set[str]:
    return {segment.trial.stimulus for segment in part}


def recordings(part: Sequence[Segment]) -> set[int]:
    return {segment.recording for segment in part}


def test_by_stimulus_no_piece_stands_in_two_parts() -> None:
    parts = split(Split(), study())
    assert not stimuli(parts.train) & stimuli(parts.test) and not stimuli(parts.val) & stimuli(parts.test)
    assert not stimuli(parts.train) & stimuli(parts.val)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (28, 4, 8)
    assert recordings(parts.train) == recordings(parts.test) == {0, 1, 2, 3}


def test_by_subject_no_subject_stands_in_two_parts() -> None:
    parts = split(Split(by="subject", shared=("stimulus",)), study())
    assert [len(recordings(part)) for part in (parts.train, parts.val, parts.test)] == [2, 1, 1]
    assert len(recordings(parts.train) | recordings(parts.val) | recordings(parts.test)) == 4


@pytest.mark.parametrize("by", ["stimulus", "subject", "trial"])
def test_every_trial_stands_in_exactly_one_part(by: str) -> None:
    parts = split(Split(by=by, shared=("subject", "stimulus")), study())  # type: ignore[arg-type]
    placed = [*parts.train, *parts.val, *parts.test]
    assert sorted(placed, key=repr) == sorted(
        (Segment(index, trial) for index, stored in enumerate(study()) for trial in stored.trials), key=repr
    )


def test_the_same_in_every_process_and_another_for_another_seed() -> None:
    program = "from tests.eegdecode.test_splits import *; print(sorted(stimuli(split(Split(seed=3), study()).test)))"
    root = Path(__file__).parents[2]
    for hash_seed in "12":
        environ = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        said = subprocess.run(
            [sys.executable, "-c", program], env=environ, cwd=root, capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == str(sorted(stimuli(split(Split(seed=3), study()).test)))
    assert len({frozenset(stimuli(split(Split(seed=seed), study()).test)) for seed in range(10)}) > 5


def test_a_split_does_not_depend_on_who_else_heard_the_pieces() -> None:
    assert stimuli(split(Split(), study(1)).test) == stimuli(split(Split(), study(4)).test)


def test_what_would_leak_is_named() -> None:
    with pytest.raises(ValueError, match=r"same subject would .* in train and val: sub-1, .*must hold \"subject\""):
        split(Split(shared=()), study())
    with pytest.raises(ValueError, match=r"same stimulus would .* train and val: piece-0.wav, .*Split by stimulus"):
        split(Split(by="subject"), study())
    with pytest.raises(ValueError, match="same stimulus would stand in"):
        split(Split(by="trial"), study(4, 2))


def test_samples_that_trials_share_leak_whatever_is_allowed() -> None:
    early, late = Segment(0, Trial(0.0, 8.0, "a.wav")), Segment(0, Trial(7.5, 8.0, "b.wav"))
    with pytest.raises(ValueError, match=r"overlap .*subject sub-1: a.wav \(train\) until 8.00 s, b.wav \(test\)"):
        Parts((early,), (), (late,), ("sub-1",), ("subject", "stimulus"))
    with pytest.raises(ValueError, match="overlap across parts"):
        Parts((early,), (), (early,), ("sub-1",), ("subject", "stimulus"))
    # One long trial over several short ones of which only the last is in another part
    long, short, last = (
        Segment(0, Trial(*when, name)) for when, name in [((0.0, 9.0), "l"), ((1.0, 1.0), "s"), ((4.0, 1.0), "x")]
    )
    with pytest.raises(ValueError, match="overlap across parts"):
        Parts((long, short), (), (last,), ("sub-1",), ("subject",))


def test_too_few_to_split_is_said() -> None:
    with pytest.raises(ValueError, match=r"a split by stimulus needs 3 of them at least.* got 2"):
        split(Split(), study(n_pieces=2))
    with pytest.raises(ValueError, match="make 1 together, got 0.9, 0.2, 0.1"):
        Split(train=0.9, val=0.2, test=0.1)


def test_the_audit_reads_as_sentences() -> None:
    by_stimulus = " ".join(split(Split(), study()).audit())
    assert by_stimulus.startswith("40 trials: 28 train, 4 choose the best step, 8 test.")
    assert "Test has 2 stimuli that neither training nor choosing saw: piece-" in by_stimulus
    assert "On both sides, as shared allows: 4 subjects, sub-1, sub-2, sub-3, sub-4." in by_stimulus
    by_subject = " ".join(split(Split(by="subject", shared=("stimulus",)), study()).audit())
    assert "Test has 1 subject that neither training nor choosing saw: sub-" in by_subject
