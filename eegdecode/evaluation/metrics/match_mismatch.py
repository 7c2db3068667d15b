"""Match-mismatch: how often a few seconds of a decoded trial fit the same seconds of the piece best."""

from collections.abc import Sequence

import numpy as np

from eegdecode.evaluation.decode.predictions import DecodedTrial
from eegdecode.evaluation.metrics import Decoded, Metric, Scoring, mel_gain_db
from eegdecode.evaluation.statistics.correlation import unit


def match_mismatch(trials: Sequence[DecodedTrial], window: int) -> np.ndarray:
    """[trial]: over all pairs of windows, how often the matching one fits better; NaN for less than two windows."""
    shares = []
    for trial in trials:
        n = len(trial.target) // window
        if n < 2:
            shares.append(np.nan)
            continue
        output, target = (unit(a[: n * window].reshape(n, window, -1)) for a in (trial.output, trial.target))
        fit = np.einsum("itf,jtf->ij", output, target)
        true = np.diagonal(fit)[:, None]
        wins = (fit < true).sum() + 0.5 * (fit == true).sum() - 0.5 * n
        shares.append(wins / (n * (n - 1)))
    return np.array(shares)


def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
    """None of sounds, whose waveforms are not compared."""
    if mel_gain_db.applies(decoded):
        return None
    return match_mismatch(decoded.trials, round(cfg.window_s * decoded.sfreq))


MATCH_MISMATCH = Metric(
    "match_mismatch",
    "Match-mismatch",
    "how often a few seconds of a decoded trial fit the same seconds of the piece better than other seconds of it. A "
    "decoder that only knows when trials fade in and out is above 0.5 too, so it does not decide the verdict.",
    ("sequence",),
    score,
    chance=0.5,
    each_subject=True,
    order=20,
)
