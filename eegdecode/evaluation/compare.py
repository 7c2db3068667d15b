"""Several evaluations on one page: `python -m hpc.launch compare runs=[evaluate-a,evaluate-b]`, or all of one --name.

Each is read from its report.json. Runs of one study and split that have subjects in common are compared by these, in
pairs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import combinations
from typing import Any

import numpy as np

from eegdecode import page, plots
from eegdecode.evaluation.config import Compare
from eegdecode.evaluation.metrics import intervals
from eegdecode.evaluation.report.sections import many, say
from eegdecode.plots import Dots
from hpc.rank.context import Context, Input
from hpc.runs.rundir import RunDir, atomic_write, read_json, write_json

MOST_SAID = 10
"""Pairs of runs of which is said why they are none."""


@dataclass(frozen=True)
class Compared:
    """One evaluation. `settings` tells it from the others of its sweep."""

    run: str
    settings: str
    figure: str
    value: float
    chance: float
    p: float
    verdict: str
    subjects: dict[str, float]
    of: dict[str, Any]  # the study and the split; empty where an older report does not say

    def other_than(self, other: "Compared") -> str:
        """In words, why their subjects are no pairs; empty where they are."""
        for one in (self, other):
            if not one.of:
                return f"the report of {one.run} does not say which data and split it is of: evaluate it again"
        if self.of["study"] != other.of["study"]:
            return f"they are of {' and '.join(self.of['study'])}, and of {' and '.join(other.of['study'])}"
        ours, theirs = self.of["split"], other.of["split"]
        differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        said = " and ".join(f"split.{name} is {ours.get(name)} and {theirs.get(name)}" for name in differ)
        return f"their test parts differ, as {said}" if differ else ""


@dataclass(frozen=True)
class Pair:
    """How much more the first has than the second, over the subjects of both; p that they are alike, by both sides:
    which of two is called the first is known only once one has looked."""

    one: str
    other: str
    n_subjects: int
    difference: float
    p: float
    p_holm: float


def run(cfg: Compare, ctx: Context) -> dict[str, object]:
    """Write compare.html and compare.json."""
    if not ctx.world.is_first:
        return {}
    folders = [ctx.input(name).resolve().parent for name in cfg.runs]
    if twice := [folder.name for number, folder in enumerate(folders) if folder in folders[:number]]:
        raise ValueError(f"runs to compare are different ones, but {twice[0]} is named twice")
    of_label = [ctx.input(name).resolve().parent for name in named(cfg.named, ctx)]
    if cfg.named and not of_label:
        raise ValueError(f"no finished evaluation beside these runs bears the --name {cfg.named}: `status` lists names")
    found = [read(RunDir(folder)) for folder in dict.fromkeys([*folders, *of_label])]
    if len(found) < 2:
        of_name = f", of which {len(of_label)} by named={cfg.named}" if cfg.named else ""
        raise ValueError(f"runs to compare are two finished evaluations at least, got {len(found)}{of_name}")
    if len({each.figure for each in found}) > 1:
        kinds = ", ".join(f"{each.run} {each.figure}" for each in found)
        raise ValueError(f"runs to compare have one figure, but these differ: {kinds}")
    found.sort(key=lambda each: (-each.value, each.run))
    pairs, unlike = compared(found)
    everything: dict[str, Any] = {"runs": [asdict(each) for each in found], "pairs": [asdict(pair) for pair in pairs]}
    everything["unlike"] = unlike
    write_json(ctx.out / "compare.json", everything)
    atomic_write(ctx.out / "compare.html", lambda file: file.write(render(found, pairs, unlike).encode()))
    values = np.array([each.value for each in found])
    return {
        "runs": len(found),
        "best": found[0].run,
        found[0].figure: {"value": float(values.mean()), "chance": float(np.mean([each.chance for each in found]))},
        "spread": float(values.std(ddof=1)),
        "page": "compare.html",
    }


def named(label: str, ctx: Context) -> list[Input]:
    """The finished evaluations that were started with that --name."""
    if not label:
        return []
    beside = [RunDir(folder) for folder in sorted(ctx.run.path.parent.iterdir()) if folder.is_dir()]
    plans = {run.name: read_json(run.plan) or {} for run in beside if (run.out / "report.json").is_file()}
    return [Input(name) for name, plan in plans.items() if plan.get("label") == label]


def read(run: RunDir) -> Compared:
    report: dict[str, Any] | None = read_json(run.out / "report.json")
    if report is None:
        raise ValueError(f"{run.path} has no report.json: name evaluate runs that have finished")
    plan = read_json(run.plan) or {}
    name, subjects = report["headline"], {row["subject"]: row["value"] for row in report["subjects"]}
    main = report["figures"][name]
    return Compared(
        run.name,
        plan.get("settings", ""),
        name,
        main["value"],
        main["chance"],
        main["p"],
        report["verdict"],
        subjects,
        report.get("of", {}),
    )


def compared(found: Sequence[Compared]) -> tuple[list[Pair], list[str]]:
    """Every two runs that have subjects in common, by signs turned at random, corrected for the number of pairs; and
    in sentences, which are of other data or splits, so that their subjects are no pairs."""
    raw, unlike = [], []
    for one, other in combinations(found, 2):
        if why := one.other_than(other):
            unlike.append(f"{one.run} and {other.run}: {why}.")
            continue
        both = sorted(one.subjects.keys() & other.subjects.keys())
        if len(both) > 1:
            differences = np.array([one.subjects[name] - other.subjects[name] for name in both])
            raw.append((one.run, other.run, len(both), float(differences.mean()), two_sided(differences)))
    corrected = intervals.holm(np.array([row[4] for row in raw]))
    return [Pair(*row, float(p)) for row, p in zip(raw, corrected, strict=True)], unlike


def two_sided(differences: np.ndarray) -> float:
    """p that the mean over subjects is 0; signs turned at random know no side, so that both are as likely."""
    return min(1.0, 2 * min(intervals.sign_flip(differences), intervals.sign_flip(-differences)))


def render(found: Sequence[Compared], pairs: Sequence[Pair], unlike: Sequence[str]) -> str:
    values, figure = np.array([each.value for each in found]), found[0].figure
    low, high = intervals.of_mean(values)
    spread = "" if np.isnan(low) else f", {say(float(low))} to {say(float(high))} in 95 of 100 such sets of runs"
    said = (
        f"{many(len(found), 'evaluation')}: {figure} is {say(values.mean())} in the mean{spread}. "
        f"The best is {escape(found[0].run)} with {say(found[0].value)}."
    )
    rows = [Dots(each.settings or each.run, each.value, each.chance, each.chance) for each in found]
    table = page.table(
        ("Run", "Settings", figure, "chance", "p", "verdict"),
        [(e.run, e.settings, say(e.value), say(e.chance), f"{e.p:.3f}", e.verdict) for e in found],
        "Runs",
    )
    names = sorted(set().union(*(each.subjects for each in found)))
    by_subject = page.table(
        ("Subject", *(each.run for each in found)),
        [(name, *(say(e.subjects[name]) if name in e.subjects else "–" for e in found)) for name in names],
        "Figures of each subject",
    )
    tests = page.table(
        ("Run", "Other", "subjects", "difference", "p", "p (Holm)"),
        [(p.one, p.other, str(p.n_subjects), say(p.difference), f"{p.p:.3f}", f"{p.p_holm:.3f}") for p in pairs],
        "Runs in pairs",
    )
    tests += "\n<p>p is two-sided, by differences between the same subjects with signs turned at random.</p>"
    in_pairs = tests if pairs else "<p>No two runs of one study and split have two subjects in common.</p>"
    sections = [
        f'<header><h1>Evaluations compared</h1>\n<p class="verdict">{said}</p></header>',
        page.section("Runs", f"<figure>{plots.dots(rows, said)}</figure>{table}"),
        page.section("Subjects", by_subject),
        page.section("In pairs", f"{in_pairs}\n{_left_out(unlike)}"),
    ]
    return page.page("Evaluations compared", sections)


def _left_out(unlike: Sequence[str]) -> str:
    if not unlike:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in unlike[:MOST_SAID])
    more = f"<li>And {len(unlike) - MOST_SAID} more.</li>" if len(unlike) > MOST_SAID else ""
    return f"<p>Not compared in pairs, as their subjects did not do the same:</p>\n<ul>{items}{more}</ul>"
