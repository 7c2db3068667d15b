"""A name is shown as it is, and neither marks up nor controls anything, in each medium."""

import csv
import io
import logging
import shlex
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from hpc import media, worker
from hpc.runs import records
from hpc.runs.rundir import RunDir, append_line, read_json, read_lines, write_json
from hpc.submit import watch
from tests.conftest import Launch

HOSTILE = "<img src=x onerror=alert(1)>|`$\\x{}&%#_\t\n\x1b[31m\"'\udcff\u202e[a](http://b) *c* ~~d~~"


@pytest.mark.parametrize("write", [media.one_line, media.markdown, media.latex, media.file_name])
def test_nothing_controls_a_terminal_or_begins_a_line_or_cannot_be_encoded(write: object) -> None:
    text = write(HOSTILE)  # type: ignore[operator]
    assert text.isprintable() and text.encode()


def test_neither_a_log_nor_a_result_controls_the_terminal(tmp_path: Path) -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 1, "bad channels: %s\nand more", ("Cz\x1b[2J",), None)
    assert worker.Printable("rank 0 %(message)s").format(record) == "rank 0 bad channels: Cz?[2J\nand more"
    run = RunDir(tmp_path)
    write_json(run.result, {"metrics": {"best": HOSTILE, HOSTILE: 0.5}})
    assert all(line.isprintable() for line in watch.result(run).splitlines()) and "0.500" in watch.result(run)


def test_no_file_of_a_stranger_controls_the_terminal(launch: Launch) -> None:
    """A config, a profile, a study, a run folder; by their names and by what is in them."""
    red = "\x1b[31mred\x07"
    configs = launch.folder / "configs"
    (configs / "site").mkdir(parents=True)
    (configs / "recipes").mkdir()
    (launch.folder / f"{red}.yaml").write_text("count: {n: 1}\n")
    (configs / "recipes/theirs.yaml").write_text(f"# A recipe {red}\ncount: {{n: 1}}\n")
    (configs / "site/theirs.yaml").write_text('kind: slurm\ndescription: "\\e[31mred"\n')
    (launch.folder / "study").mkdir()
    (launch.folder / "study/total.txt").write_text("3")
    launch("tally", "of=./study")
    (launch.folder / f"study/{red}.edf").write_text("later")
    (run,) = map(RunDir, launch.runs())
    lines: list[tuple[list[str], int]] = [
        (["count", "red.yaml"], 2), (["recipes"], 0), (["sites"], 0), (["tally", "of=./study"], 0),
        (["count", f"{red}.yaml", "--dry-run"], 0), (["status"], 0), (["clean", "--dry-run"], 0), (["verify"], 0),
    ]  # fmt: skip
    shown = {}
    for words, code in lines:
        done = launch(*words, code=code)
        shown[words[0]] = done.stdout + done.stderr
        assert not {"\x1b", "\x07"} & set(shown[words[0]]), words
    assert "?[31mred" in shown["recipes"] and "?[31mred" in shown["sites"] and "?[31mred?.edf" in shown["tally"]
    plan = read_json(run.plan)
    assert plan is not None
    write_json(run.plan, plan | {"label": red, "settings": red, "sources": [red]})
    run.result.unlink()
    supervisor = records.supervisor(run)
    write_json(run.supervisor, supervisor | {"state": "stopped", "code": 75, "text": red, "label": red})
    for words in (["resume", run.name, "--dry-run"], ["resume", run.name], ["verify"]):
        done = launch(*words)
        assert not {"\x1b", "\x07"} & set(done.stdout + done.stderr), words


def test_a_name_that_is_no_utf8_is_read_back_from_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {HOSTILE: "ü"})
    append_line(tmp_path / "a.jsonl", {HOSTILE: "ü"})
    assert read_json(tmp_path / "a.json") == {HOSTILE: "ü"} == read_lines(tmp_path / "a.jsonl")[0]
    assert "ü" in (tmp_path / "a.json").read_text(), "what is UTF-8 stays legible"


def test_letters_of_any_language_stay() -> None:
    names = "Jürgen 北京 Ωμέγα −0.5"
    assert media.one_line(names) == media.lines(names) == media.markdown(names) == media.latex(names) == names
    assert media.file_name("Jürgen 1/b") == "Jürgen-1-b"
    assert media.lines("a\nb\x1b[2Jc\td") == "a\nb?[2Jc d"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("balanced_accuracy", "balanced_accuracy"),
        ("_a_ __b__", r"\_a\_ \_\_b\_\_"),
        ("a|b", r"a\|b"),
        ("see https://a.b, www.c.d, me@e.f", r"see https\://a.b, www\.c.d, me\@e.f"),
        ("1. first", r"1\. first"),
        ("- item", r"\- item"),
        ("# head &lt; $x$", r"\# head \&lt; \$x\$"),
    ],
)
def test_markdown_is_what_is_read(text: str, written: str) -> None:
    assert media.markdown(text) == written


@pytest.mark.parametrize(
    "text", [HOSTILE, "**b** _i_ `c` [l](u) ![i](u) <b> &amp; ~~s~~ \\", "1. x", "# h", "> q", "    code", "---"]
)
def test_markdown_shows_it_as_it_is(text: str) -> None:
    """By the parser that rich brings."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    start, inline, end = parser.parse(media.markdown(text))
    assert (start.type, end.type) == ("paragraph_open", "paragraph_close")
    assert {each.type for each in inline.children or []} <= {"text", "text_special"}
    assert "".join(each.content for each in inline.children or []) == media.one_line(text).strip()


def test_latex_has_no_command_but_ours() -> None:
    text = media.latex(HOSTILE)
    for known in [*media.OF_LATEX.values(), "\\\\"]:
        text = text.replace(known, "")
    assert not set(text) & set(r"\{}&%$#_~^<>|[]*")
    assert media.latex("[x]") == "{[}x{]}", "after \\\\, a bracket would be the height of the row"


def test_a_command_is_one_command_when_it_is_pasted() -> None:
    words = ["audit", "data=[a-1,./b]", "target=$(touch x); 'y'", "split.by=run"]
    text = media.shell(words)
    assert text.startswith("audit data=[a-1,./b] 'target=$(") and shlex.split(text) == words


def test_a_table_keeps_its_columns_and_numbers_but_computes_nothing() -> None:
    rows = [["name", "value"], [HOSTILE, "-0.5"], ['"open', "1e-3"], ["=1+1", "@sum"], ["-x", "- 5"], ["+", "-inf"]]
    text = media.tsv(rows)
    assert {line.count("\t") for line in text.splitlines()} == {1} and len(text.splitlines()) == 6
    read = list(csv.reader(io.StringIO(text), delimiter="\t"))
    assert [row[1] for row in read] == ["value", "-0.5", "1e-3", "'@sum", "'- 5", "-inf"]
    assert [row[0] for row in read[2:]] == ['"open', "'=1+1", "'-x", "'+"]
    assert read[1][0] == media.one_line(HOSTILE)
    assert media.tsv([["sub-01", "a.wav"]]) == "sub-01\ta.wav\n"
