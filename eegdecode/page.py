"""Fills the templates of our pages. A template stands next to the code that fills it, and all HTML is in templates."""

from pathlib import Path

from hpc import templates
from hpc.templates import say

__all__ = ["page", "say"]


def page(template: str, **values: object) -> str:
    """`evaluation/audit` is the template eegdecode/evaluation/audit.html.jinja."""
    return templates.fill(Path(__file__).parent, template, **values)
