"""Preprocessing a study: whatever the number of workers, the same bytes; what cannot be used is named."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eegdecode import stages
from eegdecode.data import Music, store, synth
from eegdecode.preprocessing import Bandpass
from eegdecode.stages import Preprocess
from hpc.context import Context, Input, Preempted, World
from hpc.rundir import RunDir


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four subjects."""
    ctx = Context(World(), RunDir(tmp_path_factory.mktemp("runs") / "study"))
    synth.make_study(Music(n_subjects=4, n_pieces=2, piece_s=(3.0, 5.0), n_channels=4), ctx)
    return ctx.out


def preprocess(run: Path, study: Path, size: int = 1, **settings: object) -> list[dict[str, object]]:
    """By so many ranks at once; what each gives."""
    cfg = Preprocess(Input(str(study)), **settings)  # type: ignore[arg-type]
    with ThreadPoolExecutor(size) as ranks:
        return list(
            ranks.map(lambda rank: stages.preprocess(cfg, Context(World(rank, size), RunDir(run))), range(size))
        )


def content(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "out").iterdir()) if path.is_file()}


@pytest.fixture(scope="module")
def alone(four: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone")
    preprocess(run, four)
    return run


@pytest.mark.parametrize("size", [3, 7])
def test_any_number_of_workers_writes_the_same_bytes(size: int, alone: Path, four: Path, tmp_path: Path) -> None:
    metrics, *others = preprocess(tmp_path, four, size)
    assert content(tmp_path) == content(alone) and len(content(alone)) == 4 + 4
    assert (metrics["recordings"], metrics["subjects"], metrics["failed"], metrics["duplicates"]) == (4, 4, 0, 0)
    assert others == [{}] * (size - 1)


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
    assert "CANNOT BE USED" not in (run / "out/survey.html").read_text().split("To know")[0]
    assert (run / "out/survey.html").read_text().count("cannot be used") == 2
    with pytest.raises(ValueError, match=r"lacks 2 of 4 recordings .*left out by preprocess.exclude"):
        store.open_store(run / "out")
    # left out by name and by subject, what remains is a study
    preprocess(run, study, exclude=("sub-01_*", "sub-03"))
    assert store.open_store(run / "out").subjects == ("sub-02", "sub-04")


def test_mended_and_given_again_only_what_was_missing_is_done(alone: Path, four: Path, tmp_path: Path) -> None:
    study, run = broken(four, tmp_path, ["sub-01"]), tmp_path / "run"
    with pytest.raises(ValueError, match="1 of 4 recordings"):
        preprocess(run, study)
    kept = {path: path.stat().st_mtime_ns for path in (run / "out").glob("*.h5")}
    shutil.rmtree(study)
    shutil.copytree(four, study)
    preprocess(run, study)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept and len(list((run / "out").glob("*.h5"))) == 4


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
    with pytest.raises(ValueError, match=r"exclude: nothing is called sub-9\*; there are sub-01_task-music_run-01"):
        preprocess(tmp_path, four, exclude=("sub-9*",))
    with pytest.raises(ValueError, match="exclude leaves none of the 4 recordings"):
        preprocess(tmp_path, four, exclude=("sub-*",))
