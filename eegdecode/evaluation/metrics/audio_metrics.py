"""Metrics of decoded waveforms, each with the value of other pieces of the test set as its chance level."""

import importlib.util
import logging
from collections.abc import Callable

import numpy as np

from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import audio_similarity, sound
from eegdecode.evaluation.metrics.correlation import si_sdr_db
from eegdecode.evaluation.metrics.results import TrialMetric

log = logging.getLogger(__name__)

N_OTHERS = 3
"""Other pieces that each decoded trial is compared with."""
MOST_TRIALS = 100
"""At most so many trials, evenly spaced in the test set: each takes half a second."""


def figures(decoded: Decoded) -> dict[str, TrialMetric]:
    """The metrics of sounds, over the first ten seconds of each trial. Empty if the target is no sound, or too short,
    or if there is a single piece."""
    pieces = {trial.stimulus: trial.target for trial in reversed(decoded.trials)}
    names = sorted(pieces)
    if not decoded.is_sound or len(names) < 2:
        return {}
    most = round(sound.JUDGED_S * decoded.sfreq)
    if min(len(trial.target) for trial in decoded.trials) < audio_similarity.NOTES_S * decoded.sfreq:
        return {}
    true: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    ways = _ways(decoded.sfreq)
    for trial in decoded.trials[:: -(-len(decoded.trials) // MOST_TRIALS)]:
        place = names.index(trial.stimulus)
        near = dict.fromkeys(names[(place + step) % len(names)] for step in range(1, 1 + min(N_OTHERS, len(names) - 1)))
        for target, values_of in [(trial.target, true), *((pieces[name], others) for name in near)]:
            n_times = min(most, len(target), len(trial.output))
            for way in ways:
                for name, value in way(trial.output[:n_times, 0], target[:n_times, 0]).items():
                    values_of.setdefault(name, []).append(value)
    both = [name for name in true if name in others]  # PESQ may find no speech in any of one side
    return {name: TrialMetric(np.array(true[name]), float(np.mean(others[name]))) for name in both}


Way = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def _ways(sfreq: float) -> list[Way]:
    """The metrics that are defined at that rate, and whose package is installed."""

    def plain(output: np.ndarray, target: np.ndarray) -> dict[str, float]:
        return {
            "si_sdr_db": float(si_sdr_db(output, target)),
            "mcd_db": float(sound.mel_cepstral_distortion_db(output, target, sfreq)),
        }

    def alike(output: np.ndarray, target: np.ndarray) -> dict[str, float]:
        return {
            f"like_{name}": float(value) for name, value in audio_similarity.similarity(output, target, sfreq).items()
        }

    ways: list[Way] = [plain, alike]

    def speech(output: np.ndarray, target: np.ndarray) -> dict[str, float]:
        try:
            return {"pesq": sound.pesq(output, target, sfreq)}
        except ValueError as refused:
            log.info("%s", refused)
            return {}

    if sfreq in sound.PESQ_HZ and importlib.util.find_spec("pesq") is not None:
        log.warning("PESQ is a speech metric: on music its value says little")
        ways.append(speech)
    else:
        log.info("PESQ is left out: it is of sounds at 8000 or 16000 Hz, and needs the package pesq (extra audio)")
    return ways
