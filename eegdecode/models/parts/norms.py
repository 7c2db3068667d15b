"""Layers with a maximum norm of their weights, applied once a step by models.after_steps, not in forward.

`Linear(n_channels, 19, max_norm=1.0)` over the last dimension of [window, time, channel] is the adaptive spatial filter
of EEGPT (Wang 2024), a convolution of kernel 1 there.
"""

from typing import Any

import torch
from torch import nn


class Linear(nn.Linear):
    """A linear layer in which the weights of each output have at most this norm."""

    def __init__(self, n_in: int, n_out: int, max_norm: float, bias: bool = True) -> None:
        super().__init__(n_in, n_out, bias)
        self.max_norm = max_norm
        self.after_step(0.0)

    def after_step(self, done: float) -> None:
        keep_within(self.weight, self.max_norm)


class Conv2d(nn.Conv2d):
    """A convolution in which the weights of each filter have at most this norm."""

    def __init__(self, n_in: int, n_out: int, size: tuple[int, int], max_norm: float, **settings: Any) -> None:
        super().__init__(n_in, n_out, size, **settings)
        self.max_norm = max_norm
        self.after_step(0.0)

    def after_step(self, done: float) -> None:
        keep_within(self.weight, self.max_norm)


@torch.no_grad()
def keep_within(weight: torch.Tensor, max_norm: float) -> None:
    """Scale the weights of each output down to that norm, if theirs is larger."""
    norm = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    weight *= max_norm / norm.clamp(min=max_norm)
