"""ConfigError, for mistakes of users: its message says what would be right. Light, as --help and status import it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ConfigError(ValueError):
    """What a user wrote cannot be; the message says what would."""

    at = ""
    """Of a setting: its path, `train.model.width`."""


MOST = 12


def first_of(names: "Sequence[str]", most: int = 6) -> str:
    """`a, b, c and 4 more`: a list that a sentence can hold."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def did_you_mean(word: str, choices: "Iterable[str]") -> str:
    """` Did you mean 'layers'? ` where something is near, and what there is: all of it, or of much the nearest."""
    import difflib

    names = list(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = names if len(names) <= MOST else difflib.get_close_matches(word, names, n=MOST, cutoff=0.0)
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{hint} There is: {', '.join(shown)}{more}." if names else " There is none."


_noticed: set[str] = set()


def notice_of_new_word(old: str, new: str) -> None:
    """Say on stderr, once, that something is called otherwise now. The old word works until the next version."""
    import sys

    text = f"note: {old} is called {new} now; the old word works until the next version"
    if text not in _noticed:
        _noticed.add(text)
        print(text, file=sys.stderr)
