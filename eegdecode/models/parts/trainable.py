"""Fine-tune a part of any network: the head, the last block, LoRA and its like, or one of two joined networks.

    first_steps = trainable.choose(network, cfg)    once, before the optimizer and DDP see the parameters
    trainable.unfreeze(network, first_steps, step)  after that, and at each step of cfg.unfreeze_at
    trainable.train(network)                        instead of network.train(): frozen modules stay in eval mode

A network without LoRA and its like loads `lora.merged` of the parameters.
"""

from collections.abc import Collection
from typing import cast

from torch import nn

from eegdecode.models.config import Trainable
from eegdecode.models.parts import lora


def choose(network: nn.Module, cfg: Trainable) -> dict[str, int]:
    """Freeze the parameters that are never trained. Return the names of the others, each with the step from which it is
    trained. The optimizer and DDP must know all of them from the start, so that a restart changes nothing."""
    part = _part(network, cfg.part)
    never = [parameter for parameter in network.parameters() if not parameter.requires_grad]  # averages, as in EEGPT
    network.requires_grad_(cfg.rest == "trained" and bool(cfg.part))
    part.requires_grad_(cfg.train == "all")
    if cfg.train in ADDED:
        lora.add(part, cfg.layers, cfg.rank, cfg.alpha, without=heads_of(part), how=cast("lora.How", cfg.train))
    chosen = _chosen(part, cfg)
    for name in chosen:
        part.get_submodule(name).requires_grad_()
    first_steps = dict.fromkeys((parameter for parameter in network.parameters() if parameter.requires_grad), 0)
    for step, names in zip(cfg.unfreeze_at, _joining(part, chosen, cfg), strict=True):
        for name in names:
            for parameter in part.get_submodule(name).requires_grad_().parameters():
                first_steps.setdefault(parameter, step)
    for parameter in never:
        parameter.requires_grad_(False)
    return {name: first_steps[parameter] for name, parameter in network.named_parameters() if parameter.requires_grad}


ADDED = tuple(lora.KINDS)
"""What adds parameters to linear layers."""


def unfreeze(network: nn.Module, first_steps: dict[str, int], step: int) -> None:
    """Freeze the parameters that are trained only from a later step on, and unfreeze the rest. The optimizer skips
    parameters without a gradient, and has no moments of them until they are unfrozen."""
    for name, first in first_steps.items():
        network.get_parameter(name).requires_grad_(first <= step)


def train(network: nn.Module) -> None:
    """Set training mode, except for frozen modules: their batch norms would change, and dropout would change the output
    of a frozen encoder at each step."""
    network.train()
    for module in network.modules():
        mine = list(module.parameters())
        if mine and not any(parameter.requires_grad for parameter in mine):
            module.eval()


def _part(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        there = ", ".join(child for child, _ in network.named_children())
        raise ValueError(f"the network has no part {name!r}; it has: {there}") from None


def _chosen(part: nn.Module, cfg: Trainable) -> tuple[str, ...]:
    """Return the names of the modules that are trained from the start, without LoRA and its like."""
    if cfg.train == "all":
        return ()
    heads, last = heads_of(part), last_of(part)
    what = f"the part {cfg.part!r}" if cfg.part else "this network"
    if not heads and cfg.train not in ADDED:
        raise ValueError(
            f"train={cfg.train} needs a network that names its heads, but {what} does not: "
            "use train=all or lora, or name another part in trainable.part"
        )
    if cfg.train != "last":
        return heads
    if not last:
        raise ValueError(
            f"train=last needs blocks that follow each other, of which one is the last, but {what} has none, or "
            "several side by side: use train=head, or name one of several in trainable.part"
        )
    return (*heads, *last)


def heads_of(network: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's heads, which make the outputs; none if it does not name them."""
    return tuple(getattr(network, "heads", ()))


def last_of(network: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's last block and of the norm after it; none if there is no single chain of
    blocks."""
    named = [(name, network.get_submodule(name)) for name in getattr(network, "last", ())]
    if any(isinstance(module, nn.ModuleList) and not len(module) for _, module in named):
        return ()
    return tuple(f"{name}.{len(each) - 1}" if isinstance(each, nn.ModuleList) else name for name, each in named)


def chains_of(network: nn.Module) -> dict[str, int]:
    """Return a network's lists of blocks, and their lengths; parallel lists, as of convolutions and norms, end
    together."""
    named = {name: network.get_submodule(name) for name in getattr(network, "last", ())}
    return {name: len(each) for name, each in named.items() if isinstance(each, nn.ModuleList) and len(each)}


def _joining(part: nn.Module, chosen: Collection[str], cfg: Trainable) -> list[list[str]]:
    """Return the names of the modules that are unfrozen at each of the steps; "" is the part itself."""
    if len(cfg.unfreeze_at) < 2:
        return [[""] for _ in cfg.unfreeze_at]
    chains = chains_of(part)
    blocks = [
        [f"{name}.{n - back}" for name, n in chains.items() if back <= n]
        for back in range(1, max(chains.values(), default=0) + 1)
    ]
    frozen = [block for block in blocks if not set(block) <= set(chosen)]
    if len(cfg.unfreeze_at) > len(frozen) + 1:
        raise ValueError(
            f"unfreeze_at has {len(cfg.unfreeze_at)} steps, but there are {len(frozen)} blocks to be unfrozen one by "
            f"one, and then the rest: list {len(frozen) + 1} steps at most"
        )
    return [*frozen[: len(cfg.unfreeze_at) - 1], [""]]


def together(**parts: nn.Module | None) -> tuple[str, ...]:
    """Return the heads of a network of several parts, of all parts with parameters; none if one of them names no
    heads."""
    trained = {name: part for name, part in parts.items() if part is not None and list(part.parameters())}
    if not all(map(heads_of, trained.values())):
        return ()
    return tuple(f"{name}.{head}" for name, part in trained.items() for head in heads_of(part))
