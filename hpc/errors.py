"""ConfigError, for users' mistakes: its message says what would be right; Unreachable, for a network that is not there.
Cheap to import, for --help and status."""

from hpc.codes import REFUSED, USAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ConfigError(ValueError):
    """The user gave an invalid value; the message says what would be valid."""

    at = ""
    """The path of the setting, `train.model.width`, if there is one."""
    code = USAGE
    """With which the command line ends."""


class RefusedBySlurm(ConfigError):
    """Slurm would not take the job, whatever its nodes do."""

    code = REFUSED


class Unreachable(Exception):
    """Another machine does not answer, or the connection to it broke; later it may work. The message is a sentence."""


MOST = 12


def first_of(names: "Sequence[str]", most: int = 6) -> str:
    """Format `a, b, c and 4 more`, a list that fits into a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def did_you_mean(word: str, choices: "Iterable[str]") -> str:
    """Suggest ` Did you mean 'layers'? ` if a choice is near, and list the choices, or the nearest if there are
    many."""
    import difflib

    names = list(choices)
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    shown = names if len(names) <= MOST else difflib.get_close_matches(word, names, n=MOST, cutoff=0.0)
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{hint} There is: {', '.join(shown)}{more}." if names else " There is none."


_noticed: set[str] = set()


def notice_of_new_word(old: str, new: str) -> None:
    """Print on stderr, once, that something was renamed. The old word works until the next version."""
    import sys

    text = f"note: {old} is called {new} now; the old word works until the next version"
    if text not in _noticed:
        _noticed.add(text)
        print(text, file=sys.stderr)
