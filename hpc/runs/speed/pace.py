"""How a rank has spent its time: the seconds in each phase, in all and in the last minute. A part of its heartbeat.

"pace": {"steps": 840, "s": [1.2, 80.1, 3.9, 0.6], "ring": [[98, 0.1, 9.4, 0.4, 0.0], …]}
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

PHASES = ("data", "compute", "wait", "save")
"""What a step's time goes into: waiting for the next batch; computing; waiting for other ranks and the network between
them; waiting for a checkpoint to be copied or written."""
KEPT_RANKS = 64
"""Of larger runs the figures are not kept with the attempt: they would make its line long."""


class Pace:
    """Steps, and the seconds that they took in each phase. `ring`: the same of its last spans, the newest last."""

    def __init__(self, steps: int, seconds: Sequence[float], ring: Sequence[Pace] = ()) -> None:
        self.steps = steps
        self.seconds = tuple(seconds)
        self.ring = tuple(ring)

    @property
    def step_s(self) -> tuple[float, ...]:
        """The seconds of a step in each phase."""
        return tuple(seconds / max(self.steps, 1) for seconds in self.seconds)

    @property
    def lately(self) -> Pace:
        """The sum of the last spans, or the whole where there are none."""
        if not self.ring:
            return self
        columns = zip(*(span.seconds for span in self.ring), strict=True)
        return Pace(sum(span.steps for span in self.ring), [sum(column) for column in columns])

    def to_json(self) -> dict[str, Any]:
        ring = [[span.steps, *_rounded(span.seconds)] for span in self.ring]
        return {"steps": self.steps, "s": _rounded(self.seconds), **({"ring": ring} if ring else {})}


def of(record: Mapping[str, Any]) -> Pace | None:
    """Return the pace in a heartbeat, or in what an attempt keeps of it; None if there is none that can be read."""
    pace = record.get("pace")
    if not isinstance(pace, dict):
        return None
    spans = [[pace.get("steps"), *_list(pace.get("s"))], *map(_list, _list(pace.get("ring")))]
    if not all(map(_is_span, spans)):
        return None
    whole, *ring = (Pace(span[0], span[1:]) for span in spans)
    return Pace(whole.steps, whole.seconds, ring)


def _rounded(seconds: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in seconds]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_span(span: Sequence[object]) -> bool:
    steps, *seconds = span or [None]
    numbers = all(isinstance(value, int | float) and 0 <= value < 1e12 for value in seconds)
    return type(steps) is int and 0 <= steps < 1 << 53 and len(seconds) == len(PHASES) and numbers
