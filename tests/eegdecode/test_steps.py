"""Each step does what its name says, shifts nothing in time, gives float32, and the same in any piece."""

import importlib
import logging
import sys
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from eegdecode.preprocessing import chains, statistics
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps import STEPS, Step, StepConfig
from eegdecode.preprocessing.steps.align import Align
from eegdecode.preprocessing.steps.bad_channels import BadChannels
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.clip import Clip
from eegdecode.preprocessing.steps.gain import Gain
from eegdecode.preprocessing.steps.ica import ICA
from eegdecode.preprocessing.steps.maxwell import Maxwell
from eegdecode.preprocessing.steps.mel import MelSpectrogram
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.preprocessing.steps.set_channels import TEN_TWENTY
from eegdecode.preprocessing.steps.sources import Sources
from eegdecode.signals import Sensor, Signal, Stream, Trial
from hpc import config

SFREQ = 250.0
MAINS = 50.0


def run(chain: list[StepConfig], signal: Signal, **more: object) -> Signal:
    return chains.apply(chain, signal.stream(), **more).signal()  # type: ignore[arg-type]


def tone(hz: float, seconds: float = 20.0, sfreq: float = SFREQ, phase: float = 0.3) -> Signal:
    time = np.arange(int(seconds * sfreq)) / sfreq
    return Signal(np.cos(2 * np.pi * hz * time + phase)[:, None], sfreq, ("Cz",))


def noise(n_channels: int, seconds: float = 40.0, sfreq: float = SFREQ, seed: int = 0) -> Signal:
    """Channels that have half of what they see in common, as EEG has."""
    rng = np.random.default_rng(seed)
    n = int(seconds * sfreq)
    data = rng.normal(size=(n, n_channels)) + rng.normal(size=(n, 1))
    return Signal((20e-6 * data).astype(np.float32), sfreq, tuple(f"E{index}" for index in range(n_channels)))


def gain(step: StepConfig, hz: float) -> complex:
    """How much of a tone is left, and by which phase it moved, away from the ends."""
    after = run([step], tone(hz))
    time = np.arange(after.n_times) / after.sfreq
    middle = (time > 5) & (time <= 15)
    return complex(2 * np.mean(after.data[middle, 0] * np.exp(-1j * (2 * np.pi * hz * time[middle] + 0.3))))


@pytest.mark.parametrize("method", ["fir", "iir"])
@pytest.mark.parametrize("hz", [50.0, 100.0])
def test_notch_removes_the_mains_and_its_harmonics(hz: float, method: str) -> None:
    assert abs(gain(Notch(method=method), hz)) < 0.01  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["fir", "iir"])
@pytest.mark.parametrize("hz", [2.0, 10.0, 40.0])
def test_notch_keeps_the_rest(hz: float, method: str) -> None:
    assert gain(Notch(method=method), hz) == pytest.approx(1, abs=0.02)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["fir", "iir"])
@pytest.mark.parametrize("hz", [1.0, 4.0, 10.0])
def test_bandpass_keeps_what_lies_between_in_phase(hz: float, method: str) -> None:
    step = Bandpass(low_hz=0.5, high_hz=20.0, method=method)  # type: ignore[arg-type]
    assert gain(step, hz) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", ["fir", "iir"])
@pytest.mark.parametrize("hz", [0.05, 60.0])
def test_bandpass_removes_the_rest(hz: float, method: str) -> None:
    assert abs(gain(Bandpass(low_hz=0.5, high_hz=20.0, method=method), hz)) < 0.05  # type: ignore[arg-type]


def test_a_side_left_open_stays_open() -> None:
    assert gain(Bandpass(low_hz=None), 0.1) == pytest.approx(1, abs=0.01)
    assert gain(Bandpass(high_hz=None), 100.0) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("hz", [1.0, 7.0, 20.0])
@pytest.mark.parametrize("sfreq", [64.0, 100.0, 125.0, 512.0])
def test_resample_shifts_nothing(hz: float, sfreq: float) -> None:
    assert gain(Resample(sfreq=sfreq), hz) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("before", "after"), [(1000.0, 256.0), (1000.0, 100.0), (250.0, 64.0), (5000.0, 256.0)])
@pytest.mark.parametrize("at_s", [4.0, 31.0])
def test_a_click_stays_where_it_was(before: float, after: float, at_s: float) -> None:
    click = np.zeros((int(40 * before), 1), np.float32)
    click[int(at_s * before)] = 1
    chain = [Notch(hz=MAINS), Bandpass(high_hz=20.0), Resample(sfreq=after)]
    resampled = run(chain, Signal(click, before, ("Cz",))).data[:, 0]
    peak = int(at_s * after)
    assert np.abs(resampled).argmax() == peak
    mirrored = resampled[peak - 60 : peak][::-1]
    np.testing.assert_allclose(resampled[peak + 1 : peak + 61], mirrored, atol=1e-6 * resampled[peak], rtol=0)


def test_resample_keeps_the_clock_to_the_end() -> None:
    after = run([Resample(sfreq=64.0)], tone(1.0, seconds=601.0))
    assert after.sfreq == 64.0 and after.n_times == 601 * 64
    expected = tone(1.0, seconds=601.0, sfreq=64.0).data
    np.testing.assert_allclose(after.data[64 * 590 : 64 * 600], expected[64 * 590 : 64 * 600], atol=0.01)


def test_resample_refuses_a_rate_that_would_drift() -> None:
    with pytest.raises(ValueError, match=r"from 249.99371 to 64.0 Hz would drift by \d.* ms"):
        run([Resample(sfreq=64.0)], Signal(np.zeros((2_000_000, 1), np.float32), 249.99371, ("Cz",)))


def test_the_order_of_reading_changes_no_number() -> None:
    chain = [Reference(), Notch(), Bandpass(), Resample(sfreq=100.0), Scale(), Clip(limit=3)]
    signal = noise(5, seconds=700.0)
    whole = run(chain, signal).data
    random = chains.apply(chain, signal.stream())
    rng = np.random.default_rng(0)
    for first in rng.integers(0, random.n_times - 9000, 30).tolist():
        stop = first + int(rng.integers(1, 9000))
        np.testing.assert_array_equal(random.read(first, stop), whole[first:stop])
    assert random.read(random.n_times - 5, random.n_times).shape == (5, 5)
    assert random.read(7, 7).shape == (0, 5)


def test_reference_takes_out_what_all_channels_share() -> None:
    rng = np.random.default_rng(0)
    own, common = rng.normal(size=(500, 4)), 100 * rng.normal(size=(500, 1))
    signal = Signal(own + common, SFREQ, ("a", "b", "c", "d"))
    np.testing.assert_allclose(run([Reference()], signal).data, own - own.mean(axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(
        run([Reference(channels=("a", "b"))], signal).data[:, 0], (own[:, 0] - own[:, 1]) / 2, atol=1e-4
    )


def test_reference_leaves_what_has_none_alone() -> None:
    data = np.arange(12.0).reshape(3, 4)
    sensors = {"EOG": Sensor("eog"), "MEG": Sensor("mag")}
    after = run([Reference()], Signal(data, SFREQ, ("a", "b", "EOG", "MEG"), sensors)).data
    np.testing.assert_allclose(after, np.hstack([np.tile([-0.5, 0.5], (3, 1)), data[:, 2:]]))
    with pytest.raises(ValueError, match="reference: none of MEG is eeg or ecog or seeg.*: leave out this step"):
        run([Reference()], Signal(data[:, 3:], SFREQ, ("MEG",), sensors))
    with pytest.raises(ValueError, match="reference: there is no channel M1 among a, b"):
        run([Reference(channels=("M1",))], Signal(data[:, :2], SFREQ, ("a", "b")))


def test_scale_is_not_set_by_blinks() -> None:
    rng = np.random.default_rng(0)
    calm = 10e-6 * rng.normal(size=(10_000, 2)) + 50e-6
    blinking = calm.copy()
    blinking[::100, 0] += 3000e-6
    after = run([Scale(clip=20)], Signal(blinking, SFREQ, ("Fp1", "Cz"))).data
    between = np.arange(10_000) % 100 != 0
    np.testing.assert_allclose(after[between].std(axis=0), 1, rtol=0.05)
    assert after.max() == 20 and abs(np.median(after)) < 0.05


def test_standard_scaling_gives_mean_0_and_spread_1() -> None:
    after = run([Scale(method="standard", clip=100)], noise(3)).data
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(after.std(axis=0), 1, rtol=1e-5)


def test_a_dead_channel_stays_zero() -> None:
    dead = Signal(np.full((100, 1), 7e-6), SFREQ, ("Cz",))
    for method in ("robust", "standard"):
        assert (run([Scale(method=method)], dead).data == 0).all()  # type: ignore[arg-type]


def test_quantiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(600_001, 4)).astype(np.float32)
    data[:, 1] = np.round(data[:, 1])  # ties
    data[:, 2] = np.exp(5 * data[:, 2]) * np.sign(data[:, 3])
    stream = Signal(data, SFREQ, tuple("abcd")).stream()
    wanted = (0.0, 0.25, 0.5, 0.901, 1.0)
    np.testing.assert_allclose(
        statistics.quantiles(stream, wanted), np.quantile(data.astype(float), wanted, axis=0), rtol=1e-12
    )


def test_aligned_trials_have_the_identity_as_mean_covariance() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(10_000, 4)) @ rng.normal(size=(4, 4)) * 1e-5
    trials = [Trial(start, 5.0, "a") for start in (0.0, 7.0, 20.0, 33.0)]
    after = run([Align()], Signal(mixed, SFREQ, tuple("abcd")), trials=trials)
    cut = [after.data[round(250 * trial.start) :][: 5 * 250] for trial in trials]
    np.testing.assert_allclose(np.mean([x.T @ x / len(x) for x in cut], axis=0), np.eye(4), atol=1e-5)


def test_alignment_leaves_out_what_a_reference_took() -> None:
    after = run([Reference(), Align()], noise(5)).data
    strength = np.linalg.eigvalsh(after.T @ after / len(after))
    np.testing.assert_allclose(strength, [0, 1, 1, 1, 1], atol=1e-4)


def blinking() -> Signal:
    """Six channels of brain, blinks over the first two, and the eye's own channel."""
    rng = np.random.default_rng(0)
    time = np.arange(60 * 250) / SFREQ
    blink = np.exp(-(((time % 4.0) - 2) ** 2) / 0.02) * (1 + 0.3 * np.sin(time))
    sources = np.array([rng.laplace(size=len(time)) for _ in range(6)]).T
    brain = sources @ rng.normal(size=(6, 6)) * 10e-6
    data = np.column_stack([brain + 300e-6 * blink[:, None] * [1, 0.9, 0.2, 0.1, 0, 0.05], 400e-6 * blink])
    names = ("Fp1", "Fp2", "C3", "C4", "O1", "O2", "EOG")
    return Signal(data.astype(np.float32), SFREQ, names, {"EOG": Sensor("eog")})


def test_ica_takes_out_blinks_and_says_which(caplog: pytest.LogCaptureFixture) -> None:
    before = blinking()
    with caplog.at_level(logging.INFO):
        after = run([ICA(kurtosis=1000)], before)
    assert "of 6 components these are removed" in caplog.text and "follows EOG, r = " in caplog.text
    eye = before.data[:, 6]
    assert np.corrcoef(before.data[:, 0], eye)[0, 1] > 0.8
    assert abs(np.corrcoef(after.data[:, 0], eye)[0, 1]) < 0.1
    np.testing.assert_allclose(after.data[:, 6], eye, rtol=1e-6)
    calm = eye < 1e-7
    assert np.corrcoef(before.data[calm, 2], after.data[calm, 2])[0, 1] > 0.9, "the brain stays"


def test_ica_needs_no_eye_channel_where_components_are_spiky(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run([Pick(), ICA(kurtosis=8)], blinking())
    assert "of 6 components these are removed" in caplog.text and "spikes, kurtosis" in caplog.text
    with pytest.raises(ValueError, match="ica needs two channels and 30 samples for each, got 6 and 125"):
        run([Pick(), ICA()], Signal(blinking().data[:250], SFREQ, blinking().channels, blinking().sensors))


def test_gain_brings_volt_to_millivolt_wherever_it_stands() -> None:
    before = noise(3)
    for chain in ([Gain()], [Bandpass(), Gain()], [Gain(), Bandpass()]):
        plain = run([step for step in chain if not isinstance(step, Gain)], before)
        np.testing.assert_allclose(run(chain, before).data, 1e3 * plain.data, rtol=1e-4, atol=1e-7)
    turned = run([Gain(factor=-2)], before).data
    np.testing.assert_array_equal(turned, np.float32(-2) * before.data)


def test_every_step_runs_gives_float32_and_leaves_its_input_alone() -> None:
    for kind in set(STEPS.values()) - {Maxwell, MelSpectrogram, Sources}:  # which need signals of their own
        before = noise(8)
        wanted = {"channels": before.channels} if kind.name == "set_channels" else {}
        copy = before.data.copy()
        after = run([kind(**wanted)], before)
        assert (after.data.dtype, after.channels) == (np.float32, before.channels), kind
        assert np.isfinite(after.data).all() and (before.data == copy).all(), kind


@dataclass(frozen=True)
class Chain:
    steps: tuple[Step, ...]


def test_every_step_has_its_words_in_yaml() -> None:
    for kind in STEPS.values():
        words: dict[str, object] = {"name": kind.name} | ({"folder": "fsaverage"} if kind is Sources else {})
        assert isinstance(config.build(Chain, {"steps": [words]}, "preprocess").steps[0], kind)


def test_steps_that_come_too_late_are_refused() -> None:
    with pytest.raises(ValueError, match="notch at 50 Hz needs more than 100 Hz, .* has 64 Hz: put it before"):
        run([Resample(sfreq=64.0), Notch()], tone(5.0))
    with pytest.raises(ValueError, match="bandpass up to 40 Hz needs more than 80 Hz"):
        run([Resample(sfreq=64.0), Bandpass(high_hz=40.0)], tone(5.0))


def test_what_is_no_number_is_named() -> None:
    signal = noise(6)
    signal.data[2500, 3] = np.nan
    with pytest.raises(ValueError, match="E3: no number at 10.000 s; put bad_channels before"):
        run([Reference(), Scale()], signal)
    assert run([Pick(drop=("E3",)), Reference()], signal).n_channels == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bandpass(low_hz=20.0, high_hz=0.5), "got 20.0 to 0.5"),
        (lambda: Bandpass(low_hz=None, high_hz=None), "got None to None"),
        (lambda: Bandpass(low_hz=0.0), "got 0.0 to 20.0"),
        (lambda: Notch(hz=0.0), "got 0.0"),
        (lambda: Resample(sfreq=-1.0), "got -1.0"),
        (lambda: Scale(clip=0.0), "got 0.0"),
        (lambda: Gain(factor=0.0), "factor must be a number other than 0, got 0.0"),
        (lambda: Gain(factor=float("nan")), "got nan"),
        (lambda: Clip(limit=-1.0), "got -1.0"),
        (lambda: ICA(follows=2.0), "got 2.0 and 20.0"),
        (lambda: BadChannels(z=0.0), "got 0.0, 10.0, 0.3 and 0.34"),
        (lambda: Pick(kinds=("brain",)), "but got brain"),  # type: ignore[arg-type]
        (lambda: Pick(regex="("), "is not a regular expression"),
        (lambda: Sources(folder="x", snr=0), "got 0"),
    ],
)
def test_nonsense_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def synthetic(hours: float, n_channels: int, sfreq: float) -> Stream:
    """A recording that is on no disk: the same minute over and over."""
    n = int(hours * 3600 * sfreq)
    minute = noise(n_channels, 60.0, sfreq).data

    def read(first: int, stop: int) -> np.ndarray:
        return minute[np.arange(first, stop) % len(minute)]

    return Stream(tuple(f"E{index}" for index in range(n_channels)), sfreq, n, read)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "IN_MEMORY", 1 << 20)
    chain = [Reference(), Notch(), Bandpass(), Resample(sfreq=64.0), Scale()]
    peaks = []
    for hours in (1.0, 3.0):
        tracemalloc.start()
        stream = chains.apply(chain, synthetic(hours, 4, SFREQ), scratch=tmp_path)
        for block in statistics.blocks(stream):
            assert np.isfinite(block).all()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] and peaks[1] < 60e6
    assert not list(tmp_path.iterdir()), "scratch is left clean"


def test_what_is_kept_on_disk_is_what_would_be_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [Bandpass(), Scale()]
    in_memory = run(chain, noise(3)).data
    monkeypatch.setattr(statistics, "IN_MEMORY", 0)
    np.testing.assert_array_equal(run(chain, noise(3), scratch=tmp_path).data, in_memory)


OWN = '''
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eegdecode.preprocessing.designs import Filter
from eegdecode.preprocessing.single_windows import SingleWindows


@dataclass(frozen=True)
class Smooth:
    name: Literal["smooth"] = "smooth"


def as_filter(cfg: Smooth, sfreq: float) -> Filter:
    """A third of each sample and its neighbours."""
    return Filter(1, lambda n: (1 + 2 * np.cos(2 * np.pi * np.arange(n // 2 + 1) / n)) / 3)


def of_windows(cfg: Smooth, windows: SingleWindows) -> SingleWindows:
    raise windows.narrowed("smooth")
'''
ANEW = """
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from eegdecode.signals import Signal, Stream, Trial


@dataclass(frozen=True)
class Turned:
    name: Literal["turned"] = "turned"
    needs_whole: ClassVar[bool] = True
    allow_nan: ClassVar[bool] = True


def apply(cfg: Turned, stream: Stream, trials: Sequence[Trial]) -> Stream:
    return Signal(-stream.signal().data, stream.sfreq, stream.channels).stream()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files that each have a step of one's own."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_smooth", "own_turned"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "own_smooth.py").write_text(OWN)
    (tmp_path / "own_turned.py").write_text(ANEW)
    return tmp_path


def test_a_filter_of_ones_own_runs_with_its_neighbours_and_is_counted(own: Path) -> None:
    smooth = importlib.import_module("own_smooth").Smooth()
    before = noise(2)
    after = run([smooth], before).data
    np.testing.assert_allclose(after[1:-1], (before.data[2:] + before.data[1:-1] + before.data[:-2]) / 3, atol=1e-10)
    both = run([smooth, Bandpass()], before).data
    np.testing.assert_allclose(both, run([Bandpass()], Signal(after, SFREQ, before.channels)).data, atol=1e-9)
    assert chains.ahead_s([smooth, smooth], SFREQ) == pytest.approx(2 / SFREQ)
    assert chains.ahead_s([Resample(sfreq=125.0), smooth], SFREQ) == pytest.approx(20 / SFREQ + 1 / 125)
    judge = SingleWindows(before.stream(), (0.5, 50.0), "the judge")
    with pytest.raises(ValueError, match="smooth removes more than the judge, who gives 0.5 to 50 Hz"):
        chains.on_windows([smooth], judge)


def test_a_step_of_ones_own_says_in_its_file_what_it_needs(own: Path) -> None:
    turned = importlib.import_module("own_turned").Turned()
    signal = noise(19)
    signal = Signal(signal.data, SFREQ, TEN_TWENTY)
    signal.data[7, 3] = np.nan
    assert chains.needs_whole(turned) and np.isnan(run([turned], signal).data).sum() == 1
    known = replace(signal.stream(), bads=("Cz",))
    after = chains.apply([turned, BadChannels(correlation=0)], known).signal().data
    assert np.flatnonzero((after != -signal.data).any(axis=0)).tolist() == [3, TEN_TWENTY.index("Cz")]
    with pytest.raises(ValueError, match="the step turned needs a whole recording, but the judge gives single windows"):
        chains.on_windows([turned], SingleWindows(known, (0.5, 50.0), "the judge"))
