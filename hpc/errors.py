"""What a user said cannot be: an error whose message says what would. Light: --help and status import it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class ConfigError(ValueError):
    """What a user wrote cannot be; the message says what would."""


def did_you_mean(word: str, choices: "Iterable[str]") -> str:
    """` Did you mean 'layers'? ` where something is near, and always the list of what there is."""
    import difflib

    names = list(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{hint} There is: {', '.join(names) or 'nothing to set'}."
