"""Fuse the outputs of several encoders."""

from typing import cast

import torch
from torch import nn


class Join(nn.Module):
    """[window, …, output] of each -> [window, …, output].

    Parameters
    ----------
    how
        See `fusion` in models/config.py. The gate is that of Arevalo 2017 (arXiv 1702.01992): a weight for each encoder
        and output.
    """

    heads = ("gate",)

    def __init__(self, how: str, n_encoders: int, n_outputs: int) -> None:
        super().__init__()
        self.how = how
        n = n_encoders * n_outputs
        self.gate = nn.Linear(n, n) if how == "gated" else None

    def forward(self, outputs: list[torch.Tensor], there: torch.Tensor | None = None) -> torch.Tensor:
        """`there`: [window, encoder], whether the encoder had a signal; outputs without one do not count. If no encoder
        had one, the result is 0."""
        parts = torch.stack(outputs, dim=-2)
        if there is None:
            there = torch.ones(parts.shape[0], len(outputs), dtype=torch.bool, device=parts.device)
        there = there.reshape(parts.shape[0], *[1] * (parts.ndim - 3), len(outputs), 1)
        parts = torch.where(there, parts, 0)
        if self.how == "concat":
            return parts.flatten(-2)
        if self.gate is None:
            return parts.sum(dim=-2) / there.sum(dim=-2).clamp_min(1)
        scores = self.gate(parts.flatten(-2)).unflatten(-1, parts.shape[-2:]).float()
        weights = scores.masked_fill(~there, torch.finfo(scores.dtype).min).softmax(dim=-2)
        return (weights * parts).sum(dim=-2)


def share(how: str, n_encoders: int, n_outputs: int) -> int:
    """Return the number of outputs of each encoder."""
    if how != "concat":
        return n_outputs
    if n_outputs % n_encoders:
        raise ValueError(
            f"concat takes an equal share of the outputs from each of {n_encoders} encoders, "
            f"but there are {n_outputs} outputs: use model.fusion=add or gated"
        )
    return n_outputs // n_encoders


def one_length(*encoders: nn.Module) -> int | None:
    """Return the only length of windows that all encoders take; None if they take any."""
    taken = [cast("int | None", encoder.n_times) for encoder in encoders]
    lengths = sorted({n for n in taken if n is not None})
    if len(lengths) > 1:
        raise ValueError(
            f"encoders of one window must take the same length, but one takes {lengths[0]} samples "
            f"and another {lengths[1]}: give them equal ones"
        )
    return lengths[0] if lengths else None
