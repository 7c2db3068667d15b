"""Export the results for other documents: report.md, and a table in LaTeX."""

from collections.abc import Mapping
from pathlib import Path

from eegdecode.evaluation.results import MetricResult, Result
from hpc import media
from hpc.runs import products


def write(folder: Path, result: Result) -> None:
    for name, text in (("report.md", markdown(result)), ("table.tex", latex(result))):
        products.write_text(folder / name, text)


def markdown(result: Result) -> str:
    main, unit = result.figures[result.headline], "trial" if result.kind == "sequence" else "window"
    lines = [
        f"# {media.markdown(result.data_verdict.capitalize())}",
        "",
        *_answers(result),
        f"{media.markdown(result.headline)} {_say(main.value)} (chance level {_say(main.chance)}, p = {main.p:.3f}): "
        f"{media.markdown(result.what)}. {_permuted(result)}".rstrip(),
        "",
        "| metric | network | chance level | 95th percentile of the null | "
        + " | ".join(map(media.markdown, result.baselines))
        + " |",
        "| --- " * (4 + len(result.baselines)) + "|",
    ]
    for name, figure in result.figures.items():
        baselines = " | ".join(_of(figures, name) for figures in result.baselines.values())
        cells = [media.markdown(name), _with_interval(figure), _say(figure.chance), _bound(figure), baselines]
        lines.append(f"| {' | '.join(cells)} |")
    each = media.markdown(result.of_subjects or result.headline)
    tested = "" if result.of_subjects else "| 95th percentile of the null | p "
    lines += ["", f"| subject | {unit}s | {each} {tested}| " + " | ".join(map(media.markdown, result.baselines)) + " |"]
    lines.append("| --- " * (3 + tested.count("|") + len(result.baselines)) + "|")
    for row in result.subjects:
        baselines = " | ".join(_say(value) for value in row.baselines.values())
        own = f"| {_say(row.bound)} | {row.p_holm:.3f} " if tested else ""
        lines.append(f"| {media.markdown(row.subject)} | {row.n_windows} | {_say(row.value)} {own}| {baselines} |")
    return "\n".join(lines) + "\n"


def _answers(result: Result) -> list[str]:
    """What the best decoder and the network do, and whether the network adds to the linear ones."""
    chosen, best, own = "validation" if result.is_chosen else "test", result.decoders[result.best], result.difference
    lines = [
        f"Data: {result.data_verdict}, by {result.best} (best on the {chosen} set), {_say(best.value)}",
        f"Network: {result.verdict}",
    ]
    if own is not None:
        interval = "" if own.p is None else f" [{_say(own.low or 0.0)}, {_say(own.high or 0.0)}], p = {own.p:.3f}"
        against = f"Network minus {result.best_linear}: {result.difference_verdict}"
        lines.append(f"{against}, {_say(own.value)}{interval}, over {own.units}")
    return [*(f"* {media.markdown(line)}" for line in lines), ""]


def _permuted(result: Result) -> str:
    """What the null permutes, and what it cannot tell."""
    if not result.permuted:
        return ""
    few = f", which allow no p below {result.smallest_p:.2g}" if not result.is_decidable else ""
    along = f" The target goes along with {result.confound}." if result.confound else ""
    return media.markdown(f"The null permutes {result.permuted}{few}.{along}")


def latex(result: Result) -> str:
    columns = "l" + "r" * (3 + len(result.baselines))
    head = " & ".join(
        ["Metric", "Network", "Chance level", "95th percentile of the null", *map(media.latex, result.baselines)]
    )
    rows = []
    for name, figure in result.figures.items():
        baselines = [_of(figures, name) for figures in result.baselines.values()]
        rows.append(
            " & ".join([media.latex(name), _with_interval(figure), _say(figure.chance), _bound(figure), *baselines])
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


def _say(value: float) -> str:
    return f"{value:.3f}"
