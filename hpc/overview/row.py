"""What the page of all runs shows of a run: its state, which `status` has read, and what its files say besides.

A row is plain text and numbers, ready for JSON. The latter part is kept from one page to the next, as long as the files
look the same.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hpc import media
from hpc.book import allocations
from hpc.config import plugins
from hpc.overview import curves
from hpc.runs import records
from hpc.runs.rundir import LIST, RESULT, RunDir, all_lines
from hpc.runs.status import State, figure

Row = dict[str, Any]
PICTURES, PAGES = (".png", ".jpg", ".jpeg", ".svg", ".webp", ".gif"), (".html",)
MOST_FILES, MOST_METRICS, MOST_LETTERS = 12, 60, 300
"""How many pictures or pages, and figures, are listed; how long a text is."""
LOOKED_AT = (
    "", "out", "events.jsonl", "attempts.jsonl", "metrics.jsonl", "jobs/allocations.jsonl", RESULT, "plan.json",
)  # fmt: skip
"""The files of a run that say whether anything has changed."""


def of(state: State, run: RunDir, runs: str, before: Any) -> tuple[Row, Any]:
    """Return the row of a run, and what is to be kept of it.

    Parameters
    ----------
    state
        As `status` has it.
    run
        Its folder; of a run on a cluster, that of what was fetched, if it is there.
    runs
        The folder of the page: links begin there.
    before
        What was kept of it before, or None.
    """
    try:
        look = _look(run) if state.ended else None
        is_same = look is not None and isinstance(before, list) and before[:1] == [look]
        entry: list[Any] = before if is_same else [look, _files_of(run, runs)]
    except Exception as error:  # noqa: BLE001  the edge: a damaged run hides no other one
        entry = [None, {"damage": f"its files are damaged: {type(error).__name__}: {error}"}]
    files: dict[str, Any] = dict(entry[1])
    damage = files.pop("damage", "")
    seconds, node_s, cpu_s, gpu_s = files.pop("spent", (0.0, 0.0, 0.0, 0.0))
    row: Row = {
        "run": state.run,
        "name": state.name,
        "stage": state.stage or state.run.rpartition("-")[0],
        "settings": state.settings,
        "word": state.word,
        "text": "; ".join(filter(None, [damage, state.text])),
        "why": state.why,
        "since": state.time,
        "headline": state.headline,
        "value": _finite(state.value),
        "chance": _finite(state.chance),
        "done": state.done,
        "total": state.total,
        "left_s": _finite(state.left_s),
        "job": state.job,
        "site": state.site,
        "nodes": state.nodes,
        "attempt": state.attempt,
        "hours": round(seconds / 3600, 4),
        "node_hours": round(node_s / 3600, 4),
        "cpu_hours": round(cpu_s / 3600, 4),
        "gpu_hours": round(gpu_s / 3600, 4),
        **files,
    }
    row["metrics"] = row.get("metrics") or _metrics(state.figures)
    return clean(row), entry


def clean(value: Any) -> Any:
    """Return the same with texts of one line that control nothing, not too long, and numbers that JSON knows."""
    if isinstance(value, str):
        return media.one_line(value)[: 8 * MOST_LETTERS]
    if isinstance(value, dict):
        return {clean(str(name)): clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    return _finite(value) if isinstance(value, float) else value


def link(*parts: str) -> str:
    """Return the address of a file, from the page on: a name with any letters, and nothing but a path."""
    return "./" + quote(os.fsencode("/".join(parts)))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _look(run: RunDir) -> list[Any]:
    looks: list[Any] = []
    for name in LOOKED_AT:
        try:
            entry = os.stat(f"{run.folder}/{name}")
            looks.append([entry.st_mtime_ns, entry.st_size])
        except (FileNotFoundError, NotADirectoryError):
            looks.append(None)
    return looks


def _files_of(run: RunDir, runs: str) -> dict[str, Any]:
    """Return what the files of a run say, but for its state."""
    plan, result, _ = records.whole(run, is_heard=True)
    place = os.path.relpath(run.folder, runs)
    attempts = records.attempts(run)
    submitted = records.submissions(run)
    declared = plugins.shown(plan.get("entry", ""), "curves")
    pages, pictures = _products(run, place)
    return {
        "sources": " ".join(plan.get("sources", [])),
        "inputs": plan.get("inputs", {}),
        "submitted": submitted[0]["time"] if submitted else None,
        "began": attempts[0]["started"] if attempts else None,
        "ended": result.get("ended") or (attempts[-1].get("ended") if attempts else None),
        "attempts": len(attempts),
        "spent": _spent(run, plan),
        "metrics": _metrics(result.get("metrics") or {}),
        "curves": curves.read(f"{run.folder}/metrics.jsonl", declared),
        "pages": pages,
        "pictures": pictures,
        "logs": _logs(run, place, submitted, len(attempts)),
        "files": [[name, link(place, name)] for name in OWN if os.path.exists(f"{run.folder}/{name}")],
    }


OWN = ("config.yaml", "metrics.jsonl", "events.jsonl", RESULT)


def _spent(run: RunDir, plan: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the wall time of a run, and that of its nodes, cores and GPUs, as `hpc book` counts them."""
    jobs = allocations.by_records(run, plan)
    return (
        sum(job.seconds for job in jobs),
        sum(job.seconds * job.nodes for job in jobs),
        sum(job.seconds * job.cpus for job in jobs),
        sum(job.seconds * job.gpus for job in jobs),
    )


def _metrics(metrics: Mapping[str, Any]) -> list[list[Any]]:
    """Return `[name, value, chance]` of each figure, of a text `[name, text, None]`."""
    rows: list[list[Any]] = []
    for name, metric in list(metrics.items())[:MOST_METRICS]:
        value, chance = figure(metric)
        if value is not None:
            rows.append([name, value if math.isfinite(value) else str(value), chance])
        elif isinstance(metric, str):
            rows.append([name, metric[:MOST_LETTERS], None])
        elif isinstance(metric, list):
            rows.append([name, "; ".join(map(str, metric))[:MOST_LETTERS], None])
    return rows


def _products(run: RunDir, place: str) -> tuple[list[list[str]], list[list[str]]]:
    """Return the pages and the pictures in `out`, each as `[name, link]`: report.html first."""
    names = [str(line["file"]) for line in all_lines(f"{run.folder}/out/{LIST}") if line and "file" in line]
    if not names and os.path.isdir(f"{run.folder}/out"):
        names = sorted(os.listdir(f"{run.folder}/out"))
    return _of_kind(names, PAGES, run, place), _of_kind(names, PICTURES, run, place)


def _of_kind(names: Iterable[str], suffixes: tuple[str, ...], run: RunDir, place: str) -> list[list[str]]:
    meant = sorted(
        {name for name in names if name.lower().endswith(suffixes) and ".." not in name.split("/")},
        key=lambda name: (name != "report.html", name),
    )[:MOST_FILES]
    return [[name, link(place, "out", name)] for name in meant if os.path.exists(f"{run.folder}/out/{name}")]


def _logs(run: RunDir, place: str, submitted: Sequence[Any], n_attempts: int) -> list[list[str]]:
    """Return the logs that are not empty: of the first rank in the last attempt, and of the last job."""
    names = []
    for number in (n_attempts + 1, n_attempts):  # one that runs has no line in attempts.jsonl yet
        log = f"jobs/attempt-{number:04d}/rank-0000.log"
        if os.path.exists(f"{run.folder}/{log}"):
            names.append(("log", log))
            break
    last = submitted[-1] if submitted else {}
    of_job = f"{last.get('log', '')}/{last.get('job', '')}_0_log.out"
    if os.path.dirname(of_job) == f"{run.folder}/jobs" and os.path.exists(of_job):
        names.append(("log of the job", f"jobs/{os.path.basename(of_job)}"))
    if os.path.exists(f"{run.folder}/jobs/supervisor.log"):
        names.append(("log of the supervisor", "jobs/supervisor.log"))
    return [[name, link(place, log)] for name, log in names]
