"""Has the page of all runs written by a process of its own, for a supervisor: if it fails, the run does not."""

import subprocess
import sys
import time
from collections.abc import Mapping

from hpc.overview import page
from hpc.runs.rundir import RunDir
from hpc.slurm import commands

LOOK_S = 60.0
"""How often to look at the page while the run goes on."""
END_S = 60.0
"""How long a job may wait for it at its end; after that it is left to whoever writes the next one."""


class PageWriter:
    """Writes the page that a run is on, if there is one and it is old."""

    def __init__(self, run: RunDir, environ: Mapping[str, str]) -> None:
        self.name, self.runs = run.name, str(run.path.absolute().parent)
        self.environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """While the run goes on: start to write the page, and wait for nothing."""
        if time.monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = time.monotonic()
        if (self._process is None or self._process.poll() is not None) and page.is_due(self.runs, at_end=False):
            self._process = self._start()

    def finish(self) -> None:
        """When the run has ended: write the page, and wait for it."""
        if page.is_due(self.runs, self.name, at_end=True) and (process := self._start()) is not None:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self) -> "subprocess.Popen[bytes] | None":
        command = [sys.executable, "-PB", "-m", "hpc.launch", "page", "--runs", self.runs]
        try:
            return subprocess.Popen(
                command, cwd="/", env=commands.without_job(self.environ), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:  # no memory for another process: the next one writes it
            print(f"the page of all runs: {error}", flush=True)
            return None
