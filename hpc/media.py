"""Text from outside, in the medium it goes to: a name is shown as it is, and neither marks up nor controls anything.

HTML is not among them: templates escape whatever enters them (eegdecode/page.py). Cheap to import, for status.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def one_line(text: str) -> str:
    """For a terminal or a cell: what would control it is a question mark, any white space a space."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def cut(text: str, width: int) -> str:
    """For a column: what is longer loses its middle, as names differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: max(0, width - 1 - tail)]}…{text[len(text) - tail :]}"


def lines(text: str) -> str:
    """For a terminal, a log or a page: the same of each line."""
    return "\n".join(map(one_line, text.split("\n")))


def print_error(text: object) -> None:
    """Print an error on stderr. What it quotes, as the name of a file, does not control the terminal."""
    import sys

    print(f"error: {lines(str(text))}", file=sys.stderr)


def many(n: int, what: str) -> str:
    """Return `1 rank`, or `2 ranks`."""
    return f"{n} {what}{'' if n == 1 else 's'}"


FEW = 8
"""More numbers are not listed one by one."""


def one_of(numbers: "Sequence[int]", what: str) -> str:
    """Return `1, 2 or 4 nodes`, or `1 to 64 nodes` for many."""
    if len(numbers) < 2:
        return many(numbers[0], what)
    if len(numbers) > FEW:
        return f"{numbers[0]} to {numbers[-1]} {what}s"
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]} {what}s"


def markdown(text: str) -> str:
    """For a sentence of Markdown or a cell of its tables, as CommonMark and GitHub read them."""
    import re

    text = re.sub(r"[\\`*\[\]<>|&~#$@]|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", one_line(text).strip())
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", text)  # at the start of a line: a list, a heading


OF_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # These mean something after \\, where a row of a table starts
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip


def latex(text: str) -> str:
    """For a sentence of LaTeX or a cell of its tables."""
    return "".join(OF_LATEX.get(letter, letter) for letter in one_line(text))


def tsv(rows: "Iterable[Sequence[str]]") -> str:
    """Tab-separated rows, a line each. A text that a spreadsheet would compute is marked as text; numbers are not."""
    return _rows(rows, "\t")


def csv(rows: "Iterable[Sequence[str]]") -> str:
    """The same, comma-separated."""
    return _rows(rows, ",")


def _rows(rows: "Iterable[Sequence[str]]", delimiter: str) -> str:
    import csv
    import io

    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return file.getvalue()


def _cell(text: str) -> str:
    text = one_line(text)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def shell(words: "Iterable[str]") -> str:
    """For a command that is copied from a page; lists in brackets stay as they are typed."""
    import re
    import shlex

    return " ".join(
        word if re.fullmatch(r"[\w@%+=:,./\[\]-]+", word, re.ASCII) else shlex.quote(word) for word in words
    )


def file_name(text: str) -> str:
    """For a part of a file's name: letters, digits and underscores, any others a hyphen."""
    import re

    return re.sub(r"\W+", "-", text)
