"""Tables, arrays, XDF, NWB, cells of .mat, epochs and sounds are recordings like any other; what they leave open is
asked for in one sentence."""

import importlib.util
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import mne
import numpy as np
import pytest
import scipy.io

from eegdecode.data.config import Matlab, Reading, Table
from eegdecode.data.events import of_file
from eegdecode.data.io import raw, recordings
from eegdecode.data.io.readers.opened import Opened
from tests.eegdecode.recorded import write_nwb, write_xdf
from tests.eegdecode.test_matlab import version_5, version_7

NAMES = ("Fz", "Cz", "Pz", "Oz")
DATA = np.random.default_rng(0).normal(size=(500, 4)) * 20  # µV
SFREQ = 250.0


def is_the_recording(opened: Opened, names: Sequence[str] = NAMES, atol: float = 1e-9) -> None:
    stream = opened.stream
    assert (stream.channels, stream.sfreq, stream.n_times) == (tuple(names), SFREQ, 500)
    whole = stream.read(0, 500)
    np.testing.assert_allclose(whole, DATA * 1e-6, atol=atol)
    for first, stop in ((0, 1), (120, 333), (499, 500)):
        np.testing.assert_array_equal(stream.read(first, stop), whole[first:stop])


def text(header: str, separator: str = ",", clock: float | None = 1.0, comma: bool = False) -> str:
    rows = [
        separator.join([*([f"{k / SFREQ / clock:.6f}"] if clock else []), *(f"{value:.6f}" for value in row)])
        for k, row in enumerate(DATA.tolist())
    ]
    body = "\n".join(rows)
    return f"{header}\n{body.replace('.', ',') if comma else body}\n"


def study(folder: Path, name: str) -> recordings.Entry:
    (entry,) = recordings.find(folder, "{subject}" + Path(name).suffix)
    return entry


@pytest.mark.parametrize(
    ("name", "content", "table"),
    [
        ("a.csv", text("time,Fz [uV],Cz [uV],Pz [uV],Oz [uV]"), Table()),
        ("a.tsv", text("t\tFz\tCz\tPz\tOz", "\t"), Table()),
        ("a.csv", text("time;Fz;Cz;Pz;Oz", ";", comma=True), Table()),
        ("a.csv", text("timestamp_ms,Fz,Cz,Pz,Oz", clock=1e-3), Table()),
        ("a.txt", text("% written by a device\nFz Cz Pz Oz", " ", None), Table(sfreq=250.0)),
        ("a.csv", text("", clock=None).lstrip(), Table(sfreq=250.0, channels=NAMES)),
    ],
    ids=["header with units", "tabs", "decimal commas", "milliseconds", "spaces and a remark", "no header"],
)
def test_a_table_is_a_recording(tmp_path: Path, name: str, content: str, table: Table) -> None:
    (tmp_path / name).write_text(content)
    is_the_recording(raw.open(tmp_path / name, Reading(table=table)), atol=1e-11)


def test_a_row_may_be_a_channel(tmp_path: Path) -> None:
    lines = [",".join([name, *(f"{value:.6f}" for value in DATA[:, k])]) for k, name in enumerate(NAMES)]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    opened = raw.open(tmp_path / "a.csv", Reading(table=Table(sfreq=250.0, rows="channels")))
    is_the_recording(opened, atol=1e-11)
    assert "a row was taken as a channel; if not, set table.rows=times" in opened.notes


def test_words_in_a_table_are_annotations(tmp_path: Path) -> None:
    lines = text("time,Fz,Cz,Pz,Oz").splitlines()
    words = ["", *["left" if 100 <= k < 150 else "right" if 200 <= k < 300 else "" for k in range(500)]]
    words[0] = "marker"
    (tmp_path / "a.csv").write_text("\n".join(f"{line},{word}" for line, word in zip(lines, words, strict=True)))
    opened = raw.open(tmp_path / "a.csv")
    assert [(a.onset_s, a.duration_s, a.text) for a in opened.annotations] == [(0.4, 0.2, "left"), (0.8, 0.4, "right")]
    is_the_recording(opened, atol=1e-11)
    assert opened.notes == ("columns that are no channels: marker",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (text("Fz,Cz,Pz,Oz", clock=None), r"a\.csv has no column with times among Fz, Cz.*table\.sfreq=…"),
        (text("time,Fz,Cz,Pz,Oz").replace("0.400000,", "0.400000,x", 1), r"row 101 of Fz has 'x.*' among numbers"),
        (text("time,Fz,Cz,Pz,Oz")[:-12], r"cells in row 500, but 5 columns.*may be cut off"),
        (text("time,Fz,Cz,Pz,Oz").replace("0.400000,", "0.100000,", 1), r"go back from 0\.396 to 0\.1 in row 101"),
        ("name,age\nx,y\nz,w\n", r"a\.csv has no column"),
        (text("time,Fz,Cz,Pz,Oz") + "\0", r"a\.csv has NUL bytes"),
        (text("time,Fz,Cz,Pz,Oz").replace("\n", "\ninf,1,1,1,1\n", 1), r"times in time are not all numbers"),
    ],
    ids=["no clock", "a word", "cut off", "backwards", "no numbers", "NULs", "inf"],
)  # fmt: skip
def test_a_table_that_is_none_is_refused_in_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=says):
        raw.open(tmp_path / "a.csv")


def test_parquet_needs_pyarrow_and_says_so(tmp_path: Path) -> None:
    if importlib.util.find_spec("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        columns = {"time": np.arange(500) / SFREQ, **{name: DATA[:, k] for k, name in enumerate(NAMES)}}
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
        is_the_recording(raw.open(tmp_path / "a.parquet"))
    else:
        (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100))
        with pytest.raises(ValueError, match=r"a\.parquet needs the package pyarrow.*hpc-eegdecode\[tables\]"):
            raw.open(tmp_path / "a.parquet")


@pytest.mark.parametrize("shape", ["times", "channels"])
def test_npy_and_npz(tmp_path: Path, shape: str) -> None:
    data = DATA if shape == "times" else DATA.T
    np.save(tmp_path / "a.npy", data)
    np.savez_compressed(tmp_path / "a.npz", eeg=data, sfreq=250.0, ch_names=NAMES, unit="uV", y=np.arange(9))
    is_the_recording(raw.open(tmp_path / "a.npy", Reading(table=Table(sfreq=250.0, channels=NAMES))))
    opened = raw.open(tmp_path / "a.npz")
    is_the_recording(opened)
    assert set(opened.units.values()) == {"uV"}
    with pytest.raises(ValueError, match=r"a\.npy does not say its sampling rate: give it with table\.sfreq"):
        raw.open(tmp_path / "a.npy")


def test_an_array_of_trials(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DATA.reshape(5, 100, 4).transpose(0, 2, 1))
    opened = raw.open(tmp_path / "a.npy", Reading(table=Table(sfreq=250.0, channels=NAMES)))
    is_the_recording(opened)
    assert opened.trial_edges == (100, 200, 300, 400)
    assert [trial.stimulus for trial in of_file.trials(opened, tmp_path / "a.npy", tmp_path)][-1] == "trial-0005"


def test_an_array_of_objects_runs_no_code(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy holds Python objects, which are not read"):
        raw.open(tmp_path / "a.npy", Reading(table=Table(sfreq=250.0)))


# ---- XDF


def test_xdf_has_its_markers_where_the_signal_was_then(tmp_path: Path) -> None:
    write_xdf(tmp_path / "a.xdf", DATA, NAMES, SFREQ)
    opened = raw.open(tmp_path / "a.xdf")
    is_the_recording(opened)
    assert [(round(a.onset_s, 6), a.text) for a in opened.annotations] == [(0.4, "left"), (0.8, "right")]
    assert set(opened.units.values()) == {"microvolts"}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[:-5], "promises"),
        (lambda content: content.replace(b"<desc>", b"<!ENTITY>", 1), "entities"),
        (lambda content: content.replace(b"double64", b"double65"), "double65"),
        (lambda content: content.replace(b"<nominal_srate>250.0", b"<nominal_srate>1e300"), "damaged|1e"),
        (lambda content: b"MDF:" + content[4:], "does not begin as XDF"),
    ],
    ids=["cut", "entities", "format", "rate", "magic"],
)
def test_a_damaged_xdf_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    write_xdf(tmp_path / "a.xdf", DATA, NAMES, SFREQ)
    (tmp_path / "a.xdf").write_bytes(damage((tmp_path / "a.xdf").read_bytes()))
    with pytest.raises(ValueError, match=rf"a\.xdf.*({says})"):
        raw.open(tmp_path / "a.xdf")


# ---- NWB


def test_nwb(tmp_path: Path) -> None:
    write_nwb(tmp_path / "a.nwb", DATA, NAMES, SFREQ)
    opened = raw.open(tmp_path / "a.nwb")
    is_the_recording(opened, atol=1e-9)
    assert [(round(a.onset_s, 6), round(a.duration_s, 6), a.text) for a in opened.annotations] == [
        (0.4, 0.2, "left"), (0.8, 0.4, "right"),
    ]  # fmt: skip
    with h5py.File(tmp_path / "a.nwb", "a") as file:
        file["acquisition/ElectricalSeries"].attrs["description"] = "an ECoG grid"
    assert raw.open(tmp_path / "a.nwb").stream.sensor("Cz").kind == "ecog"
    with h5py.File(tmp_path / "a.nwb", "a") as file:
        file["acquisition/ElectricalSeries"].attrs["neurodata_type"] = "TimeSeries"
    with pytest.raises(ValueError, match=r"a\.nwb has no ElectricalSeries"):
        raw.open(tmp_path / "a.nwb")


def test_snirf_is_refused_by_its_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.snirf", "w") as file:
        file["formatVersion"] = "1.0"
    with pytest.raises(ValueError, match=r"a\.snirf holds fNIRS .*mne\.io\.read_raw_snirf"):
        raw.open(tmp_path / "a.snirf")


# ---- Cells in .mat


def cells_5(path: Path, content: dict[str, Any]) -> None:
    scipy.io.savemat(path, {name: _objects(v) if isinstance(v, list) else v for name, v in content.items()})


def _objects(values: list[np.ndarray]) -> np.ndarray:
    out = np.empty((1, len(values)), object)
    for k, value in enumerate(values):
        out[0, k] = value
    return out


def cells_7(path: Path, content: dict[str, Any]) -> None:
    version_7(path, {name: value for name, value in content.items() if not isinstance(value, list)})
    with h5py.File(path, "r+") as file:
        for name, value in content.items():
            if isinstance(value, list):
                cells = np.empty((len(value), 1), h5py.ref_dtype)
                for k, matrix in enumerate(value):
                    item = file.create_dataset(f"#refs#/{name}{k}", data=np.asarray(matrix, float).T)
                    item.attrs["MATLAB_class"] = np.bytes_("double")
                    cells[k, 0] = item.ref
                file.create_dataset(name, data=cells).attrs["MATLAB_class"] = np.bytes_("cell")


both = pytest.mark.parametrize("write", [cells_5, cells_7], ids=["v5", "v7.3"])
ENDS = (0, 130, 300, 500)
CELLS = [DATA[a:b] for a, b in pairwise(ENDS)]
STIM = [np.arange(2.0 * len(cell)).reshape(-1, 2) for cell in CELLS]


@both
def test_cells_of_the_mtrf_toolbox_are_trials(tmp_path: Path, write: Callable[[Path, dict[str, Any]], None]) -> None:
    write(tmp_path / "a.mat", {"stim": STIM, "resp": CELLS, "fs": 250.0})
    opened = raw.open(tmp_path / "a.mat")
    is_the_recording(opened, ("ch1", "ch2", "ch3", "ch4"))
    assert opened.trial_edges == (130, 300)
    assert opened.notes[0].startswith("resp was taken as 3 cells of [time x channel] in uV")
    trials = of_file.trials(opened, tmp_path / "a.mat", tmp_path)
    assert [(trial.start, round(trial.duration, 6)) for trial in trials] == [(0.0, 0.52), (0.52, 0.68), (1.2, 0.8)]
    named = raw.open(tmp_path / "a.mat", Reading(Matlab(channels=NAMES)))
    assert named.stream.channels == NAMES


@both
def test_cells_of_channels_by_time_too(tmp_path: Path, write: Callable[[Path, dict[str, Any]], None]) -> None:
    write(tmp_path / "a.mat", {"trial": [cell.T for cell in CELLS], "fsample": 250.0})
    is_the_recording(raw.open(tmp_path / "a.mat"), ("ch1", "ch2", "ch3", "ch4"))


def test_cells_without_common_channels_are_refused(tmp_path: Path) -> None:
    cells_5(tmp_path / "a.mat", {"resp": [DATA, DATA[:90, :3]], "fs": 250.0})
    with pytest.raises(ValueError, match=r"cells of resp do not have the same channels \(500 x 4, 90 x 3\)"):
        raw.open(tmp_path / "a.mat")


@pytest.mark.parametrize("write", [version_5, version_7], ids=["v5", "v7.3"])
def test_names_and_units_within_structs(tmp_path: Path, write: Callable[[Path, dict[str, Any]], None]) -> None:
    if write is version_5:
        where = np.array([[(name,) for name in NAMES]], dtype=[("labels", object)])
        scipy.io.savemat(
            tmp_path / "a.mat",
            {"EEG": {"data": DATA.T * 1e-3, "srate": 250.0, "chanlocs": where, "units": "mV"}},
        )
    else:
        write(tmp_path / "a.mat", {"cnt": DATA.T * 1e-3, "nfo/fs": 250.0, "nfo/clab": NAMES, "nfo/units": ("mV",) * 4})
    opened = raw.open(tmp_path / "a.mat")
    is_the_recording(opened)
    assert set(opened.units.values()) == {"mV"}


# ---- Epochs


def test_epochs_are_trials_with_their_conditions(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    info = mne.create_info(list(NAMES), SFREQ, "eeg")
    events = np.array([[k * 100, 0, 1 + k % 2] for k in range(5)])
    metadata = pandas.DataFrame({"rating": [1.0, 2.0, 3.0, 4.0, 5.0], "word": list("abcde")})
    epochs = mne.EpochsArray(
        DATA.reshape(5, 100, 4).transpose(0, 2, 1) * 1e-6, info, events, event_id={"face": 1, "house": 2},
        metadata=metadata, verbose="error",
    )  # fmt: skip
    epochs.save(tmp_path / "a-epo.fif", fmt="double", verbose="error")
    opened = raw.open(tmp_path / "a-epo.fif")
    is_the_recording(opened, atol=1e-11)
    trials = of_file.trials(opened, tmp_path / "a-epo.fif", tmp_path)
    assert [trial.labels["trial_type"] for trial in trials] == ["face", "house", "face", "house", "face"]
    assert trials[3].labels == {"rating": 4.0, "word": "d", "trial_type": "house"}
