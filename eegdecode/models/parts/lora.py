"""LoRA (Hu 2021, arXiv 2106.09685): freeze a linear layer, and add a trained product of two thin matrices to it.

The names of a network's parameters stay the same; `lora_a` and `lora_b` are added.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

A, B = ".lora_a", ".lora_b"


class Corrected(nn.Linear):
    """x -> W x + b + (alpha / rank) B A x. B starts at 0, so at first nothing is changed."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, linear.in_features, device=linear.weight.device))
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, rank, device=linear.weight.device))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.scale * functional.linear(functional.linear(x, self.lora_a), self.lora_b)


def add(network: nn.Module, words: Sequence[str], rank: int, alpha: float, without: Sequence[str]) -> None:
    """Add LoRA to the linear layers whose names contain one of the words, or to all; but not within `without`."""
    # Exactly this class: a subclass may use its weight without calling the layer
    there = {name: module for name, module in network.named_modules() if type(module) is nn.Linear}
    there = {
        name: module for name, module in there.items() if not any(f"{name}.".startswith(f"{part}.") for part in without)
    }
    chosen = {name: linear for name, linear in there.items() if not words or any(word in name for word in words)}
    if not chosen:
        called = f" called {' or '.join(words)}" if words else ""
        raise ValueError(
            f"lora: this network has no linear layer{called} but its head; there is: {', '.join(there) or 'none'}"
        )
    for name, linear in chosen.items():
        above, _, last = name.rpartition(".")
        setattr(network.get_submodule(above), last, Corrected(linear, rank, alpha))


def merged(parameters: Mapping[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """Return the parameters of an equivalent network without LoRA, with the corrections added."""
    weights = {name: value for name, value in parameters.items() if not name.endswith((A, B))}
    for name, down in parameters.items():
        if name.endswith(A):
            layer = name.removesuffix(A)
            weight = weights[f"{layer}.weight"]
            weights[f"{layer}.weight"] = weight + alpha / len(down) * (parameters[layer + B] @ down)
    return weights
