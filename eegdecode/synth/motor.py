"""A synthetic study of motor imagery in two sessions: 22 EEG and 3 EOG channels, as in BCI Competition IV 2a.

    python -m hpc.launch synthesize configs/synthesize/motor.yaml

The class shows as desynchronised mu and beta, or (`rhythms`) as one of two rhythms. Two kinds of leak can be planted
instead, which splits must refuse.
"""

from functools import partial
from pathlib import Path

import numpy as np

from eegdecode.signals import Sensor, Signal
from eegdecode.synth import head
from eegdecode.synth.config import Motor
from eegdecode.synth.head import Cap, coloured, draws
from eegdecode.synth.tree import StudyPlan, write_description, write_readme, write_recording

ELECTRODES = (
    "Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2",
    "C4", "C6", "CP3", "CP1", "CPz", "CP2", "CP4", "P1", "Pz", "P2", "POz",
)  # fmt: skip
SESSIONS = ("train", "test")
CLASSES = ("left_hand", "right_hand", "feet", "tongue")
RHYTHMS_HZ = {"rhythm_10hz": 10.0, "rhythm_20hz": 20.0}
RHYTHM_UV = 8.0  # RMS over all electrodes, as strong as the other brain activity
MU_UV, BETA_UV, WANE = 6.0, 3.0, 0.6
GAP_S = (1.5, 2.5)

# The area of each class: hands are contralateral, feet lie between them, the tongue is low on both sides
AREAS = {
    "left_hand": [(0.5, 0.0, 0.6)],
    "right_hand": [(-0.5, 0.0, 0.6)],
    "feet": [(0.0, 0.0, 0.75)],
    "tongue": [(0.65, 0.1, 0.3), (-0.65, 0.1, 0.3)],
}

_HEAD, _SESSION = 51, 52


def plan(cfg: Motor) -> StudyPlan:
    if cfg.leak == "parity":
        planted = "nothing in the signal; the class is that of the subject's number, odd or even"
    elif cfg.classes == "rhythms":
        size = f"{cfg.effect * RHYTHM_UV:g} µV RMS over the electrodes"
        planted = f"{size} of 10 or 20 Hz, mixed in another way in each subject"
    else:
        planted = f"mu and beta {100 * cfg.effect * WANE:g} % weaker over the area of what is imagined"
    if cfg.leak == "copy":
        planted += "; the last subject is the first under another name"
    subjects = [f"sub-{number:02d}" for number in range(1, cfg.n_subjects + 1)]

    def describe(study: Path) -> None:
        people = [("participant_id",), *((name,) for name in subjects)]
        write_description(study, "Made-up imagined movements", planted, cfg, people)
        write_readme(study, f"Made up by eegdecode.synth: nobody was measured. Planted: {planted}.\n")

    recordings = {}
    for number, name in enumerate(subjects, 1):
        subject = 1 if cfg.leak == "copy" and number == cfg.n_subjects else number
        for session in SESSIONS:
            path = f"{name}/ses-{session}/eeg/{name}_ses-{session}_task-imagery_eeg.edf"
            recordings[path] = partial(_write, cfg=cfg, subject=subject, session=session)
    counts = {"subjects": cfg.n_subjects, "trials": len(recordings) * cfg.n_trials, "classes": cfg.n_classes}
    return StudyPlan(describe, recordings, counts)


def class_names(cfg: Motor) -> tuple[str, ...]:
    return tuple(RHYTHMS_HZ) if cfg.classes == "rhythms" else CLASSES[: cfg.n_classes]


def _write(path: Path, cfg: Motor, subject: int, session: str) -> None:
    rng = draws(cfg.seed, _SESSION, subject, SESSIONS.index(session))
    names = class_names(cfg)
    if cfg.leak == "parity":
        labels = np.full(cfg.n_trials, subject % 2)
    else:
        labels = rng.permutation(np.arange(cfg.n_trials) % len(names))  # each class equally often
    starts = np.round(np.cumsum(rng.uniform(*GAP_S, cfg.n_trials)) + cfg.trial_s * np.arange(cfg.n_trials), 4)
    n_seconds = int(np.ceil(starts[-1] + cfg.trial_s + GAP_S[0]))
    n_times = n_seconds * int(cfg.sfreq)
    time = np.arange(n_times) / cfg.sfreq
    cap = head.cap(ELECTRODES)

    microvolt = head.background(cap, draws(cfg.seed, _HEAD, subject), rng, n_times, cfg.sfreq)
    effect = 0.0 if cfg.leak == "parity" else cfg.effect
    own = draws(cfg.seed, _HEAD, subject, 1)
    during = {
        name: np.any([(time >= start) & (time < start + cfg.trial_s) for start in starts[labels == index]], axis=0)
        if (labels == index).any()
        else np.zeros(n_times, bool)
        for index, name in enumerate(names)
    }
    microvolt += (_rhythms if cfg.classes == "rhythms" else _waning)(effect, own, rng, cap, cfg.sfreq, during)
    eyes = 8 * np.stack([coloured(rng, n_times, cfg.sfreq, exponent=1.5) for _ in range(3)], axis=1)
    channels = (*ELECTRODES, "EOG-left", "EOG-central", "EOG-right")
    sensors = cap.sensors() | {name: Sensor("eog") for name in channels[-3:]}
    signal = Signal((np.hstack([microvolt, eyes]) * 1e-6).astype(np.float32), cfg.sfreq, channels, sensors)
    events = [(f"{start:.4f}", f"{cfg.trial_s:.4f}", names[label]) for start, label in zip(starts, labels)]
    about = {
        "TaskName": "imagery",
        "SamplingFrequency": cfg.sfreq,
        "PowerLineFrequency": 50,
        "EEGReference": "left mastoid",
        "SoftwareFilters": "n/a",
    }
    write_recording(path, signal, {}, ("onset", "duration", "trial_type"), events, about)


def _waning(
    effect: float,
    own: np.random.Generator,
    rng: np.random.Generator,
    cap: Cap,
    sfreq: float,
    during: dict[str, np.ndarray],
) -> np.ndarray:
    """Mu and beta of every area at all times, weaker while the area is active."""
    n_times = len(next(iter(during.values())))
    mu_hz = own.uniform(9.5, 12)
    added = np.zeros((n_times, len(cap.names)))
    for name, areas in AREAS.items():
        busy = during.get(name, np.zeros(n_times, bool))
        for area in areas:
            place = own.normal(area, 0.04)
            pattern = cap.pattern(place, place)  # points outward
            for height_uv, centre_hz in ((MU_UV, mu_hz), (BETA_UV, 2 * mu_hz)):
                rhythm = coloured(rng, n_times, sfreq, exponent=0.0, band_hz=(centre_hz - 1.5, centre_hz + 1.5))
                added += height_uv * np.outer(rhythm * (1 - WANE * effect * busy), pattern)
    return added


def _rhythms(
    effect: float,
    own: np.random.Generator,
    rng: np.random.Generator,
    cap: Cap,
    sfreq: float,
    during: dict[str, np.ndarray],
) -> np.ndarray:
    """10 Hz during the first class, 20 Hz during the second, both with the same topography."""
    pattern = own.normal(size=len(cap.names))
    pattern /= np.sqrt(np.mean(pattern**2))
    rhythm = np.zeros(len(next(iter(during.values()))))
    for name, busy in during.items():
        hz = RHYTHMS_HZ[name]
        rhythm += busy * coloured(rng, len(rhythm), sfreq, exponent=0.0, band_hz=(hz - 0.25, hz + 0.25))
    return effect * RHYTHM_UV * np.outer(rhythm, pattern)
