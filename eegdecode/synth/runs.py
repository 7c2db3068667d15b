"""A synthetic study of music in runs, laid out as OpenNeuro's ds002722, ds002724 and ds002725.

The planted effect, a response to the loudness, is that of music.py.

python -m hpc.launch synthesize configs/synthesize/music-runs.yaml
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from eegdecode.data.targets.envelope import envelope
from eegdecode.signals import Signal, Trial
from eegdecode.synth import head, music
from eegdecode.synth.config import MusicRuns
from eegdecode.synth.formats import write_hollow_edf
from eegdecode.synth.head import coloured, draws
from eegdecode.synth.tree import StudyPlan, write_description, write_readme, write_recording, write_sidecars, write_tsv
from hpc.runs.rundir import write_json

EFFECT_UV, LAG_S = 2.0, 0.15
BOLD_PERCENT, BOLD_S = 2.0, 2.0  # of signal change while music plays; the time from one volume to the next
CODE_UV = 10.0  # the step of the channel `music` from one piece number to the next

_CAP = (
    "Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8", "P7", "P8",
    "Fz", "Cz", "Pz", "Oz", "FC1", "FC2", "CP1", "CP2", "FC5", "FC6", "CP5", "CP6", "FT9", "FT10", "TP9", "TP10",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    electrodes: tuple[str, ...]
    others: dict[str, str]  # channels that are not EEG, and their type in channels.tsv
    tasks: tuple[str, ...]
    trial_s: float
    first_subject: int = 1
    sessions: bool = False
    scanner: bool = False  # fMRI at the same time


_FELT = {"GSR": "GSR", "ECG": "ECG", "VA1": "MISC", "VA2": "MISC", "VAtarg": "MISC"}
LAYOUTS = {
    "ds002722": Layout(_CAP, _FELT, tuple(f"run{run}" for run in range(1, 6)), 20.0),
    # The same people with the same numbers; those after the seventh continued
    "ds002724": Layout(_CAP, _FELT, tuple(f"run{run}" for run in range(1, 5)), 40.0, 8, sessions=True),
    "ds002725": Layout(
        (*(name for name in _CAP if name not in ("FT9", "FT10")), "POz"),
        {"ECG": "ECG", "music": "MISC"},
        ("genMusic01", "genMusic02", "genMusic03", "classicalMusic", "washout"),
        40.0,
        scanner=True,
    ),
}

_PIECE, _HEAD, _RUN, _REGIONS = 11, 12, 13, 14


@dataclass(frozen=True)
class Run:
    """One recording: its subject, and its index within the subject, from 0."""

    subject: int
    index: int
    path: str
    task: str


def plan(cfg: MusicRuns) -> StudyPlan:
    layout = LAYOUTS[cfg.layout]
    runs = list_runs(cfg)
    trial_s = cfg.trial_s or layout.trial_s
    with_music = [run for run in runs if run.task != "washout"]
    n_trials = cfg.n_trials * len(with_music)

    @cache
    def piece(name: str) -> np.ndarray:
        number = _number(name)
        return music.compose(draws(cfg.seed, _PIECE, number), (trial_s, trial_s))

    def describe(study: Path) -> None:
        pieces = sorted({name for run in with_music for name in _pieces(cfg, run)})
        subjects = [(f"sub-{number:02d}",) for number in sorted({run.subject for run in runs})]
        planted = f"{cfg.effect * EFFECT_UV:g} µV RMS of answer to the loudness of music, {LAG_S} s after it"
        write_description(study, f"Made-up {cfg.layout}", planted, cfg, [("participant_id",), *subjects])
        write_readme(study, f"Made up by eegdecode.synth: nobody was measured. Planted: {planted}.\n")
        silence = np.zeros(music.AUDIO_HZ)
        music.write_pieces(study, {name: piece(name) if cfg.samples else silence for name in pieces})

    def write(path: Path, run: Run) -> None:
        rng = draws(cfg.seed, _RUN, run.subject, run.index)
        names = _pieces(cfg, run)
        trials = music.schedule(rng, [(name, trial_s) for name in names])
        n_seconds = int(np.ceil(trials[-1].start + trials[-1].duration + music.GAP_S[0])) if trials else 10
        channels = (*layout.electrodes[: -1 if cfg.sound else None], *(["Sound"] if cfg.sound else []), *layout.others)
        types = {name: layout.others.get(name, "EEG") for name in channels}
        about = {
            "TaskName": run.task,
            "SamplingFrequency": cfg.sfreq,
            "PowerLineFrequency": 50,
            "EEGReference": "FCz",
            "SoftwareFilters": "n/a",
            "RecordingDuration": n_seconds,
        }
        events = music.events(trials) if trials else [("0.0000", f"{n_seconds:.4f}", "rest", "n/a")]
        if layout.scanner:
            _write_regions(path, cfg, run, trials, n_seconds)
        if not cfg.samples:
            nothing = Signal(np.zeros((0, len(channels)), np.float32), cfg.sfreq, channels)
            write_sidecars(path, nothing, types, music.EVENTS, events, about)
            write_hollow_edf(path, channels, cfg.sfreq, n_seconds)
            return
        loudness = {name: envelope(piece(name), music.AUDIO_HZ, music.ENVELOPE_CUTOFF_HZ) for name in names}
        data = _record(cfg, run, rng, trials, loudness, n_seconds)
        if cfg.sound:
            data[:, len(layout.electrodes) - 1] = _sound(trials, piece, data.shape[0], cfg.sfreq)
        signal = Signal((data * 1e-6).astype(np.float32), cfg.sfreq, channels)
        write_recording(path, signal, types, music.EVENTS, events, about)

    return StudyPlan(
        describe,
        {run.path: partial(write, run=run) for run in runs},
        {
            "subjects": cfg.n_subjects,
            "runs": len(runs),
            "trials": n_trials,
            "hours": round(n_trials * trial_s / 3600, 3),
        },
    )


def list_runs(cfg: MusicRuns) -> list[Run]:
    """List all recordings; subjects have equally many, or one less."""
    layout = LAYOUTS[cfg.layout]
    runs = []
    for place in range(cfg.n_subjects):
        subject = layout.first_subject + place
        name = f"sub-{subject:02d}"
        for index in range(len(range(place, cfg.n_runs, cfg.n_subjects))):
            session, task = divmod(index, len(layout.tasks))
            # More runs than tasks make another session
            folder = f"{name}/ses-{session + 1}" if layout.sessions or session else name
            stem = f"{folder.replace('/', '_')}_task-{layout.tasks[task]}"
            runs.append(Run(subject, index, f"{folder}/eeg/{stem}_eeg.edf", layout.tasks[task]))
    return runs


def _pieces(cfg: MusicRuns, run: Run) -> list[str]:
    """Return the pieces of a run, the same for all subjects."""
    if run.task == "washout":
        return []
    first = run.index * cfg.n_trials
    return [f"piece-{number:03d}.wav" for number in range(first + 1, first + cfg.n_trials + 1)]


def _number(piece: str) -> int:
    return int(piece.removeprefix("piece-").removesuffix(".wav"))


def _record(
    cfg: MusicRuns,
    run: Run,
    rng: np.random.Generator,
    trials: Sequence[Trial],
    loudness: dict[str, Signal],
    n_seconds: int,
) -> np.ndarray:
    """Return [time, channel] in µV."""
    layout = LAYOUTS[cfg.layout]
    cap = head.cap(layout.electrodes)
    n_times = n_seconds * int(cfg.sfreq)
    time = np.arange(n_times) / cfg.sfreq
    eeg = head.background(cap, draws(cfg.seed, _HEAD, run.subject), rng, n_times, cfg.sfreq)
    others = np.stack([_other(name, rng, time, cfg.sfreq, trials) for name in layout.others], axis=1)
    if trials:
        subject = draws(cfg.seed, _HEAD, run.subject, 1)
        eeg += cfg.effect * EFFECT_UV * music.answer(subject, trials, loudness, cap, time, cfg.sfreq, LAG_S)
    return np.hstack([eeg, others])


def _other(name: str, rng: np.random.Generator, time: np.ndarray, sfreq: float, trials: Sequence[Trial]) -> np.ndarray:
    if name == "ECG":
        beats = np.cumsum(rng.normal(0.85, 0.05, int(time[-1] / 0.5) + 2))
        return 900 * np.exp(-(((time - beats[np.searchsorted(beats, time - 0.3)]) / 0.012) ** 2) / 2)
    if name == "music":
        level = rng.normal(0, 0.1 * CODE_UV, len(time))
        for trial in trials:
            level[(time >= trial.start) & (time < trial.start + trial.duration)] += CODE_UV * _number(trial.stimulus)
        return level
    return 300 * coloured(rng, len(time), sfreq, exponent=2.0, band_hz=(0.0, 1.0))  # skin conductance and ratings


def _sound(trials: Sequence[Trial], piece: Callable[[str], np.ndarray], n_times: int, sfreq: float) -> np.ndarray:
    """Return the sound at the rate of the EEG, with a plausible amplitude for an electrode."""
    sound = np.zeros(n_times)
    for trial in trials:
        first = round(trial.start * sfreq)
        times = np.arange(int(trial.duration * sfreq)) / sfreq
        audio = piece(trial.stimulus)
        sound[first : first + len(times)] = 50 * np.interp(times, np.arange(len(audio)) / music.AUDIO_HZ, audio)
    return sound


def _write_regions(path: Path, cfg: MusicRuns, run: Run, trials: Sequence[Trial], n_seconds: int) -> None:
    """Write regions of a simultaneous fMRI, a value every 2 s: auditory cortex follows the music, V1 does not."""
    rng = draws(cfg.seed, _REGIONS, run.subject, run.index)
    time = np.arange(0, n_seconds, 0.1)
    playing = np.any([(time >= trial.start) & (time < trial.start + trial.duration) for trial in trials], axis=0)
    lag = np.arange(0, 25, 0.1)
    blood = np.convolve(playing * np.ones(len(time)), 0.1 * lag**5 * np.exp(-lag) / 120)[: len(time)]
    volumes = (np.arange(0, n_seconds, BOLD_S) * 10).astype(int)
    regions = 100 + rng.normal(0, 0.5, (len(volumes), 2))
    regions[:, 0] += cfg.effect * BOLD_PERCENT * blood[volumes]
    stem = path.parents[1] / "func" / f"{path.stem.removesuffix('_eeg')}_desc-mean_timeseries"
    rows = [(f"{auditory:.4f}", f"{visual:.4f}") for auditory, visual in regions]
    write_tsv(stem.with_suffix(".tsv"), ("auditory", "V1"), rows)
    write_json(stem.with_suffix(".json"), {"SamplingFrequency": 1 / BOLD_S, "StartTime": 0.0})
