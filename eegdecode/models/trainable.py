"""Train a part of any network: the head, the last block, corrections of low rank, or one of two that are joined.

    since = trainable.choose(network, cfg)      once, before the optimizer and DDP look at the parameters
    trainable.free(network, since, step)        after that, and at each of cfg.free_at
    trainable.train(network)                    instead of network.train(): what is frozen stays in eval mode

With LoRA, `lora.merged` of the parameters is what a network without it loads.
"""

from torch import nn

from eegdecode.models import lora, shapes
from eegdecode.models.knobs.trainable import Trainable

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)
HEADS = ("readout", "head")


def choose(network: nn.Module, cfg: Trainable) -> dict[str, int]:
    """Freeze what is never to be trained; gives the names of the other parameters, each with the step from which on it
    is. The optimizer and DDP are to know all of them: then what joins later is no other course after a restart."""
    part = _part(network, cfg.part)
    never = [parameter for parameter in network.parameters() if not parameter.requires_grad]  # averages, as of EEGPT
    network.requires_grad_(cfg.rest == "trained" and bool(cfg.part))
    part.requires_grad_(cfg.train == "all")
    if cfg.train == "lora":
        lora.add(part, cfg.layers, cfg.rank, cfg.alpha, without=_head(part))
    chosen = [] if cfg.train == "all" else [*_head(part), *(_last(part) if cfg.train == "last" else [])]
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


def _head(part: nn.Module) -> list[str]:
    """The names of what makes the outputs: all that stands behind the blocks, as a probe. Without blocks, a Readout or
    what is called so, else the last layer that has parameters."""
    words = (_blocks(part) or "").split(".")
    for depth, word in enumerate(words):
        above = ".".join(words[:depth])
        children = [name for name, child in part.get_submodule(above).named_children() if _has_parameters(child)]
        if word in children and (behind := children[children.index(word) + 1 :]):
            return [f"{above}.{name}".lstrip(".") for name in behind]
    found = {name: module for name, module in part.named_modules() if name}
    heads = [name for name, module in found.items() if isinstance(module, shapes.Readout) or _last_word(name) in HEADS]
    if heads:
        outermost = min(name.count(".") for name in heads)
        return [name for name in heads if name.count(".") == outermost][-1:]
    layers = [name for name, module in found.items() if next(module.parameters(recurse=False), None) is not None]
    if not layers:
        raise ValueError("this network has no layer with parameters")
    return layers[-1:]


def _last(part: nn.Module) -> list[str]:
    """The name of the last block, and those of the norms behind it."""
    blocks = _blocks(part)
    if blocks is None:
        raise ValueError("train=last wants a network with a list of blocks; this has none: take train=head")
    found = dict(part.named_modules())
    last = list(part.get_submodule(blocks).named_children())[-1][0]
    names = list(found)
    behind = [name for name in names[names.index(f"{blocks}.{last}") :] if not name.startswith(f"{blocks}.{last}")]
    return [f"{blocks}.{last}", *(name for name in behind if isinstance(found[name], NORMS))]


def _joining(part: nn.Module, chosen: list[str], cfg: Trainable) -> list[list[str]]:
    """The names of the modules that join at each of the steps; "" is the part itself."""
    if len(cfg.free_at) < 2:
        return [[""] for _ in cfg.free_at]
    blocks = _blocks(part)
    names = [f"{blocks}.{name}" for name, _ in part.get_submodule(blocks).named_children()] if blocks else []
    names = [name for name in names if name not in chosen]
    if len(cfg.free_at) > len(names) + 1:
        raise ValueError(
            f"free_at has {len(cfg.free_at)} steps, but there are {len(names)} blocks to be freed one by one, and then "
            f"what is left: list {len(names) + 1} steps at most"
        )
    return [*([name] for name in names[::-1][: len(cfg.free_at) - 1]), [""]]


def _blocks(part: nn.Module) -> str | None:
    """The name of the last list of blocks that is in no other."""
    lists = [name for name, module in part.named_modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    return outermost[-1] if outermost else None


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _last_word(name: str) -> str:
    return name.rpartition(".")[2]
