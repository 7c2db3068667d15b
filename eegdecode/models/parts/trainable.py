"""Train a part of any network: the head, the last block, corrections of low rank, or one of two that are joined.

    since = trainable.choose(network, cfg)      once, before the optimizer and DDP look at the parameters
    trainable.free(network, since, step)        after that, and at each of cfg.free_at
    trainable.train(network)                    instead of network.train(): what is frozen stays in eval mode

With LoRA, `lora.merged` of the parameters is what a network without it loads.
"""

from collections.abc import Collection

from torch import nn

from eegdecode.models.config.trainable import Trainable
from eegdecode.models.parts import lora


def choose(network: nn.Module, cfg: Trainable) -> dict[str, int]:
    """Freeze what is never to be trained; gives the names of the other parameters, each with the step from which on it
    is. The optimizer and DDP are to know all of them: then what joins later is no other course after a restart."""
    part = _part(network, cfg.part)
    never = [parameter for parameter in network.parameters() if not parameter.requires_grad]  # averages, as of EEGPT
    network.requires_grad_(cfg.rest == "trained" and bool(cfg.part))
    part.requires_grad_(cfg.train == "all")
    if cfg.train == "lora":
        lora.add(part, cfg.layers, cfg.rank, cfg.alpha, without=heads_of(part))
    chosen = _chosen(part, cfg)
    for name in chosen:
        part.get_submodule(name).requires_grad_()
    since = dict.fromkeys((parameter for parameter in network.parameters() if parameter.requires_grad), 0)
    for step, names in zip(cfg.free_at, _joining(part, chosen, cfg), strict=True):
        for name in names:
            for parameter in part.get_submodule(name).requires_grad_().parameters():
                since.setdefault(parameter, step)
    for parameter in never:
        parameter.requires_grad_(False)
    return {name: since[parameter] for name, parameter in network.named_parameters() if parameter.requires_grad}


def free(network: nn.Module, since: dict[str, int], step: int) -> None:
    """Freeze what is trained from a later step on only. The optimizer leaves alone what has no gradient, and has no
    moments of it until it joins."""
    for name, first in since.items():
        network.get_parameter(name).requires_grad_(first <= step)


def train(network: nn.Module) -> None:
    """Training mode, but for norms and dropout of what is frozen: running means would move, and chance would make a
    frozen encoder another one at each step."""
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
        raise ValueError(f"the network has no part {name!r}; there is: {there}") from None


def _chosen(part: nn.Module, cfg: Trainable) -> tuple[str, ...]:
    """The names of what is trained as it is."""
    if cfg.train == "all":
        return ()
    heads, last = heads_of(part), last_of(part)
    what = f"the part {cfg.part!r}" if cfg.part else "this network"
    if not heads and cfg.train != "lora":
        raise ValueError(
            f"train={cfg.train} wants a network that says which of its layers make the outputs, but {what} does not: "
            "take train=all or lora, or name another part, trainable.part"
        )
    if cfg.train != "last":
        return heads
    if not last:
        raise ValueError(
            f"train=last wants blocks that follow each other, of which one is the last, but {what} has none, or "
            "several side by side: take train=head, or name one of several, trainable.part"
        )
    return (*heads, *last)


def heads_of(network: nn.Module) -> tuple[str, ...]:
    """The names of its parts that make the outputs; none where it does not say."""
    return tuple(getattr(network, "heads", ()))


def last_of(network: nn.Module) -> tuple[str, ...]:
    """The names of its last block and of the norm behind; none where there is no one chain of blocks."""
    named = [(name, network.get_submodule(name)) for name in getattr(network, "last", ())]
    if any(isinstance(module, nn.ModuleList) and not len(module) for _, module in named):
        return ()
    return tuple(f"{name}.{len(each) - 1}" if isinstance(each, nn.ModuleList) else name for name, each in named)


def chains_of(network: nn.Module) -> dict[str, int]:
    """The lists of blocks among them, and how many each has; several, as convolutions and their norms, end together."""
    named = {name: network.get_submodule(name) for name in getattr(network, "last", ())}
    return {name: len(each) for name, each in named.items() if isinstance(each, nn.ModuleList) and len(each)}


def _joining(part: nn.Module, chosen: Collection[str], cfg: Trainable) -> list[list[str]]:
    """The names of the modules that join at each of the steps; "" is the part itself."""
    if len(cfg.free_at) < 2:
        return [[""] for _ in cfg.free_at]
    chains = chains_of(part)
    blocks = [
        [f"{name}.{n - back}" for name, n in chains.items() if back <= n]
        for back in range(1, max(chains.values(), default=0) + 1)
    ]
    still = [block for block in blocks if not set(block) <= set(chosen)]
    if len(cfg.free_at) > len(still) + 1:
        raise ValueError(
            f"free_at has {len(cfg.free_at)} steps, but there are {len(still)} blocks to be freed one by one, and then "
            f"what is left: list {len(still) + 1} steps at most"
        )
    return [*still[: len(cfg.free_at) - 1], [""]]


def together(**parts: nn.Module | None) -> tuple[str, ...]:
    """The heads of a network of several parts, of all that have parameters; none where one of these does not say."""
    trained = {name: part for name, part in parts.items() if part is not None and list(part.parameters())}
    if not all(map(heads_of, trained.values())):
        return ()
    return tuple(f"{name}.{head}" for name, part in trained.items() for head in heads_of(part))
