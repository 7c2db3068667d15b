"""Convolutions, transformers and graph attention, one after the other, in the order of `stages`.

Between stages a window is [window, patch of time, node, feature]; a node is an electrode, or a mixture of them by a
cnn. Delvigne 2022 (arXiv 2204.07162) also uses a cnn over space and a transformer over time.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from eegdecode.models.config import need_sizes
from eegdecode.models.parts import attention, gatv2, shapes
from eegdecode.signals import SignalSpec

Stage = Literal["cnn", "transformer", "gat", "fc"]


@dataclass(frozen=True)
class Hybrid:
    """A sequence of stages: gat+fc, cnn+transformer, transformer+cnn, cnn+gat, transformer+gat, cnn+transformer+gat
    (over space, over time, over nodes), or any other order."""

    name: Literal["hybrid"] = "hybrid"
    stages: tuple[Stage, ...] = ("cnn", "transformer")
    """Stages in their order. `cnn`: as the first stage, spatial and temporal filters; later, convolutions over
    neighbouring times. `transformer`: over time, for each node. `gat`: GATv2 over nodes, at each time. `fc`: merges all
    nodes of a time into one."""
    nodes: int = 8  # outputs of the spatial filters of a first cnn; 0: each electrode is a node
    patch_s: float = 0.125  # length of a time patch; shorter ones cost more
    kernel_s: float = 0.125  # length of the temporal filters of a first cnn
    width: int = 32  # features of a node at a time; a multiple of 2 * heads
    heads: int = 4  # attention heads of a transformer and of a gat, which share the width evenly
    layers: int = 2  # blocks of each transformer and of each gat
    dropout: float = 0.1  # share dropped of the attention, and of what each block or stage adds
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages are at least one of cnn, transformer, gat, fc; got none")
        if self.nodes < 0:
            raise ValueError(f"nodes must be 0 (the electrodes) or more, got {self.nodes}")
        need_sizes(self.width, self.heads, self.layers, self.dropout, patch_s=self.patch_s, kernel_s=self.kernel_s)


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, step, output], or their mean over patches."""

    heads, last = ("readout",), ("stages", "norm")

    def __init__(self, cfg: Hybrid, spec: SignalSpec) -> None:
        super().__init__()
        self.spec, self.n_times = spec, None
        self.samples = max(1, round(cfg.patch_s * spec.sfreq))
        first: nn.Module
        if cfg.stages[0] == "cnn":
            first, n_nodes, later = Filters(cfg, spec, self.samples), cfg.nodes or spec.n_channels, cfg.stages[1:]
        else:
            first, n_nodes, later = Embedding(cfg.width, self.samples), spec.n_channels, cfg.stages
        self.first = first
        self.node = nn.Parameter(torch.randn(n_nodes, cfg.width) * 0.02)
        self.stages = nn.ModuleList()
        for stage in later:
            if stage == "cnn":
                self.stages.append(Convolution(cfg))
            elif stage == "transformer":
                self.stages.append(OverTime(cfg))
            elif stage == "gat":
                self.stages.append(OverNodes(cfg))
            else:
                self.stages.append(Together(cfg, n_nodes))
                n_nodes = 1
        self.norm = nn.LayerNorm(cfg.width)
        self.readout = nn.Linear(cfg.width, spec.n_outputs)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels)
        n_times = x.shape[1]
        x = self.first(x) + self.node
        for stage in self.stages:
            x = stage(x)
        out = self.readout(self.norm(x.mean(dim=2)))
        return shapes.patches_at_steps(out, self.spec, self.samples, n_times)


class Embedding(nn.Module):
    """[window, time, channel] -> [window, patch, channel, feature]: a linear layer of a patch's samples."""

    def __init__(self, width: int, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.linear = nn.Linear(samples, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(shapes.cut_patches(x, self.samples).mT)
        return out


class Filters(nn.Module):
    """[window, time, channel] -> [window, patch, node, feature]: over channels, in time, the mean over a patch."""

    def __init__(self, cfg: Hybrid, spec: SignalSpec, samples: int) -> None:
        super().__init__()
        self.samples = samples
        kernel = max(1, round(cfg.kernel_s * spec.sfreq))
        self.around = ((kernel - 1) // 2, kernel // 2)
        self.space = nn.Linear(spec.n_channels, cfg.nodes, bias=False) if cfg.nodes else nn.Identity()
        self.time = nn.Conv1d(1, cfg.width, kernel, bias=False)
        self.norm = nn.BatchNorm1d(cfg.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n_windows = x.shape[0]
        x = self.space(functional.pad(x, (0, 0, 0, -x.shape[1] % self.samples)))
        each = functional.pad(x.mT.flatten(0, 1)[:, None], self.around)
        each = functional.avg_pool1d(functional.elu(self.norm(self.time(each))), self.samples)
        return each.unflatten(0, (n_windows, -1)).permute(0, 3, 1, 2)


class Convolution(nn.Module):
    """A convolution over neighbouring patches of each node, with a residual connection."""

    def __init__(self, cfg: Hybrid) -> None:
        super().__init__()
        self.dropout = cfg.dropout
        self.norm = nn.LayerNorm(cfg.width)
        self.inner = nn.Conv1d(cfg.width, 2 * cfg.width, 3, padding=1)
        self.outer = nn.Conv1d(2 * cfg.width, cfg.width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n_windows = x.shape[0]
        each = self.norm(x).permute(0, 2, 3, 1).flatten(0, 1)
        each = self.outer(functional.gelu(self.inner(each)))
        convolved = each.unflatten(0, (n_windows, -1)).permute(0, 3, 1, 2)
        return x + functional.dropout(convolved, self.dropout, self.training)


class OverTime(nn.Module):
    """A transformer over the patches of each node."""

    def __init__(self, cfg: Hybrid) -> None:
        super().__init__()
        self.pairs = cfg.width // cfg.heads // 2
        self.blocks = attention.blocks(cfg.layers, cfg.width, cfg.heads, checkpoint=cfg.checkpoint, dropout=cfg.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n_windows = x.shape[0]
        turn = attention.angles(torch.arange(x.shape[1], device=x.device), self.pairs)
        each = x.transpose(1, 2).flatten(0, 1)
        for block in self.blocks:
            each = block(each, turn)
        return each.unflatten(0, (n_windows, -1)).transpose(1, 2)


class OverNodes(nn.Module):
    """Graph attention between all nodes, at each patch."""

    def __init__(self, cfg: Hybrid) -> None:
        super().__init__()
        self.checkpoint = cfg.checkpoint
        self.blocks = nn.ModuleList(gatv2.Block(cfg.width, cfg.heads, cfg.dropout) for _ in range(cfg.layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        each = x.flatten(0, 1)
        for block in self.blocks:
            again = self.checkpoint and self.training
            each = checkpoint(block, each, use_reentrant=False) if again else block(each)
        return each.unflatten(0, x.shape[:2])


class Together(nn.Module):
    """[window, patch, node, feature] -> [window, patch, 1, feature]: fully connected over all nodes of a patch."""

    def __init__(self, cfg: Hybrid, n_nodes: int) -> None:
        super().__init__()
        self.dropout = cfg.dropout
        self.norm = nn.LayerNorm(cfg.width)
        self.inner = nn.Linear(n_nodes * cfg.width, 2 * cfg.width)
        self.outer = nn.Linear(2 * cfg.width, cfg.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.elu(self.inner(self.norm(x).flatten(2)))
        out: torch.Tensor = self.outer(functional.dropout(inner, self.dropout, self.training))
        return out[:, :, None]
