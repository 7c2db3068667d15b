"""Secrets: addresses, tokens and passwords. A config holds the name of one; its value is read when it is needed.

The value is in the environment of the rank that needs it, or in a file that only its owner can read:
~/.config/hpc/secrets, or the one that HPC_SECRETS names. Each line of it is NAME=value; # begins a comment.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from hpc.errors import ConfigError

FILE = "HPC_SECRETS"
"""The variable that names another file. It is no secret, and goes into the job."""
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
"""In capitals, as variables are written, so that a password or a token is hardly ever taken for a name."""
MOST_BYTES = 65536
LOOKS_LIKE = re.compile(
    r"""(?i:(TOKEN|PASSWORD|PASSWD|SECRET|(API|ACCESS|SECRET)_?KEY)=["']?[^\s"'$`]|://[^\s/@:]*:[^\s/@$]+@)"""
    r"|\b(gh[pousr]_|github_pat_|glpat-|xox[abeprs]-)[\w-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bsk-[\w-]{20,}|\bAKIA[A-Z0-9]{16}"
    r"|hooks\.slack\.com/|/api/webhooks/|/webhookb2/"
    r"|\bBearer [\w.~+/-]{10,}|PRIVATE KEY-----|\beyJ[\w-]{10,}\.[\w-]{10,}"
)
"""A variable with a literal value that by its name is a secret; an address with a password; a token or the address of a
webhook in the form that its maker gives it."""


class Secret:
    """A setting that names a secret: the type of a field. Without a name, there is none.

    The value itself in place of a name is refused where a run is planned. Run folders of earlier versions may hold one:
    it works there, and is never shown.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    @property
    def name(self) -> str:
        """The name; empty if there is no secret, or if the value stands in its place."""
        return "" if self.is_literal else self._text

    @property
    def is_literal(self) -> bool:
        """Whether this is a value where a name should be."""
        return bool(self._text) and NAME.fullmatch(self._text) is None

    def value(self, environ: Mapping[str, str]) -> str:
        """Read the value. Raises ConfigError, which does not show it, if there is none."""
        if self.is_literal:
            return self._text
        value = find(self._text, environ)
        if value is None:
            raise ConfigError(f"there is no secret {self._text}: {how(self._text, environ)}")
        return value

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret({'(not shown)' if self.is_literal else repr(self._text)})"


def looks_like_one(text: str) -> bool:
    """Whether a text holds what looks like a secret, in a place where it would be stored with each run."""
    return LOOKS_LIKE.search(text) is not None


def find(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the value of a secret, or None if there is none. Raises ConfigError if the file is not safe to use."""
    return environ.get(name) or in_file(environ).get(name) or None


def how(name: str, environ: Mapping[str, str]) -> str:
    """Tell how to provide a secret."""
    place = path(environ)
    return f"set {name} in the environment, or write the line {name}=… to {place} (chmod 600 {place})"


def path(environ: Mapping[str, str]) -> Path:
    """Return the file of secrets."""
    named = environ.get(FILE)
    if named and not os.path.isabs(named):
        raise ConfigError(f"{FILE} must be a whole path, as the job runs elsewhere, but got {named!r}")
    return Path(named) if named else Path.home() / ".config/hpc/secrets"


def in_file(environ: Mapping[str, str]) -> dict[str, str]:
    """Read the secrets in the file; empty if there is none."""
    place = path(environ)
    text = _read(place)
    if text is None and environ.get(FILE):
        raise ConfigError(f"{FILE} is {place}, and there is no such file")
    values: dict[str, str] = {}
    for number, line in enumerate((text or "").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or NAME.fullmatch(name) is None:  # the line is not shown: it may be a secret without a name
            raise ConfigError(f"{place}, line {number}, must be NAME=value, with the name in capitals")
        if name in values:
            raise ConfigError(f"{place}, line {number}: {name} is there twice")
        values[name] = value.strip()
    return values


def _read(place: Path) -> str | None:
    """Read a file that belongs to this user, and that nobody else can read. What is checked is what is read."""
    try:
        # Not waiting for a pipe's other end
        file = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{place} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{place} must be a file")
        if status.st_uid != os.geteuid():
            raise ConfigError(
                f"{place} belongs to user {status.st_uid}, and you are {os.geteuid()}: use a file of yours"
            )
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(f"{place} is open to others (mode {mode:04o}): chmod 600 {place}")
        content = os.read(file, MOST_BYTES + 1)
    finally:
        os.close(file)
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{place} has more than {MOST_BYTES} bytes: it must hold lines NAME=value, and no more")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{place} is not text in UTF-8") from None
