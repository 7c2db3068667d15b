"""A verb about files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CountFiles:
    suffix: str = ""  # only those that end so


def count_files(cfg: CountFiles, files: Sequence[Path], as_json: bool) -> str:
    """Count the files that are named."""
    return f"{sum(path.name.endswith(cfg.suffix) for path in files)} files"
