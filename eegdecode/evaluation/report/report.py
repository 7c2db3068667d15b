"""Write report.html: one self-contained file with the results, the chance level, the baselines and the methods."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from eegdecode import plots
from eegdecode.evaluation.decode.ensemble import Weigh
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.report import examples, glossary, relevance, sections
from eegdecode.evaluation.report.sections import many, say
from eegdecode.evaluation.results import MetricResult, Result
from eegdecode.page import page, section, table
from eegdecode.plots import Dots
from eegdecode.training.model_file import Trained
from hpc.runs.rundir import RunDir, atomic_write

SHADE = 45  # per cent of colour behind a number that is all of its row: more, and it is hard to read
WEIGHED: dict[Weigh, str] = {
    "mean": "whose outputs are averaged",
    "confidence": "of which the one with the higher largest probability has more weight (weigh=confidence)",
    "entropy": "of which the one with the lower entropy over classes has more weight (weigh=entropy)",
}
N_CARDS = 4  # the first metrics; all are in the table below


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
    atomic_write(path, lambda file: file.write(rendered.encode()))


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
    title = f"Decoding the {trained.target} from brain signals"
    runs = [*sections.lineages([each.run for each in several]), run]
    blocks = [
        f'<header><p class="eyebrow">{escape(run.name)}</p>\n<h1>{escape(title)}</h1>',
        f'<p class="verdict">{_verdict(result, trained)}{_together(several, weigh)}</p>',
        f"{sections.made_up(runs)}</header>",
        section("At a glance", _cards(result) + _figures(result)),
        section("Subjects", _subjects(result)),
        *([section("Confusion matrix", _confusion(result))] if result.confusion else []),
        *([section("Decoded and true", examples.drawn(decoded, runs))] if result.kind == "sequence" else []),
        section("Channel importance", relevance.drawn(result, trained.spec)),
        section("Training", sections.learning(several)),
        section("Data and leakage", sections.data(trained, decoded)),
        section("How the metrics are computed", _how(result)),
        section("Reproducibility", sections.capsule(runs, several)),
    ]
    return page(f"{title}: {result.verdict}", blocks)


def _verdict(result: Result, trained: Trained) -> str:
    """The result in words, compared with chance and the baselines."""
    main, n_subjects = result.figures[result.headline], len(result.subjects)
    assert main.bound is not None and main.p is not None
    above = sum(row.p_holm < 0.05 for row in result.subjects)
    n_rows = sum(row.n_windows for row in result.subjects)
    summary = (
        f"<strong>{result.verdict.capitalize()}.</strong> On {many(n_rows, f'test {_unit(result)}')} of "
        f"{many(n_subjects, 'subject')}, {_label(result, result.headline)}&nbsp;=&nbsp;{say(main.value)}: "
        f"{escape(result.what)}. Chance level is {say(main.chance)}, the 95th percentile of the null "
        f"{say(main.bound)} (p&nbsp;=&nbsp;{main.p:.3f})."
    )
    if not result.of_subjects:  # where subjects themselves are permuted, none has a null of its own
        summary += (
            f" One by one, {above} of {many(n_subjects, 'subject')} {'is' if above == 1 else 'are'} above chance."
        )
    if not result.baselines:
        return f"{summary} No linear baseline could be fitted; the section on the data says why."
    best = max(result.baselines, key=lambda name: result.baselines[name][result.headline])
    linear = result.baselines[best][result.headline]
    if result.verdict != "above chance":
        return (
            f"{summary} The best linear baseline, {escape(best)}, has {say(linear)}; a comparison means nothing then."
        )
    ahead = sum(row.value > row.baselines[best] for row in result.subjects)
    shared = "with a layer for each subject" if getattr(trained.model, "subject_layer", False) else "one for all"
    side = "does better" if main.value > linear else "does not do better"
    return (
        f"{summary} The network, {shared}, {side} than the best linear baseline ({escape(best)}, {say(linear)} on the "
        f"same {_unit(result)}s); it is ahead in {ahead} of {many(n_subjects, 'subject')}."
    )


def _together(several: Sequence[Trained], weigh: Weigh) -> str:
    """A sentence on the models of an ensemble; empty for a single model."""
    if len(several) == 1:
        return ""
    names = ", ".join(escape(each.run.name) for each in several)
    return f" The network is {len(several)} models that decode together, {WEIGHED[weigh]}: {names}."


def _unit(result: Result) -> str:
    return "trial" if result.kind == "sequence" else "window"


def _label(result: Result, name: str) -> str:
    return escape(glossary.label(result.kind, name), quote=False)


def _of(figures: Mapping[str, float], name: str) -> str:
    """The metric of a baseline, which may have none of its own: PESQ finds no speech in it."""
    return say(figures[name]) if name in figures else "–"


def _cards(result: Result) -> str:
    cards = []
    for name in list(result.figures)[:N_CARDS]:
        figure = result.figures[name]
        baselines = ", ".join(f"{escape(other)} {_of(figures, name)}" for other, figures in result.baselines.items())
        cards.append(
            f'<div><dt>{_label(result, name)}</dt><dd><div class="value">{say(figure.value)}</div>'
            f"<div>chance level {say(figure.chance)}</div>"
            f'<div class="note">{_interval(figure)}{baselines}</div></dd></div>'
        )
    drawn = "\n".join(cards)
    return f'<dl class="cards">\n{drawn}\n</dl>'


def _interval(figure: MetricResult) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"95&nbsp;% {say(figure.low)} to {say(figure.high)} over subjects; "


def _figures(result: Result) -> str:
    rows = []
    for name, figure in result.figures.items():
        bound = "–" if figure.bound is None else say(figure.bound)
        p = "–" if figure.p is None else f"{figure.p:.3f}"
        baselines = [_of(figures, name) for figures in result.baselines.values()]
        rows.append([glossary.label(result.kind, name), say(figure.value), say(figure.chance), bound, p, *baselines])
    head = ["Metric", "network", "chance level", "95th percentile of the null", "p", *result.baselines]
    return table(head, rows, "All metrics")


def _subjects(result: Result) -> str:
    chance = result.figures[result.headline].chance
    first = next(iter(result.baselines), "")
    rows = [Dots(row.subject, row.value, row.baselines.get(first, chance), row.bound) for row in result.subjects]
    linear = f'<span><i class="ridge"></i>{escape(first)}</span>' if first else ""
    key = (
        f'<p class="key"><span><i class="decoded"></i>network</span>{linear}'
        '<span><i class="chance"></i>95th percentile of the null</span></p>'
    )
    name = result.of_subjects.capitalize() or glossary.label(result.kind, result.headline)
    label = f"{name} of each subject, with the null and a baseline. The numbers are in the table below."
    others = list(dict.fromkeys(figure for row in result.subjects for figure in row.figures))
    tested = [] if result.of_subjects else ["95th percentile of the null", "p (Holm)"]
    head = [
        "Subject",
        f"{_unit(result)}s",
        name,
        *tested,
        *result.baselines,
        *(glossary.label(result.kind, other) for other in others),
    ]
    body = [
        [row.subject, str(row.n_windows), say(row.value), *[say(row.bound), f"{row.p_holm:.3f}"][: len(tested)]]
        + [say(value) for value in row.baselines.values()]
        + [say(row.figures[other]) if other in row.figures else "–" for other in others]
        for row in result.subjects
    ]
    return (
        f"<figure>{key}{plots.dots(rows, label)}<figcaption>{name}, of each subject.</figcaption></figure>\n"
        + table(head, body, "Scores of each subject")
    )


def _confusion(result: Result) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in result.classes)
    rows = []
    for name, row in zip(result.classes, result.confusion, strict=True):
        shades = [
            f"color-mix(in srgb, var(--decoded) {SHADE * count / max(1, sum(row)):.0f}%, transparent)" for count in row
        ]
        cells = "".join(f'<td style="background:{shade}">{n}</td>' for shade, n in zip(shades, row, strict=True))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    body = "\n".join(rows)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table><thead><tr>'
        f'<th scope="col">true \\ predicted</th>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def _how(result: Result) -> str:
    terms = "\n".join(
        f"<li><b>{escape(glossary.label(result.kind, name))}</b>: {escape(glossary.explanation(result.kind, name))}"
        "</li>"
        for name in result.figures
    )
    return (
        f"<ul>\n{terms}\n</ul>\n<p>{glossary.KINDS[result.kind]} p is the share of draws of the null that reach the "
        "metric. Confidence intervals are of the mean over subjects, by Student's t, from three subjects on; "
        "p of subjects is corrected for multiple comparisons (Holm).</p>"
    )
