"""Spatial attention over sensor positions (Défossez 2023): maps any montage to a fixed number of virtual channels."""

import logging
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from eegdecode import sphere
from eegdecode.signals import SignalSpec

log = logging.getLogger(__name__)

MARGIN = 0.2
"""The embedding is periodic over the head's width plus MARGIN on each side, so that its two edges differ."""


class Merger(nn.Module):
    """[window, time, channel] -> [window, time, virtual channel], each a weighted mean of the channels.

    A weight is the softmax over channels of a function of the position alone, learnt as a sum of waves. So channels at
    one position have the same weight.
    """

    positions: torch.Tensor
    waves: torch.Tensor

    def __init__(self, spec: SignalSpec, n_virtual: int, n_frequencies: int, dropout_radius: float) -> None:
        super().__init__()
        positions = torch.tensor(flat(spec), dtype=torch.float32)
        self.dropout_radius = dropout_radius
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("waves", waves(positions, n_frequencies), persistent=False)
        n_waves = 2 * n_frequencies**2
        self.heads = nn.Parameter(torch.randn(n_virtual, n_waves) / math.sqrt(n_waves))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # One matrix for all windows, as positions are the same; attention over the data would need one for each window
        scores = self.heads @ self.waves.mT
        if self.training and self.dropout_radius:
            near = (self.positions - torch.rand(2, device=x.device)).norm(dim=1) <= self.dropout_radius
            scores = scores.masked_fill(near & ~near.all(), -torch.inf)
        return functional.linear(x, scores.softmax(dim=1))


def waves(positions: torch.Tensor, n_frequencies: int) -> torch.Tensor:
    """Return [place, 2 n²]: cosine and sine of 2 pi (k x + l y) / width, for k and l from 0 to n - 1."""
    turns = torch.arange(n_frequencies) * (2 * math.pi / (1 + 2 * MARGIN))
    x, y = (positions + MARGIN).unbind(dim=1)
    phase = ((x[:, None] * turns)[:, :, None] + (y[:, None] * turns)[:, None, :]).flatten(1)
    return torch.cat([phase.cos(), phase.sin()], dim=1)


def flat(spec: SignalSpec) -> np.ndarray:
    """Project the head as seen from above to [channel, 2] in [0, 1]. The distance from the middle is the angle from the
    top, so that sensors below the ears are further out than those above (azimuthal, equidistant)."""
    places = dict(zip(spec.channels, spec.positions, strict=False))
    if not any(places.values()):
        places = {name: tuple(place) for name, place in sphere.ten_ten().items() if name in spec.channels}
        if places:
            log.info("the data has no channel positions: they are taken from the names in the 10-10 system")
    lost = [name for name in spec.channels if places.get(name) is None]
    if lost:
        raise ValueError(
            f"brainmodule weighs channels by their position, which is not known for {len(lost)} of "
            f"{spec.n_channels}: {', '.join(lost[:5])}{', …' if len(lost) > 5 else ''}. Add their positions to the "
            "study's electrodes.tsv, leave them out with the step pick, or set model.merger=false"
        )
    x, y, z = np.array([places[name] for name in spec.channels], float).T
    around, from_top = np.arctan2(y, x), np.arctan2(np.hypot(x, y), z)
    seen = np.stack([from_top * np.cos(around), from_top * np.sin(around)], axis=1)
    width = np.ptp(seen, axis=0)
    return (seen - seen.min(axis=0)) / np.where(width > 0, width, 1)
