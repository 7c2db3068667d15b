"""A split is the same in every process, and leaks between sets are refused by name."""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from eegdecode.data.config import EpochWindows, GridWindows, Split, Windows
from eegdecode.data.loading.windows import cut
from eegdecode.data.split.splits import Segment, Splits, split
from eegdecode.data.store.dataset import Block, Stored
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
    sets = split(Split(), study())
    assert not stimuli(sets.train) & stimuli(sets.test) and not stimuli(sets.val) & stimuli(sets.test)
    assert not stimuli(sets.train) & stimuli(sets.val)
    assert (len(sets.train), len(sets.val), len(sets.test)) == (28, 4, 8)
    assert recordings(sets.train) == recordings(sets.test) == {0, 1, 2, 3}


def test_by_subject_no_subject_stands_in_two_parts() -> None:
    sets = split(Split(by="subject", shared=("stimulus",)), study())
    assert [len(recordings(part)) for part in (sets.train, sets.val, sets.test)] == [2, 1, 1]
    assert len(recordings(sets.train) | recordings(sets.val) | recordings(sets.test)) == 4


@pytest.mark.parametrize("by", ["stimulus", "subject", "trial"])
def test_every_trial_stands_in_exactly_one_part(by: str) -> None:
    sets = split(Split(by=by, shared=("subject", "stimulus")), study())  # type: ignore[arg-type]
    placed = [*sets.train, *sets.val, *sets.test]
    assert sorted(placed, key=repr) == sorted(
        (Segment(index, trial) for index, stored in enumerate(study()) for trial in stored.trials), key=repr
    )


def test_the_same_in_every_process_and_another_for_another_seed() -> None:
    program = "from tests.eegdecode.test_splits import *; print(sorted(stimuli(split(Split(seed=3), study()).test)))"
    root = Path(__file__).parents[2]
    for hash_seed in "12":
        environ = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        other_process = subprocess.run(
            [sys.executable, "-c", program], env=environ, cwd=root, capture_output=True, text=True, check=True
        )
        assert other_process.stdout.strip() == str(sorted(stimuli(split(Split(seed=3), study()).test)))
    assert len({frozenset(stimuli(split(Split(seed=seed), study()).test)) for seed in range(10)}) > 5


def test_a_split_does_not_depend_on_who_else_heard_the_pieces() -> None:
    assert stimuli(split(Split(), study(1)).test) == stimuli(split(Split(), study(4)).test)


def test_what_would_leak_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"same subject would .* in train and val: sub-1, .*with \"subject\" in shared"
    ):
        split(Split(shared=()), study())
    with pytest.raises(ValueError, match=r"same stimulus would .* train and val: piece-0.wav, .*Split by stimulus"):
        split(Split(by="subject"), study())
    with pytest.raises(ValueError, match="same stimulus would be in"):
        split(Split(by="trial"), study(4, 2))


def test_samples_that_trials_share_leak_whatever_is_allowed() -> None:
    early, late = Segment(0, Trial(0.0, 8.0, "a.wav")), Segment(0, Trial(7.5, 8.0, "b.wav"))
    with pytest.raises(ValueError, match=r"overlap .*subject sub-1: a.wav \(train\) until 8.00 s, b.wav \(test\)"):
        Splits((early,), (), (late,), ("sub-1",), ("subject", "stimulus"))
    with pytest.raises(ValueError, match="overlap across sets"):
        Splits((early,), (), (early,), ("sub-1",), ("subject", "stimulus"))
    # One long trial over several short ones of which only the last is in another part
    long, short, last = (
        Segment(0, Trial(*when, name)) for when, name in [((0.0, 9.0), "l"), ((1.0, 1.0), "s"), ((4.0, 1.0), "x")]
    )
    with pytest.raises(ValueError, match="overlap across sets"):
        Splits((long, short), (), (last,), ("sub-1",), ("subject",))


def test_too_few_to_split_is_said() -> None:
    with pytest.raises(ValueError, match=r"a split by stimulus needs 3 of them at least.* got 2"):
        split(Split(), study(n_pieces=2))
    with pytest.raises(ValueError, match="sum to 1, got 0.9, 0.2, 0.1"):
        Split(train=0.9, val=0.2, test=0.1)


def test_the_audit_reads_as_sentences() -> None:
    by_stimulus = " ".join(split(Split(), study()).audit())
    assert by_stimulus.startswith("40 trials: 28 for training, 4 for validation, 8 for testing.")
    assert "The test set has 2 stimuli that neither training nor validation saw: piece-" in by_stimulus
    assert "and in the others, as shared allows: 4 subjects, sub-1, sub-2, sub-3, sub-4." in by_stimulus
    by_subject = " ".join(split(Split(by="subject", shared=("stimulus",)), study()).audit())
    assert "The test set has 1 subject that neither training nor validation saw: sub-" in by_subject
    many = " ".join(split(Split(test=0.6, train=0.2, val=0.2), study(n_pieces=25)).audit())
    assert re.search(r"The test set has 15 stimuli that .* saw: ([^,]+, ){9}[^,]+ and 5 more\.", many)


def runs(n_subjects: int = 3, n_runs: int = 2, n_trials: int = 6) -> list[Stored]:
    """Sessions of several runs, each piece heard once."""
    return [
        Stored(
            Path("nowhere.h5"), f"sub-{subject}_run-{run}", f"sub-{subject}", f"0{run}", str(run), ("Cz",),
            tuple(
                Trial(10.0 * at, 8.0, f"{subject}-{run}-{at}.wav", {"split": ("train", "val", "test")[at % 3]})
                for at in range(n_trials)
            ),
            {"signal": Block(0, (640 * n_trials, 1), 64.0)}, checksum=f"{subject}-{run}",
        )
        for subject in range(n_subjects)
        for run in range(n_runs)
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["session", "run", "block"])
def test_what_is_split_by_stands_in_one_part_as_a_whole(by: str) -> None:
    sets = split(Split(by=by, block_s=30.0), runs())  # type: ignore[arg-type]
    unit = (lambda s: s.recording) if by != "block" else (lambda s: (s.recording, s.trial.start // 30))
    of = [{unit(segment) for segment in part} for part in (sets.train, sets.val, sets.test)]
    assert not of[0] & of[1] and not of[0] & of[2] and not of[1] & of[2] and all(of)


def test_within_each_subject_every_subject_has_all_parts_and_its_own_draw() -> None:
    sets = split(Split(by="trial", within="subject", train=0.5, val=0.25, test=0.25), runs(5, 2, 10))
    for part, share in ((sets.train, 0.5), (sets.val, 0.25), (sets.test, 0.25)):
        counts = [sum(sets.subjects[s.recording] == f"sub-{n}" for s in part) for n in range(5)]
        assert all(abs(count - share * 20) <= 1 for count in counts)
    picked = {tuple((s.recording % 2, s.trial.start) for s in sets.test if s.recording // 2 == n) for n in range(5)}
    assert len(picked) > 1
    assert any("the score is too high" in sentence for sentence in sets.audit())


@pytest.mark.parametrize(("folds", "n"), [(3, 3), (0, 6)])
def test_over_all_folds_every_unit_tests_once(folds: int, n: int) -> None:
    tested: list[int] = []
    for fold in range(n):
        sets = split(Split(by="run", folds=folds, fold=fold), runs())
        tested += sorted(recordings(sets.test))
        assert recordings(sets.val) and not recordings(sets.val) & recordings(sets.test)
    assert sorted(tested) == list(range(6))
    with pytest.raises(ValueError, match=f"counts from 0 to {n - 1}, but got {n}"):
        split(Split(by="run", folds=folds, fold=n), runs())
    with pytest.raises(ValueError, match=r"3 units \(subject\) cannot be split into 5 folds"):
        split(Split(by="subject", folds=5), runs())


def test_the_parts_can_be_named_or_stand_in_the_events() -> None:
    named = split(Split(by="subject", val_units=("sub-0",), test_units=("sub-2",)), runs())
    assert recordings(named.val) == {0, 1} and recordings(named.test) == {4, 5}
    with pytest.raises(ValueError, match=r"there is no subject sub-7; there are sub-0, sub-1, sub-2"):
        split(Split(by="subject", val_units=("sub-0",), test_units=("sub-7",)), runs())
    by_label = split(Split(by="label"), runs())
    assert {segment.trial.start for segment in by_label.test} == {20.0, 50.0}
    with pytest.raises(ValueError, match="a trial of sub-0_run-0 has no such label; it has: split"):
        split(Split(by="label", label="part"), runs())


def test_what_is_near_a_test_trial_in_time_is_left_out_of_training() -> None:
    close, apart = (split(Split(by="block", block_s=30.0, gap_s=gap), runs()) for gap in (0.0, 5.0))
    assert len(apart.train) < len(close.train) and len(apart.test) == len(close.test)
    for train in apart.train:
        for other in (*apart.val, *apart.test):
            if other.recording == train.recording:
                assert abs(other.trial.start - train.trial.start) >= 8.0 + 5.0
    with pytest.raises(ValueError, match="nothing is left for train"):
        split(Split(by="block", block_s=30.0, gap_s=500.0), runs(1, 2))


def test_the_same_samples_under_two_names_are_refused() -> None:
    study = runs()
    copied = replace(study[5], checksum=study[0].checksum)
    with pytest.raises(
        ValueError, match=r"sub-\d_run-\d \(\w+\) and sub-\d_run-\d \(\w+\) hold exactly the same samples"
    ):
        split(Split(by="run", val_units=("sub-1_run-0",), test_units=("sub-2_run-1",)), [*study[:5], copied])


def of_pieces(*names: Sequence[str]) -> list[Stored]:
    """A recording for each, in which these stimuli were presented for 10 s each, 1 s apart."""
    return [
        Stored(
            Path("nowhere.h5"), f"sub-{subject}", f"sub-{subject}", "", "", ("Cz",),
            tuple(Trial(1.0 + 11.0 * at, 10.0, name) for at, name in enumerate(shown)),
            {"signal": Block(0, (100 * 11 * (len(shown) + 1), 1), 100.0)},
        )
        for subject, shown in enumerate(names, 1)
    ]  # fmt: skip


def test_a_piece_of_a_film_is_the_same_whatever_the_clocks_said() -> None:
    first, second = ([f"film.mp4#t={10 * k * speed:.9f},{10 * (k + 1) * speed:.9f}" for k in range(9)]
                     for speed in (0.999980000, 0.999980184))  # fmt: skip
    sets = split(Split(), of_pieces(first, second))
    for one, other in ((sets.train, sets.test), (sets.train, sets.val), (sets.val, sets.test)):
        assert not {s.trial.start for s in one} & {s.trial.start for s in other}
    assert "The test set has 2 stimuli that neither" in " ".join(sets.audit())
    halves = [{s.trial for s in sets.test if s.recording == number} for number in (0, 1)]
    assert len(halves[0]) == len(halves[1]) == 2, "both heard what is tested"


def test_pieces_that_overlap_in_the_film_are_one() -> None:
    whole = [f"film.mp4#t={10 * k},{10 * k + 10}" for k in range(4)]
    shifted = ["film.mp4#t=5,15", "other.mp4", "third.mp4#t=3", "fourth.mp4"]
    sets = split(Split(), of_pieces(whole, shifted))
    of = [{s.trial.stimulus for s in part} for part in (sets.train, sets.val, sets.test)]
    together = {"film.mp4#t=0,10", "film.mp4#t=10,20", "film.mp4#t=5,15"}
    assert [together & names for names in of if together & names] == [together]
    with pytest.raises(ValueError, match=r"same stimulus would be in train and .*: film.mp4#t=0,20\."):
        split(Split(by="subject", val_units=("sub-3",), test_units=("sub-2",)), of_pieces(whole, shifted, ["a.mp4"]))
    # The whole film has all pieces, and a piece without an end lasts as long as it was presented
    with pytest.raises(ValueError, match=r"in train and test: film.mp4\."):
        split(Split(by="subject", val_units=("sub-3",), test_units=("sub-2",)), of_pieces(whole, ["film.mp4"], ["a"]))
    for start, leaks in ((39.0, True), (40.0, False), (39.995, False)):
        study = of_pieces([f"film.mp4#t={start - 10:g}"], ["film.mp4#t=30,39"], [f"film.mp4#t={start:g}"])
        cfg = Split(by="subject", val_units=("sub-2",), test_units=("sub-3",))
        if leaks:
            with pytest.raises(ValueError, match="same stimulus"):
                split(cfg, study)
        else:
            with pytest.raises(ValueError, match="in train and val"):
                split(cfg, study)


SOON: list[Windows] = [
    EpochWindows(tmin_s=-0.1, tmax_s=0.4, overlap=True),
    EpochWindows(tmin_s=0.25, tmax_s=1.13, overlap=True),
    EpochWindows(tmin_s=-0.71, tmax_s=-0.3, overlap=True),
    GridWindows(length_s=0.09),
]


PARTS = ("train", "val", "train", "test")


def pictures(sfreq: float, soa_s: float = 0.2, n: int = 400) -> list[Stored]:
    """Pictures in quick succession, with the set of each in the events, in blocks of 40."""
    return [
        Stored(
            Path("nowhere.h5"), "sub-1", "sub-1", "", "", ("Cz",),
            tuple(
                Trial(5.0 + soa_s * at, soa_s / 2, f"{at}.png", {"split": PARTS[at // 40 % 4]}) for at in range(n)
            ),
            {"signal": Block(0, (round(sfreq * (10 + soa_s * n)), 1), sfreq)},
        )
    ]  # fmt: skip


@pytest.mark.parametrize("windows", SOON, ids=lambda cfg: f"{cfg.name}{getattr(cfg, 'tmin_s', '')}")
@pytest.mark.parametrize("sfreq", [100.0, 250.0, 137.3])
def test_no_sample_stands_in_two_parts_windows_included(windows: Windows, sfreq: float) -> None:
    study = pictures(sfreq)
    sets = split(Split(by="label"), study, windows)
    seen = []
    for part in (sets.train, sets.val, sets.test):
        places, _ = cut(windows, part, study)
        seen.append({k for first, n in zip(places.start, places.n_times, strict=True) for k in range(first, first + n)})
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    before = split(Split(by="label"), study)
    assert len(sets.test) == len(before.test), "what tests stays whole"
    n_left = len(before.train) - len(sets.train), len(before.val) - len(sets.val)
    audit = " ".join(sets.audit())
    assert (f"left out: {n_left[0]} of training, {n_left[1]} of validation" in audit) == any(n_left)
    assert audit.endswith("No sample is in two sets.") and (n_left[0] > 0) == (windows.name == "epochs")
    assert " ".join(before.audit()).endswith("as long as windows stay within their trials.")


def test_windows_that_leave_nothing_to_train_with_are_refused() -> None:
    with pytest.raises(ValueError, match=r"left for train: all its windows reach into .*; shorten them"):
        split(Split(by="stimulus"), pictures(100.0), EpochWindows(tmin_s=0, tmax_s=20.0, overlap=True))


def test_windows_that_meet_between_two_trials_are_refused() -> None:
    study = of_pieces(["a", "b", "c", "d"])
    cfg = Split(by="stimulus", val_units=("b",), test_units=("d",))
    assert len(split(cfg, study, EpochWindows(tmin_s=-0.5, tmax_s=10.5)).train) == 2
    message = r"those of a at 1.00 s \(train\) and of b at 12.00 s \(val\): shorten them.*overlap=true"
    with pytest.raises(ValueError, match=message):
        split(cfg, study, EpochWindows(tmin_s=-0.5, tmax_s=10.6))
    with pytest.raises(ValueError, match="nothing is left for train: all its windows reach into"):
        split(cfg, study, EpochWindows(tmin_s=-0.5, tmax_s=10.6, overlap=True))


def test_copies_are_found_wherever_the_first_of_them_stands() -> None:
    by_label = Split(by="label", shared=("subject", "stimulus"))

    def recording(name: str, *split_into: str, **known: object) -> Stored:
        trials = tuple(Trial(10.0 * at, 8.0, f"{name}-{at}", {"split": part}) for at, part in enumerate(split_into))
        return replace(of_pieces(["x"])[0], name=name, subject=name, trials=trials, **known)  # type: ignore[arg-type]

    others = [recording("o", "train", "val", "test")]
    split(by_label, [*others, recording("a", "train", "test", checksum="1"), recording("b", "val", checksum="2")])
    for one, other in ((("train", "val"), ("train",)), (("val",), ("train", "val")), (("train", "test"), ("test",))):
        for key, how in (("checksum", "hold exactly the same samples"), ("made", "are made from copies of one file")):
            known = {key: "1" if key == "checksum" else {"content": "1"}}
            with pytest.raises(ValueError, match=how):
                split(by_label, [*others, recording("a", *one, **known), recording("b", *other, **known)])
    split(by_label, [*others, recording("a", "test", checksum="1"), recording("b", "test", checksum="1")])


@pytest.mark.parametrize("deal", ["balanced", "stratified"])
def test_folds_are_those_of_scikit_learn(deal: str) -> None:
    """Nine subjects with unlike many trials, of two classes."""
    recordings = []
    for more, stored in enumerate(study(9, 12)):
        trials = (replace(trial, labels={"side": "lr"[k % 2]}) for k, trial in enumerate(stored.trials[: 3 + more]))
        recordings.append(replace(stored, trials=tuple(trials)))
    groups = [stored.subject for stored in recordings for _ in stored.trials]
    sides = [trial.labels["side"] for stored in recordings for trial in stored.trials]
    theirs = GroupKFold(3) if deal == "balanced" else StratifiedGroupKFold(3, shuffle=True, random_state=5)
    everything = [(stored.subject, trial.start) for stored in recordings for trial in stored.trials]
    for fold, (_, test) in enumerate(theirs.split(groups, sides, groups)):
        cfg = Split(by="subject", folds=3, fold=fold, deal=deal, stratify="side", seed=5, shared=("stimulus",))  # type: ignore[arg-type]
        ours = {(recordings[segment.recording].subject, segment.trial.start) for segment in split(cfg, recordings).test}
        assert ours == {everything[index] for index in test}


def test_folds_over_everybody_are_not_within_somebody() -> None:
    with pytest.raises(ValueError, match="deal balanced needs folds over all recordings: set folds and leave within"):
        Split(deal="balanced")
    with pytest.raises(ValueError, match="split.stratify is 'mood', but some trials have no such label"):
        split(Split(by="subject", folds=3, deal="stratified", stratify="mood", shared=("stimulus",)), study(4, 4))


def test_the_ends_of_the_training_trials_choose() -> None:
    sets = split(Split(folds=0, fold=4, val_end=0.25), study())
    assert stimuli(sets.train) == stimuli(sets.val) and len(stimuli(sets.train)) == 9
    assert not stimuli(sets.test) & stimuli(sets.train) and len(stimuli(sets.test)) == 1
    whole = [(segment.recording, segment.trial) for segment in sets.train]
    assert [(segment.recording, segment.trial) for segment in sets.val] == whole
    windows = GridWindows(length_s=2)
    for segments, seconds in ((sets.train, (0, 2, 4)), (sets.val, (6,)), (sets.test, (0, 2, 4, 6))):
        places, origin = cut(windows, segments, study())
        since_s = [start / 64 - segments[which].trial.start for start, which in zip(places.start, origin, strict=True)]
        assert since_s == list(seconds) * len(segments)
    assert sets.audit()[0] == "40 trials: 36 for training, whose ends are for validation, 4 for testing."
    assert not any("sides: piece" in sentence for sentence in sets.audit())


def test_what_tests_may_be_all_that_is_named_where_ends_choose() -> None:
    sets = split(Split(test_units=("piece-3.wav",), val_end=0.1), study())
    assert stimuli(sets.test) == {"piece-3.wav"} and len(sets.train) == len(sets.val) == 36
    with pytest.raises(ValueError, match=r"val_units and test_units name .*: give both"):
        Split(test_units=("piece-3.wav",))
    with pytest.raises(ValueError, match=r"val_end is a share .* got 0.1 and \('b',\)"):
        Split(val_units=("b",), test_units=("a",), val_end=0.1)
    with pytest.raises(ValueError, match="epochs look at a moment of a trial"):
        split(Split(val_end=0.1), study(), EpochWindows(tmax_s=1.0))


def test_a_gap_keeps_training_clear_of_the_ends_that_choose() -> None:
    with pytest.raises(ValueError, match="nothing is left for train"):
        split(Split(val_end=0.1, gap_s=0.5), study())
