"""Temporal then spatial filters, with which many EEG networks begin; and the patterns of spatial filters."""

import torch
from torch import nn
from torch.nn import functional


class TimeThenSpace(nn.Module):
    """[window, time, channel] -> [window, filter, time], without a filter's length less one sample.

    There is no nonlinearity between the two steps, so both are one convolution: less work, and no activations of the
    size channels x filters.
    """

    def __init__(self, n_channels: int, in_time: int, kernel: int, over_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.time = nn.Conv1d(1, in_time, kernel)
        self.space = nn.Conv1d(in_time, over_channels, n_channels, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.einsum("ftc,tk->fck", self.space.weight, self.time.weight[:, 0])
        bias = self.space.weight.sum(dim=2) @ self.time.bias  # type: ignore[operator]  # the layer has a bias
        if self.space.bias is not None:
            bias = bias + self.space.bias
        return functional.conv1d(x.mT, joined, bias.to(joined.dtype))


def patterns(filters: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return [channel, filter]: how the output of each filter [filter, channel] appears at the sensors, in the windows
    x [window, time, channel]. The filters themselves do not show it (Haufe 2014)."""
    samples = x.flatten(0, 1).double()
    samples = samples - samples.mean(dim=0)
    return samples.mT @ (samples @ filters.double().mT) / len(samples)
