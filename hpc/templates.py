"""Fills templates of pages, ours and those of a package of yours. All HTML is in templates, `*.html.jinja`.

`page.html.jinja` (frame, style and contents) and `parts.html.jinja` (tables and lists) beside this file are shared by
all. Whatever enters a template is text: it is escaped there, and what would control a terminal goes.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hpc import media

if TYPE_CHECKING:
    from jinja2 import Environment

LONG = 4
"""A page with so many sections has a table of contents."""
NUMERIC = ("", *"0123456789−–-+.")
"""How a number begins, or a cell that has none."""


def fill(folder: Path, template: str, **values: object) -> str:
    """The template `{template}.html.jinja` of a folder, filled."""
    return environment(folder).get_template(f"{template}.html.jinja").render(values, contents=Contents())


@cache
def environment(folder: Path) -> "Environment":
    import jinja2  # only where a page is written

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"many": media.many, "say": say, "csv": csv, "file_name": media.file_name}
    made.filters |= {"texts": texts}
    return made


class Contents:
    """The sections of a page, in the order in which it is filled."""

    def __init__(self) -> None:
        self.sections: dict[str, str] = {}
        """By what names them in an address, their titles."""

    def add(self, title: str, name: str = "") -> str:
        """Return what names the section in an address."""
        name = name or media.file_name(title).strip("-").lower() or "section"
        while name in self.sections:
            name += "-"
        self.sections[name] = title
        return name

    @property
    def is_long(self) -> bool:
        return len(self.sections) >= LONG


def csv(rows: Iterable[Sequence[object]]) -> str:
    """A table as a link that downloads it; numbers as programs read them, and nothing where there is none."""
    return "data:text/csv;charset=utf-8," + quote(media.csv([[_cell(cell) for cell in row] for row in rows]))


def _cell(cell: object) -> str:
    text = str(cell)
    if text == "–":
        return ""
    return f"-{text[1:]}" if text.startswith("−") and text[1:2].isdigit() else text


def texts(rows: Sequence[Sequence[object]]) -> list[bool]:
    """Of each column of a table, whether it is of text, which stands at the left, and not of numbers."""
    return [any(str(cell)[:1] not in NUMERIC for cell in column) for column in zip(*rows)]


def _printable(value: Any) -> Any:
    return media.lines(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def say(value: float) -> str:
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")
