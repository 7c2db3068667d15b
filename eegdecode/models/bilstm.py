"""Stacked bidirectional LSTMs, a linear layer at every sample: the decoder of Daly 2023 (Sci Rep 13:624)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.parts import recurrent, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class BiLSTM:
    """Stacked bidirectional LSTMs and a linear read-out at every sample (Daly 2023: 4 x 250)."""

    name: Literal["bilstm"] = "bilstm"
    hidden: int = 32  # units of each direction, in each layer; the paper has 250
    layers: int = 2  # bidirectional LSTMs, each reads the outputs of the one before; the paper has 4
    dropout: float = 0.0  # share of features dropped between layers
    subject_layer: bool = False
    """A linear layer for each subject before the LSTMs (Défossez 2023), which starts as the identity."""
    output_kind: ClassVar[str] = "outputs"
    """The kind of its outputs, which must be the input kind of the objective."""

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1:
            raise ValueError(f"hidden and layers must be at least 1, got {self.hidden} and {self.layers}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.dropout and self.layers == 1:
            raise ValueError(f"dropout works between layers, but got dropout {self.dropout} with 1 layer")


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, step, output], or their mean over time."""

    heads, last = ("readout",), ("layers",)

    def __init__(self, cfg: BiLSTM, spec: SignalSpec) -> None:
        super().__init__()
        self.spec, self.n_times = spec, None
        self.dropout = cfg.dropout
        # Starts at the identity, so that signals of a subject without training pass unchanged
        self.of_subject = None
        if cfg.subject_layer:
            self.of_subject = nn.Parameter(torch.eye(spec.n_channels).repeat(len(spec.subjects), 1, 1))
        # One by one, not as one LSTM of several layers: cuDNN's own dropout between its layers keeps a random state
        # that no seed of a later step resets, so a resumed run would not be the same
        sizes = [spec.n_channels] + [2 * cfg.hidden] * (cfg.layers - 1)
        self.layers = nn.ModuleList(recurrent.LSTM(n, cfg.hidden, batch_first=True, bidirectional=True) for n in sizes)
        self.readout = nn.Linear(2 * cfg.hidden, spec.n_outputs)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels)
        n_times = x.shape[1]
        if self.of_subject is not None:
            x = torch.bmm(x, self.of_subject[subject])
        for depth, layer in enumerate(self.layers):
            if depth:
                x = functional.dropout(x, self.dropout, self.training)
            x, _ = layer(x)
        return shapes.at_steps(self.readout(x), self.spec, n_times)
