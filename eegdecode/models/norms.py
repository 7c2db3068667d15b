"""Layers whose weights stay within a norm: looked after once a step."""

import torch
from torch import nn


class Linear(nn.Linear):
    def __init__(self, n_in: int, n_out: int, max_norm: float) -> None:
        super().__init__(n_in, n_out)
        self.max_norm = max_norm
        self.after_step(0.0)

    @torch.no_grad()
    def after_step(self, done: float) -> None:
        norms = self.weight.norm(dim=1, keepdim=True)
        self.weight *= norms.clamp(max=self.max_norm) / norms.clamp(min=1e-12)
