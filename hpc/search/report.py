"""What is shown of a search: a record in JSON, its table on the terminal, and a page. All of it is made anew from the
run folders each time.

    runs/.searches/search-k3f9x2ab.json   the record, for `status`
    runs/search-k3f9x2ab.html             the page
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc import media, templates
from hpc.media import many
from hpc.runs.rundir import atomic_write, write_json
from hpc.search.score import Score

BARS = "█▇▆▅▄▃▂▁"
"""The curve on a terminal: the best score so far, high where it is bad."""
WIDTH, HEIGHT = 640, 220
"""The curve on the page, in its own units."""


def number(score: Score, loss: float | None) -> float | None:
    """Return the score of a job as the record has it: none if it is not known, or has failed."""
    return None if loss is None or math.isinf(loss) else score.value(loss)


def reported(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means over the searches of a line of what was measured with the settings that each has chosen: the
    figures to report. A mean of p-values would be none."""
    first = folds[0] if folds else {}
    names = [name for name, value in first.items() if _value(value) is not None and not name.endswith(".p")]
    means = {}
    for name in names:
        values = [_value(metrics.get(name)) for metrics in folds]
        if None in values:
            continue
        chances = [metrics[name].get("chance") for metrics in folds if isinstance(metrics[name], dict)]
        means[name] = {"value": _mean(values), "of": len(values)} | (
            {"chance": _mean(chances)} if len(chances) == len(values) and None not in chances else {}
        )
    return means


def _value(metric: Any) -> float | None:
    value = metric.get("value") if isinstance(metric, dict) else metric
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mean(values: Sequence[Any]) -> float:
    return math.fsum(values) / len(values)


def best_so_far(record: Mapping[str, Any], fold: Mapping[str, Any]) -> list[float]:
    """Return the best score after each job at the last rung that any has come to, of those that have one."""
    better = min if record["lower_is_better"] else max
    scored = [job for job in fold["jobs"] if job["score"] is not None]
    last = max((job["steps"] or 0 for job in scored), default=0)
    best: list[float] = []
    for job in scored:
        if (job["steps"] or 0) == last:
            best.append(better([job["score"], *best[-1:]]))
    return best


def write(runs: Path, record: Mapping[str, Any]) -> None:
    write_json(runs / ".searches" / f"{record['name']}.json", record, durable=False)
    text = _page(record).encode()
    atomic_write(page_path(runs, str(record["name"])), lambda file: file.write(text), durable=False)


def page_path(runs: Path, name: str) -> Path:
    return Path(os.path.relpath(runs / f"{name}.html"))


def text(record: Mapping[str, Any]) -> str:
    """Return the table of the trials, and what came of them."""
    which = "lowest" if record["lower_is_better"] else "highest"
    rungs = f", rungs at {', '.join(map(str, record['rungs']))} steps" if record["rungs"] else ""
    lines = [
        f"{record['name']}   {record['stage']} by the {which} {record['metric']}, {record['sampler']}, "
        f"{record['trials']} trials, {record['at_once']} at once{rungs}"
    ]
    for fold in record["folds"]:
        lines += _of_fold(record, fold)
    if record["reported"]:
        n = next(iter(record["reported"].values()))["of"]
        lines += [
            "",
            f"measured with the chosen settings, by data that chose nothing{f' (means of {n})' if n > 1 else ''}:",
            *(f"  {name:<40} {_shown(value)}" for name, value in record["reported"].items()),
        ]
    for each in record.get("together", []):
        metrics = " · ".join(f"{name} {_said(value)}" for name, value in each["metrics"].items())
        lines += ["", f"all folds as one result, {each['run']}: {metrics or 'not yet'}"]
    return "\n".join(map(media.one_line, lines))


def _said(metric: Any) -> str:
    value = _value(metric)
    return str(metric) if value is None else f"{value:.4g}"


def _of_fold(record: Mapping[str, Any], fold: Mapping[str, Any]) -> list[str]:
    rows = [("TRIAL", "STEPS", record["metric"].upper(), "RUN", "SETTINGS")]
    for job in fold["jobs"]:
        score = "failed" if job["has_failed"] else "-" if job["score"] is None else f"{job['score']:.4g}"
        rows.append((str(job["trial"]), str(job["steps"] or "-"), score, job["run"], job["settings"]))
    shown = [column for column in range(len(rows[0])) if column != 1 or record["rungs"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(row[column].ljust(widths[column]) for column in shown).rstrip() for row in rows]
    lines = ["", *([fold["each"]] if fold["each"] else []), *(table if fold["jobs"] else [])]
    if fold["best"]:
        best = fold["best"]
        lines += [f"{progress(record, fold)}; best {best['score']:.4g}, trial {best['trial']}: {best['settings']}"]
        lines += [f"the best so far  {curve}"] if (curve := _bars(best_so_far(record, fold), record)) else []
    return lines


def progress(record: Mapping[str, Any], fold: Mapping[str, Any]) -> str:
    """Return how many trials have ended, and how many have failed."""
    ended = {job["trial"] for job in fold["jobs"] if job["score"] is not None or job["has_failed"]}
    failed = {job["trial"] for job in fold["jobs"] if job["has_failed"]}
    text = f"{len(ended)} of {many(record['trials'], 'trial')}"
    return f"{text}, {len(failed)} failed" if failed else text


def _bars(best: Sequence[float], record: Mapping[str, Any]) -> str:
    """Return the curve of the best score so far, a letter a job."""
    low, high = min(best, default=0.0), max(best, default=0.0)
    if low == high:
        return ""
    shares = [(high - value) / (high - low) for value in best]
    bars = BARS if record["lower_is_better"] else BARS[::-1]
    places = shares if record["lower_is_better"] else [1 - share for share in shares]
    return "".join(bars[min(int(place * len(bars)), len(bars) - 1)] for place in places)


def _shown(metric: Mapping[str, Any]) -> str:
    chance = f"   chance {metric['chance']:.3f}" if "chance" in metric else ""
    return f"{metric['value']:.4g}{chance}"


def _page(record: Mapping[str, Any]) -> str:
    head = ["trial", *(["steps"] if record["rungs"] else []), record["metric"], "run", "settings"]
    folds = [
        (fold, progress(record, fold), _curve(best_so_far(record, fold)), _rows(record, fold))
        for fold in record["folds"]
    ]
    reported = [
        (
            name if of["of"] == 1 else f"{name}, mean of {of['of']}",
            f"{of['value']:.4g}",
            _or_dash(of.get("chance"), ".3f"),
        )
        for name, of in record["reported"].items()
    ]
    together = [
        (each["run"], [(name, _said(value)) for name, value in each["metrics"].items()])
        for each in record.get("together", [])
    ]
    about: dict[str, Any] = {"search": record, "head": head, "folds": folds, "reported": reported, "together": together}
    about |= {"width": WIDTH, "height": HEIGHT}
    return templates.fill(Path(__file__).parent, "search", **about)


def _rows(record: Mapping[str, Any], fold: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            str(job["trial"]),
            *([str(job["steps"])] if record["rungs"] else []),
            "failed" if job["has_failed"] else _or_dash(job["score"], ".4g"),
            job["run"],
            job["settings"],
        ]
        for job in fold["jobs"]
    ]


def _or_dash(number: float | None, form: str) -> str:
    return "–" if number is None else format(number, form)


def _curve(best: Sequence[float]) -> dict[str, Any]:
    """Return the curve of the best score so far as a line of an SVG, with its ends."""
    low, high = min(best, default=0.0), max(best, default=0.0)
    across, up = WIDTH / max(1, len(best) - 1), HEIGHT / ((high - low) or 1.0)
    points = [(number * across, HEIGHT - (value - low) * up) for number, value in enumerate(best)]
    return {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points), "low": low, "high": high, "n": len(best)}
