"""A transformer over time (Vaswani 2017): tokens of some samples of all channels, placed by rotation (Su 2021)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import nn

from eegdecode.models.parts import attention, shapes, streaming
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Transformer:
    """A transformer over time (Vaswani 2017); tokens are patches of all channels, with rotary positions (Su 2021)."""

    name: Literal["transformer"] = "transformer"
    causal: bool = False  # no later samples are read, so the network can stream
    past: int = 256  # if causal: number of tokens that each token attends to, itself and those just before it
    patch: int = 8  # samples of a token
    width: int = 64  # features of a token; a multiple of 2 * heads
    heads: int = 4  # attention heads, which share the width evenly
    layers: int = 4  # blocks, of attention and a two-layer MLP each
    dropout: float = 0.1  # share dropped of the attention, and of the MLP and the residuals of each block
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        for name in ("past", "patch", "width", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"heads share a width in even parts, but got {self.heads} heads for a width of {self.width}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


Memory = tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]
"""Samples of an incomplete token; keys and values of each block, of the tokens that are still attended to."""


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, step, output], or their mean over tokens."""

    heads, last = ("readout",), ("blocks", "norm")

    def __init__(self, cfg: Transformer, spec: SignalSpec) -> None:
        super().__init__()
        self.spec, self.n_times, self.causal = spec, None, cfg.causal
        self.samples, self.past, self.pairs = cfg.patch, cfg.past, cfg.width // cfg.heads // 2
        self.embed = nn.Linear(cfg.patch * spec.n_channels, cfg.width)
        self.blocks = attention.blocks(cfg.layers, cfg.width, cfg.heads, checkpoint=cfg.checkpoint, dropout=cfg.dropout)
        self.norm = nn.LayerNorm(cfg.width)
        self.readout = nn.Linear(cfg.width, spec.n_outputs)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels, at_least=self.samples)
        n_times = x.shape[1]
        if self.causal:
            x = x[:, : n_times - n_times % self.samples]  # a token is complete when its last sample has arrived
        x = self.embed(shapes.cut_patches(x, self.samples).flatten(2))
        n_tokens = x.shape[1]
        short = self.causal and n_tokens <= self.past
        mask = self._may_look(n_tokens, n_tokens, x.device) if self.causal and not short else None
        turn = self._turn(n_tokens, x.device)
        for block in self.blocks:
            x = block(x, turn, mask, short)
        out = self.readout(self.norm(x))
        if self.causal and self.spec.is_sequence:
            known = torch.cat([streaming.nothing_yet(out), out], dim=1)
            return streaming.at_steps(known, self.spec, self.samples, 0, self.spec.n_steps(n_times), 0)
        return shapes.patches_at_steps(out, self.spec, self.samples, n_times)

    def follow(self, x: torch.Tensor, memory: Memory | None) -> tuple[torch.Tensor, Memory]:
        """As in streaming.Causal; the memory holds earlier keys and values."""
        rest, seen = memory or (x[:, :0], [])
        x = torch.cat([rest, x], dim=1)
        n_new = x.shape[1] // self.samples
        x, rest = x[:, : n_new * self.samples], x[:, n_new * self.samples :]
        x = self.embed(x.unflatten(1, (n_new, self.samples)).flatten(2))
        n_before = seen[0][0].shape[2] if seen else 0
        mask = self._may_look(n_new, n_before + n_new, x.device)
        turn = self._turn(n_before + n_new, x.device)
        caches = []
        for depth, block in enumerate(cast("Iterable[attention.Block]", self.blocks)):
            query, key, value = block.attn.split(block.norm1(x))
            if seen:
                key, value = torch.cat([seen[depth][0], key], dim=2), torch.cat([seen[depth][1], value], dim=2)
            # Keys are stored before rotation: only the distance of two tokens counts, so places can be counted from the
            # oldest key that is kept, and do not grow for ever
            first = max(0, key.shape[2] - self.past + 1)
            caches.append((key[:, :, first:], value[:, :, first:]))
            query, key = attention.turned(query, turn[:, n_before:]), attention.turned(key, turn)
            x = block.after_attention(x, block.attn.join(query, key, value, mask))
        return self.readout(self.norm(x)), (rest, caches)

    def _turn(self, n_tokens: int, device: torch.device) -> torch.Tensor:
        return attention.angles(torch.arange(n_tokens, device=device), self.pairs)

    def _may_look(self, n_looking: int, n_seen: int, device: torch.device) -> torch.Tensor:
        """Return the mask [token, token]: the last n_looking of n_seen tokens attend to `past` tokens at most."""
        seen = torch.arange(n_seen, device=device)
        apart = seen[n_seen - n_looking :, None] - seen
        return (apart >= 0) & (apart < self.past)
