"""Fills the templates of our pages. A template stands next to the code that fills it, and all HTML is in templates.

Whatever enters a template is text: it is escaped there, and what would control a terminal goes.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc import media

if TYPE_CHECKING:
    from jinja2 import Environment


def page(template: str, **values: object) -> str:
    """`evaluation/audit` is the template eegdecode/evaluation/audit.html.jinja."""
    return _environment().get_template(f"{template}.html.jinja").render(values)


def block(template: str, name: str, **values: object) -> str:
    """A block of that page alone."""
    page = _environment().get_template(f"{template}.html.jinja")
    return "".join(page.blocks[name](page.new_context(values)))


@cache
def _environment() -> "Environment":
    import jinja2  # only where a page is written

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"many": media.many, "say": say}
    return environment


def _printable(value: Any) -> Any:
    return media.lines(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def say(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
