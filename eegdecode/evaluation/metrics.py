"""Decoded against heard, each figure beside what chance gives. Numpy only.

r               Pearson's r over a whole trial. Chance: the same with the heard piece rotated in time, which keeps its
                loudness and its rhythm. A piece is rotated alike for all who heard it, as their brains answered alike.
rank_accuracy   How many of the other test pieces fit a decoded trial worse than the true one does. Chance: 0.5.
match_mismatch  How often some seconds of decoded signal fit the same of the piece better than others. Chance: 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eegdecode.evaluation import Scoring, nulls, ranking
from eegdecode.evaluation.correlation import unit
from eegdecode.evaluation.predictions import Decoded, DecodedTrial

ALPHA = 0.05
SHORTEST_SHIFT_S = 1.0  # envelopes resemble themselves for less than that


@dataclass(frozen=True)
class Figure:
    """A number and the one chance gives: for r, what 95 % of rotations stay below; `p` the share that reach `value`."""

    value: float
    chance: float
    p: float | None = None

    @property
    def is_above_chance(self) -> bool:
        return self.p is not None and self.p < ALPHA


@dataclass(frozen=True)
class TrialScore:
    subject: str
    stimulus: str
    r: float
    r_ridge: float


@dataclass(frozen=True)
class SubjectScore:
    subject: str
    n_trials: int
    r: Figure
    r_ridge: Figure
    rank_accuracy: Figure | None
    match_mismatch: Figure | None


@dataclass(frozen=True)
class Scores:
    """Means over all test trials, over those of each subject, and each trial in the order of the decoded ones.

    None where the test part cannot tell: a single piece has no rank, and trials may be too short for two windows.
    """

    r: Figure
    r_ridge: Figure
    rank_accuracy: Figure | None
    match_mismatch: Figure | None
    subjects: tuple[SubjectScore, ...]
    trials: tuple[TrialScore, ...]

    @property
    def verdict(self) -> str:
        return "above chance" if self.r.is_above_chance else "not above chance"

    def summary(self) -> dict[str, object]:
        """What the stage returns."""
        named = {
            "r": self.r,
            "r_ridge": self.r_ridge,
            "rank_accuracy": self.rank_accuracy,
            "match_mismatch": self.match_mismatch,
        }
        figures = {name: {"value": f.value, "chance": f.chance} for name, f in named.items() if f is not None}
        return {**figures, "p": self.r.p, "verdict": self.verdict}


def score(decoded: Decoded, ridge: Decoded, cfg: Scoring) -> Scores:
    """All scores of the network's trials; the ridge's r on the same trials with the same rotations."""
    trials = decoded.trials
    rotations = _rotations(trials, cfg)
    r, r_ridge = (_Rotated.of(d, rotations) for d in (decoded, ridge))
    ranks = rank_accuracy(trials)
    matches = match_mismatch(trials, round(cfg.window_s * decoded.sfreq))

    subjects = []
    for subject in sorted({trial.subject for trial in trials}):
        own = np.array([trial.subject == subject for trial in trials])
        figures = r.figure(own), r_ridge.figure(own), _against_half(ranks[own]), _against_half(matches[own])
        subjects.append(SubjectScore(subject, int(own.sum()), *figures))
    everything = np.ones(len(trials), bool)
    return Scores(
        r.figure(everything),
        r_ridge.figure(everything),
        _against_half(ranks),
        _against_half(matches),
        tuple(subjects),
        tuple(
            TrialScore(trial.subject, trial.stimulus, float(own), float(linear))
            for trial, own, linear in zip(trials, r.true, r_ridge.true, strict=True)
        ),
    )


def _rotations(trials: Sequence[DecodedTrial], cfg: Scoring) -> dict[str, np.ndarray]:
    """For each piece where its rotations start, as fractions of what is allowed."""
    stimuli = sorted({trial.stimulus for trial in trials})
    drawn = nulls.draws(cfg.seed, nulls.ROTATIONS).random((len(stimuli), cfg.n_null))
    return dict(zip(stimuli, drawn, strict=True))


@dataclass(frozen=True)
class _Rotated:
    """r of each trial [trial], and with the piece rotated [trial, rotation]."""

    true: np.ndarray
    null: np.ndarray

    @classmethod
    def of(cls, decoded: Decoded, rotations: dict[str, np.ndarray]) -> "_Rotated":
        true, null = [], []
        for trial in decoded.trials:
            at_shift = nulls.rotated(trial.output, trial.target)
            nearest = round(SHORTEST_SHIFT_S * decoded.sfreq)
            shifts = nulls.shifts(rotations[trial.stimulus], len(at_shift), nearest)
            true.append(at_shift[0])
            null.append(at_shift[shifts])
        return cls(np.array(true), np.array(null))

    def figure(self, which: np.ndarray) -> Figure:
        """The mean over some trials, against that of each rotation."""
        value, null = float(self.true[which].mean()), self.null[which].mean(axis=0)
        return Figure(value, float(np.quantile(null, 1 - ALPHA)), float(nulls.p_value(value, null)))


def rank_accuracy(trials: Sequence[DecodedTrial]) -> np.ndarray:
    """[trial]: the share of other pieces that fit worse, ties counting half; NaN when there is one piece only.

    All are cut to the shortest piece, so that none is told by its length.
    """
    pieces = {trial.stimulus: trial.target for trial in reversed(trials)}
    n_times = min(len(trial.target) for trial in trials)
    outputs = np.stack([trial.output[:n_times] for trial in trials])
    targets = np.stack([target[:n_times] for target in pieces.values()])
    own = np.array([list(pieces).index(trial.stimulus) for trial in trials])
    return ranking.ranks(ranking.by_correlation(outputs, targets), own)


def match_mismatch(trials: Sequence[DecodedTrial], window: int) -> np.ndarray:
    """[trial]: over all pairs of windows, how often the matching one fits better; NaN for less than two windows."""
    shares = []
    for trial in trials:
        n = len(trial.target) // window
        output, target = (unit(a[: n * window].reshape(n, window, -1)) for a in (trial.output, trial.target))
        fit = np.einsum("itf,jtf->ij", output, target)
        true = np.diagonal(fit)[:, None]
        wins = (fit < true).sum() + 0.5 * (fit == true).sum() - 0.5 * n
        shares.append(wins / (n * (n - 1)) if n > 1 else np.nan)
    return np.array(shares)


def _against_half(shares: np.ndarray) -> Figure | None:
    known = shares[~np.isnan(shares)]
    return Figure(float(known.mean()), 0.5) if len(known) else None
