"""The disks of a site, as its profile names them: with variables that are set on its nodes."""

import re
from collections.abc import Mapping
from pathlib import Path


def disk_path(text: str, environ: Mapping[str, str], account: str) -> Path | None:
    """Fill in the $VARIABLES and {account} of a path of Storage; None if one is not known here."""
    path = re.sub(r"\$(\w+)", lambda name: environ.get(name[1], "$"), text.replace("{account}", account or "$"))
    return Path(path) if path.startswith("/") and "$" not in path else None
