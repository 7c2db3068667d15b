"""Write report.html: one self-contained file with the results, the chance level, the baselines and the methods."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eegdecode.evaluation.decode.ensemble import Weigh
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics import metrics
from eegdecode.evaluation.report import curves, examples, lags, relevance, sections
from eegdecode.evaluation.results import NETWORK, Result
from eegdecode.page import page, say
from eegdecode.plots import DotPlot, Dots
from eegdecode.training.model_file import Trained
from eegdecode.training.monitor import doctor
from hpc.runs import products
from hpc.runs.rundir import RunDir

DECODERS = {
    "csp": "common spatial patterns between 8 and 30 Hz, then LDA",
    "bandpower": "the power of each channel in five bands, then logistic regression",
    "riemann": "covariances in the tangent space of their Riemannian mean, then logistic regression",
    "mdm": "the nearest Riemannian mean of the covariances of a class",
    "evoked": "the means of each channel over stretches of time, then LDA with shrinkage",
    "xdawn": "xDAWN filters, and the covariances with the mean responses in their tangent space, then regression",
    "fbcca": "canonical correlations with sines of each frequency in a bank of filters, then logistic regression",
    "trca": "correlations with the mean response to each class through task-related components, then regression",
    "filterbank": "covariances of the signals around each frequency in the tangent space, then logistic regression",
}
BOUND = "95th percentile of the null"
WEIGHED: dict[Weigh, str] = {
    "mean": "whose outputs are averaged",
    "confidence": "of which the one with the higher largest probability has more weight (weigh=confidence)",
    "entropy": "of which the one with the lower entropy over classes has more weight (weigh=entropy)",
}


def write(
    path: Path,
    trained: Trained,
    decoded: Decoded,
    result: Result,
    others: Sequence[Trained] = (),
    weigh: Weigh = "mean",
) -> None:
    """Write the report of an evaluation run to its `out` folder. `others` are models that decoded with the first."""
    rendered = render(RunDir(path.resolve().parent.parent), trained, decoded, result, others, weigh)
    products.write_text(path, rendered)


def render(
    run: RunDir,
    trained: Trained,
    decoded: Decoded,
    result: Result,
    others: Sequence[Trained] = (),
    weigh: Weigh = "mean",
) -> str:
    """The page, in the order of a reader's questions."""
    several = [trained, *others]
    runs = [*sections.lineages([each.run for each in several]), run]
    return page(
        "evaluation/report/report",
        **of_result(result),
        run=run.name,
        target=trained.target,
        has_subject_layer=getattr(trained.model, "subject_layer", False),
        weighed=WEIGHED[weigh],
        made_up=sections.made_up(runs),
        examples=examples.examples(decoded, runs, _decoder(several)) if result.kind == "sequence" else None,
        channels=relevance.on_head(result, trained.spec),
        lags=lags.drawn(result.lags, trained.spec),
        n_features=trained.spec.n_outputs,
        learning=[sections.learning(each) for each in several],
        data=sections.data(trained, decoded),
        audited=sections.audited(trained),
        capsule=sections.capsule(runs, several),
    )


def _decoder(several: Sequence[Trained]) -> str:
    names = ", ".join(each.run.name for each in several)
    return f"{several[0].model.name} of {names}" if len(several) == 1 else f"{len(several)} networks ({names})"


def of_result(result: Result) -> dict[str, Any]:
    """What the page says of the result alone."""
    declared, headline, baselines = metrics(result.kind), result.headline, result.baselines
    titles = {name: metric.title for name, metric in declared.items()}
    of_baselines = {name: [_of_baseline(result, each, name) for each in baselines] for name in result.figures}
    best = result.best_linear
    unit = "trial" if result.kind == "sequence" else "window"
    by_metric = [
        [
            titles[name],
            say(figure.value),
            say(figure.chance),
            "–" if figure.bound is None else say(figure.bound),
            "–" if figure.p is None else f"{figure.p:.3f}",
            *of_baselines[name],
        ]
        for name, figure in result.figures.items()
    ]
    of_subjects = result.of_subjects.capitalize() or titles[headline]
    return {
        "result": result,
        "unit": unit,
        "titles": titles,
        "explanations": {name: metric.explanation for name, metric in declared.items()},
        "of_baselines": of_baselines,
        "decoder_names": {name: "the network" if name == NETWORK else name for name in result.decoders},
        "decoder_texts": {name: text for name, text in DECODERS.items() if name in baselines},
        "linear": baselines[best][headline] if best else None,
        "n_ahead": sum(row.value > row.baselines[best] for row in result.subjects) if best else 0,
        "one_class": _one_class(result),
        "by_decoder": _by_decoder(result, titles[headline]),
        "confusion_rows": [(name, *row) for name, row in zip(result.classes, result.confusion, strict=False)],
        **(curves.of_classes(result) if result.kind == "classes" else {}),
        "by_metric": (["Metric", "network", "chance level", BOUND, "p", *baselines], by_metric),
        "of_subjects": of_subjects,
        "subjects": _dots(result, of_subjects),
        "by_subject": _by_subject(result, titles, of_subjects, unit),
    }


def _of_baseline(result: Result, baseline: str, metric: str) -> str:
    """A figure of a baseline, with its own chance level if that is another: of some metrics it hangs on how often each
    class is predicted. A baseline may have no such figure: PESQ finds no speech in it."""
    figures = result.baselines[baseline]
    if metric not in figures:
        return "–"
    own = result.baseline_results[baseline].figures.get(metric) if baseline in result.baseline_results else None
    value, chance = say(figures[metric]), say(result.figures[metric].chance)
    return value if own is None or say(own.chance) == chance else f"{value} (chance {say(own.chance)})"


def _one_class(result: Result) -> str:
    """A sentence if the network gives all test windows one class, whether its scores tell them apart or not."""
    if result.kind != "classes" or "auroc" not in result.figures:
        return ""
    counts = [each.n_predicted for each in result.of_classes[NETWORK]]
    n_classes = sum(each.n_windows > 0 for each in result.of_classes[NETWORK])
    accuracy, auroc = (result.figures[name].value for name in ("balanced_accuracy", "auroc"))
    share = max(counts) / sum(counts)
    return doctor.one_class(share, auroc, accuracy, n_classes, "test") or doctor.constant(share, auroc, n_classes)


def _by_decoder(result: Result, title: str) -> tuple[list[str], list[list[str]]]:
    """The headline of each decoder, with what tells whether it is above chance, and whether the network is better."""
    head = ["Decoder", "validation", title, "95 %", BOUND, "p", "network minus it", "95 %", "p", "over"]
    rows = []
    for name, figure in result.decoders.items():
        own = [say(figure.value), _interval(figure.low, figure.high), _or_dash(figure.bound)]
        row = [name, _or_dash(result.validation.get(name)), *own, "–" if figure.p is None else f"{figure.p:.3f}"]
        if name == NETWORK:
            rows.append([*row, "–", "–", "–", "–"])
            continue
        of = result.baseline_results[name].difference
        p = "–" if of.p is None else f"{of.p:.3f}"
        rows.append([*row, say(of.value), _interval(of.low, of.high), p, of.units])
    return head, rows if result.baseline_results else []


def _or_dash(value: float | None) -> str:
    return "–" if value is None else say(value)


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{say(low)} to {say(high)}"


def _dots(result: Result, of_subjects: str) -> DotPlot:
    first, chance = result.best_linear, result.figures[result.headline].chance
    rows = [Dots(row.subject, row.value, row.baselines.get(first, chance), row.bound) for row in result.subjects]
    label = f"{of_subjects} of each subject, with the null and a baseline. The numbers are in the table below."
    return DotPlot(rows, label)


def _by_subject(
    result: Result, titles: Mapping[str, str], of_subjects: str, unit: str
) -> tuple[list[str], list[list[str]]]:
    others = list(dict.fromkeys(figure for row in result.subjects for figure in row.figures))
    tested = [] if result.of_subjects else [BOUND, "p (Holm)"]
    head = ["Subject", f"{unit}s", of_subjects, *tested, *result.baselines, *(titles[other] for other in others)]
    rows = [
        [row.subject, str(row.n_windows), say(row.value), *[say(row.bound), f"{row.p_holm:.3f}"][: len(tested)]]
        + [say(value) for value in row.baselines.values()]
        + [say(row.figures[other]) if other in row.figures else "–" for other in others]
        for row in result.subjects
    ]
    return head, rows
