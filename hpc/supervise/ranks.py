"""The rank processes of one attempt: children on this machine, or an srun that runs them on the nodes of a job.

With --mpi they are MPI processes: mpiexec starts them here, and srun with its MPI plugin on the nodes of a job.
"""

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hpc.rank import threads
from hpc.rank.context import BEGUN, STARTING
from hpc.rank.signals import STACKS
from hpc.runs import records
from hpc.runs.rundir import RunDir

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork

_WAITING = ("distributed_c10d.py", "autograd/graph.py", "rendezvous", "hpc/rank/ddp.py")
"""Files on the stack of a rank that waits for the others."""
START_S, START_TIMES = 300.0, 8
"""How long ranks may be silent while they start: to import, to meet, to read the last checkpoint. It equals --hang; if
that is short, START_TIMES as long, up to START_S."""
LOG_MB, KEPT_MB = 200, 10
"""A log larger than LOG_MB is cut to its last KEPT_MB, so that a rank cannot fill the disk."""


LOGS_SHARE = 128
"""A pass of the supervisor looks at one log, and at one more for each 128 ranks."""


class Ranks:
    """The processes of an attempt, started at once; `codes` has their exit codes.

    Parameters
    ----------
    run
        The run folder.
    attempt
        The number of this start.
    plan
        The content of plan.json, with the current layout.
    on_slurm
        Whether srun starts them on the nodes of this job.
    identity
        The id of the run folder.
    """

    def __init__(self, run: RunDir, attempt: int, plan: Mapping[str, Any], on_slurm: bool, identity: str) -> None:
        self.run = run
        self.attempt = attempt
        self.plan = plan
        self.identity = identity
        self.resources = plan["resources"]
        self.folder = run.attempt(attempt)
        self.heard_since = time.time()
        """The time from which their silence counts: the start, or the last time that the disk had no room for
        heartbeats."""
        self._logs = itertools.count()
        self.mpi = bool(self.resources.get("mpi"))
        self.threads = threads.of_a_rank(plan, self.size, on_slurm)
        if on_slurm:
            self.processes = self._start_srun()
        else:
            self.processes = self._start_mpiexec() if self.mpi else self._start_here()
        self._under_mpiexec = self.mpi and not on_slurm

    @property
    def size(self) -> int:
        n: int = self.resources["nodes"] * self.resources["ranks_per_node"]
        return n

    def _start_here(self) -> list[subprocess.Popen[bytes]]:
        per_node = self.resources["ranks_per_node"]
        ranks = []
        for rank in range(self.size):
            place = {
                "HPC_RANK": rank, "HPC_SIZE": self.size, "HPC_LOCAL_RANK": rank % per_node, "HPC_LOCAL_SIZE": per_node
            }  # fmt: skip
            environ = self._environ() | {name: str(at) for name, at in place.items()}
            with open(self.folder.log(rank), "a") as log:
                rank_process = subprocess.Popen(
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environ,
                    preexec_fn=partial(_not_yet, os.getpid()),
                )
            ranks.append(rank_process)
        return ranks

    def _start_mpiexec(self) -> list[subprocess.Popen[bytes]]:
        with open(self.folder.srun, "ab") as log:
            return [
                subprocess.Popen(
                    [mpiexec(self.plan["python"]) or "mpiexec", "-n", str(self.size), *self._command()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environ(),
                    preexec_fn=partial(_not_yet, os.getpid()),
                )
            ]

    def _start_srun(self) -> list[subprocess.Popen[bytes]]:
        r = self.resources
        log = str(self.folder.path).replace("%", "%%") + "/rank-%4t.log"
        layout = [
            "--overlap",  # if a step of an earlier attempt does not die, Slurm must not wait for its resources
            f"--nodes={r['nodes']}",
            f"--ntasks={self.size}",
            f"--ntasks-per-node={r['ranks_per_node']}",
            f"--cpus-per-task={r['cpus_per_rank']}",  # srun since 22.05 does not take it from the job
        ]
        if self.mpi and (plugin := self.plan["site"].get("mpi")):
            layout.append(f"--mpi={plugin}")
        output = ["--unbuffered", f"--output={log}", "--open-mode=append"]
        # Where a site says --export=NONE, srun inherits it: nothing of the environment would reach the ranks
        environ = self._environ()
        command = ["env", f"PYTHONPATH={environ['PYTHONPATH']}", *self._command()]
        with open(self.folder.srun, "ab") as srun_log:
            return [
                subprocess.Popen(
                    ["srun", *layout, "--export=ALL", "--kill-on-bad-exit=1", *output, *command],
                    stdin=subprocess.DEVNULL,
                    stderr=srun_log,
                    env=environ,
                    preexec_fn=partial(_not_yet, os.getpid()),
                )
            ]

    def _environ(self) -> dict[str, str]:
        """Return the environment of the ranks: ours, with their own number of threads and the code of this run, even if
        an array shares one batch script."""
        own = self.plan["python_path"]
        inherited = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place not in ("", *own)]
        return threads.capped(self.threads, os.environ) | {"PYTHONPATH": os.pathsep.join([*own, *inherited])}

    def _command(self) -> list[str]:
        # -P: not from the working directory but from the run's own copy of the code. -B: no bytecode in there
        command = [
            self.plan["python"], "-PB", "-u", "-m", "hpc.worker", str(self.run.path), "--attempt", str(self.attempt),
            "--identity", self.identity,
        ]  # fmt: skip
        return [*command, "--mpi"] if self.mpi else command

    @property
    def running(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    @property
    def broken(self) -> bool:
        """Whether a rank has failed."""
        return any(process.poll() not in (None, 0) for process in self.processes)

    @property
    def codes(self) -> list[int]:
        return [process.returncode for process in self.processes]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the ranks. srun passes it on to all nodes. mpiexec would die of it, so its ranks get it
        directly."""
        if self._under_mpiexec and number not in (signal.SIGTERM, signal.SIGKILL):
            for pid in _ranks_below(self.processes[0].pid):
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, number)
            return
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def end(self) -> None:
        """End the ranks. A rank without its neighbours hangs in a collective and ignores TERM, so it is killed. srun
        gets a signal first: its TERM and KILL reach the ranks on the other nodes."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.signal(number)
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline and self.running:
                time.sleep(0.05)

    def heartbeats(self) -> list[dict[str, Any]]:
        """Return the last heartbeats of the ranks of this attempt; a rank without one is left out."""
        heartbeats = sorted(records.all_heartbeats(self.run).items())
        return [
            {**heartbeat, "rank": rank}
            for rank, heartbeat in heartbeats
            if rank < self.size and heartbeat.get("attempt") == self.attempt
        ]

    def hang_s(self, first: Mapping[str, Any]) -> float:
        """Return for how long no rank has made progress, if that is too long; otherwise 0. `first`: the last heartbeat
        of the first rank, which is all that has to be read of a run that gets on.

        A rank reports that it starts, then that its stage has begun. A stage may report nothing at all: once all have
        begun, they are judged again only after the stage's first report; ddp.start makes one, for all stages that
        train. Starting takes long on a busy disk, so it has its own limit, if --hang is shorter.
        """
        hang_s = float(self.resources["hang_s"])
        if first.get("attempt") == self.attempt and time.time() - first["time"] < hang_s / 2:
            return 0.0  # one request a pass, however many nodes there are
        words = self.heartbeats()
        if len(words) == self.size and all(word["what"] == BEGUN for word in words):
            return 0.0
        starting = all(word["what"] in (BEGUN, STARTING) for word in words)
        last_heard = max([self.heard_since, *(float(word["time"]) for word in words)])
        silent_s, patience_s = time.time() - last_heard, hang_s
        if starting:
            patience_s = max(patience_s, min(START_S, START_TIMES * patience_s))
        return silent_s if silent_s > patience_s else 0.0

    def late(self) -> dict[str, Any]:
        """Write the stacks after a hang, and return the heartbeat of the rank that the others seem to wait for: one
        that is in no collective, or the one with the least progress, or the one that has been silent longest."""
        self.signal(STACKS)
        time.sleep(2.0)
        heartbeats = self.heartbeats() or [
            {"rank": 0, "host": "", "what": STARTING, "done": 0, "total": 0, "time": 0.0}
        ]
        elsewhere = [heartbeat for heartbeat in heartbeats if not self._waits(heartbeat["rank"])]
        return min(elsewhere or heartbeats, key=lambda heartbeat: (heartbeat["done"], heartbeat["time"]))

    def _waits(self, rank: int) -> bool:
        """Whether its main thread was in a collective."""
        try:
            text = self.folder.stacks(rank).read_text(errors="replace")
        except FileNotFoundError:
            return False
        main = text.rpartition("Current thread")[2] or text.rpartition("Thread")[2]
        return any(place in main for place in _WAITING)

    def cut_logs(self) -> None:
        """Keep only the end of a log that has grown too long. Ranks append, so they continue after it. A pass looks at
        a few logs, in turn."""
        n = 1 + self.size // LOGS_SHARE
        for rank in [next(self._logs) % self.size for _ in range(min(n, self.size))]:
            log = self.folder.log(rank)
            try:
                if log.stat().st_size < LOG_MB * 1e6:
                    continue
            except FileNotFoundError:
                continue
            with open(log, "r+b") as file:
                file.seek(-int(KEPT_MB * 1e6), os.SEEK_END)
                tail = file.read()
                file.truncate(0)
            with open(log, "ab") as file:
                file.write(f"[cut here: the log was longer than {LOG_MB} MB]\n".encode() + tail)


def mpiexec(python: str) -> str | None:
    """Find the program that starts MPI processes: first the one next to this Python, from the extra `mpi`."""
    return shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", "")]))


def _ranks_below(ancestor: int) -> list[int]:
    """Return the processes that mpiexec, or a daemon of its own, has started for us."""
    parents, ranks = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in parentheses may hold anything; the state and the parent follow it
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"hpc.worker" in (folder / "cmdline").read_bytes().split(b"\0"):
                ranks.append(int(folder.name))
        except OSError:  # it has just ended
            continue

    def below(pid: int) -> bool:
        while pid not in (0, ancestor):
            pid = parents.get(pid, 0)
        return pid == ancestor

    return [pid for pid in ranks if below(pid)]


def _not_yet(supervisor: int) -> None:
    """Prepare a rank before its program starts: a signal that comes before it listens must not kill it, but it must not
    outlive the supervisor either, as it would write at the same time as the ranks of the next one."""
    for number in (signal.SIGUSR2, STACKS):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(supervisor)


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent dies, even if that is dead already."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
