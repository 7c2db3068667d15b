"""A made-up music-listening study with a planted answer: real EDF, BrainVision and WAV files in a BIDS tree.

    python -m hpc.launch synthesize configs/demo.yaml

What a channel shows is the sum of what real ones show: the brain's answer to the music (small), other brain activity
with a 1/f spectrum, alpha bursts, blinks, muscle, drift, mains, and noise of the reference that all channels share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import signal as dsp

from eegdecode.data import Study, targets
from eegdecode.data.formats import write_brainvision, write_edf, write_wav
from eegdecode.data.recordings import sidecar, stimulus_file
from eegdecode.signals import Signal, Trial
from hpc.context import Context, Preempted
from hpc.rundir import atomic_write, write_json

AUDIO_HZ = 8000
GAP_S = (1.5, 3.0)  # silence before a piece
ENVELOPE_CUTOFF_HZ = 8.0  # what the brain follows

# Spherical places of the 10-20 system in degrees (inclination from Cz, azimuth), in the order channels are taken
PLACES = {
    "Fp1": (-90, -72), "Fp2": (90, 72), "F3": (-60, -51), "Fz": (45, 90), "F4": (60, 51), "C3": (-45, 0),
    "Cz": (0, 0), "C4": (45, 0), "T7": (-90, 0), "T8": (90, 0), "P3": (-60, 51), "Pz": (45, -90), "P4": (60, -51),
    "F7": (-90, -36), "F8": (90, 36), "Oz": (90, -90), "O1": (-90, 72), "O2": (90, -72), "P7": (-90, 36),
    "P8": (90, -36),
}  # fmt: skip

_PIECE, _SUBJECT = 1, 2  # tell the draws of one seed from each other


def make_study(cfg: Study, ctx: Context) -> dict[str, object]:
    """Write the study into ctx.out, subjects shared out over the ranks. Files that are there already are kept."""
    study = ctx.out
    pieces = {f"piece-{number:02d}.wav": compose(cfg, number) for number in range(1, cfg.n_pieces + 1)}
    if ctx.world.is_first:
        _describe(study, cfg)
        for name, audio in pieces.items():
            if not stimulus_file(study, name).is_file():
                write_wav(stimulus_file(study, name), audio, AUDIO_HZ)
    loudness = {name: targets.envelope(audio, AUDIO_HZ, ENVELOPE_CUTOFF_HZ) for name, audio in pieces.items()}
    mine = ctx.world.share(range(1, cfg.n_subjects + 1))
    for done, number in enumerate(mine):
        ctx.progress("synthesize", done, len(mine))
        if ctx.should_stop():
            raise Preempted
        path = _eeg_file(study, number)
        if not path.is_file():
            _write_subject(path, cfg, record(cfg, number, loudness))
    ctx.progress("synthesize", len(mine), len(mine))
    minutes = cfg.n_subjects * sum(len(audio) for audio in pieces.values()) / AUDIO_HZ / 60
    return {"subjects": cfg.n_subjects, "pieces": cfg.n_pieces, "minutes_of_music_heard": round(minutes, 1)}


def compose(cfg: Study, number: int) -> np.ndarray:
    """A piece of music within ±1: a melody that wanders over a pentatonic scale, above a bass that comes each bar."""
    rng = _rng(cfg, _PIECE, number)
    duration_s, beat_s = rng.uniform(*cfg.piece_s), 60 / rng.uniform(85, 130)
    root_hz = 220 * 2 ** (rng.integers(-3, 4) / 12)
    scale = [12 * octave + step for octave in (0, 1) for step in (0, 2, 4, 7, 9)]
    audio = np.zeros(int(duration_s * AUDIO_HZ))
    onset_s, degree = 0.1, 4
    while onset_s < duration_s - 0.3:
        length_s = beat_s * rng.choice([0.5, 0.5, 0.75, 1.0, 1.5])
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, len(scale) - 1))
        if rng.random() < 0.85:  # else a rest
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
    """What was recorded of one subject, EOG and belt channels included, and what was played."""

    signal: Signal
    types: tuple[str, ...]
    trials: tuple[Trial, ...]


def record(cfg: Study, number: int, loudness: dict[str, Signal]) -> Session:
    """One subject hears all pieces: their head, their order and their noise are their own."""
    rng = _rng(cfg, _SUBJECT, number)
    trials = _schedule(rng, loudness)
    n_seconds = int(np.ceil(trials[-1].start + trials[-1].duration + GAP_S[0]))
    time = np.arange(n_seconds * int(cfg.sfreq)) / cfg.sfreq
    names = tuple(PLACES)[: cfg.n_channels]
    cap = _unit_sphere(names)

    brain = answer(cfg, rng, trials, loudness, cap, time) + _ongoing(cfg, rng, cap, time)
    blinks = _blinks(cfg, rng, time)
    from_eyes = np.exp(-np.linalg.norm(cap - (0, 0.95, -0.3), axis=1) / 0.35)
    reference_uv = 4 * _coloured(rng, len(time), cfg.sfreq, exponent=1.0)
    eeg = brain + 350 * np.outer(blinks, from_eyes) + _muscle(cfg, rng, cap, time) + reference_uv[:, None]
    eog = 250 * blinks + 8 * _coloured(rng, len(time), cfg.sfreq, exponent=1.5)
    breath_hz = rng.uniform(0.2, 0.3)
    belt = 400 * np.sin(2 * np.pi * breath_hz * time + _coloured(rng, len(time), cfg.sfreq, exponent=2.0))
    microvolt = np.column_stack([eeg, eog, belt]) + _amplifier(cfg, rng, time, cfg.n_channels + 2)
    return Session(
        Signal((microvolt * 1e-6).astype(np.float32), cfg.sfreq, (*names, "VEOG", "Belt")),
        ("EEG",) * cfg.n_channels + ("VEOG", "RESP"),
        trials,
    )


def answer(
    cfg: Study,
    rng: np.random.Generator,
    trials: Sequence[Trial],
    loudness: dict[str, Signal],
    cap: np.ndarray,
    time: np.ndarray,
) -> np.ndarray:
    """What auditory cortex of both sides adds, [time, channel] in µV: the envelope through a response to sound."""
    heard = np.zeros(len(time))
    for trial in trials:
        during = (time >= trial.start) & (time < trial.start + trial.duration)
        heard[during] = targets.value_at(loudness[trial.stimulus], time[during] - trial.start)[:, 0]
    # A peak at the lag, then a smaller, slower one the other way round, as N1 and P2
    lag = np.arange(0, cfg.lag_s + 0.4, 1 / cfg.sfreq)
    response = _bump(lag - cfg.lag_s, 0.03) - 0.5 * _bump(lag - cfg.lag_s - 0.1, 0.045)
    source = dsp.fftconvolve(heard, response)[: len(time)]
    # Each head differs in where the two sources lie and point, and in which side is the stronger
    topography = np.zeros(len(cap))
    for side in (-1, 1):
        place, direction = rng.normal((side * 0.55, 0.05, 0.1), 0.06), rng.normal((0, 0.35, 0.9), 0.15)
        topography += rng.uniform(0.7, 1.3) * _dipole(cap, place, direction)
    return cfg.response_uv * np.outer(source / source.std(), topography / np.abs(topography).max())


def _bump(lag: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((lag / width) ** 2) / 2)


def _ongoing(cfg: Study, rng: np.random.Generator, cap: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Brain activity that has nothing to do with the music: many 1/f sources, and alpha bursts from the back."""
    places = rng.normal(size=(40, 3))
    places *= rng.uniform(0.3, 0.8, (40, 1)) / np.linalg.norm(places, axis=1, keepdims=True)
    mixing = np.stack([_dipole(cap, place, rng.normal(size=3)) for place in places])
    sources = np.stack([_coloured(rng, len(time), cfg.sfreq, exponent=1.0) for _ in places])
    background = sources.T @ mixing
    alpha = _coloured(rng, len(time), cfg.sfreq, exponent=0.0, band_hz=(9, 11.5))
    waxing = np.maximum(_coloured(rng, len(time), cfg.sfreq, exponent=0.0, band_hz=(0.05, 0.4)), 0) ** 1.5
    back = _dipole(cap, np.array([0, -0.6, 0.1]), np.array([0, -0.9, 0.4]))
    return 8 * background / background.std() + 8 * np.outer(alpha * waxing, back / np.abs(back).max())


def _blinks(cfg: Study, rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """About 15 a minute, 0.3 s each, of height 1."""
    onsets = rng.uniform(0, time[-1], rng.poisson(time[-1] / 4))
    single = dsp.windows.hann(int(0.3 * cfg.sfreq))
    train = np.zeros(len(time))
    np.add.at(train, (onsets * cfg.sfreq).astype(int), rng.uniform(0.6, 1.2, len(onsets)))
    return dsp.fftconvolve(train, single)[: len(time)]


def _muscle(cfg: Study, rng: np.random.Generator, cap: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Now and then the jaw is clenched: a second of noise above 20 Hz, over one temple."""
    bursts = np.zeros((len(time), len(cap)))
    for onset in rng.uniform(0, time[-1] - 1.5, rng.poisson(time[-1] / 12)):
        n = int(rng.uniform(0.3, 1.5) * cfg.sfreq)
        noise = _coloured(rng, n, cfg.sfreq, exponent=0.0, band_hz=(20, 0.45 * cfg.sfreq)) * dsp.windows.hann(n)
        near = np.exp(-np.linalg.norm(cap - (rng.choice([-1, 1]), 0.1, -0.1), axis=1) / 0.4)
        bursts[int(onset * cfg.sfreq) :][:n] += rng.uniform(15, 45) * np.outer(noise, near)
    return bursts


def _amplifier(cfg: Study, rng: np.random.Generator, time: np.ndarray, n_channels: int) -> np.ndarray:
    """What comes from electrodes and cables: drift, mains with a harmonic, white noise."""
    noise = rng.normal(0, 0.5, (len(time), n_channels))
    for channel in noise.T:
        channel += 25 * _coloured(rng, len(time), cfg.sfreq, exponent=3.0, band_hz=(0.0, 0.2))
    for hz, height_uv in ((cfg.line_hz, 6.0), (2 * cfg.line_hz, 1.5)):
        if hz < cfg.sfreq / 2:  # what lies above, the amplifier's own filter takes out
            phase = 2 * np.pi * (hz * time + rng.random())
            noise += height_uv * np.outer(np.sin(phase), rng.uniform(0.2, 1, n_channels))
    return noise


def _coloured(
    rng: np.random.Generator, n: int, sfreq: float, exponent: float, band_hz: tuple[float, float] = (0.3, np.inf)
) -> np.ndarray:
    """Noise of RMS 1 whose power falls as 1 / f^exponent within a band."""
    size = 1 << (n - 1).bit_length()  # a power of two, then cut: fast, and the ends do not meet
    hz = np.fft.rfftfreq(size, 1 / sfreq)
    inside = (hz > 0) & (hz >= band_hz[0]) & (hz <= band_hz[1])
    spectrum = np.zeros(len(hz), complex)
    random = rng.normal(size=(2, inside.sum()))
    spectrum[inside] = (random[0] + 1j * random[1]) * hz[inside] ** (-exponent / 2)
    noise: np.ndarray = np.fft.irfft(spectrum, size)[:n]
    return noise / noise.std()


def _dipole(cap: np.ndarray, place: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The potential of a current dipole at the electrodes, in an endless conductor: all we need of a head here."""
    away = cap - place
    return away @ direction / np.linalg.norm(away, axis=1) ** 3


def _unit_sphere(names: Sequence[str]) -> np.ndarray:
    """[channel, xyz]: x to the right, y to the front, z up."""
    down, around = np.radians([PLACES[name] for name in names]).T
    return np.stack([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)], axis=1)


def _schedule(rng: np.random.Generator, loudness: dict[str, Signal]) -> tuple[Trial, ...]:
    trials, now = [], 0.0
    for name in rng.permutation(sorted(loudness)):
        start = round(now + rng.uniform(*GAP_S), 4)  # as precise as the events file has it
        trials.append(Trial(start, round(loudness[name].duration, 4), str(name)))
        now = start + trials[-1].duration
    return tuple(trials)


def _rng(cfg: Study, what: int, index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([cfg.seed, what, index]))


def _eeg_file(study: Path, number: int) -> Path:
    """Half of the subjects come from a lab that exports EDF, half from one with BrainVision."""
    subject, extension = f"sub-{number:02d}", "edf" if number % 2 else "vhdr"
    return study / subject / "eeg" / f"{subject}_task-music_run-01_eeg.{extension}"


def _write_subject(path: Path, cfg: Study, session: Session) -> None:
    """The recording itself comes last: where it stands, all of the subject does."""
    signal = session.signal
    about = {
        "TaskName": "music",
        "TaskDescription": "Listening to short pieces of music, made up by eegdecode.data.synth",
        "SamplingFrequency": cfg.sfreq,
        "PowerLineFrequency": cfg.line_hz,
        "EEGReference": "an electrode with noise of its own",
        "SoftwareFilters": "n/a",
        "EEGChannelCount": cfg.n_channels,
        "EOGChannelCount": 1,
        "MiscChannelCount": 1,
        "RecordingDuration": signal.duration,
        "RecordingType": "continuous",
    }
    write_json(sidecar(path, "eeg.json"), about)
    _write_tsv(
        sidecar(path, "channels.tsv"),
        ("name", "type", "units", "sampling_frequency"),
        [(name, kind, "µV", f"{cfg.sfreq:g}") for name, kind in zip(signal.channels, session.types, strict=True)],
    )
    first = session.trials[0].start
    _write_tsv(
        sidecar(path, "events.tsv"),
        ("onset", "duration", "trial_type", "stim_file"),
        [("0.0000", f"{first:.4f}", "rest", "n/a")]
        + [(f"{trial.start:.4f}", f"{trial.duration:.4f}", "music", trial.stimulus) for trial in session.trials],
    )
    (write_edf if path.suffix == ".edf" else write_brainvision)(path, signal)


def _describe(study: Path, cfg: Study) -> None:
    made = {"Name": "eegdecode.data.synth", "Description": f"Made up, with a planted answer to the music: {cfg}"}
    write_json(
        study / "dataset_description.json",
        {
            "Name": "Made-up music listening",
            "BIDSVersion": "1.9.0",
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [made],
        },
    )
    subjects = [(f"sub-{number:02d}",) for number in range(1, cfg.n_subjects + 1)]
    _write_tsv(study / "participants.tsv", ("participant_id",), subjects)
    write_json(study / "participants.json", {"participant_id": {"Description": "a subject that never was"}})
    _write(study / "README", README.format(cfg=cfg))


def _write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    _write(path, "".join("\t".join(row) + "\n" for row in [columns, *rows]))


def _write(path: Path, text: str) -> None:
    atomic_write(path, lambda file: file.write(text.encode()))


README = """Made-up EEG of {cfg.n_subjects} subjects who listen to {cfg.n_pieces} pieces of music. Nobody was measured.

Each channel holds an answer of {cfg.response_uv} µV RMS at most to the loudness of the music, {cfg.lag_s} s after it,
below what hides it in real recordings: 1/f activity, alpha, blinks, muscle, drift, mains. The music is in stimuli/.
"""
