"""The features of stimuli in the recording's own .mat, as `stim` beside `resp` in data of the mTRF toolbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.data.io import matlab
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import cells
from eegdecode.data.io.readers.variables import listed, variables
from eegdecode.data.targets.parts.lookup import inside
from eegdecode.signals import Sensor, Stream, Trial


@dataclass(frozen=True)
class Stim:
    """Features of the stimulus in a cell array of the recording's .mat, [time x feature] a trial, sample by sample."""

    name: Literal["stim"] = "stim"
    sfreq: float = 64.0  # rate in Hz at which it is stored
    variable: str = "stim"  # the cell array, as stim or stim.data
    file: str = "{path}"  # the .mat, from the study's folder; by default that of the recording
    file_sfreq: float = 0.0  # rate in Hz of its rows; 0: that of the recording, fs

    def __post_init__(self) -> None:
        if self.sfreq <= 0 or self.file_sfreq < 0:
            raise ValueError(f"stim needs rates above 0 Hz, got sfreq {self.sfreq} and file_sfreq {self.file_sfreq}")


def of_recording(cfg: Stim, names: Mapping[str, str]) -> Stim:
    return replace(cfg, file=stimuli.fill(cfg.file, names))


def make(cfg: Stim, trials: Sequence[Trial], study: Path, duration_s: float) -> Stream:
    path = study / cfg.file
    if path.suffix.lower() != ".mat":
        raise Refused(f"{path} is no .mat: the target stim is of cell arrays in .mat; extra reads other tables")
    known = variables(path)
    if cfg.variable not in known or not known[cfg.variable].cells:
        raise Refused(f"{path} has no cell array {cfg.variable}; there are {listed(known)}: correct variable")
    rows = cells.layout(path, cfg.variable, known[cfg.variable].cells)
    if len(rows.edges) + 1 != len(trials):
        raise Refused(
            f"{path} has {len(rows.edges) + 1} cells in {cfg.variable}, but the recording {len(trials)} trials: take "
            "the trials from its cells (no events)"
        )
    rate = cfg.file_sfreq or matlab.rate(path, known)
    begins = [edge / rate for edge in (0, *rows.edges)]
    names = tuple(f"stim{index}" for index in range(rows.n_channels))
    whole = Stream(names, rate, rows.n_times, lambda first, stop: rows.read(first, stop).astype(np.float32))
    in_order = sorted(zip(trials, begins, strict=True), key=lambda pair: pair[0].start)

    def read(first: int, stop: int) -> np.ndarray:
        times = np.arange(first, stop) / cfg.sfreq
        out = np.zeros((stop - first, len(names)), np.float32)
        for trial, begin_s in in_order:
            here = (times >= trial.start - 1e-9) & (times < trial.start + trial.duration - 1e-9)
            if here.any():
                out[here] = inside(whole, begin_s + times[here] - trial.start)
        return out

    return Stream(names, cfg.sfreq, round(duration_s * cfg.sfreq), read, dict.fromkeys(names, Sensor("misc")))


def files(cfg: Stim, trials: Sequence[Trial], study: Path) -> set[Path]:
    return {study / cfg.file}
