"""The text of a config in which each line stands below its reason."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from hpc import media

WIDTH = 100


@dataclass(frozen=True)
class Guess:
    """A value of a config: what it was concluded from, and what it might be instead."""

    value: Any
    why: str = ""
    otherwise: tuple[str, ...] = ()


Section = Mapping[str, "Guess | Sequence[Guess]"]


def text(title: Sequence[str], sections: Mapping[str, Section]) -> str:
    """Return the YAML. A list of guesses is a list with a line each."""
    lines = [f"# {media.one_line(line)}" for line in title]
    for name, section in sections.items():
        lines += ["", f"{name}:"]
        for key, guess in section.items():
            if isinstance(guess, Guess):
                lines += [*_comments(guess, 2), f"  {key}: {flow(guess.value)}"]
                continue
            lines.append(f"  {key}:")
            for each in guess:
                lines += [*_comments(each, 4), f"    - {flow(each.value)}"]
    return "\n".join(lines) + "\n"


def values(sections: Mapping[str, Section]) -> dict[str, dict[str, Any]]:
    """The same without reasons."""
    return {
        name: {
            key: guess.value if isinstance(guess, Guess) else [each.value for each in guess]
            for key, guess in section.items()
        }
        for name, section in sections.items()
    }


def _comments(guess: Guess, indent: int) -> list[str]:
    lines = wrap(media.one_line(guess.why), WIDTH - indent) if guess.why else []
    for other in guess.otherwise:
        lines += wrap(f"else: {media.one_line(other)}", WIDTH - indent, subsequent_indent="      ")
    return [f"{' ' * indent}# {line}" for line in lines]


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(str(key), True)}: {flow(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else _text(str(value))


WORDS_OF_YAML = ("null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", ".", "..")


def _text(value: str, is_key: bool = False) -> str:
    """Only a plain word stands without quotes; in a value, ${ would refer to another setting."""
    if re.fullmatch(r"[A-Za-z_./][\w./-]*", value) and value.lower() not in WORDS_OF_YAML:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return quoted if is_key else quoted.replace("${", "\\\\${")
