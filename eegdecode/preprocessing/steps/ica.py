"""Remove artefacts by ICA: components are fitted on a decimated copy, and removed from the signal itself."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from scipy.stats import kurtosis

from eegdecode.preprocessing.channels import mapped
from eegdecode.preprocessing.fft import fused
from eegdecode.preprocessing.statistics import blocks
from eegdecode.preprocessing.steps import bandpass
from eegdecode.signals import BRAIN, Stream, Trial


@dataclass(frozen=True)
class ICA:
    """Remove the independent components that are artefacts: those that follow the EOG or ECG, and those with spikes."""

    name: Literal["ica"] = "ica"
    follows: float = 0.5  # a component with this correlation to an EOG or ECG channel, or more, is removed
    kurtosis: float = 20.0  # a component of this excess kurtosis or more is removed: blinks and heart beats
    seed: int = 0  # seed of FastICA
    needs_whole: ClassVar[bool] = True
    SYNONYMS: ClassVar[dict[str, str]] = {
        "n_components": "it has as many components as the rank of the recording; follows and kurtosis choose which go",
        "random_state": "seed is the seed of FastICA",
    }

    def __post_init__(self) -> None:
        if not 0 < self.follows <= 1 or self.kurtosis <= 0:
            raise ValueError(
                f"follows must be within 0 to 1 and kurtosis above 0, got {self.follows} and {self.kurtosis}"
            )


log = logging.getLogger(__name__)

AROUND_HZ = 100  # the rate of the copy
HIGH_PASS = bandpass.Bandpass(low_hz=1.0, high_hz=None)  # drifts are not components
MOST_SAMPLES = 60_000
SAMPLES_A_CHANNEL = 30


@dataclass(frozen=True)
class Artefacts:
    """`reasons`: for each component to remove; `matrix`: [channel, channel], removes them.

    `maps`: [component, channel], how strongly each component is in each of `channels`; `shares`: of the variance.
    """

    reasons: dict[int, str]
    n_components: int
    matrix: np.ndarray
    channels: tuple[str, ...] = ()
    maps: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    shares: tuple[float, ...] = ()

    def listed(self) -> list[dict[str, object]]:
        """All components, the strongest first, as the page of a recording has them."""
        return [
            {
                "index": index,
                "removed": index in self.reasons,
                "reason": self.reasons.get(index, ""),
                "share": round(self.shares[index], 4),
                "map": {name: float(f"{value:.3g}") for name, value in zip(self.channels, self.maps[index].tolist())},
            }
            for index in sorted(range(len(self.shares)), key=lambda index: -self.shares[index])
        ]


def apply(cfg: ICA, stream: Stream, trials: Sequence[Trial]) -> Stream:
    artefacts = find(cfg, stream)
    listing = ", ".join(f"{index} ({why})" for index, why in artefacts.reasons.items()) or "none"
    log.info("ica: of %d components these are removed: %s", artefacts.n_components, listing)
    cleaned = mapped(stream, artefacts.matrix) if artefacts.reasons else stream
    return cleaned.decided(components=artefacts.listed())


def find(cfg: ICA, stream: Stream) -> Artefacts:
    """Find the components that are artefacts."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    kinds = np.array([stream.sensor(name).kind for name in stream.channels])
    brain = np.flatnonzero(np.isin(kinds, BRAIN))
    watched = np.flatnonzero(np.isin(kinds, ("eog", "ecg")))
    copy = _thinned(stream)
    if len(copy) < SAMPLES_A_CHANNEL * len(brain) or len(brain) < 2:
        raise ValueError(
            f"ica needs two channels and {SAMPLES_A_CHANNEL} samples for each, "
            f"got {len(brain)} and {len(copy)}: leave it out for recordings as short as this"
        )
    # Each kind in its own unit, or volts would outweigh teslas
    unit = np.ones(len(brain))
    for kind in dict.fromkeys(kinds[brain]):
        unit[kinds[brain] == kind] = copy[:, brain[kinds[brain] == kind]].std() or 1.0
    data = copy[:, brain] / unit
    strength = np.linalg.eigvalsh(np.cov(data.T))
    rank = int((strength > 1e-7 * strength.max()).sum())  # one less after average reference
    model = FastICA(rank, whiten="unit-variance", max_iter=500, random_state=cfg.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # logged below
        sources = model.fit_transform(data)
    if model.n_iter_ >= model.max_iter:
        log.warning("ica: did not converge in %d iterations; used as it is", model.max_iter)
    reasons: dict[int, str] = {}
    for index, (source, peaked) in enumerate(zip(sources.T, kurtosis(sources, axis=0), strict=True)):
        for channel in watched:
            follows = abs(np.corrcoef(source, copy[:, channel])[0, 1]) if copy[:, channel].std() > 0 else 0.0
            if follows >= cfg.follows:
                reasons.setdefault(index, f"follows {stream.channels[channel]}, r = {follows:.2f}")
        if peaked >= cfg.kurtosis:
            reasons.setdefault(index, f"spikes, kurtosis {peaked:.0f}")
    matrix = np.eye(stream.n_channels)
    removed = sorted(reasons)
    away = model.mixing_[:, removed] @ model.components_[removed]
    matrix[np.ix_(brain, brain)] -= unit[:, None] * away / unit
    strengths = (model.mixing_**2).sum(axis=0)
    return Artefacts(
        reasons,
        rank,
        matrix,
        tuple(stream.channels[index] for index in brain),
        (unit[:, None] * model.mixing_).T,
        tuple((strengths / strengths.sum()).tolist()),
    )


def _thinned(stream: Stream) -> np.ndarray:
    """High-passed, at about 100 Hz; of a long recording only every n-th sample of that."""
    slower = stream.sfreq / max(1, int(stream.sfreq // AROUND_HZ))
    copy = fused(stream, [bandpass.as_filter(HIGH_PASS, stream.sfreq)], slower)
    every = -(-copy.n_times // MOST_SAMPLES)
    rows, skip = [], 0
    for block in blocks(copy):
        rows.append(block[skip::every].astype(np.float64))
        skip = (skip - len(block)) % every
    return np.concatenate(rows)
