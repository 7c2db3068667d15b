"""Group the windows of a test set: by subject, by trial, by recording in time."""

from itertools import groupby

import numpy as np

from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial, once
from eegdecode.evaluation.statistics import exchange


@once
def numbers(decoded: Decoded) -> tuple[np.ndarray, np.ndarray]:
    """[window]: the number of its subject, and of its trial."""
    subjects = np.unique([trial.subject for trial in decoded.trials], return_inverse=True)[1]
    trials = np.unique([f"{trial.recording} {trial.trial}" for trial in decoded.trials], return_inverse=True)[1]
    return subjects.reshape(-1), trials.reshape(-1)


def by_subject(subjects: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[…, window] -> [… , subject]: the mean over each subject's windows."""
    counts = np.bincount(subjects)
    return np.stack([values[..., subjects == number].sum(axis=-1) for number in range(len(counts))], axis=-1) / counts


@once
def is_of_people(decoded: Decoded) -> bool:
    """Whether all windows of a subject have the same target, as a diagnosis or a score."""
    truth, (subjects, _) = decoded.truth, numbers(decoded)
    return all(len(np.unique(truth[subjects == number], axis=0)) == 1 for number in np.unique(subjects))


@once
def units(decoded: Decoded) -> exchange.Units:
    """What may be permuted if the targets are classes."""
    subjects, trials = numbers(decoded)
    recordings = np.unique([f"{each.subject} {each.recording}" for each in decoded.trials], return_inverse=True)[1]
    starts = np.array([each.start_s for each in decoded.trials])
    blocks = [each.block for each in decoded.trials]
    return exchange.units(decoded.truth[:, 0], trials, recordings.reshape(-1), subjects, starts, blocks)


@once
def in_time(decoded: Decoded) -> list[np.ndarray]:
    """The rows of each recording, in time."""
    order = sorted(range(len(decoded.trials)), key=lambda row: _when(decoded.trials[row]))
    by_recording = groupby(order, key=lambda row: _when(decoded.trials[row])[:2])
    return [np.array(list(rows)) for _, rows in by_recording]


@once
def trials_in_time(decoded: Decoded) -> tuple[np.ndarray, list[np.ndarray]]:
    """[window]: the row of the first window of its trial; and these rows of each recording, in time."""
    first = np.empty(len(decoded.trials), int)
    trials, recordings = numbers(decoded)[1], []
    for rows in in_time(decoded):
        _, begins, own = np.unique(trials[rows], return_index=True, return_inverse=True)
        first[rows] = rows[begins[own.reshape(-1)]]
        recordings.append(rows[np.sort(begins)])
    return first, recordings


def _when(trial: DecodedTrial) -> tuple[str, str, float, int]:
    return trial.subject, trial.recording, trial.start_s, trial.trial
