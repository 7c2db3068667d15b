"""Spectra and spectrograms of what was decoded, beside those of other pieces, after Daly (Sci Rep 13:624). Numpy only.

spectrum_r      Pearson's r of power spectra.
ssim            Structural similarity of spectrograms.
spectrum_rank, ssim_rank
                How many of the other test pieces fit worse. Chance: 0.5.

What other pieces give is far above 0 in the first two, as all music has like spectra; so it stands beside them.
"""

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import nulls, ranking, sound, ssim
from eegdecode.evaluation.metrics.correlation import unit
from eegdecode.evaluation.metrics.results import OfTrials

NAMES = {"spectrum": ("spectrum_r", "spectrum_rank"), "ssim": ("ssim", "ssim_rank")}
"""Of each way to compare: the figure itself, and the rank by it."""


def figures(decoded: Decoded, cfg: Scoring) -> dict[str, OfTrials]:
    """Those that the target has: none of a single piece, or of one that is too slow or too short."""
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
    found = {}
    for way, fit in fits.items():
        true = fit[np.arange(len(own)), own]
        others = float((fit.sum() - true.sum()) / (fit.size - len(own)))
        value, rank = NAMES[way]
        found[value] = OfTrials(true, others, nulls.pieces_dealt(fit, own, cfg.n_null, cfg.seed).mean(axis=1))
        found[rank] = ranked(fit, own, cfg)
    return found


def ranked(fit: np.ndarray, own: np.ndarray, cfg: Scoring) -> OfTrials:
    """The rank of the true piece among all, from how each fits, [trial, piece]."""
    null = nulls.pieces_dealt(ranking.ranks_of_all(fit), own, cfg.n_null, cfg.seed)
    return OfTrials(ranking.ranks(fit, own), 0.5, null.mean(axis=1))


def _of_bands(outputs: np.ndarray, pieces: np.ndarray) -> dict[str, np.ndarray]:
    """Of a target that is a spectrogram itself: how each band swings, and the pictures of all bands in units of their
    own standard deviation."""
    found = {"spectrum": ranking.by_spectrum(outputs, pieces)}
    if outputs.shape[1] >= ranking.SMALLEST:
        found["ssim"] = _alike(*(unit(x) * np.sqrt(x.shape[1]) for x in (outputs, pieces)))
    return found


def _of_sounds(outputs: np.ndarray, pieces: np.ndarray, sfreq: float) -> dict[str, np.ndarray]:
    """Of waveforms: their mean power in each frequency, and pictures of their levels in mel bands."""
    if outputs.shape[1] < sound.FRAME_S * sfreq + 1:
        return {}
    spectra = (np.stack([sound.powers(each, sfreq)[0].mean(axis=0) for each in x]) for x in (outputs, pieces))
    decoded, heard = (unit(each[..., None])[..., 0] for each in spectra)
    found = {"spectrum": decoded @ heard.T}
    pictures = [np.stack([np.log(sound.mel_powers(each, sfreq)) for each in x]) for x in (outputs, pieces)]
    if pictures[0].shape[1] >= ranking.SMALLEST:
        found["ssim"] = _alike(*pictures)
    return found


def _alike(outputs: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """SSIM of each picture with each, [trial, row, column] and [piece, row, column] -> [trial, piece]."""
    return ssim.ssim_of_all(outputs, pieces, float(np.ptp(pieces)) or 1.0)
