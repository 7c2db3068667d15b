"""A sound is like itself in every respect and unlike noise; distances have their closed forms."""

from collections.abc import Callable

import numpy as np
import pytest

from eegdecode.evaluation.metrics import like, lsd_db, mcd_db, pesq
from eegdecode.evaluation.metrics.lsd_db import log_spectral_distance_db
from eegdecode.evaluation.metrics.mcd_db import mel_cepstral_distortion_db
from eegdecode.evaluation.metrics.mr_stft import multi_resolution_stft
from eegdecode.evaluation.statistics import sound

SFREQ = 16000.0
Distance = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def music(seed: int, duration_s: float = 4.0) -> np.ndarray:
    """Notes that begin and fade, with a rhythm and melody by the seed."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * SFREQ)) / SFREQ
    beats = np.arange(0, duration_s, rng.uniform(0.2, 0.6))
    samples = np.zeros_like(time_s)
    for start_s in beats:
        since_s = np.maximum(time_s - start_s, 0)
        hz = 220 * 2 ** (rng.integers(24) / 12)
        samples += np.where(time_s > start_s, np.exp(-4 * since_s) * np.sin(2 * np.pi * hz * since_s), 0)
    return samples


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=int(4 * SFREQ))


def test_weights_make_1() -> None:
    assert sum(like.WEIGHTS.values()) == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sound_is_like_itself_at_any_loudness(seed: int) -> None:
    for name, value in like.similarity(0.3 * music(seed), music(seed), SFREQ).items():
        assert value == pytest.approx(1), name


def test_noise_is_less_like_music_in_every_respect() -> None:
    for name, value in like.similarity(noise(), music(0), SFREQ).items():
        assert 0 <= value < 0.9, name


def test_what_is_nearer_is_more_like() -> None:
    near, far = (like.similarity(music(0) + part * noise(), music(0), SFREQ)["weighted"] for part in (0.02, 0.5))
    other = like.similarity(music(1), music(0), SFREQ)["weighted"]
    assert 1 > near > far and near > other > 0


def test_many_sounds_are_compared_at_once() -> None:
    several = np.stack([music(0), music(1), noise()])
    together = like.similarity(several, music(0), SFREQ)
    for row, one in enumerate(several):
        for name, value in like.similarity(one, music(0), SFREQ).items():
            assert together[name][row] == pytest.approx(value), name


def test_silence_is_like_silence_and_nothing_is_undefined() -> None:
    silence = np.zeros(int(SFREQ))
    assert all(value == 1 for value in like.similarity(silence, silence, SFREQ).values())
    with np.errstate(all="raise"):
        assert np.isfinite(like.similarity(silence, noise()[: len(silence)], SFREQ)["weighted"])


def test_rhythm_hears_the_beat() -> None:
    def ticks(apart_s: float) -> np.ndarray:
        beat = np.zeros(int(4 * SFREQ))
        beat[:: int(apart_s * SFREQ)] = 1
        return np.convolve(beat, np.hanning(200))[: len(beat)]

    assert (
        like.rhythm(np.roll(ticks(0.5), 3000), ticks(0.5), SFREQ)
        > 0.8
        > 0.5
        > like.rhythm(ticks(0.37), ticks(0.5), SFREQ)
    )


def test_chroma_hears_the_note_in_any_octave() -> None:
    time_s = np.arange(int(SFREQ)) / SFREQ
    a, octave, e_flat = (np.sin(2 * np.pi * hz * time_s) for hz in (440, 880, 622.25))
    assert like.chroma(octave, a, SFREQ) > 0.95 > 0.1 > like.chroma(e_flat, a, SFREQ)


def test_mcd_is_the_difference_of_levels_root_mean_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels that differ by a cosine over bands of 6 dB: 6 / sqrt(2)."""
    level_db = 6 * np.cos(3 * np.pi * (np.arange(sound.N_MELS) + 0.5) / sound.N_MELS)
    spectra = iter([np.tile(10 ** (level_db / 10), (5, 1)), np.ones((5, sound.N_MELS))])
    monkeypatch.setattr(mcd_db, "mel_powers", lambda x, sfreq: next(spectra))
    assert mel_cepstral_distortion_db(noise(), noise(), SFREQ) == pytest.approx(6 / np.sqrt(2))


DISTANCES = (mel_cepstral_distortion_db, log_spectral_distance_db, multi_resolution_stft)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_distance_is_0_at_any_loudness_rises_with_noise_and_takes_many(distance: Distance) -> None:
    several = np.stack([0.1 * music(0), *(music(0) + part * noise() for part in (0.01, 0.1, 1.0))])
    distances = distance(several, music(0), SFREQ)
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances.shape == (4,) and np.all(np.diff(distances) > 0)
    assert distance(noise(), noise(1), SFREQ) < distances[-1], "two noises have one spectrum"
    assert np.isfinite(distance(0 * noise(), music(0), SFREQ))


def test_lsd_is_the_difference_of_levels_in_db(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the frequencies are 10 dB softer than in the other: 10 / sqrt(2), in each frame."""
    spectra = iter([np.tile([1.0, 0.1], (5, 4)), np.ones((5, 8))])
    monkeypatch.setattr(lsd_db, "powers", lambda x, sfreq: (next(spectra), None))
    assert log_spectral_distance_db(noise(), noise(), SFREQ) == pytest.approx(10 / np.sqrt(2))


@pytest.mark.parametrize("sfreq", [4000.0, 16000.0, 22050.0, 44100.0])
def test_every_mel_band_hears_something(sfreq: float) -> None:
    window = round(sound.FRAME_S * sfreq)
    bands = sound.mel_bands(np.fft.rfftfreq(window, 1 / sfreq), sfreq)
    assert bands.shape[0] == sound.N_MELS and np.all(bands.sum(axis=1) > 0)


def test_a_click_is_too_short() -> None:
    with pytest.raises(ValueError, match="100 samples is shorter than one frame of 0.046 s, 736"):
        sound.mel_powers(np.zeros(100), SFREQ)


@pytest.mark.parametrize("sfreq", [22050.0, 44100.0])
def test_pesq_refuses_other_rates(sfreq: float) -> None:
    with pytest.raises(ValueError, match=f"at 8000 and 16000 Hz, got {sfreq:g} Hz"):
        pesq.pesq(noise(), noise(), sfreq)


def test_pesq_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pesq.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package pesq: pip install hpc-eegdecode\[audio\]"):
        pesq.pesq(noise(), noise(), SFREQ)


def test_pesq_falls_with_noise_and_refuses_silence() -> None:
    pytest.importorskip("pesq")
    good = pesq.pesq(music(0), music(0), SFREQ)
    assert good > 4 > pesq.pesq(music(0) + 0.1 * noise(), music(0), SFREQ)
    for output, target in ((0 * noise(), music(0)), (music(0), 0 * noise())):
        with pytest.raises(ValueError, match="one of them is silent"):
            pesq.pesq(output, target, SFREQ)
