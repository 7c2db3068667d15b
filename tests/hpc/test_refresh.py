"""A profile is written from the output of Slurm: from recorded text, and from the test bed."""

import os
from datetime import date
from pathlib import Path

import pytest

from hpc import config
from hpc.errors import ConfigError
from hpc.site import allocation, refresh
from hpc.site.profile import Site
from hpc.slurm.commands import Answer

PARTITIONS = """\
PartitionName=batch AllowGroups=ALL Default=NO DefaultTime=00:30:00 MaxNodes=UNLIMITED MaxTime=12:00:00 Nodes=c[1-9] \
State=UP TotalCPUs=1152 TotalNodes=9 TRES=cpu=1152,mem=4T,node=9
PartitionName=gpu AllowGroups=ALL Default=YES MaxNodes=4 MaxTime=3-00:00:00 Nodes=g[1-8] State=UP TotalNodes=8 \
TRES=cpu=512,mem=8000G,node=8,gres/gpu=32
PartitionName=old Default=NO MaxNodes=1 MaxTime=UNLIMITED State=DOWN TotalNodes=1
"""
NODES = """\
batch|8|128|257000|(null)
batch|1|64+|515000+|(null)
gpu|8|64|1000000|gpu:hopper:4(S:0-1),storage:local:7000G
old|1|4|8000|gpu:kepler:1
"""
SETTINGS = "Configuration data as of 2026-11-20\nAccountingStorageHost = db\nClusterName             = zoo\n"


class Slurm:
    """Answers as scontrol and sinfo would."""

    def __init__(self, **answers: str) -> None:
        self.answers = {"partition": PARTITIONS, "config": SETTINGS, "sinfo": NODES} | answers

    def __call__(self, *command: str, patience_s: float) -> Answer:
        answer = self.answers["sinfo" if command[0] == "sinfo" else command[-1]]
        return Answer(1 if "error" in answer else 0, answer, answer)


def test_a_profile_holds_what_slurm_says(tmp_path: Path) -> None:
    path = refresh.write("zoo", tmp_path / "site", Slurm())
    values = config.load([path])
    assert values["partition"] == "gpu" and values["gpu_request"] == "--gres=gpu:hopper:{gpus}"
    assert values["partitions"] == {
        "batch": {"max_time": "12:00:00", "max_nodes": 9, "gpus_per_node": 0, "max_cpus_per_node": 128,
                  "max_mem_gb_per_node": 502},
        "gpu": {"max_time": "3-00:00:00", "max_nodes": 4, "gpus_per_node": 4, "max_cpus_per_node": 64,
                "max_mem_gb_per_node": 976},
    }  # fmt: skip
    assert (values["status"], values["verified_on"]) == ("user-observed", date.today().isoformat())
    zoo = config.build(Site, values | {"name": "zoo"}, "zoo")
    assert zoo.detect.fits({}, "", "zoo") and not zoo.detect.fits({}, "", "zoo2")
    with pytest.raises(ConfigError, match="--time 4d is more than the 3-00:00:00 of zoo, partition gpu; ask for less"):
        allocation.fit(zoo, allocation.Request(time="4d"))
    asked = allocation.fit(zoo, allocation.Request(nodes=4, gpus=4))
    assert allocation.sbatch_options(zoo, asked) == {"gres": "gpu:hopper:4"}
    assert "written on" in path.read_text().lower().split("\n")[0]


def test_several_types_of_gpu_are_told_of() -> None:
    nodes = NODES.replace("gpu|8|64", "gpu|1|64|1000|gpu:ampere:2,gpu:hopper:2\ngpu|7|64")
    values = refresh.profile(PARTITIONS, nodes, "", date(2026, 11, 21))
    assert values["gpu_request"] == "--gres=gpu:{gpus}" and "detect" not in values
    assert values["remember"] == ["GPUs here are ampere, hopper: name one in gpu_request, gpu:TYPE:{gpus}"]
    assert values["max_gpus_per_node"] == 4


def test_a_profile_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    path = refresh.write("zoo", tmp_path, Slurm())
    path.write_text("kind: slurm  # corrected by hand\n")
    with pytest.raises(ConfigError, match="zoo.yaml is there already: give another name, or say --replace"):
        refresh.write("zoo", tmp_path, Slurm())
    assert "by hand" in path.read_text()
    refresh.write("zoo", tmp_path, Slurm(), replace=True)
    assert "by hand" not in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["zoo.yaml"]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"partition": "slurm_load_partitions error: Unable to contact"},
         "cannot ask Slurm with `scontrol --oneliner show partition`: slurm_load_partitions error: Unable to contact"),
        ({"partition": "No partitions in the system\n"}, "names no partition that is up; it says: 'No part"),
    ],
)  # fmt: skip
def test_what_slurm_does_not_answer_leaves_no_file(answers: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        refresh.write("zoo", tmp_path, Slurm(**answers))
    assert list(tmp_path.iterdir()) == []


def test_without_slurm_it_says_where_to_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no scontrol here. Say it on the cluster's login node"):
        refresh.write("zoo", tmp_path)
    with pytest.raises(ConfigError, match="a site's name is letters"):
        refresh.write("../zoo", tmp_path)


@pytest.mark.slurm
def test_a_real_slurm_describes_itself(slurm: str, tmp_path: Path) -> None:
    path = refresh.write("found", tmp_path)
    found = config.build(Site, config.load([path]) | {"name": "found"}, "found")
    assert allocation.fit(found, allocation.Request(account="any")).partition == found.partition
    if slurm == "bed":
        assert list(found.partitions) == ["cpu", "gpu", "low", "high"]
        assert (found.max_nodes, found.max_gpus_per_node) == (4, 2)
        assert found.detect.fits({}, "", "bed")
        assert allocation.detect(os.environ) == "bed"
