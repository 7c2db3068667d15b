"""Trials from events.tsv, annotations, triggers, levels or pulses, and fixed-length pieces of them.

    trials(cfg, rows, stream, annotations, study).trials       cfg: one of eegdecode.data.config.Events

A film that ran on its own clock has the labels `fps` and `stimulus_speed`, seconds of film a second of the recording.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from eegdecode.data.config import (
    AnnotationEvents,
    BidsEvents,
    CodeEvents,
    Events,
    FilmEvents,
    FixedLengthEvents,
    TriggerEvents,
)
from eegdecode.data.events import stimuli, triggers
from eegdecode.data.events.stimuli import SPEED as SPEED
from eegdecode.data.io import bids
from eegdecode.data.io.recordings import stimulus_file
from eegdecode.signals import Stream, Trial

FPS = "fps"
PAUSE_S = 2.0  # between two films; within one, pulses come several times a second
FEWEST_PULSES = 10  # in a film; fewer are markers of something else


class AnnotationLike(Protocol):
    """The attributes of a recording's own annotations; seconds from its first sample."""

    @property
    def onset_s(self) -> float: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def text(self) -> str: ...


class Trials(NamedTuple):
    """Trials in order of their start, and notes for the reader on how they were derived."""

    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()


def trials(
    cfg: Events,
    rows: Sequence[Mapping[str, str]] | None,
    stream: Stream,
    annotations: Sequence[AnnotationLike],
    study: Path,
    names: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Trials:
    """Return the trials of a recording.

    Parameters
    ----------
    rows
        The rows of its events.tsv; None where there is none.
    names
        The values of `{run}` and the like in names of stimuli.
    units
        The units of the channels in the file; the stream is in volt.
    """
    names, units = names or {}, units or {}
    match cfg:
        case BidsEvents():
            unordered = _from_rows(cfg, rows, study)
        case AnnotationEvents():
            unordered = _from_annotations(cfg, annotations, names)
        case TriggerEvents():
            unordered = _from_triggers(cfg, stream, names)
        case CodeEvents():
            unordered = _from_levels(cfg, stream, names, units.get(cfg.channel, ""))
        case FilmEvents():
            unordered = _from_pulses(cfg, stream, _films(cfg, rows, names))
        case FixedLengthEvents():
            if cfg.of is None:
                inner = Trials((Trial(0.0, stream.duration, names.get("name", "recording")),))
            else:
                inner = trials(cfg.of, rows, stream, annotations, study, names, units)
            cut = _cut(cfg, inner.trials)
            return Trials(cut.trials, inner.notes + cut.notes)
    overlap = isinstance(cfg, BidsEvents | AnnotationEvents | TriggerEvents) and cfg.overlap
    in_order = tuple(sorted(unordered.trials, key=lambda trial: (trial.start, trial.stimulus)))
    check(in_order, stream, overlap)
    return Trials(in_order, unordered.notes if in_order else (*unordered.notes, "there is no trial in this recording"))


def default_events(rows: Sequence[Mapping[str, str]] | None) -> BidsEvents:
    """Return the default events: the stimulus is in stim_file, or else in trial_type."""
    columns = rows[0] if rows else ()
    return BidsEvents(stimulus=next((c for c in ("stim_file", "trial_type", "value") if c in columns), "stim_file"))


def check(trials: Sequence[Trial], stream: Stream, overlap: bool = False) -> None:
    """Refuse trials, in order, that leave the recording or, without `overlap`, reach into the next."""
    tolerance_s = 0.5 / stream.sfreq
    for trial in trials:
        if trial.start + trial.duration > stream.duration + tolerance_s:
            raise ValueError(
                f"trial {_say(trial)} leaves the recording, which ends at {stream.duration:.2f} s: correct it, "
                "or leave it out of the events"
            )
    for trial, following in pairwise(trials):
        if not overlap and trial.start + trial.duration > following.start + tolerance_s:
            raise ValueError(
                f"trials {_say(trial)} and {_say(following)} overlap: correct them, shorten duration_s, "
                "or set overlap if it is intended"
            )


def _say(trial: Trial) -> str:
    return f"{trial.stimulus!r} ({trial.start:.2f}–{trial.start + trial.duration:.2f} s)"


def _from_rows(cfg: BidsEvents, rows: Sequence[Mapping[str, str]] | None, study: Path) -> Trials:
    if rows is None:
        raise ValueError("there is no events.tsv for this recording: add it, or take trials from elsewhere (events)")
    lacking = {"onset", "duration", cfg.stimulus} - set(rows[0]) if rows else set()
    if lacking:
        raise ValueError(
            f"events.tsv has no column {', '.join(sorted(lacking))}, but trials need onset, duration and "
            f"{cfg.stimulus}; there are {', '.join(rows[0])}"
        )
    trials = []
    for line, row in enumerate(rows, 2):
        stimulus = _value(row, cfg.stimulus)
        if stimulus is None or (cfg.only and not any(fnmatchcase(stimulus, pattern) for pattern in cfg.only)):
            continue
        if cfg.stimulus == "stim_file" and not (file := stimulus_file(study, stimuli.whole(stimulus)[0])).is_file():
            raise ValueError(f"line {line} of events.tsv names {stimulus}, but {file} is missing: put it there")
        onset_s, duration_s = _number(row["onset"]), _number(row["duration"]) or cfg.duration_s
        if onset_s is None or onset_s < 0 or duration_s is None or duration_s < 0:
            raise ValueError(
                f"line {line} of events.tsv ({stimulus}) has onset {row['onset']!r} and duration {row['duration']!r}, "
                "which is no part of the recording: correct it, or set duration_s for events that mark a moment"
            )
        trials.append(Trial(onset_s, duration_s, stimulus, labels(row, cfg.stimulus)))
    return Trials(tuple(trials))


def labels(row: Mapping[str, str], stimulus: str = "") -> dict[str, str | float]:
    """Return the values of the other columns of a row, numbers as numbers."""
    return {
        column: value if (number := _number(value)) is None else number
        for column in row
        if column not in ("onset", "duration", stimulus) and (value := _value(row, column)) is not None
    }


def _value(row: Mapping[str, str], column: str) -> str | None:
    """Return the value of a row in a column; None for `n/a` and other words for a missing value."""
    value = (row[column] or "").strip()
    return None if value.lower() in ("", "n/a", "nan") else value


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _from_annotations(cfg: AnnotationEvents, annotations: Sequence[AnnotationLike], names: Mapping[str, str]) -> Trials:
    trials, unused = [], Counter[str]()
    begun: tuple[float, str] | None = None
    for mark in sorted(annotations, key=lambda mark: mark.onset_s):
        pattern = next((pattern for pattern in cfg.stimuli if fnmatchcase(mark.text, pattern)), None)
        if cfg.end and fnmatchcase(mark.text, cfg.end):
            if begun is None:
                raise ValueError(
                    f"annotation {mark.text!r} at {mark.onset_s:.2f} s ends a trial that has not begun: correct it"
                )
            trials.append(Trial(begun[0], float(mark.onset_s) - begun[0], begun[1]))
            begun = None
        elif pattern is None:
            unused[mark.text] += 1
        elif begun is not None:
            raise ValueError(
                f"annotation {mark.text!r} at {mark.onset_s:.2f} s begins a trial, but the one that began at "
                f"{begun[0]:.2f} s has not ended with {cfg.end!r}: correct it"
            )
        else:
            stimulus = stimuli.fill(cfg.stimuli[pattern], {**names, "text": mark.text})
            duration_s = mark.duration_s or cfg.duration_s
            if cfg.end:
                begun = (float(mark.onset_s), stimulus)
            elif duration_s is None:
                raise ValueError(
                    f"annotation {mark.text!r} at {mark.onset_s:.2f} s marks a moment: set duration_s, or set end to "
                    "the annotation that marks the end"
                )
            else:
                trials.append(Trial(float(mark.onset_s), float(duration_s), stimulus))
    if begun is not None:
        raise ValueError(f"the trial that began at {begun[0]:.2f} s has no annotation {cfg.end!r} after it: add it")
    return Trials(tuple(trials), _left_out("annotations", unused))


def _left_out(what: str, unused: Mapping[str, int]) -> tuple[str, ...]:
    if not unused:
        return ()
    counted = ", ".join(f"{count} × {text}" for text, count in sorted(unused.items()))
    return (f"{what} that are not trials were left out: {counted}",)


def _from_triggers(cfg: TriggerEvents, stream: Stream, names: Mapping[str, str]) -> Trials:
    pulses = triggers.pulses(stream, cfg.channel, cfg.fallback, cfg.bits, cfg.threshold, cfg.gap_s)
    trials, unused = [], Counter[str]()
    for start_s, lasts_s, value in zip(*(array.tolist() for array in pulses[1:4]), strict=True):
        if cfg.codes and str(value) not in cfg.codes:
            unused[str(value)] += 1
            continue
        stimulus = stimuli.fill(cfg.codes[str(value)], names) if cfg.codes else str(value)
        trials.append(Trial(max(0.0, start_s), cfg.duration_s or lasts_s, stimulus))
    return Trials(tuple(trials), (*pulses.notes, *_left_out("triggers", unused)))


def _from_levels(cfg: CodeEvents, stream: Stream, names: Mapping[str, str], unit: str) -> Trials:
    volts = bids.volts(unit) or 1.0
    in_file_unit = replace(stream, read=lambda first, stop: stream.read(first, stop) / np.float32(volts))
    levels = triggers.levels(in_file_unit, cfg.channel, (cfg.rest, *cfg.codes), cfg.shortest_s)
    trials = [
        Trial(level.start_s, level.stop_s - level.start_s, stimuli.fill(cfg.codes[level.level], names))
        for level in levels
        if level.level != cfg.rest
    ]
    if not trials:
        stands = ", ".join(f"{level:.3g}" for level in triggers.standing(in_file_unit, cfg.channel, cfg.shortest_s))
        raise ValueError(
            f"none of the levels in codes ({', '.join(f'{code:g}' for code in cfg.codes)}) occurs in {cfg.channel}, "
            f"which stands at {stands}{f' {unit}' if unit else ''}: correct codes, or leave the recording out"
        )
    return Trials(tuple(trials))


def _films(
    cfg: FilmEvents, rows: Sequence[Mapping[str, str]] | None, names: Mapping[str, str]
) -> list[tuple[str, Mapping[str, str | float]]]:
    """Return the films in their order, with their labels from events.tsv; when they began, the pulses say more
    exactly."""
    if cfg.films:
        return [(stimuli.fill(template, names), {}) for template in cfg.films]
    if not rows or not {"onset", cfg.column} <= set(rows[0]):
        columns = ", ".join(rows[0]) if rows else "none"
        raise ValueError(
            f"films are read from the columns onset and {cfg.column} of events.tsv, but there are {columns}: write "
            "them there, or name them in films"
        )
    shown = [(_number(row["onset"]), film, row) for row in rows if (film := _value(row, cfg.column)) is not None]
    if unplaced := [film for onset_s, film, _ in shown if onset_s is None]:
        raise ValueError(f"events.tsv has no onset of {unplaced[0]}: write it there, the films' order follows it")
    return [(film, labels(row, cfg.column)) for _, film, row in sorted(shown, key=lambda each: each[0] or 0.0)]


def _from_pulses(cfg: FilmEvents, stream: Stream, films: Sequence[tuple[str, Mapping[str, str | float]]]) -> Trials:
    pulses = triggers.pulses(stream, cfg.channel, cfg.fallback, cfg.bits, cfg.threshold, cfg.gap_s)
    runs = triggers.runs(pulses.times_s, PAUSE_S)
    shown = [run for run in runs if len(run) >= FEWEST_PULSES]
    notes = list(pulses.notes)
    if len(shown) < len(runs):
        notes.append(f"{len(runs) - len(shown)} groups of fewer than {FEWEST_PULSES} pulses are not a film: left out")
    if len(shown) != len(films):
        lengths = ", ".join(f"{run[-1] - run[0]:.1f} s" for run in shown) or "none"
        raise ValueError(
            f"{cfg.column or 'films'} names {len(films)}, but {pulses.channel} has {len(shown)} trains of pulses "
            f"({lengths}) with more than {PAUSE_S:g} s between: name each film that was shown"
        )
    trials = []
    for run, (stimulus, labels) in zip(shown, films, strict=True):
        labelled_fps = labels.get(FPS)
        fps = stimuli.fps(stimulus, labelled_fps if cfg.fps is None and isinstance(labelled_fps, float) else cfg.fps)
        expected_hz = fps / cfg.frames_per_pulse
        clock = triggers.clock(run, expected_hz)
        start_s = max(0.0, clock.start_s)
        lasts_s = min(clock.n_periods * clock.period_s, stream.duration - start_s)
        trials.append(
            Trial(start_s, lasts_s, stimulus, {**labels, FPS: fps, SPEED: 1 / (clock.period_s * expected_hz)})
        )
        notes.append(clock.say(pulses.channel, stream.sfreq))
    return Trials(tuple(trials), tuple(notes))


def _cut(cfg: FixedLengthEvents, whole: Sequence[Trial]) -> Trials:
    pieces = tuple(piece for trial in whole for piece in _pieces(trial, cfg.length_s))
    rest_s = sum(trial.duration for trial in whole) - sum(piece.duration for piece in pieces)
    if rest_s < 1e-3:
        return Trials(pieces)
    return Trials(pieces, (f"{rest_s:.1f} s at the ends are shorter than a piece of {cfg.length_s:g} s: left out",))


def _pieces(trial: Trial, length_s: float) -> Iterator[Trial]:
    """Cut a trial on the stimulus's own clock: a piece is the same for every subject, however the recorders drifted."""
    speed = float(trial.labels.get(SPEED, 1.0))
    for number in range(math.floor(trial.duration * speed / length_s + 1e-6)):
        since_s = number * length_s
        piece = stimuli.piece(trial.stimulus, since_s, since_s + length_s)
        yield Trial(trial.start + since_s / speed, length_s / speed, piece, trial.labels)
