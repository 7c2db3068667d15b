"""A room that is a function too: `hpc.submit(...)` and `hpc.runs()`, of hpc/notebook.py above all rooms."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class CallableRoom(ModuleType):
    """The class of such a package. Python sets `hpc.submit` to the package as soon as a file of it is imported, so the
    package itself must be what is called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function, whose signature `help` and a notebook show."""
        function: Callable[..., Any] = getattr(import_module("hpc.notebook"), self.__name__.rpartition(".")[2])
        return function
