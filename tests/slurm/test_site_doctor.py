"""hpc doctor probes beds that are as unkind as real clusters; runs come to their end with the profiles that it writes.

Each bed is probed with what it is unkind about, as each probe takes its seconds.
"""

import signal
import subprocess
from pathlib import Path

import pytest

from hpc import config
from hpc.site import profile
from tests.conftest import Launch
from tests.slurm.test_bed import Beds, beds, start
from tests.slurm.test_strict import accounting
from tests.waiting import output_of, said_first

__all__ = ["beds"]  # fixtures
pytestmark = pytest.mark.slurm


def runs_with(launch: Launch, file: str, *words: str) -> None:
    """A profile passes its own checks, and a run of two nodes comes to its end with it."""
    site = profile.load(str(launch.folder / file))
    assert site.kind == "slurm" and site.partition == "cpu" and set(site.partitions) == {"cpu", "gpu", "low", "high"}
    assert "total             6" in launch("count", "n=3", "--nodes", "2", "--on", file, "--follow", *words).stdout


def said(launch: Launch, *words: str, code: int = 0) -> str:
    """What `hpc doctor` prints, in one line."""
    return " ".join(launch("doctor", *words, code=code).stdout.split())


def has_cgroups(launch: Launch) -> bool:
    return (Path(launch.environ["SLURM_CONF"]).parent / "cgroup").exists()


def test_on_a_strict_site(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--like", "strict", "--nodes", "2")
    del launch.environ["HPC_SITE"]  # local, for other tests
    out = said(launch, "nodes", "requeue", "-o", "strict.yaml")
    assert "this is the site bed; --on bed starts from its profile" in out
    assert "as the epilog outlasts it: at the end of its walltime a run goes on in a new job" in out
    assert "Jobs get nothing of your environment (--export=NONE)" in out
    assert "Slurm would end all tasks 5 s after the first has ended (WaitTime): our srun says --wait=0" in out
    assert "An array has at most 101 elements (MaxArraySize)" in out
    assert "Not probed yet: python, signal, gpus" in out
    if has_cgroups(launch):
        assert "Memory is enforced (a task with --mem=150M took 450 MB and was ended" in out
    text = (launch.folder / "strict.yaml").read_text()
    assert "account: {required: false}  # `sbatch --test-only` takes a job without one" in text
    assert "# lead" not in text and "KILL 30 s later (KillWait)" in text
    assert config.load([launch.folder / "strict.yaml"])["env"] == {"GLOO_SOCKET_IFNAME": "lo"}  # one machine
    runs_with(launch, "strict.yaml")


def test_on_a_site_that_wants_an_account_and_powers_its_nodes_down(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--like", "plgrid", "--nodes", "2", "--boot", "1")
    refused = launch("doctor", code=2).stderr
    assert "does not take a job of one minute in the partition cpu: no account is given" in refused
    assert "Say --account NAME" in refused
    words = ["python", "nodes", "--account", "grant", "-o", "grant.yaml"]
    out = said(launch, *words)
    assert "Each job needs an account" in out and "Idle nodes are powered down" in out
    assert "Jobs in the partition low are cancelled where another one preempts them" in out
    if accounting(launch):
        assert "The QOS normal takes 10 jobs of a user at a time" in out
        assert config.load([launch.folder / "grant.yaml"])["partitions"]["cpu"]["max_time"] == "08:00:00"
    runs_with(launch, "grant.yaml", "--account", "grant")

    again = said(launch, *words)
    assert again.count("probed before, by job") == 2 and "has begun" not in again
    (launch.folder / "grant.yaml").write_text("kind: slurm  # by hand\n")
    assert "not as hpc doctor wrote it: give another -o FILE" in launch("doctor", *words, code=2).stderr


def test_on_a_bare_site_it_is_stopped_and_goes_on(launch: Launch, beds: Beds) -> None:
    launch.environ |= start(beds, "--like", "bare", "--nodes", "2")
    words = ["signal", "requeue", "gpus", "-o", "bare.yaml"]
    stopped = launch.start("doctor", *words)
    before = said_first(stopped, "signal: job")
    job = before.split("signal: job ")[1].split()[0]
    said_first(stopped, "has begun")
    stopped.send_signal(signal.SIGINT)
    assert "Stopped. The jobs go on; the same line takes them up again" in output_of(stopped)

    out = said(launch, *words)
    assert f"signal: job {job} " in out or f"by job {job} " in out
    assert "JobRequeue is 0, so jobs of others are not requeued; ours ask for it (--requeue), and it works" in out
    assert "Slurm counts GPUs here, but the nodes have none: ranks compute on CPUs" in out
    assert "There is no accounting (sacct: " in out
    text = " ".join((launch.folder / "bare.yaml").read_text().replace("#", "").split())
    assert "asked for 30 s before the end, USR2 came" in text and "the tasks see 2, 2" in text
    assert profile.load(str(launch.folder / "bare.yaml")).gpu == "imitated"
    runs_with(launch, "bare.yaml", "--gpus", "2")

    blocks = ["sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1000"]
    done = subprocess.run(blocks, env=launch.environ, check=True, capture_output=True, text=True)
    late = said(launch, "nodes", "--wait", "1s", "-o", "bare.yaml", code=75)
    assert "has not begun within 1s (Slurm's reason: " in late and "It stays in the queue" in late
    subprocess.run(["scancel", done.stdout.strip()], env=launch.environ, check=True)
