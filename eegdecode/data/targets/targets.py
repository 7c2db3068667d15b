"""What is decoded: streams of the stimulus on the clock of the recording, and values of each trial.

    made = make(Envelope(), trials, study, duration_s)      a Stream, read a stretch at a time; or [trial, feature]
    lookup(made, times_s)                                   its values at any times

Sample k of a stream is at k / sfreq of the recording; outside of the trials it is 0.
"""

import functools
import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from eegdecode.data.config import Audio, Embedding, Envelope, Extra, Frame, Image, Label, Mel, Target
from eegdecode.data.events import stimuli
from eegdecode.data.events.events import FPS, SPEED
from eegdecode.data.targets import audio, sound, tables
from eegdecode.data.targets.lookup import inside, lookup
from eegdecode.data.targets.sound import envelope, mel, value_at
from eegdecode.signals import Sensor, Stream, Trial

__all__ = ["classes", "envelope", "files", "lookup", "make", "mel", "read_audio", "stored_name", "value_at"]

OPEN_STIMULI = 4  # stimuli whose streams stay open, as trials of one stimulus are near each other
"""Each keeps the blocks that it computed last, see `sound`."""


def stored_name(cfg: Target) -> str:
    """The name under which a target is stored, and selected in training."""
    match cfg:
        case Label():
            return cfg.column
        case Extra() | Embedding():
            return cfg.title or Path(cfg.file).stem.replace("{stimulus}", "").replace("{stem}", "") or cfg.name
        case _:
            return cfg.name


def make(
    cfg: Target,
    trials: Sequence[Trial],
    study: Path,
    duration_s: float,
    known: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> Stream | np.ndarray:
    """Compute a target of a recording: a Stream on its clock, or [trial, feature], float32.

    Parameters
    ----------
    known
        For a label or an image: the names of its classes in the whole study, by `classes`.
    names
        The values of `{subject}`, `{run}` and the like in paths.
    """
    if not _is_ours(cfg):
        module = importlib.import_module(type(cfg).__module__)
        computed: Stream | np.ndarray = module.make(cfg, trials, study, duration_s)
        return computed
    match cfg:
        case Label():
            return _labels(cfg.column, trials, known)
        case Image():
            for trial in trials:
                image_file(cfg, trial.stimulus, study)
            return _labels("stimulus", trials, known)
        case Embedding():
            return _embeddings(cfg, trials, study)
        case Extra() if not _is_of_stimulus(cfg.file):
            return _of_recording(cfg, study / stimuli.fill(cfg.file, names or {}), duration_s)
        case Frame():
            return _frames(cfg, trials, duration_s)
        case _:
            return _of_stimuli(cfg, trials, study, duration_s)


def files(cfg: Target, trials: Sequence[Trial], study: Path, names: Mapping[str, str]) -> set[Path]:
    """The files that a target is computed from; whether they exist is checked by `make`."""
    if not _is_ours(cfg):
        own = getattr(importlib.import_module(type(cfg).__module__), "files", None)
        return set(own(cfg, trials, study)) if own else set()
    shown = {stimuli.whole(trial.stimulus)[0] for trial in trials}
    match cfg:
        case Audio() | Envelope() | Mel():
            return {audio.file_of(study, stimulus) for stimulus in shown}
        case Image() | Extra() | Embedding() if _is_of_stimulus(cfg.file):
            return {stimuli.file_of(cfg.file, stimulus, study) for stimulus in shown}
        case Embedding():
            return {study / cfg.file, study / cfg.index}
        case Extra():
            return {study / stimuli.fill(cfg.file, names)}
        case _:
            return set()


def _is_ours(cfg: Target) -> bool:
    """Else it is of another package: the module that declares its config has the functions `make` and `files`."""
    return type(cfg).__module__.startswith("eegdecode.")


def read_audio(path: Path) -> tuple[np.ndarray, float]:
    """Read a sound file as (samples within ±1, Hz); several channels are averaged."""
    opened = audio.open_sound(path)
    return opened.read(0, opened.n_times)[:, 0], opened.sfreq


# ---- Values of trials


def classes(labels: Iterable[str | float]) -> tuple[str, ...]:
    """The names of classes, sorted, so that a name has one number in all recordings; empty if all are numbers."""
    all_labels = list(labels)
    if not any(isinstance(label, str) for label in all_labels):
        return ()
    return tuple(sorted({_name(label) for label in all_labels}))


def values(column: str, trials: Sequence[Trial]) -> list[str | float]:
    """The value of each trial in a column of the events; for the column `stimulus`, its stimulus."""
    lacking = [trial for trial in trials if column != "stimulus" and column not in trial.labels]
    if lacking:
        columns = ", ".join(sorted({name for trial in trials for name in trial.labels})) or "none"
        raise ValueError(
            f"{len(lacking)} of {len(trials)} trials, the first at {lacking[0].start:.2f} s, have no value in column "
            f"{column!r} of the events (there are: {columns}): leave these trials out, or take another column"
        )
    return [stimuli.whole(trial.stimulus)[0] if column == "stimulus" else trial.labels[column] for trial in trials]


def _labels(column: str, trials: Sequence[Trial], known: Sequence[str]) -> np.ndarray:
    trial_labels = values(column, trials)
    if not known and not classes(trial_labels):
        return np.array(trial_labels, np.float32).reshape(-1, 1)
    number = {name: index for index, name in enumerate(known)}
    unknown = sorted({_name(label) for label in trial_labels} - number.keys())
    if unknown:
        raise ValueError(
            f"{column} has {', '.join(unknown[:3])}, which is not one of the {len(known)} classes of the study: "
            "give the classes of all recordings (targets.classes)"
        )
    return np.array([[number[_name(label)]] for label in trial_labels], np.float32).reshape(-1, 1)


def _name(label: str | float) -> str:
    return label if isinstance(label, str) else f"{label:g}"


def image_file(cfg: Image, stimulus: str, study: Path) -> Path:
    """The file of an image that was shown."""
    path = stimuli.file_of(cfg.file, stimulus, study)
    if not path.is_file():
        raise ValueError(f"there is no image {path} for the stimulus {stimulus!r}: add it, or correct file")
    return path


def _is_of_stimulus(file: str) -> bool:
    return "{stimulus}" in file or "{stem}" in file


def _embeddings(cfg: Embedding, trials: Sequence[Trial], study: Path) -> np.ndarray:
    if not trials:
        return np.empty((0, 0), np.float32)
    shown = [stimuli.whole(trial.stimulus)[0] for trial in trials]
    if _is_of_stimulus(cfg.file):
        vectors = {name: _vector(stimuli.file_of(cfg.file, name, study), name) for name in sorted(set(shown))}
        lengths = sorted({len(vector) for vector in vectors.values()})
        if len(lengths) > 1:
            raise ValueError(f"{cfg.file} has {lengths[0]} to {lengths[-1]} features: compute all with one model")
        return np.stack([vectors[name] for name in shown])
    rows, place = tables.table(study / cfg.file), _index(study / cfg.index)
    if rows.ndim != 2 or len(rows) != len(place):
        raise ValueError(f"{cfg.file} is {rows.shape}, but {cfg.index} names {len(place)} stimuli: give each one row")
    missing = sorted(set(shown) - place.keys())
    if missing:
        raise ValueError(
            f"{cfg.index} has no embedding of {', '.join(missing[:3])} ({len(missing)} of {len(set(shown))} stimuli): "
            "compute them, or correct its column stimulus"
        )
    for name in sorted(set(shown)):
        tables.numbers(rows[place[name]][None], study / cfg.file, place[name])
    return np.asarray(rows[[place[name] for name in shown]], dtype=np.float32)


def _vector(path: Path, stimulus: str) -> np.ndarray:
    if not path.is_file():
        raise ValueError(f"there is no embedding {path} for the stimulus {stimulus!r}: compute it, or correct file")
    return np.asarray(tables.numbers(tables.table(path), path), dtype=np.float32).ravel()


@functools.lru_cache(maxsize=4)
def _index(path: Path) -> dict[str, int]:
    from eegdecode.data.io.recordings import read_tsv

    rows = read_tsv(path)
    if not rows or "stimulus" not in rows[0]:
        raise ValueError(f"{path} needs a column stimulus, which names the stimulus of each row")
    place = {row["stimulus"]: number for number, row in enumerate(rows)}
    if len(place) < len(rows):
        raise ValueError(
            f"{path} names {len(rows)} stimuli, but only {len(place)} different ones: keep one row of each"
        )
    return place


# ---- Streams

Sounding = Audio | Envelope | Mel


def _of_recording(cfg: Extra, path: Path, duration_s: float) -> Stream:
    rows = _rows(cfg, path)
    if cfg.start_s >= duration_s or cfg.start_s + rows.duration <= 0:
        raise ValueError(
            f"{path} lasts from {cfg.start_s:g} s to {cfg.start_s + rows.duration:g} s, none of it within the "
            f"recording ({duration_s:.2f} s): correct start_s or file_sfreq"
        )

    def read(first: int, stop: int) -> np.ndarray:
        return inside(rows, np.arange(first, stop) / cfg.sfreq - cfg.start_s)

    return Stream(rows.channels, cfg.sfreq, round(duration_s * cfg.sfreq), read, rows.sensors)


def _rows(cfg: Extra, path: Path) -> Stream:
    table = tables.table(path)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not len(table):
        raise ValueError(f"{path} has the shape {table.shape}, but a stream is [time, feature]")
    channels = tuple(f"{stored_name(cfg)}{index}" for index in range(table.shape[1]))
    sensors = dict.fromkeys(channels, Sensor("stim" if cfg.hold else "misc"))
    rate = cfg.file_sfreq or cfg.sfreq
    return Stream(
        channels, rate, len(table), lambda first, stop: tables.numbers(table[first:stop], path, first), sensors
    )


def _of_stimuli(cfg: Sounding | Extra, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    @functools.lru_cache(maxsize=OPEN_STIMULI)
    def opened(name: str) -> Stream:
        if isinstance(cfg, Extra):
            return _rows(cfg, stimuli.file_of(cfg.file, name, study))
        return sound.stream(cfg, audio.open_sound(audio.file_of(study, name)))

    n_features = cfg.n_mels if isinstance(cfg, Mel) else 1
    sensors: Mapping[str, Sensor] = {f"{cfg.name}{index}": Sensor("misc") for index in range(n_features)}
    if isinstance(cfg, Extra):
        if not trials:
            raise ValueError(f"{cfg.file} has one file a stimulus, but the recording has no trial")
        sensors = opened(stimuli.whole(trials[0].stimulus)[0]).sensors
    start_s = cfg.start_s if isinstance(cfg, Extra) else 0.0
    # The nearest sample is at most half a sample off (31 µs at 16 kHz); interpolating would lose high frequencies
    nearest = True if isinstance(cfg, Audio) else None

    def values_at(trial: Trial, times_s: np.ndarray) -> np.ndarray:
        name, _ = stimuli.whole(trial.stimulus)
        rows = opened(name)
        if rows.n_channels != len(sensors):
            raise ValueError(
                f"{cfg.name} has {len(sensors)} features for the first stimulus, but {rows.n_channels} for {name}: "
                "compute all with one model"
            )
        return inside(rows, times_s - start_s, nearest)

    return _on_clock(trials, duration_s, cfg.sfreq, sensors, values_at)


def overlong_trials(cfg: Target, trials: Sequence[Trial], study: Path) -> list[str]:
    """Notes on trials that last longer than their stimulus's file. Refused where most of a trial is missing."""
    if not isinstance(cfg, Audio | Envelope | Mel | Extra) or (
        isinstance(cfg, Extra) and not _is_of_stimulus(cfg.file)
    ):
        return []
    ends: dict[str, tuple[Path, float]] = {}
    over: list[tuple[float, str]] = []
    for trial in trials:
        name, piece_s = stimuli.whole(trial.stimulus)
        if name not in ends and isinstance(cfg, Extra):
            path = stimuli.file_of(cfg.file, name, study)
            ends[name] = path, cfg.start_s + _rows(cfg, path).duration
        elif name not in ends:
            path = audio.file_of(study, name)
            ends[name] = path, audio.header(path).duration_s
        path, end_s = ends[name]
        lasts_s = trial.duration * _speed(trial)
        lacking_s = min(piece_s + lasts_s - end_s, lasts_s)
        if lacking_s > MOST_SILENT * lasts_s:
            raise ValueError(
                f"{path} ends after {end_s:.2f} s, but the trial at {trial.start:.2f} s presents {trial.stimulus!r} "
                f"for {lasts_s:.2f} s: fetch all of it, or correct the events"
            )
        if lacking_s > max(1 / cfg.sfreq, 0.1):
            over.append((lacking_s, trial.stimulus))
    if not over:
        return []
    longest_s, which = max(over)
    return [f"{len(over)} trials outlast their {cfg.name}, by up to {longest_s:.2f} s ({which}): filled with 0"]


MOST_SILENT = 0.5  # fraction of a trial; with more of it missing, the file is the wrong one


def _frames(cfg: Frame, trials: Sequence[Trial], duration_s: float) -> Stream:
    def number(trial: Trial, times_s: np.ndarray) -> np.ndarray:
        labelled = trial.labels.get(FPS)
        given = float(labelled) if cfg.fps is None and labelled is not None else cfg.fps
        return np.floor(times_s * stimuli.fps(trial.stimulus, given) + 1e-6)[:, None]

    return _on_clock(trials, duration_s, cfg.sfreq, {"frame0": Sensor("stim")}, number, outside=-1.0)


def _on_clock(
    trials: Sequence[Trial],
    duration_s: float,
    sfreq: float,
    sensors: Mapping[str, Sensor],
    values_at: Callable[[Trial, np.ndarray], np.ndarray],
    outside: float = 0.0,
) -> Stream:
    """`values_at(trial, seconds of its stimulus)` on the recording's clock, within trials only."""
    in_order = sorted(trials, key=lambda trial: trial.start)
    for trial, following in pairwise(in_order):
        if trial.start + trial.duration > following.start + 0.5 / sfreq:
            raise ValueError(
                f"trials at {trial.start:.2f} s and {following.start:.2f} s overlap, but a stream has one stimulus "
                "at a time: take a target with one value a trial, or trials that do not overlap"
            )
    spans = [_span(trial, sfreq) for trial in in_order]

    def read(first: int, stop: int) -> np.ndarray:
        data = np.full((stop - first, len(sensors)), outside, np.float32)
        for trial, (begin, end) in zip(in_order, spans, strict=True):
            begin, end = max(begin, first), min(end, stop)
            if begin < end:
                _, piece_s = stimuli.whole(trial.stimulus)
                since_s = np.arange(begin, end) / sfreq - trial.start
                data[begin - first : end - first] = values_at(trial, piece_s + since_s * _speed(trial))
        return data

    return Stream(tuple(sensors), sfreq, round(duration_s * sfreq), read, sensors)


def _span(trial: Trial, sfreq: float) -> tuple[int, int]:
    """The samples within a trial, its end excluded: no sample is in two trials."""
    begin, end = (math.ceil(time_s * sfreq - 1e-6) for time_s in (trial.start, trial.start + trial.duration))
    return begin, end


def _speed(trial: Trial) -> float:
    return float(trial.labels.get(SPEED, 1.0))
