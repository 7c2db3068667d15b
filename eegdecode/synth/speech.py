"""A synthetic MEG study of sentences, as FIF: a response to the loudness, and one to the embedding of each word.

    python -m hpc.launch synthesize configs/synthesize/speech.yaml

Each head mixes the sources differently, so that a decoder of one subject transfers poorly to another.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import signal as dsp

from eegdecode.data.io.recordings import stimulus_file
from eegdecode.data.targets.envelope import envelope
from eegdecode.data.targets.parts.lookup import value_at
from eegdecode.signals import Signal
from eegdecode.synth import head
from eegdecode.synth.config import Speech
from eegdecode.synth.formats import write_npy, write_wav
from eegdecode.synth.head import UNIT_T, bump, draws
from eegdecode.synth.tree import StudyPlan, write_description, write_readme, write_recording, write_tsv

EFFECT = 2.0  # in units of 25 fT, RMS of each response at its strongest sensor
LOUDNESS_LAG_S, MEANING_LAG_S = 0.1, 0.35
AUDIO_HZ = 8000
MEANING_HZ = 50  # the rate of wav2vec 2.0
GAP_S = (1.0, 2.0)
COLUMNS = ("onset", "duration", "trial_type", "stim_file", "word", "word_index")

_SENTENCE, _VOCABULARY, _HEAD, _SUBJECT = 31, 32, 33, 34


@dataclass(frozen=True)
class Sentence:
    """The sound of a sentence, and the onsets and durations of its words."""

    audio: np.ndarray
    onsets_s: np.ndarray
    durations_s: np.ndarray
    words: np.ndarray

    @property
    def duration_s(self) -> float:
        return len(self.audio) / AUDIO_HZ


def plan(cfg: Speech) -> StudyPlan:
    sentences = {f"sentence-{number:02d}.wav": speak(cfg, number) for number in range(1, cfg.n_sentences + 1)}
    subjects = [f"sub-{number:02d}" for number in range(1, cfg.n_subjects + 1)]
    size = cfg.effect * EFFECT * UNIT_T * 1e15
    planted = (
        f"{size:g} fT RMS of answer to the loudness of speech ({LOUDNESS_LAG_S} s after it), and as much to the "
        f"embedding of each word ({MEANING_LAG_S} s after its onset), mixed in another way in each subject"
    )

    def describe(study: Path) -> None:
        people = [("participant_id",), *((name,) for name in subjects)]
        write_description(study, "Made-up MEG of speech", planted, cfg, people)
        write_readme(study, f"Made up by eegdecode.synth: nobody was measured. Planted: {planted}.\n")
        write_npy(study / "stimuli" / "words.npy", embeddings(cfg))
        words = [(str(row), word_name(row)) for row in range(cfg.n_words)]
        write_tsv(study / "stimuli" / "words.tsv", ("row", "stimulus"), words)
        for name, sentence in sentences.items():
            write_wav(stimulus_file(study, name), sentence.audio, AUDIO_HZ)
            write_npy(stimulus_file(study, name.replace(".wav", ".npy")), meanings(cfg, sentence))

    minutes = cfg.n_subjects * sum(sentence.duration_s for sentence in sentences.values()) / 60
    return StudyPlan(
        describe,
        {
            f"{name}/meg/{name}_task-listening_meg.fif": partial(_write, cfg=cfg, number=number, sentences=sentences)
            for number, name in enumerate(subjects, 1)
        },
        {"subjects": cfg.n_subjects, "sentences": cfg.n_sentences, "minutes_of_speech_heard": round(minutes, 1)},
    )


def embeddings(cfg: Speech) -> np.ndarray:
    """Return [word, feature], each feature with an SD of 1."""
    return draws(cfg.seed, _VOCABULARY).normal(size=(cfg.n_words, cfg.n_features)).astype(np.float32)


def meanings(cfg: Speech, sentence: Sentence) -> np.ndarray:
    """Return [time, feature] at MEANING_HZ, like the features of a speech model: the embedding of the current word, 0
    between words."""
    features = np.zeros((round(sentence.duration_s * MEANING_HZ), cfg.n_features), np.float32)
    vectors = embeddings(cfg)
    for onset_s, duration_s, word in zip(sentence.onsets_s, sentence.durations_s, sentence.words):
        features[round(onset_s * MEANING_HZ) : round((onset_s + duration_s) * MEANING_HZ)] = vectors[word]
    return features


def word_name(row: int) -> str:
    return f"word{row:03d}"


def speak(cfg: Speech, number: int) -> Sentence:
    """Make words of one to three syllables, each a hum with harmonics and a smooth envelope, with pauses between
    phrases."""
    rng = draws(cfg.seed, _SENTENCE, number)
    audio = np.zeros(int(rng.uniform(*cfg.sentence_s) * AUDIO_HZ))
    onsets, durations, now_s = [], [], 0.1
    while now_s < len(audio) / AUDIO_HZ - 1.0:
        onsets.append(now_s)
        for _ in range(rng.integers(1, 4)):
            length_s = rng.uniform(0.12, 0.25)
            time = np.arange(int(length_s * AUDIO_HZ)) / AUDIO_HZ
            pitch_hz = rng.uniform(110, 130)
            hum = sum(np.sin(2 * np.pi * k * pitch_hz * time) / k for k in range(1, 12))
            first = int(now_s * AUDIO_HZ)
            audio[first : first + len(time)] += rng.uniform(0.3, 1) * np.sin(np.pi * time / length_s) ** 2 * hum
            now_s += length_s
        durations.append(now_s - onsets[-1])
        now_s += rng.uniform(0.3, 0.6) if rng.random() < 0.15 else rng.uniform(0.02, 0.1)
    audio = np.rint(0.8 * 32767 * audio / np.abs(audio).max()) / 32768
    words = rng.integers(cfg.n_words, size=len(onsets))
    return Sentence(audio, np.round(onsets, 4), np.round(durations, 4), words)


def _write(path: Path, cfg: Speech, number: int, sentences: dict[str, Sentence]) -> None:
    rng = draws(cfg.seed, _SUBJECT, number)
    names = sorted(sentences)
    now_s, starts = 0.0, {}
    for index in rng.permutation(len(names)):
        starts[names[index]] = round(now_s + rng.uniform(*GAP_S), 4)
        now_s = starts[names[index]] + sentences[names[index]].duration_s
    time = np.arange(int((now_s + GAP_S[1]) * cfg.sfreq)) / cfg.sfreq
    helmet = head.helmet(cfg.n_channels)
    meg = head.background(helmet, draws(cfg.seed, _HEAD, number), rng, len(time), cfg.sfreq)
    meg += cfg.effect * EFFECT * _answers(cfg, number, starts, sentences, time, helmet)
    events = []
    for name, start in starts.items():
        sentence = sentences[name]
        events.append((f"{start:.4f}", f"{sentence.duration_s:.4f}", "sentence", name, "n/a", "n/a"))
        events += [
            (f"{start + onset:.4f}", f"{duration:.4f}", "word", "n/a", word_name(word), str(word))
            for onset, duration, word in zip(sentence.onsets_s, sentence.durations_s, sentence.words)
        ]
    signal = Signal((meg * UNIT_T).astype(np.float32), cfg.sfreq, helmet.names, helmet.sensors())
    about = {
        "TaskName": "listening",
        "SamplingFrequency": cfg.sfreq,
        "PowerLineFrequency": 50,
        "DewarPosition": "upright",
        "SoftwareFilters": "n/a",
        "DigitizedLandmarks": False,
        "DigitizedHeadPoints": False,
    }
    write_recording(path, signal, {}, COLUMNS, events, about)


def _answers(
    cfg: Speech,
    number: int,
    starts: dict[str, float],
    sentences: dict[str, Sentence],
    time: np.ndarray,
    helmet: head.Cap,
) -> np.ndarray:
    """Return the responses to loudness and meaning, [time, channel], each with RMS 1 at its strongest channel."""
    stimulus, meant = np.zeros(len(time)), np.zeros((len(time), cfg.n_features))
    vectors = embeddings(cfg)
    for name, start in starts.items():
        sentence = sentences[name]
        loudness = envelope(sentence.audio, AUDIO_HZ, 8.0)
        during = (time >= start) & (time < start + sentence.duration_s)
        stimulus[during] = value_at(loudness, time[during] - start)[:, 0]
        onsets = np.rint((start + sentence.onsets_s) * cfg.sfreq).astype(int)
        np.add.at(meant, onsets, vectors[sentence.words])
    lag = np.arange(0, 0.7, 1 / cfg.sfreq)
    tone = bump(lag - LOUDNESS_LAG_S, 0.025) - 0.5 * bump(lag - LOUDNESS_LAG_S - 0.08, 0.04)
    word = bump(lag - MEANING_LAG_S, 0.06)
    own = draws(cfg.seed, _HEAD, number, 1)
    loud = helmet.patterns(own, 1, (0.5, 0.0, 0.15))
    meaning = helmet.patterns(own, cfg.n_features, (-0.5, 0.0, 0.2))
    first = np.outer(dsp.fftconvolve(stimulus, tone)[: len(time)], loud)
    second = dsp.fftconvolve(meant, word[:, None], axes=0)[: len(time)] @ meaning
    return first / first.std(axis=0).max() + second / second.std(axis=0).max()
