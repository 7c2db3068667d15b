"""The two encoders of TF-C (Zhang et al., NeurIPS 2022) for pretraining with the objective `tfc`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from eegdecode.models.parts import shapes
from eegdecode.models.tfc import TFC, Embedded, Encoder
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class TFCPretrain(TFC):
    """TF-C (Zhang 2022) for pretraining: embeddings of a signal and its spectrum are made similar."""

    name: Literal["tfc_pretrain"] = "tfc_pretrain"  # type: ignore[assignment]
    output_kind: ClassVar[str] = "tfc"


class Network(nn.Module):
    """([window, time, channel], [window], [window, frequency, channel]) -> the embeddings and projections of both."""

    heads = ("encoder.time.projector", "encoder.frequency.projector")

    def __init__(self, cfg: TFCPretrain, spec: SignalSpec) -> None:
        super().__init__()
        self.n_times, self.n_channels = shapes.need_length(spec, cfg.name, at_least=2), spec.n_channels
        self.encoder = Encoder(cfg, self.n_channels, self.n_times)

    def forward(self, x: torch.Tensor, subject: torch.Tensor, spectrum: torch.Tensor) -> Embedded:
        shapes.check(x, self.n_channels, self.n_times)
        embedded: Embedded = self.encoder(x, spectrum)
        return embedded
