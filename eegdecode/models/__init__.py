"""The models by name, and `build`, which makes a network. Cheap to import: torch is imported only for a network.

`eegdecode/models/NAME.py` has the config of each name, a frozen dataclass, and its network as the class Network(cfg,
spec). A network is called with ([window, time, channel], subject [window]) and returns [window, step, output] if the
target is a time course, otherwise [window, output]. A self-supervised model returns what its objective reads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eegdecode.models.config import MODELS, Model, ModelConfig
from eegdecode.signals import SignalSpec
from hpc.config.choices import code_of

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODELS", "Model", "ModelConfig", "after_steps", "blocks", "build", "compile_network"]


def build(cfg: ModelConfig, spec: SignalSpec) -> "nn.Module":
    """Build a network for that signal. Its parameters are initialised from torch's global seed.

    Its `n_times` is the only length of windows that it takes, or None if it takes any. `heads` names the modules that
    make the outputs. `last` is the last block (or the list that ends with it) and the norm after it, if there is one.
    """
    network: nn.Module = code_of(cfg).Network(cfg, spec)
    return network


def after_steps(network: "nn.Module") -> list[Callable[[float], None]]:
    """Return what to call after each optimizer step, with the fraction of the training that is done, from 0 to 1: the
    modules' methods `after_step`, which clip the norm of their weights or update a moving average."""
    return [module.after_step for module in network.modules() if hasattr(module, "after_step")]  # type: ignore[misc]


def blocks(network: "nn.Module") -> list["nn.Module"]:
    """Return the blocks that a network is made of many of: modules whose class has `is_block`. Each is compiled and
    sharded on its own; it is called with half precision or float32, and may have weights of either."""
    return [module for module in network.modules() if getattr(module, "is_block", False)]


VARIANTS = 64
"""How many variants of a block are compiled: of each width, with and without gradients. torch gives up after 8."""


def compile_network(network: "nn.Module", **options: Any) -> str:
    """Compile a network in place, for shapes that stay the same: its blocks, if it has any, else the whole. Blocks that
    are alike are compiled once, and the gradients of each are there once its backward pass is done, so that ranks
    average them during the rest. Returns a sentence. `options`: those of torch.compile."""
    import torch._dynamo

    if not (parts := blocks(network)):
        network.compile(dynamic=False, **options)
        return "the network is compiled as a whole"
    torch._dynamo.config.recompile_limit = VARIANTS
    for part in parts:
        part.compile(dynamic=False, **options)
    return f"{len(parts)} blocks of the network are compiled, each on its own"
