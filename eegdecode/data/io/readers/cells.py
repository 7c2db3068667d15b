"""Cell arrays in .mat with a matrix a trial: stim and resp of the mTRF toolbox, eeg.data of CND, trial of FieldTrip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers.variables import Cell, Variable, leaf, shown

RESPONSES = ("resp", "response", "responses", "eeg", "meg", "trial", "trials")
STIMULI = ("stim", "stimulus", "stimuli", "envelope", "env", "features", "feat", "time")
"""Names of cells that hold the brain's response, and of those that hold what it responds to, or its times."""
OPEN_CELLS = 4  # of a file of version 7.3


@dataclass(frozen=True)
class Layout:
    """Trials one after the other."""

    n_channels: int
    n_times: int
    edges: tuple[int, ...]
    read: Callable[[int, int], np.ndarray]
    axes: str


def samples(known: Mapping[str, Variable]) -> str:
    """The cell array that holds the samples of a recording; empty if there is none."""
    sizes = {
        name: sum(int(np.prod(cell.shape)) for cell in variable.cells)
        for name, variable in known.items()
        if variable.cells and not _is_stimulus(name)
    }
    named = [name for name in sizes if leaf(name) in RESPONSES or name.split(".")[0].lower() in RESPONSES]
    return max(named or sizes, key=lambda name: sizes[name], default="")


def _is_stimulus(name: str) -> bool:
    return leaf(name) in STIMULI or name.split(".")[0].lower() in STIMULI


def layout(path: Path, name: str, trials: Sequence[Cell], labels: Sequence[str] = ()) -> Layout:
    """Of cells [time x channel] or [channel x time]: channels are as many in all of them, the times may differ."""
    shapes = [cell.shape for cell in trials]
    counts = [{shape[axis] for shape in shapes} for axis in (0, 1)]
    same = [axis for axis in (0, 1) if len(counts[axis]) == 1 and 0 not in counts[axis]]
    if not same:
        sizes = ", ".join(map(shown, dict.fromkeys(shapes)))
        raise Refused(f"{path}: the cells of {name} do not have the same channels ({sizes}): correct them")
    named = [axis for axis in same if counts[axis] == {len(labels)}]
    if len(named) == 1:
        channel = named[0]
    elif len(same) == 1:
        channel = same[0]
    else:  # all trials are equally long: time is the longer side
        channel = 0 if shapes[0][0] < shapes[0][1] else 1
    ends = list(accumulate(shape[1 - channel] for shape in shapes))
    n_channels = shapes[0][channel]

    @lru_cache(maxsize=OPEN_CELLS)
    def whole(number: int) -> np.ndarray:
        matrix = trials[number]()
        return matrix.T if channel == 0 else matrix

    def read(first: int, stop: int) -> np.ndarray:
        parts = [np.empty((0, n_channels))]
        for number, end in enumerate(ends):
            begin = end - shapes[number][1 - channel]
            if begin < stop and end > first:
                parts.append(whole(number)[max(0, first - begin) : stop - begin])
        return np.concatenate(parts)

    axes = f"{len(trials)} cells of {'[channel x time]' if channel == 0 else '[time x channel]'}"
    return Layout(n_channels, ends[-1], tuple(ends[:-1]), read, axes)
