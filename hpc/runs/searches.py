"""How far the searches of a folder of runs are, as `hpc search` has last noted it. Cheap to import, for status."""

import os

from hpc import media
from hpc.runs.rundir import Damaged, read_json

FOLDER = ".searches"


def lines(runs: str) -> list[str]:
    """Return a line for each search, and for each value of its --each."""
    if not os.path.isdir(f"{runs}/{FOLDER}"):
        return []
    names = sorted(name for name in os.listdir(f"{runs}/{FOLDER}") if name.startswith("search-"))
    return [media.one_line(line) for name in names for line in _of(f"{runs}/{FOLDER}/{name}")]


def _of(path: str) -> list[str]:
    try:
        record = read_json(path)
    except Damaged:
        return [f"{path} is damaged: give the line of that search again, which makes it anew"]
    if not isinstance(record, dict):
        return []
    return [_line(record, fold) for fold in record["folds"]]


def _line(record: dict, fold: dict) -> str:
    ended = {job["trial"] for job in fold["jobs"] if job["score"] is not None or job["has_failed"]}
    best = fold["best"]
    text = f"{record['name']}{fold['each'] and ' '}{fold['each']}: {len(ended)} of {record['trials']} trials"
    return text + (f", best {record['metric']} {best['score']:.4g} ({best['run']}: {best['settings']})" if best else "")
