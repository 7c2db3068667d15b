"""What each channel is, its kind and its unit, is decided with a reason: the config is final, then channels.tsv, then
the file; names, samples and the size of numbers decide what is left."""

from collections.abc import Mapping
from pathlib import Path

import mne
import numpy as np
import pytest

from eegdecode.data.config import Reading, Table
from eegdecode.data.io import recordings
from eegdecode.data.io.channels import kinds, units
from eegdecode.data.io.readers.opened import Opened

SFREQ = 250.0
RNG = np.random.default_rng(0)
EEG = RNG.normal(size=(1000, 4)) * 20  # µV
NAMES = ("Fz", "Cz", "Pz", "Oz")


def of_fif(folder: Path, scale: float, table_units: str = "", cfg: Reading = Reading()) -> Opened:  # noqa: B008 (frozen)
    """A FIF whose numbers are µV times `scale`, with a channels.tsv."""
    place = folder / "sub-01/eeg"
    place.mkdir(parents=True)
    info = mne.create_info(list(NAMES), SFREQ, "eeg")
    raw = mne.io.RawArray(EEG.T * scale, info, verbose="error")
    raw.save(place / "sub-01_task-x_eeg.fif", verbose="error")
    if table_units:
        rows = "".join(f"{name}\tEEG\t{table_units}\n" for name in NAMES)
        (place / "sub-01_task-x_channels.tsv").write_text(f"name\ttype\tunits\n{rows}")
    (entry,) = recordings.find(folder)
    return recordings.open_entry(entry, cfg)


def is_right(opened: Opened) -> None:
    np.testing.assert_allclose(opened.stream.read(0, 1000)[:, :4], EEG * 1e-6, atol=1e-9)


def why(opened: Opened, name: str) -> tuple[str, str, str, str]:
    (row,) = [each for each in opened.decided if each.name == name]
    return row.kind, row.kind_by, row.unit, row.unit_by


def test_channels_tsv_is_believed_for_fif_too(tmp_path: Path) -> None:
    opened = of_fif(tmp_path, 1e-3, "mV")  # FIF is in volt, whoever wrote this had numbers in mV
    is_right(opened)
    assert why(opened, "Cz") == ("eeg", "the file", "mV", "channels.tsv")
    assert "all channels: in mV by channels.tsv" in opened.notes


def test_unless_its_unit_is_impossible(tmp_path: Path) -> None:
    """A study that was converted to FIF, and kept the table of its EDF."""
    opened = of_fif(tmp_path, 1e-6, "uV")
    is_right(opened)
    assert why(opened, "Cz")[2:] == ("V", "their size (in uV, as channels.tsv says, they would be no eeg)")


def test_units_in_the_config_are_final(tmp_path: Path) -> None:
    opened = of_fif(tmp_path, 1.0, "mV", Reading(units={"*": "mV", "?z": "uV"}))
    is_right(opened)
    assert why(opened, "Cz") == ("eeg", "the file", "uV", "units (?z)")


@pytest.mark.parametrize(("scale", "unit"), [(1.0, "uV"), (1e-3, "mV"), (1e-6, "V"), (1e3, "nV")])
def test_numbers_without_a_unit_say_it_by_their_size(tmp_path: Path, scale: float, unit: str) -> None:
    np.save(tmp_path / "s1.npy", EEG * scale)
    (entry,) = recordings.find(tmp_path, "{subject}.npy")
    opened = recordings.open_entry(entry, Reading(table=Table(sfreq=SFREQ, channels=NAMES)))
    is_right(opened)
    said = [note for note in opened.notes if "by their size" in note]
    assert (said == []) == (unit == "uV")
    if said:
        assert said[0].startswith(f"all channels: in {unit} by their size (") and "set units" in said[0]
    final = recordings.open_entry(entry, Reading(table=Table(sfreq=SFREQ, channels=NAMES), units={"*": "uV"}))
    np.testing.assert_allclose(final.stream.read(0, 1000), EEG * scale * 1e-6, rtol=1e-5)


def test_wrong_words_are_refused_and_idle_ones_are_noted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"units says \*: inch, but a unit is one of V, mV, uV"):
        Reading(units={"*": "inch"})
    with pytest.raises(ValueError, match=r"kinds says A1: reference, but a kind is one of eeg, mag"):
        Reading(kinds={"A1": "reference"})
    opened = of_fif(tmp_path, 1e-6, cfg=Reading(units={"XX": "mV"}, kinds={"Y*": "misc"}))
    assert "units: no channel is called XX; there are Fz, Cz, Pz, Oz" in opened.notes
    assert "kinds: no channel is called Y*; there are Fz, Cz, Pz, Oz" in opened.notes


NAMED: Mapping[str, str] = {
    "GYRO_X": "misc", "ACC_Z": "misc", "SampleIndex": "misc", "TIMESTAMP": "misc", "timestamps": "misc",
    "ECG": "ecg", "HEOG": "eog", "EMG1": "emg", "Status": "stim", "marker": "stim", "A1": "ref", "EEG A2-REF": "ref",
    "A2-A1": "ref", "COUNTER": "misc", "Fz": "eeg", "Cz": "eeg", "EEG Pz-REF": "eeg", "T7": "eeg", "Battery": "misc",
}  # fmt: skip


def test_kinds_by_name() -> None:
    decided = kinds.by_name(list(NAMED))
    assert {name: decided[name][0] if name in decided else "eeg" for name in NAMED} == NAMED


def test_electrodes_of_biosemi_are_no_ear_lobes() -> None:
    names = [f"{letter}{k}" for letter in "ABCD" for k in range(1, 33)]
    assert kinds.by_name(names) == {}
    assert kinds.by_name(["A1", "A2"]) == {}, "without names of the 10-20 system nothing says what they are"


def test_kinds_by_signal() -> None:
    n = 1000
    triggers = np.zeros(n)
    triggers[100:120], triggers[500:520] = 4, 8
    counter, clock = np.arange(n) % 128, 1e9 + np.cumsum(RNG.uniform(3.5, 4.5, n))
    dead = RNG.choice([-1.0, 0.0, 1.0], n, p=[0.05, 0.9, 0.05])
    drifting = np.cumsum(RNG.normal(size=n) + 0.01)
    columns = {"ch1": EEG[:, 0], "ch2": counter, "ch3": clock, "ch4": triggers * 1e-6, "ch5": dead, "ch6": np.zeros(n),
               "ch7": drifting}  # fmt: skip
    decided = kinds.by_signal(list(columns), np.array(list(columns.values())).T)
    assert {name: kind for name, (kind, _) in decided.items()} == {"ch2": "misc", "ch3": "misc", "ch4": "stim"}
    assert decided["ch2"][1] == "its samples (a counter, from the start again 7 times)"


def test_codes_in_a_table_stay_whole_numbers(tmp_path: Path) -> None:
    codes = np.zeros((1000, 1))
    codes[100:120] = 7
    np.save(tmp_path / "s1.npy", np.hstack([EEG, codes]))
    (entry,) = recordings.find(tmp_path, "{subject}.npy")
    opened = recordings.open_entry(entry, Reading(table=Table(sfreq=SFREQ)))
    assert opened.stream.sensor("ch5").kind == "stim"
    assert set(opened.stream.read(0, 1000)[:, 4].tolist()) == {0.0, 7.0}
    assert "ch5: stim by its samples (2 levels, and still for 100 % of the time)" in opened.notes


def test_kinds_in_the_config_are_final(tmp_path: Path) -> None:
    opened = of_fif(tmp_path, 1e-6, cfg=Reading(kinds={"O*": "eog"}))
    assert why(opened, "Oz")[:2] == ("eog", "kinds (O*)") and why(opened, "Cz")[:2] == ("eeg", "the file")


def test_units_by_their_names() -> None:
    for word in ("uV", "µV", "μV", "UV", "microvolts", "microV"):
        assert units.parse(word) == ("V", 1e-6), word
    assert units.parse("fT/cm") == ("T/m", pytest.approx(1e-13)) and units.parse("n/a") is None
