"""Filters, resampling and splines equal those of mne and scipy, in the middle and at the ends."""

from fractions import Fraction

import mne
import numpy as np
import pytest
from scipy import signal as dsp

from eegdecode import sphere
from eegdecode.preprocessing import chains, fft
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.signals import Sensor, Signal


def recording(sfreq: float, seconds: float = 90.0, n_channels: int = 3) -> Signal:
    """Noise on an electrode's drift and offset, a hundred times as large."""
    rng = np.random.default_rng(0)
    n = int(seconds * sfreq)
    drift = np.cumsum(rng.normal(size=(n, n_channels)), axis=0) / np.sqrt(sfreq)
    data = 1e-5 * rng.normal(size=(n, n_channels)) + 1e-5 * drift + 1e-3
    return Signal(data.astype(np.float32), sfreq, tuple(f"E{index}" for index in range(n_channels)))


def run(chain: list[StepConfig], signal: Signal) -> np.ndarray:
    """[channel, time], as mne has it."""
    return chains.apply(chain, signal.stream()).signal().data.T.astype(float)


def mne_notch(data: np.ndarray, sfreq: float) -> np.ndarray:
    return mne.filter.notch_filter(data, sfreq, np.arange(50, sfreq / 2 - 1, 50), method="fir", verbose="error")


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """To a millionth of the signal that is left, with its offset where that is not filtered out."""
    assert ours.shape == theirs.shape
    strength = np.sqrt((theirs**2).mean())
    assert np.sqrt(((ours - theirs) ** 2).mean()) < 1e-6 * strength
    assert np.abs(ours - theirs).max() < 1e-5 * strength


@pytest.mark.parametrize("sfreq", [160.0, 250.0, 512.0, 1000.0])
@pytest.mark.parametrize(("low_hz", "high_hz"), [(0.5, 20.0), (0.1, None), (None, 40.0), (4.0, 70.0)])
def test_bandpass_equals_mne_to_the_ends(sfreq: float, low_hz: float | None, high_hz: float | None) -> None:
    signal = recording(sfreq)
    theirs = mne.filter.filter_data(signal.data.T.astype(float), sfreq, low_hz, high_hz, verbose="error")
    assert_same(run([Bandpass(low_hz=low_hz, high_hz=high_hz)], signal), theirs)


@pytest.mark.parametrize("sfreq", [160.0, 250.0, 512.0, 1000.0])
def test_notch_equals_mne_to_the_ends(sfreq: float) -> None:
    signal = recording(sfreq)
    assert_same(run([Notch()], signal), mne_notch(signal.data.T.astype(float), sfreq))


@pytest.mark.parametrize("seconds", [5.0, 10.0, 300.0])
def test_filters_in_one_pass_equal_mne_one_after_the_other(seconds: float) -> None:
    signal = recording(500.0, seconds)
    signal.data[:] -= signal.data.mean(axis=0)
    theirs = mne_notch(signal.data.T.astype(float), 500.0)
    theirs = mne.filter.filter_data(theirs, 500.0, 0.5, 40.0, verbose="error")
    assert_same(run([Notch(), Bandpass(high_hz=40.0)], signal), theirs)


@pytest.mark.parametrize(
    ("before", "after"), [(1000, 256), (1000, 100), (250, 64), (2500, 256), (512, 500), (200, 256), (100, 300)]
)
def test_filter_and_resample_equal_mne_and_resample_poly_in_the_middle(before: int, after: int) -> None:
    signal = recording(before)
    theirs = mne.filter.filter_data(signal.data.T.astype(float), before, 0.5, 40.0, verbose="error")
    ratio = Fraction(after, before)
    theirs = dsp.resample_poly(theirs, ratio.numerator, ratio.denominator, axis=1)
    ours = run([Bandpass(high_hz=40.0), Resample(sfreq=after)], signal)
    assert ours.shape == theirs.shape
    ends = int(12 * max(1, after / before)) + 10  # where resample_poly sees zeros, and ours the mirrored signal
    assert_same(ours[:, ends:-ends], theirs[:, ends:-ends])


def test_resampling_alone_equals_resample_poly() -> None:
    signal = recording(1000.0)
    signal.data[:] -= signal.data.mean(axis=0)
    theirs = dsp.resample_poly(signal.data.T.astype(float), 32, 125, axis=1)
    assert_same(run([Resample(sfreq=256.0)], signal)[:, 12:-12], theirs[:, 12:-12])


def test_resampling_keeps_a_slope_up_to_the_ends() -> None:
    slope = Signal(np.linspace(0, 1, 5000, dtype=np.float32)[:, None], 250.0, ("Cz",))
    ours = run([Resample(sfreq=64.0)], slope)[0]
    np.testing.assert_allclose(ours, np.arange(len(ours)) / 64 * 250 / 4999, atol=2e-4)


@pytest.mark.parametrize("step", [Notch(method="iir"), Bandpass(method="iir")])
def test_iir_equals_scipy_away_from_the_ends(step: Notch | Bandpass) -> None:
    signal = recording(250.0, 200.0)
    theirs = signal.data.T.astype(float)
    if isinstance(step, Notch):
        for hz in (50.0, 100.0):
            theirs = dsp.filtfilt(*dsp.iirnotch(hz, 30, 250.0), theirs)
    else:
        theirs = dsp.sosfiltfilt(dsp.butter(3, (0.5, 20.0), "bandpass", fs=250.0, output="sos"), theirs)
    ends = 250 * 30
    assert_same(run([step], signal)[:, ends:-ends], theirs[:, ends:-ends])


@pytest.mark.parametrize("block", [1 << 13, 1 << 14, 1 << 18])
def test_no_seam_is_seen_whatever_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = recording(250.0, 600.0)
    chain: list[StepConfig] = [Notch(), Bandpass(), Resample(sfreq=64.0)]
    expected = run(chain, signal)
    monkeypatch.setattr(fft, "SHORTEST", block)
    np.testing.assert_allclose(run(chain, signal), expected, rtol=0, atol=1e-6 * expected.std())


def test_average_reference_equals_mne() -> None:
    signal = recording(250.0, 10.0, 8)
    theirs = mne.io.RawArray(signal.data.T.astype(float), mne.create_info(8, 250.0, "eeg"), verbose="error")
    theirs.set_eeg_reference("average", verbose="error")
    np.testing.assert_allclose(run([Reference()], signal), theirs.get_data(), rtol=0, atol=1e-6 * signal.data.max())


def test_splines_equal_mne() -> None:
    from mne.channels.interpolation import _make_interpolation_matrix

    points = np.random.default_rng(0).normal(size=(40, 3))
    good, bad = points[:32], points[32:]
    ours, theirs = sphere.spline(list(good), list(bad)), _make_interpolation_matrix(good, bad)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_sensors_are_put_on_the_sphere_that_fits_best() -> None:
    places = sphere.ten_ten()
    sensors = {name: Sensor("eeg", tuple(0.09 * place + [0.0, 0.01, 0.04])) for name, place in places.items()}
    stream = Signal(np.zeros((1, len(places))), 250.0, tuple(places), sensors).stream()
    for name, place in sphere.positions(stream).items():
        np.testing.assert_allclose(place, places[name], atol=1e-9)


def test_names_stand_where_a_cap_has_them() -> None:
    cap = mne.channels.make_standard_montage("biosemi64").get_positions()["ch_pos"]
    places = sphere.ten_ten()
    assert set(cap) - set(places) == {"Iz"}
    for name in set(cap) & set(places):
        angle = np.degrees(np.arccos(places[name] @ cap[name] / np.linalg.norm(cap[name])))
        assert angle < 4, f"{name} is {angle:.1f} degrees off"
