"""Whether the ranks have the GPUs that they were given, and what to do if not. Decided from what each of them sees."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.media import many

MIN_DRIVER = {13: 580, 12: 525, 11: 450}
"""The oldest driver of NVIDIA that runs programs built for a CUDA of that major version."""
SLOW_GB_S = {"nodes": 2.0, "node": 4.0}
"""Below this NCCL goes over something else than the fast network, or than the links of one node."""


@dataclass(frozen=True)
class Seen:
    """What torch sees of GPUs in one rank, and what the machine says of them."""

    host: str
    local_rank: int
    n_visible: int
    """The GPUs that torch can use."""
    torch: str
    built_for: str
    """`CUDA 13.0` or `ROCm 6.3`; empty if torch was built for CPUs only."""
    driver: str
    """From hpc.site.gpus.driver."""
    hidden_by: str
    """The variables that hide GPUs."""
    gpu: str = ""
    """The name of this rank's own GPU."""
    uuid: str = ""

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Seen":
        return cls(**record)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def index(self) -> int:
        """The number of this rank's GPU: a site may show each rank only its own, or all of the node's. Without
        collectives several ranks may share one."""
        return self.local_rank % max(1, self.n_visible)


def asked(plan: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the GPUs a node that a run was given by its plan.json, and whether the user wants none. Those of a test
    bed do not count: they are plain files."""
    if plan.get("site", {}).get("gpu") == "imitated":
        return 0, False
    return plan.get("resources", {}).get("gpus_per_node", 0), plan.get("asked", {}).get("gpus") == 0


def none_seen(seen: Seen, n_asked: int) -> str:
    """Return a sentence on the GPUs that were asked for and are not there, with the most likely reason."""
    return (
        f"{many(n_asked, 'GPU')} a node were asked for, and torch sees none on {seen.host}: torch {seen.torch}, built "
        f"for {seen.built_for or 'CPUs only'}, {seen.driver}, {seen.hidden_by}. {_likely(seen)}. To compute on CPUs, "
        "say --gpus 0"
    )


def _likely(seen: Seen) -> str:
    driver, built = (_number(text) for text in (seen.driver, seen.built_for))
    if not seen.built_for:
        return "Install a torch with CUDA (env/setup.sh cuda) or ROCm"
    if "DEVICES=''" in seen.hidden_by or "DEVICES='-1'" in seen.hidden_by:
        return "That variable hides all of them: did the job get GPUs, and does your shell set it?"
    if seen.driver == "no driver of a GPU":
        return (
            "Is it a node with GPUs? A container shows them only if it is started so (apptainer exec --nv, or --rocm)"
        )
    if ("amdgpu" in seen.driver) != seen.built_for.startswith("ROCm"):
        return "This torch is for GPUs of another maker: take one that is built for those of this node"
    if seen.built_for.startswith("CUDA") and driver < (least := MIN_DRIVER.get(int(built), 0)):
        return f"CUDA {built:g} needs a driver from {least} on: take a torch that is built for an older CUDA"
    return "Look at nvidia-smi or rocm-smi on that node"


def _number(text: str) -> float:
    """Return the first number of a version: 580.65 of `driver 580.65.06 of NVIDIA`."""
    match = re.search(r"\d+(\.\d+)?", text)
    return float(match[0]) if match else 0.0


def too_few(seen: Seen) -> str:
    return (
        f"this rank is number {seen.local_rank + 1} on {seen.host}, and {many(seen.n_visible, 'GPU')} are visible "
        f"there ({seen.hidden_by}). One GPU takes one rank: ask for as many --gpus as --ranks a node"
    )


@dataclass(frozen=True)
class Problem:
    """Why a rank cannot begin. `final`: it would be so on other nodes too."""

    why: str
    final: bool


def problems(everyone: Sequence[Seen], n_asked: int) -> list[Problem | None]:
    """Return for each rank why it cannot begin; all None if all have a GPU of their own, or none has one and none was
    asked for. All ranks must compute on the same kind of device, or the first collective would wait for ever."""
    if not any(seen.n_visible for seen in everyone):
        return [Problem(none_seen(seen, n_asked), True) if n_asked else None for seen in everyone]
    if crowded := [seen for seen in everyone if 1 < seen.n_visible <= seen.local_rank]:
        return [Problem(too_few(seen if seen in crowded else crowded[0]), True) for seen in everyone]
    if shared := _shared(everyone):
        return [Problem(shared, True)] * len(everyone)
    blind = [rank for rank, seen in enumerate(everyone) if not seen.n_visible]
    if not blind:
        return [None] * len(everyone)
    of_others = f"rank {blind[0]} on {everyone[blind[0]].host} has no GPU: that rank's error says why"
    return [
        Problem(
            of_others if seen.n_visible else f"this rank's node has no GPU for it: {none_seen(seen, n_asked)}", False
        )
        for seen in everyone
    ]


def _shared(everyone: Sequence[Seen]) -> str:
    """Return a sentence on two ranks that have the same GPU; empty if there are none."""
    first: dict[tuple[str, str], int] = {}
    for rank, seen in enumerate(everyone):
        place = seen.host, seen.uuid
        if seen.uuid and place in first:
            return (
                f"ranks {first[place]} and {rank} on {seen.host} have the same GPU, {seen.gpu} ({seen.uuid}): NCCL "
                f"takes one rank a GPU. Ask for as many --gpus as --ranks a node ({seen.hidden_by})"
            )
        first.setdefault(place, rank)
    return ""


def speed(library: str, n_ranks: int, n_nodes: int, n_bytes: int, seconds: float) -> str:
    """Return a sentence on how fast the ranks can sum, from one all_reduce; with advice if that is slow.

    The rate is that of the wire, as NCCL's own tests count it: each rank sends 2 (n - 1) / n of the bytes.
    """
    rate = 2 * (n_ranks - 1) / n_ranks * n_bytes / seconds / 1e9
    where = f"{many(n_ranks, 'rank')} on {many(n_nodes, 'node')}"
    sentence = (
        f"{library} over {where}: {n_bytes / 1e6:.0f} MB summed in {1e3 * seconds:.3g} ms, {rate:.3g} GB/s a rank"
    )
    if n_nodes > 1 and rate < SLOW_GB_S["nodes"]:
        return (
            f"{sentence}. That is slow for GPUs: has the site's profile its `fabric`? NCCL_DEBUG=INFO shows the network"
        )
    if n_nodes == 1 and rate < SLOW_GB_S["node"]:
        return (
            f"{sentence}. That is slow for one node: NCCL_DEBUG=INFO shows whether its GPUs reach each other directly"
        )
    return sentence
