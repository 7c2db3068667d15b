"""The one transformer block of the house: norm, attention, norm, two layers."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, turn: torch.Tensor | None = None) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if turn is not None:
            q, k = turned(q, turn), turned(k, turn)
        out: torch.Tensor = self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def turned(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """[window, head, token, number], angles [window, token, pair]: neighbouring numbers turn as points of a plane, as
    many pairs as there are angles; the others stay (rotary embedding, Su 2021)."""
    n_turned = 2 * turn.shape[2]
    cos, sin = turn.cos().to(x.dtype)[:, None], turn.sin().to(x.dtype)[:, None]
    one, other = x[..., :n_turned].unflatten(3, (-1, 2)).unbind(4)
    pairs = torch.stack([one * cos - other * sin, other * cos + one * sin], dim=4).flatten(3)
    return torch.cat([pairs, x[..., n_turned:]], dim=3)


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: float, eps: float, again: bool) -> None:
        super().__init__()
        self.again = again
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: torch.Tensor, turn: torch.Tensor | None = None) -> torch.Tensor:
        if self.again and self.training:
            out: torch.Tensor = checkpoint(self._forward, x, turn, use_reentrant=False)
            return out
        return self._forward(x, turn)

    def _forward(self, x: torch.Tensor, turn: torch.Tensor | None) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), turn)
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out


def blocks(
    n: int, width: int, heads: int, mlp_ratio: float = 4.0, eps: float = 1e-6, checkpoint: bool = False
) -> nn.ModuleList:
    return nn.ModuleList(Block(width, heads, mlp_ratio, eps, checkpoint) for _ in range(n))
