"""Lines that the job of a run gives when the run has ended: so a search goes on without a process that waits for it.

runs/train-k3f9x2ab/jobs/follow-ups.jsonl   {"words", "cwd", "python", "archive", "sent"}, one for each search
runs/.searches/code-3f2a91c0d4e5b6a7.json   what is known of the code that gives them: the run's own copy
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.plan.snapshot import SENT
from hpc.runs.rundir import RunDir, append_line, atomic_write, read_lines
from hpc.runs.unpack import ARCHIVE, UNPACKED
from hpc.slurm import commands

FOLLOW_UP = "HPC_FOLLOW_UP"
"""The variable that says that a job gives the line, and not a person: what a person has stopped stays so."""
PATIENCE_S = 600.0


def note(run: RunDir, words: Sequence[str], *, cwd: str, python: str, snapshot: Path, origin: str) -> None:
    """Note a line for the end of a run, once.

    Parameters
    ----------
    words
        The verb and its words.
    cwd, python
        Where, and with which Python.
    snapshot
        The copy of the code that gives it.
    origin
        What is known of that code: see hpc.plan.snapshot.origin.
    """
    sent = run.path.parent / ".searches" / f"code-{snapshot.name}.json"
    if not sent.exists():
        atomic_write(sent, lambda file: file.write(origin.encode()))
    line = {
        "words": list(words),
        "cwd": cwd,
        "python": python,
        "archive": str(snapshot / ARCHIVE),
        "sent": str(sent),
    }
    if line not in read_lines(run.follow_ups):
        run.jobs.mkdir(parents=True, exist_ok=True)
        append_line(run.follow_ups, line)


def give(run: RunDir, environ: Mapping[str, str]) -> None:
    """Give the lines that were noted for the end of a run. What they print stays if one of them fails."""
    copy = environ.get(UNPACKED, "")
    path = [each for each in environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    outside = [each for each in path if not (copy and each.startswith(copy))]  # the copy is of this node, and old soon
    inherited = commands.without_job(environ) | {"PYTHONPATH": os.pathsep.join(outside), FOLLOW_UP: run.name}
    log = run.jobs / "follow-up.log"
    codes = []
    with open(log, "a") as out:
        for line in read_lines(run.follow_ups):
            command = [line["python"], "-PBu", line["archive"], "-m", "hpc.launch", *line["words"]]
            try:
                done = subprocess.run(
                    command, cwd=line["cwd"], env=inherited | {SENT: line["sent"]}, stdin=subprocess.DEVNULL,
                    stdout=out, stderr=out, check=False, timeout=PATIENCE_S,
                )  # fmt: skip
                codes.append(done.returncode)
            except (OSError, subprocess.TimeoutExpired) as error:
                out.write(f"{error}\n")
                codes.append(1)
    if not any(codes):
        log.unlink(missing_ok=True)
