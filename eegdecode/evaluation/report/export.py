"""The findings as text for other documents: report.md, and a table in LaTeX."""

from pathlib import Path

from eegdecode.evaluation.metrics.results import Findings, Measured
from hpc.runs.rundir import atomic_write


def write(folder: Path, found: Findings) -> None:
    for name, text in (("report.md", markdown(found)), ("table.tex", latex(found))):
        atomic_write(folder / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]


def markdown(found: Findings) -> str:
    main, unit = found.figures[found.headline], "trial" if found.kind == "sequence" else "window"
    lines = [
        f"# {found.verdict.capitalize()}",
        "",
        f"{found.headline} {_say(main.value)} (chance {_say(main.chance)}, p = {main.p:.3f}): {found.what}.",
        "",
        "| figure | network | chance | 95 % below | " + " | ".join(found.baselines) + " |",
        "| --- " * (4 + len(found.baselines)) + "|",
    ]
    for name, figure in found.figures.items():
        beside = " | ".join(_say(figures[name]) for figures in found.baselines.values())
        lines.append(f"| {name} | {_with_interval(figure)} | {_say(figure.chance)} | {_bound(figure)} | {beside} |")
    each = found.of_subjects or found.headline
    tested = "" if found.of_subjects else "| 95 % below | p "
    lines += ["", f"| subject | {unit}s | {each} {tested}| " + " | ".join(found.baselines) + " |"]
    lines.append("| --- " * (3 + tested.count("|") + len(found.baselines)) + "|")
    for row in found.subjects:
        beside = " | ".join(_say(value) for value in row.baselines.values())
        own = f"| {_say(row.bound)} | {row.p_holm:.3f} " if tested else ""
        lines.append(f"| {row.subject} | {row.n_windows} | {_say(row.value)} {own}| {beside} |")
    return "\n".join(lines) + "\n"


def latex(found: Findings) -> str:
    columns = "l" + "r" * (3 + len(found.baselines))
    head = " & ".join(["Figure", "Network", "Chance", "95\\,\\% below", *map(_escaped, found.baselines)])
    rows = []
    for name, figure in found.figures.items():
        beside = [_say(figures[name]) for figures in found.baselines.values()]
        rows.append(" & ".join([_escaped(name), _with_interval(figure), _say(figure.chance), _bound(figure), *beside]))
    body = " \\\\\n".join(rows)
    return f"\\begin{{tabular}}{{{columns}}}\n\\hline\n{head} \\\\\n\\hline\n{body} \\\\\n\\hline\n\\end{{tabular}}\n"


def _with_interval(figure: Measured) -> str:
    if figure.low is None or figure.high is None:
        return _say(figure.value)
    return f"{_say(figure.value)} [{_say(figure.low)}, {_say(figure.high)}]"


def _bound(figure: Measured) -> str:
    return "–" if figure.bound is None else _say(figure.bound)


def _escaped(text: str) -> str:
    return text.replace("_", "\\_")


def _say(value: float) -> str:
    return f"{value:.3f}"
