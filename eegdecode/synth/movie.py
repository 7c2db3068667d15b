"""A synthetic KIT MEG study of movies, as FIF; the planted response follows the luminance of the frames.

    python -m hpc.launch synthesize configs/synthesize/meg-movie.yaml

Instead of each movie there is a table of its frames, with their times and luminance.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import signal as dsp

from eegdecode.data.io.recordings import stimulus_file
from eegdecode.signals import Sensor, Signal
from eegdecode.synth import head
from eegdecode.synth.config import MegMovie
from eegdecode.synth.head import UNIT_T, bump, coloured, draws
from eegdecode.synth.tree import StudyPlan, write_description, write_readme, write_recording, write_tsv

EFFECT = 2.0  # in units of 25 fT, RMS at the strongest sensor
LAG_S = 0.1
LEAD_S = 2.0  # seconds before the first frame, and after the last
PULSE_S = 0.01
DIGITAL, OPTICAL = "STI 014", "MISC 001"
TITLES = (
    "Harbour", "Orchard", "Lantern", "Meadow", "Railway",
    "Glacier", "Library", "Canyon", "Market", "Theatre",
)  # fmt: skip

_FRAMES, _HEAD, _SESSION = 21, 22, 23


@dataclass(frozen=True)
class Part:
    """A part of a movie, watched in one session. `title` and `part` count from 1."""

    title: int
    part: int
    n_parts: int
    fps: float

    @property
    def mp4(self) -> str:
        name = TITLES[(self.title - 1) % len(TITLES)]
        return f"ID{self.title:02d}_{name}Vol1-{self.n_parts}_id{self.title}_MEG_DATAPixx_part{self.part}.mp4"

    @property
    def table(self) -> str:
        return self.mp4.replace(".mp4", ".tsv")


def plan(cfg: MegMovie) -> StudyPlan:
    parts = list_parts(cfg)
    subjects = range(1, cfg.n_subjects + 1)
    planted = (
        f"{cfg.effect * EFFECT * UNIT_T * 1e15:g} fT RMS of answer to the luminance of the frames, {LAG_S} s after it; "
        f"the projector's clock is {cfg.drift_ppm:g} ppm slow"
    )

    def describe(study: Path) -> None:
        people = [("participant_id",), *((f"sub-{number:02d}",) for number in subjects)]
        write_description(study, "Made-up MEG of movies", planted, cfg, people)
        write_readme(study, f"Made up by eegdecode.synth: nobody was measured. Planted: {planted}.\n")
        rows = [(part.mp4, f"{part.fps:g}", str(n_frames(cfg, part)), part.table) for part in parts]
        write_tsv(study / "stimuli" / "movies.tsv", ("movie", "fps", "n_frames", "frames"), rows)
        for part in parts:
            bright = luminance(cfg, part)
            frames = [(str(k), f"{k / part.fps:.6f}", f"{value:.4f}") for k, value in enumerate(bright)]
            write_tsv(stimulus_file(study, part.table), ("frame", "time_s", "luminance"), frames)

    recordings = {}
    for number in subjects:
        for session, part in enumerate(parts, 1):
            stem = f"sub-{number:02d}_ses-{session:02d}_task-movie"
            path = f"sub-{number:02d}/ses-{session:02d}/meg/{stem}_meg.fif"
            recordings[path] = partial(_write, cfg=cfg, number=number, part=part)
    minutes = cfg.n_subjects * len(parts) * cfg.part_s / 60
    return StudyPlan(
        describe, recordings, {"subjects": cfg.n_subjects, "sessions": len(recordings), "minutes": round(minutes, 2)}
    )


def list_parts(cfg: MegMovie) -> list[Part]:
    """List every part of every title; the last title has 25 fps, as on television."""
    return [
        Part(title, part, cfg.n_parts, 25.0 if title == cfg.n_titles > 1 else 29.97)
        for title in range(1, cfg.n_titles + 1)
        for part in range(1, cfg.n_parts + 1)
    ]


def n_frames(cfg: MegMovie, part: Part) -> int:
    return int(cfg.part_s * part.fps)


def pulse_times_s(cfg: MegMovie, part: Part) -> np.ndarray:
    """Return the times of every second frame on the recorder's clock; the projector's clock is slower by its drift."""
    shown = 2 * np.arange(n_frames(cfg, part) // 2) / part.fps
    return LEAD_S + shown * (1 + cfg.drift_ppm * 1e-6)


def luminance(cfg: MegMovie, part: Part) -> np.ndarray:
    """Return the luminance of each frame, in 0–1: it drifts, and jumps at cuts."""
    rng = draws(cfg.seed, _FRAMES, part.title, part.part)
    n = n_frames(cfg, part)
    cuts = np.cumsum(rng.random(n) < 1 / (2.5 * part.fps))
    scenes = rng.uniform(-1, 1, cuts[-1] + 1)[cuts]
    wander = coloured(rng, n, part.fps, exponent=1.0, band_hz=(0.2, 6))
    return np.round(1 / (1 + np.exp(-scenes - wander)), 4)


def _write(path: Path, cfg: MegMovie, number: int, part: Part) -> None:
    rng = draws(cfg.seed, _SESSION, number, part.title, part.part)
    pulses = pulse_times_s(cfg, part)
    n_times = int(np.ceil((2 * LEAD_S + cfg.part_s * (1 + cfg.drift_ppm * 1e-6)) * cfg.sfreq))
    time = np.arange(n_times) / cfg.sfreq
    helmet = head.helmet(cfg.n_channels)
    meg = head.background(helmet, draws(cfg.seed, _HEAD, number), rng, n_times, cfg.sfreq, line_hz=60.0)
    meg += cfg.effect * EFFECT * _answer(cfg, number, part, time, helmet)

    lit = np.zeros(n_times)
    first = np.ceil(pulses * cfg.sfreq - 1e-9).astype(int)
    for shift in range(max(1, round(PULSE_S * cfg.sfreq))):
        lit[first + shift] = 1
    flat = number == 1 and part.fps == 25.0
    digital = 0 * lit if flat else lit
    # A photodiode responds within a millisecond or two, on top of the room light
    glow = dsp.lfilter([0.8], [1, -0.2], lit)
    optical = 0.02 + 0.1 * glow + 0.002 * rng.normal(size=n_times)
    signal = Signal(
        np.column_stack([meg * UNIT_T, digital, optical]).astype(np.float32),
        cfg.sfreq,
        (*helmet.names, DIGITAL, OPTICAL),
        helmet.sensors() | {DIGITAL: Sensor("stim"), OPTICAL: Sensor("misc")},
    )
    about = {
        "TaskName": "movie",
        "SamplingFrequency": cfg.sfreq,
        "PowerLineFrequency": 60,
        "DewarPosition": "supine",
        "SoftwareFilters": "n/a",
        "DigitizedLandmarks": False,
        "DigitizedHeadPoints": False,
    }
    shown_s = n_frames(cfg, part) / part.fps * (1 + cfg.drift_ppm * 1e-6)
    event = (f"{LEAD_S:.4f}", f"{shown_s:.4f}", "movie", part.table, f"{part.fps:g}")
    write_recording(path, signal, {}, ("onset", "duration", "trial_type", "stim_file", "fps"), [event], about)


def _answer(cfg: MegMovie, number: int, part: Part, time: np.ndarray, helmet: head.Cap) -> np.ndarray:
    """Return the response of both visual cortices to the luminance, [time, channel], RMS 1 while the movie runs."""
    bright = luminance(cfg, part)
    frame = ((time - LEAD_S) / (1 + cfg.drift_ppm * 1e-6) * part.fps + 1e-9).astype(int)
    running = (time >= LEAD_S) & (frame < len(bright))
    stimulus = np.where(running, bright[np.clip(frame, 0, len(bright) - 1)] - bright.mean(), 0)
    lag = np.arange(0, 0.4, 1 / cfg.sfreq)
    response = bump(lag - LAG_S, 0.02) - 0.6 * bump(lag - LAG_S - 0.06, 0.03)
    source = dsp.fftconvolve(stimulus, response)[: len(time)]
    own = draws(cfg.seed, _HEAD, number, 1)
    topography = sum(
        helmet.dipole(own.normal((side * 0.25, -0.6, 0.15), 0.05), own.normal((1, 0, 0.5), 0.15)) for side in (-1, 1)
    )
    return np.outer(source / source[running].std(), topography / np.abs(topography).max())
