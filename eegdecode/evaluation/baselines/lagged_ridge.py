"""The linear baseline for time courses: ridge regression from lagged EEG to the target, one decoder per subject.

Known as backward model or temporal response function (Crosse 2016). It uses the same split as the network.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from eegdecode.data.split.segments import Segment, bounds
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predict import open_data
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.statistics.correlation import correlation
from eegdecode.training.model_file import Trained
from eegdecode.training.validator import whole_trial
from hpc.rank.context import Context, Preempted

PENALTIES = np.logspace(-3, 4, 15)  # in units of the mean eigenvalue, so that they mean the same for any data
EVERYBODY = ""  # the key of the decoder of all subjects


def ridge(trained: Trained, windows: Decoded, cfg: Scoring, ctx: Context) -> np.ndarray:
    """The outputs of the ridge on the same windows, [row, feature]."""
    return ridges(trained, [windows], cfg, ctx).outputs[0]


class Ridges(NamedTuple):
    """`outputs` of each set of windows, [row, feature]; and the `weights` that decode the test set, [lag, channel]:
    the mean over subjects and features."""

    outputs: list[np.ndarray]
    weights: np.ndarray


def ridges(trained: Trained, several: Sequence[Decoded], cfg: Scoring, ctx: Context) -> Ridges:
    """Its outputs on the windows of the test set, and of the validation set if these are given too. The validation set
    determines the penalty, one for all subjects.

    A subject without training trials is decoded by a decoder trained on all others.
    """
    data, parts = open_data(trained, ctx)
    n_lags = 1 + round(cfg.lags_s * trained.spec.sfreq)
    every = chain(parts.train, parts.val, parts.test)
    subject_of = {segment: data.recordings[segment.recording].subject for segment in every}
    trained_subjects = {subject_of[segment] for segment in parts.train}
    wanted = sorted({subject_of[segment] for segment in chain(parts.val, parts.test)})
    keys = dict.fromkeys(subject if subject in trained_subjects else EVERYBODY for subject in wanted)
    trials_of = {key: [each for each in parts.train if key in (subject_of[each], EVERYBODY)] for key in keys}
    in_all = sum(PASSES * len(own) for own in trials_of.values())
    in_all += len(several) * len(parts.val) + len(parts.test)
    numbers = count()

    def beat() -> None:
        """Before each trial that is read; there are as many as `in_all`."""
        if ctx.should_stop():
            raise Preempted
        ctx.progress("ridge", next(numbers), in_all)

    decoders = {}
    for key, own in trials_of.items():
        sums = sums_of(data, own, trained.target, n_lags, beat)
        with ctx.beating():  # hours, of 10,000 channels and lags
            decoders[key] = solved(sums)

    def decoded(segment: Segment) -> tuple[np.ndarray, np.ndarray]:
        """The target [time, feature], and the outputs with each penalty, [penalty, time, feature]."""
        beat()
        x, y = trial_of(data, segment, trained.target)
        subject = subject_of[segment]
        return y, decoders[subject if subject in trained_subjects else EVERYBODY].decode(x, len(y))

    in_validation = [correlation(outputs, y).mean(axis=-1) for y, outputs in map(decoded, parts.val)]
    chosen = int(np.mean(in_validation, axis=0).argmax())

    def rows(segments: Sequence[Segment], windows: Decoded) -> np.ndarray:
        whole = {}
        for segment in segments:
            stored = data.recordings[segment.recording]
            place = stored.name, stored.trials.index(segment.trial)
            whole[place] = bounds(segment, stored)[0] / stored.sfreq, decoded(segment)[1][chosen]
        outputs = []
        for window in windows.trials:
            start_s, of_trial = whole[window.recording, window.trial]
            first = max(0, round((window.start_s - start_s) * windows.sfreq))
            first = min(first, len(of_trial) - len(window.output))  # what rounding does at the end
            outputs.append(of_trial[first : first + len(window.output)])
        return np.concatenate(outputs)

    outputs = [rows(*each) for each in zip((parts.test, parts.val), several, strict=False)]
    tested = {subject_of[segment] for segment in parts.test}
    used = sorted({subject if subject in trained_subjects else EVERYBODY for subject in tested})
    return Ridges(outputs, np.mean([decoders[key].by_lag(chosen) for key in used], axis=0))


@dataclass(frozen=True)
class Decoder:
    """Linear maps from lagged EEG to the target, one for each of PENALTIES."""

    n_lags: int
    x_mean: np.ndarray
    y_mean: np.ndarray
    weights: np.ndarray  # [penalty, channel and lag, feature]

    def by_lag(self, penalty: int) -> np.ndarray:
        """[lag, channel]: the mean weight over features."""
        return self.weights[penalty].mean(axis=-1).reshape(-1, self.n_lags).T

    def decode(self, x: np.ndarray, n_steps: int) -> np.ndarray:
        """[time, channel] -> [penalty, step, feature], for so many steps of the target in that time."""
        return lagged(x - self.x_mean, self.n_lags)[at_steps(len(x), n_steps)] @ self.weights + self.y_mean


class Sums(NamedTuple):
    """What all penalties are fitted to, summed over the trials."""

    n_lags: int
    x_mean: np.ndarray
    y_mean: np.ndarray
    covariance: np.ndarray  # [channel and lag, channel and lag]
    shared: np.ndarray  # [channel and lag, feature]


PASSES = 2
"""How often `sums_of` reads each trial."""


def sums_of(
    data: Store, segments: Sequence[Segment], target: str, n_lags: int, beat: Callable[[], None] = lambda: None
) -> Sums:
    """A trial at a time, so memory does not grow with their number."""
    sums = [(len(x), x.sum(axis=0), len(y), y.sum(axis=0)) for x, y in _trials(data, segments, target, beat)]
    n_times, x_sum, n_steps, y_sum = (sum(column) for column in zip(*sums, strict=True))
    x_mean, y_mean = x_sum / n_times, y_sum / n_steps
    n_inputs = len(x_mean) * n_lags
    covariance, shared = np.zeros((n_inputs, n_inputs)), np.zeros((n_inputs, len(y_mean)))
    for x, y in _trials(data, segments, target, beat):
        inputs = lagged(x - x_mean, n_lags)[at_steps(len(x), len(y))]
        covariance += inputs.T @ inputs
        shared += inputs.T @ (y - y_mean)
    return Sums(n_lags, x_mean, y_mean, covariance, shared)


def solved(sums: Sums) -> Decoder:
    """All penalties from one eigendecomposition."""
    values, vectors = np.linalg.eigh(sums.covariance)
    penalised = values + PENALTIES[:, None] * values.mean()
    weights = vectors @ ((vectors.T @ sums.shared) / penalised[:, :, None])
    return Decoder(sums.n_lags, sums.x_mean, sums.y_mean, weights)


def _trials(
    data: Store, segments: Sequence[Segment], target: str, beat: Callable[[], None]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for segment in segments:
        beat()
        yield trial_of(data, segment, target)


def trial_of(data: Store, segment: Segment, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Signal and target of a whole trial, each [time, …] at its own rate."""
    x, y, _ = whole_trial(data, segment, target)
    return x[0].astype(np.float64), y[0].astype(np.float64)


def at_steps(n_times: int, n_steps: int) -> np.ndarray:
    """For each step of the target the sample of the signal at its time."""
    return np.minimum(np.arange(n_steps) * n_times // n_steps, n_times - 1)


def lagged(x: np.ndarray, n_lags: int) -> np.ndarray:
    """[time, channel] -> [time, channel and lag]: each sample with the n_lags - 1 after it, 0 past the end."""
    padded = np.pad(x, ((0, n_lags - 1), (0, 0)))
    return sliding_window_view(padded, n_lags, axis=0).reshape(len(x), -1)
