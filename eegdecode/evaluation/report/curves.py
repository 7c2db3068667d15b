"""What the page draws of classes: a table of each class, ROC curves, and reliability diagrams."""

from typing import Any

from eegdecode import plots
from eegdecode.evaluation.results import NETWORK, Result
from eegdecode.evaluation.statistics.calibration import FALSE_POSITIVES
from eegdecode.page import say
from eegdecode.plots import Chart, Line

MOST_ROWS = 50  # classes that are listed


def of_classes(result: Result) -> dict[str, Any]:
    """Of the network and the best linear decoder."""
    drawn = {name: style for name, style in ((NETWORK, "decoded"), (result.best_linear, "heard")) if name}
    head = ["Class", "windows"]
    head += [f"{what}, {name}" for name in drawn for what in ("predicted", "precision", "recall", "F1", "AUROC")]
    rows = []
    for number, each in enumerate(result.of_classes[NETWORK][:MOST_ROWS]):
        row = [each.name, str(each.n_windows)]
        for name in drawn:
            own = result.of_classes[name][number]
            numbers = (own.precision, own.recall, own.f1, own.auroc)
            row += [str(own.n_predicted), *("–" if value is None else say(value) for value in numbers)]
        rows.append(row)
    ece = ", ".join(f"{say(result.calibrations[name].ece)} of {name}" for name in drawn)
    return {
        "of_classes": (head, rows),
        "roc": _roc(result, drawn),
        "reliability": _reliability(result, drawn),
        "ece": ece,
    }


def _roc(result: Result, drawn: dict[str, str]) -> Chart:
    lines = [Line([0, 1], [0, 1], "faint")]
    for name, style in drawn.items():
        if curve := result.calibrations[name].roc:
            lines.append(Line([0, *FALSE_POSITIVES], [0, *curve], style))
    return plots.lines(lines, "ROC: true positives over false positives.", "false positives, true positives upwards")


def _reliability(result: Result, drawn: dict[str, str]) -> Chart:
    lines = [Line([0, 1], [0, 1], "faint")]
    for name, style in drawn.items():
        own = result.calibrations[name]
        lines.append(Line(own.confidence, own.accuracy, style))
    return plots.lines(lines, "Reliability: the share that is right over probability.", "probability, share upwards")
