"""The batch layer: turns `python -m hpc.launch STAGE …` into a run that survives. Knows nothing of EEG.

The names below are for writing a stage of your own; each is imported when it is first used.
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
    from hpc.rank.context import Context, Input, Preempted, World
    from hpc.runs.rundir import RunDir

__version__ = "0.2.0"
__all__ = [
    "DONE", "FAILED", "HUNG", "NEVER", "REFUSED", "STOPPED", "USAGE",
    "Choices", "ConfigError", "Context", "Input", "Preempted", "RunDir", "Secret", "World", "checked_by",
]  # fmt: skip

_AT = {
    "Choices": "hpc.config.choices",
    "ConfigError": "hpc.errors",
    "Context": "hpc.rank.context",
    "Input": "hpc.rank.context",
    "Preempted": "hpc.rank.context",
    "RunDir": "hpc.runs.rundir",
    "Secret": "hpc.config.secrets",
    "World": "hpc.rank.context",
    "checked_by": "hpc.config.stages",
}


def __getattr__(name: str) -> Any:
    if name not in _AT:
        raise AttributeError(f"module 'hpc' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_AT[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
