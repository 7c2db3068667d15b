"""How each decoded trial fits each test piece by spectra and by spectrograms, after Daly (Sci Rep 13:624)."""

import numpy as np

from eegdecode.evaluation.decode.predictions import Decoded, once
from eegdecode.evaluation.statistics import ranking, sound, ssim
from eegdecode.evaluation.statistics.correlation import unit
from eegdecode.evaluation.statistics.ranking import Fit


@once
def fits(decoded: Decoded) -> dict[str, Fit]:
    """By the r of spectra, `spectrum`, and the similarity of spectrograms, `ssim`; those that the target has: none of a
    single piece, or of one that is too slow or too short."""
    if len({trial.stimulus for trial in decoded.trials}) < 2:
        return {}
    most = round(sound.JUDGED_S * decoded.sfreq) if decoded.is_sound else None
    outputs, pieces, own = ranking.together(decoded.trials, most)
    if decoded.is_sound:
        tables = _of_sounds(outputs[..., 0], pieces[..., 0], decoded.sfreq)
    elif decoded.is_spectrogram:
        tables = _of_bands(outputs, pieces)
    else:
        tables = ranking.daly(outputs, pieces, decoded.sfreq) if decoded.sfreq > 2 * ranking.BAND_HZ[1] else {}
    return {way: Fit(table, own) for way, table in tables.items()}


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
