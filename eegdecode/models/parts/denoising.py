"""Parts of denoising networks. These are called with (x, subject, noisy, t) and predict the noise.

`noisy` [window, step, feature] is the target with noise added, `t` [window] the diffusion step from 0, a fraction
between two steps of training. `x` is the signal that conditions the target.
"""

from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.parts import deterministic, shapes
from eegdecode.signals import SignalSpec


def need_sequence(spec: SignalSpec, name: str) -> None:
    if not spec.is_sequence:
        raise ValueError(f"{name} needs a target that is a time course: name one (target=mel, target=audio)")


def check(noisy: torch.Tensor, t: torch.Tensor, spec: SignalSpec) -> None:
    """Refuse a target of another shape than the model was built for, or without a diffusion step for each window."""
    if noisy.ndim != 3 or noisy.shape[2] != spec.n_outputs:
        raise ValueError(
            f"got a noisy target of shape {tuple(noisy.shape)}; needs [window, step, {spec.n_outputs} features]"
        )
    if t.shape != noisy.shape[:1]:
        raise ValueError(f"got diffusion steps of shape {tuple(t.shape)} for {noisy.shape[0]} windows; needs one each")


def waves(t: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """Embed a number [window] as sines and cosines, [window, 2 frequency]; frequencies are in radians per step."""
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def at_rate(x: torch.Tensor, n_times: int) -> torch.Tensor:
    """Resample [window, feature, any time] to n_times, with linear interpolation."""
    if x.shape[2] == n_times:
        return x
    return deterministic.interpolated(x, n_times)


def fitted(x: torch.Tensor, n_times: int, hop: int) -> torch.Tensor:
    """Cut [window, feature, time] to n_times, or hold its last value, after rounding to whole hops."""
    missing = n_times - x.shape[2]
    if abs(missing) > hop:
        raise ValueError(
            f"got {x.shape[2] // hop} frames of {hop} samples for a target of {n_times} samples: "
            "the signal and the target are not of the same stretch of time"
        )
    return functional.pad(x, (0, missing), mode="replicate") if missing > 0 else x[:, :, :n_times]


def padded(x: torch.Tensor, multiple: int, dim: int) -> torch.Tensor:
    """Pad a dimension with zeros at its end to a multiple."""
    missing = -x.shape[dim] % multiple
    if not missing:
        return x
    return functional.pad(x, (0, 0) * (x.ndim - 1 - dim) + (0, missing))


class Told(nn.Module):
    """The signal as one vector for every hop of the target, [window, width, hop]: a linear function of its samples."""

    def __init__(self, spec: SignalSpec, hop: int, width: int) -> None:
        super().__init__()
        self.n_channels = spec.n_channels
        self.stretch = max(1, round(hop * spec.sfreq / spec.target_sfreq))
        self.linear = nn.Conv1d(spec.n_channels, width, self.stretch, stride=self.stretch)

    def forward(self, x: torch.Tensor, n_hops: int) -> torch.Tensor:
        shapes.check(x, self.n_channels)
        return at_rate(self.linear(padded(x.mT, self.stretch, 2)), n_hops)


class Step(nn.Module):
    """The diffusion step as a vector, [window, width]: waves of 1 to 1/10,000 radian a step, through two layers."""

    frequencies: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 10.0 ** torch.linspace(0, -4, 128), persistent=False)
        self.layers = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(waves(t, self.frequencies))
        return out


Layer = TypeVar("Layer", nn.Conv1d, nn.Linear)


def from_zero(layer: Layer) -> Layer:
    """Set the weights and biases of the layer to 0, and return it."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
