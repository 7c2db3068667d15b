"""Labels of trials, from the columns of their events. A name becomes a class number, the same in all recordings."""

from collections.abc import Iterable, Sequence

import numpy as np

from eegdecode.data.events import stimuli
from eegdecode.signals import Trial


def classes(labels: Iterable[str | float]) -> tuple[str, ...]:
    """The names of classes, sorted, so that a name has one number in all recordings; empty if all are numbers."""
    all_labels = list(labels)
    if not any(isinstance(label, str) for label in all_labels):
        return ()
    return tuple(sorted({_name(label) for label in all_labels}))


def values(column: str, trials: Sequence[Trial]) -> list[str | float]:
    """The value of each trial in a column of the events; for the column `stimulus`, its stimulus."""
    lacking = [trial for trial in trials if column != "stimulus" and column not in trial.labels]
    if lacking:
        columns = ", ".join(sorted({name for trial in trials for name in trial.labels})) or "none"
        raise ValueError(
            f"{len(lacking)} of {len(trials)} trials, the first at {lacking[0].start:.2f} s, have no value in column "
            f"{column!r} of the events (there are: {columns}): leave these trials out, or take another column"
        )
    return [stimuli.whole(trial.stimulus)[0] if column == "stimulus" else trial.labels[column] for trial in trials]


def numbered(column: str, labels: Sequence[str | float], known: Sequence[str]) -> np.ndarray:
    """[trial, 1]: the number of each label among the known classes; labels that all are numbers stay what they are."""
    if not known and not classes(labels):
        return np.array(labels, np.float32).reshape(-1, 1)
    number = {name: index for index, name in enumerate(known)}
    unknown = sorted({_name(label) for label in labels} - number.keys())
    if unknown:
        raise ValueError(
            f"{column} has {', '.join(unknown[:3])}, which is not one of the {len(known)} classes of the study: "
            "give the classes of all recordings (targets.classes)"
        )
    return np.array([[number[_name(label)]] for label in labels], np.float32).reshape(-1, 1)


def _name(label: str | float) -> str:
    return label if isinstance(label, str) else f"{label:g}"
