"""Which marks of a study are its trials, and what is decoded from them: the classes, their column, their length."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from eegdecode.proposal.seen import EPOCHS, EVENTS_TSV, TRIGGERS, Mark, Sight
from hpc.errors import first_of

MOST_CLASSES, FEWEST_OF_A_CLASS = 20, 6
RARE = 0.05
"""A kind of event that comes so much less often than the most frequent one is a remark, not a class."""
REMARKS = re.compile(
    r"^(bad|edge)([ _]|$)|boundary|new segment|^(start|stop|end|begin)|(start|stop|end|begin)$|impedance|comment|pause|"
    r"^break|^(response|button|key ?press)|sync|status|fixation|^(n/a|nan|)$",
    re.IGNORECASE,
)
COLUMNS = (
    "trial_type",
    "stim_type",
    "condition",
    "event_type",
    "stimulus",
    "label",
    "category",
    "class",
    "text",
    "code",
)
"""Columns that hold classes, the likeliest first; others follow."""
NO_CLASSES = ("sample", "response_time", "rt", "onset_sample", "stim_file", "duration", "HED", "trial", "trial_number")
LONGEST_S = 4.0
"""A window for a trial that lasts long."""
EVOKED_S = 1.0
"""After an event that another follows soon: what it evokes is over by then."""
SHORTEST_S = 0.25
"""Of a trial; events that come closer overlap."""
STEP_S = 0.01


@dataclass(frozen=True)
class Classes:
    """Marks of one source whose column has a few values, which are decoded.

    Parameters
    ----------
    counts
        The number of trials of each class, over the recordings that were looked at.
    left_out
        Values that are no classes.
    duration_s
        The length of a trial; None if the marks have their own, which is at least `window_s`.
    window_s
        The time after an event that is decoded.
    every_s
        The median time from one trial to the next.
    """

    source: str
    column: str
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    duration_s: float | None
    window_s: float
    every_s: float
    overlap: bool
    per_recording: bool = False  # each recording has one class only
    others: tuple[str, ...] = ()  # other columns or sources that might be decoded

    @property
    def seen(self) -> str:
        counted = first_of([f"{n} × {name}" for name, n in self.counts.items()], 8)
        where = f"the column {self.column} of {self.source}" if self.source == EVENTS_TSV else self.source
        every = f", one every {self.every_s:.3g} s" if self.every_s < math.inf else ""
        return f"{where}: {counted}{every}"


def choose(sight: Sight) -> Classes | None:
    """Return the marks that are trials; None if no source has classes."""
    possible = [classes for source in sight.sources for classes in _of_source(sight, source)]
    if not possible:
        return None
    best = possible[0]
    others = tuple(each.seen for each in possible[1:4])
    return Classes(**vars(best) | {"others": others})


def _of_source(sight: Sight, source: str) -> list[Classes]:
    marks_of = sight.marks(source)
    columns = {name: None for marks in marks_of.values() for mark in marks for name in mark.columns}
    ordered = [name for name in COLUMNS if name in columns]
    ordered += [name for name in columns if name not in ordered and name not in NO_CLASSES]
    duration_of = {seen.entry.name: seen.stream.duration for seen in sight.seen}
    classes = [_of_column(source, column, marks_of, duration_of) for column in ordered]
    return [each for each in classes if each is not None]


def _of_column(
    source: str, column: str, marks_of: Mapping[str, Sequence[Mark]], lasts_s: Mapping[str, float]
) -> Classes | None:
    counts = Counter(mark.columns.get(column, "") for marks in marks_of.values() for mark in marks)
    plausible = {value: n for value, n in counts.items() if not REMARKS.search(value.strip())}
    if source.startswith(TRIGGERS):
        plausible.pop("0", None)
    most = max(plausible.values(), default=0)
    kept = {value: n for value, n in plausible.items() if n >= max(FEWEST_OF_A_CLASS, RARE * most)}
    # A mark of the beginning comes once in each recording
    n_in = {
        value: sum(any(mark.columns.get(column) == value for mark in marks) for marks in marks_of.values())
        for value in kept
    }
    repeated = {value: n for value, n in kept.items() if n > n_in[value]}
    kept = repeated if len(repeated) >= 2 else kept
    if not 2 <= len(kept) <= MOST_CLASSES or sum(kept.values()) < 0.5 * sum(plausible.values()):
        return None
    if column not in COLUMNS and all(_is_fraction(value) for value in kept):
        return None
    trials_of = {
        name: sorted((mark for mark in marks if mark.columns.get(column) in kept), key=lambda mark: mark.onset_s)
        for name, marks in marks_of.items()
    }
    trials_of = {name: trials for name, trials in trials_of.items() if trials}
    alone = all(len({mark.columns[column] for mark in trials}) == 1 for trials in trials_of.values())
    duration_s, window_s, every_s, overlap = _lengths(trials_of, lasts_s)
    if source == EPOCHS:
        whole_s = min(mark.duration_s for trials in trials_of.values() for mark in trials)
        duration_s, window_s, overlap = None, _down(whole_s), False
    return Classes(
        source=source,
        column=column,
        counts=dict(sorted(kept.items())),
        left_out={value: n for value, n in sorted(counts.items()) if value not in kept},
        duration_s=duration_s,
        window_s=window_s,
        every_s=every_s,
        overlap=overlap,
        per_recording=alone,
    )


def _is_fraction(value: str) -> bool:
    try:
        return not float(value).is_integer()
    except ValueError:
        return False


def _lengths(
    trials_of: Mapping[str, Sequence[Mark]], lasts_s: Mapping[str, float]
) -> tuple[float | None, float, float, bool]:
    """Return the duration of a trial (None: the marks have theirs), of a window, the usual gap, and whether they
    overlap."""
    gaps = sorted(b.onset_s - a.onset_s for trials in trials_of.values() for a, b in pairwise(trials))
    # The last trial ends with the recording
    rest = min(
        (lasts_s[name] - trials[-1].onset_s for name, trials in trials_of.items() if name in lasts_s), default=math.inf
    )
    usual = gaps[len(gaps) // 2] if gaps else math.inf
    room = min(gaps[0] if gaps else math.inf, rest)
    overlap = gaps[0] < SHORTEST_S if gaps else False
    if overlap:
        room = min(max(usual, EVOKED_S), rest)
    own = sorted(mark.duration_s for trials in trials_of.values() for mark in trials)
    longest = EVOKED_S if usual <= 2 * EVOKED_S else LONGEST_S
    if own[0] >= min(room, EVOKED_S) - STEP_S and own[0] > SHORTEST_S:  # a moment's flash is no trial
        fits = own[0] if not overlap else min(own[0], room)
        return None, _down(min(fits, longest)), usual, overlap
    if math.isinf(room):
        room = longest
    return _down(min(room, longest)), _down(min(room, longest)), usual, overlap


def _down(seconds: float) -> float:
    return max(STEP_S, math.floor(seconds / STEP_S + 1e-6) * STEP_S)
