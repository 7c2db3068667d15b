"""report.html: one file that needs nothing else, to be sent on. What was found, beside chance, and how."""

from html import escape
from pathlib import Path

import numpy as np

from eegdecode import plots
from eegdecode.evaluation import chapters
from eegdecode.evaluation.chapters import many, say
from eegdecode.evaluation.metrics import Scores, SubjectScore
from eegdecode.evaluation.predictions import Decoded, DecodedTrial
from eegdecode.page import page, section
from eegdecode.plots import Dots, Line
from eegdecode.training.state import Trained
from hpc.rundir import RunDir, atomic_write

SHOWN_S = 40.0  # of a trial; more is too dense to see


def write(path: Path, trained: Trained, decoded: Decoded, scores: Scores) -> None:
    """Write the report of an evaluation run, into its `out` folder."""
    page = render(RunDir(path.resolve().parent.parent), trained, decoded, scores)
    atomic_write(path, lambda file: file.write(page.encode()))


def render(run: RunDir, trained: Trained, decoded: Decoded, scores: Scores) -> str:
    """The page. Its order is that of a reader's questions."""
    title = f"Decoding the {trained.target} from brain signals"
    runs = [*chapters.lineage(trained.run), run]
    sections = [
        f'<header><p class="eyebrow">{escape(run.name)}</p>\n<h1>{escape(title)}</h1>',
        f'<p class="verdict">{_verdict(scores, trained)}</p>{chapters.made_up(runs)}</header>',
        section("At a glance", _cards(scores)),
        section("Subjects", _subjects(scores)),
        section("Decoded and heard", _examples(decoded, scores)),
        section("Learning", chapters.learning(trained)),
        section("Data and leakage", chapters.data(trained, decoded)),
        section("How the figures are made", HOW),
        section("How this came about", chapters.capsule(runs, trained)),
    ]
    return page(f"{title}: {scores.verdict}", sections)


HOW = """<ul>
<li><b>r</b> is Pearson's correlation of decoded and heard over a whole trial, then the mean over trials. Its chance
level is what 95&nbsp;% of rotations stay below: the heard piece is rotated in time, alike for all who heard it, which
keeps its loudness and rhythm. p is the share of rotations that reach r.</li>
<li><b>Rank accuracy</b> is the share of the other test pieces that fit a decoded trial worse than the true piece does,
all cut to the length of the shortest.</li>
<li><b>Match-mismatch</b> is how often a few seconds of a decoded trial fit the same seconds of the piece better than
other seconds of it.</li>
<li><b>Linear ridge</b> decodes each instant from the EEG shortly after it: a decoder for each subject, or one for all
where a subject has no training trials. Validation trials choose its penalty, as they choose the network's step.</li>
</ul>"""


def _verdict(scores: Scores, trained: Trained) -> str:
    """What was found, in words, against chance and against the baseline."""
    r, linear, n_subjects = scores.r, scores.r_ridge, len(scores.subjects)
    above = sum(subject.r.is_above_chance for subject in scores.subjects)
    better = sum(subject.r.value > subject.r_ridge.value for subject in scores.subjects)
    fitted = "one for all too" if trained.split.by == "subject" else "fitted to each subject"
    shared = "with a layer for each subject" if getattr(trained.model, "subject_layer", False) else "one for all"
    side = "does better" if r.value > linear.value else "does not do better"
    return (
        f"<strong>{scores.verdict.capitalize()}.</strong> On {many(len(scores.trials), 'test trial')} of "
        f"{many(n_subjects, 'subject')}, what was decoded follows what was heard at r&nbsp;=&nbsp;{say(r.value)}; "
        f"by chance it would stay below {say(r.chance)} in 95 of 100 cases (p&nbsp;=&nbsp;{r.p:.3f}). "
        f"One by one, {above} of {many(n_subjects, 'subject')} {'is' if above == 1 else 'are'} above chance. "
        f"The network, {shared}, {side} than a linear ridge decoder, {fitted} "
        f"(r&nbsp;=&nbsp;{say(linear.value)} on the same trials); it is ahead in {better} of {n_subjects}."
    )


def _cards(scores: Scores) -> str:
    cards = [
        ("r", scores.r, "correlation in time, network"),
        ("r, linear ridge", scores.r_ridge, "the same trials, linear baseline"),
        ("Rank accuracy", scores.rank_accuracy, "true piece against the other pieces"),
        ("Match-mismatch", scores.match_mismatch, "true seconds against other seconds"),
    ]
    drawn = "\n".join(
        f'<div><dt>{name}</dt><dd><div class="value">{say(figure.value)}</div>'
        f'<div>chance {say(figure.chance)}</div><div class="note">{what}</div></dd></div>'
        for name, figure, what in cards
        if figure is not None
    )
    return f'<dl class="cards">\n{drawn}\n</dl>'


def _subjects(scores: Scores) -> str:
    rows = [Dots(s.subject, s.r.value, s.r_ridge.value, s.r.chance) for s in scores.subjects]
    key = (
        '<p class="key"><span><i class="decoded"></i>network</span><span><i class="ridge"></i>linear ridge</span>'
        '<span><i class="chance"></i>chance: 95 % of rotations stay below</span></p>'
    )
    label = "r of each subject, with chance and ridge beside it. The numbers are in the table below."
    columns = ("Subject", "Trials", "r", "chance", "p", "r, linear ridge", "rank accuracy", "match-mismatch")
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "\n".join(_row(s.subject, s.n_trials, s) for s in scores.subjects)
    return (
        f"<figure>{key}{plots.dots(rows, label)}<figcaption>Pearson's r, mean over each subject's test trials."
        '</figcaption></figure>\n<div class="scroll" tabindex="0" role="region" aria-label="Scores of each subject">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>\n"
        f"<tfoot>{_row('All trials', len(scores.trials), scores)}</tfoot></table></div>\n"
        '<p class="note">Chance of rank accuracy and match-mismatch is 0.5.</p>'
    )


def _row(name: str, n_trials: int, of: SubjectScore | Scores) -> str:
    shares = ["–" if figure is None else say(figure.value) for figure in (of.rank_accuracy, of.match_mismatch)]
    cells = [
        str(n_trials),
        say(of.r.value),
        say(of.r.chance),
        f"{of.r.p:.3f}",
        say(of.r_ridge.value),
        *shares,
    ]
    return f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _examples(decoded: Decoded, scores: Scores) -> str:
    order = np.argsort([-trial.r for trial in scores.trials], kind="stable")
    chosen = {"Best": order[0], "Median": order[len(order) // 2], "Worst": order[-1]}
    drawn = [
        '<p class="key"><span><i class="line heard"></i>heard</span>'
        '<span><i class="line decoded"></i>decoded</span></p>'
    ]
    for name, index in chosen.items():
        score, trial = scores.trials[index], decoded.trials[index]
        title = f"{name} trial: {score.subject}, {score.stimulus}"
        said = f"r = {say(score.r)} (ridge {say(score.r_ridge)})"
        chart = _traces(trial, decoded.sfreq, f"{title}: heard and decoded over time, {said}")
        drawn.append(f"<h3>{escape(title)}</h3>\n<figure>{chart}<figcaption>{said}</figcaption></figure>")
    n_outputs = decoded.trials[0].target.shape[1]
    mean = f", the mean of its {n_outputs} features" if n_outputs > 1 else ""
    drawn.append(f'<p class="note">Each curve in units of its own standard deviation{mean}.</p>')
    return "\n".join(drawn)


def _traces(trial: DecodedTrial, sfreq: float, label: str) -> str:
    n_times = min(len(trial.target), round(SHOWN_S * sfreq))
    seconds = np.arange(n_times) / sfreq
    curves = {"heard": trial.target, "decoded": trial.output}
    drawn = [Line(seconds, _standard(curve.mean(axis=1))[:n_times], style) for style, curve in curves.items()]
    return plots.lines(drawn, label, "seconds")


def _standard(curve: np.ndarray) -> np.ndarray:
    return (curve - curve.mean()) / (curve.std() or 1.0)
