"""`hpc why` for everything that Slurm does to a run: whole texts, as tests/records/why has them.

What squeue, scontrol, sacct, srun and slurmstepd say here was said by Slurm 22.05.8 or 24.11.5, when it was done to a
job (sacct by 22.05.8 with slurmdbd). Here small programs say it again.
"""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.overview import table
from hpc.runs import status, why
from hpc.runs.rundir import RunDir, append_line, write_json
from hpc.slurm import words
from hpc.slurm.squeue import Queue
from tests.conftest import Launch

RECORDS = Path(__file__).parent.parent / "records/why"
T0 = time.mktime(time.strptime("2020-11-29T09:10:00", "%Y-%m-%dT%H:%M:%S"))
"""When it was submitted."""
OOM = (
    "out of memory: rank 3 on n2 was killed at the limit of 300 MB a node; the rank itself had 294 MB; resume "
    "train-k3f9 --mem 1 asks for more, fewer --ranks a node share it among fewer"
)
LEFT = "stopped at step 3, at Slurm's TERM; the same command goes on from there"
UNREACHED = "Unable to contact slurm controller (connect failure)"
PENDING = "JobId=6 JobState=PENDING Restarts=0 ExitCode=0:0 StartTime=Unknown "
AT = "2020-11-29T09:1"
CANCELLED_AT = f"CANCELLED AT {AT}0:50"
CASES: dict[str, dict[str, Any]] = {
    "out of memory": {
        "supervisor": {"state": "failed", "text": OOM, "code": 93},
        "attempts": [{"outcome": "crashed", "codes": [0, 0, 0, -9], "why": OOM, "fault": "user"}],
        "srun": "hpc: error: n2: task 3: Killed\nsrun: error: n2: tasks 2-3: Out Of Memory\n",
        "sacct": "6|FAILED|93:0|0:125|None|600M||||n[1-2]|" + AT + "0:26\n"
        "6.0|OUT_OF_MEMORY|0:125||||306908K|n2|3|n[1-2]|" + AT + "0:26\n",
    },
    "out of memory of the batch step": {
        "supervisor": {"state": "running", "text": "attempt 1 starts: 4 ranks", "host": "n1"},
        "sacct": "6|OUT_OF_MEMORY|0:125|0:0|None|600M||||n[1-2]|" + AT + "0:26\n"
        "6.batch|OUT_OF_MEMORY|0:125||||299100K|n1|0|n1|" + AT + "0:26\n",
        "squeue": "6|OUT_OF_MEMORY|OutOfMemory|" + AT + "0:22|train-k3f9",
        "scontrol": f"JobId=6 JobState=OUT_OF_MEMORY Reason=OutOfMemory Restarts=0 ExitCode=0:125 StartTime={AT}0:22 "
        f"EndTime={AT}0:26 NodeList=n[1-2] MinMemoryNode=300M",
    },
    "node failure and back in the queue": {
        "supervisor": {"state": "left", "text": LEFT},
        "attempts": [{"outcome": "stopped", "codes": [0, 1], "why": ""}],
        "srun": "srun: error: Node failure on n3\nsrun: got SIGCONT\n",
        "log": f"slurmstepd-n2: error: *** JOB 6 ON n2 {CANCELLED_AT} DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR "
        "DETAILS ***\nsrun: got SIGCONT\n",
        "squeue": f"6|PENDING|BeginTime|{AT}2:09|train-k3f9",
        "scontrol": f"{PENDING}Reason=BeginTime",
        "sacct": f"6|NODE_FAIL|0:0|0:0|None|600M||||n[2-3]|{AT}2:01\n"
        "6|PENDING|0:0|0:0|BeginTime|600M||||None assigned|Unknown\n",
    },
    "node failure where jobs are not requeued": {
        "supervisor": {"state": "left", "text": LEFT},
        "srun": "srun: error: Node failure on n3\n",
        "squeue": f"6|NODE_FAIL|NodeDown|{AT}2:16|train-k3f9",
        "scontrol": "JobId=6 JobState=NODE_FAIL Reason=NodeDown FailedNode=n3 Restarts=0 ExitCode=75:0 NodeList=n[2-3]",
    },
    "preempted after it had saved": {
        "supervisor": {"state": "requeued", "text": "preempted: stopped at step 3; back into the queue"},
        "squeue": f"6|PENDING|BeginTime|{AT}0:58|train-k3f9",
        "scontrol": f"{PENDING}Reason=BeginTime",
        "sacct": f"6|PREEMPTED|0:0|0:0|None|600M||||n[1-2]|{AT}0:50\n",
    },
    "preempted by Slurm alone": {
        "supervisor": {"state": "left", "text": LEFT},
        "log": f"slurmstepd-n1: error: *** JOB 6 ON n1 {CANCELLED_AT} DUE TO PREEMPTION ***\nsrun: got SIGCONT\n",
        "squeue": f"6|PENDING|Resources|{AT}0:58|train-k3f9",
        "scontrol": f"{PENDING}Reason=Resources",
    },
    "preempted and gone": {
        "supervisor": {"state": "left", "text": f"preempted: {LEFT}"},
        "log": f"slurmstepd-n1: error: *** JOB 6 ON n1 {CANCELLED_AT} DUE TO PREEMPTION ***\n",
        "squeue": f"6|PREEMPTED|None|{AT}0:34|train-k3f9",
    },
    "time limit": {
        "supervisor": {"state": "running", "text": "not stopped after 18 s: ended", "host": "n1"},
        "log": f"slurmstepd-n1: error: *** JOB 6 ON n1 {CANCELLED_AT} DUE TO TIME LIMIT ***\n",
        "squeue": f"6|TIMEOUT|TimeLimit|{AT}5:26|train-k3f9",
        "scontrol": "JobId=6 JobState=TIMEOUT Reason=TimeLimit Restarts=0 ExitCode=0:15 TimeLimit=00:01:00",
        "sacct": f"6|TIMEOUT|0:0|0:0|None|100M||||n[1-2]|{AT}6:50\n6.batch|CANCELLED|0:15||||4100K|n1|0|n1|{AT}6:50\n",
    },
    "time limit, from the log of the job alone": {
        "supervisor": {"state": "running", "text": "", "host": "n1"},
        "log": f"slurmstepd-n1: error: *** JOB 6 ON n1 {CANCELLED_AT} DUE TO TIME LIMIT ***\n",
        "squeue": "", "squeue says": "slurm_load_jobs error: Invalid job id specified",
        "scontrol says": "slurm_load_jobs error: Invalid job id specified",
    },
    "prolog failed on the first node": {
        "log": "Error running slurm prolog: 1\n",
        "squeue": "6|PENDING|launch failed requeued held|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=launch_failed_requeued_held",
        "sacct": f"6|REQUEUED|0:0|0:0|None|600M||||n[1-2]|{AT}2:29\n"
        "6|PENDING|0:0|0:0|JobHeldUser|600M||||None assigned|Unknown\n",
    },
    "prolog failed on another node": {
        "supervisor": {"state": "requeued", "text": "prolog failed: the site's own script before a job has failed "
                       "on n2; n2 failed before: back into the queue"},
        "srun": "srun: error: Task launch for StepId=25.0 failed on node n2: Job prolog failed\n"
        "srun: error: Application launch failed: Job prolog failed\n",
        "squeue": "6|PENDING|launch failed requeued held|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=launch_failed_requeued_held",
    },
    "held after a launch that failed": {
        "squeue": "6|PENDING|launch failed requeued held|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=launch_failed_requeued_held",
    },
    "held by its owner": {
        "squeue": "6|PENDING|JobHeldUser|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=JobHeldUser",
    },
    "held by an administrator": {
        "squeue": "6|PENDING|JobHeldAdmin|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=JobHeldAdmin "
        "AdminComment=write to the help desk Comment=(null)",
    },
    "requeued to be held": {
        "squeue": f"6|PENDING|job requeued in held state|{AT}1:24|train-k3f9",
        "scontrol": f"{PENDING}Reason=job_requeued_in_held_state",
    },
    "bad constraint": {
        "squeue": "6|PENDING|BadConstraints|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=BadConstraints Features=big",
    },
    "more than the partition gives": {
        "squeue": "6|PENDING|PartitionTimeLimit|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=PartitionTimeLimit Features=(null)",
    },
    "never starts after a run that failed": {
        "after": ["preprocess-x7m2"],
        "squeue": "6|PENDING|DependencyNeverSatisfied|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=DependencyNeverSatisfied Dependency=afterok:10(failed)",
    },
    "removed after a run that failed": {
        "after": ["preprocess-x7m2"],
        "squeue": "6|CANCELLED|DependencyNeverSatisfied|N/A|train-k3f9",
        "scontrol": "JobId=6 JobState=CANCELLED Reason=DependencyNeverSatisfied Dependency=afterok:12(failed)",
        "sacct": f"6|CANCELLED|0:0|0:0|Dependency|600M||||None assigned|{AT}1:10\n",
    },
    "never starts after a job of no run": {
        "squeue": "6|PENDING|DependencyNeverSatisfied|N/A|train-k3f9",
        "scontrol": f"{PENDING}Reason=DependencyNeverSatisfied Dependency=afterok:10(failed)",
    },
    "forgotten by a controller that was started anew": {
        "squeue says": "slurm_load_jobs error: Invalid job id specified",
        "scontrol says": "slurm_load_jobs error: Invalid job id specified",
        "sacct says": "Slurm accounting storage is disabled",
    },
    "forgotten while it was put back: running": {
        "supervisor": {"state": "requeued", "text": "stopped at step 3; back into the queue"},
        "squeue": "6|RUNNING|None|2020-11-29T09:00:00|train-k3f9",
        "scontrol": "JobId=6 JobState=RUNNING Reason=None StartTime=2020-11-29T09:00:00 NodeList=n[1-2]",
    },
    "forgotten while it was put back: completing": {
        "supervisor": {"state": "requeued", "text": "stopped at step 3; back into the queue"},
        "squeue": f"6|COMPLETING|None|{AT}7:49|train-k3f9",
        "scontrol": f"JobId=6 JobState=COMPLETING Reason=None Restarts=1 StartTime={AT}7:49 NodeList=n[1-2]",
    },
    "cancelled while it ran": {
        "supervisor": {"state": "left", "text": LEFT},
        "log": f"slurmstepd-n1: error: *** JOB 6 ON n1 {CANCELLED_AT} ***\nsrun: forcing job termination\n",
        "squeue": f"6|CANCELLED|None|{AT}1:20|train-k3f9",
        "sacct": f"6|CANCELLED by 1000|0:0|0:0|None|600M||||n[1-2]|{AT}1:22\n",
    },
    "no answer": {
        "squeue says": f"squeue: error: {UNREACHED}\nsqueue: error: {UNREACHED}\nslurm_load_jobs error: {UNREACHED}",
        "scontrol says": f"slurm_load_jobs error: {UNREACHED}",
        "sacct says": "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection\n"
        "sacct: error: Sending PersistInit msg: Connection refused\nsacct: error: Problem talking to the database",
    },
    "its batch step was killed": {
        "supervisor": {"state": "running", "text": "attempt 1 starts: 4 ranks"},
        "squeue": f"6|FAILED|RaisedSignal:9(Killed)|{AT}0:22|train-k3f9",
        "scontrol": f"JobId=6 JobState=FAILED Reason=RaisedSignal:9(Killed) ExitCode=0:9 StartTime={AT}0:22 "
        f"EndTime={AT}1:26 NodeList=n[1-2]",
    },
    "its folder was moved": {
        "supervisor": {"state": "running", "text": "attempt 1 starts: 4 ranks"},
        "log": "09:10:20 train-k3f9 attempt 1 starts: 4 ranks\nthe run folder runs/train-k3f9 was moved or deleted "
        "while the run was working in it: it ends here and writes nothing more. Where the folder is whole, `python -m "
        "hpc.launch resume train-k3f9` goes on from its last checkpoint\nsrun: Job step aborted\n",
        "moved": True,
        "squeue": f"6|FAILED|NonZeroExitCode|{AT}0:22|train-k3f9",
    },
    "cancelled while its supervisor stood still": {
        "supervisor": {"state": "running", "text": "attempt 1 starts: 4 ranks"},
        "squeue": f"6|CANCELLED|None|{AT}1:20|train-k3f9",
    },
    "a node that does not answer any more": {
        "supervisor": {"state": "running", "text": "attempt 1 starts: 4 ranks"},
        "log": f"slurmstepd-n3: error: *** JOB 6 ON n3 {CANCELLED_AT} DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR "
        "DETAILS ***\n",
        "squeue": f"6|COMPLETING|None|{AT}0:22|train-k3f9",
    },
    "the job that follows its own": {
        "supervisor": {"state": "requeued", "text": "stopped at step 3; back into the queue"},
        "successor": True,
        "squeue": "7|PENDING|Dependency|N/A|train-k3f9",
        "scontrol": "JobId=7 JobState=PENDING Reason=Dependency Dependency=afterany:6(unfulfilled) ExitCode=0:0",
    },
    "refused": {
        "refused": "sbatch did not take the job: Batch job submission failed: Requested time limit is invalid (missing "
        "or exceeds some limit)",
    },
    "what would be the same again": {
        "supervisor": {"state": "failed", "text": "rank 0: ConfigError: train.optim: steps must be 1", "code": 93},
    },
    "an error of the program": {
        "supervisor": {"state": "failed", "text": "rank 1 on n2: KeyError: 'x'", "code": 1},
        "attempts": [{"outcome": "crashed", "codes": [1], "why": "rank 1 on n2: KeyError: 'x'"}] * 2,
    },
}  # fmt: skip


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The folder of a run to which that was done, and the Slurm that says so."""
    return made(request.param, tmp_path, monkeypatch)


def made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    told = CASES[name]
    for program in ("squeue", "scontrol", "sacct"):
        silence = told.get(f"{program} says", "")
        (tmp_path / f"{program}.out").write_text(told.get(program, "") + "\n" * bool(told.get(program)))
        (tmp_path / f"{program}.err").write_text(silence)
        said = f"{tmp_path}/{program}"
        text = f'#!/bin/sh\ncat "{said}.out"; cat "{said}.err" >&2; exit {int(bool(silence))}\n'
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / program).write_text(text)
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    failed = RunDir(tmp_path / "runs/preprocess-x7m2")
    write_json(failed.plan, {"name": failed.name})
    about = {"time": T0, "host": "elsewhere", "pid": 1, "job": "6", "attempt": 1, "nodes": 2, "code": None}
    write_json(failed.supervisor, about | {"state": "failed", "text": "it is damaged", "code": 1})
    run = RunDir(tmp_path / "runs/train-k3f9")
    write_json(run.plan, {"name": run.name})
    folder = run.attempt(1)
    folder.path.mkdir(parents=True)
    submitted = {"job": "6", "name": run.name, "kind": "slurm", "nodes": 2, "time": T0, "log": str(run.jobs)}
    append_line(run.submissions, submitted | {"after": told.get("after", [])})
    if told.get("moved"):
        append_line(run.submissions, submitted | {"log": f"{tmp_path}/runs/train-before/jobs"})
    if told.get("successor"):
        append_line(run.submissions, submitted | {"job": "7", "successor": True, "time": T0 + 100})
    if "refused" in told:
        append_line(run.submissions, {"kind": "refused", "text": told["refused"], "time": T0 + 100})
    if "supervisor" in told:
        write_json(run.supervisor, about | {"time": T0 + 60} | told["supervisor"])
    for line in told.get("attempts", []):
        append_line(run.attempts, {"attempt": 1, "started": T0 + 9, "job": "6", "from_step": 0} | line)
    if "srun" in told:
        folder.srun.write_text(told["srun"])
    if "log" in told:
        (run.jobs / "6_0_log.out").write_text(told["log"])
    return run


def record(name: str) -> Path:
    return RECORDS / f"{name.replace(' ', '-').replace(',', '').replace(':', '')}.txt"


@pytest.mark.parametrize(("case", "name"), [(name, name) for name in CASES], indirect=["case"], ids=list(CASES))
def test_the_whole_text_is_as_recorded(case: RunDir, name: str) -> None:
    (state,) = status.look_all([case], Queue())
    text = f"{table.text([state])}\n\n{why.text(why.explain(case))}\n".replace(str(case.path.parent), "runs")
    text = re.sub(r"left it \d+h\d\d ago|left it \d+:\d\d ago", "left it SOME TIME ago", text)
    path = record(name)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    again = "if that is meant, `UPDATE_GOLDEN=1 pytest tests/hpc/test_why.py` records it anew; look at the diff"
    assert path.is_file(), f"{path} is not there: {again}"
    assert text == path.read_text(), f"what is said of {name!r} has changed: {again}"


def test_the_state_of_a_finished_run_is_said_once() -> None:
    state = status.State("train-k3f9")
    state.word = "finished"
    explanation = why.judge(why.Facts(state, {}, []))
    assert explanation.text == "it is finished" and why.text(explanation) == "train-k3f9 is finished"


def test_there_is_a_record_for_each_case_and_a_case_for_each_short_word() -> None:
    assert sorted(RECORDS.glob("*.txt")) == sorted(map(record, CASES))
    texts = "".join(record(name).read_text() for name in CASES)
    assert [word for word in words.SHORT if f"\n\n{word}: " not in texts] == []


def test_why_is_a_verb_and_needs_no_torch(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("held by its owner", tmp_path, monkeypatch)
    environ = {"PATH": os.environ["PATH"]}
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = sys.modules['omegaconf'] = None\n")
    launch.environ |= environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{launch.environ['PYTHONPATH']}"}
    explanation = json.loads(launch("why", "train", "--json").stdout)
    assert explanation["why"] == "held" and explanation["next"][0] == "scontrol release 6"
    assert "why which run?" in launch("why", code=2).stderr
    assert json.loads(launch("status", "train-k3f9", "--json").stdout)[0]["why"] == "held"
