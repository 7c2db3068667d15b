"""Metrics of decoded waveforms: the value for the true piece, and as their chance level the value for other pieces.

They are over the first ten seconds of each trial. There are none if the target is no sound, or too short, or if there
is a single piece.
"""

from collections.abc import Callable, Iterator

import numpy as np

from eegdecode.evaluation.metrics import Decoded, Metric, Scoring, once
from eegdecode.evaluation.statistics import sound

N_OTHERS = 3
"""Other pieces that each decoded trial is compared with."""
MOST_TRIALS = 100
"""At most so many trials, evenly spaced in the test set: each takes half a second."""

Way = Callable[[np.ndarray, np.ndarray, float], dict[str, float]]
"""Compares two sounds of one length: (output, target, rate) -> the value of each metric by name, without those that
these two have not."""


def are_comparable(decoded: Decoded) -> bool:
    """Whether they are sounds of several pieces, and long enough."""
    shortest = min(len(trial.target) for trial in decoded.trials)
    several = len({trial.stimulus for trial in decoded.trials}) > 1
    return decoded.is_sound and several and shortest >= sound.NOTES_S * decoded.sfreq


def of_sounds(
    name: str,
    label: str,
    how: str,
    way: Way,
    order: float,
    unit: str = "",
    lower_is_better: bool = False,
    applies: Callable[[Decoded], bool] = are_comparable,
) -> Metric:
    """The metric of that name among those that `way` computes."""

    def score(decoded: Decoded, cfg: Scoring) -> np.ndarray | None:
        if not applies(decoded) or name not in compared(decoded, way):
            return None
        return compared(decoded, way)[name][0]

    def chance(decoded: Decoded, cfg: Scoring) -> float:
        return compared(decoded, way)[name][1]

    return Metric(
        name, label, how, ("sequence",), score, chance, unit=unit, lower_is_better=lower_is_better, order=order
    )


@once
def compared(decoded: Decoded, way: Way) -> dict[str, tuple[np.ndarray, float]]:
    """Each metric for the true pieces [trial], and its mean for others."""
    true: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for output, target, is_true in _pairs(decoded):
        for name, value in way(output, target, decoded.sfreq).items():
            (true if is_true else others).setdefault(name, []).append(value)
    both = [name for name in true if name in others]  # PESQ may find no speech in any of one side
    return {name: (np.array(true[name]), float(np.mean(others[name]))) for name in both}


def _pairs(decoded: Decoded) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """A decoded sound, a piece of the same length, and whether it is the true one."""
    pieces = {trial.stimulus: trial.target for trial in reversed(decoded.trials)}
    names = sorted(pieces)
    most = round(sound.JUDGED_S * decoded.sfreq)
    for trial in decoded.trials[:: -(-len(decoded.trials) // MOST_TRIALS)]:
        place = names.index(trial.stimulus)
        near = dict.fromkeys(names[(place + step) % len(names)] for step in range(1, 1 + min(N_OTHERS, len(names) - 1)))
        for target, is_true in [(trial.target, True), *((pieces[name], False) for name in near)]:
            n_times = min(most, len(target), len(trial.output))
            yield trial.output[:n_times, 0], target[:n_times, 0], is_true
