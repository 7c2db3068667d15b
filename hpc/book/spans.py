"""Splits the time of an allocation: useful, redone, lost and idle.

idle      allocated, and no rank runs: the start of the supervisor, the looks at the nodes, the time between two
          attempts, a hold, the end of the job
lost      an attempt that ended badly, or was stopped, before it had saved anything
redone    steps that an earlier attempt had done already, computed again after the checkpoint they go on from
useful    everything else
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hpc.book.allocations import Allocation
from hpc.runs import records

Kind = Literal["useful", "redone", "lost", "idle"]
KINDS: tuple[Kind, ...] = ("useful", "redone", "lost", "idle")
IN_VAIN = ("crashed", "hung", "lost", "stopped")
"""Outcomes of an attempt of which nothing stays unless it has saved something."""


@dataclass(frozen=True)
class Span:
    """A piece of an allocation that is all of one kind."""

    began: float
    ended: float
    kind: Kind

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def split(allocation: Allocation, attempts: Sequence[records.Attempt]) -> list[Span]:
    """Return the pieces of an allocation, in their order and without gaps. `attempts`: all of the run, in their order;
    those of other jobs are at other times."""
    spans: list[Span] = []
    at = allocation.began
    for attempt, redone_s in zip(attempts, seconds_redone(attempts), strict=True):
        began, ended = max(at, attempt["started"]), min(attempt["ended"], allocation.ended)
        if ended <= began:
            continue
        spans.append(Span(at, began, "idle"))
        again = min(ended, began + redone_s)
        whole: Kind = "lost" if is_lost(attempt) else "useful"
        spans += [Span(began, again, "redone"), Span(again, ended, whole)]
        at = ended
    spans.append(Span(at, max(at, allocation.ended), "idle"))
    return [span for span in spans if span.seconds > 0]


def is_lost(attempt: records.Attempt) -> bool:
    """Whether nothing stays of an attempt."""
    return attempt["outcome"] in IN_VAIN and not attempt["got_on"]


def seconds_redone(attempts: Sequence[records.Attempt]) -> list[float]:
    """Return of each attempt the seconds in which it did steps again. Steps of an attempt that is lost as a whole count
    there, and not again here."""
    reached = 0
    seconds = []
    for attempt in attempts:
        if is_lost(attempt):
            seconds.append(0.0)
            continue
        done = steps_done(attempt)
        again = min(done, reached) - attempt["from_step"]
        seconds.append(max(0, again) * _step_s(attempt, done) if again > 0 else 0.0)
        reached = max(reached, done)
    return seconds


def steps_done(attempt: records.Attempt) -> int:
    """Return the step to which an attempt has come; of one of earlier versions, by its speed."""
    if "done" in attempt:
        return max(int(attempt["done"]), attempt["from_step"])
    if attempt["outcome"] == "finished":
        return attempt.get("total", attempt["from_step"])
    return attempt["from_step"] + int(attempt.get("per_s", 0.0) * _length_s(attempt))


def _step_s(attempt: records.Attempt, done: int) -> float:
    per_s = attempt.get("per_s", 0.0)
    return 1 / per_s if per_s > 0 else _length_s(attempt) / max(1, done - attempt["from_step"])


def _length_s(attempt: records.Attempt) -> float:
    return max(0.0, attempt["ended"] - attempt["started"])


def by_month(spans: Sequence[Span]) -> dict[str, list[Span]]:
    """Return the spans of each month, `2026-11`, cut where a month ends by this machine's clock."""
    months: dict[str, list[Span]] = {}
    for span in spans:
        while span.seconds > 0:
            until = min(span.ended, _end_of_month(span.began))
            months.setdefault(month_of(span.began), []).append(replace(span, ended=until))
            span = replace(span, began=until)
    return months


def month_of(at: float) -> str:
    return time.strftime("%Y-%m", time.localtime(at))


def _end_of_month(at: float) -> float:
    year, month = time.localtime(at)[:2]
    return time.mktime((year + month // 12, month % 12 + 1, 1, 0, 0, 0, 0, 0, -1))
