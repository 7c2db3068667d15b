"""Graph attention, GATv2 (Brody 2022, ICLR), for all pairs of nodes at once.

Electrodes are few, so an adjacency matrix is used instead of a list of edges. The modified form of Neumeier 2023 (arXiv
2305.16196) is not implemented: its abstract does not define it.
"""

import torch
from torch import nn
from torch.nn import functional


class GATv2(nn.Module):
    """[graph, node, feature] -> [graph, node, heads x feature]. Parameters are named as in torch_geometric.

    Parameters
    ----------
    n_out
        Features of each head.
    self_loops
        Whether a node always attends to itself too; otherwise only if the mask allows it.
    """

    def __init__(
        self, n_in: int, n_out: int, heads: int = 1, self_loops: bool = True, slope: float = 0.2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.self_loops, self.slope, self.dropout = heads, self_loops, slope, dropout
        self.lin_l = nn.Linear(n_in, heads * n_out)  # of the source nodes
        self.lin_r = nn.Linear(n_in, heads * n_out)  # of the target nodes
        self.att = nn.Parameter(torch.empty(1, heads, n_out))
        self.bias = nn.Parameter(torch.zeros(heads * n_out))
        for weight in (self.lin_l.weight, self.lin_r.weight, self.att):
            nn.init.xavier_uniform_(weight)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, prior: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`mask` [node, node]: true if a node (first) may attend to another (second). `prior` [node, node]: added to
        the scores, the logarithm of how near they are."""
        seen = self.lin_l(x).unflatten(2, (self.heads, -1))
        looking = self.lin_r(x).unflatten(2, (self.heads, -1))
        share = functional.dropout(self.shares(seen, looking, mask, prior), self.dropout, self.training)
        return torch.einsum("gijh,gjhf->gihf", share, seen).flatten(2) + self.bias

    def shares(
        self, seen: torch.Tensor, looking: torch.Tensor, mask: torch.Tensor | None, prior: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the attention weights [graph, node, node, head] of a node (first) on others; they sum to 1, or are 0
        if all are masked."""
        scores = (functional.leaky_relu(seen[:, None] + looking[:, :, None], self.slope) * self.att).sum(dim=4)
        if prior is not None:
            scores = scores + prior[:, :, None]
        allowed = self._allowed(seen.shape[1], mask, seen.device)
        if allowed is None:
            return scores.softmax(dim=2)
        # Not minus infinity: a row that is all masked would be NaN
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=2) * allowed

    def _allowed(self, n: int, mask: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
        """[node, node, 1]"""
        itself = torch.eye(n, dtype=torch.bool, device=device)
        if mask is None:
            return None if self.self_loops else ~itself[:, :, None]
        return (mask | itself if self.self_loops else mask)[:, :, None]


class Block(nn.Module):
    """Attention between nodes, then two layers; each normalises its input, and its output is added to it."""

    def __init__(self, width: int, heads: int, dropout: float, self_loops: bool = True) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(width)
        self.gat = GATv2(width, width // heads, heads, self_loops, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor, prior: torch.Tensor | None = None) -> torch.Tensor:
        x = x + functional.dropout(self.gat(self.norm1(x), prior=prior), self.dropout, self.training)
        inner = functional.gelu(self.fc1(self.norm2(x)))
        return x + functional.dropout(self.fc2(inner), self.dropout, self.training)
