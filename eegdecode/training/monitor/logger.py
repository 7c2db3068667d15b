"""Log the metrics of training: a line a step in metrics.jsonl, and those of log points for the trackers.

Rank 0 writes; on other ranks a Record does nothing. If the disk is full, training goes on, and the lines are written
when there is room.
"""

import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from eegdecode.training.trackers.feed import Trackers
from hpc.rank.context import FULL_S, Context, Preempted
from hpc.runs import records
from hpc.runs.rundir import FULL, append_line, atomic_write

log = logging.getLogger(__name__)

KEPT_LINES = 100_000
"""Steps that may wait in memory until the disk has room, some tens of MB; beyond that the oldest are lost."""
LAST_S = 60.0
"""How long the end of a run waits for its trackers; that of an attempt that was asked to stop waits shorter."""


class Record:
    """Continues the log after `step`. Lines of later steps by an earlier attempt are dropped, as these steps are
    repeated. `unwritten`: lines that an earlier attempt could not write, which are written now."""

    def __init__(
        self,
        ctx: Context,
        step: int,
        unwritten: Sequence[dict[str, float]] = (),
        trackers: Trackers | None = None,
    ) -> None:
        self.ctx = ctx
        self.path = ctx.run.metrics
        self.trackers = trackers or Trackers()
        self._waiting: deque[dict[str, float]] = deque(maxlen=KEPT_LINES)
        """Lines that could not be written yet."""
        self._error: OSError | None = None
        """The reason, which has been logged."""
        self._put_at = -math.inf
        self._last = step
        if ctx.world.is_first:
            n_b = None if unwritten else _n_bytes_until(step, self.path)
            if n_b is None:
                self._write_anew(step, unwritten)
            else:
                os.truncate(self.path, n_b)
            self.trackers.begin(min([step, *(int(line["step"]) - 1 for line in unwritten)]), step)

    def _write_anew(self, step: int, unwritten: Sequence[dict[str, float]]) -> None:
        by_step = {line["step"]: line for line in (*unwritten, *records.metrics(self.ctx.run)) if line["step"] <= step}
        lines = [by_step[number] for number in sorted(by_step)]
        if missing := _ranges(set(range(1, step + 1)) - {int(line["step"]) for line in lines}):
            log.warning("%s has no line of step %s: damaged, or not written before the end", self.path, missing)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self.ctx.until_there_is_room(lambda: atomic_write(self.path, lambda file: file.write(text.encode())))

    def add(self, lines: Sequence[dict[str, float]]) -> None:
        """Add lines, which are written with the next."""
        if self.ctx.world.is_first:
            self._waiting += lines

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write the figures after `step` steps, and the lines before them."""
        if not self.ctx.world.is_first:
            return
        self.ctx.fence(often=True)
        self._last = step
        self._waiting.append({"step": step, **figures})
        # On a shared disk as often as a heartbeat; but nobody should wait for the figures of a validation
        if time.monotonic() - self._put_at >= self.ctx.heartbeats.patience_s() or "validation_s" in figures:
            self._put_at = time.monotonic()
            self._put_down()

    def _put_down(self) -> None:
        """Write the waiting lines to metrics.jsonl, and show the last one."""
        lines = list(self._waiting)
        try:
            if lines:
                append_line(self.path, *lines)
        except OSError as error:
            self._lost(error)
            return
        self._waiting.clear()
        for line in lines[-1:]:
            self.trackers.line(line)

    def show(self, draw: Callable[[Trackers], None]) -> None:
        """Draw pictures, for trackers only."""
        if self.trackers:
            draw(self.trackers)

    @property
    def unwritten(self) -> list[dict[str, float]]:
        """Return the lines that wait for room, so that a checkpoint keeps them."""
        return list(self._waiting)

    def flush(self, wait: bool = False) -> None:
        """Write to disk what the next attempt needs; called before a checkpoint. `wait`: for room, if the disk is
        full."""
        if not self.ctx.world.is_first:
            return
        if self._waiting:
            self._put_down()
        if wait:
            self._wait()
        try:
            with open(self.path, "ab") as file:
                os.fsync(file.fileno())
            self._error = None
        except OSError as error:
            self._lost(error)
        self.trackers.flush(self._last)

    def close(self, figures: dict[str, float] | None = None) -> None:
        """Wait for room for the lines that are not written yet, unless a stop is requested. `figures`: the final ones,
        if training has ended."""
        if self._waiting:
            self._put_down()
        self._wait()
        if figures is None:
            self.trackers.close()
        else:
            self.trackers.summary(self._last, {f"best/{name}": value for name, value in figures.items()})
            self.trackers.close(finished=True, seconds=LAST_S)

    def _wait(self) -> None:
        """Wait until the lines are written, or a stop is requested."""
        with suppress(Preempted):
            while self._waiting and self._error and self._error.errno in FULL:
                self.ctx.pause(FULL_S)
                self._put_down()

    def _lost(self, error: OSError) -> None:
        if self._error is None:
            log.error(
                "ALERT %s: %s. Training goes on; its metrics are written when there is room, up to %d steps of them",
                self.path.parent,
                error.strerror or error,
                KEPT_LINES,
            )
        self._error = error


def _n_bytes_until(step: int, path: Path) -> int | None:
    """Return how many bytes the lines up to this step take, if they are all there, in order, as they were written. It
    parses none of them: after 100,000 steps that would take longer than all else at the start of a rank."""
    try:
        with open(path, "rb") as file:
            for number in range(1, step + 1):
                line = file.readline()
                if not (line.startswith(b'{"step": %d, ' % number) and line.endswith(b"}\n")) or b"\0" in line:
                    return None
            return file.tell()
    except FileNotFoundError:
        return None


def _ranges(numbers: set[int]) -> str:
    """Format consecutive numbers as ranges, `3-5, 9`."""
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in zip(starts, ends))
