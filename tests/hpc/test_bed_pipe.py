"""The bed's own commands in a pipe; that it is a real Slurm is for tests/slurm/test_bed.py."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_status_into_a_pipe_that_nobody_reads_ends_without_a_trace(tmp_path: Path) -> None:
    for command in ("sinfo", "squeue"):
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    (tmp_path / "pids.json").write_text('{"daemons": [{"name": "n1", "pid": 1, "started": null, "port": 1}]}')
    read, write = os.pipe()
    os.close(read)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [sys.executable, str(ROOT / "env/bed"), "status", str(tmp_path)]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, env=environ, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
