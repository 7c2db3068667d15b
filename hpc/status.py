"""What has become of a run, read from its folder; Slurm is asked only about a job that waits."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from hpc.config import ConfigError, did_you_mean
from hpc.rundir import RunDir, read_json, read_lines

SILENT_S = 30
"""A supervisor that has not written for so long is gone."""
ENDED = ("finished", "failed", "stopped", "lost")


@dataclass(frozen=True)
class State:
    """`word`: queued, running, requeued, or how it ended: finished, failed, stopped, lost."""

    run: str
    word: str
    job: str = ""
    """The Slurm job, or the pid of the supervisor on this machine."""
    on_slurm: bool = False
    nodes: int = 0
    attempt: int = 0
    what: str = ""
    done: int = 0
    total: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    left_s: float | None = None
    """How long it still takes, from how fast this attempt has been so far."""
    text: str = ""

    @property
    def ended(self) -> bool:
        return self.word in ENDED


def look(run: RunDir) -> State:
    """What its folder says. A run that waits or runs costs a few small files, a finished one too."""
    supervisor = read_json(run.supervisor) or {}
    submitted = (read_lines(run.submissions) or [{}])[-1]
    pulse = read_json(run.pulse(0)) or {}
    plan = read_json(run.plan) or {}
    word, text = _word(run, supervisor, submitted)
    return State(
        run.name,
        word,
        job=str(supervisor.get("job") or submitted.get("job", "")),
        on_slurm=supervisor.get("job") is not None or submitted.get("kind") == "slurm",
        nodes=plan.get("resources", {}).get("nodes", 0),
        attempt=supervisor.get("attempt", 0),
        what=pulse.get("what", ""),
        done=pulse.get("done", 0),
        total=pulse.get("total", 0),
        figures=pulse.get("figures", {}),
        left_s=_left_s(pulse, supervisor) if word == "running" else None,
        text=text,
    )


def _left_s(pulse: dict, supervisor: dict) -> float | None:
    """From where and when this attempt began to where it is."""
    if not pulse or pulse["attempt"] != supervisor.get("attempt"):
        return None
    done, seconds = pulse["done"] - pulse["from"], pulse["time"] - pulse["began"]
    return (pulse["total"] - pulse["done"]) * seconds / done if done > 0 else None


def _word(run: RunDir, supervisor: dict, submitted: dict) -> tuple[str, str]:
    if run.result.exists():
        return "finished", ""
    if not supervisor and not submitted:
        return "stopped", "never started"
    if supervisor.get("time", 0) < submitted.get("time", 0):  # this submission's supervisor has not spoken yet
        return _waiting(run, submitted["job"], submitted["kind"] == "slurm")
    if supervisor["state"] == "running":
        if _alive(supervisor):
            return "running", supervisor["text"]
        return "lost", f"its supervisor (pid {supervisor['pid']} on {supervisor['host']}) ended without a word"
    if supervisor["state"] == "requeued":
        return _waiting(run, supervisor["job"], on_slurm=True)
    return supervisor["state"], supervisor["text"]


def _waiting(run: RunDir, job: str, on_slurm: bool) -> tuple[str, str]:
    if not on_slurm:
        if not _process_ended(int(job)):
            return "queued", "starting"
        return "lost", f"its supervisor did not start, see {run.jobs / 'supervisor.log'}"
    try:
        asked = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%T %r"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "queued", f"squeue does not answer: {error}"
    if asked.returncode == 0 and asked.stdout.strip():
        state, _, reason = asked.stdout.strip().partition(" ")
        return ("queued", f"{state.lower()}: {reason}") if state == "PENDING" else ("queued", state.lower())
    if asked.returncode == 0 or "Invalid job id" in asked.stderr:
        return (
            "lost",
            f"Slurm no longer knows job {job}: cancelled while it waited, or ended at its start (see {run.jobs})",
        )
    return "queued", f"squeue does not answer: {asked.stderr.strip()}"


def _alive(supervisor: dict) -> bool:
    here = supervisor["host"] == os.uname().nodename
    return time.time() - supervisor["time"] < SILENT_S and not (here and _process_ended(supervisor["pid"]))


def _process_ended(pid: int) -> bool:
    """Whether a process of this machine is gone, or dead and not reaped yet (state Z)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def find(name: str, runs: Path) -> RunDir:
    """The run of that name, of a name that begins so, or of that job."""
    known = [path.parent for path in runs.glob("*/plan.json")]
    exact = [path for path in known if path.name == name]
    near = exact or [path for path in known if path.name.startswith(name) or path.name.endswith(f"-{name}")]
    near = near or [
        path for path in known if name in [str(line["job"]) for line in read_lines(RunDir(path).submissions)]
    ]
    if len(near) == 1:
        return RunDir(near[0])
    if near:
        raise ConfigError(f"{name!r} could be {', '.join(sorted(path.name for path in near))}: say more of it")
    raise ConfigError(f"there is no run {name!r} in {runs}.{did_you_mean(name, sorted(path.name for path in known))}")


def all_runs(runs: Path) -> list[RunDir]:
    """Those of a folder, the one last touched last."""
    folders = sorted((path.parent for path in runs.glob("*/plan.json")), key=lambda path: path.stat().st_mtime)
    return [RunDir(path) for path in folders]


def table(states: list[State]) -> str:
    if not states:
        return "no runs here yet"
    rows = [("RUN", "STATE", "JOB", "NODES", "ATTEMPT", "DONE", "FIGURES", "LEFT", "")]
    for state in states:
        rows.append(
            (
                state.run,
                state.word,
                state.job,
                str(state.nodes),
                str(state.attempt),
                f"{state.done}/{state.total}" if state.total else "-",
                " ".join(f"{name} {value:.3g}" for name, value in state.figures.items()) or "-",
                "-" if state.left_s is None else _clock(state.left_s),
                state.text,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
