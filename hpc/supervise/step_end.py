"""What Slurm, or the kernel, has done to the ranks of an attempt: memory, a lost node, a prolog.

Slurm says so in the output of srun, the kernel to the fork server of the rank (hpc/rank/forkserver.py). srun calls a
rank that was out of memory `Killed` at times: it looks at the limit of the step, and that of the job may be met first.
"""

import math
import re
import signal
from collections.abc import Mapping
from typing import Any

from hpc.runs import records
from hpc.runs.rundir import AttemptDir, RunDir, read_json
from hpc.slurm import words
from hpc.supervise.fault_texts import Fault

GB, MB = 1 << 30, 1 << 20
"""As of --mem, and of sbatch."""
AT_LIMIT = 0.9
"""The share of the limit from which on it was the limit, and not the node, that had no more."""


def cause(folder: AttemptDir) -> tuple[str, str, Fault] | None:
    """Return why the attempt ended, the node to which it is laid, and whose fault it is; None if nothing is said."""
    plan = records.plan(RunDir(folder.path.parent.parent))
    if notes := _notes(folder):
        note = notes[0]
        return _out_of_memory(f"rank {note['rank']} on {note['host']}", str(note["host"]), note, plan)
    line = words.of_step(folder.srun_lines())
    if line is None:
        return None
    where = f" on {line.node}" if line.node else ""
    if line.kind == words.OUT_OF_MEMORY:
        who = "a rank" if line.rank is None else f"rank {line.rank}"
        asked_gb = plan.get("resources", {}).get("mem_gb")
        sizes = {"limit_b": round(asked_gb * GB)} if asked_gb else {}
        return _out_of_memory(f"{who}{where}", line.node, sizes, plan)
    if line.kind == words.PROLOG:
        return f"{words.PROLOG}: the site's own script before a job has failed{where}", line.node, "node"
    return f"{words.NODE_FAILURE}: {line.node} is lost, says Slurm", line.node, "node"


def first_error(folder: AttemptDir) -> str:
    """Return what srun says first if it can start nothing; empty if it says nothing, or that a task has ended."""
    error = next((line for line in folder.srun_lines() if line.startswith("srun: error: ")), "")
    return "" if re.search(r": tasks? [\d,-]+: ", error) else error.removeprefix("srun: error: ")


def _notes(folder: AttemptDir) -> list[dict[str, Any]]:
    """Return what the fork servers have written, first those of ranks that were killed themselves, and not only a
    process of theirs, or a neighbour under the same limit."""
    notes = [note for path in sorted(folder.path.glob("rank-*.memory.json")) if (note := read_json(path))]
    return sorted(notes, key=lambda note: note["code"] != -signal.SIGKILL)


def _out_of_memory(who: str, node: str, sizes: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[str, str, Fault]:
    """`sizes`: limit_b of the job on a node, peak_b of what it had there, rank_b of what the rank had; if known."""
    limit_b, peak_b, rank_b = (sizes.get(name) for name in ("limit_b", "peak_b", "rank_b"))
    had = f"; the rank itself had {size(rank_b)}" if rank_b else ""
    what = f"a process of {who}" if sizes.get("code", -signal.SIGKILL) != -signal.SIGKILL else who
    if "rank_b" in sizes and (limit_b is None or (peak_b is not None and peak_b < AT_LIMIT * limit_b)):
        limit = f", and not at the limit of its job, {size(limit_b)}" if limit_b else ""
        return f"{words.OUT_OF_MEMORY}: {what} was killed as the node had no memory left{limit}{had}", node, "program"
    limit = f"the limit of {size(limit_b)} a node" if limit_b else "the limit of its job"
    return f"{words.OUT_OF_MEMORY}: {what} was killed at {limit}{had}; {_more(limit_b, plan)}", "", "user"


def _more(limit_b: int | None, plan: Mapping[str, Any]) -> str:
    """Say what would help."""
    if plan.get("site", {}).get("kind") != "slurm":
        return "fewer --ranks share it among fewer"
    more = max(1, math.ceil(2 * limit_b / GB)) if limit_b else "GB"
    return f"resume {plan.get('name', 'RUN')} --mem {more} asks for more, fewer --ranks a node share it among fewer"


def size(n_b: int) -> str:
    """Return `300 MB` or `3.5 GB`, as --mem counts."""
    return f"{n_b / GB:.3g} GB" if n_b >= GB else f"{n_b / MB:.0f} MB"
