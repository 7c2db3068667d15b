"""One rank of a run: `python -m hpc.worker RUN --attempt 1`, started by the supervisor.

With --fork-server it forks that rank, and the one of each attempt that follows.

Exit codes: 0 done, or stopped and saved (then it leaves a mark: if a rank ended with another code, srun would kill its
neighbours while they save), 93 permanent failure (do not start again), 1 anything else.
"""

import argparse
import faulthandler
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from hpc import media
from hpc.codes import NEVER
from hpc.rank import stage_run, threads
from hpc.rank.context import STARTING, Context, Fenced, Preempted, World
from hpc.rank.forkserver import ForkServer
from hpc.rank.signals import Stop, ignore_signals, write_stacks_to
from hpc.rank.staging import Staging
from hpc.runs import records, seal
from hpc.runs.products import MEMORY
from hpc.runs.rundir import Gone, RunDir, write_json
from hpc.site import gpus


class Printable(logging.Formatter):
    """Names of recordings, channels and classes do not control the terminal that shows the log."""

    def format(self, record: logging.LogRecord) -> str:
        return media.lines(super().format(record))


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m hpc.worker", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--identity", default="", help="the id of the run folder")
    parser.add_argument("--mpi", action="store_true", help="MPI says which rank this is")
    parser.add_argument("--fork-server", action="store_true", help="fork the rank, and those of attempts to come")
    options = parser.parse_args(argv)

    threads.cap(threads.given(environ))  # before numpy and torch are imported
    stop = Stop()
    stop.listen()
    faulthandler.enable()
    run = RunDir(options.run)
    identity = options.identity or seal.identity_of(run)
    try:
        seal.work_in(run, identity)
    except Gone as error:
        print(error, flush=True)
        return NEVER
    world = _mpi_world() if options.mpi else World.from_env(environ)
    if options.mpi:  # mpiexec mixes the output of its ranks
        _print_to(run.attempt(options.attempt).log(world.rank))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Printable(f"%(asctime)s rank {world.rank} %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO if world.is_first else logging.WARNING, handlers=[handler])
    host = environ.get("SLURMD_NODENAME") or os.uname().nodename
    rank = partial(Context, world, run, should_stop=stop, host=host, identity=identity)
    ctx = rank(options.attempt)
    staging = _begin(ctx, environ)
    try:
        ctx.progress(STARTING, 0, 0)
        _refuse_other_code(ctx)
        if options.fork_server:
            stage_run.import_ahead(run)
            attempt = ForkServer(run.attempt(ctx.attempt), ctx.attempt, world, host, stop).serve()
            if attempt != ctx.attempt:
                _print_to(run.attempt(attempt).log(world.rank))
                ctx = rank(attempt)
                staging = _begin(ctx, environ)
                ctx.progress(STARTING, 0, 0)
                _refuse_other_code(ctx)
        # Only now: a process that has started a thread cannot be a fork server
        ctx.beat_in_background(records.plan(run).get("resources", {}))
        MEMORY.keep_in(run.verified, f"rank-{world.rank:04d}", lambda: ctx.pause(0))
        stage_run.work(ctx)
        return 0
    except Fenced as error:  # nobody reads what it writes any more
        logging.warning("%s", error)
        return 1
    except Gone as error:  # the log is open, wherever it is now
        logging.error("%s", error)
        return NEVER
    except Preempted:
        return _stopped(ctx)
    except Exception as error:  # noqa: BLE001  the edge: written down for the supervisor, with its trace
        return _failed(ctx, error)
    finally:
        ignore_signals()
        ctx.heartbeats.close()
        staging.release()


def _begin(ctx: Context, environ: Mapping[str, str]) -> Staging:
    """Prepare for a stage that hangs, and for one that reads copies on the node."""
    stacks = open(ctx.run.attempt(ctx.attempt).stacks(ctx.world.rank), "w")  # noqa: SIM115  open until the end
    write_stacks_to(stacks)
    ctx.stage_in = staging = Staging(ctx, environ)
    return staging


def _refuse_other_code(ctx: Context) -> None:
    """Raise Unsealed if this rank would run other code than the run's snapshot. The files are checked once a node."""
    plan = records.plan(ctx.run)
    if ctx.world.local_rank == 0:
        seal.verify(ctx.run, plan)
    seal.refuse_other_code(ctx.run, plan)


def _stopped(ctx: Context) -> int:
    try:
        ctx.say_how_far()
        seal.check_identity(ctx.run, ctx.identity)  # the supervisor may have found out first
    except Gone as error:
        logging.error("%s", error)
        return NEVER
    logging.info("stopped and saved, can go on")
    with suppress(OSError):  # no room for the mark: the stop is known without it
        ctx.run.attempt(ctx.attempt).stopped(ctx.world.rank).touch()
    return 0


def _failed(ctx: Context, error: Exception) -> int:
    """Note an error for the supervisor; return the exit code."""
    traceback.print_exc()
    text = f"{type(error).__name__}: {error}"
    report = {"rank": ctx.world.rank, "host": ctx.host, "error": text, "at": ctx.reached}
    report["trace"] = traceback.format_exc()
    place = ctx.run.attempt(ctx.attempt).error(ctx.world.rank)
    try:
        seal.check_identity(ctx.run, ctx.identity)
        write_json(place, report)
        if notes := gpus.notes_on(text):  # afterwards: a neighbour's end may end this rank at any time
            write_json(place, report | {"notes": notes})
    except Gone as gone:
        logging.error("%s", gone)
        return NEVER
    except OSError as second:  # no room: it is in the log, if anywhere
        logging.error("this error is not noted: %s", second)
    # A ValueError is due to what the user gave: it would be the same tomorrow
    return NEVER if isinstance(error, ValueError) else 1


def _mpi_world() -> World:
    from mpi4py import MPI

    everywhere = MPI.COMM_WORLD
    here = everywhere.Split_type(MPI.COMM_TYPE_SHARED)
    return World(everywhere.rank, everywhere.size, here.rank, here.size)


def _print_to(log: Path) -> None:
    with open(log, "a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


if __name__ == "__main__":
    code = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    if code == 0 and "mpi4py.MPI" in sys.modules:  # if a rank just exits, mpiexec ends all
        sys.modules["mpi4py.MPI"].Finalize()
    # No interpreter shutdown: a process group whose other ranks died can hang there for ever
    os._exit(code)
