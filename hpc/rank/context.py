"""The context that a stage gets with its config: its rank, its folders, and when to stop. It does not import torch."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType, TypeVar

from hpc.runs.rundir import FULL, RunDir, read_json, write_json

log = logging.getLogger(__name__)

T = TypeVar("T")

FULL_S = 5.0
"""How often a write to a full disk is tried again."""
STARTING, BEGUN = "starting", "begun"
"""The first words of a rank: it lives; it has begun with its stage. See Ranks.hang_s."""

Input = NewType("Input", str)
"""The type of a config field that names what the stage reads: a run (`preprocess-k3f9x2ab`), or a path."""


class Preempted(Exception):
    """A stage raises it when it was asked to stop and has saved all it needs to go on later."""


class Fenced(Exception):
    """A later attempt of the run has begun, so this process must write nothing more.

    Its node was called dead, and is not: Slurm has started the run again elsewhere.
    """


@dataclass(frozen=True)
class World:
    """Which of how many processes this is. `local`: among those on the same node."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.size and 0 <= self.local_rank < self.local_size <= self.size):
            raise ValueError(f"no such place in the world: {self}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "World":
        """Read what the launcher of this process has set: the supervisor, srun, or mpiexec."""
        for names in (
            ("HPC_RANK", "HPC_SIZE", "HPC_LOCAL_RANK", "HPC_LOCAL_SIZE"),
            ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
            (
                "OMPI_COMM_WORLD_RANK",
                "OMPI_COMM_WORLD_SIZE",
                "OMPI_COMM_WORLD_LOCAL_RANK",
                "OMPI_COMM_WORLD_LOCAL_SIZE",
            ),
            ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
        ):
            if names[0] in environ and names[1] in environ:
                # SLURM_STEP_TASKS_PER_NODE reads "2(x3),1": the first count is that of a full node
                rank, size, local_rank, local_size = (
                    int(environ.get(name, default).split("(")[0].split(",")[0]) for name, default in zip(names, "0101")
                )
                return cls(rank, size, local_rank, max(local_size, local_rank + 1))
        return cls()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T], weigh: Callable[[T], float] | None = None) -> list[T]:
        """My part of a list of work: every size-th item; or, where items weigh unlike, the longest first, each to who
        has least so far, so that all are done at about the same time."""
        if weigh is None:
            return list(items[self.rank :: self.size])
        weights = [weigh(item) for item in items]
        loads, mine = [0.0] * self.size, []
        for index in sorted(range(len(items)), key=lambda index: (-weights[index], index)):
            rank = loads.index(min(loads))
            loads[rank] += weights[index]
            mine += [items[index]] if rank == self.rank else []
        return mine


@dataclass
class Context:
    """What a stage gets beside its config.

    Parameters
    ----------
    world
        Who I am among the processes of this run.
    run
        Where I write.
    attempt
        The how-manieth start of the ranks this is; 1 the first time.
    should_stop
        Whether this process was asked to stop soon. Look at it between steps of any long loop; when it says so,
        save and raise Preempted. Where ranks meet in collectives, agree first: `ddp.any_rank(ctx.should_stop())`.
    near
        Gives the copy of a folder on this node, or the folder itself.
    """

    world: World
    run: RunDir
    attempt: int = 1
    should_stop: Callable[[], bool] = lambda: False
    host: str = ""
    """The node, as the scheduler calls it."""
    stage_in: Callable[[Path], Path] = lambda folder: folder
    echo: Callable[[str], None] | None = None
    _written: float = field(default=-1e9, repr=False)
    _heartbeat: dict[str, Any] = field(default_factory=dict, repr=False)
    _began: dict[str, tuple[float, int]] = field(default_factory=dict, repr=False)
    _gathered: int = field(default=0, repr=False)
    _unheard: str = field(default="", repr=False)

    @property
    def out(self) -> Path:
        """The folder for what this stage makes."""
        self.run.out.mkdir(parents=True, exist_ok=True)
        return self.run.out

    def input(self, ref: Input, *, often: bool = False) -> Path:
        """The folder that an Input of the config stands for: what that run made, or the path itself.

        `often`: it is read more than once on each node. A copy on the node may then stand in for it (staging.py), and
        every rank must ask, in the same order.
        """
        path = input_path(ref, self.run.path.parent)
        return self.stage_in(path) if often else path

    def progress(self, what: str, done: int, total: int, /, **figures: float) -> None:
        """Say how far this rank is. Cheap enough for every step: written at most twice a second.

        `status`, the progress bar and the supervisor's watch read it.
        """
        now = time.time()
        began, first = self._began.setdefault(what, (now, done))
        self._heartbeat = {
            "what": what,
            "done": done,
            "total": total,
            "figures": figures,
            "began": began,
            "from": first,
        }
        self._heartbeat |= {"time": now, "attempt": self.attempt, "host": self.host, "pid": os.getpid()}
        if now - self._written >= 0.5 or done >= total:
            self.say_how_far()

    def gather(self, value: object) -> list[Any]:
        """What every rank says, in their order, on all of them; JSON values. Waits for the last, without a process
        group: for stages that share out work by the hour. Every rank must call it, as often as the others."""
        self._gathered += 1
        words = self.run.attempt(self.attempt).words
        write_json(words(self._gathered, self.world.rank), [value])
        gathered: list[Any] = []
        while len(gathered) < self.world.size:
            part = read_json(words(self._gathered, len(gathered)))
            if part is not None:
                gathered += part
                continue
            self.pause(0.1)
        return gathered

    @property
    def reached(self) -> int:
        """How far this rank is, as progress was told last."""
        return int(self._heartbeat.get("done", 0))

    @property
    def began(self) -> float:
        """When this rank first said that it lives: before its stage was imported."""
        return min((when for when, _ in self._began.values()), default=time.time())

    def beat(self) -> None:
        """Say that this rank is still at it, in the middle of a step that takes long: else it is taken to hang."""
        if self._heartbeat and time.time() - self._written >= 0.5:
            self._heartbeat["time"] = time.time()
            self.say_how_far()

    def pause(self, seconds: float) -> None:
        """Wait, without being taken to hang. Raises Preempted when a stop is asked for."""
        until = time.monotonic() + seconds
        while not self.should_stop():
            self.beat()
            left_s = until - time.monotonic()
            time.sleep(max(0.0, min(left_s, 0.5)))
            if left_s <= 0.5:
                return
        raise Preempted

    def until_there_is_room(self, write: Callable[[], object]) -> None:
        """Write what this rank cannot go on without: where the disk is full, wait until somebody has made room. Raises
        Preempted when a stop is asked for first; what is saved counts."""
        warned = False
        while True:
            try:
                write()
                return
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if not warned:
                    log.error("ALERT %s: %s; waiting for room", error.filename or self.run.path, error.strerror)
                warned = True
            self.pause(FULL_S)

    def fence(self) -> None:
        """Raise Fenced when a later attempt has begun. Before writing what all attempts share."""
        if self.attempt and self.run.attempt(self.attempt + 1).path.exists():
            raise Fenced(f"attempt {self.attempt} of {self.run.name} is over: attempt {self.attempt + 1} has begun")

    def say_how_far(self) -> None:
        """Write what progress was told last. On the way out, so that what stands there is where it ended."""
        if not self._heartbeat:
            return
        self.fence()
        self._written = self._heartbeat["time"]
        try:
            write_json(self.run.heartbeat(self.world.rank), self._heartbeat, durable=False)
            if self._unheard:  # said again: the log stands on that disk as well
                log.warning("%s is written again, after: %s", self.run.heartbeat(self.world.rank), self._unheard)
            self._unheard = ""
        except OSError as error:  # a full disk: the work goes on, and the next word may get through
            if not self._unheard:
                log.warning("%s: %s", self.run.heartbeat(self.world.rank), error.strerror)
            self._unheard = error.strerror or str(error)
        if self.echo and self._heartbeat["total"]:
            figures = " ".join(f"{name}={value:.4g}" for name, value in self._heartbeat["figures"].items())
            self.echo(f"{self._heartbeat['what']} {self._heartbeat['done']}/{self._heartbeat['total']} {figures}")


def input_path(ref: Input, runs: Path) -> Path:
    """Where an Input is: `a/path` as it stands, else the products of the run of that name."""
    run = input_run(ref, runs)
    return run.out if run else Path(ref)


def input_there(ref: Input, runs: Path) -> Path | None:
    """Where an Input is, once it is whole: the run has finished, or the path is there."""
    run = input_run(ref, runs)
    whole = (run.result if run else Path(ref)).exists()
    return input_path(ref, runs) if whole else None


def input_run(ref: str, runs: Path) -> RunDir | None:
    """The run that an Input names, or None when it is a path."""
    return None if "/" in ref or ref in (".", "..") else RunDir(runs / ref)
