"""Evaluate targets that follow the signal in time: decoded against true, trial by trial. Numpy only.

r               Pearson's r over a whole trial. Chance: the same with other test pieces, which share what all trials
                have, as their fade-in. There are two nulls, and the larger p counts: the true piece rotated in time,
                which keeps its loudness and rhythm; and only what differs from other pieces rotated, with the rest in
                place. A piece is rotated alike for all subjects, as their brains respond alike.
rank_accuracy   How many of the other test pieces fit a decoded trial worse than the true one does. Chance: 0.5.
match_mismatch  How often a segment of the decoded signal matches its own segment of the piece best. Chance: 0.5.

Spectra and spectrograms are in daly.py, sounds in audio_metrics.py: where a target has them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.metrics import audio_metrics, daly, intervals, nulls, ranking
from eegdecode.evaluation.metrics.correlation import unit
from eegdecode.evaluation.metrics.results import ALPHA, Metric, Result, SubjectResult, TrialMetric

SHORTEST_SHIFT_S = 1.0  # envelopes are autocorrelated for less than that
OF_SUBJECTS = ("rank_accuracy", "match_mismatch")
"""Metrics that are reported for each subject besides r."""


def evaluate(decoded: Decoded, cfg: Scoring) -> Result:
    """All metrics that apply to the target, of the network and of the baselines on the same trials.

    A single piece has no rank, and trials may be too short for two windows: such metrics are left out.
    """
    rotations = _rotations(decoded.trials, cfg)
    r = _Rotated.of(decoded, rotations)
    figures = _figures(decoded, r, cfg)
    metrics = {name: figure.metric() for name, figure in figures.items()} | {"r": r.metric()}
    others = {name: decoded.by(name) for name in decoded.baselines}
    rotated = {name: _Rotated.of(other, rotations) for name, other in others.items()}
    baselines = {
        name: {figure: float(np.nanmean(of.value)) for figure, of in _figures(other, rotated[name], cfg).items()}
        for name, other in others.items()
    }
    subjects = _subjects(decoded.trials, r, rotated, figures)
    low, high = (float(edge) for edge in intervals.of_mean(np.array([subject.value for subject in subjects])))
    if not np.isnan(low):
        metrics["r"] = replace(metrics["r"], low=low, high=high)
    what = "Pearson's r of decoded and true over a trial, the mean over trials"
    if len(rotations) < 2:
        what += "; with a single test piece, following it cannot be separated from following what all trials share"
    return Result(decoded.kind, "r", what, metrics, baselines, subjects)


def _figures(decoded: Decoded, r: "_Rotated", cfg: Scoring) -> dict[str, TrialMetric]:
    metrics = {"r": TrialMetric(r.true, float(r.others.mean()))}
    matches = match_mismatch(decoded.trials, round(cfg.window_s * decoded.sfreq))
    metrics |= _ranks(decoded.trials, cfg)
    if not np.isnan(matches).all():
        metrics["match_mismatch"] = TrialMetric(matches, 0.5)
    return metrics | daly.figures(decoded, cfg) | audio_metrics.figures(decoded)


def _subjects(
    trials: Sequence[DecodedTrial], r: "_Rotated", rotated: Mapping[str, "_Rotated"], figures: Mapping[str, TrialMetric]
) -> tuple[SubjectResult, ...]:
    rows = []
    for name in sorted({trial.subject for trial in trials}):
        own = np.array([trial.subject == name for trial in trials])
        of_r = r.metric(own)
        assert of_r.p is not None and of_r.bound is not None
        baselines = {other: float(of.true[own].mean()) for other, of in rotated.items()}
        of_own = {figure: figures[figure].value[own] for figure in OF_SUBJECTS if figure in figures}
        also = {figure: float(np.nanmean(each)) for figure, each in of_own.items() if not np.isnan(each).all()}
        rows.append(SubjectResult(name, int(own.sum()), of_r.value, of_r.p, of_r.p, baselines, of_r.bound, also))
    corrected = intervals.holm(np.array([row.p for row in rows]))
    return tuple(replace(row, p_holm=float(p)) for row, p in zip(rows, corrected, strict=True))


def _rotations(trials: Sequence[DecodedTrial], cfg: Scoring) -> dict[str, np.ndarray]:
    """For each piece where its rotations start, as fractions of what is allowed."""
    stimuli = sorted({trial.stimulus for trial in trials})
    drawn = nulls.draws(cfg.seed, nulls.ROTATIONS).random((len(stimuli), cfg.n_null))
    return dict(zip(stimuli, drawn, strict=True))


@dataclass(frozen=True)
class _Rotated:
    """r of each trial [trial], and the mean with other pieces; and what nothing decoded gives, in one or two ways
    [trial, rotation]."""

    true: np.ndarray
    others: np.ndarray
    unrelated: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, decoded: Decoded, rotations: dict[str, np.ndarray]) -> "_Rotated":
        nearest = round(SHORTEST_SHIFT_S * decoded.sfreq)

        def drawn(trial: DecodedTrial, at_shift: np.ndarray) -> np.ndarray:
            return at_shift[nulls.shifts(rotations[trial.stimulus], len(at_shift), nearest)]

        whole = [nulls.rotated(trial.output, trial.target) for trial in decoded.trials]
        true = np.array([at_shift[0] for at_shift in whole])
        null = np.array([drawn(*each) for each in zip(decoded.trials, whole, strict=True)])
        if len(rotations) < 2:
            return cls(true, np.zeros(len(true)), (null,))
        outputs, pieces, own = ranking.together(decoded.trials)
        outputs, pieces = unit(outputs), unit(pieces)
        rest = (pieces.sum(axis=0) - pieces) / (len(pieces) - 1)
        # The differences sum to 0 over pieces: a decoder with the same output for all has 0 here, whatever pieces share
        apart = [nulls.products(output, (pieces - rest)[piece]) for output, piece in zip(outputs, own, strict=True)]
        shared = true - [at_shift[0] for at_shift in apart]
        beyond = np.array([drawn(*each) for each in zip(decoded.trials, apart, strict=True)])
        others = np.array([(output * rest[piece]).sum() for output, piece in zip(outputs, own, strict=True)])
        return cls(true, others / outputs.shape[-1], (null, shared[:, None] + beyond))

    def metric(self, of: np.ndarray | slice = slice(None)) -> Metric:
        """The mean over these trials; its p and its bound are the worse of both ways."""
        value, means = float(self.true[of].mean()), [null[of].mean(axis=0) for null in self.unrelated]
        bound = max(float(np.quantile(mean, 1 - ALPHA)) for mean in means)
        p = max(float(nulls.p_value(value, mean)) for mean in means)
        return Metric(value, float(self.others[of].mean()), bound, p)


def _ranks(trials: Sequence[DecodedTrial], cfg: Scoring) -> dict[str, TrialMetric]:
    """The share of other pieces that fit worse, ties counting half. Nothing where there is one piece only."""
    outputs, pieces, own = ranking.together(trials)
    if len(pieces) < 2:
        return {}
    return {"rank_accuracy": daly.ranked(ranking.by_correlation(outputs, pieces), own, cfg)}


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
