"""A model: its config, and its network."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from eegdecode.models.parts import shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MyMLP:
    """Two linear layers at every sample."""

    name: Literal["mylab_mlp"] = "mylab_mlp"
    width: int = 16  # units of the hidden layer
    output_kind: ClassVar[str] = "outputs"


class Network(nn.Module):
    heads = ("readout",)
    n_times = None

    def __init__(self, cfg: MyMLP, spec: SignalSpec) -> None:
        super().__init__()
        self.spec = spec
        self.hidden = nn.Linear(spec.n_channels, cfg.width)
        self.readout = nn.Linear(cfg.width, spec.n_outputs)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        return shapes.at_steps(self.readout(torch.tanh(self.hidden(x))), self.spec, x.shape[1])
