"""The same line, given many times at once: one run, and everybody is told so."""

import os
import subprocess
import time
from pathlib import Path

from hpc.codes import REFUSED
from hpc.runs import records, status
from hpc.runs.rundir import RunDir, append_line, write_json
from tests.conftest import Launch
from tests.waiting import LONG_S, open_gate

N = 20


def test_of_twenty_launches_of_a_run_one_starts_it_and_the_others_say_that_it_runs(launch: Launch) -> None:
    words = launch.command("count", "n=5", "hold_at=3", "--on", "local")
    logs = [launch.folder / f"{number}.log" for number in range(N)]
    environ = launch.environ | {"PYTHONUNBUFFERED": "1"}
    launchers = []
    for log in logs:
        with open(log, "w") as file:
            launchers.append(
                subprocess.Popen(words, cwd=launch.folder, env=environ, stdout=file, stderr=subprocess.STDOUT)
            )
    try:
        launch.wait_for(
            lambda: (
                sum("running already: watching it" in log.read_text() for log in logs) == N - 1
                or any(launcher.poll() for launcher in launchers)
            ),
            "nineteen say that it runs",
        )
    finally:
        open_gate(*(RunDir(path) for path in launch.runs()))
    codes = [launcher.wait(LONG_S) for launcher in launchers]
    said = "\n".join(log.read_text() for log in logs)
    assert codes == [0] * N, said
    assert "lost" not in said and said.count("running already: watching it") == N - 1
    (run,) = map(RunDir, launch.runs())
    assert run.last_attempt() == 1 and len(records.submissions(run)) == 1
    assert [event["text"][:16] for event in records.events(run)].count("attempt 1 starts") == 1


def test_who_was_second_waits_for_a_supervisor_that_has_only_just_begun(tmp_path: Path) -> None:
    """Where it was started without a launcher: `sbatch slurm/run.sbatch`, or by hand."""
    run = RunDir(tmp_path / "count-x")
    run.jobs.mkdir(parents=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    append_line(run.submissions, {"job": str(gone.pid), "kind": "local", "time": time.time()})
    assert status.look(run).word == "lost", "nobody holds it"
    write_json(run.owner, {"host": os.uname().nodename, "pid": os.getpid(), "since": time.time()})
    assert status.look(run).word == "queued"
    write_json(run.owner, {"host": os.uname().nodename, "pid": os.getpid(), "since": time.time() - 60})
    state = status.look(run)
    assert (state.word, state.code) == ("lost", REFUSED) and "end that first" in state.text
