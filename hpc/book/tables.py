"""The book as a table of the terminal, CSV, LaTeX and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc import media
from hpc.book.budget import number
from hpc.book.entries import Book, Sum
from hpc.book.spans import KINDS
from hpc.media import many

HEAD = ("HOURS", "CPU-H", "GPU-H", "USEFUL", "REDONE", "LOST", "IDLE", "QUEUED", "KWH")
"""After the name, and the number of runs of a row that may have several: a line fits into 80 columns."""
NOT_MEASURED = "-"
LATEX = "% made by `hpc book`; \\usepackage{booktabs}"
"""The first line of a table in LaTeX."""


def text(book: Book, by: str) -> str:
    """Return the table for a terminal, with the total, and how it was counted."""
    if not book.entries:
        return "\n".join(["nothing was spent yet", *book.notes])
    rows = book.sums(by)
    total = book.total()
    has_several = by not in ("run", "job")
    shown = [*rows, total] if len(rows) > 1 else rows
    lines = [(by.upper(), *(["RUNS"] if has_several else []), *HEAD)]
    lines += [(row.name, *([str(len(row.runs))] if has_several else []), *_cells(row)) for row in shown]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths)) for line in lines)
    ]
    return media.lines("\n".join([*table, "", *sentences(book, total)]))


def _cells(row: Sum) -> tuple[str, ...]:
    """Return the cells of a row after its name."""
    return (
        *(_hours(sum(hours.values())) for hours in (row.hours, row.cpu_hours, row.gpu_hours)),
        *(_percent(row.share(kind)) for kind in KINDS),
        _hours(row.queued_hours),
        NOT_MEASURED if row.energy_kwh is None else _hours(row.energy_kwh),
    )


def _hours(hours: float) -> str:
    return "<0.01" if 0 < hours < 0.01 else number(hours)


def _percent(share: float) -> str:
    return "0 %" if not share else "<1 %" if share < 0.01 else f"{100 * share:.0f} %"


def sentences(book: Book, total: Sum) -> list[str]:
    """Say what a grant is charged, by whose word, and whether the energy is that of all."""
    sources = ", ".join(f"{many(n, 'job')} by {_WHOSE[source]}" for source, n in book.sources.items())
    gpu_hours = number(sum(total.gpu_hours.values()))
    whole = sum(total.hours.values())
    measured = total.measured_hours / whole if whole else 0.0
    return [
        f"charged as PLGrid counts: {gpu_hours} GPU-hours, and {number(total.charged_cpu_hours)} CPU-hours of jobs "
        "without GPUs",
        *(
            [f"jobs with GPUs had {number(beside)} CPU-hours beside, which some sites charge too, as WCSS does"]
            if (beside := total.beside_gpus_cpu_hours)
            else []
        ),
        f"counted: {sources}",
        "shares: of GPU-hours where a row has any, else of CPU-hours",
        *(["energy: not measured, neither by Slurm nor by the machine"] if total.energy_kwh is None else []),
        *([f"energy: of {_percent(measured)} of the hours"] if 0 < measured < 0.995 else []),
        *book.notes,
    ]


_WHOSE = {"Slurm": "sacct", "supervisor": "the word of their supervisors", "attempts": "their attempts alone"}


def as_records(rows: Sequence[Sum], by: str) -> list[dict[str, Any]]:
    """Return each row with all of its numbers, in hours, for JSON and CSV."""
    return [
        {
            by: row.name,
            "runs": len(row.runs),
            "jobs": len(row.jobs),
            "hours": sum(row.hours.values()),
            "cpu_hours": sum(row.cpu_hours.values()),
            "gpu_hours": sum(row.gpu_hours.values()),
            "charged_cpu_hours": row.charged_cpu_hours,
            **{f"{kind}_hours": row.hours[kind] for kind in KINDS},
            **{f"{kind}_cpu_hours": row.cpu_hours[kind] for kind in KINDS},
            **{f"{kind}_gpu_hours": row.gpu_hours[kind] for kind in KINDS},
            "queued_hours": row.queued_hours,
            "energy_kwh": row.energy_kwh,
            "energy_measured_hours": row.measured_hours,
        }
        for row in rows
    ]


def csv(rows: Sequence[Sum], by: str) -> str:
    """Return the rows as CSV; hours with six digits, an energy that nothing has measured as an empty cell."""
    lines = as_records(rows, by) or as_records([Sum("")], by)[:0]
    names = list(as_records([Sum("")], by)[0])
    return media.csv([names, *([_plain(line[name]) for name in names] for line in lines)])


def is_csv(content: bytes) -> bool:
    """Whether a file is empty, or one of this table."""
    return not content or b",runs,jobs,hours,cpu_hours," in content.partition(b"\n")[0]


def is_latex(content: bytes) -> bool:
    """Whether a file is empty, or one of this table."""
    return not content or content.startswith(LATEX.encode())


def _plain(value: object) -> str:
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else str(value)


def latex(rows: Sequence[Sum], total: Sum, by: str) -> str:
    """Return a table for a report, for the package booktabs."""
    heads = (
        by.capitalize(),
        "Hours",
        "CPU-hours",
        "GPU-hours",
        "Useful",
        "Redone",
        "Lost",
        "Idle",
        "Queued (h)",
        "kWh",
    )
    lines = [
        LATEX,
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        f"{' & '.join(heads)} \\\\",
        r"\midrule",
        *(_latex_row(row) for row in rows),
        *([r"\midrule", _latex_row(total)] if len(rows) > 1 else []),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(row: Sum) -> str:
    return f"{' & '.join(map(media.latex, (row.name, *_cells(row))))} \\\\"
