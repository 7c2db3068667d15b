"""mne reads the files that we write, unchanged."""

import warnings
from pathlib import Path

import mne
import numpy as np
import pytest

from eegdecode.signals import Signal
from eegdecode.synth.formats import write_brainvision, write_edf


@pytest.fixture
def signal() -> Signal:
    """Unlike ranges: a small one, one in the millivolts, one that is zero throughout."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(3 * 250, 4)) * (20e-6, 3e-3, 0.0, 0.4e-6)
    return Signal(data, 250.0, ("Cz", "VEOG", "dead", "Oz"))


@pytest.fixture(autouse=True)
def mne_has_nothing_to_complain_of() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_edf_round_trip_to_the_last_bit_of_each_channel(tmp_path: Path, signal: Signal) -> None:
    write_edf(tmp_path / "a_eeg.edf", signal)
    back = mne.io.read_raw(tmp_path / "a_eeg.edf")
    assert (tuple(back.ch_names), back.info["sfreq"], back.n_times) == (signal.channels, 250.0, 750)
    one_bit = 2 * np.maximum(1e-6, np.ceil(1e6 * np.abs(signal.data).max(axis=0)) * 1e-6) / 65535
    assert (np.abs(back.get_data().T - signal.data).max(axis=0) <= 0.51 * one_bit).all()


def test_brainvision_round_trip_to_float32(tmp_path: Path, signal: Signal) -> None:
    write_brainvision(tmp_path / "a_eeg.vhdr", signal)
    back = mne.io.read_raw(tmp_path / "a_eeg.vhdr")
    assert (tuple(back.ch_names), back.info["sfreq"], back.n_times) == (signal.channels, 250.0, 750)
    np.testing.assert_allclose(back.get_data().T, signal.data, rtol=1e-6, atol=1e-15)


def test_edf_refuses_what_its_records_cannot_hold(tmp_path: Path, signal: Signal) -> None:
    with pytest.raises(ValueError, match="749 samples at 250.0 Hz: cut or pad it to whole seconds"):
        write_edf(tmp_path / "a.edf", Signal(signal.data[1:], 250.0, signal.channels))
    with pytest.raises(ValueError, match="16 characters to a field, too few for 'a channel with a story'"):
        write_edf(tmp_path / "a.edf", Signal(signal.data[:, :1], 250.0, ("a channel with a story",)))
    assert not (tmp_path / "a.edf").exists()
