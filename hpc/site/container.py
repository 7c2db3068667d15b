"""The key `container` of a profile: the image that ranks run in, and how. hpc/supervise/in_container.py starts them."""

import os
import re
from dataclasses import dataclass
from typing import Literal

NONE = "none"
"""What `--container` takes where the profile has an image and this run wants none."""


@dataclass(frozen=True)
class Container:
    """The container of ranks. Their own code is the snapshot of the run, which is mounted."""

    image: str = ""
    """The image of all runs; empty: only with --container."""
    runtime: Literal["apptainer", "singularity", "podman", "pyxis"] = "apptainer"
    python: str = "python3"
    """The Python of the image: a name, or its path in there."""
    binds: tuple[str, ...] = ()
    """What is mounted besides the folders of a run: /a, /a:/b or /a:/b:ro, with $VARIABLES of the job."""
    options: tuple[str, ...] = ()
    """Further options of the runtime; with pyxis, of srun."""

    def __post_init__(self) -> None:
        for bind in self.binds:
            if not re.fullmatch(r"[/$][^:,]*(:/[^:,]*(:(ro|rw))?)?", bind):
                raise ValueError(f"a bind is /a, /a:/b or /a:/b:ro, and may hold a $VARIABLE, but got {bind!r}")
        for option in self.options:
            if not option.startswith("-"):
                raise ValueError(f"an option begins with -, and its value follows =, as --env=A=1, but got {option!r}")

    def chosen(self, asked: str | None, cwd: str) -> str:
        """Return the image of a run, a file by its whole path; empty if it has none."""
        image = self.image if asked is None else asked
        if image == NONE:
            return ""
        return os.path.normpath(os.path.join(cwd, os.path.expanduser(image))) if self.is_file(image) else image

    def is_file(self, image: str) -> bool:
        """Whether an image is a file (or a folder), and no name in a registry or in the store of podman."""
        if not image or "://" in image:
            return False
        in_files = self.runtime in ("apptainer", "singularity")
        return in_files or image.startswith(("/", "./", "../", "~")) or image.endswith(".sqsh")
