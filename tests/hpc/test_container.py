"""Ranks in a container: which words start them, what they see in there, and that they compute the same."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, read_json
from hpc.site.container import Container
from hpc.supervise import in_container
from tests.conftest import Launch
from tests.containers import IMAGE, MARKER, by_stand_in, calls, in_podman, podman, workers
from tests.waiting import open_gate, output_of

__all__ = ["podman"]  # a fixture


def plan_with(runtime: str, gpu: str = "nvidia", gpus: int = 4, **own: object) -> dict[str, Any]:
    """What plan.json says of a run whose folders are not here."""
    container = {"runtime": runtime, "python": "python3", "binds": ["$DATA:/data:ro"], "options": ["--one"]} | own
    site = {"gpu": gpu, "container": container, "storage": {"scratch_local": ["$TMPDIR_LOCAL"]}}
    resources = {"container": "/images/env.sif", "gpus_per_node": gpus, "account": "", "stage": "auto"}
    return {"site": site, "resources": resources, "cwd": "/nowhere/study", "inputs": {}, "python": sys.executable}


RANK = ["env", "PYTHONPATH=/code", "python3", "-m", "hpc.worker"]
ENVIRON = {"DATA": "/lab/data"}
RUNS = Path("/nowhere/runs")


@pytest.mark.parametrize(
    ("gpu", "gpus", "words"), [("nvidia", 4, ["--nv"]), ("amd", 8, ["--rocm"]), ("nvidia", 0, []), ("imitated", 2, [])]
)
@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
def test_apptainer_gets_gpus_folder_mounts_options_and_the_command(
    runtime: str, gpu: str, gpus: int, words: list[str]
) -> None:
    plan = plan_with(runtime, gpu, gpus)
    assert in_container.wrapped(RANK, plan, RUNS, ENVIRON) == [
        runtime, "exec", *words, "--pwd", "/nowhere/study", "--bind", "/lab/data:/data:ro", "--one", "/images/env.sif",
        *RANK,
    ]  # fmt: skip
    assert in_container.srun_words(plan, RUNS, ENVIRON) == []


@pytest.mark.parametrize(
    ("gpu", "words"), [("nvidia", ["--device=nvidia.com/gpu=all"]), ("amd", ["--device=/dev/kfd", "--device=/dev/dri"])]
)
def test_podman_isolates_nothing_that_ranks_share(gpu: str, words: list[str]) -> None:
    command = in_container.wrapped(RANK, plan_with("podman", gpu), RUNS, ENVIRON)
    assert command[-7:] == ["--one", "/images/env.sif", *RANK]
    assert {"--network=host", "--ipc=host", "--uts=host", "--cgroups=disabled", "--env-host", *words} <= set(command)
    assert "--volume=/lab/data:/data:ro" in command and "--workdir=/nowhere/study" in command


def test_pyxis_is_a_matter_of_srun(tmp_path: Path) -> None:
    plan = plan_with("pyxis", options=["--container-mount-home"]) | {"cwd": str(tmp_path)}
    assert in_container.wrapped(RANK, plan, tmp_path / "runs", ENVIRON) == RANK
    assert in_container.srun_words(plan, tmp_path / "runs", ENVIRON) == [
        "--container-image=/images/env.sif", f"--container-mounts={tmp_path}:{tmp_path},/lab/data:/data:ro",
        f"--container-workdir={tmp_path}", "--container-mount-home",
    ]  # fmt: skip


def test_without_an_image_a_rank_is_started_as_ever() -> None:
    plan = plan_with("apptainer")
    plan["resources"]["container"] = ""
    assert in_container.wrapped(RANK, plan, RUNS, ENVIRON) == RANK
    assert in_container.python(plan) == sys.executable
    del plan["resources"]["container"], plan["site"]["container"]  # a plan of an earlier version
    assert in_container.wrapped(RANK, plan, RUNS, ENVIRON) == RANK and in_container.srun_words(plan, RUNS, {}) == []


def test_mounted_is_what_a_run_reads_and_writes_and_each_place_once(tmp_path: Path) -> None:
    study, disk, own, local, lab = (tmp_path / name for name in ("study", "disk", "own", "local", "lab"))
    for folder in (study / "data", disk / "runs", own, local, lab):
        folder.mkdir(parents=True)
    (study / "runs").symlink_to(disk / "runs")
    (study / "linked").symlink_to(lab)
    plan = plan_with("apptainer", binds=[]) | {"cwd": str(study)}
    plan["inputs"] = {"study": f"{study}/linked", "more": "./data", "gone": f"{tmp_path}/gone", "data": "train-abc"}
    environ = {"TMPDIR_LOCAL": str(local), "PYTHONPATH": f"{own}:relative", "HPC_SECRETS": f"{tmp_path}/secrets"}
    (tmp_path / "secrets").write_text("")
    assert in_container.binds(plan, study / "runs", environ) == [
        str(disk / "runs"), f"{lab}:{lab}:ro", str(local), f"{own}:{own}:ro",
        f"{tmp_path}/secrets:{tmp_path}/secrets:ro", str(study),
    ]  # fmt: skip


def test_home_is_mounted_where_a_runtime_does_not_do_that_itself(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "HPC_SECRETS": "/nowhere/secrets"}
    assert in_container.binds(plan_with("podman", binds=[]), RUNS, environ) == [str(tmp_path)]
    assert in_container.binds(plan_with("apptainer", binds=[]), RUNS, environ) == [], "--no-home in options counts"


def test_what_is_written_below_a_place_that_is_only_read_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "lab/study").mkdir(parents=True)
    plan = plan_with("apptainer", binds=[]) | {
        "cwd": str(tmp_path / "lab/study"),
        "inputs": {"data": f"{tmp_path}/lab"},
    }
    whole, own = tmp_path / "lab", tmp_path / "lab/study"
    assert in_container.binds(plan, own / "runs", {"HPC_SECRETS": "/nowhere/secrets"}) == [
        f"{whole}:{whole}:ro",
        str(own),
    ]


@pytest.mark.parametrize(
    ("runtime", "image", "chosen"),
    [
        ("apptainer", "env.sif", "/study/env.sif"),
        ("apptainer", "../images/sandbox", "/images/sandbox"),
        ("apptainer", "docker://python:3.11", "docker://python:3.11"),
        ("podman", "localhost/env:1", "localhost/env:1"),
        ("pyxis", "nvcr.io#nvidia/pytorch:25.01-py3", "nvcr.io#nvidia/pytorch:25.01-py3"),
        ("pyxis", "env.sqsh", "/study/env.sqsh"),
        ("apptainer", "none", ""),
        ("apptainer", None, "/profile.sif"),
    ],
)
def test_an_image_is_a_file_by_its_whole_path_or_a_name(runtime: Any, image: str | None, chosen: str) -> None:
    assert Container(image="/profile.sif", runtime=runtime).chosen(image, "/study") == chosen


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"binds": ("data",)}, "a bind is /a, /a:/b or /a:/b:ro, .* but got 'data'"),
        ({"binds": ("/a:/b:wr",)}, "but got '/a:/b:wr'"),
        ({"options": ("cleanenv",)}, "an option begins with -, .* but got 'cleanenv'"),
    ],
)
def test_a_profile_that_says_it_wrong_is_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Container(**own)


@pytest.mark.ranks
def test_a_killed_rank_is_started_again_in_the_image_and_the_sum_is_the_same(launch: Launch) -> None:
    by_stand_in(launch)
    words = ["count", "n=6", "kill_at=3", "--ranks", "2", "--container", "env.sif", "--on", "boxed"]
    done = launch(*words)
    assert "ranks in" in done.stdout and "total             21" in done.stdout
    (path,) = launch.runs()
    run = RunDir(path)
    assert [line["outcome"] for line in records.attempts(run)] == ["crashed", "finished"]
    for call in calls(launch):
        assert call["image"] == f"{launch.folder}/env.sif" and call["cwd"] == str(launch.folder)
        command: Any = call["command"]
        assert command[:3] == ["env", command[1], sys.executable] and "-PBs" in command
        assert f"{path}/code/code.zip" in command, "it runs the snapshot"


def test_a_run_keeps_its_image_and_can_be_without_it_the_next_time(launch: Launch) -> None:
    by_stand_in(launch, "slurm")
    done = launch("count", "n=3", "--container", "env.sif", "--on", "boxed", "--prepare").stdout
    assert f"image   {launch.folder}/env.sif, by apptainer" in done
    (path,) = launch.runs()
    assert f"image   {launch.folder}/env.sif" in launch("resume", path.name, "--dry-run").stdout
    assert "image   " not in launch("resume", path.name, "--container", "none", "--dry-run").stdout


def test_a_missing_image_or_runtime_is_told_before_anything_is_written(launch: Launch) -> None:
    site = by_stand_in(launch)
    missing = launch("count", "--container", "no.sif", "--on", site, code=2).stderr
    assert f"--container: there is no image {launch.folder}/no.sif" in missing
    launch.environ["PATH"] = "/usr/bin:/bin" if not Path("/usr/bin/apptainer").exists() else "/nowhere"
    refused = launch("count", "--container", "env.sif", "--on", site, code=2).stderr
    assert "apptainer, which boxed starts containers with, is not found here: install it, or set `container:" in refused
    inline = launch("count", "--container", "env.sif", "--on", "debug", code=2).stderr
    assert "debug runs in this process, in no container: say --container none" in inline
    assert launch.runs() == []


def test_a_drill_does_not_kill_by_numbers_that_mean_other_processes_outside(launch: Launch, podman: Path) -> None:
    site = in_podman(launch, podman)
    refused = launch("drill", "count", "n=6", "--on", site, "--faults", "kill9", code=2).stderr
    assert "podman gives processes other numbers than they have outside" in refused


@pytest.mark.ranks
def test_a_real_container_sees_the_image_and_the_run_and_survives_a_kill(launch: Launch, podman: Path) -> None:
    site = in_podman(launch, podman)
    watcher = launch.start("count", "n=6", "hold_at=3", "--ranks", "2", "--on", site, "--follow")
    launch.wait_for(lambda: launch.runs() and _is_held(RunDir(launch.runs()[0])), "both ranks are held")
    run = RunDir(launch.runs()[0])
    ranks = workers(run.path)
    namespaces = {os.readlink(f"/proc/{pid}/ns/mnt") for pid in [*ranks, os.getpid()]}
    assert len(ranks) >= 2 and len(namespaces) == 3, "each rank in a container of its own"
    assert all(Path(f"/proc/{pid}/root/{MARKER}").exists() for pid in ranks)
    os.kill(ranks[0], signal.SIGKILL)
    launch.wait_for(lambda: records.attempts(run), "the attempt is over")
    open_gate(run)
    assert "total             21" in output_of(watcher)
    first, second = records.attempts(run)
    assert (first["outcome"], second["outcome"]) == ("crashed", "finished")
    assert "SIGKILL" in first["why"], first
    assert (read_json(run.plan) or {})["resources"]["container"] == IMAGE
    launch.wait_for(lambda: not workers(run.path), "no container is left")


def _is_held(run: RunDir) -> bool:
    return len(list(run.attempt(1).path.glob("here-*"))) == 2 and bool(
        list(run.checkpoints.glob("step-00000003/COMMIT"))
    )
