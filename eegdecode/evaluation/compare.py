"""Compare evaluations on one page: `python -m hpc.launch compare runs=[evaluate-a,evaluate-b]`, or all of one --name.

Each is read from its report.json. Runs of one study and split with common subjects are compared pairwise over these.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from eegdecode.evaluation.config import Compare
from eegdecode.evaluation.statistics import intervals
from eegdecode.page import page, say
from eegdecode.plots import DotPlot, Dots
from hpc.media import many
from hpc.rank.context import Context, Input
from hpc.runs import products, records
from hpc.runs.rundir import RunDir

MOST_SAID = 10
"""So many pairs of runs are listed with the reason why they cannot be paired."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation. `settings` are those that differ from the others of its sweep."""

    run: str
    settings: str
    figure: str
    value: float
    chance: float
    p: float
    verdict: str
    subjects: dict[str, float]
    of: dict[str, Any]  # the study and the split; empty if an older report does not name them

    def other_than(self, other: "Evaluation") -> str:
        """Why their subjects cannot be paired; empty if they can."""
        for one in (self, other):
            if not one.of:
                return f"the report of {one.run} does not say which data and split it is of: evaluate it again"
        if self.of["study"] != other.of["study"]:
            return f"they are of {' and '.join(self.of['study'])}, and of {' and '.join(other.of['study'])}"
        ours, theirs = self.of["split"], other.of["split"]
        differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        differences = " and ".join(f"split.{name} is {ours.get(name)} and {theirs.get(name)}" for name in differ)
        return f"their test sets differ, as {differences}" if differ else ""


@dataclass(frozen=True)
class Pair:
    """The mean difference of the first and the second over their common subjects, and its two-sided p: which of two is
    the first is known only after looking at the results."""

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
    if repeated := [folder.name for number, folder in enumerate(folders) if folder in folders[:number]]:
        raise ValueError(f"runs to compare must be different ones, but {repeated[0]} is named twice")
    of_label = [ctx.input(name).resolve().parent for name in named(cfg.named, ctx)]
    if cfg.named and not of_label:
        raise ValueError(f"no finished evaluation has the --name {cfg.named}: `status` lists the names of runs")
    evaluations = [read(RunDir(folder)) for folder in dict.fromkeys([*folders, *of_label])]
    if len(evaluations) < 2:
        of_name = f", of which {len(of_label)} by named={cfg.named}" if cfg.named else ""
        raise ValueError(f"compare needs two finished evaluations at least, got {len(evaluations)}{of_name}")
    if len({each.figure for each in evaluations}) > 1:
        kinds = ", ".join(f"{each.run} {each.figure}" for each in evaluations)
        raise ValueError(f"runs to compare must have the same headline metric, but these differ: {kinds}")
    evaluations.sort(key=lambda each: (-each.value, each.run))
    pairs, unlike = compared(evaluations)
    contents: dict[str, Any] = {
        "runs": [asdict(each) for each in evaluations],
        "pairs": [asdict(pair) for pair in pairs],
    }
    contents["unlike"] = unlike
    products.write_json(ctx.out / "compare.json", contents)
    products.write_text(ctx.out / "compare.html", render(evaluations, pairs, unlike))
    values = np.array([each.value for each in evaluations])
    chance = float(np.mean([each.chance for each in evaluations]))
    return {
        "runs": len(evaluations),
        "best": evaluations[0].run,
        evaluations[0].figure: {"value": float(values.mean()), "chance": chance},
        "spread": float(values.std(ddof=1)),
        "page": "compare.html",
    }


def named(label: str, ctx: Context) -> list[Input]:
    """The finished evaluations that were started with that --name."""
    if not label:
        return []
    siblings = [RunDir(folder) for folder in sorted(ctx.run.path.parent.iterdir()) if folder.is_dir()]
    plans = {run.name: records.plan(run) for run in siblings if (run.out / "report.json").is_file()}
    return [Input(name) for name, plan in plans.items() if plan.get("label") == label]


def read(run: RunDir) -> Evaluation:
    path = run.out / "report.json"
    report: Any = products.read(path)
    if report is None:
        raise ValueError(f"{run.path} has no report.json: name evaluate runs that have finished")
    try:
        name = report["headline"]
        main = report["figures"][name]
        value, chance, p = (_number(main[key]) for key in ("value", "chance", "p"))
        subjects = {str(row["subject"]): _number(row["value"]) for row in report["subjects"]}
        verdict, of = report["verdict"], report.get("of", {})
        if not isinstance(verdict, str):
            raise TypeError(f"the verdict is {verdict!r}")
        if of and not (isinstance(of["split"], dict) and all(isinstance(each, str) for each in of["study"])):
            raise TypeError(f"it is of {of!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is not the report of an evaluation ({type(error).__name__}: {error}): evaluate again"
        ) from None
    settings = records.plan(run).get("settings", "")
    return Evaluation(run.name, settings, name, value, chance, p, verdict, subjects, of)


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def compared(evaluations: Sequence[Evaluation]) -> tuple[list[Pair], list[str]]:
    """A sign-flip test for every two runs with common subjects, corrected for the number of pairs; and sentences on the
    runs of other data or splits, whose subjects cannot be paired."""
    raw, unlike = [], []
    for one, other in combinations(evaluations, 2):
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
    """Two-sided p of the sign-flip test that the mean over subjects is 0."""
    return min(1.0, 2 * min(intervals.sign_flip(differences), intervals.sign_flip(-differences)))


def render(evaluations: Sequence[Evaluation], pairs: Sequence[Pair], unlike: Sequence[str]) -> str:
    values, figure = np.array([each.value for each in evaluations]), evaluations[0].figure
    low, high = intervals.of_mean(values)
    spread = "" if np.isnan(low) else f", {say(float(low))} to {say(float(high))} in 95 of 100 such sets of runs"
    summary = (
        f"{many(len(evaluations), 'evaluation')}: {figure} is {say(values.mean())} in the mean{spread}. "
        f"The best is {evaluations[0].run} with {say(evaluations[0].value)}."
    )
    names = sorted(set().union(*(each.subjects for each in evaluations)))
    return page(
        "evaluation/compare",
        summary=summary,
        dots=DotPlot([Dots(e.settings or e.run, e.value, e.chance, e.chance) for e in evaluations], summary),
        figure=figure,
        runs=[(e.run, e.settings, say(e.value), say(e.chance), f"{e.p:.3f}", e.verdict) for e in evaluations],
        names=[each.run for each in evaluations],
        subjects=[
            (name, *(say(e.subjects[name]) if name in e.subjects else "–" for e in evaluations)) for name in names
        ],
        pairs=[(p.one, p.other, p.n_subjects, say(p.difference), f"{p.p:.3f}", f"{p.p_holm:.3f}") for p in pairs],
        unlike=list(unlike[:MOST_SAID]),
        n_more=max(0, len(unlike) - MOST_SAID),
    )
