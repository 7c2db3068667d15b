"""A preprocess run as BIDS derivatives: what mne-bids and our own preprocessing read is what is stored."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import mne_bids
import numpy as np
import pytest

import eegdecode
from eegdecode.data.io import recordings
from eegdecode.data.io.bids import read_tsv
from eegdecode.exchange import bids_recording, bids_study, derivatives
from eegdecode.exchange.bids_recording import BidsRecording
from eegdecode.exchange.derivatives import Derivatives
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.signals import Sensor, Signal
from hpc.runs import products
from hpc.runs.rundir import RunDir
from tests.conftest import Launch
from tests.eegdecode import preprocessed

ONE = "sub-01_task-hands_run-1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return preprocessed.run(tmp_path_factory.mktemp("derivatives"))


@pytest.fixture(scope="module")
def written(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "hands-preprocessed"
    assert derivatives.run(Derivatives(str(folder)), [run.path], False).startswith(f"wrote {folder}: 2 recordings")
    return folder


def read_by_mne_bids(folder: Path, **entities: Any) -> mne.io.BaseRaw:
    path = mne_bids.BIDSPath(root=folder, datatype="eeg", suffix="eeg", extension=".vhdr", **entities)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return mne_bids.read_raw_bids(path, verbose="warning")


def test_mne_bids_reads_the_stored_bits_with_events_positions_and_bad_spans(run: RunDir, written: Path) -> None:
    stored = eegdecode.open(run.path).stored(ONE)
    raw = read_by_mne_bids(written, subject="01", task="hands", run="1", description="preproc")
    np.testing.assert_array_equal(raw.get_data(), stored.read(0, stored.n_times).T)
    assert raw.info["sfreq"] == stored.sfreq and raw.get_channel_types() == ["eeg"] * 3
    of_trials = [each for each in raw.annotations if not each["description"].startswith("BAD")]
    assert [each["onset"] for each in of_trials] == [trial.start for trial in stored.in_order]
    assert [each["description"] for each in of_trials] == [trial.stimulus for trial in stored.in_order]
    (bad,) = (each for each in raw.annotations if each["description"].startswith("BAD"))
    assert bad["description"] == "BAD_cough" and bad["duration"] == pytest.approx(preprocessed.BAD[1])
    places = raw.get_montage().get_positions()["ch_pos"]
    for name, sensor in zip(stored.channels, stored.sensors, strict=True):
        assert tuple(places[name]) == pytest.approx(sensor.position, abs=1e-6)
    assert mne_bids.get_entity_vals(written, "subject") == ["01", "02"]


def test_every_file_has_a_name_of_bids_and_is_listed_with_size_and_sha256(written: Path) -> None:
    names = [path for path in written.rglob("sub-*") if path.is_file()]
    assert len(names) == 2 * 9
    for path in names:
        assert mne_bids.get_bids_path_from_fname(path, check=path.suffix != ".eeg").basename == path.name
    listed = products.listed(written)
    assert listed is not None and {path.relative_to(written).as_posix() for path in products.files(written)} == {
        *listed
    }
    assert all(products.is_intact(written / each.file, each) for each in listed.values())


def test_it_says_what_made_it_from_what_and_how(run: RunDir, written: Path) -> None:
    description = json.loads((written / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["License"] == "CC0"
    assert description["GeneratedBy"][0]["Name"] == "hpc-eegdecode" and run.name in str(description["GeneratedBy"])
    source = (run.path.parent.parent / "hands").as_uri()
    assert description["SourceDatasets"] == [{"URL": source}] and description["DatasetLinks"] == {"raw": source}
    provenance = json.loads((written / "code/provenance.json").read_text())
    assert provenance["code"] == [{"commit": "c0ffee", "version": "", "modified": []}] and "/somewhere" not in str(
        provenance
    )
    assert (written / "code/config.yaml").read_text() == run.config.read_text()
    sidecar = json.loads(next(written.rglob("sub-01*_eeg.json")).read_text())
    assert sidecar["SoftwareFilters"]["resample"]["sfreq"] == 64 and sidecar["EEGChannelCount"] == 3
    assert f"bids:raw:sub-01/eeg/{ONE}_eeg.vhdr" in sidecar["Sources"]
    assert read_tsv(written / "descriptions.tsv")[0]["desc_id"] == "desc-preproc"


def test_our_own_reader_finds_the_same_trials_and_labels(run: RunDir, written: Path) -> None:
    first, _ = recordings.find(written, "")
    opened = recordings.open_entry(first)
    stored = eegdecode.open(run.path).stored(ONE)
    np.testing.assert_array_equal(opened.stream.read(0, stored.n_times), stored.read(0, stored.n_times))
    rows = [row for row in first.events() or [] if not row["trial_type"].startswith("BAD")]
    assert [(row["trial_type"], row["level"], row["age"]) for row in rows] == [
        (trial.stimulus, f"{trial.labels['level']:g}", f"{trial.labels['age']:g}") for trial in stored.in_order
    ]


def test_it_is_whole_or_absent_and_a_stopped_one_continues(run: RunDir, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from eegdecode.exchange import bids_recording, derivatives\n"
        "write = bids_recording.write_brainvision\n"
        "def killed(header, *rest):\n"
        "    if 'sub-02' in header.name: os._exit(9)\n"
        "    return write(header, *rest)\n"
        "bids_recording.write_brainvision = killed\n"
        f"derivatives.run(derivatives.Derivatives({str(folder)!r}), [Path({str(run.path)!r})], False)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert not folder.exists()
    (half,) = tmp_path.glob(".out.part/sub-01/eeg/*_eeg.eeg")
    before = half.stat().st_mtime_ns
    derivatives.run(Derivatives(str(folder)), [run.path], False)
    assert (folder / half.relative_to(tmp_path / ".out.part")).stat().st_mtime_ns == before
    assert sorted(os.listdir(tmp_path)) == ["out"]
    other = tmp_path / "at-once"
    derivatives.run(Derivatives(str(other)), [run.path], False)
    assert {name: each.sha256 for name, each in (products.listed(folder) or {}).items()} == {
        name: each.sha256 for name, each in (products.listed(other) or {}).items()
    }


def test_given_again_it_is_there_and_nothing_else_is_overwritten(run: RunDir, written: Path, tmp_path: Path) -> None:
    assert "is there already" in derivatives.run(Derivatives(str(written)), [run.path], False)
    with pytest.raises(ValueError, match="is there already and is something else, and nothing is overwritten"):
        derivatives.run(Derivatives(str(written), desc="other"), [run.path], False)
    full = tmp_path / "mine"
    full.mkdir()
    (full / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="something else"):
        derivatives.run(Derivatives(str(full)), [run.path], False)


def test_two_that_write_one_folder_are_one_too_many(run: RunDir, tmp_path: Path) -> None:
    with (
        bids_study.opened(tmp_path / "out", {}),
        pytest.raises(ValueError, match="is being written by another process"),
    ):
        derivatives.run(Derivatives(str(tmp_path / "out")), [run.path], False)


def test_a_damaged_store_is_not_handed_on(tmp_path: Path) -> None:
    run = preprocessed.run(tmp_path)
    with open(run.out / f"{ONE}.h5", "r+b") as file:
        file.truncate(3000)
    with pytest.raises(products.DamagedProduct, match=f"{ONE}.h5 is damaged"):
        derivatives.run(Derivatives(str(tmp_path / "out")), [run.path], False)
    assert not (tmp_path / "out").exists()


def test_what_is_scaled_has_no_unit(tmp_path: Path) -> None:
    run = preprocessed.run(tmp_path, lambda cfg: replace(cfg, steps=(*cfg.steps, Scale())))
    derivatives.run(Derivatives(str(tmp_path / "out"), desc="z"), [run.path], False)
    rows = read_tsv(next((tmp_path / "out").rglob("sub-01*_desc-z_channels.tsv")))
    assert {row["units"] for row in rows} == {"n/a"}


def test_meg_is_written_as_fif_with_the_same_bits(tmp_path: Path) -> None:
    from eegdecode.exchange import mne_objects

    rng = np.random.default_rng(0)
    sensors = {
        "MEG0111": Sensor("mag", (0.0, 0.1, 0.0)),
        "MEG0112": Sensor("grad", (0.1, 0.0, 0.0)),
        "X": Sensor("misc"),
    }
    signal = Signal((1e-12 * rng.normal(size=(500, 3))).astype(np.float32), 100.0, tuple(sensors), sensors)
    info = mne.create_info([*sensors], 100.0, ["mag", "grad", "misc"])
    raw = mne.io.RawArray(signal.data.T, info, verbose="error")
    meg = BidsRecording(
        {"sub": "01", "task": "rest"}, signal.stream(), [], save_fif=lambda path: mne_objects.save_fif(raw, path)
    )
    bids_recording.write(meg, tmp_path)
    path = mne_bids.BIDSPath(root=tmp_path, subject="01", task="rest", datatype="meg", suffix="meg", extension=".fif")
    again = mne_bids.read_raw_bids(path, verbose="error")
    np.testing.assert_array_equal(again.get_data().astype(np.float32), signal.data.T)
    assert [row["type"] for row in read_tsv(tmp_path / "sub-01/meg/sub-01_task-rest_channels.tsv")] == [
        "MEGMAG", "MEGGRADPLANAR", "MISC",
    ]  # fmt: skip


def test_our_brainvision_is_that_of_pybv(tmp_path: Path) -> None:
    """The two writers give files that mne reads as the same samples."""
    import pybv

    data = (1e-5 * np.random.default_rng(1).normal(size=(300, 2))).astype(np.float32)
    signal = Signal(data, 250.0, ("Fz", "A,B"))
    bids_recording.write_brainvision(tmp_path / "ours.vhdr", signal.stream(), lambda part: None)
    pybv.write_brainvision(
        data=data.T.astype(float), sfreq=250.0, ch_names=["Fz", "A,B"], fname_base="theirs", folder_out=tmp_path,
        resolution=1e-12, unit="V", fmt="binary_float32",
    )  # fmt: skip
    ours, theirs = (mne.io.read_raw_brainvision(tmp_path / f"{name}.vhdr") for name in ("ours", "theirs"))
    assert ours.ch_names == theirs.ch_names == ["Fz", "A,B"] and ours.info["sfreq"] == 250
    np.testing.assert_array_equal(ours.get_data(), data.T)
    np.testing.assert_allclose(theirs.get_data(), data.T, atol=1e-11)


def test_names_that_bids_does_not_know_get_ones_that_it_does(run: RunDir) -> None:
    stored = replace(eegdecode.open(run.path).stored(ONE), name="P 07/rest_2", subject="P 07", session="", run="rest_2")
    entities = derivatives._entities(stored, Derivatives(), Path("/data/My study"))
    assert bids_study.name_of(entities) == "sub-P07_task-Mystudy_run-rest2_desc-preproc"
    alike = bids_study.distinct({"a": entities, "b": entities, "c": {**entities, "task": "x"}})
    assert [each["run"] for each in alike.values()] == ["1", "2", "rest2"]


def test_the_command_line_writes_it_and_refuses_in_sentences(run: RunDir, launch: Launch) -> None:
    runs = ["--runs", str(run.path.parent)]
    assert json.loads(launch("derivatives", "preprocess-ab", *runs, "--json").stdout) == {
        "folder": "preprocess-abcd1234-bids", "recordings": 2,
    }  # fmt: skip
    assert (launch.folder / "preprocess-abcd1234-bids/dataset_description.json").is_file()
    wrong = launch("derivatives", "nowhere", *runs, code=2).stderr
    assert "there is no run 'nowhere'" in wrong and "Traceback" not in wrong
    assert "desc is an entity of BIDS" in launch("derivatives", "preprocess-ab", "desc=a-b", *runs, code=2).stderr
