"""One line from laptop to supercomputer: `python -m hpc.launch VERB [FILE.yaml …] [key=value …] [options]`.

Each verb imports what it needs when it runs, so that --help, status and completion answer at once.
"""

from __future__ import annotations

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  before anything that an older Python cannot read
    sys.exit(f"error: hpc needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}")

from hpc.cli import options, table
from hpc.codes import DONE, FAILED, USAGE
from hpc.errors import ConfigError, Unreachable
from hpc.media import print_error
from hpc.runs.rundir import Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HELP = "hpc.cli.help:show_help"


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    try:
        args = options.read(argv)
        if args.help and not args.verb:
            print(options.help_text(), end="")
            return DONE
        if args.version:
            print(version())
            return DONE
        return _function(HELP if args.help else table.where(args.verb))(args, environ)
    except ConfigError as error:
        print_error(error)
        return error.code
    except BrokenPipeError:
        raise
    except Unreachable as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except ModuleNotFoundError as error:
        if (error.name or "hpc").partition(".")[0] in ("hpc", "eegdecode"):
            raise  # our own mistake
        print_error(_not_installed(str(error.name)))
        return USAGE
    except Damaged as error:
        print_error(error)
        return FAILED
    except OSError as error:  # a disk that is full or read-only, a folder that is a file
        if _is_gone():
            print_error("the folder that you are in was removed: cd to one that is there")
            return FAILED
        print_error(f"{error.filename or 'the disk'}: {error.strerror or error}")
        return FAILED


def _function(where: str) -> Callable[[options.Arguments, Mapping[str, str]], int]:
    from importlib import import_module

    module, _, name = where.partition(":")
    function: Callable[[options.Arguments, Mapping[str, str]], int] = getattr(import_module(module), name)
    return function


def _is_gone() -> bool:
    """Whether the working directory was removed; a path like `.` still exists then."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def version() -> str:
    import platform

    from hpc import __version__

    return f"hpc {__version__} in {os.path.dirname(__file__)}, Python {platform.python_version()}"


def _not_installed(module: str) -> str:
    """Return what to do if a package that we need is missing: most often the environment is not active."""
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.exists(f"{checkout}/env/setup.sh"):
        return f"{module} is not installed for {sys.executable}: pip install hpc-eegdecode"
    has_environment = os.path.exists(f"{checkout}/.venv/bin/python")
    how = f". {os.path.relpath(checkout)}/env/activate.sh"
    first = "" if has_environment else f"make one with `{os.path.relpath(checkout)}/env/setup.sh cpu`, then "
    return f"{module} is not installed for {sys.executable}: {first}activate the environment with `{how}`"


def run() -> None:
    """The command `hpc`, and `python -m hpc.launch`."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal shows ? for other characters
    try:
        code = main(sys.argv[1:], os.environ)
        if sys.stdout is not None:  # it is None if somebody has closed it
            sys.stdout.flush()
    except BrokenPipeError:  # `status | head`: nobody reads the rest. A run continues in its own session
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()
