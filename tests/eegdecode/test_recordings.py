"""Recordings of a study are found without opening them, and opened with their sidecars."""

import json
import os
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from eegdecode.data.io import recordings
from eegdecode.data.io.recordings import Entry, find, join, open_entry
from eegdecode.signals import Sensor, Signal
from eegdecode.synth.formats import write_brainvision, write_edf
from tests.ranks import forked
from tests.waiting import LONG_S

NAMES = ("Cz", "Pz", "VEOG", "Stim")
SIGNAL = Signal(np.random.default_rng(0).normal(size=(1000, 4)) * 20e-6, 250.0, NAMES)


def touch(study: Path, *names: str) -> None:
    for name in names:
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).touch()


def names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def test_bids_of_every_kind_with_sessions_tasks_runs_and_splits_once(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-01/ses-a/eeg/sub-01_ses-a_task-music_run-1_eeg.vhdr",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-music_run-1_eeg.eeg",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-music_run-1_eeg.json",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-music_run-1_channels.tsv",
        "sub-01/ieeg/sub-01_task-rest_ieeg.edf",
        "sub-02/meg/sub-02_task-film_split-01_meg.fif",
        "sub-02/meg/sub-02_task-film_split-02_meg.fif",
        "sub-02/meg/sub-02_acq-crosstalk_meg.fif",
        "sub-02/meg/sub-02_task-ctf_meg.ds/x.meg4",
        "sub-02/meg/sub-02_task-kit_meg/sub-02_task-kit_meg.con",
        "sub-02/meg/sub-02_task-kit_meg/sub-02_task-kit_markers.sqd",
        "sub-emptyroom/meg/sub-emptyroom_task-noise_meg.fif",
        "derivatives/clean/sub-01/eeg/sub-01_task-music_eeg.set",
        "sourcedata/sub-01/eeg/sub-01_task-music_eeg.set",
    )
    entries = find(tmp_path)
    assert names(entries) == [
        "sub-01_ses-a_task-music_run-1",
        "sub-01_task-rest",
        "sub-02_task-ctf",
        "sub-02_task-film",
        "sub-02_task-kit",
    ]
    music = entries[0]
    assert (music.subject, music.session, music.task, music.run) == ("sub-01", "a", "music", "1")
    assert [entry.path.name for entry in entries[2:]] == [
        "sub-02_task-ctf_meg.ds",
        "sub-02_task-film_split-01_meg.fif",
        "sub-02_task-kit_meg.con",
    ]


def test_the_size_is_that_of_all_files_of_a_recording(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01/eeg"
    folder.mkdir(parents=True)
    for name, size in (("sub-01_eeg.vhdr", 5), ("sub-01_eeg.eeg", 7000), ("sub-01_eeg.vmrk", 3)):
        (folder / name).write_bytes(bytes(size))
    assert [entry.size for entry in find(tmp_path)] == [7008]


def test_one_recording_in_two_formats_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/eeg/sub-01_eeg.edf", "sub-01/eeg/sub-01_eeg.set")
    with pytest.raises(ValueError, match=r"sub-01_eeg\.edf and .*sub-01_eeg\.set are both called sub-01: leave one"):
        find(tmp_path)


def test_what_git_annex_did_not_fetch_is_found_and_explained(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/eeg/x")
    (tmp_path / "sub-01/eeg/sub-01_eeg.edf").symlink_to("../../.git/annex/objects/key")
    (entry,) = find(tmp_path)
    with pytest.raises(ValueError, match="a link to data that were not fetched: git annex get"):
        open_entry(entry)


def test_a_folder_that_is_not_bids_by_a_pattern(tmp_path: Path) -> None:
    touch(
        tmp_path, "EEG/YH00/x-clean_1.set", "EEG/YH00/x-clean_1.fdt", "EEG/YH00/x-clean_2.set", "EEG/YH01/y-clean_1.set"
    )
    touch(tmp_path, "EEG/YH01/deeper/z_1.set", "README.md")
    entries = find(tmp_path, "EEG/{subject}/*_{part}.set")
    assert names(entries) == ["sub-YH00_part-1", "sub-YH00_part-2", "sub-YH01_part-1"]
    assert [entry.subject for entry in entries] == ["sub-YH00", "sub-YH00", "sub-YH01"]
    (one,) = find(tmp_path, "EEG/{subject}/deeper/{task}_{run}.set")
    assert (one.name, one.task, one.run) == ("sub-YH01_task-z_run-1", "z", "1")
    unnamed = find(tmp_path, "**/{subject}/*.set")
    assert len(set(names(unnamed))) == len(unnamed) == 4, "what the braces do not tell apart, the path does"
    with pytest.raises(ValueError, match=r"matches nothing in .*: there are EEG/YH00/x-clean_1\.set, "):
        find(tmp_path, "{subject}/*.edf")
    with pytest.raises(ValueError, match=r"must have \{subject\}, and a word in all braces"):
        find(tmp_path, "EEG/*/*.set")


def test_the_parts_of_films_are_told_by_their_names() -> None:
    """D7: ten titles in forty parts."""
    pattern = "ID{id}_{title}Vol{first}-{last}_id{film}_MEG_DATAPixx_part{part}.mp4"
    files = [
        f"ID{k:02d}_Some_Film{k}Vol{k}-{k + 1}_id{k}_MEG_DATAPixx_part{part}.mp4"
        for k in range(1, 11)
        for part in (1, 2, 3, 4)
    ]
    parsed = [recordings.parse_name(pattern, name) for name in files]
    assert len({each["title"] for each in parsed if each}) == 10 and len(parsed) == 40 and None not in parsed
    assert parsed[-1] == {"id": "10", "title": "Some_Film10", "first": "10", "last": "11", "film": "10", "part": "4"}
    assert recordings.parse_name(pattern, "notes.txt") is None


def test_a_table_without_entities_belongs_to_the_recording_of_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/one.edf", "a/two.edf")
    (tmp_path / "a/one_events.tsv").write_text("onset\n1\n")
    one, two = find(tmp_path, "{subject}/{part}.edf")
    assert one.events() == [{"onset": "1"}] and two.events() is None


def test_what_a_study_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no study at .*nowhere: name a folder"):
        find(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r'no EEG or MEG recording in .*: BIDS has them as .*files="\{subject\}'):
        find(tmp_path)


def test_subjects_of_two_studies_are_the_same_only_when_said(tmp_path: Path) -> None:
    for study in ("train", "cal"):
        touch(tmp_path, f"{study}/sub-01/eeg/sub-01_task-music_eeg.edf")
        (tmp_path / study / "participants.tsv").write_text(f"participant_id\tage\nsub-01\t{len(study)}\n")
    both = {study: find(tmp_path / study) for study in ("train", "cal")}
    apart, same = join(both), join(both, same_subjects=True)
    assert [entry.subject for entry in apart] == ["train-sub-01", "cal-sub-01"]
    assert [entry.subject for entry in same] == ["sub-01", "sub-01"]
    assert names(apart) == names(same) == ["train-sub-01_task-music", "cal-sub-01_task-music"]
    assert [entry.participant["age"] for entry in apart + same] == ["5", "3", "5", "3"]


def test_a_recording_costs_no_opening_and_little_memory(tmp_path: Path) -> None:
    """D5, a sixth of it: 1,680 sparse files of a declared 33 GB, that may not even be opened."""
    for subject in range(20):
        folder = tmp_path / f"sub-{subject:03d}/meg"
        folder.mkdir(parents=True)
        for run in range(84):
            path = folder / f"sub-{subject:03d}_task-things_run-{run:02d}_meg.fif"
            path.touch()
            os.truncate(path, 19_500_000)
            path.chmod(0)
    with ProcessPoolExecutor(1, mp_context=forked()) as process:  # threads of other tests allocate in this one
        sizes, peak = process.submit(found_with, tmp_path).result(timeout=LONG_S)
    assert len(sizes) == 1680 and sum(sizes) == 1680 * 19_500_000
    assert peak < 1680 * 8_000, "so 10,000 take 80 MB at most"


def found_with(folder: Path) -> tuple[list[int], int]:
    """The sizes of its recordings, and the most memory that it took to find them."""
    tracemalloc.start()
    entries = find(folder)
    return [entry.size for entry in entries], tracemalloc.get_traced_memory()[1]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A recording with everything beside it, some of it higher up."""
    folder = tmp_path / "sub-01/eeg"
    folder.mkdir(parents=True)
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "stimuli/song.wav").touch()
    write_edf(folder / "sub-01_task-music_eeg.edf", SIGNAL)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t31\nsub-02\tn/a\n")
    (tmp_path / "task-music_channels.tsv").write_text("name\ttype\nCz\tMISC\n")
    (folder / "sub-01_task-music_channels.tsv").write_text(
        "name\ttype\tunits\tstatus\tstatus_description\n"
        "Cz\tEEG\tuV\tgood\tn/a\nPz\tEEG\tmV\tbad\tloose\nVEOG\tVEOG\tuV\tbad\tn/a\nStim\tTRIG\tn/a\tgood\tn/a\nFz\tEEG\tuV\tgood\tn/a\n"
    )
    (folder / "sub-01_space-CapTrak_electrodes.tsv").write_text(
        "name\tx\ty\tz\nCz\t0\t0\t90\nPz\t0\t-60\t60\nREF\tn/a\tn/a\tn/a\n"
    )
    system = {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "mm"}
    (folder / "sub-01_space-CapTrak_coordsystem.json").write_text(json.dumps(system))
    (tmp_path / "task-music_eeg.json").write_text(json.dumps({"PowerLineFrequency": 60, "SamplingFrequency": 500}))
    (folder / "sub-01_task-music_eeg.json").write_text(json.dumps({"PowerLineFrequency": 50}))
    (folder / "sub-01_task-music_events.tsv").write_text(
        "onset\tduration\ttrial_type\tstim_file\n0\t1\trest\tn/a\n1.5\t2\tmusic\tsong.wav\n"
    )
    return tmp_path


def test_what_is_told_beside_a_recording_is_applied(study: Path) -> None:
    (entry,) = find(study)
    opened = open_entry(entry)
    stream = opened.stream
    assert [stream.sensor(name).kind for name in NAMES] == ["eeg", "eeg", "eog", "stim"], "the nearest table wins"
    assert stream.sensor("Pz") == Sensor("eeg", (0.0, -0.06, 0.06)) and stream.sensor("VEOG").position is None
    assert opened.bads == {"Pz": "loose", "VEOG": "marked bad in sub-01_task-music_channels.tsv"}
    assert opened.line_hz == 50.0 and entry.participant == {"participant_id": "sub-01", "age": "31"}
    np.testing.assert_allclose(stream.read(0, 1000), SIGNAL.data, atol=1e-8)


def test_where_file_and_table_disagree_both_are_named(study: Path) -> None:
    (entry,) = find(study)
    edf, table = "sub-01_task-music_eeg.edf", "sub-01_task-music_channels.tsv"
    notes = open_entry(entry).notes
    assert f"{table} lists Fz, which {edf} does not have" in notes
    assert "Pz: in µV by their size (in mV, as channels.tsv says, they would be no eeg)" in notes
    assert f"{edf} has 250 Hz, its json 500 Hz: the file is used" in notes


def test_a_file_without_units_gets_those_of_the_table(study: Path) -> None:
    (entry,) = find(study)
    before = entry.path.read_bytes()
    units = 256 + 4 * (16 + 80)
    entry.path.write_bytes(before[:units] + b" " * 8 * 4 + before[units + 8 * 4 :])
    opened = open_entry(entry)
    np.testing.assert_allclose(opened.stream.read(0, 1000)[:, 0], SIGNAL.data[:, 0], atol=1e-8)
    np.testing.assert_allclose(opened.stream.read(0, 1000)[:, 1], SIGNAL.data[:, 1] * 1e3, atol=1e-5)
    assert {"Cz, VEOG: in uV by channels.tsv", "Pz: in mV by channels.tsv"} <= set(opened.notes)


@pytest.mark.parametrize(
    ("system", "unit", "row", "place"),
    [
        ("CapTrak", "m", "0.01\t0.02\t0.09", (0.01, 0.02, 0.09)),
        ("CapTrak", "cm", "1\t2\t9", (0.01, 0.02, 0.09)),
        ("CTF", "cm", "2\t-1\t9", (0.01, 0.02, 0.09)),  # x to the front, y to the left
        ("CapTrak", "m", "10\t20\t90", (0.01, 0.02, 0.09)),  # said to be metres, but is not
    ],
)
def test_positions_are_in_metres_whatever_the_unit(
    study: Path, system: str, unit: str, row: str, place: tuple[float, float, float]
) -> None:
    folder = study / "sub-01/eeg"
    (folder / "sub-01_space-CapTrak_electrodes.tsv").write_text(f"name\tx\ty\tz\nCz\t{row}\n")
    coordsystem = {"EEGCoordinateSystem": system, "EEGCoordinateUnits": unit}
    (folder / "sub-01_space-CapTrak_coordsystem.json").write_text(json.dumps(coordsystem))
    (entry,) = find(study)
    opened = open_entry(entry)
    assert opened.stream.sensor("Cz").position == pytest.approx(place)
    assert any("says m: taken as mm" in note for note in opened.notes) == (unit == "m" and row.startswith("10"))


def test_events_are_rows_and_the_nearest_table_wins(study: Path) -> None:
    (entry,) = find(study)
    rows = entry.events()
    assert rows is not None and [row["trial_type"] for row in rows] == ["rest", "music"]
    recordings.sidecar(entry.path, "events.tsv").unlink()
    assert entry.events() is None
    (study / "task-music_events.tsv").write_text("onset\tduration\n7\t1\n")
    (study / "task-rest_events.tsv").write_text("onset\tduration\n9\t1\n")
    assert entry.events() == [{"onset": "7", "duration": "1"}]


def test_a_table_that_is_none_is_named(study: Path) -> None:
    (entry,) = find(study)
    recordings.sidecar(entry.path, "channels.tsv").write_bytes("name\ttype\nCz\tEEG µ\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"channels\.tsv is not UTF-8 \(byte 0xff in line 1\): save it as UTF-8 text"):
        open_entry(entry)


def test_a_window_is_read_without_the_rest(tmp_path: Path) -> None:
    """D5: what a window of 1 s costs, in bytes that go through read calls, is at most twice what it holds."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("needs Linux's /proc/self/io")

    def bytes_read() -> int:
        return int(counters.read_text().split("rchar: ")[1].split()[0])

    folder = tmp_path / "sub-01/eeg"
    folder.mkdir(parents=True)
    write_brainvision(
        folder / "sub-01_eeg.vhdr", Signal(np.zeros((300_000, 16), np.float32), 1000.0, tuple("abcdefghijklmnop"))
    )
    (entry,) = find(tmp_path)
    stream = open_entry(entry).stream
    stream.read(0, 10)
    before = bytes_read()
    idle = bytes_read() - before
    stream.read(123_000, 124_000)
    assert bytes_read() - before - 2 * idle <= 2 * 1000 * 16 * 4


def test_a_row_with_a_cell_too_many_is_named_by_its_line(tmp_path: Path) -> None:
    table = tmp_path / "events.tsv"
    table.write_text("onset\tduration\n1\t2\n3\t4\tloud\n")
    with pytest.raises(ValueError, match=r"line 3 of .*events.tsv has 3 cells, but the table has 2 columns: remove"):
        recordings.read_tsv(table)
    table.write_text("onset\tduration\n1\t2\t\n3\t4\t \t\n5\t\n")  # tabs at the end of a line say nothing
    assert recordings.read_tsv(table) == [
        {"onset": "1", "duration": "2"}, {"onset": "3", "duration": "4"}, {"onset": "5", "duration": ""},
    ]  # fmt: skip
    table.write_text("onset\tduration\n1\t2\n5\n6\t7\n")
    with pytest.raises(ValueError, match=r"line 3 of .*events.tsv has 1 cells, but the table has 2 columns: write n/a"):
        recordings.read_tsv(table)
