"""The context that a stage gets with its config: its rank, its folders, and when to stop. It does not import torch."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType, TypeVar

from hpc.config.input_file import place_of
from hpc.rank.heartbeat_writer import HeartbeatWriter
from hpc.runs import seal
from hpc.runs.heartbeats import QUICK_S
from hpc.runs.rundir import FULL, RunDir, committed_steps, make_folder, read_json, write_json
from hpc.runs.speed import phases

log = logging.getLogger(__name__)

T = TypeVar("T")

FULL_S = 5.0
"""How often a write to a full disk is retried."""
POLL_S = 0.5
"""How often one who waits looks whether a stop is requested."""
BEAT_S = 5.0
BEATING_S = 3600.0
"""How long one call of a library may take before the rank is silent, and so taken to hang."""
STARTING, BEGUN = "starting", "begun"
"""The first messages of a rank: it runs; its stage has begun. See Ranks.hang_s."""

Input = NewType("Input", str)
"""The type of a config field that names what the stage reads: a run (`preprocess-k3f9x2ab`), or a path."""


class Preempted(Exception):
    """A stage raises it after it was asked to stop and has saved all it needs to continue later."""


class Fenced(Exception):
    """A later attempt of the run has begun, so this process must write nothing more.

    Its node was declared dead but is not: Slurm has started the run again elsewhere.
    """


@dataclass(frozen=True)
class World:
    """The rank of this process, and the number of processes. `local`: its rank on its own node."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.size and 0 <= self.local_rank < self.local_size <= self.size):
            raise ValueError(f"no such rank in the world: {self}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "World":
        """Read the variables that the launcher of this process has set: the supervisor, srun, or mpiexec."""
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
        """Return this rank's share of a list of work: every size-th item. With `weigh`, the heaviest item goes first,
        and each to the rank with the least so far, so that all finish at about the same time."""
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
    """What a stage gets in addition to its config.

    Parameters
    ----------
    world
        The rank of this process.
    run
        The run folder.
    attempt
        The number of this start of the ranks; 1 the first time.
    should_stop
        Whether this process was asked to stop soon. Check it between steps of any long loop; if it is true, save and
        raise Preempted. If the ranks use collectives, agree first: `ddp.any_rank(ctx.should_stop())`.
    near
        Returns the copy of a folder on this node, or the folder itself.
    """

    world: World
    run: RunDir
    attempt: int = 1
    should_stop: Callable[[], bool] = lambda: False
    host: str = ""
    """The node's name in the scheduler."""
    stage_in: Callable[[Path], Path] = lambda folder: folder
    echo: Callable[[str], None] | None = None
    identity: str = ""
    """The id of the run folder in which the run began; empty where nobody watches over it."""
    meaning: int = 1
    """The version of meaning of the stage's results: see hpc.config.stages.meaning."""
    pause_at: int | None = None
    """The step after which a search lets the run rest; None: it goes to its end."""
    heartbeats: HeartbeatWriter = field(init=False, repr=False)
    """Writes the heartbeats of this rank."""
    _written: float = field(default=-1e9, repr=False)
    _looked: float = field(default=-1e9, repr=False)
    _heartbeat: dict[str, Any] = field(default_factory=dict, repr=False)
    _went_back: dict[str, int] = field(default_factory=dict, repr=False)
    _began: dict[str, tuple[float, int]] = field(default_factory=dict, repr=False)
    _until_progress: ExitStack = field(default_factory=ExitStack, repr=False)
    _gathered: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        self.heartbeats = HeartbeatWriter(self.run, self.world.rank, self.world.local_rank, self.fence)

    def beat_in_background(self, resources: Mapping[str, Any]) -> None:
        """Leave it to a thread to write heartbeats, together with the other ranks of this node."""
        attempt = f"{self.run.path.absolute()} {self.identity} {self.attempt}"
        self.heartbeats.share(resources, self.world.local_size, attempt)

    @property
    def out(self) -> Path:
        """The folder for the output of this stage."""
        make_folder(self.run.out)
        return self.run.out

    def input(self, ref: Input, *, often: bool = False) -> Path:
        """Return the folder that an Input of the config stands for: the output of that run, or the path itself.

        `often`: it is read more than once on each node. The folder returned may then be a copy on the node
        (staging.py), and every rank must ask, in the same order.
        """
        path = input_path(ref, self.run.path.parent)
        return self.stage_in(path) if often else path

    def progress(self, what: str, done: int, total: int, /, **figures: float) -> None:
        """Report the progress of this rank. Cheap enough for every step: left in memory at most twice a second, and
        written to the disk as often as the site can bear.

        It is read by `status`, the progress bar and the supervisor.
        """
        now = time.time()
        if what not in self._began and what not in (STARTING, BEGUN):
            phases.CLOCK.begin(done)
        began, first = self._began.setdefault(what, (now, done))
        self._heartbeat = {
            "what": what,
            "done": done,
            "total": total,
            "figures": figures,
            "began": began,
            "from": first,
        }
        self._until_progress.close()
        self._heartbeat |= {"time": now, "attempt": self.attempt, "host": self.host, "pid": os.getpid()}
        self._heartbeat |= self._went_back
        if now - self._written >= QUICK_S or done >= total:
            self.say_how_far(now=done >= total)

    def pauses_after(self, step: int) -> bool:
        """Whether the run is to rest after this step, until a search promotes it: save, and raise Preempted."""
        return self.pause_at is not None and step >= self.pause_at

    def phase(self, name: str) -> phases.Phase:
        """Count the time in the block as `data`, `wait` or `save`, and not as `compute`: see `why --slow`."""
        return phases.CLOCK.phase(name)

    @phases.waiting
    def gather(self, value: object) -> list[Any]:
        """Collect a JSON value from every rank, in the order of ranks, on all ranks. It waits for the last one and uses
        no process group, for stages that share out hours of work. Every rank must call it equally often.

        Each rank writes its value; the first one reads them all, and writes them as one file, which the others read.
        """
        self._gathered += 1
        folder = self.run.attempt(self.attempt)
        together = folder.gathered(self._gathered)
        words = [folder.words(self._gathered, rank) for rank in range(self.world.size)]
        write_json(words[self.world.rank], [value])
        if self.world.is_first:
            self._until_there(folder.path, {path.name for path in words})
            write_json(together, [part for path in words for part in read_json(path) or ()])
        wait = Backoff()
        while (values := read_json(together)) is None:
            self._wait_for_others(wait())
        return list(values)

    @phases.waiting
    def wait_until_all_are_done(self) -> None:
        """Wait, on the first rank, until the stage is done on all ranks; the others only say so."""
        folder = self.run.attempt(self.attempt)
        if not self.world.is_first:
            folder.done(self.world.rank).touch()
        elif self.world.size > 1:
            self._until_there(folder.path, {folder.done(rank).name for rank in range(1, self.world.size)})

    def _until_there(self, folder: Path, names: set[str]) -> None:
        """Wait for files of other ranks: one request for all of them, however many there are."""
        wait = Backoff()
        while not names.issubset(os.listdir(folder)):
            self._wait_for_others(wait())

    def _wait_for_others(self, seconds: float) -> None:
        """Wait without a heartbeat: it would hide a rank that hangs, for whom all others wait. As long as one of them
        gets on, no rank is taken to hang. Raises Preempted if a stop is requested."""
        until = time.monotonic() + seconds
        while not self.should_stop():
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, POLL_S))
        raise Preempted

    def goes_on_from(self, step: int) -> None:
        """Tell the supervisor from which step this attempt goes on: an older one than the last, if that was damaged."""
        saved = committed_steps(self.run.checkpoints) if self.world.is_first else []
        if saved and step != saved[-1]:
            self._went_back = {"went_back": step}

    @property
    def reached(self) -> int:
        """The progress that was last reported."""
        return int(self._heartbeat.get("done", 0))

    @property
    def advanced(self) -> int:
        """The progress since the first report of what is being done."""
        return self.reached - int(self._heartbeat.get("from", 0))

    @property
    def began(self) -> float:
        """The time of this rank's first heartbeat: before its stage was imported."""
        return min((when for when, _ in self._began.values()), default=time.time())

    def beat(self) -> None:
        """Write a heartbeat in the middle of a long step, so that this rank is not taken to hang."""
        if self._heartbeat and time.time() - self._written >= QUICK_S:
            self._heartbeat["time"] = time.time()
            self.say_how_far()

    @contextmanager
    def beating(self, at_most_s: float = BEATING_S) -> Iterator[None]:
        """Write heartbeats from a thread during one long call of a library. In a loop of our own, call `beat`.

        It ends after `at_most_s`, so that a call which never returns is taken to hang after all.
        """
        from threading import Event, Thread

        over, until = Event(), time.monotonic() + at_most_s

        def beat() -> None:
            while not over.wait(BEAT_S) and time.monotonic() < until:
                try:
                    self.beat()
                except Fenced:  # the next heartbeat of the stage itself raises it
                    return

        thread = Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def beat_until_progress(self, at_most_s: float = BEATING_S) -> None:
        """Write heartbeats from a thread until progress is reported again: something before that may take long, as
        compiling a network in its first step does."""
        self._until_progress.close()
        self._until_progress.enter_context(self.beating(at_most_s))

    def pause(self, seconds: float) -> None:
        """Wait, without being taken to hang. Raises Preempted if a stop is requested."""
        until = time.monotonic() + seconds
        while not self.should_stop():
            self.beat()
            left_s = until - time.monotonic()
            time.sleep(max(0.0, min(left_s, POLL_S)))
            if left_s <= POLL_S:
                return
        raise Preempted

    def until_there_is_room(self, write: Callable[[], object]) -> None:
        """Write what this rank cannot continue without; if the disk is full, wait until there is room. Raises Preempted
        if a stop is requested first: what is saved counts."""
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

    def fence(self, *, often: bool = False) -> None:
        """Raise Fenced if a later attempt has begun, and Gone if the run folder is not the one in which the run began.
        Call it before writing to files that attempts share. `often`: it is called at every step, so the disk is not
        asked: who writes the heartbeats of this node has done so; without that, twice a second."""
        now = time.monotonic()
        if often and (self.heartbeats.in_background or now - self._looked < QUICK_S):
            self.heartbeats.refuse_if_over()
            return
        self._looked = now
        if self.identity:
            seal.check_identity(self.run, self.identity)
        if self.attempt and self.run.attempt(self.attempt + 1).path.exists():
            raise Fenced(f"attempt {self.attempt} of {self.run.name} is over: attempt {self.attempt + 1} has begun")

    def say_how_far(self, now: bool = True) -> None:
        """Report the progress again, as it was last reported. Called at the end, so that the file shows where it ended.
        `now`: write it soon, even if the disk is shared by many."""
        if not self._heartbeat:
            return
        self._written = self._heartbeat["time"]
        paced = self._heartbeat["what"] not in (STARTING, BEGUN)
        pace = {"pace": phases.CLOCK.pace(self.reached).to_json()} if paced else {}
        self.heartbeats.beat({**self._heartbeat, **pace}, now)
        if self.echo and self._heartbeat["total"]:
            figures = " ".join(f"{name}={value:.4g}" for name, value in self._heartbeat["figures"].items())
            self.echo(f"{self._heartbeat['what']} {self._heartbeat['done']}/{self._heartbeat['total']} {figures}")


class Backoff:
    """How long to wait before looking again: a tenth of what one has waited already, so that nobody who waits for an
    hour asks the disk ten times a second."""

    def __init__(self, first_s: float = 0.1, longest_s: float = 10.0) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._waited_s = 0.0

    def __call__(self) -> float:
        seconds = min(self._longest_s, max(self._first_s, self._waited_s / 10))
        self._waited_s += seconds
        return seconds


def input_path(ref: Input, runs: Path) -> Path:
    """Return the folder of an Input: `a/path` as it is, or the output of the run of that name."""
    run = input_run(ref, runs)
    return run.out if run else Path(place_of(ref))


def input_there(ref: Input, runs: Path) -> Path | None:
    """Return the folder of an Input once it is complete: the run has finished, or the path exists."""
    run = input_run(ref, runs)
    whole = (run.result if run else Path(place_of(ref))).exists()
    return input_path(ref, runs) if whole else None


def input_run(ref: str, runs: Path) -> RunDir | None:
    """Return the run that an Input names, or None if it is a path."""
    return None if "/" in ref or ref in (".", "..") else RunDir(runs / ref)
