"""Spectra and spectrograms of what was decoded, beside those of other pieces, after Daly (Sci Rep 13:624). Numpy only.

spectrum_r      Pearson's r of power spectra.
ssim            Structural similarity of spectrograms.
spectrum_rank, ssim_rank
                How many of the other test pieces fit worse. Chance: 0.5.

What other pieces give is far above 0 in the first two, as all music has like spectra; so it stands beside them.
"""

from collections.abc import Sequence

import numpy as np

from eegdecode.evaluation import Scoring, nulls, ranking, sound, ssim
from eegdecode.evaluation.correlation import unit
from eegdecode.evaluation.findings import OfTrials
from eegdecode.evaluation.predictions import Decoded, DecodedTrial

SMALLEST = 7  # rows and columns of a picture that SSIM is defined for
WINDOW_S = 4.0  # of spectrograms of slow signals; the paper names none


def figures(decoded: Decoded, cfg: Scoring) -> dict[str, OfTrials]:
    """Those that the target has: none of a single piece, or of one that is too slow or too short."""
    if len({trial.stimulus for trial in decoded.trials}) < 2:
        return {}
    if decoded.is_sound:
        fits, own = _of_sounds(decoded.trials, decoded.sfreq)
    elif decoded.is_spectrogram:
        fits, own = _of_bands(decoded.trials)
    else:
        fits, own = _of_signals(decoded.trials, decoded.sfreq)
    found = {}
    for name, (fit, rank) in fits.items():
        true = fit[np.arange(len(own)), own]
        others = float((fit.sum() - true.sum()) / (fit.size - len(own)))
        found[name] = OfTrials(true, others, nulls.pieces_dealt(fit, own, cfg.n_null, cfg.seed).mean(axis=1))
        found[rank] = ranked(fit, own, cfg)
    return found


def ranked(fit: np.ndarray, own: np.ndarray, cfg: Scoring) -> OfTrials:
    """The rank of the true piece among all, from how each fits, [trial, piece]."""
    null = nulls.pieces_dealt(ranking.ranks_of_all(fit), own, cfg.n_null, cfg.seed)
    return OfTrials(ranking.ranks(fit, own), 0.5, null.mean(axis=1))


Fits = dict[str, tuple[np.ndarray, str]]
"""How each piece fits each trial [trial, piece], and the name of the rank by it."""


def _of_signals(trials: Sequence[DecodedTrial], sfreq: float) -> tuple[Fits, np.ndarray]:
    """As in the paper: of what lies in its band, with spectrograms of 4 s windows."""
    outputs, pieces, own = ranking.together(trials)
    if sfreq <= 2 * ranking.BAND_HZ[1]:
        return {}, own
    outputs, pieces = (ranking.prepared(x, sfreq) for x in (outputs, pieces))
    found: Fits = {"spectrum_r": (ranking.by_spectrum(outputs, pieces), "spectrum_rank")}
    if outputs.shape[1] >= round(WINDOW_S * sfreq) * (1 + SMALLEST / 8):
        found["ssim"] = ranking.by_ssim(outputs, pieces, sfreq, window_s=WINDOW_S), "ssim_rank"
    return found, own


def _of_bands(trials: Sequence[DecodedTrial]) -> tuple[Fits, np.ndarray]:
    """Of a target that is a spectrogram itself: how each band swings, and the pictures of all bands in units of their
    own standard deviation."""
    outputs, pieces, own = ranking.together(trials)
    found: Fits = {"spectrum_r": (ranking.by_spectrum(outputs, pieces), "spectrum_rank")}
    if outputs.shape[1] >= SMALLEST:
        scaled = (unit(x) * np.sqrt(x.shape[1]) for x in (outputs, pieces))
        found["ssim"] = _alike(*scaled), "ssim_rank"
    return found, own


def _of_sounds(trials: Sequence[DecodedTrial], sfreq: float) -> tuple[Fits, np.ndarray]:
    """Of waveforms: their mean power in each frequency, and pictures of their levels in mel bands."""
    outputs, pieces, own = ranking.together(trials, round(sound.JUDGED_S * sfreq))
    outputs, pieces = outputs[..., 0], pieces[..., 0]
    spectra = (np.stack([sound.powers(each, sfreq)[0].mean(axis=0) for each in x]) for x in (outputs, pieces))
    decoded, heard = (unit(each[..., None])[..., 0] for each in spectra)
    found: Fits = {"spectrum_r": (decoded @ heard.T, "spectrum_rank")}
    pictures = [np.stack([np.log(sound.mel_powers(each, sfreq)) for each in x]) for x in (outputs, pieces)]
    if pictures[0].shape[1] >= SMALLEST:
        found["ssim"] = _alike(*pictures), "ssim_rank"
    return found, own


def _alike(outputs: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """SSIM of each picture with each, [trial, row, column] and [piece, row, column] -> [trial, piece]."""
    return ssim.ssim_of_all(outputs, pieces, float(np.ptp(pieces)) or 1.0)
