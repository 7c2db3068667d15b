"""Stacked bidirectional LSTMs, a linear layer at every sample: the decoder of Daly 2023 (Sci Rep 13:624)."""

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models import BiLSTM
from eegdecode.models.parts import recurrent, shapes
from eegdecode.signals import SignalSpec


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
