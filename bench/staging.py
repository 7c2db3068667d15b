"""How fast a folder comes to the node's memory and is verified: ours, cp and diff, and cp alone as the limit."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.compare import Goal, ratio, rounds, show
from hpc.rank.context import Context, World
from hpc.rank.local_copy import Copy, Listing, lock_file
from hpc.runs.rundir import RunDir

OURS, CHECKED, BARE = "hpc.rank.local_copy, read back", "cp -r, then diff -r", "cp -r"


def run(quick: bool) -> bool:
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory(dir="/dev/shm") as node:
        for number in range(8 if quick else 24):
            (Path(source) / f"{number:02d}.h5").write_bytes(os.urandom(32 << 20))
        seconds = rounds(
            {
                OURS: lambda: _ours(Path(source), Path(node)),
                CHECKED: lambda: _shell(f"cp -r {source} {node}/c && diff -r {source} {node}/c && rm -r {node}/c"),
                BARE: lambda: _shell(f"cp -r {source} {node}/c && rm -r {node}/c"),
                "shutil.copytree": _copytree(source, f"{node}/c"),
            },
            n=3 if quick else 7,
        )
    goals = {"checked_cp_over_ours": Goal(ratio(seconds, CHECKED, OURS), 1, at_least=True)}
    return show("staging", seconds, BARE, goals)


def _ours(source: Path, node: Path) -> None:
    listing = Listing.of(source)
    copy = Copy.below(node, listing.name)
    lock = lock_file(copy.lock, fcntl.LOCK_EX)
    assert lock is not None
    copy.make(listing, Context(World(), RunDir(node / "run")), None, lock)
    copy.remove()
    os.close(lock)


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True)


def _copytree(source: str, target: str) -> Callable[[], None]:
    def copy() -> None:
        shutil.copytree(source, target)
        shutil.rmtree(target)

    return copy
