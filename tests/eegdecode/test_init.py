"""`hpc init`: what it concludes from names, marks and signals, and what it says where it cannot."""

import json
import re
import shutil
from pathlib import Path

import mne
import numpy as np
import pytest

from eegdecode.data.events import of_recording
from eegdecode.data.io import recordings
from eegdecode.preprocessing.config import Preprocess
from eegdecode.proposal import folder, init, names, seen
from eegdecode.proposal.init import Init
from eegdecode.proposal.write import Guess, text
from eegdecode.signals import Signal
from eegdecode.synth.formats import write_edf
from eegdecode.synth.tree import write_tsv
from hpc import config
from hpc.codes import USAGE
from tests.conftest import Launch
from tests.eegdecode import layouts

S = range(1, 7)


def proposed(study: Path, out: Path, cfg: Init | None = None) -> dict[str, dict[str, object]]:
    """The config that it writes, as hpc reads it."""
    init.run(cfg or Init(output=str(out)), [study], False)
    return config.load([out])


@pytest.mark.parametrize(
    ("paths", "files", "fields"),
    [
        ([f"S{s:03d}/S{s:03d}R{r:02d}.edf" for s in S for r in (1, 2)], "S{subject}/S{subject}R{run}.edf", {"run": 2}),
        ([f"{c}/p{s}.edf" for s in S for c in ("rest", "task")], "{condition}/p{subject}.edf", {"condition": 2}),
        ([f"S{s}_{c}.set" for s in S for c in ("eyes_open", "task")], "S{subject}_{condition}.set", {"subject": 6}),
        ([f"{c}_S{s}.set" for s in S for c in ("eyes_open", "task")], "{condition}_S{subject}.set", {"subject": 6}),
        ([f"h{s:02d}.edf" for s in S] + [f"s{s:02d}.edf" for s in S], "{condition}{subject}.edf", {"condition": 2}),
        ([f"P{s}/P{s}_S{k}.mat" for s in S for k in (1, 2, 3)], "P{subject}/P{subject}_S{session}.mat", {"session": 3}),
        ([f"{name}-raw.fif" for name in ("anna", "ben", "eva")], "{subject}-raw.fif", {"subject": 3}),
        (["a b/one.edf"], "a b/{subject}.edf", {"subject": 1}),
    ],
)
def test_names_become_a_pattern(paths: list[str], files: str, fields: dict[str, int], tmp_path: Path) -> None:
    """Which finds the same files again."""
    inferred = names.infer(paths)
    assert inferred.files == files
    assert {name: len(set(inferred.fields[name])) for name in fields} == fields
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text("")
    found = [entry.path.relative_to(tmp_path).as_posix() for entry in recordings.find(tmp_path, inferred.files)]
    assert sorted(found) == sorted(paths)


def test_a_file_of_another_name_is_left_out_and_named(tmp_path: Path) -> None:
    inferred = names.infer([*(f"sub{s}.mat" for s in S), "layout_of_the_cap.mat"])
    assert inferred.files == "sub{subject}.mat" and inferred.left_out == ("layout_of_the_cap.mat",)


@pytest.mark.parametrize(
    ("layout", "events", "target"),
    [
        ("bids", {"name": "bids", "stimulus": "trial_type", "duration_s": 1}, "stimulus"),
        ("file_a_condition", {"name": "fixed_length", "length_s": 3.8}, "condition"),
        ("mat_struct", {"name": "file", "codes": {"1": "1", "2": "2"}, "duration_s": 1}, "stimulus"),
        (
            "csv",
            {"name": "triggers", "channel": "trigger", "codes": {"1": "1", "2": "2"}, "duration_s": 1},
            "stimulus",
        ),
        ("fif_and_events", {"name": "file", "codes": {"1": "1", "2": "2"}, "duration_s": 1}, "stimulus"),
        (
            "edf_annotations",
            {"name": "annotations", "stimuli": {"left": "{text}", "right": "{text}"}, "duration_s": 1},
            "stimulus",
        ),
    ],
)
def test_events_are_proposed_as_they_lie(
    layout: str, events: dict[str, object], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And give the trials that were planted, in every recording."""
    monkeypatch.chdir(tmp_path)
    layouts.LAYOUTS[layout](tmp_path / "study")
    values = proposed(Path("study"), Path("study.yaml"))
    assert values["preprocess"]["events"] == events
    assert values["train"]["target"] == target
    assert values["train"]["split"]["by"] == "subject"  # type: ignore[index]
    cfg = config.build(Preprocess, values["preprocess"], "preprocess")
    for entry in recordings.find(Path("study"), cfg.files):
        parsed = of_recording.trials(cfg.events, entry, recordings.open_entry(entry), [target]).trials
        assert len(parsed) == (8 if layout == "file_a_condition" else layouts.N_TRIALS)


def test_features_next_to_responses_are_a_course_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose cells are the trials: no events."""
    monkeypatch.chdir(tmp_path)
    layouts.mtrf(tmp_path / "study")
    values = proposed(Path("study"), Path("study.yaml"))
    assert values["preprocess"]["targets"] == [{"name": "stim", "sfreq": 64}]
    assert "events" not in values["preprocess"]
    assert values["train"]["split"] == {"by": "stimulus"}
    assert values["train"]["objective"] == {"name": "regression"}


def test_sounds_that_were_heard_are_a_course_in_time(study: Path, tmp_path: Path) -> None:
    values = proposed(study, tmp_path / "study.yaml")
    assert values["preprocess"]["targets"] == [{"name": "envelope", "sfreq": 64}]
    assert values["train"]["windows"]["length_s"] == 4.0  # type: ignore[index]


def test_a_table_of_files_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its columns are labels."""
    monkeypatch.chdir(tmp_path)
    layouts.file_a_condition(tmp_path / "study")
    rows = [
        (path.name, path.name[1:3], "asleep" if "closed" in path.name else "awake")
        for path in sorted((tmp_path / "study").iterdir())
    ]
    write_tsv(tmp_path / "study/files.tsv", ("path", "subject", "state"), rows)
    values = proposed(Path("study"), Path("study.yaml"))
    assert values["preprocess"]["files"] == "files.tsv"
    assert values["train"]["target"] == "state"


def test_every_guess_stands_below_its_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.bids(tmp_path / "study")
    init.run(Init(), [Path("study")], False)
    lines = Path("study.yaml").read_text().splitlines()
    for key in ("events", "model", "objective", "split", "windows", "optim"):
        at = [number for number, line in enumerate(lines) if line.startswith(f"  {key}:")]
        assert at and all(lines[number - 1].startswith("  # ") for number in at), key
    whole = " ".join(line.strip(" #") for line in lines)
    assert "96 × left, 96 × right, one every 1.5 s" in whole
    assert "else: the column value of events.tsv: 96 × 1, 96 × 2" in whole
    assert "6 subjects with 1 recording each" in whole


def test_it_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.edf_annotations(tmp_path / "study")
    Path("study.yaml").write_text("mine")
    with pytest.raises(ValueError, match="study.yaml is there already, and init overwrites nothing: rename it, or say"):
        init.run(Init(), [Path("study")], False)
    assert Path("study.yaml").read_text() == "mine"
    shown = init.run(Init(explain=True), [Path("study")], False)
    assert "text: 96 × right, 96 × left, 6 × recording starts" in shown and "Nothing was written" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study", "study.yaml"]


def test_a_damaged_recording_is_named_and_the_others_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.edf_annotations(tmp_path / "study")
    damaged = tmp_path / "study/S003/S003R01.edf"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    shown = init.run(Init(), [Path("study")], False)
    assert "5 of 6 recordings can be used" in shown and "CANNOT BE USED: sub-003: S003/S003R01.edf is cut off" in shown
    assert config.load([Path("study.yaml")])["preprocess"]["exclude"] == ["sub-003"]


def test_a_flat_channel_and_a_table_that_is_not_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.edf_annotations(tmp_path / "study")
    (tmp_path / "study/participants.csv").write_text("participant_id,age\nsub-001,20\n")
    flat = tmp_path / "study/S002/S002R01.edf"
    onsets_s, classes = layouts.trials(2)
    volt = layouts.recorded(2, onsets_s, classes)
    volt[:, 1] = 0
    marks = [(onset, ("left", "right")[number]) for onset, number in zip(onsets_s, classes, strict=True)]
    layouts.write_edf_plus(flat, volt, [(0.0, "recording starts"), *marks])
    init.run(Init(), [Path("study")], False)
    whole = " ".join(line.strip(" #") for line in Path("study.yaml").read_text().splitlines())
    assert (
        f"Flat, the same value throughout: {layouts.CHANNELS[1]} in sub-002" in whole
        and "{name: bad_channels} before" in whole
    )
    assert "participants.csv is not read: columns of subjects" in caplog.text


def test_recordings_without_a_trial_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of rest, among those of a task whose triggers are in a channel."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study").mkdir()
    info = mne.create_info([*layouts.CHANNELS, "Status"], layouts.SFREQ, ["eeg"] * 8 + ["stim"])
    for subject in S:
        for condition in ("rest", "oddball"):
            onsets_s, classes = layouts.trials(subject)
            data = layouts.recorded(subject, onsets_s, classes).T
            status = np.zeros(data.shape[1])
            if condition == "oddball":
                status[np.rint(onsets_s * layouts.SFREQ).astype(int)] = classes + 1
            raw = mne.io.RawArray(np.vstack([data, status]), info, verbose="error")
            raw.save(tmp_path / f"study/s{subject}_{condition}_raw.fif", verbose="error")
    shown = init.run(Init(), [Path("study")], False)
    assert "6 of 12 recordings can be used" in shown
    assert "CANNOT BE USED: sub-1_condition-rest: it has no trial of these classes, and is left out" in shown
    assert config.load([Path("study.yaml")])["preprocess"]["exclude"] == [f"sub-{k}_condition-rest" for k in S]


def test_where_one_fold_decides_nothing_the_way_to_all_folds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A condition a recording: two test subjects can be exchanged in four ways, and twelve in enough."""
    monkeypatch.chdir(tmp_path)
    layouts.file_a_condition(tmp_path / "a study (1)")
    shown = init.run(Init(), [Path("a study (1)")], False)
    line = "hpc sweep pipeline a-study-1.yaml train.split.fold=0..4 --name folds --on local\n  hpc evaluate model=folds"
    assert line in shown
    assert Path("a-study-1.yaml").read_text().startswith("# Proposed by `hpc init 'a study (1)'`")
    for subject in range(7, 31):
        for path in sorted(Path("a study (1)").glob("P01_*.edf")):
            shutil.copy(path, path.with_name(path.name.replace("P01", f"P{subject:02d}")))
    shown = init.run(Init(output="many.yaml"), [Path("a study (1)")], False)
    assert "hpc pipeline many.yaml" in shown and "--name folds" not in shown


def test_a_few_files_of_another_format_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.file_a_condition(tmp_path / "study")
    (tmp_path / "study/cap.mat").touch()
    (tmp_path / "study/ages.csv").write_text("who,age\nP01,33\n")
    shown = init.run(Init(), [Path("study")], False)
    assert "NOTE: 1 file of another format left out: cap.mat" in shown and "12 recordings of 6 subjects" in shown


def sound(folder: Path) -> None:
    folder.mkdir()
    for k in range(3):
        (folder / f"song{k}.wav").write_bytes(b"RIFF")


def pictures(folder: Path) -> None:
    folder.mkdir()
    (folder / "head.png").write_bytes(b"\x89PNG")


def mixed(folder: Path) -> None:
    layouts.file_a_condition(folder)
    shutil.copy(folder / "P01_task.edf", folder / "P01_task.bdf")
    for path in list(folder.glob("*closed.edf")):
        path.rename(path.with_suffix(".bdf"))


def without_marks(folder: Path) -> None:
    folder.mkdir()
    for k in S:
        noise = 1e-5 * np.random.default_rng(k).normal(size=(1280, 8))
        write_edf(folder / f"s{k}.edf", Signal(noise.astype(np.float32), layouts.SFREQ, layouts.CHANNELS))


def two_patients(folder: Path) -> None:
    layouts.file_a_condition(folder)
    for path in folder.glob("P0[3-6]_*.edf"):
        path.unlink()


def test_what_was_seen_is_shown_also_where_nothing_can_be_proposed(tmp_path: Path) -> None:
    without_marks(tmp_path / "study")
    shown = init.run(Init(explain=True), [tmp_path / "study"], False)
    assert "sub-1: 8 eeg, 128 Hz, 10.0 s" in shown and "No config can be proposed: " in shown


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (sound, "has no EEG or MEG recording: its files are 3 sounds"),
        (pictures, "has no EEG or MEG recording: its files are 1 pictures"),
        (Path.mkdir, "is empty: name the folder that holds the recordings"),
        (mixed, r"has recordings of several formats \(7 .bdf, 6 .edf\), which may be several studies or one twice"),
        (without_marks, "nothing that says what was presented or done in at least two ways: add events.tsv or"),
        (two_patients, "condition is the same throughout a recording, and there are 2 of eyes_closed, 2 of task"),
        (lambda folder: None, "study is not there: name the folder of a study"),
        (lambda folder: folder.write_text(""), "study is a file: name the folder of a study"),
    ],
)
def test_what_it_cannot_understand_is_one_sentence(make, message: str, tmp_path: Path, launch: Launch) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "study")
    told = launch("init", "study", code=USAGE).stderr.splitlines()
    (sentence,) = (line for line in told if not line.startswith("looking at study:"))
    assert re.search(message, sentence)
    assert not (tmp_path / "study.yaml").exists()


def test_options_of_a_verb_are_its_settings(tmp_path: Path, launch: Launch) -> None:
    layouts.edf_annotations(tmp_path / "study")
    plain = json.loads(launch("init", "study", "--json", "--output", "first look.yaml").stdout)
    assert plain["config"] == "first look.yaml" and plain["seen"]["recordings"] == 6
    assert plain["values"] == config.load([tmp_path / "first look.yaml"])
    assert "Nothing was written" in launch("init", "study", "--explain").stdout
    assert (
        "init has no setting 'explian'. Did you mean 'explain'"
        in launch("init", "study", "--explian", code=USAGE).stderr
    )
    assert "--files of init needs a value: --files=VALUE" in launch("init", "study", "--files", code=USAGE).stderr
    assert "init which file or folder? Name one: init FOLDER" in launch("init", code=USAGE).stderr


def test_of_thousands_of_recordings_a_few_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spread over the conditions, also where these alternate."""
    layouts.file_a_condition(tmp_path / "few")
    (tmp_path / "study").mkdir()
    for subject in range(600):
        for condition in ("eyes_closed", "task"):
            source = tmp_path / f"few/P{1 + subject % 6:02d}_{condition}.edf"
            (tmp_path / f"study/P{subject:04d}_{condition}.edf").hardlink_to(source)
    opened: list[str] = []
    real = recordings.open_entry
    monkeypatch.setattr(
        seen.recordings, "open_entry", lambda entry, cfg: (opened.append(entry.name), real(entry, cfg))[1]
    )
    monkeypatch.chdir(tmp_path)
    values = proposed(Path("study"), Path("study.yaml"))
    assert len(opened) == seen.MOST_OPENED
    assert {name.partition("condition-")[2] for name in opened} == {"eyes_closed", "task"}
    assert values["preprocess"]["skip_failed"] is True


def test_a_folder_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MOST_FILES", 10)
    for number in range(11):
        (tmp_path / f"{number}.edf").touch()
    with pytest.raises(ValueError, match="has more than 10 files: name the folder of one study"):
        init.run(Init(), [tmp_path], False)


@pytest.mark.parametrize(
    "name", ["left: hand", "a, b", "[x]", "{text}", "yes", "1", "1e3", "ü", 'quote"s', "${seed}", "~", "-"]
)
def test_any_name_is_written_so_that_it_is_read_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / "it.yaml"
    path.write_text(text(["title"], {"train": {"names": Guess([name, {name: name}], f"why {name}\nand {name}")}}))
    assert config.load([path]) == {"train": {"names": [name, {name: name}]}}
