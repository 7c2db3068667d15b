"""A synthetic study of images in rapid succession, as in THINGS: responses are a linear function of the embedding.

    python -m hpc.launch synthesize configs/synthesize/images.yaml

A subject has two recordings: one with the training images, and one with the test images, which are repeated often.
"""

from functools import partial
from pathlib import Path

import numpy as np
from scipy import signal as dsp

from eegdecode.data.io.recordings import stimulus_file
from eegdecode.signals import Signal
from eegdecode.synth import head
from eegdecode.synth.config import Images
from eegdecode.synth.formats import write_npy, write_png
from eegdecode.synth.head import ALL_PLACES, UNIT_T, bump, draws
from eegdecode.synth.tree import StudyPlan, write_description, write_readme, write_recording, write_tsv

EFFECT = 2.0  # µV or units of 25 fT, at the peak of the strongest channel
TRAIN_REPEATS = 2
PIXELS = 12  # rows and columns of an image
LEAD_S = 1.0  # seconds before the first image, and after the last
COLUMNS = ("onset", "duration", "trial_type", "stim_file", "image", "embedding_row")

_EMBEDDING, _PICTURE, _HEAD, _RUN = 41, 42, 43, 44


def plan(cfg: Images) -> StudyPlan:
    size = f"{cfg.effect * EFFECT:g} µV" if cfg.modality == "eeg" else f"{cfg.effect * EFFECT * UNIT_T * 1e15:g} fT"
    planted = f"{size} at the peak of what a picture evokes, a linear function of its embedding"
    subjects = [f"sub-{number:02d}" for number in range(1, cfg.n_subjects + 1)]

    def describe(study: Path) -> None:
        people = [("participant_id",), *((name,) for name in subjects)]
        write_description(study, "Made-up pictures", planted, cfg, people)
        write_readme(study, f"Made up by eegdecode.synth: nobody was measured. Planted: {planted}.\n")
        vectors = embeddings(cfg)
        write_npy(study / "stimuli" / "images.npy", vectors)
        rows = [(str(row), picture_name(cfg, row), _part(cfg, row)) for row in range(len(vectors))]
        write_tsv(study / "stimuli" / "images.tsv", ("row", "stimulus", "part"), rows)
        paint = draws(cfg.seed, _PICTURE).normal(size=(cfg.n_features, PIXELS, PIXELS, 3))
        for row, vector in enumerate(vectors):
            colours = 128 + 100 * np.tanh(np.tensordot(vector, paint, axes=1))
            write_png(stimulus_file(study, picture_name(cfg, row)), colours)

    recordings = {}
    extension = "vhdr" if cfg.modality == "eeg" else "fif"
    for number, name in enumerate(subjects, 1):
        for run, part in enumerate(("train", "test"), 1):
            path = f"{name}/{cfg.modality}/{name}_task-{part}_run-{run:02d}_{cfg.modality}.{extension}"
            recordings[path] = partial(_write, cfg=cfg, number=number, part=part)
    n_trials = cfg.n_subjects * (cfg.n_train * TRAIN_REPEATS + cfg.n_test * cfg.n_repeats)
    return StudyPlan(describe, recordings, {"subjects": cfg.n_subjects, "pictures_shown": n_trials})


def embeddings(cfg: Images) -> np.ndarray:
    """Return [image, feature], of length about 1: the training images, then the test images."""
    size = (cfg.n_train + cfg.n_test, cfg.n_features)
    return (draws(cfg.seed, _EMBEDDING).normal(size=size) / np.sqrt(cfg.n_features)).astype(np.float32)


def picture_name(cfg: Images, row: int) -> str:
    return f"{_part(cfg, row)}_{row:05d}.png"


def _part(cfg: Images, row: int) -> str:
    return "train" if row < cfg.n_train else "test"


def _write(path: Path, cfg: Images, number: int, part: str) -> None:
    rng = draws(cfg.seed, _RUN, number, part == "test")
    rows = np.arange(cfg.n_train) if part == "train" else cfg.n_train + np.arange(cfg.n_test)
    repeats = TRAIN_REPEATS if part == "train" else cfg.n_repeats
    order = np.concatenate([rng.permutation(rows) for _ in range(repeats)])
    sensors = head.cap(list(ALL_PLACES)[: cfg.n_channels]) if cfg.modality == "eeg" else head.helmet(cfg.n_channels)
    step = round(cfg.soa_s * cfg.sfreq)  # a screen shows whole frames; here a frame is a sample
    onsets = round(LEAD_S * cfg.sfreq) + step * np.arange(len(order))
    n_times = int(onsets[-1]) + step + round(LEAD_S * cfg.sfreq)
    data = head.background(sensors, draws(cfg.seed, _HEAD, number), rng, n_times, cfg.sfreq)

    shown = np.zeros((n_times, cfg.n_features))
    shown[onsets] = embeddings(cfg)[order]
    # Each feature has its own place and latency, from early to late along the ventral stream
    lag = np.arange(0, 0.5, 1 / cfg.sfreq)
    peaks_s = np.linspace(0.1, 0.25, cfg.n_features)
    courses = np.stack([bump(lag - peak_s, 0.03) for peak_s in peaks_s], axis=1)
    own = draws(cfg.seed, _HEAD, number, 1)
    evoked = dsp.fftconvolve(shown, courses, axes=0)[:n_times] @ sensors.patterns(own, cfg.n_features, (0, -0.6, 0.2))
    data += cfg.effect * EFFECT * np.sqrt(cfg.n_features) * evoked

    signal = Signal((data * sensors.unit).astype(np.float32), cfg.sfreq, sensors.names, sensors.sensors())
    events = [
        (f"{onset / cfg.sfreq:.4f}", f"{step / cfg.sfreq:.4f}", part, name, name.removesuffix(".png"), str(row))
        for onset, row in zip(onsets, order)
        for name in [picture_name(cfg, row)]
    ]
    about = {"TaskName": part, "SamplingFrequency": cfg.sfreq, "PowerLineFrequency": 50, "SoftwareFilters": "n/a"}
    more = {"EEGReference": "Fz"} if cfg.modality == "eeg" else {"DewarPosition": "upright"}
    write_recording(path, signal, {}, COLUMNS, events, about | more)
