"""Runs all of Slurm's commands: one policy for time-outs, refusals and retries.

subprocess is imported when a command runs, so that `status` answers at once if it need not ask Slurm.
"""

from __future__ import annotations

import os
import time

from hpc.slurm import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

HINT_S, ASK_S, ACT_S = 5.0, 10.0, 30.0
"""Time-outs of a command: for a hint in a plan, for a fact that is needed, for an action. If a controller is down, each
of them waits for a minute."""
RETRY_S = 2.0


class Answer:
    """How a command ended, and what it printed."""

    def __init__(self, code: int | None, out: str, error: str) -> None:
        self.code = code
        """None: it did not run, or did not end in time."""
        self.out = out
        self.error = error
        """The sentences of its stderr in one line, or, if it printed nothing or did not run, the reason."""

    @property
    def ok(self) -> bool:
        return self.code == 0


def run(*command: str, patience_s: float = ASK_S, text: str | None = None) -> Answer:
    """Run a command to its end. `text` goes to its stdin."""
    import subprocess

    try:
        done = subprocess.run(
            command,
            **({"stdin": subprocess.DEVNULL} if text is None else {"input": text}),
            capture_output=True,
            text=True,
            check=False,
            timeout=patience_s,
            env=without_job(os.environ) if command[0] == "sbatch" else without_clusters(os.environ),
        )
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"no answer within {patience_s:.0f} s")
    except OSError as error:
        return Answer(None, "", f"{command[0]}: {error.strerror}")
    failed = "" if done.returncode == 0 else f"exit code {done.returncode}"
    return Answer(done.returncode, done.stdout, words.essence(done.stderr) or failed)


def start(*command: str) -> subprocess.Popen[str]:
    """Start a command and do not wait for it; the caller reads its stdout."""
    import subprocess

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=without_clusters(os.environ),
    )


def insist(*command: str, until: float, text: str | None = None) -> Answer:
    """Run a command that must be done; retry it while the controller is busy or away, until the time `until`
    (monotonic). If Slurm refuses, it is not retried."""
    while True:
        answer = run(*command, patience_s=ACT_S, text=text)
        if answer.ok or is_refusal(answer.error) or time.monotonic() > until:
            return answer
        time.sleep(RETRY_S)


def without_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Remove the variables of a surrounding job: sbatch prefers SBATCH_* to the script's own lines, and a SLURM_* that
    gets into the new job misleads its srun (a leaked SLURM_CPU_BIND made jobs three times slower)."""
    return {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_"))
    }


def without_clusters(environ: Mapping[str, str]) -> dict[str, str]:
    """Remove the variable that names clusters for all commands: a run remembers its own, which may be another."""
    return {name: value for name, value in environ.items() if name != "SLURM_CLUSTERS"}


def of_cluster(name: str) -> list[str]:
    """Return the option of Slurm's commands for a cluster; none for that of this machine."""
    return [f"--clusters={name}"] if name else []


REFUSALS = (
    "disabled", "permission denied", "invalid", "batch job", "not permitted", "violates", "not available",
    "unrecognized", "no such file",
)  # fmt: skip
"""Slurm's words for a definite refusal. Any other error is a controller that is busy, restarts, or is unreachable."""
PASSING = ("credential", "authentication", "munge", "protocol")
"""Invalid only for a moment: munge hiccups, or the controller is being upgraded."""


def is_refusal(error: str) -> bool:
    lower = error.lower()
    return any(word in lower for word in REFUSALS) and not any(word in lower for word in PASSING)
