"""Metrics of decoded spectra and spectrograms, compared with other pieces, after Daly (Sci Rep 13:624). Numpy only.

spectrum_r      Pearson's r of power spectra.
ssim            Structural similarity of spectrograms.
spectrum_rank, ssim_rank
                How many of the other test pieces fit worse. Chance: 0.5.

The chance level of the first two is the value of other pieces, which is far above 0, as all music has similar spectra.
"""

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import nulls, ranking, sound, ssim
from eegdecode.evaluation.metrics.correlation import unit
from eegdecode.evaluation.metrics.results import TrialMetric

NAMES = {"spectrum": ("spectrum_r", "spectrum_rank"), "ssim": ("ssim", "ssim_rank")}
"""The names of the metric and of the rank for each way to compare."""


def figures(decoded: Decoded, cfg: Scoring) -> dict[str, TrialMetric]:
    """The metrics that the target has: none of a single piece, or of one that is too slow or too short."""
    if len({trial.stimulus for trial in decoded.trials}) < 2:
        return {}
    most = round(sound.JUDGED_S * decoded.sfreq) if decoded.is_sound else None
    outputs, pieces, own = ranking.together(decoded.trials, most)
    if decoded.is_sound:
        fits = _of_sounds(outputs[..., 0], pieces[..., 0], decoded.sfreq)
    elif decoded.is_spectrogram:
        fits = _of_bands(outputs, pieces)
    else:
        fits = ranking.daly(outputs, pieces, decoded.sfreq) if decoded.sfreq > 2 * ranking.BAND_HZ[1] else {}
    metrics = {}
    for way, fit in fits.items():
        true = fit[np.arange(len(own)), own]
        others = float((fit.sum() - true.sum()) / (fit.size - len(own)))
        value, rank = NAMES[way]
        metrics[value] = TrialMetric(true, others, nulls.pieces_dealt(fit, own, cfg.n_null, cfg.seed).mean(axis=1))
        metrics[rank] = ranked(fit, own, cfg)
    return metrics


def ranked(fit: np.ndarray, own: np.ndarray, cfg: Scoring) -> TrialMetric:
    """The rank of the true piece among all, from how each fits, [trial, piece]."""
    null = nulls.pieces_dealt(ranking.ranks_of_all(fit), own, cfg.n_null, cfg.seed)
    return TrialMetric(ranking.ranks(fit, own), 0.5, null.mean(axis=1))


def _of_bands(outputs: np.ndarray, pieces: np.ndarray) -> dict[str, np.ndarray]:
    """Of a target that is a spectrogram itself: how each band swings, and the pictures of all bands in units of their
    own standard deviation."""
    fits = {"spectrum": ranking.by_spectrum(outputs, pieces)}
    if outputs.shape[1] >= ranking.SMALLEST:
        fits["ssim"] = _alike(*(unit(x) * np.sqrt(x.shape[1]) for x in (outputs, pieces)))
    return fits


def _of_sounds(outputs: np.ndarray, pieces: np.ndarray, sfreq: float) -> dict[str, np.ndarray]:
    """Of waveforms: their mean power in each frequency, and pictures of their levels in mel bands."""
    if outputs.shape[1] < sound.FRAME_S * sfreq + 1:
        return {}
    spectra = (np.stack([sound.powers(each, sfreq)[0].mean(axis=0) for each in x]) for x in (outputs, pieces))
    decoded, true = (unit(each[..., None])[..., 0] for each in spectra)
    fits = {"spectrum": decoded @ true.T}
    pictures = [np.stack([np.log(sound.mel_powers(each, sfreq)) for each in x]) for x in (outputs, pieces)]
    if pictures[0].shape[1] >= ranking.SMALLEST:
        fits["ssim"] = _alike(*pictures)
    return fits


def _alike(outputs: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """SSIM of each picture with each, [trial, row, column] and [piece, row, column] -> [trial, piece]."""
    return ssim.ssim_of_all(outputs, pieces, float(np.ptp(pieces)) or 1.0)
