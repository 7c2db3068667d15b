"""What a supervisor does when its own files, its signals or its Slurm fail it.

Slurm here is four small programs that keep what they are told; the ranks are a shell script.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc.runs import heartbeats, records, status
from hpc.runs.rundir import RunDir, append_line, write_json
from hpc.supervise import requeue, supervisor
from tests.conftest import Launch
from tests.waiting import is_stopped, output_of, wait_for

SLURM = {
    "srun": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"',
    "scontrol": 'test "$1" != show || exec cat "$SAID/job"; echo "$@" >> "$SAID/scontrol.said"; '
    'test ! -e "$SAID/refusal" || { cat "$SAID/refusal" >&2; exit 1; }',
    "sbatch": 'echo "$@" >> "$SAID/sbatch.said"; cat > "$SAID/script"; echo 8',
    "squeue": 'cat "$SAID/end" 2> "$SAID/none" || true',
}


class Kept:
    """A prepared run of the stage `count`, and its keeper: python -m hpc.supervisor."""

    def __init__(self, launch: Launch, site: str) -> None:
        launch("count", "n=5", "--on", site, "--prepare", "--ranks", "1")
        self.run = RunDir(launch.runs()[0])
        self.said = launch.folder / "said"
        self.said.mkdir()
        for name, text in SLURM.items():
            program(self.said / name, text)
        path = f"{self.said}{os.pathsep}{os.environ['PATH']}"
        self.environ = launch.environ | {"SAID": str(self.said), "PATH": path}
        if site != "local":
            self.environ |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "1"}

    def ranks_do(self, text: str) -> None:
        """What a rank is: a shell script, which finds the run in $RUN, its own attempt in $HERE."""
        here = 'RUN="$6"; HERE="$RUN/jobs/attempt-$(printf %04d "$8")"\n'
        program(self.said / "rank", here + text)
        plan = json.loads(self.run.plan.read_text())
        self.run.plan.write_text(json.dumps(plan | {"python": str(self.said / "rank")}))

    def start(self, *before: str) -> "subprocess.Popen[str]":
        command = [*before, sys.executable, "-m", "hpc.supervisor", str(self.run.path)]
        return subprocess.Popen(
            command, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def __call__(self, *before: str, restarts: int = 0) -> tuple[int, str]:
        """Return its exit code and its output."""
        if restarts:
            self.environ["SLURM_RESTART_COUNT"] = str(restarts)
        supervisor = self.start(*before)
        try:
            out = output_of(supervisor)
        finally:
            if supervisor.poll() is None:
                os.killpg(supervisor.pid, signal.SIGKILL)
        return supervisor.returncode, out

    def on_small_disk(self, full: bool = False) -> tuple[int, str]:
        """The run folder is on a real disk of 2 MB, which may be full already; its files are kept at the end."""
        namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        path, kept = self.run.path, self.said / "kept"
        mount = f"mount -t tmpfs -o size=2m tmpfs {path}"
        if subprocess.run([*namespace, mount], capture_output=True, check=False).returncode != 0:
            pytest.skip("no file systems of one's own here (unshare)")
        text = (
            f"cp -a {path} {kept}; {mount}; cp -a {kept}/. {path}; {FILL.replace('$RUN', str(path)) if full else ''}\n"
            f'"$@"; code=$?; rm -rf {path}/filler {kept}; cp -a {path} {kept}; exit $code'
        )
        found = self(*namespace, text, "sh")
        subprocess.run(["rm", "-r", str(path)], check=True)
        kept.rename(path)
        return found

    @property
    def asked_of_slurm(self) -> str:
        said = self.said / "scontrol.said"
        return said.read_text() if said.exists() else ""


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def job(launch: Launch) -> Kept:
    return Kept(launch, "bed")


@pytest.fixture
def here(launch: Launch) -> Kept:
    return Kept(launch, "local")


FILL = "head -c 4000000 /dev/zero > $RUN/filler 2> /dev/null; "
SAVE = 'mkdir -p "$RUN/checkpoints/step-00000003"; echo "{}" > "$RUN/checkpoints/step-00000003/COMMIT"; '
STOPPED = 'kill -USR2 $PPID; touch "$HERE/rank-0000.stopped"; '
ASKED = 'until grep -q "asked to stop" "$RUN/events.jsonl"; do sleep 0.1; done; '
"""Wait until the supervisor has said so."""
FINISHED = 'echo "{}" > "$HERE/metrics.json"; '


def test_a_disk_that_fills_up_as_the_walltime_ends_costs_no_place_in_the_queue(job: Kept) -> None:
    job.ranks_do(f"{SAVE} {FILL} {STOPPED}")
    code, said = job.on_small_disk()
    assert (code, job.asked_of_slurm.split()[:2]) == (75, ["requeue", "7"]), said
    assert "No space left on device; going on without" in said


def fails_with(error: str) -> str:
    report = json.dumps({"rank": 0, "host": "n3", "error": error, "at": 3})
    return f"echo '{report}' > \"$HERE/rank-0000.error.json\"; exit 1"


def test_broken_hardware_sends_the_job_to_other_nodes_at_once_even_if_it_got_on(job: Kept) -> None:
    job.ranks_do(SAVE + fails_with("AcceleratorError: CUDA error: uncorrectable ECC error encountered"))
    code, said = job()
    assert (code, job.run.last_attempt()) == (75, 1), said
    assert "rank 0 on n3: AcceleratorError: CUDA error: uncorrectable ECC error encountered (memory of that GPU" in said
    assert job.asked_of_slurm.split()[:2] == ["requeue", "7"] and "ExcNodeList=n3" in job.asked_of_slurm


def test_what_would_be_the_same_on_any_node_is_tried_once(job: Kept) -> None:
    job.ranks_do(fails_with("AcceleratorError: CUDA error: no kernel image is available for execution on the device"))
    code, said = job()
    assert (code, job.run.last_attempt(), job.asked_of_slurm) == (93, 1, ""), said
    assert "this torch was not built for that GPU: take one that was, see env/README.md" in said


def test_a_result_that_cannot_be_written_at_the_end_of_the_walltime_is_made_again(job: Kept) -> None:
    no_address = 'rm "$HERE/fork-servers.json"; '  # the supervisor removes it at the end, and would have its room
    job.ranks_do(f"{SAVE} {FINISHED} {no_address} {FILL} kill -USR2 $PPID")
    code, said = job.on_small_disk()
    assert (code, job.asked_of_slurm.split()[:2]) == (75, ["requeue", "7"]), said
    job.ranks_do(FINISHED)
    assert job(restarts=1)[0] == 0
    assert job.run.result.exists()


def test_a_full_disk_is_waited_for_until_somebody_makes_room(here: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FULL_S", 0.2)
    here.run.owner.parent.mkdir()
    place = here.said / "full"
    place.symlink_to("/dev/full")
    tries: list[None] = []

    def write() -> None:
        tries.append(None)
        if len(tries) == 3:
            place.unlink()
        place.write_text("line")

    assert supervisor.Supervisor(here.run, {}, [])._until_there_is_room(write)
    assert (len(tries), place.read_text()) == (3, "line")


def test_a_requeued_job_on_a_full_disk_waits_for_room_until_its_time_is_over(job: Kept) -> None:
    job.ranks_do(FINISHED)
    (job.said / "end").write_text(time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 25)))
    code, said = job.on_small_disk(full=True)
    assert (code, job.asked_of_slurm.split()[:2]) == (75, ["requeue", "7"]), said
    assert "No space left on device; waiting for room" in said and not job.run.attempt(1).start.exists()


def test_ranks_that_a_full_disk_keeps_from_saying_how_far_they_are_do_not_hang(here: Kept) -> None:
    word = '{"what": "count", "done": 1, "total": 5, "attempt": 1, "host": "", "time": %s}'
    here.ranks_do(f"printf '{word}' $(date +%s.%N) > $RUN/heartbeat/rank-0000.json; "
                  f"{FILL} sleep 8; rm $RUN/filler; {FINISHED}")  # fmt: skip
    plan = json.loads(here.run.plan.read_text())
    plan["resources"]["hang_s"] = 4.5
    here.run.plan.write_text(json.dumps(plan))
    code, said = here.on_small_disk()
    assert (code, here.run.last_attempt()) == (0, 1), said


def test_an_error_of_the_supervisors_own_at_the_end_of_the_walltime_costs_no_place_in_the_queue(job: Kept) -> None:
    odd = '"$RUN/checkpoints/step-odd"'
    job.ranks_do(f"kill -USR2 $PPID; {ASKED} mkdir -p {odd}; touch {odd}/COMMIT")
    code, said = job()
    assert (code, job.asked_of_slurm.split()[:2]) == (75, ["requeue", "7"]), said


def test_files_that_a_power_cut_has_damaged_hold_up_nothing(here: Kept) -> None:
    here.ranks_do(FINISHED)
    line = {"started": 1.0, "ended": 2.0, "outcome": "stopped", "codes": [0], "why": "", "node": "", "got_on": True}
    here.run.attempts.write_text(json.dumps(line) + "\n" + json.dumps(line)[:30])
    here.run.owner.parent.mkdir()
    for path in (here.run.owner, here.run.supervisor, here.run.former_heartbeat(0)):
        path.write_bytes(b"")
    code, said = here()
    assert code == 0, said
    assert "attempts.jsonl: line 2 is damaged and does not count" in said
    assert [line["outcome"] for line in records.attempts(here.run)] == ["stopped", "finished"]


@pytest.mark.parametrize("wish", ['touch "$RUN/heartbeat/stop"', "kill -TERM $PPID"])
def test_a_stop_that_is_wished_while_the_walltime_save_is_under_way_is_heeded(job: Kept, wish: str) -> None:
    job.ranks_do(f"{SAVE} kill -USR2 $PPID; {ASKED} {wish}; {STOPPED}")
    code, said = job()
    assert (code, job.asked_of_slurm) == (75, ""), said
    assert "the same command goes on from there" in said


def test_a_stop_is_heeded_though_the_supervisor_is_killed_before_it_looks(here: Kept) -> None:
    once = 'if test "$8" = 1; then touch "$RUN/heartbeat/stop"; kill -KILL $PPID; fi'
    here.ranks_do(f'{SAVE} {once}; {ASKED} touch "$HERE/rank-0000.stopped"')
    code, said = here()
    assert code == 75 and "asked to stop (on request)" in said, said
    here.ranks_do(FINISHED)
    assert here()[0] == 0, "given again, it goes on"


HARD_OF_HEARING = """
import signal, sys, time
heard = []
signal.signal(signal.SIGUSR2, lambda *_: heard.append(None))
open(sys.argv[1], "w")
while len(heard) < 2:
    time.sleep(0.05)
open(sys.argv[2], "w")
"""


def test_a_rank_that_was_only_just_starting_is_told_again_to_stop(here: Kept) -> None:
    (here.said / "rank.py").write_text(HARD_OF_HEARING)
    here.ranks_do(f'{SAVE} exec {sys.executable} {here.said}/rank.py "$RUN/heartbeat/stop" "$HERE/rank-0000.stopped"')
    code, said = here()
    assert code == 75 and "not stopped after" not in said, said


@pytest.mark.parametrize("restarts", [1, 0])
def test_a_wish_lasts_until_the_job_is_back_from_the_queue(job: Kept, restarts: int) -> None:
    """Or until a job follows it, if a site does not requeue."""
    job.ranks_do(f"{SAVE} {STOPPED}")
    assert job()[0] == 75 and job.asked_of_slurm
    job.run.stop_request.touch()
    job.run.events.unlink()
    job.ranks_do(f'{ASKED} touch "$HERE/rank-0000.stopped"')
    append_line(job.run.submissions, {"time": time.time(), "job": "8", "kind": "slurm", "successor": not restarts})
    code, said = job(restarts=restarts)
    assert code == 75 and "asked to stop (on request)" in said
    assert job.asked_of_slurm.count("requeue") == 1


def test_a_supervisor_that_is_killed_at_its_start_is_started_again_three_times(here: Kept) -> None:
    here.ranks_do(f'test "$8" -gt 2 || kill -KILL $PPID; {FINISHED}')
    assert here()[0] == 0
    assert here.run.last_attempt() == 3


def test_a_supervisor_that_dies_at_once_again_and_again_fails_with_the_reason(here: Kept) -> None:
    here.ranks_do("kill -KILL $PPID")
    assert here()[0] == 1
    state = status.look(here.run)
    assert (state.word, state.code) == ("failed", 1)
    assert "its supervisor was ended by SIGKILL, 3 times in a row within 5 s of its start" in state.text


def test_while_its_keeper_lives_a_run_is_not_lost(here: Kept) -> None:
    """A supervisor was killed, and the keeper waits a moment before it starts the next."""
    sleeper = subprocess.Popen(["sleep", "3600"])
    said = {"host": os.uname().nodename, "pid": 2**22 + 1, "keeper": sleeper.pid, "state": "running", "text": ""}
    write_json(here.run.supervisor, said | {"time": time.time(), "job": None})
    assert status.look(here.run).word == "running"
    sleeper.kill()
    sleeper.wait()
    assert status.look(here.run).word == "lost"


def test_a_supervisor_that_stands_still_is_named_and_can_be_ended(launch: Launch, here: Kept) -> None:
    here.ranks_do("sleep 3600")
    supervisor = here.start()
    try:
        wait_for(lambda: records.supervisor(here.run), "the supervisor's first word")
        pid = records.supervisor(here.run)["pid"]
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: is_stopped(pid), f"pid {pid} stands still")
        write_json(here.run.supervisor, records.supervisor(here.run) | {"time": time.time() - 60})
        state = status.look(here.run)
        assert state.word == "silent" and f"pid {pid} stands still" in state.text
        heartbeat = {"rank": 0, "time": time.time(), "attempt": 1, "what": "train", "done": 66, "total": 90}
        heartbeats.write(here.run, 0, {0: heartbeats.slot_of(heartbeat)})
        refused = launch("count", "n=5", "--on", "local", code=3).stderr
        assert f"holds the lock, and pid {pid} stands still" in refused
        assert "asked to save and end, but pid" in launch("stop", here.run.name).stdout
        assert "ended at once" in launch("stop", here.run.name, "--now").stdout
        output_of(supervisor)
        state = status.look(here.run)
        assert state.word == "stopped" and "ended at once; the same command goes on" in state.text
        assert state.done == 66, "its ranks went on"
    finally:
        if supervisor.poll() is None:
            os.killpg(supervisor.pid, signal.SIGKILL)


def test_a_supervisor_that_was_refused_says_who_holds_the_lock_and_takes_no_wish(launch: Launch, here: Kept) -> None:
    here.ranks_do("sleep 3600")
    first = here.start()
    try:
        wait_for(lambda: records.supervisor(here.run), "the supervisor's first word")
        pid = records.supervisor(here.run)["pid"]
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: is_stopped(pid), f"pid {pid} stands still")
        here.run.supervisor.write_bytes(b"")
        write_json(here.run.owner, records.owner(here.run) | {"since": time.time() - 60})
        here.run.stop_request.touch()
        said = launch("count", "n=5", "--on", "local", code=3).stderr
        assert f"another supervisor holds the lock, pid {pid} on {os.uname().nodename}" in said
        assert here.run.stop_request.exists()
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        output_of(first)


def test_a_walltime_that_ends_before_anything_is_saved_is_not_asked_for_for_ever(job: Kept) -> None:
    job.ranks_do(STOPPED)
    ends = [job(restarts=restarts) for restarts in range(3)]
    assert [code for code, _ in ends] == [75, 75, 1]
    assert "the walltime is shorter than the start-up, ask for more --time (1 of 3)" in ends[0][1]
    assert status.look(job.run).word == "failed"
    assert job.asked_of_slurm.count("requeue") == 2
    append_line(job.run.submissions, {"time": time.time(), "job": "7", "kind": "slurm", "name": job.run.name})
    assert job()[0] == 75, "given again, it is worth another try"


def test_on_another_number_of_ranks_it_says_what_is_not_the_same(here: Kept) -> None:
    here.ranks_do(f"{SAVE} exit 1")
    code, said = here()
    assert code == 1 and "goes on from step 3" in said and "instead of" not in said
    here.ranks_do(FINISHED)
    plan = json.loads(here.run.plan.read_text())
    plan["resources"]["ranks_per_node"] = 2
    here.run.plan.write_text(json.dumps(plan))
    code, said = here()
    assert code == 0 and "2 ranks instead of 1: with dropout it is not the same run to the bit now" in said


def test_in_another_number_of_threads_it_says_what_is_not_the_same(here: Kept) -> None:
    here.environ.pop("OMP_NUM_THREADS", None)
    here.ranks_do(f"{SAVE} exit 1")
    code, said = here()
    assert code == 1 and "goes on from step 3" in said and "instead of" not in said
    here.ranks_do(FINISHED)
    plan = json.loads(here.run.plan.read_text())
    n = records.attempts(here.run)[-1]["threads"]
    here.run.plan.write_text(json.dumps(plan | {"asked": plan["asked"] | {"cpus": n + 1}}))
    code, said = here()
    assert code == 0 and f"{n + 1} threads a rank instead of {n}: CPUs add in another order" in said


@pytest.mark.parametrize(
    ("end", "forks"),
    [
        ("exit 1", [True, False, False]),
        (f"{SAVE} exit 1", [True, True, False, False]),
        ("kill -KILL $$", [True, True, True]),
    ],
    ids=["got nowhere", "got on at first", "was killed"],
)
def test_after_a_failure_that_a_fork_could_be_the_reason_of_ranks_are_started_without(
    here: Kept, end: str, forks: list[bool]
) -> None:
    here.ranks_do(f'echo "$@" >> "$SAID/ranks.said"; {end}')
    assert here()[0] == 1
    assert ["--fork-server" in words for words in (here.said / "ranks.said").read_text().splitlines()] == forks


def test_an_attempt_that_ended_with_its_supervisor_is_counted(here: Kept) -> None:
    here.ranks_do(f'test "$8" -gt 1 || {{ {SAVE} touch "$HERE/mark"; kill -KILL $PPID; }}; {FINISHED}')
    assert here()[0] == 0
    lost, finished = records.attempts(here.run)
    assert (lost["outcome"], lost["got_on"], lost["codes"]) == ("lost", True, [])
    mark = (here.run.attempt(1).path / "mark").stat().st_mtime
    assert lost["started"] < mark <= lost["ended"] <= finished["started"]
    assert json.loads(here.run.result.read_text())["attempts"] == 2
    assert (finished["outcome"], finished["from_step"]) == ("finished", 3)


def test_ranks_that_end_well_without_a_result_have_not_finished(here: Kept) -> None:
    here.ranks_do("exit 0")
    code, said = here()
    assert code == 1 and "metrics.json is not there: it did not come to the end of its stage" in said
    assert not here.run.result.exists()


def test_a_controller_in_trouble_is_asked_again(job: Kept) -> None:
    said = "Unable to contact slurm controller (connect failure)"
    program(job.said / "scontrol", f'test "$1" != show || exit 1; echo "$@" >> "$SAID/scontrol.said"; '
            f'test -e "$SAID/twice" || {{ touch "$SAID/twice"; echo "{said}" >&2; exit 1; }}')  # fmt: skip
    job.ranks_do(f"{SAVE} {STOPPED}")
    code, out = job()
    assert (code, job.asked_of_slurm.count("requeue"), "goes on as job" in out) == (75, 2, False), out


def test_a_refusal_gets_a_successor_at_once(job: Kept) -> None:
    (job.said / "refusal").write_text("Requested operation is presently disabled")
    job.ranks_do(f"{SAVE} {STOPPED}")
    assert "goes on as job 8" in job()[1]
    assert job.asked_of_slurm.count("requeue") == 1
    assert records.submissions(job.run)[-1]["successor"] is True


FAILS_ON_N2 = 'echo "srun: error: n2: task 0: Killed" >&2; exit 137; '


def test_a_successor_keeps_off_the_nodes_that_were_bad_and_so_does_the_next_one(job: Kept) -> None:
    (job.said / "refusal").write_text("Requested operation is presently disabled")
    job.ranks_do(f'test "$8" -gt 2 || {{ {FAILS_ON_N2} }}; {SAVE} {STOPPED}')
    for until in ("n2 failed before: back into the queue", "stopped at step 3; back into the queue"):
        code, out = job()
        assert code == 75 and until in out and "goes on as job 8" in out, out
    dependency = "--parsable --dependency=afterany:7"
    assert (job.said / "sbatch.said").read_text().splitlines() == [f"{dependency} --exclude=n2"] * 2


def test_a_successor_goes_where_it_can_if_no_other_node_is_there(job: Kept) -> None:
    (job.said / "refusal").write_text("Requested operation is presently disabled")
    program(job.said / "sbatch", 'echo "$@" >> "$SAID/sbatch.said"; case "$*" in *--exclude*) echo '
            '"Requested node configuration is not available" >&2; exit 1;; esac; echo 8')  # fmt: skip
    job.ranks_do(FAILS_ON_N2)
    assert "goes on as job 8" in job()[1]
    with_exclude, without = (job.said / "sbatch.said").read_text().splitlines()
    assert with_exclude == f"{without} --exclude=n2"


SHOWN = (
    "JobId=7 JobName=count Restarts=0 TimeLimit=UNLIMITED StartTime=2026-11-29T09:10:34 EndTime=Unknown "
    "PreemptEligibleTime=2026-11-29T09:10:34 PreemptTime={} JobState=RUNNING Reason=None"
)
"""Of what `scontrol show job -o` says during the grace of a preempted job (22.05.8 and 24.11.5)."""


def test_preemption_is_called_so_and_is_no_end_of_the_walltime(job: Kept) -> None:
    (job.said / "job").write_text(SHOWN.format("2026-11-29T09:10:35"))
    job.ranks_do(f"{SAVE} {STOPPED}")
    code, said = job()
    assert (code, job.asked_of_slurm.split()[:2]) == (75, ["requeue", "7"]), said
    assert "preempted: stopped at step 3; back into the queue" in said
    assert [line["walltime"] for line in records.attempts(job.run)] == [False]
    state = status.look(job.run)
    assert "preempted: stopped at step 3" in records.supervisor(job.run)["text"], state


def test_an_end_that_is_no_preemption_is_not_called_so(job: Kept) -> None:
    (job.said / "job").write_text(SHOWN.format("None"))
    job.ranks_do(f"{SAVE} {STOPPED}")
    _, said = job()
    assert "preempted" not in said and "stopped at step 3; back into the queue" in said
    assert [line["walltime"] for line in records.attempts(job.run)] == [True]


@pytest.mark.parametrize(
    ("at", "start", "preempted"),
    [
        ("2026-11-29T09:10:35", "2026-11-29T09:10:34", True),
        ("2026-11-29T09:10:35", "2026-11-29T10:00:00", False),  # it was, before it was started again
        ("None", "2026-11-29T09:10:34", False),
        ("2026-11-29T09:10:35", "Unknown", True),
        (None, "2026-11-29T09:10:34", False),  # a site without preemption
    ],
)
def test_whether_a_job_is_being_preempted(at: str | None, start: str, preempted: bool) -> None:
    job = {"StartTime": start} | ({"PreemptTime": at} if at else {})
    assert requeue.is_preempted(job) == preempted


@pytest.mark.parametrize(
    ("cause", "left_s", "why"),
    [
        (signal.SIGUSR2, 25.0, "the walltime is near"),
        (signal.SIGUSR2, 3000.0, "Slurm wants it to end, 50 min before its walltime does"),
        (signal.SIGUSR2, None, "the walltime is near, or Slurm wants it to end"),
        (signal.SIGTERM, 3000.0, "TERM"),
        ("clock", 25.0, "its time is over"),
        ("request", None, "on request"),
    ],
)
def test_why_the_ranks_are_asked_to_stop(cause: supervisor.StopCause, left_s: float | None, why: str) -> None:
    assert supervisor.why_stopped(cause, left_s, lead_s=30.0) == why
