"""The table of a survey shows the content of a study, and names missing, damaged and duplicate recordings."""

from pathlib import Path

from eegdecode.data.survey import study_page
from eegdecode.data.survey.table import RecordingRow, StudyTable


def row(subject: str, run: str, checksum: str = "", **more: object) -> RecordingRow:
    known = {"channels": {"eeg": 32, "misc": 1}, "sfreq": 1000.0, "duration_s": 600.0, "stimuli": {"a.wav": 9}}
    return RecordingRow(f"{subject}_run-{run}", subject, "", run, checksum=checksum, **known | more)  # type: ignore[arg-type]


STUDY = StudyTable(
    (
        row("sub-01", "1", "x"), row("sub-01", "2", "y", labels=("valence",)),
        row("sub-02", "1", "z", notes=("Fp1 is flat",)), row("sub-02", "2", "y", notes=("Fp1 is flat",)),
        row("sub-03", "1"),
        RecordingRow("sub-03_run-3", "sub-03", run="3", failed="sub-03_run-3_eeg.edf is cut off <here>"),
    )
)  # fmt: skip


def test_the_first_sentence_counts() -> None:
    assert STUDY.sentences()[0] == "6 recordings of 3 subjects, 0.8 hours, 45 trials of 1 stimulus, at 1000 Hz."
    assert STUDY.metrics() == {
        "recordings": 6, "subjects": 3, "hours": 0.833, "failed": 1, "duplicates": 1, "without_trials": 0,
    }  # fmt: skip


def test_what_is_wrong_is_named() -> None:
    sentences = STUDY.sentences()
    assert "CANNOT BE USED: sub-03_run-3: sub-03_run-3_eeg.edf is cut off <here>" in sentences
    assert "THE SAME SAMPLES: sub-01_run-2 and sub-02_run-2 are one recording under several names." in sentences
    assert "MISSING: sub-03 lacks run 2." in sentences
    assert "Fp1 is flat (2 recordings)" in sentences


def test_the_table_has_a_line_a_recording_and_no_empty_column() -> None:
    head, *lines = STUDY.table().splitlines()
    assert head.split() == ["recording", "subject", "run", "channels", "Hz", "minutes", "trials", "stimuli", "labels"]
    assert len(lines) == 6 and lines[1].split() == (
        ["sub-01_run-2", "sub-01", "2", "32", "eeg", "+", "1", "misc", "1000", "10.0", "9", "1", "valence"]
    )


def test_the_files_hold_all_of_it_and_escape_what_is_said(tmp_path: Path) -> None:
    study_page.write(tmp_path, "A <study>", STUDY)
    page = (tmp_path / "survey.html").read_text()
    assert "A &lt;study&gt;" in page and "cut off &lt;here&gt;" in page and "sub-02_run-2" in page
    assert len((tmp_path / "survey.tsv").read_text().splitlines()) == 7


def test_recordings_without_a_trial_are_counted_and_named() -> None:
    table = StudyTable((row("sub-01", "1"), row("sub-02", "1", stimuli={}), row("sub-03", "1", stimuli={})))
    assert table.metrics()["without_trials"] == 2
    assert "NO TRIAL: sub-02_run-1 and sub-03_run-1: nothing can be decoded there, check events." in table.sentences()


def test_a_copy_is_found_by_its_samples_or_by_its_file() -> None:
    rows = (
        row("sub-01", "1", "x", content="f"), row("sub-02", "1", "y", content="g"), row("sub-03", "1", "y"),
        row("sub-04", "1", "z", content="f"), row("sub-05", "1", content="g"), row("sub-06", "1", "w", content="h"),
    )  # fmt: skip
    assert StudyTable(rows).duplicates == [
        ["sub-01_run-1", "sub-04_run-1"],
        ["sub-02_run-1", "sub-03_run-1", "sub-05_run-1"],
    ]
    assert StudyTable(rows).metrics()["duplicates"] == 3
