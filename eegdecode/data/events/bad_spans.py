"""Parts of a recording that must not be used, and what becomes of the trials that they touch.

spans = annotated(annotations, rows)           annotations and rows of events.tsv whose text begins with BAD
applied("reject", trials, spans)               what is left of the trials, and why the others are not
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeVar

from eegdecode.data.events import stimuli
from eegdecode.data.events.events import AnnotationLike
from eegdecode.signals import BadSpan, Trial

How = Literal["reject", "mask", "ignore"]
COLUMNS = ("trial_type", "value")
"""Of events.tsv, into which mne-bids writes the text of an annotation."""


A = TypeVar("A", bound=AnnotationLike)


class Dropped(NamedTuple):
    """A trial that is not used, or of which parts are not: `cut` is what it was cut into."""

    trial: Trial
    spans: tuple[BadSpan, ...]
    cut: int = 0

    @property
    def reasons(self) -> str:
        return ", ".join(dict.fromkeys(span.detail or span.reason for span in self.spans))


def is_bad(text: str) -> bool:
    """Whether an annotation marks what must not be used: MNE's rule, by the first three letters."""
    return text.strip().lower().startswith("bad")


def is_bad_row(row: Mapping[str, str]) -> bool:
    return any(is_bad(row.get(column) or "") for column in COLUMNS)


def others(rows: list[dict[str, str]] | None) -> list[dict[str, str]] | None:
    """The rows that mark no bad span; None where there is no table."""
    return None if rows is None else [row for row in rows if not is_bad_row(row)]


def other_annotations(annotations: Sequence[A]) -> list[A]:
    """Those that mark no bad span."""
    return [note for note in annotations if not is_bad(note.text)]


def annotated(annotations: Sequence[AnnotationLike], rows: Sequence[Mapping[str, str]] | None) -> tuple[BadSpan, ...]:
    """The bad spans that the recording itself has, in order of their start; what both sources have, once."""
    spans = {
        (note.onset_s, note.onset_s + note.duration_s, note.text.strip()) for note in annotations if is_bad(note.text)
    }
    near = {(round(start, 2), round(stop, 2)) for start, stop, _ in spans}
    for row in rows or ():
        if is_bad_row(row):
            text = next(value for column in COLUMNS if is_bad(value := row.get(column) or "")).strip()
            try:
                start, duration = float(row["onset"]), _seconds(row.get("duration"))
            except (KeyError, ValueError):
                raise ValueError(
                    f"events.tsv marks {text} at onset {row.get('onset')!r}, which is no number: correct it"
                ) from None
            if (round(start, 2), round(start + duration, 2)) not in near:
                spans.add((start, start + duration, text))
    return tuple(BadSpan(*span) for span in sorted(spans))


def _seconds(duration: str | None) -> float:
    """`n/a` and nothing stand for a moment."""
    return 0.0 if (duration or "n/a").strip().lower() in ("n/a", "nan") else float(duration or 0.0)


def touches(span: BadSpan, start: float, stop: float) -> bool:
    """Whether the span has a part of the time from start to stop; where it is a moment, whether it is in there."""
    if span.stop > span.start:
        return span.start < stop - TOLERANCE_S and span.stop > start + TOLERANCE_S
    return start <= span.start < stop


TOLERANCE_S = 1e-6
"""Times in tables are rounded: what shares less only touches."""


def applied(
    how: How, trials: Sequence[Trial], spans: Sequence[BadSpan], shortest_s: float = 0.0
) -> tuple[tuple[Trial, ...], tuple[Dropped, ...]]:
    """What is left of the trials, in order, and those that are not used as they were.

    Parameters
    ----------
    how
        reject: a trial that a span touches is dropped. mask: the span is cut out of it, and each rest is a trial, named
        as that piece of its stimulus. ignore: all trials stay.
    shortest_s
        Rests that are shorter than this are dropped.
    """
    left: list[Trial] = []
    dropped: list[Dropped] = []
    for trial in trials:
        mine = tuple(span for span in spans if touches(span, trial.start, trial.start + trial.duration))
        if how == "ignore" or not mine:
            left.append(trial)
            continue
        rests = _rests(trial, mine, shortest_s) if how == "mask" else []
        left += rests
        dropped.append(Dropped(trial, mine, len(rests)))
    return tuple(left), tuple(dropped)


def _rests(trial: Trial, spans: Sequence[BadSpan], shortest_s: float) -> list[Trial]:
    """What is left of a trial between the spans, on the clock of its stimulus."""
    speed = float(trial.labels.get(stimuli.SPEED, 1.0))
    rests, end = [], trial.start + trial.duration
    at = trial.start
    for start, stop in [*sorted((span.start, span.stop) for span in spans), (end, end)]:
        if start - at > TOLERANCE_S and start - at >= shortest_s:
            since_s, until_s = ((second - trial.start) * speed for second in (at, start))
            piece = stimuli.piece(trial.stimulus, since_s, until_s)
            rests.append(replace(trial, start=at, duration=start - at, stimulus=piece))
        at = max(at, stop)
    return rests


def counted(spans: Sequence[BadSpan]) -> str:
    """How many there are of each reason, as a phrase."""
    counts = Counter(span.reason for span in spans)
    return ", ".join(f"{count} × {reason}" for reason, count in counts.most_common()) or "none"
