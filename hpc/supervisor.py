"""The entry point of a run's supervisor: `python -m hpc.supervisor RUN`. It starts and watches the ranks.

Under Slurm it is the batch step, the process that Slurm signals; otherwise a separate process. Exit codes: 0
finished, 75 stopped and resumable, 1 failed, 76 hung repeatedly, 93 permanent failure.
"""

import os
import sys
from pathlib import Path

from hpc.runs.rundir import RunDir
from hpc.supervise.keeper import keep

if __name__ == "__main__":
    sys.exit(keep(RunDir(Path(sys.argv[1])), os.environ))
