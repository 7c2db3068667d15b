"""The faults that a drill can inject into a run."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hpc.plan.plan import Plan
from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps, read_json

FULL_FOR_S, FULL_AT_THE_END_S = 20.0, 10.0
"""The first is longer than the --hang of our tests: ranks that wait for room on the disk are not taken to hang."""
DOWN_FOR_S = 15.0


class NotPossible(Exception):
    """A fault that cannot be made here; says why."""


class TooLate(NotPossible):
    """The run was over, or all but, before the fault was made."""


@dataclass
class Case:
    """One run of the drill, as its fault sees it."""

    plan: Plan
    run: RunDir
    rng: random.Random
    full: Mapping[str, Any] = field(default_factory=dict)
    """The first rank's last word before the disk was filled: from then on no checkpoint can be written."""
    undo: list[Callable[[], object]] = field(default_factory=list)
    """What sets the world right again, after the run has ended."""

    @property
    def on_slurm(self) -> bool:
        return self.plan.site.kind == "slurm"

    @property
    def job(self) -> str:
        return str(records.submissions(self.run)[-1]["job"])

    def signal_supervisor(self, number: signal.Signals) -> None:
        """Slurm signals the batch step alone."""
        if self.on_slurm:
            _run("scancel", f"--signal={number.name.removeprefix('SIG')}", "--batch", self.job)
        else:
            os.kill(_need(self.run.supervisor)["pid"], number)

    def signal_process(self, host: str, pid: int, number: signal.Signals) -> None:
        """Signal a process of the job, on whichever node it is."""
        if host in ("", os.uname().nodename) or Path(f"/proc/{pid}").exists():
            os.kill(pid, number)
        else:
            there = ["--overlap", f"--jobid={self.job}", "-N1", "-n1", "-w", host]
            _run("srun", *there, "kill", "-s", number.name.removeprefix("SIG"), str(pid))

    def signal_a_rank(self, number: signal.Signals) -> None:
        """Signal a rank that is drawn at random."""
        rank = self.rng.randrange(self.plan.resources.ranks)
        heartbeat = _heartbeat(self.run, rank)
        self.signal_process(heartbeat["host"], heartbeat["pid"], number)

    def restore(self) -> None:
        """Set the world right again."""
        for undo in self.undo:
            undo()

    def end(self) -> None:
        """Kill the run, whose fault turned out not to be possible. It may have ended by itself."""
        if self.on_slurm:
            subprocess.run(["scancel", self.job], capture_output=True, check=False)
        else:
            with suppress(ProcessLookupError):
                if supervisor := read_json(self.run.supervisor):  # a run that has finished keeps no such file
                    os.killpg(os.getpgid(supervisor["pid"]), signal.SIGKILL)


def _walltime(case: Case) -> None:
    case.signal_supervisor(signal.SIGUSR2)


def _term(case: Case) -> None:
    case.signal_supervisor(signal.SIGTERM)


def _kill_rank(case: Case) -> None:
    case.signal_a_rank(signal.SIGKILL)


def _kill_supervisor(case: Case) -> None:
    supervisor = _need(case.run.supervisor)
    case.signal_process(supervisor["host"], supervisor["pid"], signal.SIGKILL)


def _hang(case: Case) -> None:
    case.signal_a_rank(signal.SIGSTOP)


def _scancel(case: Case) -> None:
    if not case.on_slurm:
        raise NotPossible("there is no Slurm job to cancel")
    _run("scancel", case.job)


def _damage(case: Case) -> None:
    """The newest checkpoint loses a few bits, and a rank dies."""
    newest = case.run.checkpoints / f"step-{committed_steps(case.run.checkpoints)[-1]:08d}"
    largest = max(newest.iterdir(), key=lambda path: path.stat().st_size)
    with open(largest, "r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    case.signal_a_rank(signal.SIGKILL)


def _disk_full(case: Case) -> None:
    """The disk of the run folder is full for a while."""
    _fill(case, FULL_FOR_S, lambda: None)


def _fill(case: Case, seconds: float, then: Callable[[], object]) -> None:
    """Fill the small disk of the run, call `then`, and empty it after so many seconds."""
    filler = Path(case.plan.runs) / "filler"
    case.full = _heartbeat(case.run, 0)
    with open(filler, "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        except OSError:
            then()
            time.sleep(seconds)
    filler.unlink()


def _disk_full_at_the_end(case: Case) -> None:
    """The walltime ends while the disk is full."""
    supervisor = _need(case.run.supervisor)
    _fill(case, FULL_AT_THE_END_S, lambda: case.signal_process(supervisor["host"], supervisor["pid"], signal.SIGUSR2))


def _node_down(case: Case) -> None:
    bed = _bed(case)
    node = _heartbeat(case.run, case.plan.resources.ranks - 1)["host"]
    _run(*bed, "kill", node)
    _run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=drill")
    case.undo.append(lambda: _run(*bed, "revive", node))


def _controller_down(case: Case) -> None:
    """The controller is away just when the walltime ends."""
    bed = _bed(case)
    supervisor = _need(case.run.supervisor)
    _run(*bed, "kill", "slurmctld")
    case.signal_process(supervisor["host"], supervisor["pid"], signal.SIGUSR2)
    time.sleep(DOWN_FOR_S)
    _run(*bed, "revive", "slurmctld")


def _bed(case: Case) -> list[str]:
    """The command of the test bed, where the Slurm is one."""
    conf = Path(os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf"))
    command = Path(__file__).parents[2] / "env/bed"
    if not case.on_slurm or not (conf.parent / "pids.json").exists() or not command.exists():
        raise NotPossible("only on the test bed: it needs the rights of an administrator")
    return [str(command)]


class Fault(NamedTuple):
    """What happens to a run, in words, and what makes it happen."""

    what: str
    inject: Callable[[Case], None] | None
    fills_disk: bool = False
    """So that the run needs a small disk of its own."""


NO_FAULT = Fault("nothing", None)
FAULTS = {
    "signal": Fault("the walltime ends", _walltime),
    "term": Fault("TERM, as from preemption", _term),
    "kill9": Fault("a rank is killed", _kill_rank),
    "supervisor": Fault("the supervisor is killed", _kill_supervisor),
    "hang": Fault("a rank stands still", _hang),
    "damage": Fault("the newest checkpoint is damaged, and a rank is killed", _damage),
    "scancel": Fault("the job is cancelled", _scancel),
    "disk": Fault("the disk is full for a while", _disk_full, fills_disk=True),
    "disk+signal": Fault("the disk is full when the walltime ends", _disk_full_at_the_end, fills_disk=True),
    "node": Fault("a node goes down", _node_down),
    "controller": Fault("the controller is away when the walltime ends", _controller_down),
}


def help_text() -> str:
    """Return the faults by name."""
    return "\n".join(["faults:", *(f"  {name:<14}{fault.what}" for name, fault in FAULTS.items()), ""])


def mount(place: Path) -> None:
    if os.geteuid() != 0:
        raise NotPossible("a disk of its own to fill: that needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NotPossible(f"a disk of its own to fill: {' '.join(done.stderr.split())}")


def unmount(place: Path) -> None:
    """Unmount the disk of a run, and keep what the run has written, but for its checkpoints."""
    copy = place.with_name(f"{place.name}.kept")
    shutil.copytree(place, copy, symlinks=True, ignore=shutil.ignore_patterns("checkpoints", "filler"))
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)
    place.rmdir()
    copy.rename(place)


def _need(path: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] | None = read_json(path)
    if content is None:
        raise NotPossible(f"{path} is not there: the stage says nothing of its progress")
    return content


def _heartbeat(run: RunDir, rank: int) -> Mapping[str, Any]:
    if not (heartbeat := records.heartbeat(run, rank)):
        raise NotPossible(
            f"rank {rank} has no heartbeat in {run.node(0).parent}: the stage says nothing of its progress"
        )
    return heartbeat


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotPossible(f"{' '.join(words)}: {' '.join(done.stderr.split())}")
