"""report.html of windows that have one answer each: classes, embeddings, numbers. One file that needs nothing else."""

from html import escape
from pathlib import Path

from eegdecode import plots
from eegdecode.evaluation import chapters
from eegdecode.evaluation.chapters import many, say
from eegdecode.evaluation.findings import Findings, Measured
from eegdecode.evaluation.predictions import Decoded
from eegdecode.page import page, section
from eegdecode.plots import Dots
from eegdecode.training.state import Trained
from hpc.rundir import RunDir, atomic_write

WORDS = {
    "balanced_accuracy": "Balanced accuracy", "kappa": "Cohen's kappa", "weighted_f1": "Weighted F1",
    "auroc": "AUROC", "rank": "Rank", "r": "r", "nrmse": "nRMSE", "top1": "Top 1", "top5": "Top 5", "top10": "Top 10",
    "top1_of_200": "Top 1 of 200", "top5_of_200": "Top 5 of 200",
}  # fmt: skip
HOW = {
    "classes": "<b>Balanced accuracy</b> is the share of windows that are told right, the mean over classes. Its null "
    "deals the classes out anew among the trials of each subject. <b>CSP</b> and <b>band powers</b> are linear "
    "decoders fitted to each subject on the same windows.",
    "retrieval": "<b>Top k</b> is how often the right candidate is among the k that are most like what was decoded, "
    "by the cosine. Its null deals the candidates out anew, alike for all windows of one. <b>Ridge</b> goes linearly "
    "from the window, averaged to a few instants, to the embedding.",
    "values": "<b>r</b> is Pearson's correlation of decoded and true over the test windows; <b>nRMSE</b> the error in "
    "standard deviations of the truth, 1 for one who always says the mean. The null deals the truth out anew.",
}


def write(path: Path, trained: Trained, decoded: Decoded, found: Findings) -> None:
    rendered = render(RunDir(path.resolve().parent.parent), trained, decoded, found)
    atomic_write(path, lambda file: file.write(rendered.encode()))


def render(run: RunDir, trained: Trained, decoded: Decoded, found: Findings) -> str:
    title = f"Decoding {trained.target} from brain signals"
    runs = [*chapters.lineage(trained.run), run]
    sections = [
        f'<header><p class="eyebrow">{escape(run.name)}</p>\n<h1>{escape(title)}</h1>',
        f'<p class="verdict">{_verdict(found)}</p>{chapters.made_up(runs)}</header>',
        section("At a glance", _cards(found)),
        section("Subjects", _subjects(found)),
        *([section("Told and true", _confusion(found))] if found.confusion else []),
        section("Learning", chapters.learning(trained)),
        section("Data and leakage", chapters.data(trained, decoded)),
        section("How the figures are made", f"<p>{HOW[found.kind]} Intervals are of the mean over subjects, from "
                "subjects drawn anew; p of subjects is corrected for their number (Holm).</p>"),
        section("How this came about", chapters.capsule(runs, trained)),
    ]  # fmt: skip
    return page(f"{title}: {found.verdict}", sections)


def _verdict(found: Findings) -> str:
    main = found.figures[found.headline]
    above = sum(row.p_holm < 0.05 for row in found.subjects)
    best = max(found.baselines, key=lambda name: found.baselines[name][found.headline], default="")
    linear = found.baselines[best][found.headline] if best else main.chance
    side = "does better" if main.value > linear else "does not do better"
    assert main.bound is not None and main.p is not None
    return (
        f"<strong>{found.verdict.capitalize()}.</strong> {WORDS[found.headline]} is {say(main.value)}, "
        f"{escape(found.what)}; chance is {say(main.chance)}, and where nothing can be decoded it stays below "
        f"{say(main.bound)} in 95 of 100 cases (p&nbsp;=&nbsp;{main.p:.3f}). One by one, {above} of "
        f"{many(len(found.subjects), 'subject')} {'is' if above == 1 else 'are'} above chance. The network {side} "
        f"than the best linear decoder ({best}: {say(linear)})."
    )


def _cards(found: Findings) -> str:
    cards = []
    for name, figure in found.figures.items():
        beside = ", ".join(f"{other} {say(figures[name])}" for other, figures in found.baselines.items())
        cards.append(
            f'<div><dt>{WORDS[name]}</dt><dd><div class="value">{say(figure.value)}</div>'
            f'<div>chance {say(figure.chance)}</div><div class="note">{_interval(figure)}{beside}</div></dd></div>'
        )
    drawn = "\n".join(cards)
    return f'<dl class="cards">\n{drawn}\n</dl>'


def _interval(figure: Measured) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"95&nbsp;% {say(figure.low)} to {say(figure.high)} over subjects; "


def _subjects(found: Findings) -> str:
    chance = found.figures[found.headline].chance
    first = next(iter(found.baselines), "")
    rows = [Dots(row.subject, row.value, row.baselines.get(first, chance), chance) for row in found.subjects]
    key = (
        '<p class="key"><span><i class="decoded"></i>network</span>'
        f'<span><i class="ridge"></i>{escape(first)}</span><span><i class="chance"></i>chance</span></p>'
    )
    label = (
        f"{WORDS[found.headline]} of each subject, with chance and a baseline beside it; numbers in the table below."
    )
    columns = ("Subject", "Windows", WORDS[found.headline], "p (Holm)", *found.baselines)
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row.subject)}</th><td>{row.n_windows}</td><td>{say(row.value)}</td>'
        f"<td>{row.p_holm:.3f}</td>{''.join(f'<td>{say(value)}</td>' for value in row.baselines.values())}</tr>"
        for row in found.subjects
    )
    return (
        f"<figure>{key}{plots.dots(rows, label)}<figcaption>{WORDS[found.headline]}, of each subject.</figcaption>"
        '</figure>\n<div class="scroll" tabindex="0" role="region" aria-label="Scores of each subject">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _confusion(found: Findings) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in found.classes)
    rows = []
    for name, row in zip(found.classes, found.confusion, strict=True):
        shades = [
            f"color-mix(in srgb, var(--decoded) {60 * count / max(1, sum(row)):.0f}%, transparent)" for count in row
        ]
        cells = "".join(f'<td style="background:{shade}">{n}</td>' for shade, n in zip(shades, row, strict=True))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    body = "\n".join(rows)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion of classes"><table><thead><tr>'
        f'<th scope="col">true \\ told</th>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )
