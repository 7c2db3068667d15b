"""Each step does what its name says, shifts nothing in time, and gives float32."""

from typing import get_args

import numpy as np
import pytest

from eegdecode.preprocessing import Bandpass, Notch, Reference, Resample, Scale, Step, steps
from eegdecode.signals import Signal

SFREQ = 250.0


def tone(hz: float, seconds: float = 20.0, sfreq: float = SFREQ, phase: float = 0.3) -> Signal:
    time = np.arange(int(seconds * sfreq)) / sfreq
    return Signal(np.cos(2 * np.pi * hz * time + phase)[:, None], sfreq, ("Cz",))


def gain(step: Step, hz: float) -> complex:
    """How much of a tone is left, and by which phase it moved, away from the ends."""
    after = steps.apply([step], tone(hz))
    time = np.arange(after.n_times) / after.sfreq
    middle = (time > 5) & (time <= 15)
    return complex(2 * np.mean(after.data[middle, 0] * np.exp(-1j * (2 * np.pi * hz * time[middle] + 0.3))))


@pytest.mark.parametrize("hz", [50.0, 100.0])
def test_notch_removes_the_mains_and_its_harmonics(hz: float) -> None:
    assert abs(gain(Notch(), hz)) < 0.01


@pytest.mark.parametrize("hz", [2.0, 10.0, 40.0])
def test_notch_keeps_the_rest(hz: float) -> None:
    assert gain(Notch(), hz) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("hz", [1.0, 4.0, 10.0])
def test_bandpass_keeps_what_lies_between_in_phase(hz: float) -> None:
    assert gain(Bandpass(low_hz=0.5, high_hz=20.0), hz) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("hz", [0.1, 60.0])
def test_bandpass_removes_the_rest(hz: float) -> None:
    assert abs(gain(Bandpass(low_hz=0.5, high_hz=20.0), hz)) < 0.01


@pytest.mark.parametrize("hz", [1.0, 7.0, 20.0])
@pytest.mark.parametrize("sfreq", [64.0, 100.0, 125.0, 512.0])
def test_resample_shifts_nothing(hz: float, sfreq: float) -> None:
    assert gain(Resample(sfreq=sfreq), hz) == pytest.approx(1, abs=0.01)


def test_a_click_stays_where_it_was() -> None:
    click = np.zeros((2500, 1))
    click[1000] = 1  # at 4.0 s
    after = steps.apply([Notch(), Bandpass(), Resample(sfreq=64.0)], Signal(click, SFREQ, ("Cz",)))
    assert np.abs(after.data[:, 0]).argmax() == 4.0 * 64
    np.testing.assert_allclose(after.data[256 - 20 : 256, 0], after.data[256 + 20 : 256 : -1, 0], atol=1e-3)


def test_resample_keeps_the_clock_to_the_end() -> None:
    after = steps.apply([Resample(sfreq=64.0)], tone(1.0, seconds=601.0))
    assert after.sfreq == 64.0 and after.n_times == 601 * 64
    expected = tone(1.0, seconds=601.0, sfreq=64.0).data
    np.testing.assert_allclose(after.data[64 * 590 : 64 * 600], expected[64 * 590 : 64 * 600], atol=0.01)


def test_resample_refuses_a_rate_that_would_drift() -> None:
    with pytest.raises(ValueError, match=r"from 249.99371 to 64.0 Hz would drift by \d.* ms"):
        steps.apply([Resample(sfreq=64.0)], Signal(np.zeros((2_000_000, 1), np.float32), 249.99371, ("Cz",)))


def test_reference_takes_out_what_all_channels_share() -> None:
    rng = np.random.default_rng(0)
    own, common = rng.normal(size=(500, 4)), 100 * rng.normal(size=(500, 1))
    after = steps.apply([Reference()], Signal(own + common, SFREQ, ("a", "b", "c", "d")))
    np.testing.assert_allclose(after.data, own - own.mean(axis=1, keepdims=True), atol=1e-4)


def test_scale_is_not_set_by_blinks() -> None:
    rng = np.random.default_rng(0)
    calm = 10e-6 * rng.normal(size=(10_000, 2)) + 50e-6
    blinking = calm.copy()
    blinking[::100, 0] += 3000e-6
    after = steps.apply([Scale(clamp=20)], Signal(blinking, SFREQ, ("Fp1", "Cz"))).data
    between = np.arange(10_000) % 100 != 0
    np.testing.assert_allclose(after[between].std(axis=0), 1, rtol=0.05)
    assert after.max() == 20 and abs(np.median(after)) < 0.05


def test_a_dead_channel_stays_zero() -> None:
    dead = Signal(np.full((100, 1), 7e-6), SFREQ, ("Cz",))
    assert (steps.apply([Scale()], dead).data == 0).all()


def test_every_step_runs_gives_float32_and_leaves_its_input_alone() -> None:
    for kind in get_args(Step):
        rng = np.random.default_rng(0)
        before = Signal(rng.normal(size=(2500, 3)), SFREQ, ("Fz", "Cz", "Pz"))
        kept = before.data.copy()
        after = steps.apply([kind()], before)
        assert (after.data.dtype, after.channels) == (np.float32, before.channels), kind
        assert np.isfinite(after.data).all() and (before.data == kept).all(), kind


def test_steps_that_come_too_late_are_refused() -> None:
    with pytest.raises(ValueError, match="notch at 50 Hz needs more than 100 Hz, .* at 64 Hz: put it before"):
        steps.apply([Resample(sfreq=64.0), Notch()], tone(5.0))
    with pytest.raises(ValueError, match="bandpass up to 40 Hz needs more than 80 Hz"):
        steps.apply([Resample(sfreq=64.0), Bandpass(high_hz=40.0)], tone(5.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bandpass(low_hz=20.0, high_hz=0.5), "got 20.0 to 0.5"),
        (lambda: Notch(hz=0.0), "got 0.0"),
        (lambda: Resample(sfreq=-1.0), "got -1.0"),
        (lambda: Scale(clamp=0.0), "got 0.0"),
    ],
)
def test_nonsense_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
