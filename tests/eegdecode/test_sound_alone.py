"""Folders of sounds train vocoders and classifiers of genres; films give their sound and frames; stim of a .mat is a
target."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from eegdecode.data import targets
from eegdecode.data.config import Reading
from eegdecode.data.events import of_file
from eegdecode.data.io import audio, raw, recordings
from eegdecode.data.io.readers import decoded
from eegdecode.data.targets.audio import Audio
from eegdecode.data.targets.pixels import Pixels
from eegdecode.data.targets.stim import Stim
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.steps.mel import MelSpectrogram
from eegdecode.signals import Trial
from tests.eegdecode.test_readers import CELLS, STIM, cells_5

RATE = 8000
TONE = (np.sin(np.arange(2 * RATE) * 2 * np.pi * 440 / RATE) * 0.5).astype(np.float32)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """As GTZAN has them, a folder a genre."""
    for genre in ("blues", "jazz"):
        (tmp_path / genre).mkdir()
        for k in range(2):
            soundfile.write(tmp_path / genre / f"{genre}.{k:05d}.wav", TONE * (k + 1) / 2, RATE, "FLOAT")
    return tmp_path


def test_a_folder_of_sounds_is_a_study(sounds: Path) -> None:
    entries = recordings.find(sounds, "*/{subject}.wav")
    assert len(entries) == 4
    opened = recordings.open_entry(entries[0])
    stream = opened.stream
    assert (stream.channels, stream.sfreq, stream.sensor("sound").kind) == (("sound",), RATE, "sound")
    (trial,) = of_file.trials(opened, entries[0].path, sounds)
    assert (trial.stimulus, trial.labels) == ("blues/blues.00000.wav", {"genre": "blues"})
    waveform = targets.make(Audio(sfreq=RATE), (trial,), sounds, stream.duration)
    assert not isinstance(waveform, np.ndarray)
    np.testing.assert_allclose(waveform.read(0, 500)[:, 0], TONE[:500] / 2, atol=1e-6)


def test_the_mel_step_has_the_numbers_of_the_vocoder(sounds: Path) -> None:
    stream = raw.open(sounds / "jazz/jazz.00001.wav").stream
    made = chains.apply(chains.with_pick((MelSpectrogram(n_mels=20),)), stream)
    assert (made.n_channels, made.sfreq) == (20, RATE / 256) and made.n_times == -(-2 * RATE // 256)
    whole = made.read(0, made.n_times)
    assert whole.min() >= 0 and whole.max() <= 1 and whole[20].argmax() in (3, 4), "440 Hz is one of the lower bands"
    np.testing.assert_array_equal(made.read(20, 30), whole[20:30])
    with pytest.raises(ValueError, match="mel: the channels are sound, sound2"):
        chains.apply(
            (MelSpectrogram(),), type(stream)(("sound", "sound2"), 100.0, 10, lambda a, b: np.zeros((b - a, 2)))
        )


def test_ogg_in_pieces_is_ogg_as_a_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", TONE, RATE)
    whole, _ = soundfile.read(tmp_path / "a.ogg")
    stream = audio.open_sound(tmp_path / "a.ogg")
    for first in (0, 1, 777, 12_000):
        np.testing.assert_allclose(stream.read(first, first + 1000)[:, 0], whole[first : first + 1000], atol=1e-6)
    cut = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "b.ogg").write_bytes(cut[:40])
    (tmp_path / "c.ogg").write_bytes(b"no sound" * 99)
    for name in ("b.ogg", "c.ogg"):
        with pytest.raises(ValueError, match=rf"{name[0]}\.ogg"):
            audio.open_sound(tmp_path / name)


def write_film(path: Path, fps: int = 10, seconds: int = 2) -> None:
    """Frame k is as bright as k says; the tone begins with the picture."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as film:
        picture = film.add_stream("ffv1", rate=fps)
        picture.width, picture.height, picture.pix_fmt = 32, 16, "gray"
        sound = film.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for k in range(fps * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32), 10 * k, np.uint8), "gray")
            frame.pts = k
            film.mux(picture.encode(frame))
            piece = (TONE[k * RATE // fps : (k + 1) * RATE // fps] * 2**15).astype(np.int16)
            heard = av.AudioFrame.from_ndarray(piece[None], "s16", "mono")
            heard.sample_rate, heard.pts = RATE, k * RATE // fps
            film.mux(sound.encode(heard))
        film.mux(picture.encode())
        film.mux(sound.encode())


def test_a_film_has_sound_and_frames(tmp_path: Path) -> None:
    (tmp_path / "stimuli").mkdir()
    write_film(tmp_path / "stimuli/a.mkv")
    stream = audio.open_sound(audio.file_of(tmp_path, "a.mkv"))
    assert (stream.sfreq, stream.n_times) == (RATE, 2 * RATE)
    np.testing.assert_allclose(stream.read(100, 9000)[:, 0], TONE[100:9000], atol=1e-4)
    film = decoded.frames(tmp_path / "stimuli/a.mkv", 4, 2, grey=True)
    assert (film.fps, film.pixels.shape) == (10.0, (20, 2, 4, 1))
    assert film.pixels[:, 0, 0, 0].tolist() == [10 * k for k in range(20)]
    pixels = targets.make(Pixels(sfreq=10, width=4, height=2), (Trial(0.5, 2.0, "a.mkv"),), tmp_path, 3.0)
    assert not isinstance(pixels, np.ndarray)
    rows = pixels.read(0, 30)
    assert rows.shape == (30, 8) and rows[4].max() == 0
    np.testing.assert_allclose(rows[5:25, 0] * 255, [10 * k for k in range(20)], atol=1e-3)


def test_a_film_without_the_package_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        ValueError, match=r"a\.mp4 is a film, whose sound .*hpc-eegdecode\[film\].; or ffmpeg -i a\.mp4"
    ):
        audio.open_sound(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4 is a film, whose frames .*target extra"):
        decoded.frames(tmp_path / "a.mp4", 4, 2, grey=True)


def test_a_damaged_film_is_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(1000))
    with pytest.raises(ValueError, match=r"a\.mp4 .*fetch it again"):
        audio.open_sound(tmp_path / "a.mp4")


def test_stim_of_the_mtrf_toolbox_is_a_target(tmp_path: Path) -> None:
    cells_5(tmp_path / "s1.mat", {"stim": STIM, "resp": CELLS, "fs": 250.0})
    (entry,) = recordings.find(tmp_path, "{subject}.mat")
    opened = recordings.open_entry(entry, Reading())
    trials = of_file.trials(opened, entry.path, tmp_path)
    made = targets.make(Stim(sfreq=250.0), trials, tmp_path, opened.stream.duration, names=entry.words)
    assert not isinstance(made, np.ndarray)
    np.testing.assert_allclose(made.read(0, 500), np.concatenate(STIM), atol=1e-3)
    with pytest.raises(ValueError, match=r"s1\.mat has 3 cells in stim, but the recording 2 trials"):
        targets.make(Stim(), trials[:2], tmp_path, 2.0, names=entry.words)
    with pytest.raises(ValueError, match=r"s1\.mat has no cell array envelope; there are"):
        targets.make(Stim(variable="envelope"), trials, tmp_path, 2.0, names=entry.words)
