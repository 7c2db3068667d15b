"""The batch layer: turns `python -m hpc.launch STAGE …` into a run that survives. Knows nothing of EEG.

The names below are for writing a stage of your own, and for runs from a notebook (hpc/notebook.py). Each is imported
when it is first used.
"""

from __future__ import annotations

from hpc.codes import DONE, FAILED, HUNG, NEVER, REFUSED, STOPPED, USAGE

TYPE_CHECKING = False  # instead of importing typing, so that --help answers at once
if TYPE_CHECKING:
    from typing import Any

    from hpc.config.choices import Choices
    from hpc.config.secrets import Secret
    from hpc.config.stages import checked_by
    from hpc.errors import ConfigError
    from hpc.notebook import Run, RunFailed, RunRecord, RunTable, dry_run, runs, submit
    from hpc.rank.context import Context, Input, Preempted, World
    from hpc.runs.rundir import RunDir

__version__ = "0.2.0"
__all__ = [
    "DONE", "FAILED", "HUNG", "NEVER", "REFUSED", "STOPPED", "USAGE",
    "Choices", "ConfigError", "Context", "Input", "Preempted", "Run", "RunDir", "RunFailed", "RunRecord", "RunTable",
    "Secret", "World", "checked_by", "dry_run", "runs", "submit",
]  # fmt: skip

_AT = {
    "Choices": "hpc.config.choices",
    "ConfigError": "hpc.errors",
    "Context": "hpc.rank.context",
    "Input": "hpc.rank.context",
    "Preempted": "hpc.rank.context",
    "Run": "hpc.notebook",
    "RunDir": "hpc.runs.rundir",
    "RunFailed": "hpc.notebook",
    "RunRecord": "hpc.notebook",
    "RunTable": "hpc.notebook",
    "Secret": "hpc.config.secrets",
    "World": "hpc.rank.context",
    "checked_by": "hpc.config.stages",
    "dry_run": "hpc.notebook",
}
_ROOMS = ("runs", "submit")
"""Functions that are packages too: see hpc/room.py."""


def __getattr__(name: str) -> Any:
    if name not in _AT and name not in _ROOMS:
        raise AttributeError(f"module 'hpc' has no attribute {name!r}")
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"hpc.{name}")
    return getattr(import_module(_AT[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
