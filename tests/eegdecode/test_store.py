"""The store writes recordings atomically, maps their bytes, and names what is missing or does not fit."""

import errno
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.signals import Recording, Sensor, Signal, SignalSpec, Trial
from hpc.runs import products
from hpc.runs.products import DamagedProduct
from tests.conftest import ROOT


def recording(
    name: str = "sub-01_run-01", channels: tuple[str, ...] = ("Cz", "Pz", "Ω3"), sfreq: float = 64.0
) -> Recording:
    data = np.random.default_rng(0).normal(size=(640, len(channels))).astype(np.float32)
    loud = Signal(np.arange(640, dtype=np.float32)[:, None], 64.0, ("envelope",))
    trials = (Trial(0.5, 2.25, "żółw.wav"), Trial(4.0, 1.0, "b.wav"))
    return Recording(
        name, "sub-01", Signal(data, sfreq, channels).stream(), trials, "late", "01", {"envelope": loud.stream()}
    )


def open_with(folder: Path, *recordings: Recording) -> Store:
    store.write_manifest(folder, [each.name for each in recordings])
    for each in recordings:
        store.write(folder, each)
    return store.open_store(folder)


def large() -> Recording:
    """Of 3.2 MB."""
    data = np.random.default_rng(0).normal(size=(50_000, 16)).astype(np.float32)
    return Recording("sub-01", "sub-01", Signal(data, 64.0, tuple("abcdefghijklmnop")).stream(), ())


def python(lines: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Lines of Python in a process of their own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(lines)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


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
    with pytest.raises(ValueError, match=r"is not a store, as it has no manifest.json: run preprocess first"):
        store.open_store(tmp_path)
    store.write_manifest(tmp_path, ["sub-01_run-01", "sub-02", "sub-03"])
    store.write(tmp_path, recording())
    with pytest.raises(ValueError, match=r"lacks 2 of 3 recordings \(sub-02, sub-03\): run preprocess again"):
        store.open_store(tmp_path)


def test_spec_is_what_all_agree_on_and_names_the_odd_one(tmp_path: Path) -> None:
    names = ("sub-01", "sub-02", "sub-03")
    same = open_with(tmp_path / "same", *(recording(name) for name in names))
    spec = same.spec("envelope")
    assert spec == SignalSpec(
        ("Cz", "Pz", "Ω3"), 64.0, 1, same.subjects, 64.0, kinds=("eeg",) * 3, positions=(None,) * 3
    )
    assert spec.is_sequence and spec.n_steps(32) == 32
    odd = open_with(tmp_path / "odd", recording("sub-01"), recording("sub-02", ("Cz", "Pz", "Oz")), recording("sub-03"))
    with pytest.raises(ValueError, match=r"but sub-02 has 3 channels \(Cz Pz Oz\) at 64 Hz.* most have .*\(Cz Pz Ω3\)"):
        odd.spec("envelope")


def test_an_unknown_target_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target must be one of envelope, which sub-01_run-01 has, but got 'mel'"):
        open_with(tmp_path, recording()).spec("mel")


def test_any_hdf5_tool_reads_what_it_is(tmp_path: Path) -> None:
    sensors = {"Cz": Sensor("eeg", (0.0, 0.01, 0.12)), "Pz": Sensor("mag")}
    data = np.ones((64, 2), np.float32)
    trials = (Trial(0.0, 0.5, "a.wav", {"valence": 3.5, "mood": "żal"}), Trial(0.5, 0.5, "b.wav"))
    values = {"clip": np.arange(6, dtype=np.float32).reshape(2, 3)}
    written = Recording("sub-01", "sub-01", Signal(data, 64.0, ("Cz", "Pz"), sensors).stream(), trials, values=values)
    path = store.write(tmp_path, written, {"source": "sub-01_eeg.edf"}, key="k1")
    with h5py.File(path) as file:
        assert file["channels/name"].asstr()[:].tolist() == ["Cz", "Pz"]
        assert file["channels/unit"].asstr()[:].tolist() == ["V", "T"]
        np.testing.assert_array_equal(file["channels/position"][0], [0.0, 0.01, 0.12])
        assert file["signal"].attrs["sfreq"] == 64.0 and file["signal"].attrs["checksum"].startswith("blake2b:")
        assert (file.attrs["schema"], file.attrs["key"]) == (store.SCHEMA, "k1")
    store.write_manifest(tmp_path, ["sub-01"])
    (before,) = store.open_store(tmp_path).recordings
    store.write_index(tmp_path)
    (after,) = store.open_store(tmp_path).recordings
    assert before == after and after.trials == trials
    assert after.sensors == (sensors["Cz"], sensors["Pz"]) and after.made == {"source": "sub-01_eeg.edf"}
    np.testing.assert_array_equal(after.values("clip"), values["clip"])
    with pytest.raises(ValueError, match="a value of the trials must be one of clip, which sub-01 has, but got 'text'"):
        after.values("text")


def test_int16_is_half_the_bytes_and_states_its_error(tmp_path: Path) -> None:
    wide, flat = np.random.default_rng(0).normal(size=(5000, 3)) * (1, 1e-6, 1e3), np.zeros((5000, 1))
    data = np.column_stack([wide, flat]).astype(np.float32)
    written = Recording("sub-01", "sub-01", Signal(data, 64.0, ("A", "B", "C", "D")).stream(), ())
    small = store.write(tmp_path / "small", written, int16=True)
    large = store.write(tmp_path / "large", written)
    assert large.stat().st_size - small.stat().st_size == pytest.approx(data.nbytes / 2, rel=0.05)
    store.write_manifest(tmp_path / "small", ["sub-01"])
    (read,) = store.open_store(tmp_path / "small").recordings
    assert read.signal.dtype == np.int16
    error = (read.read(0, 5000) - data).std(axis=0)[:3] / data.std(axis=0)[:3]
    with h5py.File(small) as file:
        assert file["signal"].attrs["rounding_error"] == pytest.approx(error.max(), rel=0.05)
    assert error.max() < 1e-4 and not read.read(0, 5000)[:, 3].any()


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = store.write(tmp_path, recording(), key="k")
    name = recording().name
    assert store.holds(tmp_path, name, "k") and not store.holds(tmp_path, name, "other") and not store.holds(
        tmp_path, "sub-99", "k"
    )  # fmt: skip
    with h5py.File(path, "r+") as file:
        file["targets/envelope"][7] = 1e9
    store.write_manifest(tmp_path, [name])
    assert not store.holds(tmp_path, name, "k")
    with pytest.raises(DamagedProduct, match=r"\.h5 is damaged: its SHA-256 is"):
        store.open_store(tmp_path)
    products.enter(path)  # as if it were right: then its own checksums say which array it is
    assert store.damaged(store.open_store(tmp_path).recordings[0]) == ["targets/envelope"]
    path.write_bytes(path.read_bytes()[:3000])
    assert not store.holds(tmp_path, name, "k")


def test_a_file_that_changed_behind_the_index_is_refused(tmp_path: Path) -> None:
    open_with(tmp_path, recording())
    store.write_index(tmp_path)
    with open(tmp_path / "sub-01_run-01.h5", "ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match=r"is damaged: it has \d+ bytes, and \d+ were written"):
        store.open_store(tmp_path).recordings[0].signal  # noqa: B018


def test_what_is_no_number_is_refused_by_channel(tmp_path: Path) -> None:
    data = np.zeros((100, 3), np.float32)
    data[50, 1] = np.nan
    broken = Recording("sub-01", "sub-01", Signal(data, 64.0, ("Cz", "Pz", "Oz")).stream(), ())
    with pytest.raises(ValueError, match=r"sub-01 has values that are not numbers .* in Pz"):
        store.write(tmp_path, broken)
    assert list(tmp_path.iterdir()) == []


def test_several_stores_are_one_and_a_subject_in_two_of_them_is_one_subject(tmp_path: Path) -> None:
    open_with(tmp_path / "calibration", recording("sub-01_run-01"), replace(recording("sub-02"), subject="sub-02"))
    open_with(tmp_path / "training", recording("sub-01_run-01"))
    both = store.open_store(tmp_path / "calibration", tmp_path / "training")
    assert len(both.recordings) == 3 and both.subjects == ("sub-01", "sub-02")


def test_a_recording_is_written_in_stretches_whatever_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store.write(tmp_path / "whole", recording(), int16=True).read_bytes()
    monkeypatch.setattr(store, "BLOCK_VALUES", 100)
    assert store.write(tmp_path / "stretches", recording(), int16=True).read_bytes() == whole


def test_names_that_stand_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="these occur twice: sub-01"):
        store.write_manifest(tmp_path, ["sub-01", "sub-01", "sub-02"])


def test_targets_and_values_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    signal, trials = Signal(np.zeros((64, 1), np.float32), 64.0, ("Cz",)).stream(), (Trial(0, 1, "a"),)
    rows = np.zeros((128, 2))
    rows[70, 1] = 1e39  # no float32
    streams = {"mel": Signal(rows, 128.0, ("m0", "m1")).stream()}
    with pytest.raises(ValueError, match=r"mel of sub-1 has values that are not numbers .* in row 70, column 1"):
        store.write(tmp_path, Recording("sub-1", "sub-1", signal, trials, targets=streams))
    values = {"clip": np.array([[0, 1, np.nan]], np.float32)}
    with pytest.raises(ValueError, match=r"clip of sub-1 has values that are not numbers .* in row 0, column 2"):
        store.write(tmp_path, Recording("sub-1", "sub-1", signal, trials, values=values))
    assert list(tmp_path.iterdir()) == []


def test_whatever_is_damaged_in_a_file_it_is_not_held_and_said_of_which(tmp_path: Path) -> None:
    path = store.write(tmp_path, recording(), {"notes": ["as it was"]}, key="k")
    store.write_manifest(tmp_path, [path.stem])
    opened = store.open_store(tmp_path)
    assert store.holds(tmp_path, path.stem, "k") and store.broken(opened, [0, 0]) == []
    good, n_damaged = path.read_bytes(), 0
    blocks = [(block.offset, block.offset + block.n_bytes) for block in opened.recordings[0].blocks.values()]
    for first in range(0, len(good), 192):
        path.write_bytes(good[:first] + bytes(byte ^ 0x5A for byte in good[first : first + 64]) + good[first + 64 :])
        held, sentences = store.holds(tmp_path, path.stem, "k"), store.broken(opened, [0])
        in_data = any(begin <= first < end for begin, end in blocks)
        assert not (in_data and held) and (held or sentences or not in_data)
        n_damaged += not held
    assert n_damaged > 10
    for cut in (len(good) // 2, 100, 0):
        path.write_bytes(good[:cut])
        assert not store.holds(tmp_path, path.stem, "k")
        assert store.broken(opened, [0])[0].startswith(f"{path} is damaged, its bytes are not those that were written")
    # What opening reads is looked at as well
    path.write_bytes(good.replace(b"as it was", b"as it wos"))
    assert not store.holds(tmp_path, path.stem, "k") and "(about): remove it" in store.broken(opened, [0])[0]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    if os.getuid() != 0:
        pytest.skip("a small disk is mounted, which takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "small", folder], check=False).returncode != 0:
        pytest.skip("mount does not work here, as in a container")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_while_a_recording_is_written(small: Path) -> None:
    def somebody_else_writes(part: float) -> None:
        (small / "filler").write_bytes(b"x" * shutil.disk_usage(small).free)

    for _ in range(3):
        with pytest.raises(OSError, match="No space left on device: ") as failure:
            store.write(small, large(), beat=somebody_else_writes)
        assert failure.value.errno == errno.ENOSPC and [path.name for path in small.iterdir()] == ["filler"]
        (small / "filler").unlink()
    (small / "filler").write_bytes(b"x" * 3_000_000)
    with pytest.raises(OSError, match="No space left on device, 3 MB are free and 4 MB needed"):
        store.write(small, large())
    (small / "filler").unlink()
    store.write(small, large())
    store.write_manifest(small, ["sub-01"])
    assert not store.broken(store.open_store(small), [0])


@pytest.mark.parametrize("when", [0.0, 1.0])
def test_a_process_that_met_a_full_disk_ends_as_it_wanted_to(small: Path, when: float) -> None:
    ended = python(f"""
        import shutil
        from pathlib import Path
        from eegdecode.data.store import store
        from tests.eegdecode.test_store import large

        def somebody_else_writes(part):
            if part >= {when}:
                Path("filler").write_bytes(b"x" * shutil.disk_usage(".").free)

        store.write(Path(), large(), beat=somebody_else_writes)
        """, small)  # fmt: skip
    assert ended.stderr.splitlines()[-1] == "OSError: [Errno 28] No space left on device: 'sub-01.h5'"
    assert ended.returncode == 1 and [path.name for path in small.iterdir()] == ["filler"]


def test_a_process_that_met_a_full_disk_and_went_on_ends_well(small: Path) -> None:
    ended = python("""
        import errno, shutil
        from pathlib import Path
        import numpy as np
        from eegdecode.data.store import store
        from eegdecode.evaluation.decode import predictions
        from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
        from tests.eegdecode.test_store import large

        def somebody_else_writes(part):
            Path("filler").write_bytes(b"x" * shutil.disk_usage(".").free)

        rows = np.ones((50_000, 16), np.float32)
        decoded = Decoded(64.0, (DecodedTrial("sub-01", "a.wav", rows, rows),), ())
        for write in (
            lambda: store.write(Path(), large(), beat=somebody_else_writes),
            lambda: predictions.write(Path("predictions.h5"), decoded),
        ):
            try:
                write()
            except OSError as error:
                print(errno.errorcode[error.errno], error.filename)
        Path("filler").unlink()
        store.write(Path(), large())
        """, small)  # fmt: skip
    assert (ended.stdout, ended.stderr, ended.returncode) == ("ENOSPC sub-01.h5\nENOSPC predictions.h5\n", "", 0)


def test_a_file_larger_than_this_process_may_write_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    ended = python("""
        import resource
        from pathlib import Path
        from eegdecode.data.store import store
        from tests.eegdecode.test_store import large

        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
        store.write(Path(), large())
        """, tmp_path)  # fmt: skip
    last = "File too large, a file may have 3 MB here and 4 MB needed: raise `ulimit -f`: 'sub-01.h5'"
    assert ended.stderr.splitlines()[-1] == f"OSError: [Errno 27] {last}"
    assert ended.returncode == 1 and list(tmp_path.iterdir()) == []
