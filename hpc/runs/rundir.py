"""The name of every file in a run folder, and the one function that writes them: complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import suppress

# `status` reads a hundred runs and answers at once: neither typing nor pathlib is imported before it is needed
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, BinaryIO

SUBMISSIONS, SUPERVISOR, RESULT = "jobs/submitted.jsonl", "heartbeat/supervisor.json", "result.json"
"""The files that `status` reads of a run that has ended, relative to its folder."""
LIST = "products.jsonl"
"""The list of the products in `out`: see products.py."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The error numbers of an OSError when there is no room, which somebody may make."""


TRIES, TORN_S = 3, 0.002
"""How often to read a file that is written in place, and how long to wait in between."""
BLOCK_B = 1024
"""A file that is written in place has a multiple of so many bytes."""


def atomic_write(
    path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True, private: bool = False
) -> None:
    """Write a temporary file, then rename it: a reader sees the old file or the new one, never half of it.

    Parameters
    ----------
    path
        The final path of the file. Its folder is created if missing.
    write
        Called with the open file.
    durable
        Flush to the disk first, so that the file survives a power cut. Off for files that are worthless a second later
        (heartbeats).
    private
        Nobody but the user may read it, whatever the umask.
    """
    partial = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        with _open_new(partial) as file:
            if private:
                os.fchmod(file.fileno(), 0o600)
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if (
            isinstance(error, OSError) and error.errno is not None and error.filename is None
        ):  # `ulimit -f`, or a disk that is full
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def write_output(path: Path, text: str) -> None:
    """Write a text where a user wants it: a file that is whole or absent, or what is there already and is no file, as
    /dev/null and a pipe, which a rename would replace."""
    if path.exists() and not path.is_file():
        path.write_text(text)
    else:
        atomic_write(path, lambda file: file.write(text.encode()))


def _open_new(path: Path) -> BinaryIO:
    try:
        return open(path, "wb")
    except FileNotFoundError:
        make_folder(path.parent)
        return open(path, "wb")


GONE = "writes nothing more"
"""What each sentence of Gone says, and no other line in the log of a job."""


class Gone(Exception):
    """The run folder is no longer the one in which this process began: it must write nothing more."""


_NEVER_MADE: set[str] = set()


def forbid_making(run: Path) -> None:
    """From now on this process makes folders inside of the run folder only, and never that folder itself."""
    _NEVER_MADE.add(os.path.abspath(run))


def make_folder(folder: Path) -> None:
    """Make a folder with its parents; but not a run folder that this process works in: if that is gone, it was moved or
    deleted, and a new one would take what belongs into it. Raises Gone then."""
    place = os.path.abspath(folder)
    run = next((run for run in _NEVER_MADE if f"{place}/".startswith(f"{run}/")), None)
    if run is None:
        os.makedirs(place, exist_ok=True)
        return
    try:
        below = run
        os.stat(run)
        for name in filter(None, place[len(run) :].split("/")):  # one by one, so that the run folder is not made
            below = f"{below}/{name}"
            with suppress(FileExistsError):
                os.mkdir(below)
    except FileNotFoundError:
        raise Gone(f"the run folder {run} was moved or deleted: this process {GONE}") from None


def write_json(path: Path, value: object, *, durable: bool = True, private: bool = False) -> None:
    data = encoded(json.dumps(value, indent=1, ensure_ascii=False))
    atomic_write(path, lambda file: file.write(data), durable=durable, private=private)


def overwrite_json(path: Path, value: object) -> None:
    """Write a small file that one process writes again and again, in place: to make a new one and to rename it would be
    two requests more to the server that knows all names. Who reads in the middle finds no JSON, or the old one, and
    reads again: see read_heartbeat."""
    data = encoded(json.dumps(value, indent=1, ensure_ascii=False))
    name = os.fspath(path)
    try:
        file = os.open(name, os.O_WRONLY)
    except FileNotFoundError:
        write_json(path, value, durable=False)
        return
    try:
        length = os.fstat(file).st_size
        room = max(length, -(-len(data) // BLOCK_B) * BLOCK_B)
        if os.pwrite(file, data.ljust(room), 0) < room:
            raise OSError(FULL[0], os.strerror(FULL[0]), name)
    finally:
        os.close(file)


def encoded(text: str) -> bytes:
    """A file's name may hold bytes that are no UTF-8; what Python makes of them is written as JSON's \\udc.. and read
    back as it was."""
    return text.encode(errors="backslashreplace")


class Damaged(ValueError):
    """A file of a run folder is not what was written: a disk that lost power or filled up can cause that."""


def read_json(path: Path | str) -> Any | None:
    """Read the file, or None if there is none."""
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise Damaged(f"{path} is damaged: it is not JSON") from None


def read_bytes(path: Path | str) -> bytes:
    """Read a file at once; a pipe in its place is empty then, instead of a wait for its other end."""
    with open(path, "rb", opener=_without_waiting) as file:
        return file.read() or b""


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_heartbeat(path: Path | str) -> dict[str, Any]:
    """Read a file below heartbeat/; empty if there is none. These files are not flushed to the disk, so a node that
    goes down can leave an empty one: that counts as none."""
    for _ in range(TRIES):
        try:
            content = read_json(path)
            return content if isinstance(content, dict) else {}
        except Damaged:  # or it is just being written
            if not os.path.getsize(path):
                return {}
            time.sleep(TORN_S)
    return {}


def append_line(path: Path, *values: object) -> None:
    """Append a JSON line for each value to a file that has one writer; all of them, or on a full disk nothing."""
    line = b"".join(encoded(json.dumps(value, ensure_ascii=False)) + b"\n" for value in values)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        before = os.fstat(file).st_size
        if before and os.pread(file, 1, before - 1) != b"\n":
            line = b"\n" + line  # a node that went down has cut off the previous line: only that one is lost
        if os.write(file, line) < len(line):
            os.ftruncate(file, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
    finally:
        os.close(file)


def read_lines(path: Path | str) -> list[Any]:
    """Read the JSON lines of a file; damaged lines are left out, and damaged_lines counts them."""
    return [line for line in all_lines(path) if line is not None]


def damaged_lines(path: Path | str) -> list[int]:
    """Return the numbers of damaged lines; the first line is 1."""
    return [number for number, line in enumerate(all_lines(path), start=1) if line is None]


def all_lines(path: Path | str) -> list[dict[str, Any] | None]:
    """Read the JSON lines of a file, None for a damaged one."""
    try:
        return [_parsed(line) for line in read_bytes(path).splitlines()]
    except FileNotFoundError:
        return []


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def committed_steps(checkpoints: Path) -> list[int]:
    """Return the steps whose checkpoint is complete (it has a COMMIT), in order."""
    return sorted(int(place.parent.name.removeprefix("step-")) for place in checkpoints.glob("step-*/COMMIT"))


def own_commit(checkpoints: Path, step: int) -> dict[str, Any] | None:
    """Read the COMMIT of a checkpoint that its stage has written itself, without a list of files; None for others."""
    try:
        commit = read_json(checkpoints / f"step-{step:08d}" / "COMMIT")
    except Damaged:
        return None
    return commit if isinstance(commit, dict) and "files" not in commit else None


class RunDir:
    """The folder of a run: its path is all that one needs to find the run. Each file below has one writer.

    launcher    plan.json, identity.json, config.yaml, env.sh (with --prepare), job.sbatch, jobs/submitted.jsonl,
                jobs/follow-ups.jsonl, jobs/no-score.json, code (a link: see snapshot.py)
    supervisor  attempts.jsonl, events.jsonl, result.json (exists = finished), heartbeat/supervisor.json, owner.json,
                jobs/allocations.jsonl
    stop        heartbeat/stop
    rank 0      metrics.jsonl, tensorboard/, wandb/, mlruns/, checkpoints/, out/, provenance.json,
                jobs/attempt-0002/words-1.json
    each node   heartbeat/node-0004 (see heartbeats.py)
    each rank   verified/rank-0003.jsonl (see products.py), jobs/attempt-0002/rank-0003.log (and .error.json, .stacks,
                .memory.json, .staged.json, .words-1.json, .stopped)

    When a run has finished, most of them are joined in events.jsonl: see folding.py.
    """

    def __init__(self, path: Path | str) -> None:
        self.folder = os.fspath(path)

    @property
    def path(self) -> Path:
        from pathlib import Path

        return Path(self.folder)

    @property
    def name(self) -> str:
        return os.path.basename(self.folder)

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def identity(self) -> Path:
        """Which folder this is: see seal.py."""
        return self.path / "identity.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def code(self) -> Path:
        """The snapshot of the checkout that the ranks import."""
        return self.path / "code"

    @property
    def env(self) -> Path:
        """The file that a batch script sources before it starts the supervisor: see slurm/run.sbatch."""
        return self.path / "env.sh"

    @property
    def script(self) -> Path:
        """The batch script that runs this folder without its launcher: a job submits it to follow itself."""
        return self.path / "job.sbatch"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def submissions(self) -> Path:
        return self.path / SUBMISSIONS

    @property
    def follow_ups(self) -> Path:
        """The lines that its job gives when it has ended: see follow_ups.py."""
        return self.jobs / "follow-ups.jsonl"

    @property
    def allocations(self) -> Path:
        """What each of its jobs was given, and from when to when: see hpc/book/allocations.py."""
        return self.jobs / "allocations.jsonl"

    @property
    def no_score(self) -> Path:
        """Why this trial of a search counts as one without a score."""
        return self.jobs / "no-score.json"

    @property
    def attempts(self) -> Path:
        return self.path / "attempts.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def out(self) -> Path:
        """The output of the stage: the store, the model, the report. Other stages read it."""
        return self.path / "out"

    @property
    def provenance(self) -> Path:
        """What it was computed with, and the hashes of what it has read: see provenance.py."""
        return self.path / "provenance.json"

    @property
    def verified(self) -> Path:
        """What the ranks have verified of the products that they read: see products.py."""
        return self.path / "verified"

    @property
    def result(self) -> Path:
        return self.path / RESULT

    @property
    def supervisor(self) -> Path:
        return self.path / SUPERVISOR

    @property
    def lock(self) -> Path:
        """A file that the supervisor locks while it lives, so that a run has only one."""
        return self.path / "heartbeat" / "lock"

    @property
    def owner(self) -> Path:
        """The holder of the lock, or the job that has taken the run over from one that Slurm gave up."""
        return self.path / "heartbeat" / "owner.json"

    @property
    def stop_request(self) -> Path:
        """Its existence asks the run to save and end, for a user who may not be able to reach its processes."""
        return self.path / "heartbeat" / "stop"

    def node(self, first: int) -> Path:
        """The heartbeats of a node, by its first rank: see heartbeats.py."""
        return self.path / "heartbeat" / f"node-{first:04d}"

    def former_heartbeat(self, rank: int) -> Path:
        """The heartbeat of a rank in a run of an earlier version."""
        return self.path / "heartbeat" / f"rank-{rank:04d}.json"

    def last_attempt(self) -> int:
        """Return the number of the newest attempt, 0 before the first."""
        return max((int(path.name.removeprefix("attempt-")) for path in self.jobs.glob("attempt-*")), default=0)

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.jobs / f"attempt-{number:04d}")


class AttemptDir:
    """The files of one start of the ranks. A new attempt never writes into the folder of an old one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def start(self) -> Path:
        """When the attempt began, at which step, with how many ranks and threads."""
        return self.path / "start.json"

    @property
    def rendezvous(self) -> Path:
        """The address at which rank 0 listens, and the secret of this attempt; only the user may read it."""
        return self.path / "rendezvous.json"

    @property
    def fork_servers(self) -> Path:
        """The address at which the supervisor awaits the fork servers that this attempt has started, and its secret;
        only the user may read it."""
        return self.path / "fork-servers.json"

    @property
    def metrics(self) -> Path:
        """The metrics that the stage returned on rank 0."""
        return self.path / "metrics.json"

    def log(self, rank: int) -> Path:
        return self.path / f"rank-{rank:04d}.log"

    def error(self, rank: int) -> Path:
        return self.path / f"rank-{rank:04d}.error.json"

    def memory(self, rank: int) -> Path:
        """What the kernel said of the job's memory on its node, if it has killed the rank for lack of it."""
        return self.path / f"rank-{rank:04d}.memory.json"

    @property
    def srun(self) -> Path:
        """The output of srun: how each task ended, on which node."""
        return self.path / "srun.log"

    def srun_lines(self) -> list[str]:
        """Read that output; nothing where there is no srun."""
        try:
            return self.srun.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def stacks(self, rank: int) -> Path:
        """The stack of each thread of the rank, after a hang."""
        return self.path / f"rank-{rank:04d}.stacks"

    def collectives(self, rank: int) -> Path:
        """The last collectives that the rank has entered, after a hang."""
        return self.path / f"rank-{rank:04d}.collectives.json"

    def staged(self, rank: int) -> Path:
        """The copies of inputs that the first rank of a node has; its neighbours read the file."""
        return self.path / f"rank-{rank:04d}.staged.json"

    def words(self, time: int, rank: int) -> Path:
        """The value that a rank passes to the first one in that call of `gather`."""
        return self.path / f"rank-{rank:04d}.words-{time}.json"

    def gathered(self, time: int) -> Path:
        """The values of all ranks in that call of `gather`."""
        return self.path / f"words-{time}.json"

    def done(self, rank: int) -> Path:
        """Written by a rank whose stage is done, so that the first one knows that nobody writes any more."""
        return self.path / f"rank-{rank:04d}.done"

    def stopped(self, rank: int) -> Path:
        """Left by a rank that has saved after it was asked to stop."""
        return self.path / f"rank-{rank:04d}.stopped"
