"""Two encoders, of a signal and of its spectrum, under a classifier: TF-C (Zhang et al., NeurIPS 2022)."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import nn

from eegdecode.models.parts import shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class TFC:
    """The two encoders of TF-C (Zhang 2022) under its classifier."""

    form: Literal["paper", "released"] = "paper"
    """`paper`: each window has its embedding on its own; `released`: as in the published code, where attention and
    batch norm go over the windows of a batch."""
    name: Literal["tfc"] = "tfc"
    output_kind: ClassVar[str] = "outputs"


HEADS, LAYERS, HIDDEN, EMBEDDED, CLASSIFIER = 2, 2, 256, 128, 64


class Embedded(NamedTuple):
    """The embedding of a window in each branch, before (h) and after (z) its projector; [window, feature]."""

    h_t: torch.Tensor
    h_f: torch.Tensor
    z_t: torch.Tensor
    z_f: torch.Tensor


class Branch(nn.Module):
    """Embeds [window, time or frequency, channel], and projects the embedding.

    A channel is a token, as long as the window. The released code takes the windows of a batch for the positions of one
    sequence, so that each attends to the others, and its batch norm mixes them once more. The paper does neither. In
    its form, tokens of one window attend to each other, and a layer norm of the same size replaces the batch norm.
    """

    def __init__(self, cfg: TFC, n_channels: int, n_times: int) -> None:
        super().__init__()
        of_window = cfg.form == "paper"
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(n_times, HEADS, dim_feedforward=2 * n_times, batch_first=of_window)
            for _ in range(LAYERS)
        )
        self.projector = nn.Sequential(
            nn.Linear(n_channels * n_times, HIDDEN),
            nn.LayerNorm(HIDDEN) if of_window else nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, EMBEDDED),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = x.mT
        for layer in self.layers:
            tokens = layer(tokens)
        encoded = tokens.flatten(1)
        return encoded, self.projector(encoded)


class Encoder(nn.Module):
    """Both branches, for a signal and the magnitudes of its frequencies."""

    def __init__(self, cfg: TFC, n_channels: int, n_times: int) -> None:
        super().__init__()
        if n_times % HEADS:
            raise ValueError(
                f"tfc attends with {HEADS} heads to tokens as long as a window: got {n_times} samples, "
                f"use {n_times - 1} or {n_times + 1}"
            )
        self.time = Branch(cfg, n_channels, n_times)
        self.frequency = Branch(cfg, n_channels, n_times)

    def forward(self, x: torch.Tensor, spectrum: torch.Tensor) -> Embedded:
        h_t, z_t = self.time(x)
        h_f, z_f = self.frequency(spectrum)
        return Embedded(h_t, h_f, z_t, z_f)


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output] all at once."""

    heads = ("classifier",)

    def __init__(self, cfg: TFC, spec: SignalSpec) -> None:
        super().__init__()
        self.n_times, self.n_channels = shapes.need_length(spec, cfg.name, at_least=2), spec.n_channels
        self.encoder = Encoder(cfg, self.n_channels, self.n_times)
        last = shapes.Readout(nn.Linear(CLASSIFIER, shapes.size(spec)), spec)
        self.classifier = nn.Sequential(nn.Linear(2 * EMBEDDED, CLASSIFIER), nn.Sigmoid(), last)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        embedded = self.encoder(x, magnitudes(x))
        out: torch.Tensor = self.classifier(torch.cat([embedded.z_t, embedded.z_f], dim=1))
        return out


def magnitudes(x: torch.Tensor) -> torch.Tensor:
    """Return [window, frequency, channel], with as many frequencies as samples."""
    return torch.fft.fft(x.float(), dim=1).abs()
