"""Export the results for other documents: report.md, and a table in LaTeX."""

import re
from collections.abc import Mapping
from pathlib import Path

from eegdecode.evaluation.results import MetricResult, Result
from hpc.runs.rundir import atomic_write


def write(folder: Path, result: Result) -> None:
    for name, text in (("report.md", markdown(result)), ("table.tex", latex(result))):
        atomic_write(folder / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]


def markdown(result: Result) -> str:
    main, unit = result.figures[result.headline], "trial" if result.kind == "sequence" else "window"
    lines = [
        f"# {_plain(result.verdict.capitalize())}",
        "",
        f"{_plain(result.headline)} {_say(main.value)} (chance level {_say(main.chance)}, p = {main.p:.3f}): "
        f"{_plain(result.what)}.",
        "",
        "| metric | network | chance level | 95th percentile of the null | "
        + " | ".join(map(_plain, result.baselines))
        + " |",
        "| --- " * (4 + len(result.baselines)) + "|",
    ]
    for name, figure in result.figures.items():
        baselines = " | ".join(_of(figures, name) for figures in result.baselines.values())
        lines.append(
            f"| {_plain(name)} | {_with_interval(figure)} | {_say(figure.chance)} | {_bound(figure)} | {baselines} |"
        )
    each = _plain(result.of_subjects or result.headline)
    tested = "" if result.of_subjects else "| 95th percentile of the null | p "
    lines += ["", f"| subject | {unit}s | {each} {tested}| " + " | ".join(map(_plain, result.baselines)) + " |"]
    lines.append("| --- " * (3 + tested.count("|") + len(result.baselines)) + "|")
    for row in result.subjects:
        baselines = " | ".join(_say(value) for value in row.baselines.values())
        own = f"| {_say(row.bound)} | {row.p_holm:.3f} " if tested else ""
        lines.append(f"| {_plain(row.subject)} | {row.n_windows} | {_say(row.value)} {own}| {baselines} |")
    return "\n".join(lines) + "\n"


def latex(result: Result) -> str:
    columns = "l" + "r" * (3 + len(result.baselines))
    head = " & ".join(
        ["Metric", "Network", "Chance level", "95th percentile of the null", *map(_escaped, result.baselines)]
    )
    rows = []
    for name, figure in result.figures.items():
        baselines = [_of(figures, name) for figures in result.baselines.values()]
        rows.append(
            " & ".join([_escaped(name), _with_interval(figure), _say(figure.chance), _bound(figure), *baselines])
        )
    body = " \\\\\n".join(rows)
    return f"\\begin{{tabular}}{{{columns}}}\n\\hline\n{head} \\\\\n\\hline\n{body} \\\\\n\\hline\n\\end{{tabular}}\n"


def _with_interval(figure: MetricResult) -> str:
    if figure.low is None or figure.high is None:
        return _say(figure.value)
    return f"{_say(figure.value)} [{_say(figure.low)}, {_say(figure.high)}]"


def _bound(figure: MetricResult) -> str:
    return "–" if figure.bound is None else _say(figure.bound)


def _of(figures: Mapping[str, float], name: str) -> str:
    """The metric of a baseline, which may have none of its own."""
    return _say(figures[name]) if name in figures else "–"


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, in a cell of a table too."""
    one_line = "".join(letter if letter.isprintable() else " " for letter in text)
    return re.sub(r"[\\`*\[\]<>|]", lambda match: f"\\{match[0]}", one_line)


def _escaped(text: str) -> str:
    """A text that LaTeX prints as it is."""
    return "".join(OF_LATEX.get(letter, letter) if letter.isprintable() else " " for letter in text)


OF_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _say(value: float) -> str:
    return f"{value:.3f}"
