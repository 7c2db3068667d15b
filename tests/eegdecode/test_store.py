"""The store keeps recordings whole, maps their bytes, and names what is missing or does not fit."""

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from eegdecode.data import store
from eegdecode.signals import Recording, Signal, SignalSpec, Trial


def recording(
    name: str = "sub-01_run-01", channels: tuple[str, ...] = ("Cz", "Pz", "Ω3"), sfreq: float = 64.0
) -> Recording:
    data = np.random.default_rng(0).normal(size=(640, len(channels))).astype(np.float32)
    loud = Signal(np.arange(640, dtype=np.float32)[:, None], 64.0, ("envelope",))
    trials = (Trial(0.5, 2.25, "żółw.wav"), Trial(4.0, 1.0, "b.wav"))
    return Recording(
        name, "sub-01", Signal(data, sfreq, channels).stream(), trials, "late", "01", {"envelope": loud.stream()}
    )


def open_with(folder: Path, *recordings: Recording) -> store.Store:
    store.write_manifest(folder, [each.name for each in recordings])
    for each in recordings:
        store.write(folder, each)
    return store.open_store(folder)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = recording()
    (read,) = open_with(tmp_path, written).recordings
    assert (read.name, read.subject, read.session, read.run) == ("sub-01_run-01", "sub-01", "late", "01")
    assert (read.sfreq, read.channels, read.trials, read.n_times) == (64.0, ("Cz", "Pz", "Ω3"), written.trials, 640)
    np.testing.assert_array_equal(read.signal, written.signal.signal().data)
    np.testing.assert_array_equal(read.target("envelope"), written.targets["envelope"].signal().data)
    assert (read.target_sfreq("envelope"), read.signal.dtype) == (64.0, np.float32)


def test_arrays_are_the_files_own_bytes_and_read_only(tmp_path: Path) -> None:
    (read,) = open_with(tmp_path, recording()).recordings
    assert isinstance(read.signal, np.memmap) and read.signal.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        read.signal[0, 0] = 1
    with h5py.File(read.path, "r+") as file:  # no handle of ours stands in the way
        file["signal"][0, 0] = 42
    assert read.signal[0, 0] == 42


def test_a_copy_in_another_process_maps_anew(tmp_path: Path) -> None:
    opened = open_with(tmp_path, recording())
    before = opened.recordings[0].signal.copy()
    sent = pickle.dumps(opened)
    assert len(sent) < 2000 < before.nbytes
    np.testing.assert_array_equal(pickle.loads(sent).recordings[0].signal, before)


def test_same_recording_same_bytes(tmp_path: Path) -> None:
    assert (
        store.write(tmp_path / "a", recording()).read_bytes() == store.write(tmp_path / "b", recording()).read_bytes()
    )


def test_a_recording_is_whole_or_absent(tmp_path: Path) -> None:
    broken = replace(recording(), targets={"envelope": "no signal"})
    with pytest.raises(AttributeError):
        store.write(tmp_path, broken)  # type: ignore[arg-type]
    assert not store.exists(tmp_path, broken.name) and list(tmp_path.iterdir()) == []


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no store, it has no manifest.json: run preprocess first"):
        store.open_store(tmp_path)
    store.write_manifest(tmp_path, ["sub-01_run-01", "sub-02", "sub-03"])
    store.write(tmp_path, recording())
    with pytest.raises(ValueError, match=r"lacks 2 of 3 recordings \(sub-02, sub-03\): run preprocess again"):
        store.open_store(tmp_path)


def test_spec_is_what_all_agree_on_and_names_the_odd_one(tmp_path: Path) -> None:
    names = ("sub-01", "sub-02", "sub-03")
    same = open_with(tmp_path / "same", *(recording(name) for name in names))
    assert same.spec("envelope") == SignalSpec(("Cz", "Pz", "Ω3"), 64.0, 1, same.subjects)
    odd = open_with(tmp_path / "odd", recording("sub-01"), recording("sub-02", ("Cz", "Pz", "Oz")), recording("sub-03"))
    with pytest.raises(ValueError, match=r"but sub-02 has 3 channels \(Cz Pz Oz\) at 64 Hz.* most have .*\(Cz Pz Ω3\)"):
        odd.spec("envelope")


def test_an_unknown_target_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target must be one of envelope, which sub-01_run-01 has, but got 'mel'"):
        open_with(tmp_path, recording()).spec("mel")
