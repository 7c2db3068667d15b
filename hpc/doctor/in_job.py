"""The batch step of a probe's job: `python -m hpc.doctor.in_job PROBE FOLDER`.

It reads PROBE.task.json in the folder, and writes what it has seen to PROBE.json there: whole or not at all. Each probe
is a function of its task that yields what it has seen so far; what it yields last is its result.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from hpc.doctor import PROBES, looks
from hpc.doctor.on_node import node_name
from hpc.runs.rundir import read_json, write_json
from hpc.slurm import commands, words
from hpc.supervise import health, requeue
from hpc.supervise.node_check import MARK

Task = Mapping[str, Any]
Seen = dict[str, Any]

MARK_OF_SUBMISSION = "HPC_DOCTOR_SUBMITS"
"""A variable of the shell that submits: whether jobs get its environment."""
ANSWER_S = 60.0
MEMORY_MB = 150
EATER = "import sys, time; x = bytearray({n} << 20); print('{word}', flush=True); time.sleep({hold})"
EATEN = "still-here"
POLL_S = 0.1
PATIENCE_S = 60.0


def nodes(task: Task, environ: Mapping[str, str]) -> Iterator[Seen]:
    """What the nodes have: disks, ways between them, cores; and whether --mem is enforced."""
    job, host = environ["SLURM_JOB_ID"], node_name(environ)
    seen: Seen = {
        "host": host,
        "gets_environment": MARK_OF_SUBMISSION in environ,
        "export": environ.get("SLURM_EXPORT_ENV", ""),
        "scontrol": commands.run("scontrol", "show", "job", "-o", job, patience_s=commands.ACT_S).error,
        "sbatch": _would_submit(task),
        "cores": looks.cores(environ),
    }
    on_nodes: Seen = {
        "folder": task["folder"], "scratch": task["scratch"], "account": task["account"], "secret": token_hex(16),
        "measures": host, "has_peers": task["nodes"] > 1,
    }  # fmt: skip
    answers = health.ask("hpc.doctor.on_node", on_nodes, task["nodes"], lambda: False, ANSWER_S)
    seen |= {"nodes": answers.nodes, "silent": answers.why if len(answers.nodes) < task["nodes"] else ""}
    yield seen
    yield seen | {"memory": _eat(task)}


def python(task: Task, environ: Mapping[str, str]) -> Iterator[Seen]:
    """What Python and torch are on a node, and how long torch takes to import."""
    yield {"host": node_name(environ), **looks.software()}


def _would_submit(task: Task) -> str:
    """Return why a job cannot be submitted from a node; empty if it can."""
    script = "#!/bin/sh\nexit 0\n"
    answer = commands.run("sbatch", "--test-only", *task["options"], patience_s=commands.ACT_S, text=script)
    return "" if answer.ok else answer.error


def _eat(task: Task) -> Seen:
    """Use more memory than a step may, and see who notices."""
    eater = EATER.format(n=3 * MEMORY_MB, word=EATEN, hold=task["looks_every_s"])
    command = [
        "srun", "--overlap", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", f"--mem={MEMORY_MB}M", "--mpi=none",
        "--export=ALL", sys.executable, "-c", eater,
    ]  # fmt: skip
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return {"error": f"srun has not ended within {PATIENCE_S:.0f} s"}
    ended = words.of_step(done.stderr.splitlines())
    return {
        "asked_mb": MEMORY_MB, "used_mb": 3 * MEMORY_MB, "survived": done.returncode == 0,
        "allocated": EATEN in done.stdout, "is_oom": bool(ended and ended.kind == words.OUT_OF_MEMORY),
        "seconds": round(time.monotonic() - began, 1), "error": words.essence(done.stderr),
    }  # fmt: skip


def warning(task: Task, environ: Mapping[str, str]) -> Iterator[Seen]:
    """Whether the signal before the end of the walltime arrives, and how early."""
    heard: list[tuple[int, float]] = []
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, lambda number, _: heard.append((number, time.time())))
    job = environ["SLURM_JOB_ID"]
    # Only now, as it may have taken minutes to power the node up: Slurm warns once, also a job that is not there yet
    answer = commands.run(
        "scontrol", "update", f"JobId={job}", f"TimeLimit={task['minutes']}", patience_s=commands.ACT_S
    )
    end = words.time_of(commands.run("squeue", "-h", "-j", job, "-o", "%e", patience_s=commands.ACT_S).out)
    while not heard and (end is None or time.time() < end + PATIENCE_S):
        time.sleep(POLL_S)
    first, when = heard[0] if heard else (0, time.time())
    yield {
        "host": node_name(environ), "asked_s": task["lead_s"], "signal": signal.Signals(first).name if first else "",
        "lead_s": None if end is None else round(end - when), "limit": answer.error,
    }  # fmt: skip


def requeued(task: Task, environ: Mapping[str, str]) -> Iterator[Seen]:
    """Whether a job can put itself back into the queue, as a run does at the end of its walltime."""
    job, result = environ["SLURM_JOB_ID"], Path(task["result"])
    before = read_json(result) or {}
    if environ.get("SLURM_RESTART_COUNT", "0") != "0" and before.get("left"):
        yield before | {"again_after_s": round(time.time() - before["left"], 1)}
        return
    seen: Seen = {"host": node_name(environ), "left": time.time()}
    write_json(result, {**seen, **task["head"], "is_complete": False})
    refused = requeue.requeue(job, (), time.monotonic() + PATIENCE_S)
    if refused is None:
        os._exit(0)  # at once, as a run: Slurm would hold it for two minutes otherwise
    yield seen | {"refused": refused}


def gpus(task: Task, environ: Mapping[str, str]) -> Iterator[Seen]:
    """How many GPUs each of several tasks sees, and what torch makes of them."""
    n = task["gpus"]
    command = [
        "srun", "--overlap", "--nodes=1", f"--ntasks={n}", f"--ntasks-per-node={n}", "--cpus-per-task=1", "--mpi=none",
        "--export=ALL", "--wait=0", sys.executable, "-PB", "-m", "hpc.doctor.in_job", "task", "-",
    ]  # fmt: skip
    done = commands.run(*command, patience_s=ANSWER_S)
    tasks = [json.loads(line.removeprefix(MARK)) for line in done.out.splitlines() if line.startswith(MARK)]
    seen: Seen = {"host": node_name(environ), "asked": n, "tasks": tasks, "error": "" if done.ok else done.error}
    seen["batch"] = looks.seen_gpus(environ)
    if seen["batch"]["nvidia"] or seen["batch"]["amd"]:
        seen["torch"] = looks.torch()
    yield seen


FUNCTIONS: dict[str, Callable[[Task, Mapping[str, str]], Iterator[Seen]]] = dict(
    zip(PROBES, (nodes, python, warning, requeued, gpus), strict=True)
)


def help_text() -> str:
    """Return the list of the probes, for the help of the verb."""
    rows = [f"  {name:<10}{(probe.__doc__ or '').splitlines()[0]}" for name, probe in FUNCTIONS.items()]
    return "\n".join(["probes (all, unless some are named):", *rows, ""])


def main(name: str, folder: Path, environ: Mapping[str, str]) -> None:
    if name == "task":
        print(MARK + json.dumps({"rank": environ.get("SLURM_PROCID", ""), **looks.seen_gpus(environ)}), flush=True)
        return
    task: dict[str, Any] | None = read_json(folder / f"{name}.task.json")
    assert task, f"{folder} has no {name}.task.json"
    head = {"probe": name, "job": environ["SLURM_JOB_ID"], "meaning": task["meaning"], "slurm": task["slurm"]}
    task |= {"result": str(folder / f"{name}.json"), "head": head}
    seen: Seen = {}
    for seen in FUNCTIONS[name](task, environ):
        write_json(Path(task["result"]), {**seen, **head, "is_complete": False})
    write_json(Path(task["result"]), {**seen, **head, "ended": time.time(), "is_complete": True})


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main(sys.argv[1], Path(sys.argv[2]), os.environ)
