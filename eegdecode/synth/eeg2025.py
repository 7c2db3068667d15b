"""A synthetic study for the EEG challenge of 2025: 129 channels as in the Healthy Brain Network, as BDF.

    python -m hpc.launch synthesize configs/synthesize/eeg2025.yaml

Two effects are planted: a potential that peaks at the button press, and alpha that grows with a subject's score.
"""

from functools import partial
from pathlib import Path

import numpy as np

from eegdecode.signals import Signal
from eegdecode.synth import head
from eegdecode.synth.config import Eeg2025
from eegdecode.synth.head import bump, coloured, draws
from eegdecode.synth.tree import StudyPlan, write_description, write_readme, write_recording

N_CHANNELS = 129
PRESS_UV, ALPHA_UV, ALPHA_PER_SD = 15.0, 6.0, 1.5
TRIAL_S = 5.0  # from one start to the next
CHANGE_S = (1.4, 2.0)  # seconds from the start of a trial to the change of contrast
REACTION_S = (0.7, 2.3)
TASK = "contrastChangeDetection"
COLUMNS = ("onset", "duration", "value", "rt_from_stimulus", "feedback")
SCORES = ("p_factor", "attention", "internalizing", "externalizing")

_PERSON, _HEAD, _RUN = 61, 62, 63


def plan(cfg: Eeg2025) -> StudyPlan:
    planted = (
        f"{cfg.effect * PRESS_UV:g} µV at the press of the button, and alpha "
        f"{1 + cfg.effect * (ALPHA_PER_SD - 1):g} times as strong for each SD of externalizing"
    )
    subjects = {number: f"sub-NDAR{number:04d}" for number in range(1, cfg.n_subjects + 1)}

    def describe(study: Path) -> None:
        rows: list[tuple[str, ...]] = [("participant_id", "release_number", "sex", "age", *SCORES)]
        for number, name in subjects.items():
            rng = draws(cfg.seed, _PERSON, number)
            others = [f"{rng.normal():.3f}" for _ in SCORES[:-1]]
            rows.append(
                (name, "R0", "MF"[rng.integers(2)], f"{rng.uniform(5, 21):.2f}", *others, f"{score(cfg, number):.3f}")
            )
        write_description(study, "Made-up contrast change detection", planted, cfg, rows)
        write_readme(study, f"Made up by eegdecode.synth: nobody was measured. Planted: {planted}.\n")

    return StudyPlan(
        describe,
        {
            f"{name}/eeg/{name}_task-{TASK}_run-1_eeg.bdf": partial(_write, cfg=cfg, number=number)
            for number, name in subjects.items()
        },
        {"subjects": cfg.n_subjects, "trials": cfg.n_subjects * cfg.n_trials},
    )


def score(cfg: Eeg2025, number: int) -> float:
    """Return the externalizing score, with an SD of 1."""
    return round(float(draws(cfg.seed, _PERSON, number, 1).normal()), 3)


def _write(path: Path, cfg: Eeg2025, number: int) -> None:
    rng = draws(cfg.seed, _RUN, number)
    starts = 1 + TRIAL_S * np.arange(cfg.n_trials)
    changes = np.round(starts + rng.uniform(*CHANGE_S, cfg.n_trials), 4)
    reactions = np.round(rng.uniform(*REACTION_S, cfg.n_trials), 4)
    left, right_answer = rng.random(cfg.n_trials) < 0.5, rng.random(cfg.n_trials) < 0.85
    n_seconds = int(np.ceil(starts[-1] + TRIAL_S))
    n_times = n_seconds * int(cfg.sfreq)
    time = np.arange(n_times) / cfg.sfreq
    net = head.net(N_CHANNELS)
    own = draws(cfg.seed, _HEAD, number, 1)

    microvolt = head.background(net, draws(cfg.seed, _HEAD, number), rng, n_times, cfg.sfreq, line_hz=60.0)
    parietal = net.pattern(own.normal((0, -0.25, 0.6), 0.05), own.normal((0, -0.2, 1), 0.1))
    pressed = np.sum([bump(time - press, 0.12) for press in changes + reactions], axis=0)
    microvolt += cfg.effect * PRESS_UV * np.outer(pressed, parietal)
    alpha = coloured(rng, n_times, cfg.sfreq, exponent=0.0, band_hz=(8.5, 11.5))
    strength = (1 + cfg.effect * (ALPHA_PER_SD - 1)) ** score(cfg, number)
    microvolt += ALPHA_UV * strength * np.outer(alpha, net.pattern((0, -0.65, 0.1), (0, -1, 0.2)))

    events = []
    for start, change, reaction, is_left, is_right in zip(starts, changes, reactions, left, right_answer):
        target, other = ("left", "right") if is_left else ("right", "left")
        feedback = "smiley_face" if is_right else "sad_face"
        events += [
            (f"{start:.4f}", "0.0000", "contrastTrial_start", "n/a", "n/a"),
            (f"{change:.4f}", "2.0000", f"{target}_target", f"{reaction:.4f}", feedback),
            (f"{change + reaction:.4f}", "0.0000", f"{target if is_right else other}_buttonPress", "n/a", feedback),
        ]
    signal = Signal((microvolt * 1e-6).astype(np.float32), cfg.sfreq, net.names, net.sensors())
    about = {
        "TaskName": TASK,
        "SamplingFrequency": cfg.sfreq,
        "PowerLineFrequency": 60,
        "EEGReference": "Cz",
        "SoftwareFilters": "n/a",
        "RecordingDuration": n_seconds,
    }
    write_recording(path, signal, {}, COLUMNS, events, about)
