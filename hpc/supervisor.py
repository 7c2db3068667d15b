"""The entry point of a run's supervisor: `python -m hpc.supervisor RUN`. It starts and watches the ranks.

Under Slurm it is the batch step, the process that Slurm signals; otherwise a separate process. Exit codes: 0
finished, 75 stopped and resumable, 1 failed, 76 hung repeatedly, 93 permanent failure.
"""

import argparse
import os
import sys
from pathlib import Path

from hpc.runs.rundir import RunDir
from hpc.supervise.keeper import keep

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m hpc.supervisor", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--identity", default="", help="the id of the run folder for which it was submitted")
    options = parser.parse_args()
    sys.exit(keep(RunDir(options.run), os.environ, options.identity))
