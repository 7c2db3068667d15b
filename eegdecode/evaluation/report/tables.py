"""The results as tables for other programs: figures.csv, subjects.csv, classes.csv, curves.csv and predictions.csv."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from eegdecode.evaluation import results
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.results import NETWORK, MetricResult, Result
from eegdecode.evaluation.statistics.calibration import MOST_CLASSES, OfClass, roc
from eegdecode.evaluation.statistics.confusion import predicted, truth
from eegdecode.evaluation.statistics.correlation import correlation
from hpc import media
from hpc.runs import products

Row = Sequence[object]
FIGURE = [field.name for field in fields(MetricResult)]
OF_CLASS = [field.name for field in fields(OfClass)]


def write(folder: Path, result: Result, decoded: Decoded) -> None:
    every = {"figures": figures(result), "subjects": subjects(result), "predictions": predictions(decoded)}
    if result.kind == "classes":
        every |= {"classes": classes(result), "curves": curves(decoded, result)}
    for name, rows in every.items():
        products.write_text(folder / f"{name}.csv", media.csv([[_cell(cell) for cell in row] for row in rows]))


def figures(result: Result) -> Iterator[Row]:
    """Each metric of each decoder; and by how much the network is better than each baseline."""
    differs = ("difference", "difference_low", "difference_high", "difference_p", "difference_over")
    yield ["decoder", "metric", *FIGURE, "validation", *differs]
    every = {NETWORK: result.figures} | {name: each.figures for name, each in result.baseline_results.items()}
    for decoder, own in every.items():
        for metric, figure in own.items():
            decides = metric == result.headline
            row: list[object] = [decoder, metric, *asdict(figure).values()]
            row.append(result.validation.get(decoder) if decides else None)
            if decides and decoder != NETWORK:
                of = result.baseline_results[decoder].difference
                row += [of.value, of.low, of.high, of.p, of.units]
            yield [*row, *[None] * (len(FIGURE) + 3 + len(differs) - len(row))]


def subjects(result: Result) -> Iterator[Row]:
    others = list(dict.fromkeys(figure for row in result.subjects for figure in row.figures))
    yield ["subject", "windows", result.headline, "bound", "p", "p_holm", *result.baselines, *others]
    for row in result.subjects:
        figures = [row.figures.get(each) for each in others]
        yield [row.subject, row.n_windows, row.value, row.bound, row.p, row.p_holm, *row.baselines.values(), *figures]


def classes(result: Result) -> Iterator[Row]:
    yield ["decoder", *OF_CLASS]
    for decoder, every in result.of_classes.items():
        for each in every:
            yield [decoder, *asdict(each).values()]


def curves(decoded: Decoded, result: Result) -> Iterator[Row]:
    """The points of ROC curves, one for each class against the rest, and of reliability diagrams."""
    yield ["decoder", "curve", "class", "x", "y", "windows"]
    true = truth(decoded)
    for decoder in result.of_classes:
        outputs = decoded.output if decoder == NETWORK else decoded.baselines[decoder]
        for number, name in enumerate(decoded.classes[:MOST_CLASSES]):
            for x, y in zip(*roc(outputs[:, number], true == number), strict=True):
                yield [decoder, "roc", name, x, y, None]
        bins = result.calibrations[decoder]
        for n, confidence, accuracy in zip(bins.n, bins.confidence, bins.accuracy, strict=True):
            yield [decoder, "reliability", None, confidence, accuracy, n]


def predictions(decoded: Decoded) -> Iterator[Row]:
    """A row for each window: what is true, and what each decoder gives; of time courses the headline metric, of vectors
    r with the truth. All numbers are in predictions.h5."""
    about = ["subject", "session", "recording", "block", "trial", "start_s", "stimulus"]
    several = {NETWORK: decoded} | {name: decoded.by(name) for name in decoded.baselines}
    if decoded.kind == "classes":
        scores = [f"log_p_{decoder}_{name}" for decoder in several for name in decoded.classes]
        yield [*about, "true", *several, *scores]
    elif decoded.kind == "values":
        places = range(decoded.trials[0].target.shape[1])
        yield [*about, *(f"true_{n}" for n in places), *(f"{decoder}_{n}" for decoder in several for n in places)]
    else:
        what = results.headline(decoded) if decoded.kind == "sequence" else "r"
        yield [*about, *(f"{what}_{decoder}" for decoder in several)]
    answers = {name: predicted(other) for name, other in several.items()} if decoded.kind == "classes" else {}
    courses = {name: results.of_trials(other) for name, other in several.items()} if decoded.kind == "sequence" else {}
    for row, trial in enumerate(decoded.trials):
        of_each = [other.trials[row].output for other in several.values()]
        values: list[object]
        if decoded.kind == "classes":
            values = [
                decoded.classes[int(trial.target[0, 0])],
                *(decoded.classes[own[row]] for own in answers.values()),
            ]
            values += np.concatenate(of_each, axis=1)[0].tolist()
        elif decoded.kind == "values":
            values = [*trial.target[0].tolist(), *np.concatenate(of_each, axis=1)[0].tolist()]
        elif decoded.kind == "sequence":
            values = [float(own[row]) for own in courses.values()]
        else:
            values = [float(correlation(each.T, trial.target.T).mean()) for each in of_each]
        yield [*(getattr(trial, word) for word in about), *values]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)
