"""Runs all of Slurm's commands: one policy for time-outs, refusals and retries.

subprocess is imported when a command runs: `status` answers at once where Slurm need not be asked.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

HINT_S, ASK_S, ACT_S = 5.0, 10.0, 30.0
"""How long a command may take: what a plan can do without, what is to be known, what is to be done. A controller that
is down makes each of them try for a minute."""
RETRY_S = 2.0


class Answer:
    """How a command ended, and what it printed."""

    def __init__(self, code: int | None, out: str, error: str) -> None:
        self.code = code
        """None: it did not run, or did not end in time."""
        self.out = out
        self.error = error
        """What it says on stderr, in one line; of one that failed without a word, or did not run at all, why."""

    @property
    def ok(self) -> bool:
        return self.code == 0


def run(*words: str, patience_s: float = ASK_S, text: str | None = None) -> Answer:
    """Run a command to its end. `text`: for its stdin."""
    import subprocess

    try:
        done = subprocess.run(
            words,
            **({"stdin": subprocess.DEVNULL} if text is None else {"input": text}),
            capture_output=True,
            text=True,
            check=False,
            timeout=patience_s,
            env=without_job(os.environ) if words[0] == "sbatch" else None,
        )
    except subprocess.TimeoutExpired:
        return Answer(None, "", f"no answer within {patience_s:.0f} s")
    except OSError as error:
        return Answer(None, "", f"{words[0]}: {error.strerror}")
    failed = "" if done.returncode == 0 else f"exit code {done.returncode}"
    return Answer(done.returncode, done.stdout, " ".join(done.stderr.split()) or failed)


def start(*words: str) -> subprocess.Popen[str]:
    """Start a command and do not wait for it; its stdout is to be read."""
    import subprocess

    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def insist(*words: str, until: float, text: str | None = None) -> Answer:
    """Run a command that is to be done, again as long as the controller is busy or away, until the time `until`
    (monotonic). What Slurm refuses is not tried again."""
    while True:
        answer = run(*words, patience_s=ACT_S, text=text)
        if answer.ok or is_refusal(answer.error) or time.monotonic() > until:
            return answer
        time.sleep(RETRY_S)


def without_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what a surrounding job has left: sbatch takes SBATCH_* before the script's own lines, and a SLURM_* that
    gets into the new job misleads its srun (a leaked SLURM_CPU_BIND made jobs three times slower)."""
    return {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_"))
    }


REFUSALS = (
    "disabled", "permission denied", "invalid", "batch job", "not permitted", "violates", "not available",
    "unrecognized", "no such file",
)  # fmt: skip
"""What Slurm says when it means it. All else is a controller that is busy, restarts, or cannot be reached."""
PASSING = ("credential", "authentication", "munge", "protocol")
"""Invalid for a moment: a munge that hiccups, or a controller that is just being upgraded."""


def is_refusal(error: str) -> bool:
    lower = error.lower()
    return any(word in lower for word in REFUSALS) and not any(word in lower for word in PASSING)
