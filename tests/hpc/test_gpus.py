"""GPUs of a machine without a GPU library, and what ranks do that were given GPUs and see none."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hpc.rank import ddp
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir, write_json
from hpc.site import gpus as machine
from hpc.site import gpus_of_ranks as gpus
from hpc.site.gpus_of_ranks import Seen
from tests.ranks import in_ranks

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (builder)\nGCC version: 12\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("dev", "proc/driver/nvidia", "sys/module", "sys/class/kfd/kfd/topology/nodes"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def with_nvidia(root: Path, n: int) -> None:
    for name in (*map(str, range(n)), "ctl", "-uvm"):
        (root / f"dev/nvidia{name}").touch()
    (root / "proc/driver/nvidia/version").write_text(VERSION)


def with_amd(root: Path, n: int) -> None:
    (root / "dev/kfd").touch()
    (root / "sys/module/amdgpu").mkdir()
    (root / "sys/module/amdgpu/version").write_text("6.8.5\n")
    for number, gpu_id in enumerate(["0", "0", *(str(5000 + place) for place in range(n))]):  # two CPUs first
        node = root / f"sys/class/kfd/kfd/topology/nodes/{number}"
        node.mkdir()
        (node / "gpu_id").write_text(f"{gpu_id}\n")


def test_gpus_of_both_makers_are_counted_without_a_library(root: Path) -> None:
    assert machine.count({}, root) == 0
    with_nvidia(root, 4)
    assert machine.count({}, root) == 4
    assert machine.count({"CUDA_VISIBLE_DEVICES": "0,3"}, root) == 2
    assert machine.count({"CUDA_VISIBLE_DEVICES": "MIG-1,MIG-2"}, root) == 2
    assert machine.count({"CUDA_VISIBLE_DEVICES": ""}, root) == machine.count({"CUDA_VISIBLE_DEVICES": "-1"}, root) == 0
    assert machine.count({"CUDA_VISIBLE_DEVICES": "2,-1,0"}, root) == 1  # CUDA ignores what follows
    assert machine.driver(root) == "driver 580.65.06 of NVIDIA"


def test_on_amds_the_variables_of_rocm_count_and_all_of_them(root: Path) -> None:
    with_amd(root, 8)
    assert machine.count({}, root) == 8
    assert machine.count({"ROCR_VISIBLE_DEVICES": "0,1,2,3"}, root) == 4
    assert machine.count({"ROCR_VISIBLE_DEVICES": "0,1,2,3", "HIP_VISIBLE_DEVICES": "0"}, root) == 1
    assert machine.driver(root) == "driver amdgpu 6.8.5"
    assert machine.hidden_by({"ROCR_VISIBLE_DEVICES": "0"}) == "ROCR_VISIBLE_DEVICES='0'"


def test_a_driver_or_none_is_named(root: Path) -> None:
    assert machine.driver(root) == "no driver of a GPU"
    assert machine.hidden_by({}) == "no variable hides GPUs"


def a_program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}EOF\n")
    (folder / name).chmod(0o755)


def test_a_rank_notes_what_the_driver_says_of_an_error_of_its_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    a_program(tmp_path, "dmesg", "[1.5] usb 1-1: new\n[99.1] NVRM: Xid (PCI:0000:1a:00): 94, pid=9, Contained ECC\n")
    a_program(tmp_path, "nvidia-smi", "0, 0\n1, 2\n2, [N/A]\n")
    assert machine.notes_on("AcceleratorError: CUDA error: an illegal memory access was encountered") == [
        "NVRM: Xid (PCI:0000:1a:00): 94, pid=9, Contained ECC",
        "GPU 1: 2 uncorrected ECC errors since its last reset",
    ]
    assert machine.notes_on("KeyError: 'x'") == []
    (tmp_path / "dmesg").write_text(
        "#!/bin/sh\necho 'read kernel buffer failed: Operation not permitted' >&2; exit 1\n"
    )
    (tmp_path / "nvidia-smi").unlink()
    assert machine.notes_on("CUDA error: unknown error") == []


def seen(local_rank: int = 0, n_visible: int = 0, **other: Any) -> Seen:
    usual = {
        "host": "n1", "torch": "2.13.0", "built_for": "CUDA 13.0", "driver": "driver 580.65.06 of NVIDIA",
        "hidden_by": "CUDA_VISIBLE_DEVICES='0,1'",
    }  # fmt: skip
    return Seen(local_rank=local_rank, n_visible=n_visible, **(usual | other))


ASKED = "2 GPUs a node were asked for, and torch sees none on n1: torch 2.13.0"
ENDS = ". To compute on CPUs, say --gpus 0"


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (
            {"torch": "2.13.0+cpu", "built_for": ""},
            f"{ASKED}+cpu, built for CPUs only, driver 580.65.06 of NVIDIA, CUDA_VISIBLE_DEVICES='0,1'. Install a "
            f"torch with CUDA (env/setup.sh cuda) or ROCm{ENDS}",
        ),
        (
            {"driver": "driver 535.104.05 of NVIDIA"},
            f"{ASKED}, built for CUDA 13.0, driver 535.104.05 of NVIDIA, CUDA_VISIBLE_DEVICES='0,1'. CUDA 13 needs a "
            f"driver from 580 on: take a torch that is built for an older CUDA{ENDS}",
        ),
        (
            {"hidden_by": "CUDA_VISIBLE_DEVICES=''"},
            f"{ASKED}, built for CUDA 13.0, driver 580.65.06 of NVIDIA, CUDA_VISIBLE_DEVICES=''. That variable hides "
            f"all of them: did the job get GPUs, and does your shell set it?{ENDS}",
        ),
        (
            {"driver": "no driver of a GPU", "hidden_by": "no variable hides GPUs"},
            f"{ASKED}, built for CUDA 13.0, no driver of a GPU, no variable hides GPUs. Is it a node with GPUs? A "
            f"container shows them only if it is started so (apptainer exec --nv, or --rocm){ENDS}",
        ),
        (
            {"driver": "driver amdgpu 6.8.5", "hidden_by": "ROCR_VISIBLE_DEVICES='0'"},
            f"{ASKED}, built for CUDA 13.0, driver amdgpu 6.8.5, ROCR_VISIBLE_DEVICES='0'. This torch is for GPUs of "
            f"another maker: take one that is built for those of this node{ENDS}",
        ),
        (
            {},
            f"{ASKED}, built for CUDA 13.0, driver 580.65.06 of NVIDIA, CUDA_VISIBLE_DEVICES='0,1'. Look at nvidia-smi "
            f"or rocm-smi on that node{ENDS}",
        ),
    ],
)
def test_gpus_that_were_asked_for_and_are_not_there_are_explained(what: dict[str, Any], sentence: str) -> None:
    (problem,) = gpus.problems([seen(**what)], n_asked=2)
    assert problem == gpus.Problem(sentence, final=True)


def test_ranks_that_all_have_a_gpu_or_that_need_none_begin() -> None:
    own = [seen(rank, 1, uuid=f"GPU-{rank}") for rank in range(2)]  # each sees only its own
    all_of_the_node = [seen(rank, 2, uuid=f"GPU-{rank}") for rank in range(2)]
    assert gpus.problems(own, 2) == gpus.problems(all_of_the_node, 2) == [None, None]
    assert gpus.problems([seen(0), seen(1)], 0) == [None, None]
    other_node = [seen(0, 1, uuid="GPU-0"), seen(0, 1, uuid="GPU-0", host="n2")]  # a cloned image, two machines
    assert gpus.problems(other_node, 1) == [None, None]


def test_a_node_without_its_gpus_is_named_by_its_own_rank_only() -> None:
    blind, fine = gpus.problems([seen(host="n2", driver="no driver of a GPU"), seen(0, 1, uuid="GPU-0")], 1)
    assert blind is not None and fine is not None
    assert blind.why.startswith("this rank's node has no GPU for it: 1 GPU a node were asked for, and torch sees none")
    assert fine.why == "rank 0 on n2 has no GPU: that rank's error says why"
    assert not blind.final and not fine.final  # on other nodes it may work


def test_two_ranks_with_the_same_gpu_are_refused() -> None:
    same = [seen(rank, 1, uuid="GPU-7", gpu="NVIDIA H200") for rank in range(2)]
    why = (
        "ranks 0 and 1 on n1 have the same GPU, NVIDIA H200 (GPU-7): NCCL takes one rank a GPU. Ask for as many --gpus "
        "as --ranks a node (CUDA_VISIBLE_DEVICES='0,1')"
    )
    assert gpus.problems(same, 1) == [gpus.Problem(why, True)] * 2


def test_more_ranks_than_visible_gpus_are_refused() -> None:
    why = (
        "this rank is number 3 on n1, and 2 GPUs are visible there (CUDA_VISIBLE_DEVICES='0,1'). One GPU takes one "
        "rank: ask for as many --gpus as --ranks a node"
    )
    ranks = [seen(rank, 2, uuid=f"GPU-{rank % 2}") for rank in range(3)]
    assert gpus.problems(ranks, 2) == [gpus.Problem(why, True)] * 3


@pytest.mark.parametrize(
    ("n_ranks", "n_nodes", "seconds", "sentence"),
    [
        (8, 2, 5.2e-3, "NCCL 2.29.7 over 8 ranks on 2 nodes: 64 MB summed in 5.2 ms, 21.5 GB/s a rank"),
        (2, 1, 0.4e-3, "NCCL 2.29.7 over 2 ranks on 1 node: 64 MB summed in 0.4 ms, 160 GB/s a rank"),
        (
            2, 2, 0.6, "NCCL 2.29.7 over 2 ranks on 2 nodes: 64 MB summed in 600 ms, 0.107 GB/s a rank. That is slow "
            "for GPUs: has the site's profile its `fabric`? NCCL_DEBUG=INFO shows the network",
        ),
        (
            4, 1, 0.05, "NCCL 2.29.7 over 4 ranks on 1 node: 64 MB summed in 50 ms, 1.92 GB/s a rank. That is slow for "
            "one node: NCCL_DEBUG=INFO shows whether its GPUs reach each other directly",
        ),
    ],
)  # fmt: skip
def test_the_speed_of_the_network_is_a_sentence(n_ranks: int, n_nodes: int, seconds: float, sentence: str) -> None:
    assert gpus.speed("NCCL 2.29.7", n_ranks, n_nodes, 64_000_000, seconds) == sentence


def a_run(folder: Path, gpus_per_node: int, **site: str) -> Context:
    """A run that was given GPUs, as far as its plan goes."""
    run = RunDir(folder)
    resources = {"nodes": 1, "ranks_per_node": 2, "gpus_per_node": gpus_per_node}
    write_json(run.plan, {"site": {"name": "x", "kind": "local"} | site, "resources": resources, "asked": {}})
    return Context(World(), run, attempt=1, host="n1")


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")


@NO_GPU
def test_a_rank_that_was_given_gpus_does_not_compute_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 GPU a node were asked for, and torch sees none on n1"):
        ddp.device(a_run(tmp_path / "real", 1))
    assert ddp.device(a_run(tmp_path / "bed", 1, gpu="imitated")) == torch.device("cpu")
    assert ddp.device(a_run(tmp_path / "none", 0)) == torch.device("cpu")
    assert ddp.device(Context(World(), RunDir(tmp_path / "no plan"))) == torch.device("cpu")


def begin(rank: int, folder: Path, blind: bool) -> None:
    """A rank whose driver shows a GPU, but for rank 1 if it is `blind`. No rank comes as far as to use it."""
    if not blind or rank == 0:
        torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
        torch.cuda.get_device_properties = lambda index: type("H200", (), {"name": "NVIDIA H200", "uuid": "GPU-7"})
    run = RunDir(folder)
    kind = RuntimeError if blind else ValueError
    with pytest.raises(kind) as error:
        ddp.start(Context(World(rank, 2, rank, 2), run, attempt=1, host=f"n{rank}" if blind else "n0"))
    (folder / f"said-{rank}").write_text(str(error.value))
    os._exit(0)


@pytest.mark.ranks
@NO_GPU
@pytest.mark.parametrize("blind", [True, False])
def test_ranks_with_unlike_devices_end_before_they_wait_for_each_other(tmp_path: Path, blind: bool) -> None:
    a_run(tmp_path, 1)
    in_ranks(begin, 2, tmp_path, blind)
    first, second = ((tmp_path / f"said-{rank}").read_text() for rank in (0, 1))
    if blind:
        assert first == "rank 1 on n1 has no GPU: that rank's error says why"
        assert second.startswith(
            "this rank's node has no GPU for it: 1 GPU a node were asked for, and torch sees none on"
        )
    else:
        assert first == second and first.startswith("ranks 0 and 1 on n0 have the same GPU, NVIDIA H200 (GPU-7)")


def sum_up(rank: int, folder: Path) -> None:
    ctx = Context(World(rank, 2, rank, 2), RunDir(folder), attempt=1)
    where = ddp.start(ctx)
    (folder / f"said-{rank}").write_text(ddp.measured(ctx, where, n_bytes=1_000_000))
    assert ddp.read(torch.tensor([1.0, 2.5])) == [1.0, 2.5]
    ddp.stop()
    os._exit(0)


@pytest.mark.ranks
def test_the_network_between_ranks_is_measured(tmp_path: Path) -> None:
    in_ranks(sum_up, 2, tmp_path)
    assert (tmp_path / "said-0").read_text().startswith("gloo over 2 ranks on 1 node: 1 MB summed in ")


def test_what_nvidia_smi_says_of_broken_gpus(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As drivers 535 to 580 print it; a program that says it stands in for nvidia-smi."""
    monkeypatch.setenv("PATH", f"{root}:/usr/bin:/bin")

    def says(lines: str, code: int = 0) -> machine.Health:
        (root / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\nexit {code}\n")
        (root / "nvidia-smi").chmod(0o755)
        return machine.health(2, {}, root)

    assert machine.health(2, {}, root) == (None, []), "there is none"
    assert says("0, 0, No, Not Active\n1, [N/A], [N/A], Not Active") == ([], [])
    assert says("0, 0, No, Not Active").faults == ["1 of 2 GPUs are there"]
    assert says("0, 3, No, Not Active\n1, 0, Yes, Not Active").faults == [
        "GPU 0 has 3 uncorrected ECC errors since its last reset", "GPU 1 could not replace broken memory"
    ]  # fmt: skip
    assert says("0, 0, No, Active\n1, 0, No, Active") == (
        [],
        ["GPU 0, 1 is slowed down by its hardware: heat or power"],
    )
    lost = "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system"
    assert says(lost, 15).faults == [f"nvidia-smi says: {lost}"]
    assert says("No devices were found", 6).faults == ["nvidia-smi says: No devices were found"]
    assert says("Insufficient Permissions", 4) == (None, []), "that says nothing of the GPUs"


def test_what_the_driver_of_amds_gpus_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with_amd(root, 2)
    assert machine.health(2, {}, root) == ([], [])
    assert machine.health(4, {}, root).faults == ["2 of 4 GPUs are there"]
    ras = root / "sys/class/drm/card1/device/ras"
    ras.mkdir(parents=True)
    (ras / "umc_err_count").write_text("ue: 2\nce: 40\n")
    assert machine.health(2, {}, root).faults == ["card1 has 2 uncorrected errors in umc"]
