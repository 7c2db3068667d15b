"""A target stream is aligned with the sound that was played, to a fraction of a sample."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from eegdecode.data import targets
from eegdecode.data.events import events, stimuli
from eegdecode.data.io import audio
from eegdecode.data.targets import Target
from eegdecode.data.targets.audio import Audio
from eegdecode.data.targets.embedding import Embedding
from eegdecode.data.targets.envelope import Envelope, envelope
from eegdecode.data.targets.extra import Extra
from eegdecode.data.targets.frame import Frame
from eegdecode.data.targets.image import Image, image_file
from eegdecode.data.targets.label import Label
from eegdecode.data.targets.mel import Mel
from eegdecode.data.targets.parts import blocks
from eegdecode.signals import Signal, Stream, Trial
from eegdecode.synth.formats import write_wav
from hpc import config

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


def stream_of(target: Target, trials: Sequence[Trial], study: Path, duration_s: float) -> Signal:
    """All of a target that is a stream."""
    stream = targets.make(target, trials, study, duration_s)
    assert isinstance(stream, Stream)
    return stream.signal()


def phase_s(values: np.ndarray, times: np.ndarray, rate_hz: float = 2.0) -> float:
    """When the swing is at its loudest, in seconds, from its phase."""
    return float(
        -np.angle(np.sum((values - values.mean()) * np.exp(-2j * np.pi * rate_hz * times))) / (2 * np.pi * rate_hz)
    )


@pytest.mark.parametrize("onset", [2.0, 2.0 + 0.3 / 64, 2.0 + 0.5 / 64, 2.013])
@pytest.mark.parametrize("target", [Envelope(), Envelope(sfreq=100.0, cutoff_hz=6.0)])
def test_a_fractional_onset_is_honoured(sounds: Path, target: Envelope, onset: float) -> None:
    stream = stream_of(target, [Trial(onset, 4.0, "tremolo.wav")], sounds, 8.0)
    times = np.arange(stream.n_times) / target.sfreq
    whole_swings = (times >= onset + 0.5) & (times < onset + 3.5)
    late_s = phase_s(stream.data[whole_swings, 0], times[whole_swings] - onset)
    assert abs(late_s) < 0.0005, "half a millisecond, where a sample is 10 ms and more"


def test_streams_are_zero_outside_the_trials_and_as_long_as_the_recording(sounds: Path) -> None:
    trials = [Trial(1.0, 2.0, "tremolo.wav"), Trial(4.0, 1.0, "silence.wav"), Trial(5.0, 4.0, "tremolo.wav")]
    stream = stream_of(Envelope(), trials, sounds, 10.5)
    during = np.zeros(672, bool)
    during[64:192] = during[320:576] = True
    assert stream.data.shape == (672, 1) and stream.data.dtype == np.float32
    assert (stream.data[during] > 0.05).all() and (stream.data[~during] == 0).all()
    np.testing.assert_allclose(stream.data[64:192], stream.data[320:448], atol=1e-6)  # cut short, not squeezed


def test_loudness_is_compressed(sounds: Path) -> None:
    loud, soft = (envelope(strength * tremolo(), HZ, 8.0).data for strength in (1.0, 0.1))
    np.testing.assert_allclose(soft / loud, 0.1**0.6, rtol=1e-6)


def test_nothing_above_the_cutoff_is_left(sounds: Path) -> None:
    slow, fast = (envelope(tremolo(rate_hz=rate), HZ, 8.0).data[HZ:-HZ].std() for rate in (2.0, 25.0))
    assert fast < 0.01 * slow


def test_stereo_is_averaged_and_broken_sound_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, np.tile([0.5, -0.25], 100), HZ)
    path.write_bytes(path.read_bytes()[:22] + b"\x02\0" + path.read_bytes()[24:32] + b"\x04\0" + path.read_bytes()[34:])
    samples, audio_hz = audio.read(path)
    assert (audio_hz, len(samples)) == (HZ, 100) and np.allclose(samples, 0.125)
    path.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a\.wav cannot be read as sound \(it is cut off\): fetch it again"):
        audio.read(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"\(it is empty\)"):
        audio.read(path)


def test_mel_follows_pitch_and_keeps_time(sounds: Path) -> None:
    pytest.importorskip("torchaudio")
    onset = 2.0 + 0.3 / 64
    trials = [Trial(onset, 4.0, "tremolo.wav"), Trial(6.5, 1.0, "silence.wav")]
    stream = stream_of(Mel(n_mels=20), trials, sounds, 8.0)
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
        stream_of(Mel(), [Trial(1.0, 2.0, "tremolo.wav")], sounds, 4.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"below half of sfreq \(8.0 Hz\), got 8.0"):
        Envelope(sfreq=16.0)
    with pytest.raises(ValueError, match="got 64.0 Hz and 0 bands"):
        Mel(n_mels=0)


def noise(folder: Path, name: str, seconds: float, hz: int = HZ, seed: int = 0) -> np.ndarray:
    """A sound in which every sample is another; as it stands in the file."""
    write_wav(folder / "stimuli" / name, np.random.default_rng(seed).uniform(-0.9, 0.9, int(seconds * hz)), hz)
    return audio.read(folder / "stimuli" / name)[0].astype(np.float32)


def streamed(cfg: Target, trials: Sequence[Trial], study: Path, duration_s: float, **more: Any) -> Stream:
    stream = targets.make(cfg, trials, study, duration_s, **more)
    assert isinstance(stream, Stream)
    return stream


def valued(cfg: Target, trials: Sequence[Trial], study: Path, known: Sequence[str] = ()) -> np.ndarray:
    values = targets.make(cfg, trials, study, 100.0, known)
    assert isinstance(values, np.ndarray) and values.dtype == np.float32
    return values


@pytest.mark.parametrize("seed", range(10))
def test_sound_is_exact_to_a_sample_and_stays_within_its_trial(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sounds = {f"{k}.wav": noise(tmp_path, f"{k}.wav", float(rng.uniform(0.5, 2)), seed=k) for k in range(4)}
    edges = np.sort(rng.uniform(0, 12, 10)).reshape(5, 2)
    edges[2, 0] = edges[1, 1]  # one follows at once
    trials = [Trial(a, b - a, str(rng.choice(sorted(sounds)))) for a, b in edges.tolist() if b - a > 1e-3]
    stream = streamed(Audio(sfreq=HZ), trials, tmp_path, 12.0)
    expected = np.zeros(12 * HZ, np.float32)
    for trial in trials:
        for sample in range(int(np.ceil(trial.start * HZ)), int(np.ceil((trial.start + trial.duration) * HZ))):
            since = sample / HZ - trial.start
            if since < len(sounds[trial.stimulus]) / HZ:
                place = min(round(since * HZ), len(sounds[trial.stimulus]) - 1)
                expected[sample] = sounds[trial.stimulus][place]
    whole = stream.read(0, stream.n_times)[:, 0]
    np.testing.assert_array_equal(whole, expected)
    cuts = np.sort(rng.integers(0, stream.n_times, 6))
    parts = [stream.read(a, b) for a, b in pairwise([0, *cuts.tolist(), stream.n_times])]
    np.testing.assert_array_equal(np.concatenate(parts)[:, 0], whole)
    asked = rng.integers(0, stream.n_times, 50)
    np.testing.assert_array_equal(targets.lookup(stream, asked / HZ)[:, 0], expected[asked])


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (8000, 16000), (22050, 22050)])
def test_sound_is_resampled_without_delay(tmp_path: Path, rate: int, wanted: int) -> None:
    time = np.arange(2 * rate) / rate
    write_wav(tmp_path / "stimuli/tone.wav", 0.8 * np.sin(2 * np.pi * 440 * time), rate)
    samples = streamed(Audio(sfreq=wanted), [Trial(0.5, 2.0, "tone.wav")], tmp_path, 3.0).signal().data[:, 0]
    inside = np.arange(int(0.6 * wanted), int(2.4 * wanted))
    np.testing.assert_allclose(samples[inside], 0.8 * np.sin(2 * np.pi * 440 * (inside / wanted - 0.5)), atol=2e-3)


@pytest.mark.parametrize("cfg", [Audio(sfreq=6000), Envelope(), Mel(n_mels=4)])
def test_long_sound_is_computed_in_blocks_without_a_seam(
    tmp_path: Path, cfg: Audio | Envelope | Mel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(cfg, Mel):
        pytest.importorskip("torchaudio")
    noise(tmp_path, "a.wav", 45.0)
    trials = [Trial(1.0, 45.0, "a.wav")]
    whole = streamed(cfg, trials, tmp_path, 46.0).signal().data
    monkeypatch.setattr(blocks, "BLOCK_S", 10.0)
    read: list[int] = []
    opened = audio.open_sound

    def counted(path: Path) -> Stream:
        stream = opened(path)
        return replace(stream, read=lambda first, stop: (read.append(stop - first), stream.read(first, stop))[1])

    monkeypatch.setattr(audio, "open_sound", counted)
    made = streamed(cfg, trials, tmp_path, 46.0)
    parts = [made.read(first, min(first + 500, made.n_times)) for first in range(0, made.n_times, 500)]
    inside = slice(int(1.2 * made.sfreq), int(45.8 * made.sfreq))  # the first and last of a sound are no seam
    np.testing.assert_allclose(np.concatenate(parts)[inside], whole[inside], atol=2e-3 * whole.std())
    assert len(read) == 5 and max(read) <= 17 * HZ, "each block is computed once, and no more is ever in memory"


def test_the_files_of_a_target_are_those_of_what_was_shown(tmp_path: Path) -> None:
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "stimuli/film.wav").touch()
    shown = [Trial(0, 1, "film.mp4#t=60,120"), Trial(2, 1, "film.mp4"), Trial(4, 1, "a.wav")]
    of = {"subject": "01"}
    for cfg in (Audio(), Envelope(), Mel(), Image()):
        suffix = "mp4" if isinstance(cfg, Image) else "wav"
        expected = {tmp_path / f"stimuli/film.{suffix}", tmp_path / "stimuli/a.wav"}
        assert targets.files(cfg, shown, tmp_path, of) == expected
    assert targets.files(Extra("{stem}.npy", 1.0), shown, tmp_path, of) == {tmp_path / "film.npy", tmp_path / "a.npy"}
    assert targets.files(Extra("{subject}.npy", 1.0), shown, tmp_path, of) == {tmp_path / "01.npy"}
    assert targets.files(Embedding("a.npy", index="a.tsv"), shown, tmp_path, of) == {
        tmp_path / "a.npy",
        tmp_path / "a.tsv",
    }
    assert targets.files(Label(), shown, tmp_path, of) == targets.files(Frame(), shown, tmp_path, of) == set()


def test_frames_are_counted_on_the_clock_of_the_film(tmp_path: Path) -> None:
    fps, ppm, film = 29.97, 80.0, "ID03_SkyVol1-2_id5_MEG_DATAPixx_part1.mp4"
    rng = np.random.default_rng(0)
    start_s, lasts_s = 4.4321, 900.0
    trial = Trial(start_s, lasts_s, film, {events.SPEED: 1 / (1 + ppm * 1e-6)})
    stream = streamed(Frame(sfreq=1000.0), [trial], tmp_path, 910.0)
    times_s = rng.uniform(start_s, start_s + lasts_s, 500)
    shown = np.floor((times_s - start_s) / (1 + ppm * 1e-6) * fps)  # the planted counter
    frames = targets.lookup(stream, times_s)[:, 0]
    assert np.abs(frames - shown).max() <= 1 and np.mean(frames == shown) > 0.95
    assert targets.lookup(stream, np.array([1.0, 909.0])).tolist() == [[-1.0], [-1.0]], "frame 0 is a frame"
    later = Trial(10.0, 60.0, stimuli.piece(film, 60.0, 120.0))
    assert targets.lookup(streamed(Frame(sfreq=1000.0), [later], tmp_path, 80.0), np.array([10.5]))[0, 0] == int(
        60.5 * fps
    )
    labelled = Trial(0.0, 10.0, "film.mp4", {"fps": 25.0})
    assert targets.lookup(streamed(Frame(), [labelled], tmp_path, 10.0), np.array([2.0]))[0, 0] == 50
    with pytest.raises(ValueError, match=r"'film.mp4' does not have its frames a second: set fps"):
        streamed(Frame(), [Trial(0, 1, "film.mp4")], tmp_path, 1.0).signal()


def test_a_piece_of_a_sound_is_that_piece(tmp_path: Path) -> None:
    sounded = noise(tmp_path, "a.wav", 5.0)
    samples = streamed(Audio(sfreq=HZ), [Trial(1.0, 1.0, "a.wav#t=2.5,3.5")], tmp_path, 3.0).signal().data[:, 0]
    np.testing.assert_array_equal(samples[HZ : 2 * HZ], sounded[int(2.5 * HZ) : int(3.5 * HZ)])


def test_regions_of_an_fmri_keep_their_own_rate(tmp_path: Path) -> None:
    rois = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
    np.save(tmp_path / "sub-01_rois.npy", rois)
    cfg = Extra("sub-{subject}_rois.npy", sfreq=0.5, start_s=6.0, title="rois")
    stream = streamed(cfg, (), tmp_path, 180.0, names={"subject": "01"})
    assert targets.stored_name(cfg) == "rois" and stream.channels == tuple(f"rois{k}" for k in range(7))
    volumes = np.arange(87)
    np.testing.assert_array_equal(targets.lookup(stream, 6.0 + 2.0 * volumes), rois[volumes])
    np.testing.assert_allclose(
        targets.lookup(stream, 7.0 + 2.0 * volumes[:-1]), (rois[:86] + rois[1:87]) / 2, atol=1e-6
    )
    assert (targets.lookup(stream, np.array([0.0, 4.0])) == 0).all()
    # Kept at another rate it is what lies between two volumes
    fine = streamed(replace(cfg, sfreq=4.0, file_sfreq=0.5), (), tmp_path, 180.0, names={"subject": "01"})
    np.testing.assert_allclose(
        targets.lookup(fine, np.array([6.0, 7.5])), [rois[0], 0.25 * rois[0] + 0.75 * rois[1]], atol=1e-6
    )
    with pytest.raises(ValueError, match=r"lasts from 500 s to 700 s, none of it within the recording \(180.00 s\)"):
        streamed(replace(cfg, start_s=500.0), (), tmp_path, 180.0, names={"subject": "01"})
    with pytest.raises(ValueError, match=r"there is no .*sub-02_rois.npy: add it"):
        streamed(cfg, (), tmp_path, 180.0, names={"subject": "02"})


def test_an_extra_stream_of_each_stimulus_starts_with_it(tmp_path: Path) -> None:
    (tmp_path / "states").mkdir()
    (tmp_path / "states/a.tsv").write_text("word\tphone\n" + "".join(f"{k}\t{10 * k}\n" for k in range(20)))
    cfg = Extra("states/{stem}.tsv", sfreq=100.0, file_sfreq=10.0, hold=True)
    stream = streamed(cfg, [Trial(1.003, 1.0, "a.wav")], tmp_path, 3.0)
    asked = np.array([1.01, 1.24, 1.98])
    assert targets.lookup(stream, asked).tolist() == [[0, 0], [2, 20], [9, 90]], "a state lasts until the next"
    with pytest.raises(ValueError, match=r"there is no .*states/b.tsv"):
        streamed(cfg, [Trial(1.0, 1.0, "b.wav")], tmp_path, 3.0)


def test_an_extra_stream_may_be_the_one_large_array_of_a_mat_file(tmp_path: Path) -> None:
    loudness = np.arange(300.0)
    scipy.io.savemat(tmp_path / "story.mat", {"attended": loudness[:, None], "Fs": 100.0, "b": np.ones((1, 20))})
    cfg = Extra("{stem}.mat", sfreq=50.0, file_sfreq=100.0)
    stream = streamed(cfg, [Trial(1.0, 2.0, "story.wav")], tmp_path, 4.0)
    np.testing.assert_allclose(targets.lookup(stream, np.array([1.0, 1.5, 2.98])), [[0], [50], [198]])
    scipy.io.savemat(tmp_path / "story.mat", {"one": loudness, "other": loudness})
    with pytest.raises(
        ValueError, match=r"story.mat has several arrays that are possible \(one, other\): save the right one"
    ):
        streamed(cfg, [Trial(1.0, 2.0, "story.wav")], tmp_path, 4.0)
    (tmp_path / "story.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(ValueError, match=r"story.mat is cut off or damaged"):
        streamed(cfg, [Trial(1.0, 2.0, "story.wav")], tmp_path, 4.0)


HEARD = (
    Trial(1, 2, "b.wav", {"valence": 3.0, "mood": "sad"}),
    Trial(5, 2, "a.wav", {"valence": -1.5, "mood": "glad"}),
    Trial(9, 2, "b.wav#t=2,4", {"valence": 0.0, "mood": "glad"}),
)


def test_labels_are_scores_or_classes_of_the_whole_study(tmp_path: Path) -> None:
    assert valued(Label(column="valence"), HEARD, tmp_path).tolist() == [[3.0], [-1.5], [0.0]]
    moods = targets.classes([*targets.values("mood", HEARD), "angry"])  # of another recording
    assert moods == ("angry", "glad", "sad") and targets.classes([3.0, -1.5]) == ()
    assert valued(Label(column="mood"), HEARD, tmp_path, moods).tolist() == [[2], [1], [1]]
    shown = targets.classes(targets.values("stimulus", HEARD))
    assert valued(Label(), HEARD, tmp_path, shown).tolist() == [[1], [0], [1]]
    assert (targets.stored_name(Label()), targets.stored_name(Label(column="mood"))) == ("stimulus", "mood")
    with pytest.raises(
        ValueError, match=r"1 of 4 trials, the first at 12.00 s, have no value in column 'mood' .*valence"
    ):
        valued(Label(column="mood"), (*HEARD, Trial(12, 1, "c.wav")), tmp_path, moods)
    with pytest.raises(ValueError, match="mood has sad, which is not one of the 2 classes of the study"):
        valued(Label(column="mood"), HEARD, tmp_path, moods[:2])


def test_labels_may_be_computed_by_a_target_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab_hand.py").write_text(
        "from dataclasses import dataclass\n\n\n"
        "@dataclass(frozen=True)\nclass Hand:\n    name: str = 'mylab_hand'\n\n\n"
        "def column(cfg):\n    return 'mood'\n\n\n"
        "def make(cfg, trials, study, duration_s):\n    return [trial.labels['mood'] for trial in trials]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cfg = importlib.import_module("mylab_hand").Hand()
    assert (targets.stored_name(cfg), targets.column(cfg)) == ("mylab_hand", "mood")
    assert targets.files(cfg, HEARD, tmp_path, {}) == set() and targets.overlong_trials(cfg, HEARD, tmp_path) == []
    assert valued(cfg, HEARD, tmp_path, ("glad", "sad")).tolist() == [[1], [0], [0]]


def test_embeddings_are_found_by_stimulus_and_never_made_up(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.save(tmp_path / "clip.npy", clip)
    (tmp_path / "clip.tsv").write_text("stimulus\ncat.jpg\na.wav\nb.wav\n")
    cfg = Embedding("clip.npy", index="clip.tsv")
    np.testing.assert_array_equal(valued(cfg, HEARD, tmp_path), clip[[2, 1, 2]])
    assert targets.stored_name(cfg) == "clip"
    with pytest.raises(ValueError, match=r"clip.tsv has no embedding of dog.jpg \(1 of 3 stimuli\): compute them"):
        valued(cfg, (*HEARD, Trial(12, 1, "dog.jpg")), tmp_path)
    (tmp_path / "short.tsv").write_text("stimulus\na.wav\nb.wav\n")
    with pytest.raises(ValueError, match=r"clip.npy is \(3, 5\), but short.tsv names 2 stimuli"):
        valued(replace(cfg, index="short.tsv"), HEARD, tmp_path)
    (tmp_path / "twice.tsv").write_text("stimulus\na.wav\nb.wav\nb.wav\n")
    with pytest.raises(ValueError, match="names 3 stimuli, but only 2 different ones"):
        valued(replace(cfg, index="twice.tsv"), HEARD, tmp_path)
    (tmp_path / "text").mkdir()
    np.save(tmp_path / "text/a.npy", clip[0])
    each = Embedding("text/{stem}.npy")
    np.testing.assert_array_equal(valued(each, HEARD[1:2], tmp_path), clip[:1])
    with pytest.raises(ValueError, match=r"there is no embedding .*text/b.npy for the stimulus 'b.wav'"):
        valued(each, HEARD, tmp_path)
    np.save(tmp_path / "text/b.npy", clip[0, :3])
    with pytest.raises(ValueError, match="has 3 to 5 features: compute all with one model"):
        valued(each, HEARD, tmp_path)


def test_targets_are_written_in_yaml() -> None:
    @dataclass(frozen=True)
    class Stage:
        targets: tuple[Target, ...]

    stage = Stage((Audio(), Mel(), Frame(fps=25.0), Extra("a.npy", 0.5), Label(column="mood"), Embedding("{stem}.npy")))
    assert config.build(Stage, config.plain(stage), "preprocess") == stage


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val/n01443537_22563.JPEG").touch()
    cfg = Image(file="val/{stimulus}.JPEG")
    seen = [Trial(0, 1, "n01443537_22563")]
    assert valued(cfg, seen, tmp_path, ("n01443537_22563",)).tolist() == [[0.0]]
    assert image_file(cfg, "n01443537_22563", tmp_path).name == "n01443537_22563.JPEG"
    with pytest.raises(ValueError, match=r"there is no image .*val/n02.JPEG for the stimulus 'n02': add it"):
        valued(cfg, [*seen, Trial(2, 1, "n02")], tmp_path, ("n01443537_22563", "n02"))


def test_a_stream_of_overlapping_trials_is_refused(sounds: Path) -> None:
    with pytest.raises(ValueError, match=r"trials at 1.00 s and 1.50 s overlap, but a stream has one stimulus"):
        streamed(Envelope(), [Trial(1.0, 1.0, "tremolo.wav"), Trial(1.5, 1.0, "tremolo.wav")], sounds, 4.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Audio(sfreq=0.5), "whole number of Hz, got 0.5"),
        (lambda: Frame(fps=0), "frame needs rates above 0, got sfreq 64.0 Hz and 0 fps"),
        (lambda: Extra("a.npy", sfreq=0), "rates above 0 Hz, got sfreq 0"),
        (lambda: Embedding("clip.npy"), "needs either an index, or {stem} in its file's name"),
    ],
)
def test_nonsense_of_other_targets_is_refused(make: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_trial_that_outlasts_its_sound_is_told_and_one_that_lacks_most_of_it_refused(sounds: Path) -> None:
    whole, longer = Trial(1.0, 4.0, "tremolo.wav"), Trial(6.0, 4.5, "tremolo.wav")
    assert targets.overlong_trials(Envelope(), [whole], sounds) == []
    assert targets.overlong_trials(Mel(), [whole, longer], sounds) == [
        "1 trials outlast their mel, by up to 0.50 s (tremolo.wav): filled with 0"
    ]
    message = r"tremolo.wav ends after 4.00 s, but the trial at 6.00 s presents '.*' for 9.00 s: fetch all of it"
    with pytest.raises(ValueError, match=message):
        targets.overlong_trials(Audio(), [whole, Trial(6.0, 9.0, "tremolo.wav")], sounds)
    with pytest.raises(ValueError, match="ends after 4.00 s, but .* presents 'tremolo.wav#t=3,6' for 3.00 s"):
        targets.overlong_trials(Envelope(), [Trial(6.0, 3.0, "tremolo.wav#t=3,6")], sounds)
    np.save(sounds / "tremolo.npy", np.zeros((40, 2)))
    extra = Extra("{stem}.npy", sfreq=20.0, title="text")
    with pytest.raises(ValueError, match="tremolo.npy ends after 2.00 s"):
        targets.overlong_trials(extra, [Trial(0.0, 4.5, "tremolo.wav")], sounds)
    assert targets.overlong_trials(Label(), [longer], sounds) == []


def test_what_is_no_number_in_a_table_is_named_by_its_place(tmp_path: Path) -> None:
    table = tmp_path / "score.tsv"

    def read(cfg: Extra) -> Signal:
        return stream_of(cfg, [Trial(0.0, 1.0, "a")], tmp_path, 2.0)

    for cell, shown in (("happy", "'happy'"), ("n/a", "'n/a'"), ("", "''"), ("inf", "'inf'")):
        table.write_text(f"level\tmood\n1\t2\n\n3\t{cell}\n5\t6\n")
        with pytest.raises(
            ValueError, match=f"line 4 of .*score.tsv says {shown} in column mood, which is not a number"
        ):
            read(Extra("score.tsv", sfreq=2.0))
    rows = np.ones((50, 2))
    rows[13, 1] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(ValueError, match=r"rows.npy has values that are not numbers .* in row 13, column 1, counted"):
        read(Extra("rows.npy", sfreq=25.0))
    (tmp_path / "index.tsv").write_text("stimulus\n" + "".join(f"{k}.png\n" for k in range(50)))
    cfg = Embedding("rows.npy", index="index.tsv")
    assert targets.make(cfg, [Trial(0, 1, "12.png")], tmp_path, 2.0).shape == (1, 2)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"rows.npy has values .* in row 13, column 1"):
        targets.make(cfg, [Trial(0, 1, "12.png"), Trial(1, 1, "13.png")], tmp_path, 2.0)
