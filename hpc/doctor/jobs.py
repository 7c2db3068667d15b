"""The jobs of the probes: submits them once, finds them again, and waits for what they write.

All of it is in a folder, so that `hpc doctor` can be stopped at any time: PROBE.task.json what a job is to look at,
PROBE.job its number, PROBE.began written by its script, PROBE.out its output, PROBE.json what it has seen.
"""

import shlex
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hpc
from hpc.doctor.slurm_facts import as_words
from hpc.runs.rundir import atomic_write, read_json, write_json
from hpc.site.profile import duration_s
from hpc.slurm import commands, words
from hpc.slurm.squeue import Queue

MEANING = 1
"""Raise it if a probe looks at something else: what an earlier version has seen is probed anew then."""
POLL_S = 0.5
HELD_S = 20.0
"""A requeued job that may not start for longer than that is held."""
GONE_S, UNSEEN_S = 5.0, 65.0
"""How long after the end of a job its files may need to be seen here, if its output is, and if nothing of it is."""


@dataclass
class Probe:
    """A job that looks at something.

    Parameters
    ----------
    name
        Its function in in_job.py.
    what
        What it looks at, in words.
    options
        Those of sbatch that are its own.
    task
        What its function needs.
    """

    name: str
    what: str
    options: dict[str, str]
    task: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of a probe: what it has seen, or why there is nothing."""

    seen: dict[str, Any] | None = None
    why: str = ""
    waits: bool = False
    """Its job is in the queue still."""


class Jobs:
    """The jobs of one site.

    Parameters
    ----------
    folder
        Where they write; all nodes must see it.
    options
        The options of sbatch that all of them get.
    prologue
        Lines at the start of each script.
    slurm
        Which Slurm it is: what was seen of another one, or of another version, does not count.
    """

    def __init__(self, folder: Path, options: Mapping[str, str], prologue: Sequence[str], slurm: str) -> None:
        self.folder = folder
        self.options = options
        self.prologue = prologue
        self.slurm = slurm
        self.queue = Queue()

    def seen(self, name: str) -> dict[str, Any] | None:
        """Return what a probe has seen, if it has come to its end."""
        seen = self._partial(name)
        return seen if seen and seen.get("is_complete") else None

    def forget(self, name: str) -> None:
        """Remove all of a probe; its job is cancelled."""
        if job := self.job(name):
            commands.run("scancel", job, patience_s=commands.ACT_S)
        for path in self.folder.glob(f"{name}.*"):
            path.unlink()

    def job(self, name: str) -> str:
        try:
            return (self.folder / f"{name}.job").read_text().strip()
        except FileNotFoundError:
            return ""

    def submit(self, probe: Probe) -> str:
        """Submit a probe, unless its job is there already; return why Slurm refuses it, or an empty text."""
        label = f"doctor-{probe.name}-{zlib.crc32(str(self.folder).encode()):08x}"
        before = self.job(probe.name) or self._by_name(label)  # stopped between sbatch and its answer
        if before and before in self.queue.look([before]):
            self._note(probe.name, before)
            return ""
        self.forget(probe.name)
        options = {**self.options, **probe.options, "job-name": label, "output": self._output(probe.name)}
        task = {**probe.task, "meaning": MEANING, "slurm": self.slurm, "options": as_words(self.options)}
        write_json(self.folder / f"{probe.name}.task.json", task)
        answer = commands.run(
            "sbatch", "--parsable", "--open-mode=append", *as_words(options),
            patience_s=commands.ACT_S, text=self.script(probe.name),
        )  # fmt: skip
        if not answer.ok:
            return answer.error
        self._note(probe.name, answer.out.strip().partition(";")[0])
        return ""

    def _note(self, name: str, job: str) -> None:
        atomic_write(self.folder / f"{name}.job", lambda file: file.write(f"{job}\n".encode()))

    def _by_name(self, label: str) -> str:
        answer = commands.run("squeue", "--me", "-h", f"--name={label}", "-o", "%i", patience_s=commands.ASK_S)
        return (answer.out.split() or [""])[0]

    def _output(self, name: str) -> str:
        return f"{str(self.folder).replace('%', '%%')}/{name}.out"

    def script(self, name: str) -> str:
        began, root = shlex.quote(str(self.folder / f"{name}.began")), str(Path(hpc.__file__).parents[1])
        command = [sys.executable, "-PB", "-u", "-m", "hpc.doctor.in_job", name, str(self.folder)]
        lines = [
            "#!/bin/bash", *self.prologue, f'echo "$SLURM_JOB_ID" > {began}', "trap '' USR2",
            f"export PYTHONPATH={shlex.quote(root)}", f"exec {shlex.join(command)}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def wait(self, probes: Sequence[Probe], wait: str, say: Callable[[str], None]) -> dict[str, Outcome]:
        """Wait until each has come to its end, or has waited too long for its start."""
        outcomes: dict[str, Outcome] = {}
        until = {probe.name: time.monotonic() + duration_s(wait) for probe in probes}
        gone: dict[str, float] = {}
        announced: set[str] = set()
        while left := [probe for probe in probes if probe.name not in outcomes]:
            in_queue = self.queue.look([self.job(probe.name) for probe in left])
            for probe in left:
                name, job = probe.name, self.job(probe.name)
                line = in_queue.get(job)
                has_begun = (self.folder / f"{name}.began").exists()
                if has_begun and name not in announced:
                    announced.add(name)
                    say(f"{name}: job {job} has begun")
                if seen := self.seen(name):
                    outcomes[name] = Outcome(seen)
                elif name == "requeue" and (held := self._held(job)):
                    outcomes[name] = Outcome(held)
                elif line is None and not self.queue.silence_of(job):
                    gone.setdefault(name, time.monotonic())
                    patience_s = GONE_S if (self.folder / f"{name}.out").exists() else UNSEEN_S
                    if time.monotonic() > gone[name] + patience_s:
                        outcomes[name] = Outcome(self._partial(name), self._nothing(name, job, has_begun))
                elif line and not has_begun and (never := words.waiting(job, line.reason)):
                    commands.run("scancel", job, patience_s=commands.ACT_S)
                    outcomes[name] = Outcome(None, f"{never}, so it was cancelled")
                elif not has_begun and time.monotonic() > until[name]:
                    outcomes[name] = Outcome(None, self._late(job, line, wait), waits=True)
                if name in outcomes:
                    say(f"{name}: {outcomes[name].why or 'done'}")
            if len(outcomes) < len(probes):
                time.sleep(POLL_S)
        return outcomes

    def _partial(self, name: str) -> dict[str, Any] | None:
        """Return what a job has seen until now."""
        seen = read_json(self.folder / f"{name}.json")
        counts = isinstance(seen, dict) and (seen.get("meaning"), seen.get("slurm")) == (MEANING, self.slurm)
        return seen if counts else None

    def _held(self, job: str) -> dict[str, Any] | None:
        """Return what is known of a job that has put itself back into the queue and is held there; it is cancelled."""
        partial = self._partial("requeue")
        if not partial or "left" not in partial or "refused" in partial:
            return None
        of_job = words.fields(commands.run("scontrol", "show", "job", "-o", job, patience_s=commands.ASK_S).out)
        eligible = words.time_of(of_job.get("EligibleTime", ""))
        if of_job.get("JobState") != "PENDING" or of_job.get("Restarts", "0") == "0":
            return None
        reason = of_job.get("Reason", "")
        held_s = 0.0 if eligible is None else eligible - partial["left"]
        if held_s <= HELD_S and not words.waiting(job, reason):
            return None
        commands.run("scancel", job, patience_s=commands.ACT_S)
        seen = {**partial, "held_s": round(held_s), "reason": reason, "is_complete": True}
        write_json(self.folder / "requeue.json", seen)
        return seen

    def _late(self, job: str, line: Any, wait: str) -> str:
        reason = f" (Slurm's reason: {line.reason})" if line and line.reason not in ("", "None") else ""
        start = f"; Slurm expects it to start at {line.start}" if line and line.start[:1].isdigit() else ""
        return (
            f"job {job} has not begun within {wait}{reason}{start}. It stays in the queue: give the "
            f"line again later, with a longer --wait if you like, or end it with `scancel {job}`"
        )

    def _nothing(self, name: str, job: str, has_begun: bool) -> str:
        """Say why a job has left nothing, as far as its traces tell."""
        try:
            output = (self.folder / f"{name}.out").read_text(errors="replace").strip().splitlines()
        except OSError:
            output = []
        state = self.queue.ended([job]).get(job, "")
        how = f"job {job} has ended{f' ({state})' if state else ''} before it was done"
        if output:
            return f"{how}; the end of its output: {output[-1].strip()}"
        if has_begun:
            return f"{how}, and has printed nothing; see {self.folder}"
        return (
            f"{how}, and nothing of it is in {self.folder}: does every node see that folder? Say --runs with one that "
            "all nodes see"
        )
