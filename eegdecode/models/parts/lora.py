"""Fine-tune linear layers by a few parameters each; their weights are frozen, and keep their names.

    lora    a product of two thin matrices is added to the weight: `lora_a`, `lora_b` (Hu 2021, arXiv 2106.09685)
    dora    as lora, and the length of each row is trained apart from its direction: `dora` (Liu 2024, arXiv 2402.09353)
    ia3     each output is multiplied by a number: `ia3` (Liu 2022, arXiv 2205.05638)

At first nothing is changed. `merged` makes parameters of the network without them.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

A, B, LENGTH, SCALE = ".lora_a", ".lora_b", ".dora", ".ia3"
How = Literal["lora", "dora", "ia3"]


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


class Directed(Corrected):
    """x -> m V x / |V| + b with V = W + (alpha / rank) B A, row by row; m starts as |W|. As in the paper, |V| is a
    constant for the gradients."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(linear, rank, alpha)
        self.dora = nn.Parameter(linear.weight.detach().norm(dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        correction = self.scale * (self.lora_b @ self.lora_a)
        with torch.no_grad():
            length = (self.weight + correction).norm(dim=1)
        turned = functional.linear(x, self.weight) + functional.linear(x, correction)
        out = turned * (self.dora / length)
        return out if self.bias is None else out + self.bias


class Scaled(nn.Linear):
    """x -> l (W x + b), output by output; l starts as 1."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.ia3 = nn.Parameter(torch.ones(linear.out_features, device=linear.weight.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.ia3


KINDS: dict[str, type[Corrected | Scaled]] = {"lora": Corrected, "dora": Directed, "ia3": Scaled}


def add(
    network: nn.Module, words: Sequence[str], rank: int, alpha: float, without: Sequence[str], how: How = "lora"
) -> None:
    """Add the parameters to the linear layers whose names contain one of the words, or to all; but not within
    `without`."""
    # Exactly this class: a subclass may use its weight without calling the layer
    there = {name: module for name, module in network.named_modules() if type(module) is nn.Linear}
    there = {
        name: module for name, module in there.items() if not any(f"{name}.".startswith(f"{part}.") for part in without)
    }
    chosen = {name: linear for name, linear in there.items() if not words or any(word in name for word in words)}
    if not chosen:
        called = f" called {' or '.join(words)}" if words else ""
        raise ValueError(
            f"{how}: this network has no linear layer{called} but its head; there is: {', '.join(there) or 'none'}"
        )
    for name, linear in chosen.items():
        above, _, last = name.rpartition(".")
        owner = network.get_submodule(above)
        setattr(owner, last, KINDS[how](linear, rank, alpha))
        if isinstance(owner, nn.TransformerEncoderLayer):
            owner.activation_relu_or_gelu = 0  # in eval mode torch would use the weights without calling the layers


def merged(parameters: Mapping[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """Return the parameters of an equivalent network without these, with the changes in its weights."""
    weights = {name: value for name, value in parameters.items() if not name.endswith((A, B, LENGTH, SCALE))}
    for name, down in parameters.items():
        layer, _, kind = name.rpartition(".")
        weight = f"{layer}.weight"
        if f".{kind}" == A:
            weights[weight] = weights[weight] + alpha / len(down) * (parameters[layer + B] @ down)
            if layer + LENGTH in parameters:
                length = parameters[layer + LENGTH] / weights[weight].norm(dim=1)
                weights[weight] = weights[weight] * length[:, None]
        elif f".{kind}" == SCALE:
            weights[weight] = weights[weight] * down[:, None]
            if f"{layer}.bias" in weights:
                weights[f"{layer}.bias"] = weights[f"{layer}.bias"] * down
    return weights
