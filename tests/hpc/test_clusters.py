"""One login node, several clusters: the one that starts first is taken, and each run is looked for where it is.

Slurm needs a database for that, so Slurm's commands are stand-ins here, each a few lines of shell, before clusters that
give their jobs the same numbers, and that answer for `--clusters` alone.
"""

import json
import shlex
from pathlib import Path

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir
from hpc.slurm.squeue import Queue
from tests.conftest import Launch

STAND_INS = {
    # Of a script, or the name of one, on the line: what it says is the cluster's, or that of this machine
    "sbatch": """\
        test -z "$SLURM_CLUSTERS$SBATCH_CLUSTERS" || exit 9
        case "$*" in *--test-only*) text=$(cat) ;; *) text=$(cat "$1") ;; esac
        cluster=$(printf '%s\\n' "$text" | sed -n 's/^#SBATCH --clusters=//p'); cluster=${cluster:-home}
        test -f "$HERE/$cluster" || { echo "sbatch: error: '$cluster' can't be reached now" >&2; exit 1; }
        case "$*" in
        *--test-only*)
            echo "sbatch: Job 7 to start at $(cat "$HERE/$cluster") using 1 processors on nodes ${cluster}1 in p" >&2 ;;
        *) echo "Submitted batch job 7 on cluster $cluster" ;;
        esac""",
    "squeue": """\
        test -z "$SLURM_CLUSTERS" || exit 9
        cluster=home
        for word in "$@"; do case "$word" in --clusters=*) cluster=${word#*=}; echo "CLUSTER: $cluster" ;; esac; done
        test -f "$HERE/$cluster" || { echo "squeue: error: no $cluster" >&2; exit 1; }
        cat "$HERE/$cluster.jobs" 2>/dev/null; true""",
    "scancel": 'echo "$*" >> "$HERE/cancelled"',
    "sacct": 'echo "$*" >> "$HERE/asked"; echo "7|OUT_OF_MEMORY"',
    "scontrol": "true",
    "srun": "true",
}


@pytest.fixture
def login_node(launch: Launch) -> Launch:
    """A login node with clusters `home`, its own, `near` and `far`; a cluster is there while its file is."""
    place = launch.folder / "bin"
    place.mkdir()
    for name, text in STAND_INS.items():
        (place / name).write_text(f"#!/bin/sh\nHERE={shlex.quote(str(launch.folder))}\n{text}\n")
        (place / name).chmod(0o755)
    (launch.folder / "slurm.conf").write_text("ClusterName=home\n")
    for name, start in (("home", "2031-01-01"), ("near", "2030-01-01"), ("far", "2032-01-01")):
        (launch.folder / name).write_text(f"{start}T00:00:00")
    (launch.folder / "configs/site").mkdir(parents=True)
    launch.environ |= {"PATH": f"{place}:{launch.environ['PATH']}", "SLURM_CONF": str(launch.folder / "slurm.conf")}
    return launch


def site(launch: Launch, name: str, more: str) -> None:
    (launch.folder / f"configs/site/{name}.yaml").write_text(f"kind: slurm\n{more}\n")


def queued(launch: Launch, cluster: str, name: str) -> None:
    (launch.folder / f"{cluster}.jobs").write_text(f"7|PENDING|Priority|2030-01-01T00:00:00|{name}\n")


def planned(launch: Launch, *words: str) -> dict[str, object]:
    plan: dict[str, object] = json.loads(launch("count", "n=3", *words, "--dry-run", "--json").stdout)[0]
    return plan


def test_slurm_clusters_is_respected_from_submission_to_the_end(login_node: Launch) -> None:
    login_node.environ["SLURM_CLUSTERS"] = "near"
    launched = login_node("count", "n=3", "--on", "slurm")
    assert "cluster near" in launched.stdout and "submitted" in launched.stdout
    (path,) = login_node.runs()
    (line,) = records.submissions(RunDir(path))
    assert (line["job"], line["cluster"]) == ("7", "near")
    queued(login_node, "near", path.name)
    del login_node.environ["SLURM_CLUSTERS"]  # in another shell
    assert json.loads(login_node("status", "--json").stdout)[0]["word"] == "queued"
    login_node("stop", path.name)
    assert (login_node.folder / "cancelled").read_text() == "--clusters=near 7\n"


def test_a_later_slurm_clusters_does_not_hide_a_run_of_this_machines_own(login_node: Launch) -> None:
    login_node("count", "n=3", "--on", "slurm")
    (path,) = login_node.runs()
    queued(login_node, "home", path.name)
    login_node.environ["SLURM_CLUSTERS"] = "near"
    assert json.loads(login_node("status", "--json").stdout)[0]["word"] == "queued"


def test_of_several_clusters_the_one_that_starts_first_is_taken_and_the_others_named(login_node: Launch) -> None:
    login_node.environ["SLURM_CLUSTERS"] = "far,near,gone"
    done = login_node("count", "n=3", "--on", "slurm", "--dry-run")
    assert "#SBATCH --clusters=near" in done.stdout
    assert "slurm (cluster near) starts first; slurm (cluster far) Thu 01 Jan 00:00 on far1" in done.stdout
    assert "slurm (cluster gone) not known, as Slurm says: 'gone' can't be reached now" in done.stdout


def test_of_several_sites_too_and_one_that_refuses_is_left_out(login_node: Launch) -> None:
    site(login_node, "b", "cluster: near\nmax_nodes: 4")
    site(login_node, "c", "cluster: far\nmax_nodes: 4")
    site(login_node, "small", "cluster: home")
    plan = planned(login_node, "--on", "c,b,small", "--nodes", "2")
    assert plan["site"]["name"] == "b" and plan["asked"]["on"] == "b"  # type: ignore[index]
    text = login_node("count", "n=3", "--on", "c,b,small", "--nodes", "2", "--dry-run").stdout
    assert "not taken into account: --nodes must be 1 on small, but got 2" in text
    assert "b (cluster near) starts first; c (cluster far) " in text
    (login_node.folder / "near").unlink()
    assert planned(login_node, "--on", "b,c")["site"]["name"] == "c"  # type: ignore[index]


def test_where_none_answers_the_first_named_is_taken_and_that_is_said(login_node: Launch) -> None:
    site(login_node, "b", "cluster: lost")
    site(login_node, "c", "cluster: gone")
    text = login_node("count", "n=3", "--on", "b,c", "--dry-run").stdout
    assert "b (cluster lost) is the first named; not known, as Slurm says: 'lost' can't be reached now" in text


def test_one_cluster_that_is_silent_does_not_hide_the_runs_of_another(login_node: Launch) -> None:
    site(login_node, "b", "cluster: near")
    site(login_node, "c", "cluster: far")
    login_node("count", "n=3", "--on", "b")
    login_node("count", "n=4", "--on", "c")
    names = {records.submissions(RunDir(path))[0]["cluster"]: path.name for path in login_node.runs()}
    queued(login_node, "near", names["near"])
    queued(login_node, "far", names["far"])
    (login_node.folder / "far").unlink()
    states = {state["run"]: state for state in json.loads(login_node("status", "--json").stdout)}
    assert "Priority" in states[names["near"]]["text"]
    assert "squeue does not answer: no far" in states[names["far"]]["text"]
    (login_node.folder / "far").touch()
    login_node("stop", *names.values(), "--yes")
    assert sorted((login_node.folder / "cancelled").read_text().split("\n")) == [
        "",
        "--clusters=far 7",
        "--clusters=near 7",
    ]


def test_how_a_job_ended_is_asked_of_its_cluster(login_node: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", login_node.environ["PATH"])
    assert Queue().ended(["7@near", "7"]) == {"7@near": "OUT_OF_MEMORY", "7": "OUT_OF_MEMORY"}
    asked = Path(login_node.folder / "asked").read_text().splitlines()
    assert asked == [f"{where}-n -X -P -j 7 -o JobID,State" for where in ("", "--clusters=near ")]


def test_no_run_waits_for_the_job_of_that_number_on_another_cluster(login_node: Launch) -> None:
    site(login_node, "b", "cluster: near")
    (login_node.folder / "study.yaml").write_text("count: {n: 3}\ntally: {of: count}\n")
    login_node("count", "study.yaml", "--on", "b")
    (path,) = login_node.runs()
    queued(login_node, "near", path.name)
    refused = login_node("pipeline", "study.yaml", "--on", "slurm", code=2).stderr
    assert (
        f"{path.name} is a job of the cluster near, and what follows it would be one of this machine's own" in refused
    )
    after = login_node("count", "n=9", "--after", path.name, "--on", "slurm", code=2).stderr
    assert "wait for its end, or say --on, or SLURM_CLUSTERS, of the same" in after
    assert "submitted tally" in login_node("pipeline", "study.yaml", "--on", "b").stdout


def test_several_sites_are_slurm_sites(login_node: Launch) -> None:
    refused = login_node("count", "--on", "slurm,local", "--dry-run", code=2).stderr
    assert "--on takes several Slurm sites, of which one is chosen, but local is none" in refused
