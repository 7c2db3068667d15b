"""What all pages share: contents, tables as CSV, numbers as text."""

import csv
import io
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

from hpc import templates
from hpc.templates import Contents


def test_sections_have_names_of_their_own_and_many_are_listed(tmp_path: Path) -> None:
    contents = Contents()
    assert [contents.add(title) for title in ("In pairs", "In pairs", "«»")] == ["in-pairs", "in-pairs-", "section"]
    assert not contents.is_long
    sections = "".join(f'{{{{ parts.h2("Part {n}") }}}}' for n in range(4))
    for name, body in (("long", sections), ("short", sections[: len(sections) // 4])):
        text = '{% extends "page.html.jinja" %}{% import "parts.html.jinja" as parts with context %}'
        text += "{% block title %}x{% endblock %}{% block main %}" + body + "{% endblock %}"
        (tmp_path / f"{name}.html.jinja").write_text(text)
    page = templates.fill(tmp_path, "long")
    assert page.index('<a href="#part-3">Part 3</a>') < page.index("<main>") < page.index('<h2 id="part-3">')
    assert "<nav" not in templates.fill(tmp_path, "short")


def test_a_table_is_read_by_programs_as_it_is_by_people() -> None:
    table = [["subject", "r", "what"], ["sub-1", "−0.12", "− is less"], ["=1+1", "–", 'a, "b"']]
    head, *rows = csv.reader(io.StringIO(unquote(templates.csv(table).partition(",")[2])))
    assert head == table[0]
    assert rows == [["sub-1", "-0.12", "− is less"], ["'=1+1", "", 'a, "b"']], "a text is not computed"
    assert templates.texts(table[1:]) == [True, False, True] and templates.texts([]) == []


@pytest.mark.parametrize(("value", "said"), [(0.126, "0.13"), (-0.126, "−0.13"), (-0.001, "0.00")])
def test_zero_has_no_sign(value: float, said: str) -> None:
    assert templates.say(value) == said


@pytest.mark.parametrize(("p", "said"), [(0.0, "<"), (0.0009, "<"), (0.001, "="), (0.5, "=")])
def test_no_p_is_zero(p: float, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.html.jinja").write_text('{% import "parts.html.jinja" as parts %}({{ parts.p(p) }})')
    assert unescape(templates.fill(tmp_path, "p", p=p)) == f"(p\u00a0{said}\u00a0{max(p, 0.001):.3f})"
