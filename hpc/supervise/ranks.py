"""The rank processes of one attempt: children on this machine, or an srun that runs them on the nodes of a job.

What is started for a rank is its fork server (hpc/rank/forkserver.py), which stays for the attempts to come. With --mpi
ranks are MPI processes without one: mpiexec starts them here, and srun with its MPI plugin on the nodes of a job.
"""

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hpc.rank import threads
from hpc.rank.context import BEGUN, STARTING
from hpc.rank.parent_death import die_with_parent
from hpc.rank.signals import STACKS
from hpc.runs import records, seal
from hpc.runs.rundir import Damaged, Gone, RunDir, read_json
from hpc.runs.unpack import ARCHIVE, UNPACKED
from hpc.supervise import flight_recorder, in_container
from hpc.supervise.forkservers import ForkServers

_WAITING = ("distributed_c10d.py", "autograd/graph.py", "rendezvous", "hpc/rank/ddp.py")
"""Files on the stack of a rank that waits for the others."""
START_S, START_TIMES = 300.0, 8
"""How long ranks may be silent while they start: to import, to meet, to read the last checkpoint. It equals --hang; if
that is short, START_TIMES as long, up to START_S."""
RECORD_S = 10.0
"""How long ranks that hang may take to write what they have recorded of their collectives."""
END_S, NEIGHBOURS_END_S = 2.0, 0.5
"""How long ranks may take to end after TERM, and after KILL. Those that have lost a neighbour can save nothing more;
after TERM they have time to say so."""
KILLED = (signal.SIGKILL, 128 + signal.SIGKILL)
"""How a process ends, and how srun ends then."""
LOG_MB, KEPT_MB = 200, 10
"""A log larger than LOG_MB is cut to its last KEPT_MB, so that a rank cannot fill the disk."""
LOGS_EVERY, LOGS_SHARE = 4, 128
"""Every fourth pass of the supervisor looks at one log, and at one more for each 128 ranks."""


class Ranks:
    """The processes of an attempt, started at once; `codes` has the exit codes of its ranks. Call `close` if no other
    attempt follows.

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
    former
        Those of the attempt before, which have ended: if they can, their fork servers fork these.
    forks
        Whether they may be forked at all, and not only started.
    """

    def __init__(
        self, run: RunDir, attempt: int, plan: Mapping[str, Any], on_slurm: bool, identity: str,
        former: "Ranks | None" = None, forks: bool = True,
    ) -> None:  # fmt: skip
        self.run = run
        self.attempt = attempt
        self.plan = plan
        self.identity = identity
        self.resources = plan["resources"]
        self.folder = run.attempt(attempt)
        self.heard_since = time.time()
        """The time from which their silence counts: the start, or the last time that the disk had no room for
        heartbeats."""
        self._passes = itertools.count()
        self.mpi = bool(self.resources.get("mpi"))
        self.threads = threads.of_a_rank(plan, self.size, on_slurm)
        self.on_slurm = on_slurm
        self._under_mpiexec = self.mpi and not on_slurm
        self.first_codes: list[int] = []
        """How those ranks have ended because of which the others were ended."""
        self.servers: ForkServers | None = None
        self._srun_log = self.folder.srun
        """Where srun writes, as long as it lives; `_srun_said`: how much it had written before this attempt."""
        self._srun_said = 0
        if former is not None and forks and former.can_fork:
            self._fork(former)
            return
        if former is not None:
            former.close()
        if forks and not self.mpi:
            self.servers = self._listen()
        if on_slurm:
            self.processes = self._start_srun()
        else:
            self.processes = self._start_mpiexec() if self.mpi else self._start_here()

    def _listen(self) -> ForkServers | None:
        """Prepare to hear of fork servers; None if that is not possible: then ranks are without."""
        all_here = not self.on_slurm or (self.resources["nodes"] == 1 and "on_nodes" not in self.resources)
        try:
            return ForkServers(self.folder, self.size, all_here)
        except OSError:
            return None

    def _fork(self, former: "Ranks") -> None:
        """Have the fork servers of the attempt before fork the ranks of this one."""
        assert former.servers is not None
        self.processes, self.servers = former.processes, former.servers
        self._srun_log, self._srun_said = former._srun_log, _size_b(former._srun_log)
        self.servers.start(self.attempt)

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
                    self._command(environ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environ,
                    preexec_fn=partial(_not_yet, os.getpid()),
                )
            ranks.append(rank_process)
        return ranks

    def _start_mpiexec(self) -> list[subprocess.Popen[bytes]]:
        environ = self._environ()
        with open(self.folder.srun, "ab") as log:
            return [
                subprocess.Popen(
                    [mpiexec(self.plan["python"]) or "mpiexec", "-n", str(self.size), *self._command(environ)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environ,
                    preexec_fn=partial(_not_yet, os.getpid()),
                )
            ]

    def _start_srun(self) -> list[subprocess.Popen[bytes]]:
        r = self.resources
        log = str(self.folder.path).replace("%", "%%") + "/rank-%4t.log"
        layout = [
            "--overlap",  # if a step of an earlier attempt does not die, Slurm must not wait for its resources
            f"--nodes={r['nodes']}",
            *([f"--nodelist={','.join(r['on_nodes'])}"] if "on_nodes" in r else []),
            f"--ntasks={self.size}",
            f"--ntasks-per-node={r['ranks_per_node']}",
            f"--cpus-per-task={r['cpus_per_rank']}",  # srun since 22.05 does not take it from the job
        ]
        if self.mpi and (plugin := self.plan["site"].get("mpi")):
            layout.append(f"--mpi={plugin}")
        output = ["--unbuffered", f"--output={log}", "--open-mode=append"]
        # Where a site says --export=NONE, srun inherits it: nothing of the environment would reach the ranks.
        # --wait=0: a site's WaitTime would be how long ranks may still work after the first has ended
        environ = self._environ()
        pyxis = in_container.srun_words(self.plan, self.run.path.parent, environ)
        with open(self.folder.srun, "ab") as srun_log:
            return [
                subprocess.Popen(
                    [
                        *("srun", *layout, "--export=ALL", "--kill-on-bad-exit=1", "--wait=0", *output),
                        *pyxis,
                        *self._command(environ),
                    ],
                    stdin=subprocess.DEVNULL,
                    stderr=srun_log,
                    env=environ,
                    preexec_fn=partial(_not_yet, os.getpid()),
                )
            ]

    def _environ(self) -> dict[str, str]:
        """Return the environment of the ranks: ours, with their own number of threads, and without our node's copy of
        the code: theirs is that of their own node."""
        environ = threads.capped(self.threads, os.environ)
        own, places = environ.pop(UNPACKED, ""), environ.get("PYTHONPATH", "").split(os.pathsep)
        inherited = [place for place in places if place and not (own and f"{place}/".startswith(f"{own}/"))]
        return environ | {"PYTHONPATH": os.pathsep.join(inherited)}

    def _command(self, environ: Mapping[str, str]) -> list[str]:
        """Return the command of a rank, which has this environment outside of a container."""
        # -P: not from the working directory but from the run's own copy of the code. -B: no bytecode in there. -s: in a
        # container, the user's ~/.local is of another Python
        python = [in_container.python(self.plan), "-PBs" if in_container.image(self.plan) else "-PB", "-u"]
        command = [
            "env", f"PYTHONPATH={environ['PYTHONPATH']}", *python, str(self.run.code / ARCHIVE), "-m", "hpc.worker",
            str(self.run.path), "--attempt", str(self.attempt), "--identity", self.identity,
        ]  # fmt: skip
        command += ["--mpi"] if self.mpi else ["--fork-server"] if self.servers else []
        return in_container.wrapped(command, self.plan, self.run.path.parent, environ)

    @property
    def running(self) -> bool:
        return any(code is None for code in self._codes())

    @property
    def broken(self) -> bool:
        """Whether a rank has failed."""
        return any(code not in (None, 0) for code in self._codes())

    @property
    def codes(self) -> list[int]:
        return [code for code in self._codes() if code is not None]

    @property
    def was_killed(self) -> bool:
        """Whether a rank was ended from outside, by a person, the kernel or Slurm, and not by anything of its own."""
        codes = self.first_codes or [code for code in self.codes if code != 0]  # all have ended before we looked
        return bool(codes) and all(abs(code) in KILLED for code in codes)

    @property
    def can_fork(self) -> bool:
        """Whether the ranks of another attempt can be forked: these have ended, and each has left a fork server."""
        if self.servers is None or not self.servers.complete:
            return False
        return not self.running and all(process.poll() is None for process in self.processes)

    def _codes(self) -> list[int | None]:
        """Return how each rank has ended, from its fork server or from its process; None if it runs. One srun stands
        for all ranks that no fork server has reported."""
        if self.servers is None or not self.servers.slots:
            return [process.poll() for process in self.processes]
        process_of = self.processes * self.size if self.on_slurm else self.processes
        reported = [self.servers.code(rank) for rank in range(self.size)]
        return [process.poll() if code is None else code for code, process in zip(reported, process_of)]

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a rank has ended whose fork server says so."""
        if self.servers is None:
            time.sleep(seconds)
            return
        self.servers.wait(seconds)
        heard = [slot for slot in self.servers.slots.values() if slot.link is not None]
        if heard and not self.servers.complete and all(slot.code is not None for slot in heard):
            self.servers.close()  # srun waits for all its tasks: those that have ended must not wait for us

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the ranks: through their fork servers, or through srun, which passes it on to all nodes.
        mpiexec would die of it, so its ranks get it directly."""
        if self.servers is not None and self.servers.complete:
            self.servers.signal(number)
            return
        if self._under_mpiexec and number not in (signal.SIGTERM, signal.SIGKILL):
            for pid in _ranks_below(self.processes[0].pid):
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, number)
            return
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def end(self, patience_s: float = END_S) -> None:
        """End the ranks. A rank without its neighbours hangs in a collective and ignores TERM, so it is killed. srun
        gets a signal first: its TERM and KILL reach the ranks on the other nodes."""
        self.first_codes = self.first_codes or [code for code in self.codes if code != 0]
        self._note_the_dead()
        self._end(patience_s)
        if self.running and self.servers is not None:  # a fork server that does not answer
            self.servers.close()
            self._end(patience_s)
        self._copy_srun_log()

    def _end(self, patience_s: float) -> None:
        for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, END_S)):
            if not self.running:
                return
            self.signal(number)
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline and self.running:
                self.wait(0.05)

    def close(self) -> None:
        """Release the fork servers, and wait until their processes are gone."""
        if self.servers is None:
            return
        self.servers.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                if number is not None and process.poll() is None:
                    process.send_signal(number)
            deadline = time.monotonic() + END_S
            while time.monotonic() < deadline and any(process.poll() is None for process in self.processes):
                time.sleep(0.01)

    def forget(self) -> None:
        """Delete the secret of fork servers that are closed, unless the run folder is no longer ours."""
        if self.servers is not None:
            with suppress(Gone, OSError):
                seal.check_identity(self.run, self.identity)
                self.servers.address.unlink(missing_ok=True)

    def _note_the_dead(self) -> None:
        """Write what srun would: which rank a signal has ended, on which node."""
        if not self.on_slurm or self.servers is None:
            return
        dead = [
            f"hpc: error: {slot.host}: task {rank}: {signal.strsignal(-slot.code)}\n"
            for rank, slot in self.servers.slots.items()
            if slot.code is not None and slot.code < 0
        ]
        if dead:
            with suppress(OSError), open(self.folder.srun, "a") as log:  # without room, the node stays unknown
                log.writelines(dead)

    def _copy_srun_log(self) -> None:
        """An srun that an earlier attempt has started writes into the folder of that one."""
        if self._srun_log == self.folder.srun or (n_b := _size_b(self._srun_log)) == self._srun_said:
            return
        with suppress(OSError), open(self._srun_log, "rb") as log, open(self.folder.srun, "ab") as copy:
            log.seek(self._srun_said)
            copy.write(log.read(n_b - self._srun_said))
        self._srun_said = n_b

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
        """Let the ranks write their stacks and collectives after a hang, and return the heartbeat of the rank that the
        others wait for: by what torch has recorded of their collectives; or else one whose stack is in no collective,
        or the one with the least progress, or the one that has been silent longest."""
        self.signal(STACKS)
        heartbeats = self.heartbeats() or [
            {"rank": 0, "host": "", "what": STARTING, "done": 0, "total": 0, "time": 0.0}
        ]
        if late := flight_recorder.late(self._collectives([heartbeat["rank"] for heartbeat in heartbeats])):
            of_rank = {heartbeat["rank"]: heartbeat for heartbeat in heartbeats}
            heartbeat = of_rank[late.rank if late.rank is not None else min(of_rank)]
            return heartbeat | {
                "collectives": late.why, "everybody": late.rank is None, "of_program": late.of_program
            }  # fmt: skip
        elsewhere = [heartbeat for heartbeat in heartbeats if not self._waits(heartbeat["rank"])]
        return min(elsewhere or heartbeats, key=lambda heartbeat: (heartbeat["done"], heartbeat["time"]))

    def _collectives(self, ranks: Sequence[int]) -> dict[int, Any]:
        """Read what the ranks have recorded of their collectives, as soon as all of them have written it; None for one
        that writes nothing."""
        deadline = time.monotonic() + RECORD_S
        paths = {rank: self.folder.collectives(rank) for rank in ranks}
        time.sleep(2.0)  # the stacks have no end by which one could tell that they are whole
        while (written := [path.exists() for path in paths.values()]) and any(written) and not all(written):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if not any(written):  # a stage without collectives
            return {}
        return {rank: _record(path) for rank, path in paths.items()}

    def _waits(self, rank: int) -> bool:
        """Whether its main thread was in a collective."""
        try:
            text = self.folder.stacks(rank).read_text(errors="replace")
        except FileNotFoundError:
            return False
        main = text.rpartition("Current thread")[2] or text.rpartition("Thread")[2]
        return any(place in main for place in _WAITING)

    def cut_logs(self) -> None:
        """Keep only the end of a log that has grown too long. Ranks append, so they continue after it. Every few
        passes, a few logs are looked at, in turn."""
        turn, odd = divmod(next(self._passes), LOGS_EVERY)
        if odd:
            return
        n = min(1 + self.size // LOGS_SHARE, self.size)
        for rank in [(turn * n + at) % self.size for at in range(n)]:
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


def _record(path: Path) -> Any | None:
    try:
        return read_json(path)
    except Damaged:  # by the fault that is looked for
        return None


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


def _size_b(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
