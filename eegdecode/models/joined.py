"""An encoder and a generator as one network: EEG -> condition of the generator -> sound or a spectrogram.

`encoder` and `generator` are separate networks: weights of either, trained alone, load under its name.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import nn

from eegdecode import models
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Encoder, Generator
from eegdecode.models.diffwave import DiffWave
from eegdecode.models.parts import denoising, trainable
from eegdecode.models.unet import UNet
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Joined:
    """An encoder of the signal conditions a generator: A -> B. Trained as one, or in part (Trainable)."""

    name: Literal["joined"] = "joined"
    encoder: Encoder = field(default_factory=BiLSTM)  # network that turns the signal into the condition
    generator: Generator = field(default_factory=UNet)  # diffusion model that generates the target under that condition
    features: int = 80
    """Features of the condition at a time; 80 for the vocoder of DiffWave, which is conditioned on 80 mel bands."""
    output_kind: ClassVar[str] = "noise"
    composite: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features must be at least 1, got {self.features}")
        if isinstance(self.generator, DiffWave) and not self.generator.conditional:
            raise ValueError("the generator of a joined model must be conditioned on the encoder: set conditional=true")


class Network(nn.Module):
    """(signal, subject, noisy, t) -> the noise, [window, step, feature]."""

    def __init__(self, cfg: Joined, spec: SignalSpec) -> None:
        super().__init__()
        denoising.need_sequence(spec, cfg.name)
        condition_sfreq = spec.target_sfreq / cfg.generator.hop
        encoder_spec = dataclasses.replace(
            spec, n_outputs=cfg.features, target_sfreq=condition_sfreq, classes=(), class_values=()
        )
        if spec.n_times is not None and not encoder_spec.n_steps(spec.n_times):
            raise ValueError(
                f"{cfg.generator.name} needs one condition for {cfg.generator.hop} samples of the target "
                f"({cfg.generator.hop / spec.target_sfreq:.2f} s), but a window lasts "
                f"{spec.n_times / spec.sfreq:.2f} s: take longer windows"
            )
        self.encoder = models.build(cfg.encoder, encoder_spec)
        generator_spec = SignalSpec(
            tuple(f"feature{index}" for index in range(cfg.features)),
            condition_sfreq,
            spec.n_outputs,
            spec.subjects,
            spec.target_sfreq,
            None if spec.n_times is None else encoder_spec.n_steps(spec.n_times),
        )
        self.generator = models.build(cfg.generator, generator_spec)
        self.n_times = self.encoder.n_times
        self.heads = trainable.together(generator=self.generator)
        self.last = tuple(f"generator.{name}" for name in trainable.last_of(self.generator))

    def forward(self, x: torch.Tensor, subject: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.generator(self.encoder(x, subject), subject, noisy, t)
        return out
