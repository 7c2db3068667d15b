"""Pulses are found where they were planted, to a sample, on any kind of channel; others are refused by name."""

import numpy as np
import pytest

from eegdecode.data.events import triggers
from eegdecode.signals import Sensor, Stream

HZ = 1000.0
FILM_HZ = 29.97 / 2  # a pulse every two frames
MINUTES_15 = 900.0


def recording(sfreq: float = HZ, **channels: np.ndarray) -> Stream:
    """Channels named `stim…` are trigger channels; an EEG channel stands before them."""
    n_times = len(next(iter(channels.values())))
    data = np.stack([np.zeros(n_times), *channels.values()], axis=1).astype(np.float32)
    sensors = {name: Sensor("stim" if name.startswith("stim") else "misc") for name in channels}
    return Stream(("Cz", *channels), sfreq, n_times, lambda first, stop: data[first:stop], sensors)


def pulse_train(times_s: np.ndarray, duration_s: float, width_s: float = 0.02, height: float = 1.0) -> np.ndarray:
    """A digital line: up from the first sample at or after each time."""
    samples = np.zeros(round(duration_s * HZ))
    for first in np.ceil(times_s * HZ - 1e-6).astype(int):
        samples[first : first + round(width_s * HZ)] = height
    return samples


def light(times_s: np.ndarray, duration_s: float, seed: int = 0) -> np.ndarray:
    """What a light sensor makes of them: slow flanks, noise, a level that wanders."""
    rng, time = np.random.default_rng(seed), np.arange(round(duration_s * HZ)) / HZ
    square = pulse_train(times_s, duration_s, width_s=0.03)
    slow = np.convolve(square, np.ones(8) / 8)[: len(square)]
    return 0.7 * slow + 0.01 * rng.normal(size=len(slow)) + 0.05 * np.sin(2 * np.pi * time / duration_s)


def film_times(ppm: float = 0.0, start_s: float = 3.21, lasts_s: float = MINUTES_15) -> np.ndarray:
    return start_s + np.arange(int(lasts_s * FILM_HZ)) / FILM_HZ * (1 + ppm * 1e-6)


@pytest.mark.parametrize("ppm", [0.0, 40.0, -85.0])
@pytest.mark.parametrize("kind", ["digital", "light"])
def test_15_minutes_of_film_keep_their_clock_to_a_sample(kind: str, ppm: float) -> None:
    times_s = film_times(ppm)
    samples = (pulse_train if kind == "digital" else light)(times_s, 910.0)
    train = triggers.pulses(recording(stim=samples))
    assert abs(len(train.times_s) - 13486) <= 1
    clock = triggers.clock(train.times_s, FILM_HZ)
    assert clock.drift_ppm == pytest.approx(ppm, abs=0.1 if kind == "digital" else 2.0)
    late_s = clock.start_s + clock.period_s * np.arange(clock.n_periods) - times_s
    assert abs(late_s[-1] - late_s[0]) < (0.1 if kind == "digital" else 1.0) / HZ, "what drift is left at the end"
    assert np.abs(late_s).max() < (1 if kind == "digital" else 5) / HZ, "the flank of the light is 8 samples long"
    assert (clock.missing, clock.extra) == (0, 0) and clock.residual_s < 0.6 / HZ


def test_missing_and_stray_pulses_are_counted_and_do_not_move_the_clock() -> None:
    rng = np.random.default_rng(1)
    times_s = film_times(60.0)
    lost = rng.choice(np.arange(1, len(times_s) - 1), 300, replace=False)
    strays = rng.choice(times_s, 40, replace=False) + rng.uniform(0.3, 0.7, 40) / FILM_HZ
    pulses_s = np.sort(np.concatenate([np.delete(times_s, lost), strays, [times_s[0] - 0.03]]))
    clock = triggers.clock(pulses_s, FILM_HZ)
    assert (clock.n_periods, clock.missing, clock.extra) == (len(times_s), 300, 41)
    assert clock.drift_ppm == pytest.approx(60.0, abs=0.01) and clock.start_s == pytest.approx(times_s[0], abs=1e-6)
    sentence = clock.say("STI 014", HZ)
    assert f"{len(times_s) - 300} pulses in STI 014 over 900.0 s" in sentence and "+60.0 ppm, +54.0 ms" in sentence
    assert "300 are missing, 41 do not belong" in sentence and "0.00 samples from the line" in sentence


@pytest.mark.parametrize(
    ("times_s", "message"),
    [
        (np.arange(500) / 15.0, r"should come at 14.9850 Hz, but come at 15.0000 Hz, -1000 ppm off"),
        (
            np.arange(500) / 12.5,
            "but come at 12.5000 Hz, .198800 ppm off, where clocks differ by 500 at most: look at fps",
        ),
        (np.arange(500) / 25, r"come every 66.7 ms \(14.985 Hz\), but come every 40.0 ms: look at fps"),
        (np.array([1.0]), "but are too few"),
        (np.cumsum(np.random.default_rng(0).exponential(1 / FILM_HZ, 500)), "pulses should come every 66.7 ms"),
        (np.sort(np.concatenate([film_times(), film_times(start_s=3.23)])), "every 66.7 ms|lie on one line"),
    ],
)
def test_another_rate_or_no_rate_is_refused(times_s: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        triggers.clock(times_s, FILM_HZ)


def test_where_the_digital_channel_is_flat_the_light_is_used_and_it_is_said() -> None:
    times_s = film_times(lasts_s=60.0)
    stream = recording(stim=np.zeros(65_000), photo=light(times_s, 65.0))
    train = triggers.pulses(stream, fallback="photo")
    assert train.channel == "photo" and len(train.times_s) == len(times_s)
    assert train.notes == (f"stim is flat: triggers are taken from photo, which has {len(times_s)}",)
    with pytest.raises(ValueError, match="stim is flat, without any trigger: set channel or fallback to another"):
        triggers.pulses(stream)


def test_noise_is_flat() -> None:
    noise = np.random.default_rng(0).normal(size=60_000)
    with pytest.raises(ValueError, match="stim and photo are flat"):
        triggers.pulses(recording(stim=noise, photo=0.01 * noise), fallback="photo")


def test_a_few_analogue_triggers_in_an_hour_are_found() -> None:
    times_s = np.array([100.0, 1700.0, 3000.5])
    samples = pulse_train(times_s, 3600.0, height=0.4) + 0.02 * np.random.default_rng(0).normal(size=3_600_000)
    assert triggers.pulses(recording(stim=samples)).times_s == pytest.approx(times_s, abs=1 / HZ)
    # A spike of an hour's only trigger height does not hide a train
    train = light(film_times(lasts_s=60.0), 65.0)
    train[30_000] = 50.0
    assert abs(len(triggers.pulses(recording(stim=train)).times_s) - 899) <= 1


def test_digital_values_are_read_through_bits_and_past_bounces() -> None:
    samples = np.zeros(5000)
    samples[1000:1100] = 256 + 5
    samples[2000:2001] = 4  # lines move one after the other: 0, 4, 7
    samples[2001:2100] = 7
    samples[2100:2102] = 3  # and on the way down
    samples[3000:3002] = 9  # short, but nothing beside it
    samples[4000:4050] = 256
    train = triggers.pulses(recording(stim=samples), bits=255)
    assert train.times_s.tolist() == [1.0, 2.0, 3.0] and train.values.tolist() == [5, 7, 9]
    assert train.durations_s == pytest.approx([0.1, 0.1, 0.002])
    assert triggers.pulses(recording(stim=samples)).values.tolist() == [261, 7, 9, 256]
    samples[1102:1110] = 5
    bounced = triggers.pulses(recording(stim=samples), bits=255, gap_s=0.005)
    assert bounced.values.tolist() == [5, 5, 7, 9] and not bounced.notes
    patient = triggers.pulses(recording(stim=np.repeat([0, 3, 0, 3, 0], 20)), gap_s=0.05)
    assert patient.times_s.tolist() == [0.02]
    assert patient.notes == ("stim has 1 triggers within 0.05 s of another: taken as bounces",)


def test_a_level_held_from_before_the_start_is_no_trigger() -> None:
    samples = np.ones(1000)
    samples[500:600], samples[700:800] = 0, 0
    assert triggers.pulses(recording(stim=samples)).times_s.tolist() == [0.6, 0.8]


def test_the_channel_is_the_only_trigger_channel_or_is_named() -> None:
    line = pulse_train(np.array([0.2]), 1.0)
    assert triggers.pulses(recording(stim=line, photo=line)).channel == "stim"
    with pytest.raises(ValueError, match="several trigger channels, stim1, stim2: set channel"):
        triggers.pulses(recording(stim1=line, stim2=line))
    with pytest.raises(ValueError, match="no trigger channel: set channel"):
        triggers.pulses(recording(photo=line))
    with pytest.raises(ValueError, match="there is no channel 'STI' among Cz, stim"):
        triggers.pulses(recording(stim=line), channel="STI")
    with pytest.raises(
        ValueError, match="bits needs a digital channel, but stim has values that are not whole numbers"
    ):
        triggers.pulses(recording(stim=0.3 * line), bits=255)
    with pytest.raises(ValueError, match="stim has 1 samples that are not numbers"):
        triggers.pulses(recording(stim=np.where(np.arange(1000) == 5, np.nan, line)))


def test_a_channel_is_read_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "BLOCK_VALUES", 64)
    values = np.random.default_rng(0).normal(size=1001).astype(np.float32)
    np.testing.assert_array_equal(triggers.column(recording(photo=values), "photo"), values)


@pytest.mark.parametrize("seed", range(6))
def test_levels_are_found_under_noise_drift_and_slow_flanks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ladder = [0.0, 0.5, 1.0, 1.5, 2.0]
    planted, samples = [], [np.zeros(3000)]
    for _ in range(20):
        level, n_samples = float(rng.choice(ladder[1:])), int(rng.integers(2000, 6000))
        first = sum(map(len, samples))
        planted.append((first / HZ, (first + n_samples) / HZ, level))
        samples += [np.full(n_samples, level), np.zeros(int(rng.integers(1500, 3000)))]
    clean = np.concatenate(samples)
    slow = np.convolve(np.pad(clean, 10, mode="edge"), np.ones(21) / 21, mode="valid")  # 21 ms from level to level
    time = np.arange(len(clean)) / len(clean)
    seen = slow + 0.05 * rng.normal(size=len(clean)) + 1.2 * time * rng.choice([-1, 1])  # drifts past two levels
    stretches = [level for level in triggers.levels(recording(music=seen), "music", ladder, 1.0) if level.level != 0]
    assert [level.level for level in stretches] == [level for _, _, level in planted]
    for level, (start_s, stop_s, _) in zip(stretches, planted, strict=True):
        assert abs(level.start_s - start_s) < 0.01 and abs(level.stop_s - stop_s) < 0.01


def test_clean_levels_are_found_to_the_sample_also_without_rest_between() -> None:
    samples = np.repeat([0.0, 2.0, 1.0, 0.0, 3.0], [1000, 2001, 1500, 999, 2500])
    stretches = triggers.levels(recording(music=samples), "music", (0, 1, 2, 3), 0.5)
    assert [(round(level.start_s * HZ), level.level) for level in stretches] == [
        (0, 0.0), (1000, 2.0), (3001, 1.0), (4501, 0.0), (5500, 3.0),
    ]  # fmt: skip
    assert stretches[-1].stop_s == 8.0


def test_a_level_that_is_in_no_table_is_named() -> None:
    samples = np.repeat([0.0, 1.5, 0.0], 2000)
    with pytest.raises(
        ValueError, match=r"music goes to 1.5 at 2.00 s, which is not a level in codes; the nearest is 2: add it"
    ):
        triggers.levels(recording(music=samples), "music", (0.0, 1.0, 2.0), 1.0)
    with pytest.raises(ValueError, match="lasts 6.00 s, too short for levels of 10 s"):
        triggers.levels(recording(music=samples), "music", (0.0, 1.0), 10.0)
