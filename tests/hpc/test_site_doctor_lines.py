"""What hpc doctor makes of what it has seen: lines with evidence, sentences, and a file that passes the checks."""

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hpc import config
from hpc.doctor import doctor, looks, profile_file, slurm_facts
from hpc.doctor.lines import Evidence, Line, lines
from hpc.doctor.sentences import sentences
from hpc.doctor.slurm_facts import Facts
from hpc.errors import ConfigError
from hpc.slurm.commands import Answer
from tests.conftest import Launch
from tests.hpc.test_refresh import NODES, PARTITIONS, SETTINGS

SITE = SETTINGS + "SLURM_VERSION = 23.11.1\nKillWait = 30 sec\nWaitTime = 0 sec\nEpilog[0] = (null)\nJobRequeue = 1\n"


class Slurm:
    """Answers as Slurm does on a site where the type of GPUs must be said, and an account."""

    def __init__(self, settings: str = SITE) -> None:
        self.settings = settings
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *command: str, patience_s: float = 1.0, text: str | None = None) -> Answer:
        self.asked.append(command)
        if command[0] == "sbatch":
            return self.test_only(command)
        known = {"partition": PARTITIONS, "config": self.settings}
        out = NODES if command[0] == "sinfo" else known.get(command[-1], "")
        if "assoc" in command:
            out = "hpc-7|normal\n"
        if "qos" in command:
            out = "normal|12:00:00|40||\nother|1:00||||\n"
        return Answer(1, "", "Slurm accounting storage is disabled") if command[0] == "sacct" else Answer(0, out, "")

    def test_only(self, command: tuple[str, ...]) -> Answer:
        if not any(word.startswith("--account") for word in command):
            return Answer(1, "", "Invalid account or account/partition combination specified")
        if "--gres=gpu:1" in command:
            return Answer(1, "", "the type of the GPU must be said")
        return Answer(0, "", "Job 1 to start at 2026-11-29T23:40:49 using 1 processors on nodes g1 in partition gpu")


@pytest.fixture
def facts() -> Facts:
    return slurm_facts.ask({"account": "hpc-7"}, None, Slurm())


def disk(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "path": path, "kind": "xfs", "free_gb": 100.0, "mb_s": 500.0, "files_s": 4000.0} | more


def way(name: str, mb_s: float, error: str = "") -> dict[str, Any]:
    return {"name": name, "address": "10.0.0.1", "mbit": None, "mb_s": mb_s, "error": error}


def seen_of(**more: Any) -> dict[str, dict[str, Any]]:
    runs = disk("the run folder", "/lustre/me/runs", kind="lustre", seen_elsewhere=True)
    scratch = disk("$SCRATCH", "/lustre/me", kind="lustre", seen_elsewhere=True)
    local = disk("$TMPDIR_LOCAL", "/mnt/lscratch/1", mb_s=2000.0, seen_elsewhere=False)
    memory = disk("/dev/shm", "/dev/shm", kind="tmpfs", seen_elsewhere=False)
    node = {"host": "g1", "disks": [runs, scratch, local, memory], "ways": [way("eno1", 110), way("ib0", 2900)]}
    nodes = {
        "host": "g1", "job": "7", "gets_environment": True, "export": "", "scontrol": "", "sbatch": "", "silent": "",
        "cores": {"machine": 64, "usable": 1, "given": 1}, "nodes": {"g1": node},
        "memory": {"asked_mb": 150, "used_mb": 450, "survived": False, "is_oom": True, "seconds": 1},
    }  # fmt: skip
    batch = {"n": 2, "hidden_by": "", "nvidia": 2, "amd": False, "driver": "driver 550 of NVIDIA"}
    seen: dict[str, dict[str, Any]] = {
        "nodes": nodes | more,
        "requeue": {"host": "g1", "job": "8", "left": 1.0, "again_after_s": 6.0},
        "signal": {"host": "g1", "job": "9", "asked_s": 30, "signal": "SIGUSR2", "lead_s": 41, "limit": ""},
        "gpus": {"host": "g1", "job": "10", "asked": 2, "tasks": [{"n": 2}, {"n": 2}], "batch": batch, "error": ""},
    }
    return seen


def values_of(evidence: Evidence) -> dict[str, Any]:
    made = profile_file.values(lines(evidence, "2026-11-29"))
    profile_file.checked(made, "zoo")
    return made


def test_a_profile_holds_what_was_seen_and_each_line_says_how(facts: Facts, tmp_path: Path) -> None:
    evidence = Evidence(facts, seen_of(), {})
    made = values_of(evidence)
    assert made["account"] == {"required": True} and made["gpu"] == "nvidia"
    assert made["gpu_request"] == "--gres=gpu:hopper:{gpus}"  # the only one that sbatch takes
    assert made["fabric"] == "ib" and made["lead"] == "2m"
    assert made["storage"] == {"scratch_shared": "$SCRATCH", "scratch_local": ["$TMPDIR_LOCAL"]}  # not memory
    assert made["partitions"]["gpu"]["max_time"] == "3-00:00:00"
    text = profile_file.text(lines(evidence, "2026-11-29"), sentences(evidence), "2026-11-29")
    (path := tmp_path / "zoo.yaml").write_text(text)
    assert config.load([path]) == made
    assert "USR2 came 41 s before (job 9 on g1). TERM comes at the end, and KILL 30 s later (KillWait)" in plain(text)
    assert "it refuses --gres=gpu:1: the type of the GPU must be said" in plain(text)
    rows = text.split("\n\n", 1)[1].splitlines()
    bare = [row for above, row in pairwise(rows) if "#" not in row and not above.strip().startswith("#")]
    assert bare == ["partitions:", "storage:"], "each line has its evidence, beside it or above"


def plain(text: str) -> str:
    return " ".join(text.replace("#", "").split())


def test_what_was_not_seen_is_left_out_and_said(facts: Facts) -> None:
    evidence = Evidence(facts, {}, {"nodes": "job 7 has not begun within 10m"})
    made = values_of(evidence)
    assert not {"gpu", "fabric", "storage", "env"} & made.keys() and made["lead"] == "2m"
    said = sentences(evidence)
    assert "The probe `nodes` has no result: job 7 has not begun within 10m." in said
    assert said[-1].startswith("Not probed yet: python, signal, requeue, gpus.")


@pytest.mark.parametrize(
    ("probe", "seen", "key", "value", "sentence"),
    [
        ("signal", {"lead_s": 10}, "lead", "140s", ""),
        ("signal", {"signal": "SIGTERM", "lead_s": 0}, "lead", "2m", "does not arrive (SIGTERM came instead)"),
        ("requeue", {"refused": "Requested operation is presently disabled"}, "skip", ["requeue"],
         "A job cannot be requeued (Requested operation is presently disabled): at the end of its walltime a run goes"),
        ("requeue", {"held_s": 121, "reason": "BeginTime"}, "skip", None, "holds a requeued job for 121 s"),
        ("nodes", {"sbatch": "not allowed here"}, "skip", None, "sbatch does not work on the nodes (not allowed here)"),
        ("nodes", {"memory": {"asked_mb": 1, "used_mb": 3, "survived": True}}, "mem_gb", None, "is not enforced"),
        ("nodes", {"cores": {"machine": 64, "usable": 64, "given": 1}}, "cpus_per_rank", None,
         "Tasks are not bound to their cores (given 1, usable 64)"),
        ("gpus", {"tasks": [{"n": 1}, {"n": 1}]}, "gpu", "nvidia", "Each task sees one GPU, its own"),
    ],
)  # fmt: skip
def test_what_is_otherwise_is_a_sentence_with_what_happens_then(
    facts: Facts, probe: str, seen: dict[str, Any], key: str, value: Any, sentence: str
) -> None:
    usual = sentences(Evidence(facts, seen_of(), {}))
    everything = seen_of()
    everything[probe] |= seen
    evidence = Evidence(facts, everything, {})
    assert values_of(evidence).get(key) == value
    new = [each for each in sentences(evidence) if each not in usual]
    assert any(sentence in each for each in new) if sentence else new == []


def test_a_folder_of_runs_that_other_nodes_do_not_see_is_told_of(facts: Facts) -> None:
    seen = seen_of()
    seen["nodes"]["nodes"]["g1"]["disks"][0] |= {"kind": "xfs", "seen_elsewhere": False}
    said = sentences(Evidence(facts, seen, {}))
    assert any("does not see what another one writes to /lustre/me/runs (xfs)" in each for each in said)


def test_nodes_that_do_not_reach_each_other_are_told_of(facts: Facts) -> None:
    seen = seen_of()
    seen["nodes"]["nodes"]["g1"]["ways"] = [way("eno1", 0, "No route to host")]
    said = sentences(Evidence(facts, seen, {}))
    assert any("The nodes do not reach each other (eno1 No route to host)" in each for each in said)


def test_a_site_where_not_even_the_smallest_job_is_taken_says_what_to_do() -> None:
    with pytest.raises(
        ConfigError, match=r"in the partition gpu: Invalid account.*Say --account NAME \(yours are hpc-7"
    ):
        slurm_facts.ask({}, None, Slurm())
    with pytest.raises(ConfigError, match="--partition old: those that are up here are batch, gpu"):
        slurm_facts.ask({"account": "hpc-7"}, "old", Slurm())


def test_of_a_profile_that_is_there_what_was_not_seen_stays(facts: Facts) -> None:
    base = {
        "kind": "slurm", "description": "the zoo", "prologue": ["module load zoo"], "lead": "5m",
        "gpu_request": "--gpus={gpus}", "storage": {"home_gb": 50}, "missing": ["all"],
        "partitions": {"gpu": {"max_cpus_per_gpu": 16, "max_time": "9d"}},
    }  # fmt: skip
    upon = profile_file.upon(base, "zoo", lines(Evidence(facts, seen_of(), {}), "2026-11-29"))
    made = profile_file.values(upon)
    profile_file.checked(made, "zoo")
    assert made["description"] == "the zoo" and made["prologue"] == ["module load zoo"] and made["lead"] == "5m"
    assert made["gpu_request"] == "--gres=gpu:hopper:{gpus}" and "missing" not in made
    assert made["partitions"]["gpu"]["max_cpus_per_gpu"] == 16 and made["partitions"]["gpu"]["max_time"] == "3-00:00:00"
    assert made["storage"] == {"scratch_shared": "$SCRATCH", "scratch_local": ["$TMPDIR_LOCAL"], "home_gb": 50}
    text = profile_file.text(upon, [], "2026-11-29")
    assert text.count("storage:\n") == text.count("partitions:\n") == 1 and "as before, in the profile zoo" in text


def test_a_file_that_somebody_has_corrected_stays(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    text = profile_file.text([Line("kind", "slurm", "seen")], [], "2026-11-29")
    profile_file.write(path, text, replace=False)
    profile_file.write(path, text, replace=False)
    path.write_text(text.replace("seen", "I know it"))
    with pytest.raises(ConfigError, match="is not as hpc doctor wrote it, and stays: give another -o FILE"):
        profile_file.write(path, text, replace=False)
    profile_file.write(path, text, replace=True)
    assert path.read_text() == text


def test_disks_are_measured_and_left_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    places = looks.disks(
        str(tmp_path), ["$OF_PROFILE"], "", {"OF_PROFILE": str(tmp_path / "scratch"), "MYSCRATCH_X": "no"}
    )
    assert [place.name for place in places][:2] == ["the run folder", "$OF_PROFILE"]
    looks.measure(places[1])
    assert places[1].mb_s > 0 and places[1].files_s > 0 and places[1].locks and not places[1].error
    assert os.listdir(tmp_path / "scratch") == []
    gone = replace(places[1], path=str(tmp_path / "gone"))
    looks.measure(gone)
    assert gone.error == "No such file or directory"


def test_the_file_system_is_that_of_the_innermost_mount() -> None:
    mounts = "d / ext4 rw 0 0\nm:/x /lustre lustre rw 0 0\nn /lustre/tmp tmpfs rw 0 0\n"
    kinds = [looks.kind_of(path, mounts) for path in ("/home/me", "/lustre/me", "/lustre/tmp/7")]
    assert kinds == ["ext4", "lustre", "tmpfs"]


def test_without_a_slurm_it_looks_at_this_machine(launch: Launch, tmp_path: Path) -> None:
    launch.environ |= {"SLURM_CONF": str(tmp_path / "none")}
    out = launch("doctor", "-o", "here.yaml").stdout
    assert "There is no Slurm here (no sbatch, or no slurm.conf): this is about the machine itself" in out
    assert "torch" in (tmp_path / "here.yaml").read_text()
    assert not (launch.folder / "runs").exists()
    assert "total             6" in launch("count", "n=3", "--on", "here.yaml").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ndes"], "there is no probe 'ndes'. Did you mean 'nodes'?"),
        (["--on", "lem-gpu"], "the Slurm of lem-gpu is not on this machine, and doctor starts jobs there: give the "
         "line on its login node ui.wcss.pl"),
        (["--on", "none.yaml"], "--on: there is no file none.yaml; without .yaml it is the name of a site"),
        (["--on", "lem-gpu,lem-cpu"], "doctor looks at one site at a time"),
        (["--wait", "soon"], "cannot read the time 'soon'"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_said(launch: Launch, words: list[str], message: str) -> None:
    assert message in launch("doctor", *words, code=2).stderr


def test_where_gpus_must_be_asked_for_each_job_asks_for_them_once(tmp_path: Path) -> None:
    class OnlyGpus(Slurm):
        def test_only(self, command: tuple[str, ...]) -> Answer:
            if not any(word.startswith("--gres") for word in command):
                return Answer(1, "", "this partition is for GPUs")
            return super().test_only(command)

    facts = slurm_facts.ask({"account": "hpc-7"}, None, OnlyGpus())
    asked = doctor.Asked(None, None, {}, tmp_path, "", "10m", again=False, replace=False)
    gres = {probe.name: probe.options["gres"] for probe in doctor.probes_of(facts, None, asked)}
    assert gres == {**dict.fromkeys(("nodes", "python", "requeue", "signal"), "gpu:hopper:1"), "gpus": "gpu:hopper:2"}
    made = values_of(Evidence(facts, seen_of(), {}))
    assert made["partitions"]["gpu"]["gpu_only"] and made["gpus_per_node"] == 1
