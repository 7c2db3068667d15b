"""The page of `hpc bench`: our runs of a protocol beside the rows that others have published, and linear decoders.

A figure is computed for each run, averaged over runs of one seed, and then over seeds. What ± is among ours is the
standard deviation over seeds; the range is that of other subjects, drawn from those that were tested. p is one of all
folds and seeds together, over exchangeable units, as `evaluate` has it: the page counts no verdicts of single folds.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from eegdecode.evaluation import resampling
from eegdecode.evaluation.baselines import redrawn
from eegdecode.evaluation.config import Leaderboard, Scoring
from eegdecode.evaluation.cross_validation import choice, folds
from eegdecode.evaluation.cross_validation.folds import Fold
from eegdecode.evaluation.decode import predictions
from eegdecode.evaluation.decode.predict import open_data
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import Metric, metrics
from eegdecode.evaluation.results import NETWORK, Result
from eegdecode.page import page
from eegdecode.training import model_file
from eegdecode.training.model_file import Trained
from hpc import media
from hpc.media import many
from hpc.rank.context import Context, Input
from hpc.runs import products, records
from hpc.runs.rundir import RunDir

OURS, LINEAR, PUBLISHED = "ours", "linear decoder", "published"
RANGE = (0.05, 0.95)


@dataclass(frozen=True)
class Run:
    """One evaluation, and the model that it evaluated."""

    name: str
    decoded: Decoded
    trained: Trained

    @property
    def seed(self) -> int:
        return int(self.trained.config["seed"])

    @property
    def model(self) -> dict[str, Any]:
        """What makes it another model than those of other runs: not its seed, and not its fold."""
        return {key: self.trained.config.get(key) for key in ("model", "start", "trainable", "objective")}


@dataclass(frozen=True)
class Row:
    """A row of the table, in its units. `low` and `high`: of the draws of subjects. `p`: of all its runs together."""

    name: str
    whose: str
    value: float
    spread: float | None = None
    low: float | None = None
    high: float | None = None
    n_runs: int = 0
    p: float | None = None
    verdict: str = ""
    note: str = ""


def run(cfg: Leaderboard, ctx: Context) -> dict[str, object]:
    """Write leaderboard.html, .json and .md."""
    if not ctx.world.is_first:
        return {}
    runs = [read(ref, ctx) for ref in cfg.runs]
    metric = _metric(cfg, runs)
    chance = _chance(metric, runs[0].decoded)
    shown = partial(in_unit, unit=cfg.unit, chance=chance)
    with ctx.beating():
        models = by_model(runs)
        tested = {name: decide(of_model, metric) for name, of_model in models.items()}
        ours = [
            _with_p(_row(name, of_model, metric, cfg, shown), tested[name][0], NETWORK)
            for name, of_model in models.items()
        ]
        first = next(iter(models))
        linear = [_with_p(row, tested[first][0], row.name) for row in _linear(models[first], metric, cfg, shown)]
    theirs = [_published(row) for row in cfg.published if row.dataset in ("", cfg.dataset)]
    redraws = shown(_redraws(runs, metric, cfg, ctx))
    rows = sorted([*ours, *linear, *theirs], key=lambda row: -row.value)
    if metric.lower_is_better:
        rows.reverse()
    contents = {
        "protocol": cfg.title,
        "metric": metric.name,
        "unit": cfg.unit,
        "chance": float(shown(chance)),
        "rows": [asdict(row) for row in rows],
        "redrawn": redraws.tolist(),
        "differs": list(cfg.differs),
        "changed": list(cfg.changed),
        "source": {"source": cfg.source, "version": cfg.version, "date": cfg.date},
    }
    untested = [f"{name} has no p over all runs: {why}." for name, (_, why) in tested.items() if why]
    units = dict.fromkeys(what for each, _ in tested.values() if each is not None for what in _permuted(each))
    sentences = [*spreads(ours, theirs, redraws), *units, *untested, *_departures(cfg)]
    products.write_json(ctx.out / "leaderboard.json", contents)
    products.write_text(ctx.out / "leaderboard.md", markdown(cfg, metric, rows, float(shown(chance)), sentences))
    products.write_text(ctx.out / "leaderboard.html", render(cfg, metric, rows, float(shown(chance)), sentences))
    values = {row.name: {"value": row.value, "chance": float(shown(chance))} for row in [*ours, *linear]}
    return {**values, "published": len(theirs), "page": "leaderboard.html"}


def read(ref: Input, ctx: Context) -> Run:
    folder = RunDir(ctx.input(ref).resolve().parent)
    report: Any = products.read(folder.out / "report.json")
    if report is None:
        raise ValueError(f"{folder.path} has no report.json: name evaluate runs that have finished")
    decoded = predictions.read(folder.out / "predictions.h5")
    inputs = records.plan(folder).get("inputs", {})
    if "model" not in inputs:
        raise ValueError(f"{folder.path} is not a run of evaluate: it names no model")
    return Run(folder.name, decoded, model_file.load(ctx.input(Input(inputs["model"]))))


def fold(each: Run) -> Fold:
    """The run as a fold of a cross-validation; what has a network of its own, as a session, is a fold of its own."""
    own = choice.training(each.trained.run, each.trained.config)
    name = " ".join(filter(None, [",".join(each.trained.split.only), own.fold_name]))
    return Fold(name, own.repetition_name, each.decoded)


def decide(runs: Sequence[Run], metric: Metric) -> tuple[Result | None, str]:
    """The runs of a model as one result; or none, and why they are not one."""
    try:
        return folds.decide([fold(each) for each in runs], Scoring(), metric.name), ""
    except ValueError as error:
        return None, str(error)


def _with_p(row: Row, result: Result | None, decoder: str) -> Row:
    if result is None or decoder not in result.decoders:
        return row
    return replace(row, p=result.decoders[decoder].p, verdict=result.verdict_of(decoder))


def _permuted(result: Result) -> list[str]:
    if not result.permuted:
        return []
    what = result.headline.replace("_", " ")
    return [f"p is that of the {what} over all folds and seeds together, permuting {result.permuted}."]


def by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each model by its name; two of one name are told apart by the settings in which they differ."""
    groups: list[tuple[dict[str, Any], list[Run]]] = []
    for each in runs:
        own = next((members for model, members in groups if model == each.model), None)
        if own is None:
            groups.append((each.model, [each]))
        else:
            own.append(each)
    names = Counter(_model_name(model) for model, _ in groups)
    named: dict[str, list[Run]] = {}
    for model, members in groups:
        name = _model_name(model)
        others = [other for other, _ in groups if _model_name(other) == name and other is not model]
        named[name if names[name] == 1 else f"{name} {_unlike(model, others)}"] = members
    return named


def _model_name(model: Mapping[str, Any]) -> str:
    settings = model["model"]
    return str(settings["model"] if settings["name"] == "braindecode" else settings["name"])


def _unlike(model: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """The settings of a model that others of its name have otherwise."""
    flat, of_others = _flat(model), [_flat(other) for other in others]
    unlike = [key for key, value in flat.items() if any(other.get(key) != value for other in of_others)]
    return " ".join(f"{key}={flat[key]}" for key in unlike)


def _flat(values: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {at: values}
    return {
        path: value for key, below in values.items() for path, value in _flat(below, f"{at}.{key}".lstrip(".")).items()
    }


def _metric(cfg: Leaderboard, runs: Sequence[Run]) -> Metric:
    kinds = sorted({each.decoded.kind for each in runs})
    table = metrics(runs[0].decoded.kind)
    if len(kinds) > 1 or cfg.metric not in table:
        raise ValueError(
            f"metric is {cfg.metric}, but these runs are of {' and '.join(kinds)}, which have {', '.join(table)}"
        )
    return table[cfg.metric]


def _chance(metric: Metric, decoded: Decoded) -> float:
    return float(metric.chance(decoded, Scoring()) if callable(metric.chance) else metric.chance)


def in_unit(value: Any, unit: str, chance: float) -> Any:
    """A figure in the unit of the table."""
    return {"fraction": value, "percent": 100 * value, "above_chance": 100 * (value - chance) / (1 - chance)}[unit]


def score(decoded: Decoded, metric: Metric) -> float:
    figure = metric.score(decoded, Scoring())
    return float("nan") if figure is None else float(np.nanmean(figure))


def _row(
    name: str,
    runs: Sequence[Run],
    metric: Metric,
    cfg: Leaderboard,
    shown: Callable[[Any], Any],
    decode: Callable[[Run], Decoded] = lambda each: each.decoded,
    whose: str = OURS,
) -> Row:
    by_seed: dict[int, list[Decoded]] = {}
    for each in runs:
        by_seed.setdefault(each.seed, []).append(decode(each))
    values = shown(np.array([np.mean([score(each, metric) for each in of_seed]) for of_seed in by_seed.values()]))
    drawn = [resampling.over_subjects(of_seed, metric, cfg.draws) for of_seed in by_seed.values()]
    low, high = shown(np.quantile(np.mean(drawn, axis=0), RANGE)).tolist() if drawn[0].size else (None, None)
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return Row(name, whose, float(values.mean()), spread, low, high, len(runs))


def _linear(of_first: Sequence[Run], metric: Metric, cfg: Leaderboard, shown: Callable[[Any], Any]) -> list[Row]:
    """The linear decoders, of the first model's runs with one seed: another seed gives the same."""
    once = [each for each in of_first if each.seed == of_first[0].seed]
    names = [name for name in once[0].decoded.baselines if all(name in each.decoded.baselines for each in once)]
    return [_row(name, once, metric, cfg, shown, partial(_by_baseline, name=name), LINEAR) for name in names]


def _by_baseline(each: Run, name: str) -> Decoded:
    return each.decoded.by(name)


def _published(row: Any) -> Row:
    return Row(row.name, PUBLISHED, row.value, row.spread, note=f"our {row.model}" if row.model else "")


def _redraws(runs: Sequence[Run], metric: Metric, cfg: Leaderboard, ctx: Context) -> np.ndarray:
    """The linear decoder's figure for each draw of the sets; empty where the split is not one by subject."""
    first = runs[0]
    split = first.trained.split
    if first.decoded.kind != "classes" or split.by != "subject" or split.folds is not None or not cfg.redraws:
        return np.empty(0)
    data, parts = open_data(first.trained, ctx)
    return redrawn.figures(first.trained, data, parts, ctx, partial(score, metric=metric), cfg.redraws)


def spreads(ours: Sequence[Row], theirs: Sequence[Row], redraws: np.ndarray) -> list[str]:
    """Sentences on how many published rows lie within what other subjects would have given."""
    sentences = []
    best = max(ours, key=lambda row: row.value)
    if best.low is not None and best.high is not None:
        sentences.append(
            f"With other subjects of those that were tested, {best.name} would be from {best.low:.1f} to "
            f"{best.high:.1f} in nine of ten draws{_within(theirs, best.low, best.high)}."
        )
    if redraws.size:
        low, middle, high = np.quantile(redraws, (RANGE[0], 0.5, RANGE[1]))
        sentences.append(
            f"With training and test subjects drawn anew {many(len(redraws), 'time')}, a linear decoder of band powers "
            f"is from {low:.1f} to {high:.1f}, {middle:.1f} in the median{_within(theirs, low, high)}."
        )
    return sentences


def _within(theirs: Sequence[Row], low: float, high: float) -> str:
    inside = sum(low <= row.value <= high for row in theirs)
    return f"; {inside} of {len(theirs)} published rows are within" if theirs else ""


def _of_no_dataset(cfg: Leaderboard) -> list[str]:
    """A sentence on rows that are not shown, as nobody said which data set these runs are of."""
    names = list(dict.fromkeys(row.dataset for row in cfg.published if row.dataset))
    if not names or cfg.dataset in names:
        return []
    which = f"{cfg.dataset} is not in the published table" if cfg.dataset else "Which data set it is was not said"
    return [f"{which}; rows are shown with leaderboard.dataset={', '.join(names)}."]


def _departures(cfg: Leaderboard) -> list[str]:
    changed = [f"Changed on the line: {', '.join(cfg.changed)}. So these are not the protocol's figures."]
    return [*_of_no_dataset(cfg), *cfg.differs, *(changed if cfg.changed else [])]


def _cells(row: Row) -> list[str]:
    spread = "" if row.spread is None else f" ± {row.spread:.1f}"
    drawn = "" if row.low is None or row.high is None else f"{row.low:.1f} to {row.high:.1f}"
    p = "" if row.p is None else f"{row.p:.3f}"
    figures = [f"{row.value:.1f}{spread}", drawn, str(row.n_runs or ""), p]
    return [row.name, row.whose, *figures, row.verdict or row.note]


HEAD = ["", "whose", "", "other subjects", "runs", "p", "note"]


def _head(cfg: Leaderboard, metric: Metric) -> list[str]:
    unit = {"fraction": "", "percent": ", %", "above_chance": ", from chance (0) to perfect (100)"}[cfg.unit]
    return ["decoder", *HEAD[1:2], f"{metric.label.lower()}{unit}", *HEAD[3:]]


def markdown(cfg: Leaderboard, metric: Metric, rows: Sequence[Row], chance: float, sentences: Sequence[str]) -> str:
    head = [f"# {media.markdown(cfg.title or 'Leaderboard')}", "", media.markdown(_table_of(cfg)), ""]
    head.append(f"Chance is {chance:.1f}.")
    table = ["", f"| {' | '.join(map(media.markdown, _head(cfg, metric)))} |", "| --- " * len(HEAD) + "|"]
    table += [f"| {' | '.join(map(media.markdown, _cells(row)))} |" for row in rows]
    return "\n".join([*head, *table, "", *(f"* {media.markdown(each)}" for each in sentences)]) + "\n"


def _table_of(cfg: Leaderboard) -> str:
    if not cfg.published:
        return "No table was published for this protocol."
    where = ", ".join(filter(None, (cfg.source, cfg.version, cfg.date)))
    return f"Published rows: {where}; ± is the {cfg.spread} there, and that over seeds in ours."


def render(cfg: Leaderboard, metric: Metric, rows: Sequence[Row], chance: float, sentences: Sequence[str]) -> str:
    ends = [end for row in rows for end in (row.low, row.high, row.value) if end is not None]
    low, high = min([*ends, chance]), max([*ends, chance])
    room = max(high - low, 1e-9)

    def at(value: float | None) -> str:
        return "" if value is None else f"{100 * (value - low) / room:.2f}"

    drawn = [(row.name, row.whose.split()[0], at(row.value), at(row.low), at(row.high)) for row in rows]
    ours = max((row for row in rows if row.whose == OURS), key=lambda row: row.value)
    summary = (
        f"{ours.name} has {ours.value:.1f}, the best of ours; chance is {chance:.1f}. "
        f"{many(sum(row.whose == PUBLISHED for row in rows), 'published row')} beside."
    )
    return page(
        "evaluation/leaderboard",
        title=cfg.title or "Leaderboard",
        summary=summary,
        table_of=_table_of(cfg),
        head=_head(cfg, metric),
        rows=[_cells(row) for row in rows],
        drawn=drawn,
        chance=at(chance),
        sentences=list(sentences),
    )
