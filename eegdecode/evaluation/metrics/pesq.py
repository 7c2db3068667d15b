"""PESQ of decoded sounds (ITU-T P.862), if its package is installed: a quality score of speech."""

import importlib.util
import logging

import numpy as np

from eegdecode.evaluation.metrics import Decoded
from eegdecode.evaluation.metrics._sounds import are_comparable, of_sounds

log = logging.getLogger(__name__)

PESQ_HZ = {8000: "nb", 16000: "wb"}


def pesq(output: np.ndarray, target: np.ndarray, sfreq: float) -> float:
    """How good speech sounds (ITU-T P.862), from about 1 to 4.5; chance is what other pieces give. At 8 kHz narrow, at
    16 kHz wide band. A judgement of telephone speech: of music it says little."""
    if sfreq not in PESQ_HZ:
        raise ValueError(f"PESQ is defined at 8000 and 16000 Hz, got {sfreq:g} Hz: resample both sounds to 16000 Hz")
    if not is_installed():
        raise ValueError("PESQ needs the package pesq: pip install hpc-eegdecode[audio]")
    import pesq as itu

    output, target = (np.asarray(x, np.float32) for x in (output, target))
    if not (output.any() and target.any()):
        raise ValueError("PESQ compares two sounds, but one of them is silent: leave it out")
    try:
        return float(itu.pesq(int(sfreq), target, output, PESQ_HZ[int(sfreq)]))
    except itu.NoUtterancesError:
        raise ValueError("PESQ finds nothing like speech in the true sound: leave it out") from None


def is_installed() -> bool:
    return importlib.util.find_spec("pesq") is not None


def way(output: np.ndarray, target: np.ndarray, sfreq: float) -> dict[str, float]:
    try:
        return {"pesq": pesq(output, target, sfreq)}
    except ValueError as refused:
        log.info("%s", refused)
        return {}


def applies(decoded: Decoded) -> bool:
    if not are_comparable(decoded):
        return False
    if decoded.sfreq not in PESQ_HZ or not is_installed():
        log.info("PESQ is left out: it is of sounds at 8000 or 16000 Hz, and needs the package pesq (extra audio)")
        return False
    log.warning("PESQ is a speech metric: on music its value says little")
    return True


PESQ = of_sounds(
    "pesq",
    "PESQ",
    "a quality score of telephone speech, from 1 to 4.5; of music it says little.",
    way,
    order=80,
    applies=applies,
)
