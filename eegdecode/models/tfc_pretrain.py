"""The two encoders of TF-C (Zhang et al., NeurIPS 2022) for pretraining with the objective `tfc`."""

import torch
from torch import nn

from eegdecode.models import TFCPretrain
from eegdecode.models.parts import shapes
from eegdecode.models.tfc import Embedded, Encoder
from eegdecode.signals import SignalSpec


class Network(nn.Module):
    """([window, time, channel], [window], [window, frequency, channel]) -> what is encoded and projected of both."""

    heads = ("encoder.time.projector", "encoder.frequency.projector")

    def __init__(self, cfg: TFCPretrain, spec: SignalSpec) -> None:
        super().__init__()
        self.n_times, self.n_channels = shapes.need_length(spec, cfg.name, at_least=2), spec.n_channels
        self.encoder = Encoder(cfg, self.n_channels, self.n_times)

    def forward(self, x: torch.Tensor, subject: torch.Tensor, spectrum: torch.Tensor) -> Embedded:
        shapes.check(x, self.n_channels, self.n_times)
        embedded: Embedded = self.encoder(x, spectrum)
        return embedded
