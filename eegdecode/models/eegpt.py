"""The encoder of EEGPT (Wang et al., NeurIPS 2024), under a head: linear probe, last block, or everything.

The names of its parameters are those of the authors, so that their checkpoint loads. Their recipe of the linear probe
(BCIC-2A) is model=eegpt with train=probe: a spatial filter to 19 channels and the two linear layers learn.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.config import need_at_least_one, need_fraction
from eegdecode.models.parts import attention, codebook, norms, shapes
from eegdecode.signals import SignalSpec


class EEGPTSize(NamedTuple):
    width: int
    summaries: int  # summary tokens of a time patch
    encoder: int  # blocks
    predictor: int
    reconstructor: int
    heads: int


EEGPTVariant = Literal["tiny1", "tiny2", "tiny3", "little", "base1", "base2", "base3", "large"]


EEGPT_SIZES: dict[EEGPTVariant, EEGPTSize] = {
    "tiny1": EEGPTSize(64, 1, 2, 2, 4, 4),
    "tiny2": EEGPTSize(64, 4, 2, 2, 4, 4),
    "tiny3": EEGPTSize(64, 4, 8, 8, 8, 4),
    "little": EEGPTSize(128, 4, 8, 8, 8, 4),
    "base1": EEGPTSize(256, 1, 6, 6, 6, 4),
    "base2": EEGPTSize(256, 4, 8, 8, 8, 4),
    "base3": EEGPTSize(512, 1, 6, 6, 6, 8),
    "large": EEGPTSize(512, 4, 8, 8, 8, 8),
}
"""The authors published the weights of large."""


@dataclass(frozen=True)
class EEGPT:
    """The encoder of EEGPT (Wang 2024) under a small head; made for windows of 4 s at 256 Hz, in millivolt."""

    name: Literal["eegpt"] = "eegpt"
    variant: EEGPTVariant = "large"
    """Size of the network, as the authors name it; they published the weights of `large`."""
    train: Literal["probe", "last", "all"] = "all"
    """`probe`: the encoder is frozen, the head alone is trained; `last`: also the encoder's last block and norm; `all`:
    everything."""
    spatial_filter: Literal[0, 19, 58] = 19
    """Virtual channels of a learnt spatial filter, 58 as in pretraining or 19 of the 10-20 system; 0: no filter,
    channels are known by their names."""
    unknown: Literal["drop", "error"] = "drop"
    """Without a filter: drop channels whose names EEGPT does not know, with a warning, or refuse them (`error`)."""
    patch_stride: int = 64  # samples from one patch of 64 to the next; 32 for the paper's P300 and ERN
    probe: int = 16  # features that the head makes of each time patch
    dropout: float = 0.5  # share of the encoder's features dropped before the head
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        need_at_least_one(patch_stride=self.patch_stride, probe=self.probe)
        need_fraction(dropout=self.dropout)


log = logging.getLogger(__name__)

PATCH = 64
"""Samples of a patch: a quarter of a second at 256 Hz."""


SFREQ = 256.0


def warn(spec: SignalSpec, n_times: int, stride: int = PATCH) -> None:
    """Warn in one line of everything in the signal that differs from the training of EEGPT, or is not read."""
    warnings = []
    if spec.sfreq != SFREQ:
        warnings.append(f"was trained at {SFREQ:g} Hz, where this signal has {spec.sfreq:g}: resample it in preprocess")
    if unread := (n_times - PATCH) % stride:
        warnings.append(f"does not read the last {unread} of {n_times} samples: take windows of {n_times - unread}")
    if warnings:
        log.warning("EEGPT %s", "; it ".join(warnings))


def patches(x: torch.Tensor, stride: int = PATCH) -> torch.Tensor:
    """[window, time, channel] -> [window, patch, channel, sample]; samples after the last whole patch are not read."""
    return x.unfold(1, PATCH, stride)


class PatchEmbed(nn.Module):
    """A linear map of the samples of a patch. In the authors' form, a convolution, for the sake of its parameters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, (1, PATCH))

    def forward(self, cut: torch.Tensor) -> torch.Tensor:
        return functional.linear(cut, self.proj.weight.flatten(1), self.proj.bias)


class Encoder(nn.Module):
    """Encodes the patches of one time, of any channels, as summary tokens. Each time is encoded on its own."""

    def __init__(self, size: EEGPTSize, checkpoint: bool) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(size.width)
        self.chan_embed = nn.Embedding(len(codebook.NAMES), size.width)
        self.blocks = attention.blocks(size.encoder, size.width, size.heads, checkpoint=checkpoint)
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.summary_token = nn.Parameter(torch.zeros(1, size.summaries, size.width))
        initialise(self, self.blocks, self.summary_token)

    def forward(self, cut: torch.Tensor, electrodes: torch.Tensor) -> torch.Tensor:
        """Encode [window, patch, channel, sample], with the numbers of the channels in the codebook, [channel] or
        [window, patch, channel], as [window, patch, summary, feature]."""
        tokens = self.patch_embed(cut) + self.chan_embed(electrodes)
        n_windows, n_summaries = tokens.shape[0], self.summary_token.shape[1]
        tokens = tokens.flatten(0, 1)
        x = torch.cat([tokens, self.summary_token.expand(tokens.shape[0], -1, -1).to(tokens.dtype)], dim=1)
        *before, final = self.blocks
        for block in before:
            x = block(x)
        out: torch.Tensor = self.norm(final(x, last=n_summaries)).unflatten(0, (n_windows, -1))
        return out


def initialise(module: nn.Module, blocks: nn.ModuleList, token: nn.Parameter) -> None:
    """Initialise as the authors do: narrow normals, with smaller residual branches in deeper blocks."""
    nn.init.trunc_normal_(token, std=0.02)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=0.02)
            assert part.bias is not None
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
    with torch.no_grad():
        for name, weight in blocks.named_parameters():
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
                weight.div_(math.sqrt(2 * (int(name.split(".")[0]) + 1)))


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output] all at once."""

    last = ("encoder.blocks", "encoder.norm")
    places: torch.Tensor
    electrodes: torch.Tensor

    def __init__(self, cfg: EEGPT, spec: SignalSpec) -> None:
        super().__init__()
        self.n_times, self.n_channels = shapes.need_length(spec, cfg.name, at_least=PATCH), spec.n_channels
        warn(spec, self.n_times, cfg.patch_stride)
        self.stride, self.frozen = cfg.patch_stride, cfg.train == "probe"
        self.heads: tuple[str, ...] = ("probe", "readout")
        self.filter = None
        if cfg.spatial_filter:
            self.heads = ("filter", *self.heads)  # made for these channels, so it is new for other ones
            names = codebook.TEN_TWENTY if cfg.spatial_filter == 19 else codebook.PRETRAINED
            self.filter = norms.Linear(spec.n_channels, cfg.spatial_filter, max_norm=1.0)
            places, electrodes = list(range(len(names))), [codebook.NAMES.index(name) for name in names]
        else:
            places, electrodes = codebook.places(spec.channels, cfg.unknown)
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer("electrodes", torch.tensor(electrodes), persistent=False)

        size = EEGPT_SIZES[cfg.variant]
        self.encoder = Encoder(size, cfg.checkpoint)
        if cfg.train != "all":
            self.encoder.requires_grad_(False)
        if cfg.train == "last":
            self.encoder.blocks[-1].requires_grad_(True)
            self.encoder.norm.requires_grad_(True)

        self.dropout = nn.Dropout(cfg.dropout)
        self.probe = norms.Linear(size.summaries * size.width, cfg.probe, max_norm=1.0)
        n_patches = (self.n_times - PATCH) // cfg.patch_stride + 1
        # Within a norm of 0.25 for classes, as in the paper. A time course has a scale of its own
        last = (n_patches * cfg.probe, shapes.size(spec))
        self.readout = shapes.Readout(
            norms.Linear(*last, max_norm=0.25) if spec.class_values else nn.Linear(*last), spec
        )

    def train(self, mode: bool = True) -> "Network":
        """Keep a frozen encoder in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        x = x[:, :, self.places] if self.filter is None else self.filter(x)
        features = self.encoder(patches(x, self.stride), self.electrodes).flatten(2)
        out: torch.Tensor = self.readout(self.probe(self.dropout(features)).flatten(1))
        return out

    def translate(self, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rename the tensors of a checkpoint to our names. Of its two encoders, the authors continue with
        target_encoder, which is the moving average of the other."""
        target = {name: value for name, value in given.items() if name.startswith("target_encoder.")}
        if not target:
            return dict(given)
        return {name.removeprefix("target_"): value for name, value in target.items()}
