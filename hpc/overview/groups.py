"""Which runs of a page belong together: the trials of a search, what has one --name, the runs of a sweep."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hpc import media
from hpc.runs.rundir import Damaged, read_json
from hpc.runs.searches import FOLDER


def put(rows: Sequence[dict[str, Any]], runs: str) -> None:
    """Put the name of its group into each row; empty for a run that is alone."""
    of_search = _searches(runs)
    names = [of_search.get(row["run"]) or row["name"] or _sweep(row) for row in rows]
    counts = Counter(names)
    for row, name in zip(rows, names):
        row["group"] = name if counts[name] > 1 else ""


def _sweep(row: dict[str, Any]) -> str:
    """Return what the runs of a sweep have in common: stage and files, and which settings were given."""
    keys = [word.partition("=")[0] for word in row["settings"].split() if "=" in word]
    if not keys:
        return ""
    files = [word for word in row.get("sources", "").split() if "=" not in word]
    return f"{row['stage']} {', '.join(dict.fromkeys(keys))}{f' ({chr(32).join(files)})' if files else ''}"


def _searches(runs: str) -> dict[str, str]:
    """Return the search of each trial, by the name of its run."""
    searches: dict[str, str] = {}
    names = os.listdir(f"{runs}/{FOLDER}") if os.path.isdir(f"{runs}/{FOLDER}") else []
    for name in sorted(names):
        if name.startswith("search-") and name.endswith(".json"):
            try:
                record = read_json(f"{runs}/{FOLDER}/{name}")
                jobs = [job["run"] for fold in record["folds"] for job in fold["jobs"]] if record else []
                searches |= {str(run): media.one_line(str(record["name"])) for run in jobs} if record else {}
            except (Damaged, OSError, KeyError, TypeError):  # its trials are runs like any other
                continue
    return searches
