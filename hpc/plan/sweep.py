"""Expands a sweep's words, `lr=1e-3,1e-4` and `seed=0..4`, to every combination of their values, or to some drawn at
random. Only the latter allow `lr=log:1e-4..1e-2` and `dropout=0..0.5`."""

import hashlib
import itertools
import math
import re
from collections.abc import Sequence

from hpc.errors import ConfigError

MOST = 10_000
"""The maximum number of combinations of a sweep; planning more takes minutes, and no queue takes them."""
TRIES = 100
"""Draws for each combination; if there are few combinations, the last of them are seldom drawn."""
SPAN = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")
NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
RANGE = re.compile(rf"(log:)?({NUMBER})\.\.({NUMBER})")
"""A range to draw from; a SPAN is one as well."""


def grid(words: Sequence[str]) -> list[list[str]]:
    """Return every combination; the last word changes fastest."""
    _refuse_twice(words)
    of_words = [spread(word) for word in words]
    n = math.prod(count for count, _ in of_words)
    if n > MOST:
        raise ConfigError(f"these are {n} combinations, and a sweep has {MOST} at most: sweep a part of them at a time")
    return [list(combination) for combination in itertools.product(*(_words(parts) for _, parts in of_words))]


def draws(words: Sequence[str], n: int) -> list[list[str]]:
    """Return n different combinations, each word drawn independently. The result is always the same, and a larger n
    only adds to it."""
    if n > MOST:
        raise ConfigError(f"these are {n} combinations, and a sweep has {MOST} at most: draw fewer")
    _refuse_twice(words)
    if not any(map(is_list, words)):
        raise ConfigError("what is to be drawn? Write key=a,b or key=0..9 or key=0.1..0.5 or key=log:1e-4..1e-2")
    n_combinations = math.prod(n_values(word) for word in words)
    if n_combinations < n:
        raise ConfigError(
            f"there are only {n_combinations} combinations to draw {n} of: without --draws a sweep takes them all"
        )
    combinations: dict[tuple[str, ...], None] = {}
    for number in range(TRIES * n):
        combinations.setdefault(tuple(drawn(word, number) for word in words))
        if len(combinations) == n:
            return [list(combination) for combination in combinations]
    raise ConfigError(f"{TRIES * n} draws gave {len(combinations)} different combinations, and not {n}: draw fewer")


def _refuse_twice(words: Sequence[str]) -> None:
    """Refuse a setting that is given twice, because the last one would win silently."""
    keys = [word.partition("=")[0] for word in words]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ConfigError(
            f"{twice[0]} is given {keys.count(twice[0])} times: several values are one word, {twice[0]}=a,b"
        )


def n_values(word: str) -> float:
    """Return how many values a word can have."""
    ends = limits(word)
    if ends is None:
        return spread(word)[0]
    low, high, _ = ends
    return high - low + 1 if isinstance(low, int) else math.inf


def drawn(word: str, number: int) -> str:
    """Return the word with one of its values, which the number alone draws."""
    key, equals, _ = word.partition("=")
    bits = hashlib.sha256(f"{key}\n{number}".encode()).digest()
    chance = int.from_bytes(bits[:6], "big") / 2**48  # in [0, 1)
    ends = limits(word)
    if ends is None:
        n, parts = spread(word)
        place = int(chance * n)
        for start, span in parts:
            if place < (1 if span is None else len(span)):
                return start if span is None else f"{start}{span[place]}"
            place -= 1 if span is None else len(span)
        raise AssertionError(word)
    low, high, is_log = ends
    is_whole = isinstance(low, int)
    past = high + 1 if is_whole else high
    value = low * (past / low) ** chance if is_log else low + (past - low) * chance
    drawn = math.floor(value) if is_whole else float(f"{value:.4g}")
    return f"{key}{equals}{min(max(drawn, low), high)}"


def limits(word: str) -> tuple[float, float, bool] | None:
    """Return the lowest and highest of a range, as int if both are whole, and whether it is logarithmic."""
    match = RANGE.fullmatch(word.partition("=")[2])
    if match is None:
        return None
    is_whole = SPAN.fullmatch(f"{match[2]}..{match[3]}") is not None
    low, high = (int(end) if is_whole else float(end) for end in match.groups()[1:])
    if low >= high or (match[1] and low <= 0):
        raise ConfigError(f"{word!r} is no range to draw from: it goes from lower to higher, with log: from above 0")
    return low, high, bool(match[1])


def is_list(word: str) -> bool:
    """Whether the word has several values."""
    values = _split(word.partition("=")[2])
    return len(values) > 1 or RANGE.fullmatch(values[0]) is not None


def spread(word: str) -> tuple[int, list[tuple[str, range | None]]]:
    """Return how many values a word has, and its parts: a word of one value, or the numbers that follow `key=`."""
    key, equals, text = word.partition("=")
    values = _split(text)
    if len(values) > 1 and not all(values):
        raise ConfigError(f"{word!r} has nothing between two commas, or after the last: say `{key}=a,b`")
    n = 0
    parts: list[tuple[str, range | None]] = []
    for value in values:
        span = SPAN.fullmatch(value)
        if RANGE.fullmatch(value) and not span:
            raise ConfigError(
                f"{word!r}: {value} is a range: --draws N draws N values from it, and then it stands alone. Without "
                f"--draws list the values, {key}=a,b"
            )
        first, last = (int(span[1]), int(span[2])) if span else (0, 0)
        if last < first:
            raise ConfigError(f"{word!r}: {value} runs backwards; say {key}={last}..{first}")
        n += last - first + 1
        parts.append((f"{key}{equals}", range(first, last + 1)) if span else (f"{key}{equals}{value}", None))
    return n, parts


def choices(word: str) -> list[str]:
    """Return the word with each of the values that it lists."""
    return _words(spread(word)[1])


def _words(parts: Sequence[tuple[str, range | None]]) -> list[str]:
    return [word for start, span in parts for word in ([start] if span is None else [f"{start}{i}" for i in span])]


def _split(text: str) -> list[str]:
    """Split at the commas; one within brackets or quotes belongs to a value, as in `bands=[1,4]`."""
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
