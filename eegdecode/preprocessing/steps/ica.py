"""Remove artefacts by ICA: components are fitted on a decimated copy, and removed from the signal itself."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from eegdecode.preprocessing.artefacts import components
from eegdecode.preprocessing.channels import mapped
from eegdecode.preprocessing.fft import fused
from eegdecode.preprocessing.statistics import blocks
from eegdecode.preprocessing.steps import bandpass
from eegdecode.signals import BRAIN, Decisions, Stream, Trial
from hpc.config import NO_FILE, InputFile, input_file

Label = Literal["eog", "ecg", "spikes", "muscle", "line_noise", "ch_noise", "other"]


@dataclass(frozen=True)
class ICA:
    """Remove the independent components that are artefacts. Each component gets a label with its reasons; those with a
    label in `remove` go, but for what a person has decided in the table `components`."""

    name: Literal["ica"] = "ica"
    follows: float = 0.5  # a component with this correlation to an EOG or ECG channel, or more, is eog or ecg
    kurtosis: float = 20.0  # a component of this excess kurtosis or more is spikes: blinks and heart beats
    muscle_slope: float = 0.0  # a component whose log power rises by more than this over log frequency is muscle
    remove: tuple[Label, ...] = ("eog", "ecg", "spikes")
    """Labels of the components to remove: eog, ecg, spikes, muscle, line_noise (of the mains), ch_noise (one channel
    alone), other (of ICLabel)."""
    labels: Literal["rules", "iclabel"] = "rules"
    """Who labels components: the rules above, or the network ICLabel too, for EEG, of the package mne-icalabel."""
    proba: float = 0.8  # least probability of a label of ICLabel
    components: InputFile = NO_FILE
    """A table (TSV) of what a person has decided, which wins: columns recording, component, decision (keep or drop),
    and optionally fingerprint, all as in components.tsv of an earlier run."""
    seed: int = 0  # seed of FastICA
    needs_whole: ClassVar[bool] = True
    ADDED_LATER: ClassVar[tuple[str, ...]] = ("components", "labels", "muscle_slope", "proba", "remove")
    SYNONYMS: ClassVar[dict[str, str]] = {
        "n_components": "it has as many components as the rank of the recording; follows and kurtosis choose which go",
        "random_state": "seed is the seed of FastICA",
        "exclude": "components names a table, in which the decision of a component is keep or drop",
    }

    def __post_init__(self) -> None:
        if not 0 < self.follows <= 1 or self.kurtosis <= 0:
            raise ValueError(
                f"follows must be within 0 to 1 and kurtosis above 0, got {self.follows} and {self.kurtosis}"
            )
        if not 0 < self.proba <= 1:
            raise ValueError(f"proba is a probability, above 0 and up to 1, got {self.proba:g}")
        if unknown := [label for label in self.remove if label not in get_args(Label)]:
            raise ValueError(f"remove takes {', '.join(get_args(Label))}, but got {', '.join(unknown)}")


log = logging.getLogger(__name__)

AROUND_HZ = 100  # the rate of the copy
SPECTRA_HZ = 200  # that of the copy whose spectra are looked at, which has to have the mains in it
HIGH_PASS = bandpass.Bandpass(low_hz=1.0, high_hz=None)  # drifts are not components
MOST_SAMPLES = 60_000
SAMPLES_A_CHANNEL = 30


@dataclass(frozen=True)
class Artefacts:
    """`removed`: the components to remove; `matrix`: [channel, channel], removes them; `records`: of each component,
    for the record."""

    removed: tuple[int, ...]
    records: tuple[dict[str, Any], ...]
    matrix: np.ndarray


def files(cfg: ICA, subject: str) -> list[Path]:
    return [input_file(cfg.components)] if cfg.components else []


def apply(cfg: ICA, stream: Stream, trials: Sequence[Trial]) -> Stream:
    artefacts = find(cfg, stream)
    why = {record["index"]: "; ".join(record["reasons"]) or record["decided_by"] for record in artefacts.records}
    listing = ", ".join(f"{index} ({why[index]})" for index in artefacts.removed) or "none"
    log.info("ica: of %d components these are removed: %s", len(artefacts.records), listing)
    stream = replace(stream, decisions=stream.decisions + Decisions(components=artefacts.records))
    return mapped(stream, artefacts.matrix) if artefacts.removed else stream


@dataclass(frozen=True)
class Decomposition:
    """Components of the channels `brain` of a stream, and what they were fitted on: `thinned`, [time, channel], and the
    components' courses in it, `sources`."""

    components: components.Components
    sources: np.ndarray
    thinned: np.ndarray
    brain: np.ndarray


def decompose(stream: Stream, seed: int) -> Decomposition:
    """Fit as many components as the recording has rank, on a decimated copy."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    kinds = np.array([stream.sensor(name).kind for name in stream.channels])
    brain = np.flatnonzero(np.isin(kinds, BRAIN))
    thinned = _thinned(stream)
    if len(thinned) < SAMPLES_A_CHANNEL * len(brain) or len(brain) < 2:
        raise ValueError(
            f"ica needs two channels and {SAMPLES_A_CHANNEL} samples for each, "
            f"got {len(brain)} and {len(thinned)}: leave it out for recordings as short as this"
        )
    # Each kind in its own unit, or volts would outweigh teslas
    unit = np.ones(len(brain))
    for kind in dict.fromkeys(kinds[brain]):
        unit[kinds[brain] == kind] = thinned[:, brain[kinds[brain] == kind]].std() or 1.0
    data = thinned[:, brain] / unit
    strength = np.linalg.eigvalsh(np.cov(data.T))
    rank = int((strength > 1e-7 * strength.max()).sum())  # one less after average reference
    model = FastICA(rank, whiten="unit-variance", max_iter=500, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # logged below
        sources = model.fit_transform(data)
    if model.n_iter_ >= model.max_iter:
        log.warning("ica: did not converge in %d iterations; used as it is", model.max_iter)
    names = [stream.channels[index] for index in brain]
    found = components.Components(names, model.components_, model.mixing_, unit)
    return Decomposition(found, sources, thinned, brain)


def find(cfg: ICA, stream: Stream) -> Artefacts:
    """Find the components that are artefacts."""
    fitted = decompose(stream, cfg.seed)
    found, sources, thinned, brain = fitted.components, fitted.sources, fitted.thinned, fitted.brain
    kinds = np.array([stream.sensor(name).kind for name in stream.channels])
    watched = {stream.channels[index]: thinned[:, index] for index in np.flatnonzero(np.isin(kinds, ("eog", "ecg")))}
    heart = [stream.channels[index] for index in np.flatnonzero(kinds == "ecg")]
    faster = fused(stream, [bandpass.as_filter(HIGH_PASS, stream.sfreq)], _rate(stream, SPECTRA_HZ))
    judged = components.judged(cfg, found, sources, watched, heart, components.spectra(faster, brain, found))
    if cfg.labels == "iclabel":
        from eegdecode.preprocessing.artefacts import iclabel

        judged = iclabel.judged(judged, _as_iclabel_knows(stream), found, cfg.proba)
    decided = components.decided_by_a_person(input_file(cfg.components), stream.recording) if cfg.components else {}
    records = components.records(judged, found, sources, decided, cfg.remove)
    removed = tuple(record["index"] for record in records if record["decision"] == "drop")
    matrix = np.eye(stream.n_channels)
    away = found.mixing[:, list(removed)] @ found.unmixing[list(removed)]
    matrix[np.ix_(brain, brain)] -= found.unit[:, None] * away / found.unit
    return Artefacts(removed, records, matrix)


def _as_iclabel_knows(stream: Stream) -> Stream:
    """1 to 100 Hz, at 200 Hz or a little more."""
    slower = _rate(stream, SPECTRA_HZ)
    band = bandpass.Bandpass(low_hz=1.0, high_hz=100.0 if slower > 200 else None)
    return fused(stream, [bandpass.as_filter(band, stream.sfreq)], slower)


def _rate(stream: Stream, around_hz: float) -> float:
    """That of every n-th sample, not much above this one."""
    return stream.sfreq / max(1, int(stream.sfreq // around_hz))


def _thinned(stream: Stream) -> np.ndarray:
    """High-passed, at about 100 Hz; and of a long recording only every n-th sample of that."""
    copy = fused(stream, [bandpass.as_filter(HIGH_PASS, stream.sfreq)], _rate(stream, AROUND_HZ))
    every = -(-copy.n_times // MOST_SAMPLES)
    rows, skip = [], 0
    for block in blocks(copy):
        rows.append(block[skip::every].astype(np.float64))
        skip = (skip - len(block)) % every
    return np.concatenate(rows)
