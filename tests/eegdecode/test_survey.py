"""A survey of a raw study detects damage and duplicates before anything is computed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from eegdecode import stages
from eegdecode.data.config import Survey
from eegdecode.signals import Signal
from eegdecode.synth.config import Motor, Music
from eegdecode.synth.formats import write_brainvision
from eegdecode.synth.study import make_study
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir
from tests.eegdecode.ranks import on_ranks


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ctx = Context(World(), RunDir(tmp_path_factory.mktemp("runs") / "study"))
    make_study(Music(n_subjects=3, n_pieces=2, piece_s=(3.0, 5.0), n_channels=4), ctx)
    return ctx.out


def survey(run: Path, *studies: Path, size: int = 1, samples: bool = True) -> dict[str, object]:
    cfg = Survey(tuple(Input(str(study)) for study in studies), samples=samples)
    return on_ranks(stages.survey, cfg, run, size)[0]


def survey_page(run: Path) -> str:
    return (run / "out/survey.html").read_text()


def test_it_counts_and_any_number_of_ranks_says_the_same(three: Path, tmp_path: Path) -> None:
    metrics = survey(tmp_path / "one", three)
    assert (metrics["recordings"], metrics["subjects"], metrics["failed"], metrics["duplicates"]) == (3, 3, 0, 0)
    survey(tmp_path / "two", three, size=2)
    for name in ("survey.html", "survey.tsv"):
        assert (tmp_path / "one/out" / name).read_bytes() == (tmp_path / "two/out" / name).read_bytes()
    assert "6 trials of 2 stimuli, at 250 Hz" in survey_page(tmp_path / "one")
    assert "4 eeg + 1 eog + 1 misc" in survey_page(tmp_path / "one")


def test_the_same_samples_under_another_name_and_in_another_format_are_found(three: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(three, study)
    for path in study.glob("sub-02/eeg/*"):  # BrainVision names its parts inside
        new = study / "sub-09/eeg" / path.name.replace("sub-02", "sub-09")
        new.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        new.write_bytes(data if path.suffix == ".eeg" else data.replace(b"sub-02", b"sub-09"))
    assert survey(tmp_path / "run", study)["duplicates"] == 1
    assert "THE SAME SAMPLES: sub-02_task-music_run-01 and sub-09_task-music_run-01" in survey_page(tmp_path / "run")
    assert survey(tmp_path / "headers", study, samples=False)["duplicates"] == 0


def test_what_is_damaged_is_named_with_its_cause(three: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(three, study)
    (edf,) = study.glob("sub-01/eeg/*.edf")
    edf.write_bytes(edf.read_bytes()[:-3000])
    (vhdr,) = study.glob("sub-02/eeg/*.vhdr")
    data = np.full((2000, 6), 20.0) * np.random.default_rng(0).normal(size=(2000, 6))  # 20 µV, written as volt
    write_brainvision(vhdr, Signal(data.astype(np.float32), 250.0, ("Fp1", "Fp2", "F3", "Fz", "VEOG", "Belt")))
    assert survey(tmp_path / "run", study)["failed"] == 2
    page = survey_page(tmp_path / "run")
    assert "CANNOT BE USED: sub-01_task-music_run-01: " in page and "cut" in page
    assert "CANNOT BE USED: sub-02_task-music_run-01: " in page and "10" in page


def test_trials_are_what_was_done_where_nothing_was_played(tmp_path: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path / "made"))
    make_study(Motor(n_subjects=1, n_trials=4), ctx)
    survey(tmp_path / "run", ctx.out)
    assert "8 trials of" in survey_page(tmp_path / "run")


def test_of_several_studies_every_recording_counts_and_says_whose_it_is(three: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(three, tmp_path / name)
    metrics = survey(tmp_path / "run", tmp_path / "a", tmp_path / "b", size=2)
    assert (metrics["recordings"], metrics["duplicates"], metrics["subjects"]) == (6, 3, 3)
    assert "a/sub-01_task-music_run-01 and b/sub-01_task-music_run-01 are one recording" in survey_page(
        tmp_path / "run"
    )
    header, *rows = (tmp_path / "run/out/survey.tsv").read_text().splitlines()
    assert header.startswith("study\trecording") and [line.split("\t")[0] for line in rows] == ["a"] * 3 + ["b"] * 3
    # Two folders of one name are told apart by their paths
    shutil.copytree(three, tmp_path / "other/a")
    survey(tmp_path / "alike", tmp_path / "a", tmp_path / "other/a", samples=False)
    assert f"<td>{tmp_path}/other/a</td>" in survey_page(tmp_path / "alike")


def test_a_copy_is_found_though_another_table_is_beside_it(three: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(three, study)
    for path in study.glob("sub-01/eeg/*"):
        new = study / "sub-09/eeg" / path.name.replace("sub-01", "sub-09")
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, new)
    (table,) = study.glob("sub-09/eeg/*_channels.tsv")
    table.write_text(table.read_text().replace("Fp1\tEEG", "Fp1\tEOG"))
    assert survey(tmp_path / "run", study)["duplicates"] == 1
    assert "THE SAME SAMPLES: sub-01_task-music_run-01 and sub-09_task-music_run-01" in survey_page(tmp_path / "run")


def test_a_file_that_cannot_be_opened_is_named_and_the_others_are_looked_at(three: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(three, study)
    for number, what in ((1, "channels"), (2, "events")):
        (table,) = study.glob(f"sub-{number:02d}/eeg/*_{what}.tsv")
        table.unlink()
        table.mkdir()  # as root, all that has rights can be read
    metrics = survey(tmp_path / "run", study)
    assert (metrics["recordings"], metrics["failed"], metrics["without_trials"]) == (3, 1, 1)
    assert "CANNOT BE USED: sub-01_task-music_run-01: [Errno 21] Is a directory" in survey_page(tmp_path / "run")
    assert "no trials: [Errno 21] Is a directory" in survey_page(tmp_path / "run")
