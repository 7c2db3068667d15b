"""What administrators set on real clusters, and what a run makes of it. On `env/bed start --like strict`."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.runs import records
from tests.conftest import BED, ROOT, Launch, exported
from tests.slurm.test_bed import Beds, beds, own_beds, start
from tests.slurm.test_faults import heartbeat, signal_batch
from tests.slurm.test_runs import HELD, only_run, under_way
from tests.waiting import LONG_S, open_gate, output_of

__all__ = ["beds"]  # fixtures
pytestmark = [pytest.mark.slurm, pytest.mark.both_slurms]
WAIT_TIME_S = 5


@pytest.fixture(scope="module")
def strict(request: pytest.FixtureRequest, bed_options: list[str]) -> Iterator[dict[str, str]]:
    """The variables with which the commands of a strict bed work."""
    with own_beds(request, bed_options) as started:
        yield start(started, "--like", "strict", "--epilog", "0")


@pytest.fixture
def on_strict(launch: Launch, strict: dict[str, str]) -> Launch:
    launch.environ |= strict
    return launch


def sbatch(launch: Launch, *words: str) -> str:
    """Run a job to its end; return its output."""
    output = launch.folder / "said.txt"
    subprocess.run(
        ["sbatch", "--wait", f"--output={output}", *words], env=launch.environ, cwd=launch.folder, check=False,
        capture_output=True, timeout=LONG_S,
    )  # fmt: skip
    return output.read_text()


def test_jobs_get_nothing_of_the_environment(on_strict: Launch) -> None:
    on_strict.environ["OF_THE_USER"] = "is not passed on"
    said = sbatch(on_strict, "--wrap=env")
    assert "OF_THE_USER" not in said and "SLURM_EXPORT_ENV=NONE" in said


def test_a_run_needs_nothing_of_the_environment(on_strict: Launch) -> None:
    on_strict("count", "n=3", "--nodes", "2", "--ranks", "2", "--on", "bed", "--follow")


def test_a_job_is_kept_within_its_memory(on_strict: Launch, strict: dict[str, str]) -> None:
    """By the kernel, and at once: not by somebody who looks every few seconds."""
    if not (Path(strict["SLURM_CONF"]).parent / "cgroup").exists():
        pytest.skip("this machine has no cgroups that could be used, as env/bed has said")
    eats = "srun --export=ALL --kill-on-bad-exit=1 python3 -c 'x = bytearray(500 * 10**6); print(len(x))'"
    said = sbatch(on_strict, "--mem=200M", f"--wrap={eats}")
    assert "Out Of Memory" in said and "500000000" not in said
    assert "500000000" in sbatch(on_strict, "--mem=800M", f"--wrap={eats}")


def test_a_rank_may_work_for_longer_than_another_although_the_site_waits_5_s(on_strict: Launch) -> None:
    """WaitTime: srun would kill it. In an attempt without fork servers, which end together: after a failure at once."""
    words = ["count", "n=6", HELD, "hold_rank=1", "fail_once_at=1", "--ranks", "2", "--on", "bed", "--follow"]
    watcher = on_strict.start(*words)

    def first_is_through() -> bool:
        last = heartbeat(only_run(on_strict.folder), 0) if on_strict.runs() else {}
        return bool(last and last["attempt"] == 2 and last["done"] == 6)

    on_strict.wait_for(first_is_through, "rank 0 has come to its end")
    run = only_run(on_strict.folder)
    ended = heartbeat(run, 0)["time"]
    on_strict.wait_for(lambda: heartbeat(run, 1)["time"] > ended + 3 * WAIT_TIME_S or len(records.attempts(run)) > 1)
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out
    assert [line["outcome"] for line in records.attempts(run)] == ["crashed", "finished"]


def test_a_sweep_of_more_runs_than_an_array_may_have_is_refused_before_it_is_submitted(on_strict: Launch) -> None:
    done = on_strict("sweep", "count", "n=1..102", "--on", "bed", code=2)
    assert "102 runs of count would be one array, and bed takes 101" in done.stderr


def test_a_preempted_run_without_grace_goes_on_from_its_last_checkpoint(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--like", "strict", "--epilog", "0", "--grace", "0", "--cred-expire", "5")
    run, watcher = under_way(launch, "count", "n=6", "--nodes", "2", "--partition", "low", on="bed")
    high = ["sbatch", "--partition=high", "--nodes=4", "--exclusive", "--wrap=true", "--output=/dev/null"]
    subprocess.run(high, env=launch.environ, check=True, capture_output=True)
    launch.wait_for(run.attempt(2).start.exists, "it runs again")
    open_gate(run)
    out = output_of(watcher)
    assert watcher.returncode == 0 and "total             21" in out, out
    assert records.attempts(run)[-1]["from_step"] == 3


def test_on_a_site_that_wants_an_account_and_powers_its_nodes_down(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--like", "plgrid", "--boot", "1")

    def states(mark: str) -> bool:
        command = ["sinfo", "-h", "-N", "-p", "cpu", "-o", "%t"]
        said = subprocess.run(command, env=launch.environ, capture_output=True, text=True, check=False).stdout
        return set(said.split()) == {mark}

    assert "no account is given" in launch("count", "n=3", "--on", "bed", code=3).stderr
    launch.wait_for(lambda: states("idle~"), "all nodes are powered down")
    launch("count", "n=3", "--nodes", "2", "--on", "bed", "--account", "grant", "--follow")
    if accounting(launch):
        late = launch("count", "n=4", "--on", "bed", "--account", "grant", "--time", "9h", code=3)
        assert "QOSMaxWallDurationPerJobLimit" in late.stderr


def test_on_a_site_with_slow_ends_and_starts(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--like", "lumi", "--prolog", "1", "--epilog", "1")
    launch("count", "n=3", "--nodes", "2", "--on", "bed", "--account", "grant", "--follow")


def test_on_a_site_that_does_not_requeue_it_goes_on_as_a_new_job(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--like", "bare")
    (launch.folder / "configs/site").mkdir(parents=True)
    profile = (ROOT / "configs/site/bed.yaml").read_text() + "\nskip: [requeue]\n"
    (launch.folder / "configs/site/bare.yaml").write_text(profile)
    run, watcher = under_way(launch, "count", "n=6", "--nodes", "2", on="bare")
    signal_batch(launch, run, "USR2")
    launch.wait_for(run.attempt(2).start.exists, "it runs again")
    open_gate(run)
    output_of(watcher)
    assert watcher.returncode == 0 and len(records.submissions(run)) == 2


def accounting(launch: Launch) -> bool:
    """Whether this bed has it: its packages can be had."""
    return "slurmdbd" in Path(launch.environ["SLURM_CONF"]).read_text()


def test_the_books_say_how_jobs_ended(on_strict: Launch) -> None:
    if not accounting(on_strict):
        pytest.skip("no accounting here, as env/bed has said")
    sbatch(on_strict, "--job-name=in-the-books", "--wrap=exit 3")
    command = ["sacct", "-n", "-X", "-P", "--name=in-the-books", "-o", "State,ExitCode"]

    def books() -> str:
        return subprocess.run(command, env=on_strict.environ, capture_output=True, text=True, check=True).stdout.strip()

    on_strict.wait_for(lambda: books() == "FAILED|3:0", "the books have it")


def test_what_the_machine_cannot_enforce_is_said(bed_options: list[str], beds: Beds) -> None:
    done = subprocess.run(
        [*BED, "start", *bed_options, "--like", "strict", "--cpus", "1000"], capture_output=True, text=True, check=True
    )
    beds.append(str(Path(exported(done.stdout)["SLURM_CONF"]).parent))
    assert re.search(r"not on this machine: binding to cores \(nodes pretend 1000 cores, and here are \d+", done.stderr)
