"""By how much a decoded sound is nearer to the true piece than to others, in mel levels: the headline of sounds.

A network that makes sound is judged by its spectra: a waveform that sounds the same may have another phase, and then
r is 0. In each frame, two sounds are as far apart as the levels of mel bands, root mean square. As mismatched pairs,
each decoded sound is compared with other pieces at the same instants, so that what all pieces share counts for nothing.
The null rotates all pieces in time, those that are compared alike, for all subjects alike.
"""

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Headline, Metric, Scoring, once
from eegdecode.evaluation.statistics import grouping, nulls, ranking, sound

N_OTHERS = 8
"""Other pieces that each decoded sound is compared with."""
FEWEST = 8  # frames
SHORTEST_SHIFT_S = 1.0  # loudness is autocorrelated for less than that


def applies(decoded: Decoded) -> bool:
    """Whether they are sounds, and long enough."""
    shortest = min(len(trial.target) for trial in decoded.trials)
    return decoded.is_sound and shortest >= FEWEST * sound.FRAME_S * decoded.sfreq + 1


@once
def gains(decoded: Decoded) -> np.ndarray:
    """[trial, frame]: in dB, with all pieces rotated by every number of frames; the first is the value."""
    outputs, pieces, own = ranking.together(decoded.trials, round(sound.JUDGED_S * decoded.sfreq))
    decoded_db, true_db = (_levels(each[..., 0], decoded.sfreq) for each in (outputs, pieces))
    n = decoded_db.shape[1]
    rotated = np.arange(n) * n + (np.arange(n) + np.arange(n)[:, None]) % n  # [rotation, frame]
    others = min(N_OTHERS, len(pieces) - 1)
    table = np.empty((len(own), n))
    for row, (levels, place) in enumerate(zip(decoded_db, own.tolist(), strict=True)):
        chosen = [(place + step) % len(pieces) for step in range(1 + others)]
        apart = [_apart(levels, true_db[piece]).ravel()[rotated].mean(axis=1) for piece in chosen]
        table[row] = (np.mean(apart[1:], axis=0) if others else apart[0].mean()) - apart[0]
    return table


def _levels(sounds: np.ndarray, sfreq: float) -> np.ndarray:
    """[sound, frame, band] in dB, in frames that hardly overlap."""
    step = round(sound.FRAME_S / sound.HOP_S)
    return 10 * np.log10(np.stack([sound.mel_powers(each, sfreq)[::step] for each in sounds]))


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The root mean square difference of each frame [frame, band] with each other, [frame, frame]."""
    squares = (one**2).mean(axis=1)[:, None] + (other**2).mean(axis=1) - 2 * one @ other.T / one.shape[1]
    return np.sqrt(np.maximum(squares, 0))


def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
    return gains(decoded)[:, 0] if applies(decoded) else None


def null(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return _null_of_trials(decoded, cfg).mean(axis=0)


def by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return grouping.by_subject(grouping.numbers(decoded)[0], gains(decoded)[:, 0])


def by_unit(decoded: Decoded, cfg: Scoring) -> tuple[np.ndarray, str]:
    return gains(decoded)[:, 0], "trials"


def null_by_subject(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    return grouping.by_subject(grouping.numbers(decoded)[0], _null_of_trials(decoded, cfg).T)


@once
def _null_of_trials(decoded: Decoded, cfg: Scoring) -> np.ndarray:
    """[trial, draw]"""
    rotations = nulls.rotations([trial.stimulus for trial in decoded.trials], cfg.n_null, cfg.seed)
    nearest = round(SHORTEST_SHIFT_S / sound.FRAME_S)
    every = zip(decoded.trials, gains(decoded), strict=True)
    return np.array([own[nulls.shifts(rotations[trial.stimulus], len(own), nearest)] for trial, own in every])


def what(decoded: Decoded) -> str:
    text = "by how many dB the mel levels of the decoded sound are nearer to those of the true piece than to those of "
    if len({trial.stimulus for trial in decoded.trials}) > 1:
        return text + "other pieces at the same instants, the mean over trials"
    return (
        text + "other seconds of it, the mean over trials; with a single test piece, following it cannot be separated "
        "from following what all trials share"
    )


MEL_GAIN = Metric(
    "mel_gain_db",
    "Nearer than other pieces",
    "by how much the decoded sound is nearer to the true piece than to others in its spectrum: the root mean square "
    "distance of the levels of 40 mel bands, mean over frames. 0 is chance. No waveform is compared, as the phase of "
    "a sound is not heard.",
    ("sequence",),
    score,
    0.0,
    null,
    unit="dB",
    headline=Headline(what, by_subject, null_by_subject, by_unit=by_unit),
    order=1,
)
