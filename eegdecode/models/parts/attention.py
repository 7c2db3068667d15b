"""The transformer block of all models: pre-norm attention and a two-layer MLP, each with a residual (Vaswani 2017).

    for block in blocks(8, width=512, heads=8):
        x = block(x)  # [window, token, feature]

Layers are named and ordered as those of a ViT in timm, so that its parameters match by name.
"""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as compute_again


class Attention(nn.Module):
    """Multi-head attention: every token attends to all that its mask allows.

    Parameters
    ----------
    scale
        Factor of the products of queries and keys; None: 1 / sqrt(numbers of a head).
    dropout
        Share of the attention weights that is dropped.
    """

    def __init__(
        self, width: int, heads: int, qkv_bias: bool = True, scale: float | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads share a width evenly, but got {heads} heads for a width of {width}")
        self.heads, self.scale, self.dropout = heads, scale, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x: torch.Tensor,
        turn: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        last: int | None = None,
    ) -> torch.Tensor:
        """`turn`: angles of rotary positions, [window or 1, token, pair]. `mask`: true if a token (second last) may
        attend to another (last). `causal`: only to itself and to those before, without a mask. `last`: return only the
        outputs of the last tokens, this number of them (not together with causal)."""
        query, key, value = self.split(x)
        if turn is not None:
            query, key = turned(query, turn), turned(key, turn)
        return self.join(query if last is None else query[:, :, -last:], key, value, mask, causal)

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values, each [window, head, token, number]."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def join(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None = None,
        causal: bool = False,
    ) -> torch.Tensor:
        """Return the attention's output, [window, token, feature]."""
        attended = functional.scaled_dot_product_attention(
            query, key, value, mask, self.dropout if self.training else 0.0, causal, scale=self.scale
        )
        out: torch.Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


def angles(places: torch.Tensor, pairs: int, longest: float = 10000.0) -> torch.Tensor:
    """Return [1, token, pair] for tokens at these places [token]: angles of 1 radian a place, and ever slower ones."""
    speeds = longest ** -(torch.arange(pairs, device=places.device, dtype=torch.float32) / pairs)
    return (places.to(torch.float32)[:, None] * speeds)[None]


def turned(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Rotate neighbouring numbers as points of a plane, one pair for each angle; the others stay (rotary embedding, Su
    2021). [window, token, pair] angles, [window, head, token, number] numbers."""
    n_turned = 2 * turn.shape[2]
    cos, sin = turn.cos().to(x.dtype)[:, None], turn.sin().to(x.dtype)[:, None]
    one, other = x[..., :n_turned].unflatten(3, (-1, 2)).unbind(4)
    pairs = torch.stack([one * cos - other * sin, other * cos + one * sin], dim=4).flatten(3)
    return torch.cat([pairs, x[..., n_turned:]], dim=3)


class MLP(nn.Module):
    """Two layers, applied to each token alone."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.dropout(functional.gelu(self.fc1(x)), self.dropout, self.training)
        out: torch.Tensor = self.fc2(inner)
        return out


class LayerNorm(nn.LayerNorm):
    """torch's, also with weights of half precision and numbers of float32, as in a sharded model on a CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight, bias = (each if each.dtype == input.dtype else each.float() for each in (self.weight, self.bias))
        return functional.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class Block(nn.Module):
    """Attention, then two layers; each normalises its input, and its output is added to it.

    Parameters
    ----------
    dropout
        Share dropped of the attention weights, of the inner layer, and of the outputs of both parts.
    checkpoint
        Recompute the activations in the backward pass instead of keeping them: less memory, a third more time.
    """

    is_block: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        eps: float = 1e-6,
        checkpoint: bool = False,
        qkv_bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.checkpoint, self.dropout = checkpoint, dropout
        self.norm1 = LayerNorm(width, eps)
        self.attn = Attention(width, heads, qkv_bias, scale, dropout)
        self.norm2 = LayerNorm(width, eps)
        self.mlp = MLP(width, int(width * mlp_ratio), dropout)

    def forward(
        self,
        x: torch.Tensor,
        turn: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        last: int | None = None,
    ) -> torch.Tensor:
        if self.checkpoint and self.training:
            out: torch.Tensor = compute_again(self._forward, x, turn, mask, causal, last, use_reentrant=False)
            return out
        return self._forward(x, turn, mask, causal, last)

    def _forward(
        self,
        x: torch.Tensor,
        turn: torch.Tensor | None,
        mask: torch.Tensor | None,
        causal: bool,
        last: int | None,
    ) -> torch.Tensor:
        attended = self.attn(self.norm1(x), turn, mask, causal, last)
        return self.after_attention(x if last is None else x[:, -last:], attended)

    def after_attention(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Apply all that follows the attention, for a caller with a cache of keys and values, which does the attention
        itself."""
        x = x + functional.dropout(attended, self.dropout, self.training)
        return x + functional.dropout(self.mlp(self.norm2(x)), self.dropout, self.training)


def blocks(
    n: int,
    width: int,
    heads: int,
    mlp_ratio: float = 4.0,
    eps: float = 1e-6,
    checkpoint: bool = False,
    qkv_bias: bool = True,
    scale: float | None = None,
    dropout: float = 0.0,
) -> nn.ModuleList:
    """Return a list of n blocks; wrap each for FSDP."""
    return nn.ModuleList(Block(width, heads, mlp_ratio, eps, checkpoint, qkv_bias, scale, dropout) for _ in range(n))
