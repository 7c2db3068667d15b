"""The verb `clean`: removes what no run needs any more, and nothing of a run that is under way.

Snapshots of code that no run links to, what this machine has unpacked of them and nobody uses, temporary files of
processes that have ended, half checkpoints and half copies of inputs; with --checkpoints, all but the last checkpoint
of finished runs.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hpc import media
from hpc.cli.options import Arguments
from hpc.cli.runs import refuse_no_folder
from hpc.codes import DONE, FAILED
from hpc.media import many, print_error
from hpc.rank import local_copy
from hpc.runs import records, status, unpack
from hpc.runs.rundir import RunDir, committed_steps
from hpc.runs.status import State
from hpc.site.disks import disk_path
from hpc.slurm.squeue import Queue
from hpc.submit.executors import lock_of

OLD_S = 24 * 3600.0
"""The age from which a temporary file of another machine, whose processes we cannot see, is nobody's."""


@dataclass(frozen=True)
class Leftover:
    path: Path
    reason: str


def clean(args: Arguments, environ: Mapping[str, str]) -> int:
    """Remove what is left over; with --dry-run, only say what that is. It holds the lock that a launcher needs, so that
    no run starts meanwhile."""
    refuse_no_folder(args)
    runs = Path(args.runs).absolute()
    if not runs.is_dir():
        print("no runs here yet")
        return DONE
    with ExitStack() as held:
        locked = held.enter_context(lock_of(runs))
        chosen = [run for word in args.words for run in status.find_all(word, runs)] or status.all_runs(runs)
        states = dict(zip(chosen, status.look_all(chosen, Queue()), strict=True))
        ended = {run: state for run, state in states.items() if state.ended and not _is_locked(run)}
        for run, state in states.items():
            if run not in ended:
                print(f"left alone    {run.name}, which is {'held' if state.ended else state.word}")
        left = [leftover for run, state in ended.items() for leftover in _of_run(run, state, args.checkpoints)]
        if not args.words:
            left += [*_snapshots(runs), *_temporary(runs / ".code", depth=1)] if locked else []
        if not args.words:
            left += _node_copies(environ)
        for place in _places(chosen, environ):
            for half, lock in local_copy.half_copies(place):
                held.callback(os.close, lock)
                left.append(Leftover(half, "half a copy of inputs, which nobody makes any more"))
        return _remove(left, args.dry_run)


def _remove(left: list[Leftover], dry: bool) -> int:
    code, n, all_b = DONE, 0, 0
    for leftover in left:
        n_b = _size_b(leftover.path)
        name = os.path.relpath(leftover.path) if leftover.path.is_relative_to(Path.cwd()) else leftover.path
        try:
            if not dry:
                _delete(leftover.path)
        except OSError as error:
            print_error(f"{name} stays: {error.strerror}")
            code = FAILED
            continue
        n, all_b = n + 1, all_b + n_b
        line = f"{'would remove' if dry else 'removed':<12}  {_megabytes(n_b):>9}  {name}: {leftover.reason}"
        print(media.one_line(line))
    print(f"{'would remove' if dry else 'removed'} {many(n, 'thing')}, {_megabytes(all_b).strip()}")
    return code


def _delete(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    (path / "COMMIT").unlink(missing_ok=True)  # first: half a checkpoint, or half a copy, must not count
    shutil.rmtree(path)


def _is_locked(run: RunDir) -> bool:
    """Whether a supervisor holds the run, whatever its files say."""
    try:
        with open(run.lock) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a shared disk mounted without locks: the state decides
        return False
    return False


def _of_run(run: RunDir, state: State, checkpoints: bool) -> Iterator[Leftover]:
    yield from _temporary(run.path)
    for part in sorted(run.checkpoints.glob(".step-*.tmp")):
        # An attempt that is lost may go on for a while on a node without network
        if state.word != "lost" or _is_old(part):
            yield Leftover(part, "half a checkpoint of an attempt that has ended")
    if checkpoints and state.word == "finished":
        yield from _before_the_last(run)


def _before_the_last(run: RunDir) -> Iterator[Leftover]:
    """Yield the checkpoints of a finished run before the newest that can be read."""
    steps = committed_steps(run.checkpoints)
    if len(steps) < 2:
        return
    from hpc.checkpoint import checkpoint  # imports torch

    last = checkpoint.latest(run.checkpoints)
    for step in steps if last else []:
        if last and step < last[0]:
            yield Leftover(checkpoint.at(run.checkpoints, step), f"the run is finished, and has step {last[0]}")


def _snapshots(runs: Path) -> Iterator[Leftover]:
    """Yield the copies of code that no run links to, whatever the state of the run."""
    linked = {os.path.realpath(place / "code") for place in runs.iterdir() if (place / "code").is_symlink()}
    for place in sorted((runs / ".code").glob("[!.]*")):
        if os.path.realpath(place) not in linked:
            yield Leftover(place, "no run uses this code")
    for place in sorted((runs / ".code").glob(".*.part")):
        if _is_old(place):  # a younger one may be going on: see hpc/remote/there.py
            yield Leftover(place, "half a copy of code, which ssh has not brought to its end")


def _node_copies(environ: Mapping[str, str]) -> Iterator[Leftover]:
    """Yield the copies of code on this machine that nobody has used for a day."""
    for own in unpack.own_folders(environ):
        for copy in unpack.unused(own, OLD_S):
            for path in (copy.with_name(f"{copy.name}.use"), copy):
                if path.exists():
                    yield Leftover(path, "a copy of code on this machine, which no process uses")


def _temporary(folder: Path, depth: int | None = None) -> Iterator[Leftover]:
    """Yield the files and folders that a process was writing when it ended: hpc.runs.rundir.atomic_write and
    hpc.plan.snapshot name them after it."""
    for at, folders, files in os.walk(folder):
        level = len(Path(at).relative_to(folder).parts)
        for name in sorted([*folders, *files]):
            path = Path(at, name)
            if (reason := _nobodys(path)) is not None:
                yield Leftover(path, reason)
                folders[:] = [inner for inner in folders if inner != name]
        if depth is not None and level + 1 >= depth:
            folders.clear()


def _nobodys(path: Path) -> str | None:
    """Return why a temporary file is nobody's any more; None if it may be somebody's, or is none."""
    match = re.fullmatch(r"\..+\.(\d+)\.(?:tmp|old)", path.name)
    if match is None:
        return None
    if f".{os.uname().nodename}.{match[1]}." in path.name:
        return f"process {match[1]} has ended" if status.process_ended(int(match[1])) else None
    return "of another machine, more than a day old" if _is_old(path) else None


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > OLD_S


def _places(chosen: list[RunDir], environ: Mapping[str, str]) -> list[Path]:
    """Return the places on this machine where the runs may have copied their inputs to."""
    places: dict[Path, None] = {}
    for run in chosen:
        plan = records.plan(run)
        resources, storage = plan.get("resources", {}), plan.get("site", {}).get("storage", {})
        account = resources.get("account", "")
        for text in [*storage.get("scratch_local", []), resources.get("stage", "")]:
            if (place := disk_path(text, environ, account)) and place.is_dir():
                places[place] = None
    return list(places)


def _size_b(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(Path(at, name).lstat().st_size for at, _, names in os.walk(path) for name in names)


def _megabytes(n_b: int) -> str:
    return f"{n_b / 1e6:,.1f} MB" if n_b >= 1e5 else f"{n_b:,} B"
