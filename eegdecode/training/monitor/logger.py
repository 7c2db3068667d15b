"""Log the metrics of training: a line a step in metrics.jsonl, and those of log points for TensorBoard.

Rank 0 writes; on other ranks a Record does nothing. If the disk is full, training goes on, and the lines are written
when there is room.
"""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.rank.context import FULL_S, Context, Preempted
from hpc.runs import records
from hpc.runs.rundir import FULL, append_line, atomic_write

if TYPE_CHECKING:
    from torch.utils import tensorboard

log = logging.getLogger(__name__)

KEPT_LINES = 100_000
"""Steps that may wait in memory until the disk has room, some tens of MB; beyond that the oldest are lost."""
AGAIN_S = 30.0
"""How often TensorBoard's writer is reopened on a full disk."""


class Record:
    """Continues the log after `step`. Lines of later steps by an earlier attempt are dropped, as these steps are
    repeated. `unwritten`: lines that an earlier attempt could not write, which are written now."""

    def __init__(self, ctx: Context, step: int, unwritten: Sequence[dict[str, float]] = ()) -> None:
        self.ctx = ctx
        self.path = ctx.run.metrics
        self.writer: tensorboard.SummaryWriter | None = None
        self._waiting: deque[dict[str, float]] = deque(maxlen=KEPT_LINES)
        """Lines that could not be written yet."""
        self._error: OSError | None = None
        """The reason, which has been logged."""
        self._opened_at = -AGAIN_S
        self._put_at = -AGAIN_S
        self._flushed = min([step, *(int(line["step"]) - 1 for line in unwritten)])
        """The last step that is safe in TensorBoard's file."""
        self._last = step
        if ctx.world.is_first:
            n_b = None if unwritten else _n_bytes_until(step, self.path)
            if n_b is None:
                self._write_anew(step, unwritten)
            else:
                os.truncate(self.path, n_b)
            self._put_down()

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
        """Write the waiting lines to metrics.jsonl, and the last one to TensorBoard; a new TensorBoard writer gets all
        lines that the one before may have lost."""
        lines = list(self._waiting)[-1:]
        try:
            if self._waiting:
                append_line(self.path, *self._waiting)
                self._waiting.clear()
            if self.writer is None:
                if time.monotonic() - self._opened_at < AGAIN_S:
                    return
                self._opened_at = time.monotonic()
                self.writer = self._new_writer()
                lines = records.metrics(self.ctx.run) if self._last > self._flushed else []
            for line in lines:
                self._show(line)
        except OSError as error:  # TensorBoard's writer has a thread of its own, which such an error ends for good
            self._lost(error)

    def show(self, draw: "Callable[[tensorboard.SummaryWriter], None]") -> None:
        """Draw pictures, for TensorBoard only; on a full disk they are not drawn."""
        if self.writer is None:
            return
        try:
            draw(self.writer)
        except OSError as error:
            self._lost(error)

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
            if self.writer is not None:
                self.writer.flush()
                self._flushed, self._error = self._last, None
        except OSError as error:
            self._lost(error)

    def close(self) -> None:
        """Wait for room for the lines that are not written yet, unless a stop is requested."""
        self._opened_at = -AGAIN_S
        if self._waiting or (self.writer is None and self.ctx.world.is_first):
            self._put_down()
        self._wait()
        if self.writer is None:
            return
        try:
            self.writer.close()
        except OSError as error:
            self._lost(error)

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
        self._error, self.writer = error, None

    def _show(self, line: dict[str, float]) -> None:
        assert self.writer is not None
        if line["step"] <= self._flushed:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        # One event for all of them: TensorBoard opens its file for each
        values = [Summary.Value(tag=name, simple_value=value) for name, value in line.items() if name != "step"]
        self.writer._get_file_writer().add_summary(Summary(value=values), int(line["step"]))

    def _new_writer(self) -> "tensorboard.SummaryWriter":
        # Here, not at the top: it takes a second to import
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.ctx.run.tensorboard), purge_step=self._flushed + 1)


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
