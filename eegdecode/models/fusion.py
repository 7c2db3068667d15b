"""Fuse the outputs of an EEG encoder and an MEG encoder; a window may lack one of the two."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode import models
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Encoder, How
from eegdecode.models.parts import joining, shapes, trainable
from eegdecode.signals import Kind, SignalSpec


@dataclass(frozen=True)
class Fusion:
    """One encoder of the EEG and one of the MEG. A window without one of the two, whose samples are all 0, is decoded
    from the other."""

    name: Literal["fusion"] = "fusion"
    eeg: Encoder = field(default_factory=BiLSTM)  # encoder of the EEG channels
    meg: Encoder = field(default_factory=BiLSTM)  # encoder of the MEG channels, magnetometers and gradiometers
    fusion: How = "add"
    """How the outputs of the encoders become one: `add`, the mean; `concat`, each gives an equal share of the outputs;
    `gated`, a mean weighted by learnt gates."""
    normalise: bool = False  # scale the output of each encoder to length 1, so that none dominates
    output_kind: ClassVar[str] = "outputs"
    composite: ClassVar[bool] = True


KINDS: dict[str, tuple[Kind, ...]] = {"eeg": ("eeg",), "meg": ("mag", "grad")}


class Network(nn.Module):
    """([window, time, channel], [window]) -> the target's shape. `eeg` and `meg` are separate networks: parameters of
    each, trained alone, load under its name."""

    eeg_at: torch.Tensor
    meg_at: torch.Tensor

    def __init__(self, cfg: Fusion, spec: SignalSpec) -> None:
        super().__init__()
        self.spec, self.normalise = spec, cfg.normalise
        n_each = joining.share(cfg.fusion, 2, spec.n_outputs)
        places = which(spec)
        self.register_buffer("eeg_at", torch.tensor(places["eeg"]), persistent=False)
        self.register_buffer("meg_at", torch.tensor(places["meg"]), persistent=False)
        self.eeg = models.build(cfg.eeg, part(spec, places["eeg"], n_each))
        self.meg = models.build(cfg.meg, part(spec, places["meg"], n_each))
        self.n_times = joining.one_length(self.eeg, self.meg)
        self.join = joining.Join(cfg.fusion, 2, n_each)
        self.heads = trainable.together(eeg=self.eeg, meg=self.meg, join=self.join)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels, self.n_times)
        encoded, there = [], []
        for encoder, at in ((self.eeg, self.eeg_at), (self.meg, self.meg_at)):
            own, subjects, has = stood_in(x[:, :, at], subject)
            given = encoder(own, subjects)
            encoded.append(functional.normalize(given, dim=-1) if self.normalise else given)
            there.append(has)
        joined: torch.Tensor = self.join(encoded, torch.stack(there, dim=1))
        return joined


def stood_in(x: torch.Tensor, subject: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Replace each window that is all 0 by another; return the windows, their subjects, and [window]: which are
    original.

    So no encoder divides by the spread of zeros, or uses them in the statistics of a batch; the output for a replaced
    window is not used. If all windows are 0, waves replace them.
    """
    has = (x != 0).flatten(1).any(dim=1)
    row = torch.where(has, torch.arange(x.shape[0], device=x.device), has.int().argmax())
    time, channel = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[1:])
    waves = torch.sin(time[:, None] * (1 + channel))
    return torch.where(has.any(), x[row], waves), subject[row], has


def which(spec: SignalSpec) -> dict[str, list[int]]:
    """Return the indices of the channels of each kind."""
    indices = {name: [at for at, kind in enumerate(spec.kinds) if kind in kinds] for name, kinds in KINDS.items()}
    others = sorted(set(spec.kinds) - {kind for kinds in KINDS.values() for kind in kinds})
    if others or not all(indices.values()):
        others_note = f" and others ({', '.join(others)})" if others else ""
        raise ValueError(
            f"fusion reads EEG and MEG, but got {len(indices['eeg'])} channels of EEG, {len(indices['meg'])} of MEG"
            f"{others_note}: pick these two kinds in preprocess, or use a model for one kind"
        )
    return indices


def part(spec: SignalSpec, at: list[int], n_outputs: int) -> SignalSpec:
    """These channels alone."""
    return replace(
        spec,
        channels=tuple(spec.channels[place] for place in at),
        kinds=tuple(spec.kinds[place] for place in at),
        positions=tuple(spec.positions[place] for place in at) if spec.positions else (),
        n_outputs=n_outputs,
    )
