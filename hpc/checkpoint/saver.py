"""Saves checkpoints in the background: training waits for a copy in memory, and a thread writes it.

Every rank has a Saver and calls it at the same steps. With DDP the first rank writes; with sharded tensors each rank
writes its own, and leaves a mark next to it when it is on the disk. The first rank's thread waits for the marks.
They are files, because collectives belong to training.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hpc.checkpoint import checkpoint
from hpc.checkpoint.format import HostBuffer
from hpc.rank.context import FULL_S, Backoff, Context
from hpc.runs import records
from hpc.runs.rundir import FULL, make_folder, read_json, write_json
from hpc.runs.speed.phases import CLOCK

log = logging.getLogger(__name__)

MARKS_S = 600
"""How long ranks may take to write their files, after the first has written its own."""
SHORTEST_S, LONGEST_S = 30.0, 1800.0
PRIOR_S = 24 * 3600.0
"""The mean time between failures that is assumed until the run has had some."""


class Saver:
    """Writes the checkpoints of one attempt.

    Parameters
    ----------
    ctx
        The run, the rank and the attempt. An attempt cannot damage the checkpoints of a later one.
    every
        Steps between saves. None: as often as pays, given the time of a save and the failures of this run.
    keep
        How many of the newest to keep, besides the best.
    keep_every
        Checkpoints of steps divisible by this are kept for good; 0 for none.
    """

    def __init__(self, ctx: Context, every: int | None = None, keep: int = 2, keep_every: int = 0) -> None:
        if keep < 2:
            raise ValueError(f"keep must be at least 2, got {keep}: the last one may be the one that is damaged")
        self.ctx = ctx
        self.folder = ctx.run.checkpoints
        self.every, self.keep, self.keep_every = every, keep, keep_every
        self.blocked_s = 0.0
        """How long training has waited for the last save."""
        self.n_waited = 0
        """How often a save was requested while the one before was still being written."""
        self._staging = HostBuffer()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._writing: Future[object] | None = None
        self._saved_at = time.monotonic()
        self._mtbf_s = mean_between_failures_s(records.attempts(ctx.run))
        self._interval_s = SHORTEST_S  # the first save is early, to learn what one costs
        self._whole: set[int] = set()
        """The steps whose files this process has written or looked at: they are not looked at again after each save."""
        if ctx.world.is_first:
            self.ctx.fence()
            checkpoint.sweep(self.folder, ctx.attempt)
            for step in checkpoint.whole_steps(self.folder)[-1:]:
                commit = checkpoint.commit_of(checkpoint.at(self.folder, step)) or {}
                self._interval_s = interval_s(commit["seconds"], self._mtbf_s)

    def is_planned(self, step: int) -> bool:
        """Whether the number of the step says to save after it, which is the same on all ranks."""
        return any(every and step % every == 0 for every in (self.keep_every, self.every))

    def due(self, step: int) -> bool:
        """Whether to save after that step, as this rank sees it; the ranks agree on it, as on stopping."""
        if self.every is not None or self.is_planned(step):
            return self.is_planned(step)
        return self.ctx.world.is_first and time.monotonic() - self._saved_at >= self._interval_s

    def save(
        self,
        step: int,
        state: dict[str, Any],
        best: int | None = None,
        last: bool = False,
        later: Collection[str] = (),
    ) -> None:
        """Copy the state and start writing it. Raises the error of the save before, unless that was a full disk.

        Parameters
        ----------
        step
            How many steps the state has seen.
        state
            Tensors and plain values, in dicts and lists.
        best
            The best step so far: its checkpoint, if there is one, is not deleted.
        last
            This is the last save, so if the disk is full, wait for room. The next call raises Preempted if a stop was
            requested in the meantime.
        later
            Names in the state whose values do not change until `settle` is called; they are copied in the meantime.
        """
        called = time.monotonic()
        with CLOCK.phase("save"):
            if self._writing is not None and not self._writing.done():
                self.n_waited += 1
                self.close()
                log.info("training waited %.2f s for the save before to end", time.monotonic() - called)
            self.close()
            self.ctx.fence()
            began = time.monotonic()
            self._staging.take(state, self.ctx.world.is_first, later)
        self._saved_at = time.monotonic()
        self.blocked_s = self._saved_at - called
        if self.ctx.world.is_first or self._staging.sharded:
            self._writing = self._thread.submit(self._write_last if last else self._write, step, best, began)

    def settle(self) -> None:
        """Call this before the values that are copied `later` change, for example in the optimizer's step."""
        called = time.monotonic()
        with CLOCK.phase("save"):
            self._staging.settle()
        self.blocked_s += time.monotonic() - called

    def close(self) -> None:
        """Wait until what was saved is on the disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write_last(self, step: int, best: int | None, began: float) -> None:
        while not self._write(step, best, began):
            self.ctx.pause(FULL_S)  # if Preempted, the steps since the last complete checkpoint are repeated

    def _write(self, step: int, best: int | None, began: float) -> bool:
        """In the thread: write this rank's file, and on the first rank the checkpoint. False if the disk is full."""
        world, attempt = self.ctx.world, self.ctx.attempt
        n_files = world.size if self._staging.sharded else 1
        partial = checkpoint.beside(self.folder, step, attempt)
        file = partial / f"state-{world.rank:04d}-of-{n_files:04d}.bin"
        try:
            make_folder(partial)
            if world.is_first:
                checkpoint.sweep(self.folder, attempt, before=step)
                self._make_room(n_files, best)
            written = self._staging.write(file)
            if not world.is_first:
                write_json(file.with_suffix(".json"), written)
                return True
            files = {file.name: written} | self._others(partial, step, n_files)
            seconds = time.monotonic() - began
            commit = {"step": step, "attempt": attempt, "ranks": world.size, "seconds": round(seconds, 3)}
            n_bytes = sum(one["bytes"] for one in files.values())
            write_json(partial / "COMMIT", commit | {"bytes": n_bytes, "files": files})
            self.ctx.fence()
            checkpoint.commit(partial, self.folder, step)
            self._whole.add(step)
        except OSError as error:
            self._clear(partial, file, error)
            if error.errno not in FULL:
                raise
            whole = checkpoint.whole_steps(self.folder)
            log.error(
                "ALERT step %d is not saved: %s. Training goes on, and saves again at its time; the last whole "
                "checkpoint is that of step %s. Delete something from the disk or the quota of %s",
                step,
                error.strerror,
                whole[-1] if whole else "none",
                self.folder,
            )
            return False
        self._interval_s = interval_s(seconds, self._mtbf_s)
        log.info(
            "saved step %d: %.1f MB in %.2f s, training waited %.3f s", step, n_bytes / 1e6, seconds, self.blocked_s
        )
        checkpoint.rotate(self.folder, step, self.keep, self.keep_every, best, self._whole)
        return True

    def _make_room(self, n_files: int, best: int | None) -> None:
        """If the disk is nearly full, delete now what rotation would delete after the next saves."""
        n_bytes = self._staging.n_bytes * n_files
        try:
            checkpoint.refuse_full_disk(self.folder, n_bytes, n_files + 2)
        except OSError:
            newest = checkpoint.latest(self.folder)  # read completely, as it will be the only one
            if newest is None:
                raise
            checkpoint.rotate(self.folder, newest[0], 1, self.keep_every, best)
            checkpoint.refuse_full_disk(self.folder, n_bytes, n_files + 2)

    def _others(self, partial: Path, step: int, n_files: int) -> dict[str, Any]:
        """Return the marks of the other ranks, once all have written their files."""
        if n_files == 1:
            return {}
        marks = {rank: partial / f"state-{rank:04d}-of-{n_files:04d}.json" for rank in range(1, n_files)}
        deadline, wait = time.monotonic() + MARKS_S, Backoff(0.02, 2.0)
        while missing := _not_in(partial, marks):  # one request for all of them
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no file from rank {', '.join(map(str, missing))} for the checkpoint of step {step} within "
                    f"{MARKS_S} s: see whether it runs, and whether its node sees {partial}"
                )
            time.sleep(wait())
        files = {}
        for rank, mark in marks.items():
            written: dict[str, Any] = read_json(mark) or {}
            if "failed" in written:
                raise OSError(written["errno"], f"{written['failed']} (rank {rank} on {written['host']})")
            files[mark.with_suffix(".bin").name] = written
            mark.unlink()
        return files

    def _clear(self, partial: Path, file: Path, error: OSError) -> None:
        """Delete half a checkpoint, which only takes room. The first rank waits for a mark of the others."""
        if self.ctx.world.is_first:
            shutil.rmtree(partial, ignore_errors=True)
            return
        file.unlink(missing_ok=True)
        failed = {"failed": error.strerror or str(error), "errno": error.errno, "host": os.uname().nodename}
        try:
            write_json(file.with_suffix(".json"), failed)
        except OSError as second:
            log.error("rank 0 could not be informed that the save failed: %s", second)


def _not_in(folder: Path, marks: Mapping[int, Path]) -> list[int]:
    """Return the ranks whose mark is not in the folder yet."""
    names = set(os.listdir(folder))
    return [rank for rank, mark in marks.items() if mark.name not in names]


def interval_s(cost_s: float, mtbf_s: float) -> float:
    """The time between saves at which saving and lost work cost least (Young, Daly)."""
    return min(max(math.sqrt(2 * cost_s * mtbf_s), SHORTEST_S), LONGEST_S)


def mean_between_failures_s(attempts: Iterable[Mapping[str, Any]]) -> float:
    """Estimate it from the age of this run and its crashes, starting from one crash in 24 hours."""
    lived_s, crashes = PRIOR_S, 1
    for line in attempts:
        lived_s += line["ended"] - line["started"]
        crashes += line["outcome"] not in ("finished", "stopped", "sick")
    return lived_s / crashes
