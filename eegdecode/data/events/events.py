"""Trials from events.tsv, annotations, triggers, levels or pulses, and fixed-length pieces of them.

    trials(cfg, rows, stream, annotations, study).trials       cfg: one of eegdecode.data.config.Events

A film that ran on its own clock has the labels `fps` and `stimulus_speed`, seconds of film a second of the recording.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from eegdecode.data.config import (
    AnnotationEvents,
    BidsEvents,
    CodeEvents,
    Events,
    FileEvents,
    FilmEvents,
    FixedLengthEvents,
    TriggerEvents,
)
from eegdecode.data.events import stimuli, triggers
from eegdecode.data.events.rows import Place, Trials, advice, labels, left_out, number, of_bids, of_file, value
from eegdecode.data.events.stimuli import SPEED as SPEED
from eegdecode.data.io import bids
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


def trials(
    cfg: Events,
    rows: Sequence[Mapping[str, str]] | None,
    stream: Stream,
    annotations: Sequence[AnnotationLike],
    study: Path,
    names: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    *,
    asked: Collection[str] = (),
    source: str = "events.tsv",
    at: str = "preprocess.events",
) -> Trials:
    """Return the trials of a recording.

    Parameters
    ----------
    rows
        The rows of its events.tsv, or of another file of events; None where there is none.
    names
        The values of `{run}` and the like in names of stimuli.
    units
        The units of the channels in the file; the stream is in volt.
    asked
        The labels that are asked for: the column of the stimulus is then a label as well.
    source
        What the rows are from.
    at
        The setting that `cfg` is, for messages.
    """
    names, units = names or {}, units or {}
    match cfg:
        case BidsEvents():
            unordered = of_bids(cfg, rows, study, asked, Place(source, at))
        case FileEvents():
            unordered = of_file(cfg, rows or (), names, asked, Place(source, at))
        case AnnotationEvents():
            unordered = _from_annotations(cfg, annotations, names, at)
        case TriggerEvents():
            unordered = _from_triggers(cfg, stream, names)
        case CodeEvents():
            unordered = _from_levels(cfg, stream, names, units.get(cfg.channel, ""))
        case FilmEvents():
            unordered = _from_pulses(cfg, stream, _films(cfg, rows, names, asked))
        case FixedLengthEvents():
            if cfg.of is None:
                inner = Trials((Trial(0.0, stream.duration, names.get("name", "recording")),))
            else:
                inner = trials(
                    cfg.of, rows, stream, annotations, study, names, units,
                    asked=asked, source=source, at=f"{at}.of",
                )  # fmt: skip
            cut = _cut(cfg, inner.trials)
            return Trials(cut.trials, inner.notes + cut.notes)
    in_order = tuple(sorted(unordered.trials, key=lambda trial: (trial.start, trial.stimulus)))
    overlap = False
    notes: tuple[str, ...] = unordered.notes
    if isinstance(cfg, BidsEvents | AnnotationEvents | TriggerEvents | FileEvents):
        overlap = cfg.overlap
        if cfg.duration_s is not None:
            in_order, left_out_notes = _within(in_order, stream)
            notes += left_out_notes
    check(in_order, stream, overlap)
    return Trials(in_order, notes if in_order else (*notes, "there is no trial in this recording"))


def _within(trials: tuple[Trial, ...], stream: Stream) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """The trials without those that begin in the recording but last, as all are set to, beyond its end."""
    end_s = stream.duration + 0.5 / stream.sfreq
    whole = tuple(t for t in trials if t.start + t.duration <= end_s or t.start >= stream.duration)
    if len(whole) == len(trials):
        return trials, ()
    left = f"the recording ends within {len(trials) - len(whole)} of its trials, which are left out"
    return whole, (f"{left}: they were set to last {trials[0].duration:g} s",)


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


def _from_annotations(
    cfg: AnnotationEvents, annotations: Sequence[AnnotationLike], names: Mapping[str, str], at: str
) -> Trials:
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
            duration_s = cfg.duration_s or mark.duration_s
            if cfg.end:
                begun = (float(mark.onset_s), stimulus)
            elif not duration_s:
                rows = [{"onset": str(each.onset_s)} for each in annotations if fnmatchcase(each.text, pattern)]
                raise ValueError(
                    f"annotation {mark.text!r} at {mark.onset_s:.2f} s marks a moment: set duration_s, or set end to "
                    f"the annotation that marks the end, as {advice(rows, at)}"
                )
            else:
                trials.append(Trial(float(mark.onset_s), float(duration_s), stimulus))
    if begun is not None:
        raise ValueError(f"the trial that began at {begun[0]:.2f} s has no annotation {cfg.end!r} after it: add it")
    return Trials(tuple(trials), left_out("annotations", unused))


def _from_triggers(cfg: TriggerEvents, stream: Stream, names: Mapping[str, str]) -> Trials:
    pulses = triggers.pulses(stream, cfg.channel, cfg.fallback, cfg.bits, cfg.threshold, cfg.gap_s)
    trials, unused = [], Counter[str]()
    for start_s, lasts_s, code in zip(*(array.tolist() for array in pulses[1:4]), strict=True):
        if cfg.codes and str(code) not in cfg.codes:
            unused[str(code)] += 1
            continue
        stimulus = stimuli.fill(cfg.codes[str(code)], names) if cfg.codes else str(code)
        trials.append(Trial(max(0.0, start_s), cfg.duration_s or lasts_s, stimulus))
    return Trials(tuple(trials), (*pulses.notes, *left_out("triggers", unused)))


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
    cfg: FilmEvents, rows: Sequence[Mapping[str, str]] | None, names: Mapping[str, str], asked: Collection[str]
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
    shown = [(number(row["onset"]), film, row) for row in rows if (film := value(row, cfg.column)) is not None]
    if unplaced := [film for onset_s, film, _ in shown if onset_s is None]:
        raise ValueError(f"events.tsv has no onset of {unplaced[0]}: write it there, the films' order follows it")
    column = "" if cfg.column in asked else cfg.column
    return [(film, labels(row, column)) for _, film, row in sorted(shown, key=lambda each: each[0] or 0.0)]


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
    for run, (stimulus, of_film) in zip(shown, films, strict=True):
        labelled_fps = of_film.get(FPS)
        fps = stimuli.fps(stimulus, labelled_fps if cfg.fps is None and isinstance(labelled_fps, float) else cfg.fps)
        expected_hz = fps / cfg.frames_per_pulse
        clock = triggers.clock(run, expected_hz)
        start_s = max(0.0, clock.start_s)
        lasts_s = min(clock.n_periods * clock.period_s, stream.duration - start_s)
        trials.append(
            Trial(start_s, lasts_s, stimulus, {**of_film, FPS: fps, SPEED: 1 / (clock.period_s * expected_hz)})
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
    for index in range(math.floor(trial.duration * speed / length_s + 1e-6)):
        since_s = index * length_s
        piece = stimuli.piece(trial.stimulus, since_s, since_s + length_s)
        yield Trial(trial.start + since_s / speed, length_s / speed, piece, trial.labels)
