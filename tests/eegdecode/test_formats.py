"""What we write, mne reads as it was; what is broken or missing is said in one sentence."""

import warnings
from pathlib import Path

import mne
import numpy as np
import pytest

from eegdecode.data import raw, recordings
from eegdecode.data.formats import write_brainvision, write_edf
from eegdecode.signals import Signal


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


def test_channels_tsv_says_what_is_eeg(tmp_path: Path, signal: Signal) -> None:
    write_edf(tmp_path / "a_eeg.edf", signal)
    assert raw.read(tmp_path / "a_eeg.edf").channels == signal.channels
    (tmp_path / "a_channels.tsv").write_text("name\ttype\nCz\tEEG\nVEOG\tVEOG\ndead\tMISC\nOz\teeg\n")
    read = raw.read(tmp_path / "a_eeg.edf")
    assert read.channels == ("Cz", "Oz") and read.data.dtype == np.float32
    (tmp_path / "a_channels.tsv").write_text("name\ttype\nCz\tMEGMAG\n")
    with pytest.raises(
        ValueError, match="no EEG channel among Cz, VEOG, dead, Oz: look at the types in a_channels.tsv"
    ):
        raw.read(tmp_path / "a_eeg.edf")


def test_a_cut_off_edf_is_named_not_read_short(tmp_path: Path, signal: Signal) -> None:
    path = tmp_path / "a_eeg.edf"
    write_edf(path, signal)
    for kept in (0, 100, 256 * 5 + 2 * 250 * 4 * 2):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match=r"a_eeg\.edf cannot be read \(.+\): fetch it again"):
            raw.read(path)
        write_edf(path, signal)


def test_a_brainvision_header_without_its_samples_is_named(tmp_path: Path, signal: Signal) -> None:
    write_brainvision(tmp_path / "a_eeg.vhdr", signal)
    (tmp_path / "a_eeg.eeg").unlink()
    with pytest.raises(
        ValueError, match=r"a_eeg\.vhdr cannot be read \(.*a_eeg\.eeg.*\): fetch it again, with the files"
    ):
        raw.read(tmp_path / "a_eeg.vhdr")


def test_entities_come_from_the_name_and_sessions_are_found(study: Path, tmp_path: Path) -> None:
    entry = recordings.find(study)[0]
    assert (entry.name, entry.subject, entry.session, entry.run) == ("sub-01_task-music_run-01", "sub-01", "", "01")
    folder = tmp_path / "sub-x7/ses-late/eeg"
    folder.mkdir(parents=True)
    (folder / "sub-x7_ses-late_task-rest_eeg.bdf").touch()
    (folder / "sub-x7_ses-late_task-rest_events.tsv").write_text("onset\tduration\tstim_file\n")
    (found,) = recordings.find(tmp_path)
    assert (found.subject, found.session, found.run, found.trials) == ("sub-x7", "late", "", ())


@pytest.fixture
def small_study(tmp_path: Path) -> Path:
    folder = tmp_path / "sub-01/eeg"
    folder.mkdir(parents=True)
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "stimuli/song.wav").touch()
    (folder / "sub-01_eeg.edf").touch()
    (folder / "sub-01_events.tsv").write_text("onset\tduration\tstim_file\n0\t1\tn/a\n1.5\t2\tsong.wav\n")
    return tmp_path


def test_trials_are_the_events_with_a_stimulus(small_study: Path) -> None:
    (entry,) = recordings.find(small_study)
    assert [(trial.start, trial.duration, trial.stimulus) for trial in entry.trials] == [(1.5, 2.0, "song.wav")]


def test_what_a_study_lacks_is_named(small_study: Path) -> None:
    events = small_study / "sub-01/eeg/sub-01_events.tsv"
    with pytest.raises(ValueError, match="there is no study at .*nowhere: name a folder"):
        recordings.find(small_study / "nowhere")
    with pytest.raises(ValueError, match="no EEG recording in .*stimuli: BIDS has them as sub-01/eeg"):
        recordings.find(small_study / "stimuli")
    (small_study / "stimuli/song.wav").unlink()
    with pytest.raises(
        ValueError, match=r"sub-01_events.tsv names song.wav, but .*stimuli/song.wav is missing: put it"
    ):
        recordings.find(small_study)
    (small_study / "stimuli/song.wav").touch()
    events.write_text("onset\tduration\tstim_file\n1.5\tlong\tsong.wav\n")
    with pytest.raises(ValueError, match="sub-01_events.tsv, stimulus song.wav: .*'long'.*: correct its onset"):
        recordings.find(small_study)
    events.write_text("onset\tduration\n1\t2\n")
    with pytest.raises(ValueError, match="sub-01_events.tsv has no column stim_file"):
        recordings.find(small_study)
    events.unlink()
    with pytest.raises(ValueError, match=r"sub-01_events.tsv is missing: it says when which stimulus"):
        recordings.find(small_study)
