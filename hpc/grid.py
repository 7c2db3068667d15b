"""A sweep's words, `lr=1e-3,1e-4` and `seed=0..4`, become every combination of their values."""

import itertools
import math
import re
from collections.abc import Sequence

from hpc.errors import ConfigError

MOST = 10_000
"""Combinations of one sweep; planning more takes minutes, and no queue takes them."""
SPAN = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")


def grid(words: Sequence[str]) -> list[list[str]]:
    """Every combination; the last word changes fastest."""
    spread = [_spread(word) for word in words]
    n = math.prod(count for count, _ in spread)
    if n > MOST:
        raise ConfigError(f"these are {n} combinations, and a sweep has {MOST} at most: sweep a part of them at a time")
    return [list(combination) for combination in itertools.product(*(_words(parts) for _, parts in spread))]


def is_list(word: str) -> bool:
    """Whether it is a word for a sweep."""
    values = _split(word.partition("=")[2])
    return len(values) > 1 or SPAN.fullmatch(values[0]) is not None


def _spread(word: str) -> tuple[int, list[tuple[str, range | None]]]:
    """How many values a word has; and its parts: as a word of one value, or the numbers that follow `key=`."""
    key, equals, text = word.partition("=")
    values = _split(text)
    if len(values) > 1 and not all(values):
        raise ConfigError(f"{word!r} has nothing between two commas, or after the last: say `{key}=a,b`")
    n = 0
    parts: list[tuple[str, range | None]] = []
    for value in values:
        span = SPAN.fullmatch(value)
        first, last = (int(span[1]), int(span[2])) if span else (0, 0)
        if last < first:
            raise ConfigError(f"{word!r}: {value} runs backwards; say {key}={last}..{first}")
        n += last - first + 1
        parts.append((f"{key}{equals}", range(first, last + 1)) if span else (f"{key}{equals}{value}", None))
    return n, parts


def _words(parts: Sequence[tuple[str, range | None]]) -> list[str]:
    return [word for start, span in parts for word in ([start] if span is None else [f"{start}{i}" for i in span])]


def _split(text: str) -> list[str]:
    """At the commas; but one within brackets or quotes belongs to a value, as in `bands=[1,4]`."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and not values[-1]:
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += letter
    return values
