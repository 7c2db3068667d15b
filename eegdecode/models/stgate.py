"""STGATE: power in bands, a transformer, attention between electrodes and between times (Li 2023, Front Hum Neurosci
17:1169949).

Written from the paper's description, which has no code and no sizes. The adjacency is learnt, and starts out equal.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from eegdecode.models.config import need_sizes
from eegdecode.models.parts import attention, gatv2, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class STGATE:
    """STGATE (Li 2023): band power, a transformer over time, graph attention over electrodes with a learnt adjacency,
    and over time. The paper's abstract gives no sizes: these are ours."""

    name: Literal["stgate"] = "stgate"
    bands_hz: tuple[float, ...] = (1.0, 4.0, 8.0, 14.0, 31.0, 50.0)
    """Edges of the bands; by default delta, theta, alpha, beta and gamma."""
    patch_s: float = 1.0  # length of the window of a band power; a longer one has finer frequencies
    width: int = 32  # features of an electrode at a time; a multiple of 2 * heads
    heads: int = 4  # attention heads of the transformer and of the graph attention, which share the width evenly
    layers: int = 2  # blocks of the transformer
    dropout: float = 0.1  # share dropped of the attention, and of what each block adds
    checkpoint: bool = False  # recompute blocks of the transformer in the backward pass: less memory, more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        if len(self.bands_hz) < 2 or list(self.bands_hz) != sorted(set(self.bands_hz)) or self.bands_hz[0] < 0:
            raise ValueError(
                f"bands_hz are the edges of at least one band, increasing from 0 or more: got {self.bands_hz}"
            )
        need_sizes(self.width, self.heads, self.layers, self.dropout, patch_s=self.patch_s)


LEAST_POWER = 1e-30  # in square volt, for a flat channel; square tesla are near it


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, step, output], or their mean over patches."""

    heads, last = ("readout",), ("over_time", "norm")

    def __init__(self, cfg: STGATE, spec: SignalSpec) -> None:
        super().__init__()
        if spec.n_channels < 2:
            raise ValueError(f"stgate needs at least 2 channels to look at each other, got {spec.n_channels}")
        self.spec, self.n_times = spec, None
        self.samples = max(1, round(cfg.patch_s * spec.sfreq))
        self.pairs = cfg.width // cfg.heads // 2
        self.power = BandPower(cfg, spec.sfreq, self.samples)
        self.embed = nn.Linear(len(cfg.bands_hz) - 1, cfg.width)
        self.node = nn.Parameter(torch.randn(spec.n_channels, cfg.width) * 0.02)
        self.blocks = attention.blocks(cfg.layers, cfg.width, cfg.heads, checkpoint=cfg.checkpoint, dropout=cfg.dropout)
        self.near = nn.Parameter(torch.zeros(spec.n_channels, spec.n_channels))
        self.over_nodes = gatv2.Block(cfg.width, cfg.heads, cfg.dropout, self_loops=False)
        self.over_time = gatv2.Block(cfg.width, cfg.heads, cfg.dropout)
        self.norm = nn.LayerNorm(cfg.width)
        self.readout = nn.Linear(spec.n_channels * cfg.width, spec.n_outputs)

    def adjacency(self) -> torch.Tensor:
        """Return [electrode, electrode]: how near each (first) has the others; a row sums to 1, without the electrode
        itself."""
        return self._log_adjacency().exp()

    def _log_adjacency(self) -> torch.Tensor:
        itself = torch.eye(len(self.near), dtype=torch.bool, device=self.near.device)
        return self.near.masked_fill(itself, -torch.inf).log_softmax(dim=1).masked_fill(itself, -torch.inf)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels)
        n_windows, n_times = x.shape[:2]
        powers = self.power(shapes.cut_patches(x, self.samples))
        x = self.embed(powers) + self.node  # [window, patch, electrode, feature]

        turn = attention.angles(torch.arange(x.shape[1], device=x.device), self.pairs)
        each = x.transpose(1, 2).flatten(0, 1)
        for block in self.blocks:
            each = block(each, turn)
        x = each.unflatten(0, (n_windows, -1)).transpose(1, 2)

        at_once = self.over_nodes(x.flatten(0, 1), self._log_adjacency()).unflatten(0, (n_windows, -1))
        each = self.over_time(at_once.transpose(1, 2).flatten(0, 1))
        x = self.norm(each.unflatten(0, (n_windows, -1)).transpose(1, 2))
        return shapes.patches_at_steps(self.readout(x.flatten(2)), self.spec, self.samples, n_times)


class BandPower(nn.Module):
    """[window, patch, sample, channel] -> [window, patch, channel, band]: the log power, standardised over windows. For
    a normal signal it is twice the differential entropy, up to an offset."""

    waves: torch.Tensor
    bands: torch.Tensor

    def __init__(self, cfg: STGATE, sfreq: float, samples: int) -> None:
        super().__init__()
        with torch.device("cpu"):  # also if a network is built on meta: these values are read
            waves, bands = _waves(cfg, sfreq, samples)
        self.register_buffer("waves", waves, persistent=False)
        self.register_buffer("bands", bands, persistent=False)
        self.norm = nn.BatchNorm1d(bands.shape[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # In full precision: a power is a square, and may have a large offset
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.einsum("wpsc,ksf->kwpcf", x.float(), self.waves)
            power = spectrum.square().sum(dim=0) @ self.bands
            log = (power + LEAST_POWER).log()
            out: torch.Tensor = self.norm(log.flatten(0, 2)).unflatten(0, log.shape[:3])
        return out


def _waves(cfg: STGATE, sfreq: float, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tapered waves [cosine or sine, sample, frequency], and the band of each frequency, [frequency, band]."""
    hz = torch.fft.rfftfreq(samples, 1 / sfreq)
    edges = torch.tensor(cfg.bands_hz)
    within = (hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])
    for band, occurs in enumerate(within.any(dim=0).tolist()):
        if not occurs:
            raise ValueError(
                f"stgate: {samples} samples at {sfreq:g} Hz have no frequency from {cfg.bands_hz[band]:g} to "
                f"{cfg.bands_hz[band + 1]:g} Hz: choose model.bands_hz below {sfreq / 2:g} Hz, or a longer "
                "model.patch_s"
            )
    used = within.any(dim=1)
    turns = torch.arange(samples, dtype=torch.float64)[:, None] * hz[used].double() / sfreq
    taper = torch.hann_window(samples, dtype=torch.float64)[:, None] / samples
    both = torch.stack([torch.cos(2 * torch.pi * turns) * taper, torch.sin(2 * torch.pi * turns) * taper])
    return both.float(), within[used].float()
