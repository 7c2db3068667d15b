"""Who may read a run folder: the umask under which everything in it is written, by whichever process."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UMASKS = {"private": 0o077, "group": 0o027}
"""The umask for each word of --share. The third word, umask, leaves the user's own."""
WORDS = (*UMASKS, "umask")
ALWAYS_PRIVATE = ("rendezvous.json", "fork-servers.json")
"""Files with a secret: hpc/rank/rendezvous.py and hpc/supervise/forkservers.py."""


def set_umask(share: str) -> int:
    """Let this process, and all that it starts, write as `share` says; return the umask before."""
    before = os.umask(0o077)  # there is no other way to read it
    os.umask(UMASKS.get(share, before))
    if share in UMASKS and "SLURM_UMASK" in os.environ:  # what srun gives to the tasks that it starts
        os.environ["SLURM_UMASK"] = f"{UMASKS[share]:04o}"
    return before


def apply(folder: Path, share: str) -> None:
    """Give a folder that is there already, and all in it, the access of `share`: it may have been written under
    another word. Whatever else its modes say (setgid, what its owner may) stays."""
    if share not in UMASKS or stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0o077 & ~UMASKS[share]:
        return
    for path in _all_in(folder):
        mode = stat.S_IMODE(path.stat().st_mode)
        of_group = mode >> 3 & 0o070 if share == "group" and path.name not in ALWAYS_PRIVATE else 0
        path.chmod(mode & ~0o077 | of_group & ~UMASKS[share])


def let_through(folder: Path, share: str) -> None:
    """Let the group into a folder of ours that holds what is shared. It is narrowed for nobody: it may hold more."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if share == "group" and mode & 0o050 != 0o050 and folder.stat().st_uid == os.getuid():
        folder.chmod(mode | 0o050)


def group_of(folder: Path) -> str:
    """Return the group that a new folder in this one will belong to."""
    import grp

    there = next(place for place in (folder, *folder.parents) if place.exists()).stat()
    number = there.st_gid if there.st_mode & stat.S_ISGID else os.getegid()
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _all_in(folder: Path) -> Iterator[Path]:
    yield folder
    for path in folder.rglob("*"):
        if not path.is_symlink():
            yield path
