"""report.html: one file that needs nothing else, to be sent on. What was found, beside chance, and how."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from eegdecode import plots
from eegdecode.evaluation.decode.ensemble import Weigh
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.metrics.results import Findings, Measured
from eegdecode.evaluation.report import examples, relevance, sections
from eegdecode.evaluation.report.glossary import KINDS, TERMS
from eegdecode.evaluation.report.sections import many, say
from eegdecode.page import page, section, table
from eegdecode.plots import Dots
from eegdecode.training.model_file import Trained
from hpc.runs.rundir import RunDir, atomic_write

SHADE = 45  # per cent of colour behind a number that is all of its row: more, and it is hard to read
WEIGHED: dict[Weigh, str] = {
    "mean": "as the mean of what they say",
    "confidence": "of which the one whose likeliest class stands out further counts for more (weigh=confidence)",
    "entropy": "of which the one that hesitates less between the classes counts for more (weigh=entropy)",
}
N_CARDS = 4  # of figures; all are in the table below


def write(
    path: Path,
    trained: Trained,
    decoded: Decoded,
    found: Findings,
    others: Sequence[Trained] = (),
    weigh: Weigh = "mean",
) -> None:
    """Write the report of an evaluation run, into its `out` folder. `others` have decoded together with the model."""
    rendered = render(RunDir(path.resolve().parent.parent), trained, decoded, found, others, weigh)
    atomic_write(path, lambda file: file.write(rendered.encode()))


def render(
    run: RunDir,
    trained: Trained,
    decoded: Decoded,
    found: Findings,
    others: Sequence[Trained] = (),
    weigh: Weigh = "mean",
) -> str:
    """The page. Its order is that of a reader's questions."""
    several = [trained, *others]
    title = f"Decoding the {trained.target} from brain signals"
    runs = [*sections.lineages([each.run for each in several]), run]
    blocks = [
        f'<header><p class="eyebrow">{escape(run.name)}</p>\n<h1>{escape(title)}</h1>',
        f'<p class="verdict">{_verdict(found, trained)}{_together(several, weigh)}</p>',
        f"{sections.made_up(runs)}</header>",
        section("At a glance", _cards(found) + _figures(found)),
        section("Subjects", _subjects(found)),
        *([section("Told and true", _confusion(found))] if found.confusion else []),
        *([section("Decoded and true", examples.drawn(decoded, runs))] if found.kind == "sequence" else []),
        section("Where on the head", relevance.drawn(found, trained.spec)),
        section("Learning", sections.learning(several)),
        section("Data and leakage", sections.data(trained, decoded)),
        section("How the figures are made", _how(found)),
        section("How this came about", sections.capsule(runs, several)),
    ]
    return page(f"{title}: {found.verdict}", blocks)


def _verdict(found: Findings, trained: Trained) -> str:
    """What was found, in words, against chance and against the baselines."""
    main, n_subjects = found.figures[found.headline], len(found.subjects)
    assert main.bound is not None and main.p is not None
    above = sum(row.p_holm < 0.05 for row in found.subjects)
    n_rows = sum(row.n_windows for row in found.subjects)
    said = (
        f"<strong>{found.verdict.capitalize()}.</strong> On {many(n_rows, f'test {_unit(found)}')} of "
        f"{many(n_subjects, 'subject')}, {_label(found.headline)}&nbsp;=&nbsp;{say(main.value)}: {escape(found.what)}. "
        f"By chance it is {say(main.chance)}, and would stay below {say(main.bound)} in 95 of 100 cases "
        f"(p&nbsp;=&nbsp;{main.p:.3f})."
    )
    if not found.of_subjects:  # where subjects are what is dealt out, none of them has a chance of its own
        said += f" One by one, {above} of {many(n_subjects, 'subject')} {'is' if above == 1 else 'are'} above chance."
    if not found.baselines:
        return f"{said} No linear decoder could be fitted to be set beside it; why is said below, of the data."
    best = max(found.baselines, key=lambda name: found.baselines[name][found.headline])
    linear = found.baselines[best][found.headline]
    if found.verdict != "above chance":
        return f"{said} The best linear decoder, {escape(best)}, has {say(linear)}; which is ahead says nothing then."
    ahead = sum(row.value > row.baselines[best] for row in found.subjects)
    shared = "with a layer for each subject" if getattr(trained.model, "subject_layer", False) else "one for all"
    side = "does better" if main.value > linear else "does not do better"
    return (
        f"{said} The network, {shared}, {side} than the best linear decoder ({escape(best)}, with {say(linear)} on the "
        f"same {_unit(found)}s); it is ahead in {ahead} of {n_subjects}."
    )


def _together(several: Sequence[Trained], weigh: Weigh) -> str:
    """That it was not one model, where it was not."""
    if len(several) == 1:
        return ""
    names = ", ".join(escape(each.run.name) for each in several)
    return f" The network is {len(several)} models that decode together, {WEIGHED[weigh]}: {names}."


def _unit(found: Findings) -> str:
    return "trial" if found.kind == "sequence" else "window"


def _label(name: str) -> str:
    return TERMS[name].label


def _cards(found: Findings) -> str:
    cards = []
    for name in list(found.figures)[:N_CARDS]:
        figure = found.figures[name]
        beside = ", ".join(f"{escape(other)} {say(figures[name])}" for other, figures in found.baselines.items())
        cards.append(
            f'<div><dt>{_label(name)}</dt><dd><div class="value">{say(figure.value)}</div>'
            f'<div>chance {say(figure.chance)}</div><div class="note">{_interval(figure)}{beside}</div></dd></div>'
        )
    drawn = "\n".join(cards)
    return f'<dl class="cards">\n{drawn}\n</dl>'


def _interval(figure: Measured) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"95&nbsp;% {say(figure.low)} to {say(figure.high)} over subjects; "


def _figures(found: Findings) -> str:
    rows = []
    for name, figure in found.figures.items():
        bound = "–" if figure.bound is None else say(figure.bound)
        p = "–" if figure.p is None else f"{figure.p:.3f}"
        beside = [say(figures[name]) for figures in found.baselines.values()]
        rows.append([_label(name), say(figure.value), say(figure.chance), bound, p, *beside])
    head = ["Figure", "network", "chance", "95 % below", "p", *found.baselines]
    return table(head, rows, "All figures")


def _subjects(found: Findings) -> str:
    chance = found.figures[found.headline].chance
    first = next(iter(found.baselines), "")
    rows = [Dots(row.subject, row.value, row.baselines.get(first, chance), row.bound) for row in found.subjects]
    linear = f'<span><i class="ridge"></i>{escape(first)}</span>' if first else ""
    key = (
        f'<p class="key"><span><i class="decoded"></i>network</span>{linear}'
        '<span><i class="chance"></i>chance: 95 % of draws stay below</span></p>'
    )
    name = found.of_subjects.capitalize() or _label(found.headline)
    label = f"{name} of each subject, with chance and a baseline beside it. The numbers are in the table below."
    others = list(dict.fromkeys(figure for row in found.subjects for figure in row.figures))
    tested = [] if found.of_subjects else ["95 % below", "p (Holm)"]
    head = ["Subject", f"{_unit(found)}s", name, *tested, *found.baselines, *map(_label, others)]
    body = [
        [row.subject, str(row.n_windows), say(row.value), *[say(row.bound), f"{row.p_holm:.3f}"][: len(tested)]]
        + [say(value) for value in row.baselines.values()]
        + [say(row.figures[other]) if other in row.figures else "–" for other in others]
        for row in found.subjects
    ]
    return (
        f"<figure>{key}{plots.dots(rows, label)}<figcaption>{name}, of each subject.</figcaption></figure>\n"
        + table(head, body, "Scores of each subject")
    )


def _confusion(found: Findings) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in found.classes)
    rows = []
    for name, row in zip(found.classes, found.confusion, strict=True):
        shades = [
            f"color-mix(in srgb, var(--decoded) {SHADE * count / max(1, sum(row)):.0f}%, transparent)" for count in row
        ]
        cells = "".join(f'<td style="background:{shade}">{n}</td>' for shade, n in zip(shades, row, strict=True))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    body = "\n".join(rows)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion of classes"><table><thead><tr>'
        f'<th scope="col">true \\ told</th>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def _how(found: Findings) -> str:
    terms = "\n".join(f"<li><b>{TERMS[name].label}</b>: {escape(TERMS[name].how)}</li>" for name in found.figures)
    return (
        f"<ul>\n{terms}\n</ul>\n<p>{KINDS[found.kind]} p is the share of such draws that reach the figure. Intervals "
        "are of the mean over subjects, by Student's t, from three of them on; "
        "p of subjects is corrected for their number (Holm).</p>"
    )
