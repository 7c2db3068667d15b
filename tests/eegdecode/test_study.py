"""Preprocessing gives the same bytes with any number of workers; recordings that cannot be used are named."""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from eegdecode import stages
from eegdecode.data.config import FilmEvents, FixedLengthEvents, Split
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.targets.embedding import Embedding
from eegdecode.data.targets.envelope import Envelope
from eegdecode.data.targets.frame import Frame
from eegdecode.data.targets.image import Image
from eegdecode.data.targets.label import Label
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.set_channels import SetChannels
from eegdecode.synth.config import Images, MegMovie, Music
from eegdecode.synth.study import make_study
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir
from tests.eegdecode.ranks import on_ranks


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four subjects."""
    ctx = Context(World(), RunDir(tmp_path_factory.mktemp("runs") / "study"))
    make_study(Music(n_subjects=4, n_pieces=2, piece_s=(3.0, 5.0), n_channels=4), ctx)
    return ctx.out


def preprocess(run: Path, study: Path, size: int = 1, **settings: object) -> list[dict[str, object]]:
    """By so many ranks at once; what each gives."""
    cfg = Preprocess(Input(str(study)), **settings)  # type: ignore[arg-type]
    return on_ranks(stages.preprocess, cfg, run, size)


def content(run: Path) -> dict[str, bytes]:
    """Every product, without the lists of the ranks that wrote them."""
    files = (path for path in sorted((run / "out").rglob("*")) if path.is_file() and path.name[0] != ".")
    return {path.relative_to(run / "out").as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(four: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone")
    preprocess(run, four)
    return run


@pytest.mark.parametrize("size", [3, 7])
def test_any_number_of_workers_writes_the_same_bytes(size: int, alone: Path, four: Path, tmp_path: Path) -> None:
    metrics, *others = preprocess(tmp_path, four, size)
    assert content(tmp_path) == content(alone) and len(content(alone)) == 4 + 4 + 4 + 5
    assert (metrics["recordings"], metrics["subjects"], metrics["failed"], metrics["duplicates"]) == (4, 4, 0, 0)
    assert others == [{}] * (size - 1)


def test_it_computes_in_one_thread_whatever_was_given(four: Path, tmp_path: Path) -> None:
    """In two, a BLAS comes to other last bits with some processors' kernels."""

    def blas() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    seen: list[set[int]] = []
    ctx = Context(World(), RunDir(tmp_path), should_stop=lambda: bool(seen.append(blas())))  # type: ignore[func-returns-value]
    with threadpool_limits(2):
        stages.preprocess(Preprocess(Input(str(four))), ctx)
        assert blas() == {2}
    assert len(seen) > 4 and all(threads == {1} for threads in seen)


def test_stopped_at_any_recording_it_goes_on_to_the_same_bytes(alone: Path, four: Path, tmp_path: Path) -> None:
    cfg = Preprocess(Input(str(four)))
    for looks in range(1, 100):
        left = iter(range(looks))
        ctx = Context(World(), RunDir(tmp_path), should_stop=lambda left=left: next(left, None) is None)  # type: ignore[misc]
        try:
            stages.preprocess(cfg, ctx)
        except Preempted:
            continue
        break
    assert looks > 3, "it was stopped at several places"
    assert content(tmp_path) == content(alone)


def broken(four: Path, tmp_path: Path, names: Sequence[str]) -> Path:
    study = tmp_path / "broken"
    shutil.copytree(four, study)
    for name in names:
        (path,) = study.glob(f"{name}/eeg/*_eeg.edf")
        path.write_bytes(path.read_bytes()[:-5000])
    return study


@pytest.mark.parametrize("size", [1, 2])
def test_what_cannot_be_used_is_named_and_the_others_are_done(size: int, four: Path, tmp_path: Path) -> None:
    study, run = broken(four, tmp_path, ["sub-01", "sub-03"]), tmp_path / "run"
    with pytest.raises(ValueError, match=r"(?s)2 of 4 recordings cannot be used; the others are done:.*sub-01.*sub-03"):
        preprocess(run, study, size)
    stored = {path.name for path in (run / "out").glob("*.h5")}
    assert stored == {"sub-02_task-music_run-01.h5", "sub-04_task-music_run-01.h5"}
    assert "CANNOT BE USED" not in (run / "out/preprocess.html").read_text().split('id="to-know"')[0]
    assert (run / "out/preprocess.html").read_text().count('class="why"') == 2
    with pytest.raises(ValueError, match=r"lacks 2 of 4 recordings .*leave out .* with preprocess.exclude"):
        store.open_store(run / "out")
    # left out by name and by subject, what remains is a study
    preprocess(run, study, exclude=("sub-01_*", "sub-03"))
    assert store.open_store(run / "out").subjects == ("sub-02", "sub-04")


def test_mended_and_given_again_only_what_was_missing_is_done(alone: Path, four: Path, tmp_path: Path) -> None:
    study, run = broken(four, tmp_path, ["sub-01"]), tmp_path / "run"
    with pytest.raises(ValueError, match="1 of 4 recordings"):
        preprocess(run, study)
    written_ns = {path: path.stat().st_mtime_ns for path in (run / "out").glob("*.h5")}
    shutil.rmtree(study)
    shutil.copytree(four, study)
    preprocess(run, study)
    assert {path: path.stat().st_mtime_ns for path in written_ns} == written_ns and len(
        list((run / "out").glob("*.h5"))
    ) == 4


def test_other_settings_or_other_content_are_not_taken_for_the_same(four: Path, tmp_path: Path) -> None:
    study, run = broken(four, tmp_path, []), tmp_path / "run"

    def keys() -> dict[str, str]:
        return {stored.name: stored.key for stored in store.open_store(run / "out").recordings}

    preprocess(run, study)
    first = keys()
    assert len(set(first.values())) == 4
    preprocess(run, study, steps=(Bandpass(high_hz=15.0),))
    second = keys()
    assert not set(first.values()) & set(second.values())
    (wav,) = study.glob("stimuli/piece-01.wav")
    wav.write_bytes(wav.read_bytes()[:-2] + b"\x01\x00")  # the same size
    preprocess(run, study, steps=(Bandpass(high_hz=15.0),))
    assert not set(second.values()) & set(keys().values())


def test_to_leave_out_what_is_not_there_is_a_slip(four: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"exclude: no recording matches sub-9\*; there are sub-01_task-music_run-01"):
        preprocess(tmp_path, four, exclude=("sub-9*",))
    with pytest.raises(ValueError, match="exclude leaves none of the 4 recordings"):
        preprocess(tmp_path, four, exclude=("sub-*",))


def test_one_reason_is_told_once_and_the_hint_keeps_what_was_left_out_before(four: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 of 3 recordings cannot be used") as failure:
        preprocess(tmp_path, four, exclude=("*-03*",), steps=(SetChannels(channels=("Fz", "Nowhere")),))
    message = str(failure.value)
    assert message.count("Nowhere") == 1 and "sub-01_task-music_run-01, sub-02_task-music_run-01 and sub-04" in message
    names = ",".join(f"sub-0{number}_task-music_run-01" for number in (1, 2, 4))
    assert message.endswith(f"leave them out, 'preprocess.exclude=[\"*-03*\",{names}]'")


def test_a_picture_is_an_image_a_label_and_an_embedding_of_any_folder(tmp_path: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path / "made"))
    make_study(Images(n_subjects=1, n_train=4, n_test=2, n_channels=4), ctx)
    shutil.copy(ctx.out / "stimuli/images.npy", tmp_path / "elsewhere.npy")
    clip = Embedding("stimuli/images.npy", index="stimuli/images.tsv", title="clip")
    far = Embedding(str(tmp_path / "elsewhere.npy"), index=str(ctx.out / "stimuli/images.tsv"))
    preprocess(tmp_path / "run", ctx.out, targets=(Image(), Label(), clip, far), steps=(Pick(),))
    vectors, opened = np.load(tmp_path / "elsewhere.npy"), store.open_store(tmp_path / "run/out")
    assert opened.spec("image").classes == opened.spec("stimulus").classes and len(opened.spec("image").classes) == 6
    for stored in opened.recordings:
        np.testing.assert_array_equal(stored.values("image"), stored.values("stimulus"))
        rows = [int(trial.labels["embedding_row"]) for trial in stored.trials]
        np.testing.assert_array_equal(stored.values("clip"), vectors[rows])
        np.testing.assert_array_equal(stored.values("elsewhere"), vectors[rows])
        assert str(tmp_path / "elsewhere.npy") in stored.made["sources"] and len(stored.made["content"]) == 32


def test_films_of_all_sessions_are_one_study_in_one_run(tmp_path: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path / "made"))
    make_study(MegMovie(n_subjects=2, n_titles=2, n_parts=1, part_s=32.0, n_channels=4), ctx)
    films = FilmEvents(channel="STI 014", fallback="MISC 001", column="stim_file")
    cfg = {
        "events": FixedLengthEvents(length_s=5.0, of=films),
        "steps": (Resample(100.0),),
        "targets": (Frame(sfreq=100.0),),
    }
    metrics, *_ = preprocess(tmp_path / "run", ctx.out, **cfg)
    assert (metrics["recordings"], metrics["failed"], metrics["without_trials"]) == (4, 0, 0)
    recordings = store.open_store(tmp_path / "run/out").recordings
    assert [{trial.labels["fps"] for trial in stored.trials} for stored in recordings] == [{29.97}, {25.0}] * 2
    for first, second in zip(recordings[:2], recordings[2:], strict=True):
        assert [trial.stimulus for trial in first.trials] == [trial.stimulus for trial in second.trials]
        fps = float(first.trials[0].labels["fps"])
        for trial in first.trials[1:]:
            since_s = float(trial.stimulus.split("=")[1].split(",")[0])
            at = int(np.ceil(trial.start * 100))
            assert first.target("frame")[at, 0] == pytest.approx(since_s * fps, abs=1)
    sets = splits.split(Split(), recordings)
    stimuli = [{segment.trial.stimulus for segment in part} for part in (sets.train, sets.val, sets.test)]
    assert not stimuli[0] & stimuli[1] and not stimuli[0] & stimuli[2] and not stimuli[1] & stimuli[2]


@pytest.mark.skipif(os.getuid() != 0, reason="a small disk is mounted, which takes root")
def test_on_a_full_disk_it_waits_for_room(four: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", small], check=False).returncode != 0:
        pytest.skip("mount does not work here, as in a container")
    filler = small / "filler"

    def somebody_makes_room() -> bool:
        if "ALERT" in caplog.text:
            filler.unlink(missing_ok=True)
        return False

    try:
        filler.write_bytes(b"x" * 3_500_000)
        ctx = Context(World(), RunDir(small / "run"), should_stop=somebody_makes_room)
        with caplog.at_level(logging.ERROR):
            metrics = stages.preprocess(Preprocess(Input(str(four)), targets=(Envelope(),)), ctx)
        assert metrics["recordings"] == 4 and len(store.open_store(ctx.out).recordings) == 4
        (alert,) = [record.getMessage() for record in caplog.records if "ALERT" in record.getMessage()]
        assert re.match(rf"ALERT {ctx.out}: No space left on device, 1 MB are free and 1 MB needed. Free some", alert)
        # Asked to stop instead, it stops
        filler.write_bytes(b"x" * shutil.disk_usage(small).free)
        stopped = Context(World(), RunDir(small / "run"), attempt=0, should_stop=lambda: "ALERT" in caplog.text)
        caplog.clear()
        with pytest.raises(Preempted):
            stages.preprocess(Preprocess(Input(str(four)), steps=(Bandpass(),)), stopped)
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_label_may_be_that_of_the_subject(four: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(four, study)
    scores = "".join(f"sub-{number:02d}\t{0.5 * number}\tmusic\n" for number in (1, 2, 3, 4))
    (study / "participants.tsv").write_text("participant_id\tscore\ttrial_type\n" + scores)
    cfg = Preprocess(Input(str(study)), targets=(Label(column="score"),))
    ctx = Context(World(), RunDir(tmp_path / "run"))
    stages.preprocess(cfg, ctx)
    opened = store.open_store(ctx.out)
    assert [stored.values("score").tolist() for stored in opened.recordings] == [[[0.5 * n]] * 2 for n in (1, 2, 3, 4)]

    # What participants.tsv says counts as much as what the recordings hold
    (study / "participants.tsv").write_text("participant_id\tscore\n" + "".join(f"sub-0{n}\t7\n" for n in range(1, 5)))
    stages.preprocess(cfg, ctx)
    assert {float(value) for r in store.open_store(ctx.out).recordings for value in r.values("score")[:, 0]} == {7.0}
