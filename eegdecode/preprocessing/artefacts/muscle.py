"""Muscle activity over time, as MNE's annotate_muscle_zscore: the power from 110 to 140 Hz, summed over channels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eegdecode.preprocessing import statistics
from eegdecode.preprocessing.channels import select
from eegdecode.preprocessing.designs import Filter
from eegdecode.preprocessing.fft import fused
from eegdecode.signals import BRAIN, Stream

BAND_HZ = (110.0, 140.0)
EVERY_S = 0.1
"""Seconds of one score."""


@dataclass(frozen=True)
class Scores:
    """z[k] is that of the EVERY_S seconds from k × EVERY_S on."""

    z: np.ndarray
    every_s: float

    def highest(self, start: float, stop: float) -> float:
        first = min(int(start / self.every_s + 1e-6), len(self.z) - 1)
        return float(self.z[first : max(first + 1, int(np.ceil(stop / self.every_s - 1e-6)))].max())


def scores(stream: Stream, names: Sequence[str], band: Callable[[float, float], Filter]) -> Scores:
    """The score of each piece of time. Memory holds one number a channel and piece, and one block of samples.

    `band(low_hz, high_hz)` gives the filter that keeps these frequencies.
    """
    if stream.sfreq <= 2 * BAND_HZ[1]:
        raise ValueError(
            f"muscle_z looks at {BAND_HZ[0]:g} to {BAND_HZ[1]:g} Hz and needs more than {2 * BAND_HZ[1]:g} Hz, but the "
            f"signal has {stream.sfreq:g} Hz: put reject before resample, or set muscle_z=0"
        )
    brain = select(stream, [name for name in names if stream.sensor(name).kind in BRAIN])
    if not brain.n_channels:
        raise ValueError("muscle_z looks at channels that measure the brain, and no good one is left: set muscle_z=0")
    n = max(1, round(EVERY_S * stream.sfreq))
    loud = _loudness(fused(brain, [band(*BAND_HZ)], stream.sfreq), n)
    sd = loud.std(axis=0)
    z = (loud - loud.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    return Scores(z.sum(axis=1) / np.sqrt(z.shape[1]), n / stream.sfreq)


def _loudness(band: Stream, n: int) -> np.ndarray:
    """[piece, channel], the RMS of every n samples."""
    step = max(1, statistics.BLOCK_VALUES // (band.n_channels * n)) * n
    rows = []
    for first in range(0, band.n_times, step):
        block = band.read(first, min(first + step, band.n_times)).astype(np.float64) ** 2
        starts = np.arange(0, len(block), n)
        counts = np.minimum(n, len(block) - starts)
        rows.append(np.sqrt(np.add.reduceat(block, starts, axis=0) / counts[:, None]).astype(np.float32))
    return np.concatenate(rows)
