"""A target stream stands where the sound was heard, to a fraction of a sample."""

import sys
from pathlib import Path

import numpy as np
import pytest

from eegdecode.data import Envelope, Mel, targets
from eegdecode.data.formats import write_wav
from eegdecode.signals import Trial

HZ = 8000


def tremolo(seconds: float = 4.0, rate_hz: float = 2.0) -> np.ndarray:
    """A 440 Hz tone whose loudness swings with a cosine: loudest at 0, 1/rate, 2/rate … seconds."""
    time = np.arange(int(seconds * HZ)) / HZ
    return np.sin(2 * np.pi * 440 * time) * (0.5 + 0.4 * np.cos(2 * np.pi * rate_hz * time))


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    write_wav(tmp_path / "stimuli/tremolo.wav", tremolo(), HZ)
    write_wav(tmp_path / "stimuli/silence.wav", np.zeros(HZ), HZ)
    return tmp_path


def phase_s(values: np.ndarray, times: np.ndarray, rate_hz: float = 2.0) -> float:
    """When the swing is at its loudest, in seconds, from its phase."""
    return float(
        -np.angle(np.sum((values - values.mean()) * np.exp(-2j * np.pi * rate_hz * times))) / (2 * np.pi * rate_hz)
    )


@pytest.mark.parametrize("onset", [2.0, 2.0 + 0.3 / 64, 2.0 + 0.5 / 64, 2.013])
@pytest.mark.parametrize("target", [Envelope(), Envelope(sfreq=100.0, cutoff_hz=6.0)])
def test_a_fractional_onset_is_honoured(sounds: Path, target: Envelope, onset: float) -> None:
    stream = targets.stream(target, [Trial(onset, 4.0, "tremolo.wav")], sounds, 8.0)
    times = np.arange(stream.n_times) / target.sfreq
    whole_swings = (times >= onset + 0.5) & (times < onset + 3.5)
    late_s = phase_s(stream.data[whole_swings, 0], times[whole_swings] - onset)
    assert abs(late_s) < 0.0005, "half a millisecond, where a sample is 10 ms and more"


def test_streams_are_zero_outside_the_trials_and_as_long_as_the_recording(sounds: Path) -> None:
    trials = [Trial(1.0, 2.0, "tremolo.wav"), Trial(4.0, 1.0, "silence.wav"), Trial(5.0, 4.0, "tremolo.wav")]
    stream = targets.stream(Envelope(), trials, sounds, 10.5)
    during = np.zeros(672, bool)
    during[64:192] = during[320:576] = True
    assert stream.data.shape == (672, 1) and stream.data.dtype == np.float32
    assert (stream.data[during] > 0.05).all() and (stream.data[~during] == 0).all()
    np.testing.assert_allclose(stream.data[64:192], stream.data[320:448], atol=1e-6)  # cut short, not squeezed


def test_loudness_is_compressed(sounds: Path) -> None:
    loud, soft = (targets.envelope(strength * tremolo(), HZ, 8.0).data for strength in (1.0, 0.1))
    np.testing.assert_allclose(soft / loud, 0.1**0.6, rtol=1e-6)


def test_nothing_above_the_cutoff_is_left(sounds: Path) -> None:
    slow, fast = (targets.envelope(tremolo(rate_hz=rate), HZ, 8.0).data[HZ:-HZ].std() for rate in (2.0, 25.0))
    assert fast < 0.01 * slow


def test_stereo_is_averaged_and_broken_sound_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, np.tile([0.5, -0.25], 100), HZ)
    path.write_bytes(path.read_bytes()[:22] + b"\x02\0" + path.read_bytes()[24:32] + b"\x04\0" + path.read_bytes()[34:])
    audio, audio_hz = targets.read_audio(path)
    assert (audio_hz, len(audio)) == (HZ, 100) and np.allclose(audio, 0.125)
    path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a\.wav cannot be read as sound \(.+\): write it as 16-bit PCM WAV"):
        targets.read_audio(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"\(it is cut off\)"):
        targets.read_audio(path)


def test_mel_follows_pitch_and_keeps_time(sounds: Path) -> None:
    pytest.importorskip("torchaudio")
    onset = 2.0 + 0.3 / 64
    trials = [Trial(onset, 4.0, "tremolo.wav"), Trial(6.5, 1.0, "silence.wav")]
    stream = targets.stream(Mel(n_mels=20), trials, sounds, 8.0)
    times = np.arange(stream.n_times) / 64
    whole_swings = (times >= onset + 0.5) & (times < onset + 3.5)
    loudest = stream.data.sum(axis=0).argmax()
    # Mel bands of the HTK scale from 0 to 4000 Hz: 2595 log10(1 + f / 700)
    assert loudest == pytest.approx(21 * np.log10(1 + 440 / 700) / np.log10(1 + 4000 / 700) - 1, abs=0.6)
    assert abs(phase_s(stream.data[whole_swings, loudest], times[whole_swings] - onset)) < 0.001
    assert (stream.data[times < 2] == 0).all() and (stream.data[times > 6.5] == 0).all()


def test_mel_without_torchaudio_says_what_to_do(sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.delitem(sys.modules, "torchaudio.transforms", raising=False)
    with pytest.raises(ImportError, match=r"the mel target needs torchaudio \(.+\): run env/setup.sh"):
        targets.stream(Mel(), [Trial(1.0, 2.0, "tremolo.wav")], sounds, 4.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"below half of sfreq \(8.0 Hz\), got 8.0"):
        Envelope(sfreq=16.0)
    with pytest.raises(ValueError, match="got 64.0 Hz and 0 bands"):
        Mel(n_mels=0)
