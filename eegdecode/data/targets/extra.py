"""A stream that was measured or computed elsewhere, of the recording or of each stimulus."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.data.targets.parts import clock, tables
from eegdecode.data.targets.parts.lookup import inside
from eegdecode.data.targets.parts.tables import stored_name
from eegdecode.signals import Sensor, Stream, Trial

__all__ = ["Extra", "files", "make", "of_recording", "stimulus_end", "stored_name"]


@dataclass(frozen=True)
class Extra:
    """Any stream measured or computed elsewhere: [time, feature] in a .npy or .mat, or the columns of a .tsv.

    It belongs to the recording and starts with it; with `{stimulus}` or `{stem}` in the path, there is one a stimulus.

    Parameters
    ----------
    file
        Path of the .npy, .mat or .tsv, from the study's folder.
    sfreq
        The rate in Hz at which it is stored.
    file_sfreq
        The rate of the rows in the file in Hz, where it differs.
    start_s
        The time of its first row in seconds from the start of the recording, or of the stimulus.
    hold
        Its rows are states, as frames: each lasts until the next, and nothing is interpolated.
    """

    file: str
    sfreq: float
    name: Literal["extra"] = "extra"
    title: str = ""  # the name under which it is stored; by default that of the file
    file_sfreq: float | None = None
    start_s: float = 0.0
    hold: bool = False

    def __post_init__(self) -> None:
        if not all(0 < hz < math.inf for hz in (self.sfreq, self.file_sfreq or self.sfreq)) or self.file_sfreq == 0:
            raise ValueError(f"extra needs rates above 0 Hz, got sfreq {self.sfreq} and file_sfreq {self.file_sfreq}")


def of_recording(cfg: Extra, names: Mapping[str, str]) -> Extra:
    """The name under which it is stored stays that of all recordings."""
    if stimuli.is_for_each(cfg.file):
        return cfg
    return replace(cfg, file=stimuli.fill(cfg.file, names), title=stored_name(cfg))


def make(cfg: Extra, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    if not stimuli.is_for_each(cfg.file):
        return _of_recording(cfg, study / cfg.file, duration_s)
    if not trials:
        raise ValueError(f"{cfg.file} has one file a stimulus, but the recording has no trial")

    def opened(stimulus: str) -> Stream:
        return _rows(cfg, stimuli.file_of(cfg.file, stimulus, study))

    return clock.of_stimuli(cfg.name, opened, trials, duration_s, cfg.sfreq, start_s=cfg.start_s)


def files(cfg: Extra, trials: Sequence[Trial], study: Path) -> set[Path]:
    if stimuli.is_for_each(cfg.file):
        return {stimuli.file_of(cfg.file, trial.stimulus, study) for trial in trials}
    return {study / cfg.file}


def stimulus_end(cfg: Extra, stimulus: str, study: Path) -> tuple[Path, float] | None:
    if not stimuli.is_for_each(cfg.file):
        return None
    path = stimuli.file_of(cfg.file, stimulus, study)
    return path, cfg.start_s + _rows(cfg, path).duration


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
