"""Shards parameters, gradients and optimizer state over the ranks (FSDP), for models too large for one GPU.

For an unsharded model, each function returns its input, so that training is the same code for both. The modules of
torch for sharding take most of a second to import, so they are imported where they are used.
"""

from collections.abc import Collection
from typing import Any

import torch
import torch.distributed as dist


def shard(
    model: torch.nn.Module,
    where: torch.device,
    half: torch.dtype | None = None,
    in_half: Collection[torch.nn.Module] = (),
) -> torch.nn.Module:
    """Shard the model block by block over all ranks, and return it. Blocks are the modules in a ModuleList.

    Parameters
    ----------
    half
        The type in which parameters of the blocks `in_half` are gathered: half the bytes for a block that computes in
        it anyway. Each rank keeps its part in the type of the model, and in that type gradients are added and
        checkpoints written. None: all are gathered as they are.
    in_half
        Blocks that take parameters of half precision, whatever the type of their inputs.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(where.type, (dist.get_world_size(),))
    as_it_is = MixedPrecisionPolicy()
    halved = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=half and torch.float32, cast_forward_inputs=False)
    chosen = set(map(id, in_half))
    for part in list(model.modules()):
        for block in part if isinstance(part, torch.nn.ModuleList) else ():
            fully_shard(block, mesh=mesh, mp_policy=halved if id(block) in chosen else as_it_is)
    fully_shard(model, mesh=mesh)
    return model


def is_sharded(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "device_mesh")


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of both for a checkpoint; with sharding, each rank has its part."""
    if not any(map(is_sharded, model.parameters())):
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

    return {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}


def restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load both from a state with whole tensors."""
    if not any(map(is_sharded, model.parameters())):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return
    from torch.distributed.checkpoint import state_dict

    of_whole = state_dict.StateDictOptions(full_state_dict=True)
    state_dict.set_model_state_dict(model, state["model"], options=of_whole)
    state_dict.set_optimizer_state_dict(model, optimizer, state["optimizer"], options=of_whole)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather the tensor on every rank; a collective, which all ranks must call."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Move a whole tensor to the device of `other`, sharded as that is."""
    tensor = tensor.to(other.device)
    if not is_sharded(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, other.device_mesh, other.placements)  # type: ignore[attr-defined]
