"""Events and labels come from wherever people keep them: files of events, markers in a .mat, tables, names of files."""

import gzip
import os
import re
import struct
from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.io

from eegdecode import stages
from eegdecode.data.config import (
    BidsEvents,
    Events,
    FileEvents,
    FixedLengthEvents,
    TriggerEvents,
)
from eegdecode.data.events import of_recording
from eegdecode.data.io import event_files, recordings
from eegdecode.data.store import store
from eegdecode.preprocessing import check
from eegdecode.preprocessing.config import Preprocess
from eegdecode.signals import Trial
from hpc import config
from hpc.errors import ConfigError
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir

HZ, N = 100.0, 1500
ONSETS_S, CODES = np.array([1.0, 4.0, 7.5, 11.0]), np.array([1, 2, 1, 2])
EXPECTED = [(1.0, "1"), (4.0, "2"), (7.5, "1"), (11.0, "2")]
EEG = 1e-5 * np.random.default_rng(0).normal(size=(3, N))


def write_fif(path: Path, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = mne.io.RawArray(EEG, mne.create_info(["Fz", "Cz", "Pz"], HZ, "eeg"), first_samp=first, verbose="error")
    raw.save(path, overwrite=True, verbose="error")
    return path


def write_mat(path: Path, **variables: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)
    return path


def trials_of(study: Path, cfg: Events | None, *asked: str, files: str = "{subject}.*") -> tuple[Trial, ...]:
    entry, *_ = recordings.find(study, files)
    return of_recording.trials(cfg, entry, recordings.open_entry(entry), asked).trials


def seen(trials: tuple[Trial, ...]) -> list[tuple[float, str]]:
    return [(round(trial.start, 6), trial.stimulus) for trial in trials]


def samples(first: int = 0) -> np.ndarray:
    """[event, (sample, before, code)] as MNE has it."""
    return np.c_[(ONSETS_S * HZ).astype(int) + first, 0 * CODES, CODES]


def vector() -> np.ndarray:
    values = np.zeros(N)
    for onset_s, code in zip(ONSETS_S, CODES, strict=True):
        values[round(onset_s * HZ) : round(onset_s * HZ) + 5] = code
    return values


@pytest.mark.parametrize("end", ["-eve.fif", "_eve.fif", "-eve.fif.gz", ".eve", "-eve.txt"])
def test_events_of_mne_next_to_a_recording_count_from_the_start_of_the_acquisition(end: str, tmp_path: Path) -> None:
    write_fif(tmp_path / "s01_raw.fif", first=700)
    mne.write_events(tmp_path / f"s01{end}", samples(700).astype(int), verbose="error")
    for cfg in (
        BidsEvents(duration_s=2.0),
        FileEvents(duration_s=2.0),
        FileEvents(file=f"{{subject}}{end}", duration_s=2),
    ):
        assert seen(trials_of(tmp_path, cfg, files="{subject}_raw.fif")) == EXPECTED
    chosen = FileEvents(codes={"1": "left_{subject}"}, duration_s=2.0)
    assert seen(trials_of(tmp_path, chosen, files="{subject}_raw.fif")) == [
        (1.0, "left_sub-s01"),
        (7.5, "left_sub-s01"),
    ]
    (entry,) = recordings.find(tmp_path, "{subject}*.fif")
    assert entry.path.name == "s01_raw.fif", "a file of events is no recording"


def test_old_lines_with_seconds_and_comments_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.eve").write_text("# comment\n  100   1.000    0   1\n\n 400 4.0 0 2 # the second\n")
    assert event_files.read(tmp_path / "a.eve").tolist() == [[100, 1], [400, 2]]


def test_names_of_codes_in_a_fif_are_the_trial_type(tmp_path: Path) -> None:
    write_fif(tmp_path / "s01_raw.fif")
    mne.write_events(tmp_path / "s01-eve.fif", samples().astype(int), verbose="error")
    content, text = (tmp_path / "s01-eve.fif").read_bytes(), b"left: hand:1;right:2"
    end = content.rindex(struct.pack(">2i", 108, 0))  # of the file
    (tmp_path / "s01-eve.fif").write_bytes(content[:end] + struct.pack(">4i", 206, 10, len(text), 0) + text)
    trials = trials_of(tmp_path, BidsEvents(duration_s=1), "trial_type", "value", files="{subject}_raw.fif")
    assert [(t.stimulus, t.labels["trial_type"], t.labels["value"]) for t in trials[:2]] == [
        ("left: hand", "left: hand", 1.0),
        ("right", "right", 2.0),
    ]


MATLAB = {
    "positions and codes": {"data": EEG * 1e6, "fs": HZ, "stimpos": ONSETS_S * HZ + 1, "stimcode": CODES},
    "in the struct of the signal": {
        "EEG": {"data": EEG * 1e6, "srate": HZ, "stimpos": ONSETS_S * HZ + 1, "stimcode": CODES}
    },
    "an event array": {"X": EEG * 1e6, "fs": HZ, "events": np.c_[ONSETS_S * HZ + 1, 0 * CODES, CODES]},
    "seconds": {"X": EEG * 1e6, "fs": HZ, "onset": ONSETS_S, "type": CODES},
    "one-hot": {
        "cnt": EEG.T * 1e6, "mrk": {"pos": ONSETS_S * HZ + 1, "y": np.array([CODES == 1, CODES == 2])}, "fs": HZ,
    },
    "a trigger channel": {"X": EEG * 1e6, "fs": HZ, "trigger": vector()},
    "struct array": {
        "EEG": {"data": EEG * 1e6, "srate": HZ, "event": np.array(
            [(float(s), c) for s, c in zip(ONSETS_S * HZ + 1, CODES, strict=True)], [("latency", "f8"), ("type", "O")]
        )},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", MATLAB)
def test_markers_in_a_mat_are_recognised(kind: str, tmp_path: Path) -> None:
    write_mat(tmp_path / "s01.mat", **MATLAB[kind])
    read = trials_of(tmp_path, BidsEvents(duration_s=2.0))
    assert [(round(t.start, 6), t.stimulus) for t in read] == EXPECTED
    assert seen(trials_of(tmp_path, FileEvents(duration_s=2.0))) == EXPECTED


def test_classes_have_their_names_and_trials_without_a_code_are_left_out(tmp_path: Path) -> None:
    y = np.array([-1.0, 1, np.nan, 1])
    names = np.array(["foot", "hand"], object)
    write_mat(tmp_path / "s01.mat", cnt=EEG.T, mrk={"pos": ONSETS_S * HZ + 1, "y": y}, nfo={"fs": HZ, "classes": names})
    trials = trials_of(tmp_path, BidsEvents(duration_s=2.0), "trial_type")
    assert [(t.start, t.labels["trial_type"]) for t in trials] == [(1.0, "foot"), (4.0, "hand"), (11.0, "hand")]


def test_markers_of_several_kinds_are_chosen_by_name(tmp_path: Path) -> None:
    other = {"pos": ONSETS_S * HZ + 51, "y": CODES}
    write_mat(tmp_path / "s01.mat", X=EEG, fs=HZ, a=other, stimpos=ONSETS_S * HZ + 1, stimcode=CODES, odd=CODES)
    with pytest.raises(
        ValueError, match=r"several markers: a.pos and a.y, stimpos and stimcode: choose with .*onset=a"
    ):
        trials_of(tmp_path, BidsEvents(duration_s=2.0))
    assert seen(trials_of(tmp_path, FileEvents(onset="stimpos", duration_s=2.0))) == EXPECTED
    assert seen(trials_of(tmp_path, FileEvents(onset="a.pos", code="a.y", duration_s=2.0)))[0] == (1.5, "1")
    ms = FileEvents(onset="stimpos", code="odd", unit="ms", duration_s=0.1)
    assert seen(trials_of(tmp_path, ms))[0] == (0.101, "1")
    for cfg, message in (
        (FileEvents(onset="b.pos"), "has no variable b.pos; there are .*: correct events.onset"),
        (FileEvents(onset="X"), "X is 3 x 1500, but onsets are a vector"),
        (FileEvents(onset="stimpos", code="X"), "stimpos has 4 onsets, but X is 3 x 1500: each onset needs a code"),
    ):
        with pytest.raises(ValueError, match=message):
            trials_of(tmp_path, cfg)


def test_a_trigger_channel_may_be_a_column_of_a_table_or_a_variable(tmp_path: Path) -> None:
    write_fif(tmp_path / "s01_raw.fif")
    rows = "".join(f"{k / HZ},{value:g}\n" for k, value in enumerate(vector()))
    (tmp_path / "s01_trig.csv").write_text(f"time,Trigger\n{rows}")
    write_mat(tmp_path / "s01_trig.mat", codes=vector())
    for file, channel in (("{subject}_trig.csv", "Trigger"), ("{subject}_trig.mat", "codes")):
        cfg = TriggerEvents(file=file, channel=channel, duration_s=2.0)
        assert seen(trials_of(tmp_path, cfg, files="{subject}_raw.fif")) == EXPECTED
    pieces = FixedLengthEvents(length_s=1.0, of=cfg)
    assert len(trials_of(tmp_path, pieces, files="{subject}_raw.fif")) == 8
    (tmp_path / "short.csv").write_text("trig\n1\n0\n")
    for cfg, message in (
        (TriggerEvents(file="short.csv", channel="trig"), "has 2 rows, but s01_raw.fif has 1500 samples"),
        (TriggerEvents(file="short.csv", channel="tri"), "short.csv has no column tri; there are trig"),
        (TriggerEvents(file="no.csv", channel="trig"), "there is no .*no.csv: add it, or correct events.file"),
        (TriggerEvents(file="../short.csv", channel="trig"), "leads out of it"),
    ):
        with pytest.raises(ValueError, match=message):
            trials_of(tmp_path, cfg, files="{subject}_raw.fif")
    write_mat(tmp_path / "in/s02.mat", EEG={"data": EEG, "fs": HZ, "din": vector()})
    assert seen(trials_of(tmp_path / "in", TriggerEvents(channel="din", duration_s=2.0))) == EXPECTED


def test_a_table_of_events_has_any_columns(tmp_path: Path) -> None:
    write_fif(tmp_path / "s01_raw.fif")
    rows = [f"{s * 1000:g};{c};{'easy' if c == 1 else 'hard'}" for s, c in zip(ONSETS_S, CODES, strict=True)]
    (tmp_path / "s01.csv").write_text("\n".join(["time_ms;marker;level", *rows]))
    trials = trials_of(tmp_path, FileEvents(file="{subject}.csv", duration_s=2.0), files="{subject}_raw.fif")
    assert seen(trials) == EXPECTED and [t.labels for t in trials[:2]] == [{"level": "easy"}, {"level": "hard"}]
    (tmp_path / "s01.tsv").write_text("when\twhat\n100\t1\n")
    cfg = FileEvents(file="{subject}.tsv", onset="when", code="what", unit="samples", duration_s=1.0)
    assert seen(trials_of(tmp_path, cfg, files="{subject}_raw.fif")) == [(1.0, "1")]
    with pytest.raises(ValueError, match=r"no column that can be recognised as onset; there are when, what: name it"):
        trials_of(tmp_path, FileEvents(file="{subject}.tsv"), files="{subject}_raw.fif")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no FIF file"),
        (
            b"\0\0\0\x64\0\0\0\x1f\0\0\0\x14\0\0\0\0" + bytes(20) + struct.pack(">4i", 3561, 3, 1 << 30, 0),
            "promises 1073",
        ),
        (
            b"\0\0\0\x64\0\0\0\x1f\0\0\0\x14\0\0\0\0" + bytes(20) + struct.pack(">4i", 1, 3, 0, 4),
            "leads back to byte 4",
        ),
        (
            b"\0\0\0\x64\0\0\0\x1f\0\0\0\x14\0\0\0\0" + bytes(20) + struct.pack(">4i", 3561, 3, 8, 0) + bytes(8),
            "8 bytes",
        ),
        (b"\0\0\0\x64\0\0\0\x1f\0\0\0\x14\0\0\0\0" + bytes(20), "without a list of events"),
    ],
)
def test_a_damaged_file_of_events_is_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a-eve.fif").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}/a-eve.fif .*{message}"):
        event_files.read(tmp_path / "a-eve.fif")


def test_what_is_no_file_of_events_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a-eve.fif")
    (tmp_path / "b.eve").write_bytes(b"100 0 1\n2\0 0 1\n")
    (tmp_path / "c.eve").write_text("100 0 one\n")
    (tmp_path / "d-eve.fif.gz").write_bytes(gzip.compress(b"\0\0\0\x64\0\0\0\x1f\0\0\0\x14" + bytes(999))[:-9])
    for name, message in (
        ("a-eve.fif", "is a pipe"),
        ("b.eve", "NUL bytes, the first in line 2"),
        ("c.eve", "line 1 of .* is '100 0 one', no event"),
        ("d-eve.fif.gz", "is cut off or damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            event_files.read(tmp_path / name)


TSV = "onset\tduration\ttrial_type\tspeed/rate\n" + "".join(
    f"{onset_s}\t0.0\t{'left' if code == 1 else 'right'}\t{'fast' if code == 1 else 'slow'}\n"
    for onset_s, code in zip(ONSETS_S, CODES, strict=True)
)
"""As mne-bids writes it."""


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    for subject in ("01", "02"):
        folder = tmp_path / f"bids/sub-{subject}/eeg"
        write_fif(folder / f"sub-{subject}_task-move_acq-dry_eeg.fif")
        (folder / f"sub-{subject}_task-move_acq-dry_events.tsv").write_text(TSV)
    (tmp_path / "bids/participants.tsv").write_text("participant_id\tgroup\nsub-01\tpatient\nsub-02\tcontrol\n")
    return tmp_path / "bids"


def preprocess(study: Path, **settings: object) -> Preprocess:
    plain = {"study": str(study), "targets": [{"name": "label"}], **settings}
    built = config.build(Preprocess, plain, "preprocess")
    return config.build(Preprocess, {**config.plain(built), "steps": [{"name": "pick"}, {"name": "scale"}]}, "x")


def run(cfg: Preprocess, folder: Path) -> store.Store:
    ctx = Context(World(), RunDir(folder))
    stages.preprocess(cfg, ctx)
    return store.open_store(ctx.out)


def test_a_study_as_mne_bids_writes_it_needs_one_setting_and_says_which(bids: Path, tmp_path: Path) -> None:
    targets = [{"name": "label", "column": "trial_type"}, {"name": "label", "column": "speed/rate"}]
    with pytest.raises(ValueError, match=r"it marks a moment: .* as preprocess.events.duration_s=3 \(the closest two"):
        stages.check_preprocessing(preprocess(bids, targets=targets), 1, lambda ref: Path(ref))
    cfg = preprocess(bids, targets=targets, events={"duration_s": 3})
    assert cfg.events == BidsEvents(duration_s=3.0)
    assert stages.check_preprocessing(cfg, 1, lambda ref: Path(ref)) == ""
    stored = run(cfg, tmp_path / "run").recordings[0]
    assert [(t.stimulus, t.duration, t.labels["trial_type"]) for t in stored.trials][:2] == [
        ("left", 3.0, "left"),
        ("right", 3.0, "right"),
    ]
    assert set(stored.made["classes"]) == {"trial_type", "speed-rate"}


def test_settings_of_another_kind_of_events_say_which() -> None:
    with pytest.raises(
        ConfigError, match=r"preprocess.events.channel is a setting of codes and triggers and film: say"
    ):
        config.build(Preprocess, {"study": "x", "events": {"channel": "STI"}}, "preprocess")


def test_labels_come_from_names_of_files_tables_and_participants(bids: Path, tmp_path: Path) -> None:
    labels = trials_of(bids, BidsEvents(duration_s=1.0), "group", "acq", "task", files="")[0].labels
    assert {name: labels[name] for name in ("group", "acq", "task")} == {
        "group": "patient",
        "acq": "dry",
        "task": "move",
    }
    study = tmp_path / "clinic"
    for subject in ("01", "02"):
        for condition in ("rest", "task"):
            write_fif(study / f"P{subject}/P{subject}_{condition}_raw.fif")
    write_fif(study / "P01/P02_rest_raw.fif")
    pieces = {"name": "fixed_length", "length_s": 5}
    cfg = preprocess(
        study, files="P{subject}/P{subject}_{condition}_raw.fif", events=pieces, labels=["subject"],
        targets=[{"name": "label", "column": "condition"}],
    )  # fmt: skip
    stored = run(cfg, tmp_path / "run").recordings
    assert [(each.name, each.trials[0].labels) for each in stored[:2]] == [
        ("sub-01_condition-rest", {"condition": "rest", "subject": "sub-01"}),
        ("sub-01_condition-task", {"condition": "task", "subject": "sub-01"}),
    ]
    assert len(stored) == 4, "a name whose subjects differ belongs to none"
    assert stored[0].made["classes"] == {"condition": ["rest", "task"]}
    rows = [f"P{s}/P{s}_{c}_raw.fif\tP{s}\t{c}\t{30 + int(s)}" for s in ("01", "02") for c in ("rest", "task")]
    (study / "files.tsv").write_text("\n".join(["path\tsubject\tdiagnosis\tage", *rows]))
    entries = recordings.find(study, "files.tsv")
    assert [entry.name for entry in entries] == [
        f"sub-P{s}_P{s}-P{s}_{c}_raw" for s in ("01", "02") for c in ("rest", "task")
    ]
    labels = trials_of(study, FixedLengthEvents(length_s=5.0), "diagnosis", "age", files="files.tsv")[0].labels
    assert labels == {"diagnosis": "rest", "age": 31.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path\tdiagnosis\na.fif\trest\n",
            "columns path, diagnosis: a table of files needs the columns path and subject",
        ),
        ("path\tsubject\na.fif\tn/a\n", "row 1 of .*files.tsv lacks its subject: write it"),
        ("path\tsubject\n../a.fif\t1\n", "leads out of it"),
    ],
)
def test_a_table_of_files_is_checked(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "files.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        recordings.find(tmp_path, "files.tsv")


def test_epochs_of_a_mat_have_the_values_of_each_trial(tmp_path: Path) -> None:
    write_mat(
        tmp_path / "s01.mat", X=np.zeros((3, 200, 4)), fs=HZ, y=CODES, cond=np.array(["a", "b", "a", "b"], object)
    )
    trials = trials_of(tmp_path, None, "y", "cond")
    assert [(t.start, t.stimulus, t.labels) for t in trials[:2]] == [
        (0.0, "trial-0001", {"y": 1.0, "cond": "a"}),
        (2.0, "trial-0002", {"y": 2.0, "cond": "b"}),
    ]


def test_what_no_trial_has_is_refused_before_a_signal_is_read(bids: Path, tmp_path: Path) -> None:
    def refused(**settings: object) -> str:
        with pytest.raises(ValueError, match="^no recording ") as caught:
            check.check(preprocess(bids, **settings), bids)
        return str(caught.value)

    events = {"duration_s": 1}
    diagnosis = [{"name": "label", "column": "diagnosis"}]
    assert refused(events=events, targets=diagnosis) == (
        "no recording has diagnosis as a label of its trials; there are acq, group, participant_id, path, "
        "speed/rate, subject, task, trial_type: correct the column of the target, or labels"
    )
    assert "no recording has a trial, 2 were looked at" in refused(events={"only": ["lft"], **events})
    assert "has no column cue, but trials need" in refused(events={"name": "bids", "stimulus": "cue"})
    assert "no recording has diagnosis" in refused(events={"name": "triggers"}, targets=diagnosis)
    for path in bids.glob("sub-*/eeg/*_events.tsv"):
        path.unlink()
    assert "sub-01_task-move_acq-dry: there is no events.tsv for this recording" in refused()
    for subject in ("01", "02"):
        path = bids / f"sub-{subject}/eeg/sub-{subject}_task-move_acq-dry_eeg-eve.fif"
        mne.write_events(path, samples().astype(int), verbose="error")
    wrong = {"name": "file", "codes": {"7": "left"}, "duration_s": 1}
    assert "none of the codes 7 is in sub-01_task-move_acq-dry_eeg-eve.fif, which has 1, 2: correct" in refused(
        events=wrong
    )
    assert check.check(preprocess(bids, events={**wrong, "codes": {"1": "left"}}), bids) == ""
    marks = {"name": "annotations", "stimuli": {"*": "{text}"}, "duration_s": 1}
    with pytest.raises(ValueError, match="no recording has a trial, 2 were looked at"):
        run(preprocess(bids, events=marks), tmp_path / "run")


def test_a_plan_of_a_study_imports_nothing_heavy(bids: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from hpc import config; from eegdecode import stages; "
        "from eegdecode.preprocessing.config import Preprocess; "
        f"cfg = config.build(Preprocess, {{'study': {str(bids)!r}, 'events': {{'duration_s': 1}}}}, 'preprocess'); "
        "stages.check_preprocessing(cfg, 1, lambda ref: Path(ref)); "
        "print({'torch', 'mne', 'scipy', 'h5py'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_survey_lists_codes_annotations_and_event_files(bids: Path, tmp_path: Path) -> None:
    from eegdecode.data.config import Survey

    folder = tmp_path / "mixed"
    raw = mne.io.RawArray(
        np.vstack([EEG, vector()]),
        mne.create_info(["Fz", "Cz", "Pz", "STI"], HZ, ["eeg"] * 3 + ["stim"]),
        verbose="error",
    )
    raw.set_annotations(mne.Annotations([1, 2, 3], 0, ["blink", "cue", "cue"]))
    folder.mkdir()
    raw.save(folder / "s01_raw.fif", verbose="error")
    mne.write_events(folder / "s01-eve.fif", samples().astype(int), verbose="error")
    write_mat(folder / "s02_raw.mat", X=EEG * 1e6, fs=HZ, stimpos=ONSETS_S, stimcode=CODES)
    (folder / "s03_raw.fif").write_bytes(b"")
    ctx = Context(World(), RunDir(tmp_path / "run"))
    metrics = stages.survey(Survey((Input(str(folder)),), files="{subject}_raw.*"), ctx)
    notes = metrics["notes"]
    assert isinstance(notes, list)
    assert any(note.startswith("CANNOT BE USED: sub-s03: s03_raw.fif is empty") for note in notes)
    assert "EVENTS in annotations of 1 recording: 2 × cue, 1 × blink" in notes
    assert "EVENTS in -eve.fif of 1 recording: 2 × 1, 2 × 2" in notes
    assert "EVENTS in STI of 1 recording: 2 × 1, 2 × 2" in notes
    assert "EVENTS in stimpos and stimcode of 1 recording: 2 × 1, 2 × 2" in notes


def test_trials_that_are_set_to_last_beyond_the_end_are_left_out_and_counted(tmp_path: Path) -> None:
    write_fif(tmp_path / "s01_raw.fif")
    mne.write_events(tmp_path / "s01-eve.fif", samples().astype(int), verbose="error")
    (entry,) = recordings.find(tmp_path, "{subject}_raw.fif")
    cfg = BidsEvents(duration_s=5.0, overlap=True)
    read = of_recording.trials(cfg, entry, recordings.open_entry(entry))
    assert len(read.trials) == 3
    assert read.notes[-1] == (
        "the recording ends within 1 of its trials, which are left out: they were set to last 5 s"
    )
    assert read.notes[0] == "there is no events.tsv: events are taken from s01-eve.fif"
