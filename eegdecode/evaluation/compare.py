"""Compare evaluations on one page: `python -m hpc.launch compare runs=[evaluate-a,evaluate-b]`, or all of one --name.

Folds and seeds of one decoder are one row. Rows of one study and split are compared pairwise over subjects and units;
over several studies, decoders have mean ranks.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from eegdecode.evaluation.comparison import pairs, ranking, rows
from eegdecode.evaluation.comparison.pairs import OverStudies, Pair
from eegdecode.evaluation.comparison.ranking import Ranking
from eegdecode.evaluation.comparison.rows import Row
from eegdecode.evaluation.config import Compare
from eegdecode.evaluation.statistics.nulls import ALPHA
from eegdecode.page import page, say
from eegdecode.plots import DotPlot, Dots
from hpc.media import many
from hpc.rank.context import Context, Input
from hpc.runs import products, records
from hpc.runs.rundir import RunDir

MOST_SAID = 10
"""So many pairs of runs are listed with the reason why they cannot be paired."""


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
    runs = [RunDir(folder) for folder in dict.fromkeys([*folders, *of_label])]
    of_name = f", of which {len(of_label)} by named={cfg.named}" if cfg.named else ""
    if len(runs) < 2:
        raise ValueError(f"compare needs two finished evaluations at least, got {len(runs)}{of_name}")
    with ctx.beating():
        table = rows.rows(runs)
        _refuse(table, runs)
        table.sort(key=lambda row: (row.study, -row.value, row.model))
        by_pair, unlike = pairs.compared(table)
        ranked, of_studies = ranking.ranked(table), pairs.over_studies(table)
    contents = {
        "rows": [_plain(row) for row in table],
        "pairs": [asdict(pair) for pair in by_pair],
        "unlike": unlike,
        "over_studies": [asdict(pair) for pair in of_studies],
        "ranking": asdict(ranked) if ranked else None,
    }
    products.write_json(ctx.out / "compare.json", contents)
    products.write_text(ctx.out / "compare.html", render(table, by_pair, unlike, ranked, of_studies))
    own = [row for row in table if not row.is_linear]
    values, chances = (np.array([getattr(row, name) for row in own]) for name in ("value", "chance"))
    summary: dict[str, object] = {"evaluations": len(runs), "decoders": len({row.model for row in own})}
    if len({row.figure for row in own}) == 1:
        summary[own[0].figure] = {"value": float(values.mean()), "chance": float(chances.mean())}
    return summary | {"studies": len({row.study for row in table}), "page": "compare.html"}


def named(label: str, ctx: Context) -> list[Input]:
    """The finished evaluations that were started with that --name."""
    if not label:
        return []
    siblings = [RunDir(folder) for folder in sorted(ctx.run.path.parent.iterdir()) if folder.is_dir()]
    plans = {run.name: records.plan(run) for run in siblings if (run.out / "report.json").is_file()}
    return [Input(name) for name, plan in plans.items() if plan.get("label") == label]


def _refuse(table: Sequence[Row], runs: Sequence[RunDir]) -> None:
    networks = [row for row in table if not row.is_linear]
    if len(networks) == 1:
        models = ",".join(
            name for run in runs for at, name in records.plan(run).get("inputs", {}).items() if at.startswith("model")
        )
        raise ValueError(
            f"these {len(runs)} evaluations are folds and seeds of one decoder, and so one result: "
            f"evaluate model=[{models}] has it, or evaluate model=WORD for the --name of their sweep"
        )
    by_study: dict[str, list[Row]] = {}
    for row in networks:
        by_study.setdefault(row.study, []).append(row)
    for same in by_study.values():
        if len({row.figure for row in same}) > 1:
            kinds = ", ".join(f"{row.run} {row.figure}" for row in same)
            raise ValueError(f"runs to compare must have the same headline metric, but these differ: {kinds}")


def _plain(row: Row) -> dict[str, Any]:
    dropped = {"windows", "training", "baselines", "scoring"}
    values = asdict(replace(row, windows=(), training=None, baselines={}))
    return {name: value for name, value in values.items() if name not in dropped} | {"sd_subjects": row.sd_subjects}


def render(
    table: Sequence[Row],
    by_pair: Sequence[Pair],
    unlike: Sequence[str],
    ranked: Ranking | None = None,
    of_studies: Sequence[OverStudies] = (),
) -> str:
    own = [row for row in table if not row.is_linear]
    n_evaluations, n_studies = sum(len(row.runs) for row in own), len({row.study for row in own})
    apart = sum(pair.p_holm < ALPHA for pair in by_pair)
    summary = (
        f"{many(n_evaluations, 'evaluation')} of {many(len({row.model for row in own}), 'decoder')}"
        f"{f' on {n_studies} studies' if n_studies > 1 else ''}. {apart} of {many(len(by_pair), 'pair')} "
        f"{'differs' if apart == 1 else 'differ'} over subjects (p < {ALPHA:g} after Holm's correction)."
    )
    several = n_studies > 1
    names = sorted(set().union(*(row.subjects for row in table)))
    labels = [f"{row.model} · {row.study}" if several else row.model for row in table]
    return page(
        "evaluation/compare",
        summary=summary,
        dots=DotPlot([_dots(label, row) for label, row in zip(labels, table, strict=True)], summary),
        alpha=f"{ALPHA:g}".removeprefix("0"),
        rows=[_row(row, several) for row in table],
        several=several,
        names=labels,
        subjects=[
            (name, *(say(row.subjects[name]) if name in row.subjects else "–" for row in table)) for name in names
        ],
        pairs=[_pair(pair, several) for pair in by_pair],
        ranked=ranked,
        ranks=_ranks(ranked) if ranked else None,
        of_studies=[
            (o.one, o.other, o.n_studies, o.n_subjects, say(o.smd), _p(o.p), _p(o.p_holm), _p(o.p_wilcoxon_holm))
            for o in of_studies
        ],
        unlike=list(unlike[:MOST_SAID]),
        n_more=max(0, len(unlike) - MOST_SAID),
    )


def _dots(label: str, row: Row) -> Dots:
    """As in report.html: a dot is a network, a ring a linear decoder, and beside a network the best of its study."""
    if row.is_linear:
        return Dots(label, None, row.value, row.chance)
    return Dots(label, row.value, max((each.value for each in row.baselines.values()), default=None), row.chance)


def _row(row: Row, several: bool) -> list[str]:
    return [
        row.model,
        *([row.study] if several else []),
        row.figure,
        say(row.value),
        "–" if row.sd_subjects is None else say(row.sd_subjects),
        "–" if row.sd_seeds is None else say(row.sd_seeds),
        say(row.chance),
        "–" if row.p is None else _p(row.p),
        row.verdict,
        str(row.n_folds),
        row.run,
    ]


def _pair(pair: Pair, several: bool) -> list[str]:
    units = [str(pair.n_units), _p(pair.p_units), _p(pair.p_units_holm)] if pair.n_units else ["–", "–", "–"]
    over = [str(pair.n_subjects), say(pair.difference), _p(pair.p), _p(pair.p_holm), *units]
    return [pair.one, pair.other, *([pair.study] if several else []), *over]


def _ranks(ranked: Ranking) -> tuple[list[str], list[list[str]]]:
    """Decoders by mean rank, with their figure in each study."""
    head = ["Decoder", "mean rank", "mean", *(ranked.sets if ranked.are_studies else []), "not told apart from"]
    rows = []
    for number, model in enumerate(ranked.models):
        alike = [ranked.models[other] for other in ranked.alike(number)]
        values = [row[number] for row in ranked.values]
        each = [say(value) for value in values] if ranked.are_studies else []
        mean = say(float(np.mean(values))) if ranked.is_one_figure else "–"
        rows.append([model, say(ranked.mean_ranks[number]), mean, *each, ", ".join(alike) or "–"])
    return head, rows


def _p(p: float) -> str:
    return f"{p:.3f}"
