"""How soon a run goes on after the walltime signal, and after a rank was killed: ours, and stock submitit.

On a bed of its own, with Slurm's own hold of requeued jobs (121 s); 2 nodes of 2 ranks each. Timed from the signal, or
the kill, until the first rank has done its first step again. While Slurm holds submitit's job, ours are measured. A
rank is killed several times a run; of each time it is shown what it went to. Then the same signal where epilogs take
0, 8 and 40 s.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.compare import Goal, PeerMissing, judged, processor, show
from hpc.runs import records
from hpc.runs.rundir import RunDir, append_line, read_json, read_lines

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

ROOT = Path(__file__).parent.parent
BED = [sys.executable, str(ROOT / "env/bed")]
COUNT, TRAIN, SUBMITIT = "ours, counting", "ours, training with torch", "submitit, counting"
STEP_S = 0.1
UNDER_WAY = 3
"""Steps after which a run is disturbed."""
KILLS = 5
"""How often a rank is killed in each run."""
PARTS = ("all have ended", "attempt begun", "ranks forked", "rank 0 listens", "first step")
"""What happens after a kill, in this order."""
PATIENCE_S = 240
EPILOGS_S = (0, 8, 40)
AFTER_EPILOG_S = 8
"""How soon behind the epilog it is to go on."""
DATA = """
synthesize: {n_subjects: 2, n_pieces: 5, piece_s: [4, 6], n_channels: 8}
preprocess: {study: synthesize}
"""
STUDY = f"""{DATA}
train:
  data: preprocess
  model: {{hidden: 8}}
  windows: {{length_s: 2, batch: 8}}
  optim: {{steps: 100000, validate_every: 100000, checkpoint_every: 1}}
"""


def run(quick: bool) -> bool:
    if importlib.util.find_spec("submitit") is None:
        raise PeerMissing("submitit is not installed: env/setup.sh cpu")
    signalled: dict[str, list[float]] = {COUNT: [], TRAIN: [], SUBMITIT: []}
    killed: dict[str, list[list[float]]] = {COUNT: [], TRAIN: []}
    with tempfile.TemporaryDirectory(prefix="recovery-") as name, _bed(Path(name)):
        folder = Path(name)
        (folder / "data.yaml").write_text(DATA)
        (folder / "study.yaml").write_text(STUDY)
        say("making a study to train on")
        _launch(folder, "pipeline", "data.yaml", "--on", "bed", "--follow")
        lost = _submitit_loses_a_rank(folder)
        for number in range(1, 2 if quick else 4):
            say(f"round {number}: submitit, then ours while Slurm holds it")
            held, notes, sent = _submitit_signalled(folder)
            for arm, words in {
                COUNT: ["count", f"n={10**6 + number}", f"step_s={STEP_S}"],  # another n is another run
                TRAIN: ["train", "study.yaml", f"seed={number}"],
            }.items():
                after_signal_s, after_kills_s = _ours(folder, words)
                signalled[arm].append(after_signal_s)
                killed[arm] += after_kills_s
            signalled[SUBMITIT].append(_submitit_first_step_again(notes) - sent)
            say(f"{SUBMITIT}: {signalled[SUBMITIT][-1]:.1f} s after the signal")
            _slurm("scancel", "--signal=KILL", held.job_id)
    goals = {"signal_to_first_step_s": Goal(median(signalled[COUNT]), 15)}
    reached = show("walltime signal to first step again", signalled, COUNT, goals, "s")
    reached &= _show_kills(killed)
    print(f"{SUBMITIT}, a rank killed: {lost}; nobody starts it again")
    return reached & _behind_epilogs(1 if quick else 3)


def _behind_epilogs(rounds: int) -> bool:
    """The walltime signal where a site has no epilog, and where it takes long."""
    seconds: dict[str, list[float]] = {}
    for epilog_s in EPILOGS_S:
        options = ["--epilog", str(epilog_s)] if epilog_s else []
        with tempfile.TemporaryDirectory(prefix="recovery-") as name, _bed(Path(name), *options):
            for number in range(1, rounds + 1):
                say(f"round {number}: an epilog of {epilog_s} s")
                run, after_s = _signalled(Path(name), ["count", f"n={10**6 + number}", f"step_s={STEP_S}"])
                _launch(Path(name), "stop", run.name, "--now")
                seconds.setdefault(f"{COUNT}, epilog {epilog_s} s", []).append(after_s)
    goals = {
        f"signal_to_first_step_epilog_{epilog_s}_s": Goal(median(values), epilog_s + AFTER_EPILOG_S)
        for epilog_s, values in zip(EPILOGS_S, seconds.values(), strict=True)
    }
    return show("walltime signal to first step again, by epilog", seconds, next(iter(seconds)), goals, "s")


def _show_kills(killed: dict[str, list[list[float]]]) -> bool:
    """Print what the time after a kill went to; return whether the goals are reached."""
    n, load = len(killed[COUNT]), ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"\nkilled rank to first step again, in the same job: seconds, medians of {n} kills, {os.cpu_count()} cores of "
        f"{processor()}, load {load}"
    )
    print(f"{'':<26}" + "".join(f"{part:>16}" for part in PARTS) + f"{'from':>8}{'to':>8}")
    for arm, rows in killed.items():
        columns = list(zip(*rows, strict=True))
        row = "".join(f"{median(column):>16.2f}" for column in columns)
        print(f"{arm:<26}{row}{min(columns[-1]):>8.2f}{max(columns[-1]):>8.2f}")
    of_arm = {arm: median(row[-1] for row in rows) for arm, rows in killed.items()}
    return judged(
        {
            "kill_to_first_step_s": Goal(of_arm[COUNT], 1.5),
            "kill_to_first_step_with_torch_s": Goal(of_arm[TRAIN], 1.5),
        }
    )


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextmanager
def _bed(folder: Path, *more: str) -> Iterator[None]:
    """A Slurm, and the environment of a user of it who has the example package beside ours."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(("SLURM_", "SBATCH_", "HPC_"))]:
        del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled modules are kept, as a user has it
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests/hpc/example'}"
    os.environ["SLURM_CONF"] = str(folder / "bed/slurm.conf")
    options = ["--dir", str(folder / "bed"), "--nodes", "4", "--cred-expire", "0", "--kill-wait", "30", *more]
    try:
        # Ctrl-C is for us: a bed that is half stopped would leave daemons
        if subprocess.run([*BED, "start", *options], stdout=subprocess.DEVNULL, start_new_session=True).returncode != 0:
            raise PeerMissing("no Slurm can be started here, see above; to install it: env/bed install")
        yield
    finally:
        subprocess.run([*BED, "stop", str(folder / "bed")], start_new_session=True, check=False)
        os.environ.clear()
        os.environ.update(before)


# ----------------------------------------------------------------------------------------------------------- submitit


class Counting:
    """`count` of tests/hpc/example in the manner of submitit's documentation: the object holds what is to be kept."""

    def __init__(self, n: int, notes: Path) -> None:
        self.n, self.notes = n, notes
        self.step, self.total = 0, 0

    def __call__(self) -> int:
        who = {"pid": os.getpid(), "restarts": int(os.environ.get("SLURM_RESTART_COUNT", 0))}
        while self.step < self.n:
            time.sleep(STEP_S)
            self.step += 1
            self.total += self.step
            append_line(self.notes / f"rank-{os.environ['SLURM_PROCID']}.jsonl", who | {"time": time.time()})
        return self.total

    def checkpoint(self) -> "DelayedSubmission":
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _submit_counting(folder: Path, n: int) -> "tuple[Job, Path]":
    """The job, and where its ranks note their steps."""
    from submitit import AutoExecutor

    notes = Path(tempfile.mkdtemp(prefix="submitit-", dir=folder))
    executor = AutoExecutor(folder=notes / "log", cluster="slurm")
    # submitit takes a signal in a job of 10 minutes or less for the end of its walltime; 30 leave no doubt
    executor.update_parameters(nodes=2, tasks_per_node=2, cpus_per_task=1, timeout_min=30, slurm_partition="cpu")
    job = executor.submit(Counting(n, notes))
    _await(f"job {job.job_id} of submitit", lambda: all(len(_notes(notes, rank)) >= UNDER_WAY for rank in range(4)))
    return job, notes


def _notes(notes: Path, rank: int) -> list[Any]:
    return read_lines(notes / f"rank-{rank}.jsonl")


def _submitit_loses_a_rank(folder: Path) -> str:
    """What Slurm says of the job in the end."""
    job, notes = _submit_counting(folder, n=50)
    os.kill(_notes(notes, 3)[-1]["pid"], signal.SIGKILL)
    outputs: dict[str, str] = {}

    def ended() -> bool:
        text = _slurm("scontrol", "show", "job", "--oneliner", job.job_id)
        outputs.update((name, value) for name, sign, value in (word.partition("=") for word in text.split()) if sign)
        return outputs["JobState"] not in ("RUNNING", "COMPLETING")

    _await(f"the end of job {job.job_id}", ended)
    return f"the job ended {outputs['JobState']} (ExitCode {outputs['ExitCode']}, Restarts {outputs['Restarts']})"


def _submitit_signalled(folder: Path) -> "tuple[Job, Path, float]":
    """A job that has heard the walltime signal, the notes of its ranks, and when it was sent."""
    job, notes = _submit_counting(folder, n=10**6)
    sent = time.time()
    _slurm("scancel", "--signal=USR2", job.job_id)
    return job, notes, sent


def _submitit_first_step_again(notes: Path) -> float:
    """When the first rank noted it."""
    _await("submitit's job to start again", lambda: _notes(notes, 0)[-1]["restarts"])
    return next(float(line["time"]) for line in _notes(notes, 0) if line["restarts"])


# --------------------------------------------------------------------------------------------------------------- ours


def _ours(folder: Path, words: list[str]) -> tuple[float, list[list[float]]]:
    """Seconds to the first step again after the signal; and after each kill of the last rank, those to each of
    PARTS."""
    run, after_signal_s = _signalled(folder, words)
    after_kills_s = [_killed(run, attempt) for attempt in range(3, 3 + KILLS)]
    assert (read_json(run.owner) or {})["restarts"] == 1, f"{run.name} left its allocation after a kill"
    _launch(folder, "stop", run.name, "--now")
    return after_signal_s, after_kills_s


def _killed(run: RunDir, attempt: int) -> list[float]:
    """Kill the last rank; return the seconds to each of PARTS in the attempt that follows, by the times of its
    files."""
    pid = _heartbeat(run, rank=3)["pid"]
    sent = time.time()
    os.kill(pid, signal.SIGKILL)
    first_step = _under_way(run, attempt)
    _tell(run, f"{first_step - sent:.2f} s after the kill", sent)
    here = run.attempt(attempt)
    forked = max(here.stacks(rank).stat().st_mtime for rank in range(4))
    listens = here.rendezvous.stat().st_mtime if here.rendezvous.exists() else forked  # counting needs no meeting
    ended, begun = records.attempts(run)[-1]["ended"], (read_json(here.start) or {})["started"]
    return [when - sent for when in (ended, begun, forked, listens, first_step)]


def _signalled(folder: Path, words: list[str]) -> tuple[RunDir, float]:
    """A run that was signalled when it was under way, and the seconds to its first step again."""
    outputs = _launch(folder, *words, "--nodes", "2", "--ranks", "2", "--on", "bed", "--json")
    run = RunDir(folder / "runs" / json.loads(outputs)[0]["run"])
    _under_way(run, attempt=1)
    job = records.submissions(run)[-1]["job"]
    sent = time.time()
    _slurm("scancel", "--signal=USR2", "--batch", job)
    after_signal_s = _under_way(run, attempt=2) - sent
    _tell(run, f"{after_signal_s:.1f} s after the signal", sent)
    return run, after_signal_s


def _heartbeat(run: RunDir, rank: int) -> dict[str, Any]:
    last: Any = records.heartbeat(run, rank) or {"attempt": 0}
    return last


def _under_way(run: RunDir, attempt: int) -> float:
    """Wait until all ranks of that attempt have done a few steps; gives when the first noted its first."""

    def ready() -> bool:
        heartbeats = [_heartbeat(run, rank) for rank in range(4)]
        return all(
            heartbeat["attempt"] == attempt and heartbeat["done"] - heartbeat["from"] >= UNDER_WAY
            for heartbeat in heartbeats
        )

    _await(f"attempt {attempt} of {run.name}", ready, run)
    began: float = _heartbeat(run, rank=0)["began"]
    return began


def _tell(run: RunDir, text: str, since: float) -> None:
    """What was measured, and what the supervisor noted in that time."""
    say(f"{run.name}: {text}")
    for event in records.events(run):
        if event["time"] > since:
            print(f"    {event['time'] - since:6.1f} s  {event['text']}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------- processes


def _launch(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "hpc.launch", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"hpc.launch {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _slurm(*words: str) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


def _await(what: str, ready: Callable[[], object], run: RunDir | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if time.monotonic() > deadline:
            outputs = "".join(f"\n{event['text']}" for event in records.events(run)) if run else ""
            raise TimeoutError(f"waited {PATIENCE_S} s for {what}{outputs}\n{_slurm('squeue')}")
        time.sleep(0.05)
