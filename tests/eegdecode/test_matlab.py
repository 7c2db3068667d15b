"""The same content in MATLAB's versions 5 and 7.3 is the same recording; the user is asked for what a file leaves
open."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from eegdecode.data.config import Matlab, Reading
from eegdecode.data.io import raw

DATA = np.random.default_rng(0).normal(size=(5, 2000))
LABELS = ("E1", "E2", "E3", "Cz", "EOG")


def version_5(path: Path, content: dict[str, object]) -> None:
    as_cells = {k: np.array(v, object).reshape(-1, 1) if isinstance(v, tuple) else v for k, v in content.items()}
    scipy.io.savemat(path, as_cells)


def version_7(path: Path, content: dict[str, object]) -> None:
    """As MATLAB does: 512 bytes of text, then HDF5 with all axes turned round and text as references to numbers."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            if isinstance(value, tuple):
                cells = np.empty((1, len(value)), h5py.ref_dtype)
                for k, text in enumerate(value):
                    letters = file.create_dataset(
                        f"#refs#/{name.replace('/', '-')}{k}", data=np.array([[ord(c)] for c in text], "u2")
                    )
                    letters.attrs["MATLAB_class"] = np.bytes_("char")
                    cells[0, k] = letters.ref
                file.create_dataset(name, data=cells).attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                array = np.atleast_2d(np.asarray(value, float)).T
                file.create_dataset(name, data=array).attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .")


Write = Callable[[Path, dict[str, object]], None]
both = pytest.mark.parametrize("write", [version_5, version_7])


def test_both_versions_give_equal_arrays(tmp_path: Path) -> None:
    content = {"X": DATA, "fs": 125.0, "labels": LABELS, "DIN_1": np.arange(12.0), "subjectID": 3.0}
    opened = []
    for write in (version_5, version_7):
        write(tmp_path / f"{write.__name__}.mat", content)
        opened.append(raw.open(tmp_path / f"{write.__name__}.mat"))
    one, other = (each.stream for each in opened)
    assert (
        (one.channels, one.sfreq, one.n_times) == (other.channels, other.sfreq, other.n_times) == (LABELS, 125.0, 2000)
    )
    np.testing.assert_array_equal(one.read(0, 2000), (DATA.T * 1e-6).astype(np.float32))
    np.testing.assert_array_equal(other.read(0, 2000), one.read(0, 2000))
    np.testing.assert_array_equal(other.read(700, 711), one.read(0, 2000)[700:711])
    assert opened[0].notes == opened[1].notes
    assert opened[0].notes == ("X was taken as [channel x time] in uV; if not, set matlab.data, axes or unit",)


@both
def test_trials_stand_one_after_the_other(tmp_path: Path, write: Write) -> None:
    trials = DATA.reshape(5, 10, 200).transpose(0, 2, 1)
    write(tmp_path / "a.mat", {"data21": trials, "fs": 125.0})
    opened = raw.open(tmp_path / "a.mat")
    assert opened.trial_edges == tuple(range(200, 2000, 200)) and opened.stream.channels[:2] == ("ch1", "ch2")
    np.testing.assert_allclose(opened.stream.read(0, 2000), DATA.T * 1e-6, rtol=1e-6)


@both
def test_axes_are_those_that_are_named(tmp_path: Path, write: Write) -> None:
    """As of a file that was cut for Python, with trials first."""
    epochs = np.random.default_rng(1).normal(size=(7, 5, 300))
    write(tmp_path / "a.mat", {"X": epochs, "fs": 100.0, "labels": LABELS})
    opened = raw.open(tmp_path / "a.mat", Reading(matlab=Matlab(axes=("trial", "channel", "time"))))
    assert opened.stream.channels == LABELS and opened.trial_edges == tuple(300 * k for k in range(1, 7))
    whole = np.concatenate([epoch.T for epoch in epochs]) * 1e-6
    np.testing.assert_allclose(opened.stream.read(0, 2100), whole, rtol=1e-6)
    assert "X was taken as [trial x channel x time] in uV" in opened.notes[0]
    with pytest.raises(ValueError, match="X has 3 axes .*, but matlab.axes names 2: correct it"):
        raw.open(tmp_path / "a.mat", Reading(matlab=Matlab(axes=("time", "channel"))))
    with pytest.raises(ValueError, match="matlab.axes has channel and time once"):
        Matlab(axes=("trial", "channel"))


@both
def test_time_first_is_seen_by_the_names_or_by_the_longer_axis(tmp_path: Path, write: Write) -> None:
    for name, content in (
        ("long", {"X": DATA.T}),
        ("named", {"X": DATA[:, :4].T.repeat(60, 1)[:, :300], "label": LABELS}),
    ):
        write(tmp_path / f"{name}.mat", content | {"srate": 100.0})
    np.testing.assert_allclose(raw.open(tmp_path / "long.mat").stream.read(0, 9), DATA[:, :9].T * 1e-6, rtol=1e-6)
    assert "taken as [time x channel] in uV" in raw.open(tmp_path / "long.mat").notes[0]


@both
def test_units_are_what_the_user_says(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.mat", {"X": DATA, "Fs": 125.0})
    volt = raw.open(tmp_path / "a.mat", Reading(Matlab(unit="V"))).stream
    field = raw.open(tmp_path / "a.mat", Reading(Matlab(unit="fT"))).stream
    np.testing.assert_allclose(volt.read(0, 9), DATA[:, :9].T, rtol=1e-6)
    np.testing.assert_allclose(field.read(0, 9), DATA[:, :9].T * 1e-15, rtol=1e-6)
    assert (volt.sensor("ch1").kind, field.sensor("ch1").kind) == ("eeg", "mag")


@both
def test_what_cannot_be_told_is_asked_for_with_all_there_is(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "a.mat"
    write(path, {"clean": DATA, "dirty": DATA + 1, "fs": 125.0})
    with pytest.raises(
        ValueError, match=r"(?s)several that may be the samples \(clean, dirty\) among .*dirty \(5 x 2000\)"
    ):
        raw.open(path)
    assert raw.open(path, Reading(Matlab(data="dirty"))).stream.read(0, 1)[0, 0] == np.float32((DATA[0, 0] + 1) * 1e-6)
    with pytest.raises(ValueError, match=r"no matrix dirt; there are .*fs \(1 x 1\): correct matlab.data"):
        raw.open(path, Reading(Matlab(data="dirt")))
    write(path, {"X": DATA})
    with pytest.raises(
        ValueError, match=r"a.mat does not say its sampling rate among X \(5 x 2000\): give .*matlab.sfreq"
    ):
        raw.open(path)
    assert raw.open(path, Reading(Matlab(sfreq=62.5))).stream.sfreq == 62.5
    write(path, {"X": DATA, "fs": 125.0, "srate": 128.0})
    with pytest.raises(ValueError, match="has no one sampling rate .*fs = 125; srate = 128"):
        raw.open(path)
    write(path, {"threshold": 3.0, "fs": 125.0})
    with pytest.raises(ValueError, match="has no matrix of samples among"):
        raw.open(path)
    write(path, {"X": DATA[:, :5].repeat(10, 0).repeat(10, 1), "fs": 125.0})
    with pytest.raises(ValueError, match="X is 50 x 50, which does not show what is time"):
        raw.open(path)


@both
def test_a_cut_off_file_is_named(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.mat", {"X": DATA, "fs": 125.0})
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"a\.mat is cut off or damaged"):
        raw.open(tmp_path / "a.mat")


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matlab\.sfreq is a rate in Hz .* got -1"):
        Matlab(sfreq=-1)
