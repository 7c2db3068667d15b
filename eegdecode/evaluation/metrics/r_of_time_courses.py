"""Pearson's r of time courses, the headline of sequences that are no sounds: over a whole trial, the mean over trials.

Its chance level is r with other test pieces, which share what all trials have, as their fade-in. There are two nulls:
the true piece rotated in time, which keeps its loudness and rhythm; and only what differs from other pieces rotated,
with the rest in place. A piece is rotated alike for all subjects, as their brains respond alike.
"""

import numpy as np

from eegdecode.evaluation.decode.predictions import DecodedTrial
from eegdecode.evaluation.metrics import Decoded, Headline, Metric, Scoring, mel_gain_db, once
from eegdecode.evaluation.statistics import nulls, ranking
from eegdecode.evaluation.statistics.correlation import unit

SHORTEST_SHIFT_S = 1.0  # envelopes are autocorrelated for less than that


def score(decoded: Decoded, cfg: Scoring) -> float | None:
    """None of sounds: their waveforms have phases that nobody hears, and SI-SDR is the same in dB."""
    return None if mel_gain_db.applies(decoded) else float(_of_trials(decoded).mean())


def chance(decoded: Decoded, cfg: Scoring) -> float:
    return float(_others_and_nulls(decoded, cfg)[0].mean())


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    """[null, draw]: the mean over trials."""
    return np.array([each.mean(axis=0) for each in _others_and_nulls(decoded, cfg)[1]])


def what(decoded: Decoded) -> str:
    what = "Pearson's r of decoded and true over a trial, the mean over trials"
    if len({trial.stimulus for trial in decoded.trials}) < 2:
        what += "; with a single test piece, following it cannot be separated from following what all trials share"
    return what


def by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return np.array([_of_trials(decoded)[own].mean() for own in _trials_of_each(decoded)])


def by_unit(decoded: Decoded, cfg: Scoring) -> tuple[np.ndarray, str]:
    return _of_trials(decoded), "trials"


def null_by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    """[null, draw, subject]"""
    every, subjects = _others_and_nulls(decoded, cfg)[1], _trials_of_each(decoded)
    return np.array([np.array([each[own].mean(axis=0) for own in subjects]).T for each in every])


def _trials_of_each(decoded: Decoded) -> list[np.ndarray]:
    names = np.array([trial.subject for trial in decoded.trials])
    return [names == name for name in np.unique(names)]


@once
def _of_trials(decoded: Decoded) -> np.ndarray:
    """[trial]"""
    return np.array([nulls.rotated(trial.output, trial.target)[0] for trial in decoded.trials])


@once
def _others_and_nulls(decoded: Decoded, cfg: Scoring) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The mean r with other pieces [trial]; and what nothing decoded gives, in one or two ways [trial, draw]."""
    rotations = nulls.rotations([trial.stimulus for trial in decoded.trials], cfg.n_null, cfg.seed)
    nearest = round(SHORTEST_SHIFT_S * decoded.sfreq)

    def drawn(trial: DecodedTrial, at_shift: np.ndarray) -> np.ndarray:
        return at_shift[nulls.shifts(rotations[trial.stimulus], len(at_shift), nearest)]

    null = np.array([drawn(trial, nulls.rotated(trial.output, trial.target)) for trial in decoded.trials])
    if len(rotations) < 2:
        return np.zeros(len(null)), (null,)
    outputs, pieces, own = ranking.together(decoded.trials)
    outputs, pieces = unit(outputs), unit(pieces)
    rest = (pieces.sum(axis=0) - pieces) / (len(pieces) - 1)
    # The differences sum to 0 over pieces: a decoder with the same output for all has 0 here, whatever pieces share
    apart = [nulls.products(output, (pieces - rest)[piece]) for output, piece in zip(outputs, own, strict=True)]
    shared = _of_trials(decoded) - [at_shift[0] for at_shift in apart]
    beyond = np.array([drawn(*each) for each in zip(decoded.trials, apart, strict=True)])
    others = np.array([(output * rest[piece]).sum() for output, piece in zip(outputs, own, strict=True)])
    return others / outputs.shape[-1], (null, shared[:, None] + beyond)


R = Metric(
    "r",
    "r",
    "Pearson's correlation of decoded and true: 1 is perfect, 0 unrelated.",
    ("sequence",),
    score,
    chance,
    null,
    headline=Headline(what, by_subject, null_by_subject, by_unit=by_unit, ends=(-1.0, 1.0)),
    order=0,
)
