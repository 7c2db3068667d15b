"""DiffWave (Kong 2021, arXiv 2009.09761): generate sound from noise, conditioned on a mel spectrogram.

Modules are named as in the authors' public vocoder, so that its checkpoints load. The signal is the spectrogram: 80 mel
bands, one frame for 256 samples of sound.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from eegdecode.models.parts import denoising, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class DiffWave:
    """Dilated convolutions over the waveform (Kong 2021), with the sizes of its public vocoder."""

    name: Literal["diffwave"] = "diffwave"
    channels: int = 64  # residual channels of each layer; 64 in the paper's base model, 128 in its large one
    layers: int = 30  # residual layers, of one dilated convolution each
    cycle: int = 10  # layers after which dilations begin again: 1, 2, 4, … 2^(cycle - 1), then from 1
    conditional: bool = True  # conditioned on the signal; otherwise it generates any sound like those of training
    checkpoint: bool = False  # recompute layers in the backward pass: less memory, about a third more time
    hop: ClassVar[int] = 256
    output_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if min(self.channels, self.layers, self.cycle) < 1:
            raise ValueError(
                f"channels, layers and cycle must be at least 1, got {self.channels}, {self.layers} and {self.cycle}"
            )


class Network(nn.Module):
    """(signal, subject, noisy, t) -> the noise, [window, step, feature]."""

    heads, last = ("skip_projection", "output_projection"), ("residual_layers",)

    def __init__(self, cfg: DiffWave, spec: SignalSpec) -> None:
        super().__init__()
        denoising.need_sequence(spec, cfg.name)
        self.spec, self.n_times, self.checkpoint = spec, None, cfg.checkpoint
        self.input_projection = _conv(spec.n_outputs, cfg.channels, 1)
        self.diffusion_embedding = StepEmbedding()
        self.spectrogram_upsampler = None
        if cfg.conditional:
            _check_hop(spec, cfg.hop)
            self.spectrogram_upsampler = Upsampler()
        self.residual_layers = nn.ModuleList(
            ResidualLayer(cfg.channels, 2 ** (depth % cfg.cycle), spec.n_channels if cfg.conditional else 0)
            for depth in range(cfg.layers)
        )
        self.skip_projection = _conv(cfg.channels, cfg.channels, 1)
        self.output_projection = _conv(cfg.channels, spec.n_outputs, 1)
        nn.init.zeros_(self.output_projection.weight)

    def forward(self, x: torch.Tensor, subject: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        denoising.check(noisy, t, self.spec)
        condition = None
        if self.spectrogram_upsampler is not None:
            shapes.check(x, self.spec.n_channels)
            condition = denoising.fitted(self.spectrogram_upsampler(x.mT), noisy.shape[1], DiffWave.hop)
        step = self.diffusion_embedding(t)
        y = functional.relu(self.input_projection(noisy.mT))
        total = torch.zeros_like(y)
        for layer in self.residual_layers:
            if self.checkpoint and self.training:
                y, skipped = checkpoint(layer, y, step, condition, use_reentrant=False)
            else:
                y, skipped = layer(y, step, condition)
            total = total + skipped
        y = functional.relu(self.skip_projection(total / math.sqrt(len(self.residual_layers))))
        noise: torch.Tensor = self.output_projection(y)
        return noise.mT


class StepEmbedding(nn.Module):
    """The diffusion step as 64 sines and cosines of 1 to 10,000 radians a step, through two layers."""

    frequencies: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # The last turns 490,000 radians in 49 steps: rounded in another way than the authors', it is another sine
        self.register_buffer("frequencies", 10.0 ** (torch.arange(64) * 4.0 / 63.0), persistent=False)
        self.projection1 = nn.Linear(128, STEP)
        self.projection2 = nn.Linear(STEP, STEP)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        # Between two steps along a straight line, as the authors do: the sines themselves turn many times on the way
        below, above = t.floor(), t.ceil()
        low, high = (denoising.waves(end, self.frequencies) for end in (below, above))
        waves = low + (high - low) * (t - below)[:, None]
        return functional.silu(self.projection2(functional.silu(self.projection1(waves))))


class Upsampler(nn.Module):
    """The spectrogram at the rate of the sound, by two transposed convolutions that make 16 frames of each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(1, 1, (3, 32), stride=(1, 16), padding=(1, 8))
        self.conv2 = nn.ConvTranspose2d(1, 1, (3, 32), stride=(1, 16), padding=(1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.leaky_relu(self.conv1(x[:, None]), 0.4)
        return functional.leaky_relu(self.conv2(y), 0.4)[:, 0]


class ResidualLayer(nn.Module):
    """One gated dilated convolution, with a residual output and a skip output."""

    def __init__(self, channels: int, dilation: int, n_conditions: int) -> None:
        super().__init__()
        self.dilated_conv = _conv(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.diffusion_projection = nn.Linear(STEP, channels)
        self.conditioner_projection = _conv(n_conditions, 2 * channels, 1) if n_conditions else None
        self.output_projection = _conv(channels, 2 * channels, 1)

    def forward(
        self, x: torch.Tensor, step: torch.Tensor, condition: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.dilated_conv(x + self.diffusion_projection(step)[:, :, None])
        if self.conditioner_projection is not None:
            y = y + self.conditioner_projection(condition)
        gate, value = y.chunk(2, dim=1)
        onwards, skipped = self.output_projection(gate.sigmoid() * value.tanh()).chunk(2, dim=1)
        return (x + onwards) / math.sqrt(2.0), skipped


STEP = 512
"""The size of the embedding of the diffusion step."""


def _conv(n_in: int, n_out: int, width: int, padding: int = 0, dilation: int = 1) -> nn.Conv1d:
    conv = nn.Conv1d(n_in, n_out, width, padding=padding, dilation=dilation)
    nn.init.kaiming_normal_(conv.weight)
    return conv


def _check_hop(spec: SignalSpec, hop: int) -> None:
    ratio = spec.target_sfreq / spec.sfreq
    if abs(ratio - hop) > 1e-6 * hop:
        raise ValueError(
            f"diffwave makes {hop} = 16 x 16 samples of sound for each frame of the signal, but {spec.target_sfreq:g} "
            f"Hz over {spec.sfreq:g} Hz is {ratio:g}: use frames at {spec.target_sfreq / hop:g} Hz, or a joined "
            "model, whose encoder gives them"
        )
