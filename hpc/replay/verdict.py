"""Says what came of a run that was computed again: equal, or but for rounding, or where it differs first, and why."""

from dataclasses import dataclass
from typing import Any

from hpc import media
from hpc.config import stages
from hpc.config.stages import Leaves
from hpc.errors import ConfigError
from hpc.replay import causes
from hpc.replay.compare import Comparison, Place, compare
from hpc.runs import provenance, records
from hpc.runs.rundir import RunDir

EQUAL, CLOSE, OTHER = "equal bit for bit", "equal to 1e-6", "not equal"


@dataclass(frozen=True)
class Verdict:
    """The result of a replay.

    Parameters
    ----------
    word
        EQUAL, CLOSE or OTHER.
    lines
        What stands below it, in sentences.
    why
        Everything that is known to have been another.
    """

    run: str
    word: str
    lines: tuple[str, ...]
    why: tuple[str, ...]
    compared: str

    @property
    def is_equal(self) -> bool:
        return self.word != OTHER

    def text(self) -> str:
        return media.lines("\n".join([f"{self.run}: {self.lines[0]}", *(f"  {line}" for line in self.lines[1:])]))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "equal": self.is_equal}


def of(was: RunDir, now: RunDir) -> Verdict:
    """Compare a run that was computed again with what it was."""
    leaves = leaves_of(was)
    comparison = compare(was, now, leaves)
    why = tuple(causes.all_of(was, now))
    word = EQUAL if not comparison.places else CLOSE if comparison.is_close else OTHER
    lines = _lines(word, comparison, why, was, now)
    return Verdict(was.name, word, tuple(lines), why, comparison.compared())


def leaves_of(run: RunDir) -> Leaves:
    """Return what the stage of a run says that it leaves, by the code that is installed."""
    try:
        return stages.what_it_leaves(stages.load(records.plan(run)["entry"]))
    except ConfigError:  # it is not installed, or there is no such stage any more
        return Leaves()


def _lines(word: str, comparison: Comparison, why: tuple[str, ...], was: RunDir, now: RunDir) -> list[str]:
    ranks = next((cause for cause in why if cause.startswith("ranks: ")), "")
    if word == EQUAL:
        others = f" (other {'; other '.join(why)})" if why else ""
        return [f"{EQUAL}{others}", comparison.compared()]
    if word == CLOSE:
        reason = (
            f"other number of ranks, {ranks.removeprefix('ranks: ')}" if ranks else "; ".join(why) or "not known why"
        )
        lines = [f"{CLOSE} ({reason})", f"the largest difference: {comparison.largest.size}"]
        unread = [place for place in comparison.places if place not in comparison.read]
        lines += [f"of other bytes, whose values are not here to compare: {_several(unread)}"] if unread else []
    else:
        lines = [OTHER, *_first(comparison)]
        lines += [f"the largest difference: {comparison.largest.size}"] if comparison.read else []
        lines += [f"why: {cause}" for cause in why]
        lines += [] if why else ["why: nothing that is known is another; does the stage compute the same each time?"]
    numbers = {int(number) for about in map(provenance.read, (was, now)) if (number := about.get("ranks"))}
    promise = causes.promise(was, sorted(numbers)) if ranks and len(numbers) > 1 else ""
    return [
        *lines,
        *([f"of other numbers of ranks the stage says: {promise}"] if promise else []),
        comparison.compared(),
    ]


def _first(comparison: Comparison) -> list[str]:
    named = (("step", comparison.steps), ("figure", comparison.metrics), ("product", comparison.products))
    return [f"the first {what} that differs, of {len(places)}: {places[0]}" for what, places in named if places]


def _several(places: list[Place]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(place.where for place in places[:3]) + more
