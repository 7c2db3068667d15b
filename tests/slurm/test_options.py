"""What sbatch can say, said to a real Slurm: refused before anything is written, or lasting as long as the run."""

import os
import re
import signal
import subprocess

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps
from tests.conftest import ROOT, Launch
from tests.containers import by_stand_in, calls, in_podman, podman, workers
from tests.slurm.test_bed import beds, start
from tests.slurm.test_faults import bed, finishes, on_bed, signal_batch
from tests.slurm.test_runs import attempts, only_run, texts, under_way
from tests.waiting import open_gate, output_of

__all__ = ["bed", "beds", "on_bed", "podman"]  # fixtures
pytestmark = [pytest.mark.slurm, pytest.mark.both_slurms]


def shown(launch: Launch, job: str) -> dict[str, str]:
    """What Slurm knows of a job."""
    command = ["scontrol", "show", "job", job]
    done = subprocess.run(command, env=launch.environ, capture_output=True, text=True, check=True)
    return dict(re.findall(r"(\S+?)=(\S*)", done.stdout))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reservation", "course"], r"without --reservation=course, and not with it: .*Requested reservation is inv"),
        (["--licenses", "matlab:1"], r"without --licenses=matlab:1, and not with it: .*Invalid license specification"),
        (["--nodelist", "n9"], r"without --nodelist=n9, and not with it: .*"),
        (["--sbatch", "--no-such"], r"without --no-such, and not with it: .*unrecognized option '--no-such"),
        (["--nice", "2", "--sbatch", "--begin=soon"], r"without --nice=2 --begin=soon, and not with it: .*[Ii]nvalid"),
    ],
)
@pytest.mark.parametrize("verb", [[], ["--dry-run"]], ids=["submitted", "dry run"])
def test_what_this_slurm_does_not_take_is_refused_before_anything_is_written(
    on_bed: Launch, verb: list[str], words: list[str], message: str
) -> None:
    refused = on_bed("count", "n=3", *words, *verb, "--on", "bed", code=2).stderr
    assert re.search(f"Slurm would take this job {message}", refused), refused
    assert on_bed.runs() == []


def test_options_outlast_a_requeue(on_bed: Launch) -> None:
    words = ["--nice", "5", "--nodelist", "n2,n3", "--exclude", "n4", "--sbatch", "--exclusive --switches=1"]
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", *words, on="bed")
    job = records.submissions(run)[-1]["job"]
    before = shown(on_bed, job)
    assert (before["Nice"], before["ReqNodeList"], before["ExcNodeList"]) == ("5", "n[2-3]", "n4")
    assert (before["NodeList"], before["OverSubscribe"]) == ("n[2-3]", "NO")
    signal_batch(on_bed, run, "USR2")
    on_bed.wait_for(lambda: len(records.attempts(run)) == 1 and len(list(run.jobs.glob("attempt-*"))) == 2, "again")
    after = shown(on_bed, job)
    assert {name: after[name] for name in ("Nice", "ReqNodeList", "ExcNodeList", "NodeList")} == {
        name: before[name] for name in ("Nice", "ReqNodeList", "ExcNodeList", "NodeList")
    }
    finishes(on_bed, run, watcher)


def test_options_outlast_a_site_that_does_not_requeue_and_a_time_to_begin_does_not(
    launch: Launch, beds: "list[str]"
) -> None:
    launch.environ |= start(beds, "--no-requeue")  # type: ignore[arg-type]
    (launch.folder / "configs/site").mkdir(parents=True)
    profile = (ROOT / "configs/site/bed.yaml").read_text() + "\nskip: [requeue]\n"
    (launch.folder / "configs/site/strict.yaml").write_text(profile)
    words = ["--nice", "5", "--sbatch", "--begin=now --exclusive"]
    run, watcher = under_way(launch, "count", "n=6", "--nodes", "2", *words, on="strict")
    assert "--begin=now" in launch("export", run.name).stdout
    signal_batch(launch, run, "USR2")
    launch.wait_for(lambda: len(records.submissions(run)) == 2, "a job follows")
    second = records.submissions(run)[1]["job"]
    launch.wait_for(lambda: len(list(run.jobs.glob("attempt-*"))) == 2, "it has begun")
    assert (shown(launch, second)["Nice"], shown(launch, second)["OverSubscribe"]) == ("5", "NO")
    assert "begin" not in run.script.read_text()
    finishes(launch, run, watcher)


def test_every_element_of_an_array_has_them(on_bed: Launch) -> None:
    on_bed("sweep", "count", "n=1..2", "hold_at=0", "--nice", "7", "--on", "bed")
    runs = [RunDir(path) for path in on_bed.runs()]
    for run in runs:
        on_bed.wait_for(lambda run=run: run.attempts.parent.exists() and list(run.jobs.glob("attempt-*")), "it runs")
    assert {shown(on_bed, records.submissions(run)[0]["job"])["Nice"] for run in runs} == {"7"}
    open_gate(*runs)
    on_bed.wait_for(lambda: all(run.result.exists() for run in runs), "both are finished")


def test_a_bad_node_that_the_user_insists_on_is_no_job_that_waits_for_ever(on_bed: Launch) -> None:
    words = ["count", "n=1", "kill_on=n2", "--nodes", "2", "--nodelist", "n1,n2", "--on", "bed", "--follow"]
    watcher = on_bed.start(*words)
    out = output_of(watcher)
    assert watcher.returncode == 1 and "n2" in out, out
    assert {line["outcome"] for line in attempts(only_run(on_bed.folder))} == {"crashed"}


def test_ranks_of_two_nodes_run_in_the_image_and_again_after_a_requeue(on_bed: Launch) -> None:
    site = by_stand_in(on_bed, "bed")
    words = ["count", "n=6", "--nodes", "2", "--container", "env.sif"]
    run, watcher = under_way(on_bed, *words, on=site)
    signal_batch(on_bed, run, "USR2")
    finishes(on_bed, run, watcher)
    noted = calls(on_bed)
    assert len(noted) == 8, "four ranks, twice"
    assert all(call["image"] == f"{on_bed.folder}/env.sif" for call in noted)
    assert [line["outcome"] for line in attempts(run)] == ["stopped", "finished"]


def test_an_image_that_is_not_there_is_named_by_the_run(on_bed: Launch) -> None:
    site = by_stand_in(on_bed, "bed")
    (on_bed.folder / "bin/apptainer").write_text(
        "#!/bin/sh\necho 'FATAL:   could not open image: no such file'; exit 255\n"
    )
    done = on_bed("count", "n=3", "--nodes", "2", "--container", "env.sif", "--on", site, "--follow", code=1)
    assert "could not open image: no such file" in on_bed("logs", only_run(on_bed.folder).name).stdout, done.stdout


def test_a_rank_in_a_real_container_is_killed_and_the_job_goes_on(on_bed: Launch, podman: "os.PathLike[str]") -> None:
    site = in_podman(on_bed, podman, "bed")  # type: ignore[arg-type]
    run, watcher = under_way(on_bed, "count", "n=6", "--nodes", "2", on=site)
    ranks = workers(run.path)
    assert len({os.readlink(f"/proc/{pid}/ns/mnt") for pid in ranks}) == 4, "each in a container of its own"
    os.kill(ranks[0], signal.SIGKILL)
    finishes(on_bed, run, watcher)
    assert [line["outcome"] for line in attempts(run)] == ["crashed", "finished"]
    assert "SIGKILL" in texts(run) or "137" in texts(run), texts(run)
    assert committed_steps(run.checkpoints)
    on_bed.wait_for(lambda: not workers(run.path), "no container is left")
