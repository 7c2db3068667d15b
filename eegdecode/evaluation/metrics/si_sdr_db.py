"""Scale-invariant signal-to-distortion ratio of decoded sounds (Le Roux 2019)."""

import numpy as np

from eegdecode.evaluation.metrics._sounds import of_sounds


def si_sdr_db(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio in dB over time, [..., time] -> [...]; means are taken off.

    What of the output is the target at any scale, over what is not. The higher the better, from minus to
    plus infinity; r² / (1 - r²) in dB, so noise of n samples has about -10 lg(n).
    """
    output, target = (np.asarray(x, np.float64) for x in (output, target))
    output, target = (x - x.mean(axis=-1, keepdims=True) for x in (output, target))
    tiny = np.finfo(np.float64).tiny
    scale = np.sum(output * target, axis=-1, keepdims=True) / np.maximum(
        np.sum(target**2, axis=-1, keepdims=True), tiny
    )
    signal = np.sum((scale * target) ** 2, axis=-1)
    rest = np.sum((scale * target - output) ** 2, axis=-1)
    return 10 * np.log10(np.maximum(signal, tiny) / np.maximum(rest, tiny))


def way(output: np.ndarray, target: np.ndarray, sfreq: float) -> dict[str, float]:
    return {"si_sdr_db": float(si_sdr_db(output, target))}


SI_SDR = of_sounds(
    "si_sdr_db",
    "SI-SDR",
    "the scale-invariant ratio of the true waveform to the error in the decoded one.",
    way,
    order=50,
    unit="dB",
)
