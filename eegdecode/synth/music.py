"""A synthetic music-listening study with a planted response: real EDF, BrainVision and WAV files in a BIDS tree.

    python -m hpc.launch synthesize configs/demo.yaml

A channel is the sum of the brain's response to the music (small), other brain activity with a 1/f spectrum, alpha
bursts, blinks, muscle, drift, mains, and noise of the reference that all channels share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import signal as dsp

from eegdecode.data.io.recordings import stimulus_file
from eegdecode.data.targets.envelope import envelope
from eegdecode.data.targets.parts.lookup import value_at
from eegdecode.signals import Signal, Trial
from eegdecode.synth import head
from eegdecode.synth.config import Music
from eegdecode.synth.formats import write_wav
from eegdecode.synth.head import PLACES, Cap, bump, coloured, draws
from eegdecode.synth.tree import StudyPlan, write_description, write_readme, write_recording

AUDIO_HZ = 8000
GAP_S = (1.5, 3.0)  # silence before a piece
ENVELOPE_CUTOFF_HZ = 8.0  # the highest frequency that the brain follows

_PIECE, _SUBJECT = 1, 2  # separate the draws of one seed from each other


def plan(cfg: Music) -> StudyPlan:
    pieces = {
        f"piece-{number:02d}.wav": compose(draws(cfg.seed, _PIECE, number), cfg.piece_s)
        for number in range(1, cfg.n_pieces + 1)
    }
    loudness = {name: envelope(audio, AUDIO_HZ, ENVELOPE_CUTOFF_HZ) for name, audio in pieces.items()}
    minutes = cfg.n_subjects * sum(len(audio) for audio in pieces.values()) / AUDIO_HZ / 60
    return StudyPlan(
        describe=lambda study: _describe(study, cfg, pieces),
        recordings={
            _eeg_file(number): partial(_write_subject, cfg=cfg, number=number, loudness=loudness)
            for number in range(1, cfg.n_subjects + 1)
        },
        counts={"subjects": cfg.n_subjects, "pieces": cfg.n_pieces, "minutes_of_music_heard": round(minutes, 1)},
    )


def compose(rng: np.random.Generator, piece_s: tuple[float, float]) -> np.ndarray:
    """Compose a piece of music within ±1: a melody that wanders over a pentatonic scale, with a bass note each bar."""
    duration_s, beat_s = rng.uniform(*piece_s), 60 / rng.uniform(85, 130)
    root_hz = 220 * 2 ** (rng.integers(-3, 4) / 12)
    scale = [12 * octave + step for octave in (0, 1) for step in (0, 2, 4, 7, 9)]
    audio = np.zeros(int(duration_s * AUDIO_HZ))
    onset_s, degree = 0.1, 4
    while onset_s < duration_s - 0.3:
        length_s = beat_s * rng.choice([0.5, 0.5, 0.75, 1.0, 1.5])
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, len(scale) - 1))
        if rng.random() < 0.85:  # otherwise a rest
            _play(audio, onset_s, root_hz * 2 ** (scale[degree] / 12), rng.uniform(0.35, 1.0), 0.4 * length_s)
        onset_s += length_s
    for bar_s in np.arange(0.1, duration_s - 0.5, 4 * beat_s):
        _play(audio, bar_s, root_hz / 2 * 2 ** (rng.choice([0, 0, 5, 7]) / 12), 0.5, beat_s)
    fade = min(len(audio), AUDIO_HZ // 5)
    audio[-fade:] *= np.linspace(1, 0, fade)
    return np.rint(0.8 * 32767 * audio / np.abs(audio).max()) / 32768


def _play(audio: np.ndarray, onset_s: float, hz: float, strength: float, decay_s: float) -> None:
    """Add a plucked note: a quick attack, then each harmonic dies away, the high ones first."""
    first = int(onset_s * AUDIO_HZ)
    time = np.arange(min(len(audio) - first, int(6 * decay_s * AUDIO_HZ))) / AUDIO_HZ
    note = sum(
        np.sin(2 * np.pi * harmonic * hz * time) * np.exp(-time * harmonic**0.7 / decay_s) / harmonic**1.3
        for harmonic in range(1, 7)
        if harmonic * hz < 0.45 * AUDIO_HZ
    )
    audio[first : first + len(time)] += strength * np.minimum(time / 0.012, 1) * note


@dataclass(frozen=True)
class Session:
    """The recording of one subject, EOG and belt channels included, and its trials."""

    signal: Signal
    trials: tuple[Trial, ...]


def record(cfg: Music, number: int, loudness: Mapping[str, Signal]) -> Session:
    """Record one subject who hears all pieces, with their own head, order and noise."""
    rng = draws(cfg.seed, _SUBJECT, number)
    trials = schedule(rng, [(name, sound.duration) for name, sound in sorted(loudness.items())])
    n_seconds = int(np.ceil(trials[-1].start + trials[-1].duration + GAP_S[0]))
    time = np.arange(n_seconds * int(cfg.sfreq)) / cfg.sfreq
    cap = head.cap(tuple(PLACES)[: cfg.n_channels])

    brain = answer(rng, trials, loudness, cap, time, cfg.sfreq, cfg.lag_s) * cfg.response_uv
    brain += head.ongoing(rng, rng, cap, time, cfg.sfreq)
    blinks = head.blinks(rng, time, cfg.sfreq)
    reference_uv = 4 * coloured(rng, len(time), cfg.sfreq, exponent=1.0)
    eeg = brain + 350 * np.outer(blinks, head.from_eyes(cap)) + head.muscle(rng, cap, time, cfg.sfreq)
    eeg += reference_uv[:, None]
    eog = 250 * blinks + 8 * coloured(rng, len(time), cfg.sfreq, exponent=1.5)
    breath_hz = rng.uniform(0.2, 0.3)
    belt = 400 * np.sin(2 * np.pi * breath_hz * time + coloured(rng, len(time), cfg.sfreq, exponent=2.0))
    microvolt = np.column_stack([eeg, eog, belt])
    microvolt += head.amplifier(rng, time, cfg.n_channels + 2, cfg.sfreq, cfg.line_hz)
    return Session(Signal((microvolt * 1e-6).astype(np.float32), cfg.sfreq, (*cap.names, "VEOG", "Belt")), trials)


def answer(
    rng: np.random.Generator,
    trials: Sequence[Trial],
    loudness: Mapping[str, Signal],
    cap: Cap,
    time: np.ndarray,
    sfreq: float,
    lag_s: float,
) -> np.ndarray:
    """Return the response of both auditory cortices to the envelope, [time, channel], RMS 1 at the strongest
    channel."""
    stimulus = np.zeros(len(time))
    for trial in trials:
        during = (time >= trial.start) & (time < trial.start + trial.duration)
        stimulus[during] = value_at(loudness[trial.stimulus], time[during] - trial.start)[:, 0]
    # A peak at the lag, then a smaller, slower one of opposite sign, as N1 and P2
    lag = np.arange(0, lag_s + 0.4, 1 / sfreq)
    response = bump(lag - lag_s, 0.03) - 0.5 * bump(lag - lag_s - 0.1, 0.045)
    source = dsp.fftconvolve(stimulus, response)[: len(time)]
    # Heads differ in the places and directions of the two sources, and in the stronger side
    topography = np.zeros(len(cap.names))
    for side in (-1, 1):
        place, direction = rng.normal((side * 0.55, 0.05, 0.1), 0.06), rng.normal((0, 0.35, 0.9), 0.15)
        topography += rng.uniform(0.7, 1.3) * cap.dipole(place, direction)
    return np.outer(source / source.std(), topography / np.abs(topography).max())


def schedule(rng: np.random.Generator, pieces: Sequence[tuple[str, float]]) -> tuple[Trial, ...]:
    """Schedule the pieces (name, seconds) in random order, with silence before each."""
    trials, now = [], 0.0
    for name, duration_s in (pieces[index] for index in rng.permutation(len(pieces))):
        start = round(now + rng.uniform(*GAP_S), 4)  # as precise as in the events file
        trials.append(Trial(start, round(duration_s, 4), name))
        now = start + trials[-1].duration
    return tuple(trials)


def _eeg_file(number: int) -> str:
    """Half of the subjects are in EDF, half in BrainVision."""
    subject, extension = f"sub-{number:02d}", "edf" if number % 2 else "vhdr"
    return f"{subject}/eeg/{subject}_task-music_run-01_eeg.{extension}"


def _write_subject(path: Path, cfg: Music, number: int, loudness: Mapping[str, Signal]) -> None:
    session = record(cfg, number, loudness)
    about = {
        "TaskName": "music",
        "TaskDescription": "Listening to short pieces of music, made up by eegdecode.synth",
        "SamplingFrequency": cfg.sfreq,
        "PowerLineFrequency": cfg.line_hz,
        "EEGReference": "an electrode with noise of its own",
        "SoftwareFilters": "n/a",
        "EEGChannelCount": cfg.n_channels,
        "EOGChannelCount": 1,
        "MiscChannelCount": 1,
        "RecordingDuration": session.signal.duration,
        "RecordingType": "continuous",
    }
    write_recording(path, session.signal, {"VEOG": "VEOG", "Belt": "RESP"}, EVENTS, events(session.trials), about)


EVENTS = ("onset", "duration", "trial_type", "stim_file")


def events(trials: Sequence[Trial]) -> list[tuple[str, str, str, str]]:
    """Return the rows of events.tsv: a rest, then the pieces."""
    rest = ("0.0000", f"{trials[0].start:.4f}", "rest", "n/a")
    return [rest, *((f"{trial.start:.4f}", f"{trial.duration:.4f}", "music", trial.stimulus) for trial in trials)]


def _describe(study: Path, cfg: Music, pieces: Mapping[str, np.ndarray]) -> None:
    subjects = [("participant_id",), *((f"sub-{number:02d}",) for number in range(1, cfg.n_subjects + 1))]
    # By its first name, as the same config must give the same bytes
    settings = f"Study({', '.join(f'{field}={value!r}' for field, value in vars(cfg).items() if field != 'name')})"
    write_description(study, "Made-up music listening", "with a planted answer to the music", settings, subjects)
    write_readme(study, README.format(cfg=cfg))
    write_pieces(study, pieces)


def write_pieces(study: Path, pieces: Mapping[str, np.ndarray]) -> None:
    for name, audio in pieces.items():
        if not stimulus_file(study, name).is_file():
            write_wav(stimulus_file(study, name), audio, AUDIO_HZ)


README = """Made-up EEG of {cfg.n_subjects} subjects who listen to {cfg.n_pieces} pieces of music. Nobody was measured.

Each channel holds an answer of {cfg.response_uv} µV RMS at most to the loudness of the music, {cfg.lag_s} s after it,
below what hides it in real recordings: 1/f activity, alpha, blinks, muscle, drift, mains. The music is in stimuli/.
"""
