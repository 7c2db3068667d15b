"""Stop a run, from anywhere that sees its folder and can reach its processes or its job."""

import os
import signal
import subprocess

from hpc import status
from hpc.errors import ConfigError
from hpc.rundir import RunDir, read_json


def stop(run: RunDir, now: bool) -> str:
    """Ask a run to save and end, or end it at once; gives what was done. The same line goes on from what is saved."""
    state = status.look(run)
    if state.ended:
        raise ConfigError(f"{run.name} does not run: it is {state.word}{state.text and f' ({state.text})'}")
    if state.word == "running" and not now:
        run.wish.touch()  # the supervisor looks for it, also where no signal of ours gets through
    if state.on_slurm:
        return _stop_job(state, now)
    supervisor = read_json(run.supervisor)
    if state.word == "queued" or supervisor is None:
        raise ConfigError(f"{run.name} is only just starting: stop it in a second")
    if supervisor["host"] != os.uname().nodename:
        if now:
            raise ConfigError(f"{run.name} runs on {supervisor['host']}: end it there, or leave out --now")
        return f"asked to save and end, on {supervisor['host']}"
    if now:
        # It is in a session of its own, with its keeper and its ranks
        os.killpg(os.getpgid(supervisor["pid"]), signal.SIGKILL)
        return "ended at once; the last checkpoint counts"
    os.kill(supervisor["pid"], signal.SIGTERM)
    return "asked to save and end"


def _stop_job(state: status.State, now: bool) -> str:
    # A signal to the batch step alone is heard by the supervisor, who lets the ranks save and does not requeue
    save = state.word == "running" and not now
    words = ["scancel", *(["--signal=TERM", "--batch"] if save else []), state.job]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = " ".join(done.stderr.split())
    if done.returncode != 0 and save:
        return f"asked to save and end, job {state.job}; by its folder, as scancel does not get through ({said})"
    if done.returncode != 0:
        raise ConfigError(f"scancel did not take job {state.job}: {said}")
    if save:
        return f"asked to save and end, job {state.job}"
    return f"cancelled job {state.job}" + ("; the last checkpoint counts" if now else ", which was waiting")
