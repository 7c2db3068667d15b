"""Pretraining of EEGPT (Wang et al., NeurIPS 2024): an encoder of the visible patches, a predictor of the output of a
momentum encoder for all patches, and a reconstructor of the masked samples.

Names and sizes are those of the authors' checkpoint. The mask derives from each window's key, with equally many visible
patches in every window; the authors draw one mask a batch, and the number of time patches as well.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import nn

from eegdecode import noise
from eegdecode.models.config import need_at_least_one
from eegdecode.models.eegpt import EEGPT_SIZES, PATCH, EEGPTSize, EEGPTVariant, Encoder, initialise, patches, warn
from eegdecode.models.parts import attention, codebook, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class EEGPTPretrain:
    """EEGPT for pretraining: encoder of the visible patches, momentum encoder of all, predictor, reconstructor."""

    name: Literal["eegpt_pretrain"] = "eegpt_pretrain"
    variant: EEGPTVariant = "large"
    """Size of the network, as the authors name it; they published the weights of `large`."""
    unknown: Literal["drop", "error"] = "drop"
    """Drop channels whose names EEGPT does not know, with a warning, or refuse them (`error`)."""
    seen_times: float = 0.5  # share of the time patches that are visible
    seen_channels: int = 12  # channels that are visible at each visible time; 12 is a fifth of the paper's 58
    asked: float = 0.2
    """Share of the hidden channels at visible times that are reconstructed, besides all at hidden times."""
    checkpoint: bool = False  # recompute blocks in the backward pass: less memory, about a third more time
    output_kind: ClassVar[str] = "eegpt"

    def __post_init__(self) -> None:
        need_at_least_one(seen_channels=self.seen_channels)
        if not 0 < self.seen_times < 1 or not 0 <= self.asked <= 1:
            raise ValueError(
                f"seen_times must lie in (0, 1) and asked in [0, 1], got {self.seen_times} and {self.asked}"
            )


TIMES, CHANNELS, ASKED = 20, 21, 22  # separate the draws of a window
SLOWEST, FASTEST = 0.996, 1.0  # momentum of the encoder of all patches, at the start and at the end


class Aligned(NamedTuple):
    predicted: torch.Tensor  # [window, patch, summary, feature]
    target: torch.Tensor  # output of the encoder that sees everything; the same shape
    reconstructed: torch.Tensor  # [window, hidden, sample]
    patches: torch.Tensor  # the original samples; the same shape


class Masks(NamedTuple):
    """The visible part of a window. A token's number is its time * channels + its channel."""

    times: torch.Tensor  # [window, seen time]
    seen: torch.Tensor  # [window, seen time, seen channel], numbers of tokens
    asked: torch.Tensor  # [window, hidden], numbers of tokens that are to be reconstructed


class RotaryEmbedding(nn.Module):
    """Angles of positions in time, for half of each head; a step is half as long as usual."""

    def __init__(self, size: EEGPTSize) -> None:
        super().__init__()
        n_turned = size.width // size.heads // 2
        fractions = torch.arange(0, n_turned, 2) / n_turned
        self.freqs = nn.Parameter(10000.0**-fractions, requires_grad=False)  # a parameter in the authors' checkpoint

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        """Return the angles [window, token, pair] of times [window, token]."""
        return times[..., None] / 2 * self.freqs


class Predictor(nn.Module):
    """Predicts the summaries of all times from those of the visible times."""

    def __init__(self, size: EEGPTSize, n_patches: int, checkpoint: bool) -> None:
        super().__init__()
        self.n_patches = n_patches
        self.predictor_embed = nn.Linear(size.width, size.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.summaries, size.width))
        self.time_embed = RotaryEmbedding(size)
        self.predictor_blocks = attention.blocks(size.predictor, size.width, size.heads, checkpoint=checkpoint)
        self.predictor_norm = nn.LayerNorm(size.width, eps=1e-6)
        self.predictor_proj = nn.Linear(size.width, size.width)
        initialise(self, self.predictor_blocks, self.mask_token)

    def forward(self, seen: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return predictions for all times, and these with the known summaries put in, from [window, seen time,
        summary, feature]."""
        x = self.predictor_embed(seen)
        n_summaries = x.shape[2]
        at = times[:, :, None, None].expand_as(x)
        x = self.mask_token.expand(x.shape[0], self.n_patches, -1, -1).to(x.dtype).scatter(1, at, x).flatten(1, 2)
        turn = self.time_embed(every_time(self.n_patches, n_summaries, x))
        for block in self.predictor_blocks:
            x = block(x, turn)
        predicted = self.predictor_proj(self.predictor_norm(x)).unflatten(1, (self.n_patches, n_summaries))
        return predicted, predicted.scatter(1, at, seen.to(predicted.dtype))


class Reconstructor(nn.Module):
    """Reconstructs the samples of patches, by time and channel, from the summaries of all times."""

    def __init__(self, size: EEGPTSize, n_patches: int, checkpoint: bool) -> None:
        super().__init__()
        self.n_patches = n_patches
        self.reconstructor_embed = nn.Linear(size.width, size.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.time_embed = RotaryEmbedding(size)
        self.chan_embed = nn.Embedding(len(codebook.NAMES), size.width)
        self.reconstructor_blocks = attention.blocks(size.reconstructor, size.width, size.heads, checkpoint=checkpoint)
        self.reconstructor_norm = nn.LayerNorm(size.width, eps=1e-6)
        self.reconstructor_proj = nn.Linear(size.width, PATCH)
        initialise(self, self.reconstructor_blocks, self.mask_token)

    def forward(self, summaries: torch.Tensor, times: torch.Tensor, electrodes: torch.Tensor) -> torch.Tensor:
        """Return [window, asked, sample] from the summaries [window, time, summary, feature] and the patches to
        reconstruct."""
        x = self.reconstructor_embed(summaries)
        every = every_time(self.n_patches, x.shape[2], x).expand(x.shape[0], -1)
        asked = self.mask_token + self.chan_embed(electrodes)
        x = torch.cat([x.flatten(1, 2), asked.to(x.dtype)], dim=1)
        turn = self.time_embed(torch.cat([every, times], dim=1))
        *before, final = self.reconstructor_blocks
        for block in before:
            x = block(x, turn)
        x = final(x, turn, last=times.shape[1])
        out: torch.Tensor = self.reconstructor_proj(self.reconstructor_norm(x))
        return out


def every_time(n_patches: int, n_summaries: int, like: torch.Tensor) -> torch.Tensor:
    """Return the time of each summary, [1, token]."""
    return torch.arange(n_patches, device=like.device).repeat_interleave(n_summaries)[None]


class Network(nn.Module):
    """([window, time, channel], [window], [window] keys) -> Aligned."""

    heads = ("predictor.predictor_proj", "reconstructor.reconstructor_proj")
    places: torch.Tensor
    electrodes: torch.Tensor

    def __init__(self, cfg: EEGPTPretrain, spec: SignalSpec) -> None:
        super().__init__()
        self.n_times, self.n_channels = shapes.need_length(spec, cfg.name, at_least=2 * PATCH), spec.n_channels
        warn(spec, self.n_times)
        places, electrodes = codebook.places(spec.channels, cfg.unknown)
        if cfg.seen_channels >= len(places):
            raise ValueError(
                f"seen_channels is {cfg.seen_channels} of each time, but there are {len(places)} channels "
                f"that EEGPT knows: set it to {len(places) // 5 or 1}, the same share as in the paper"
            )
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer("electrodes", torch.tensor(electrodes), persistent=False)
        self.n_patches = self.n_times // PATCH
        self.n_seen = min(max(1, round(cfg.seen_times * self.n_patches)), self.n_patches - 1)
        self.seen_channels = cfg.seen_channels
        self.n_asked = round(cfg.asked * self.n_seen * (len(places) - cfg.seen_channels))

        size = EEGPT_SIZES[cfg.variant]
        self.encoder = Encoder(size, cfg.checkpoint)
        self.target_encoder = Encoder(size, checkpoint=False)
        self.target_encoder.load_state_dict(self.encoder.state_dict())
        self.target_encoder.requires_grad_(False)
        self.predictor = Predictor(size, self.n_patches, cfg.checkpoint)
        self.reconstructor = Reconstructor(size, self.n_patches, cfg.checkpoint)

    def forward(self, x: torch.Tensor, subject: torch.Tensor, key: torch.Tensor) -> Aligned:
        shapes.check(x, self.n_channels, self.n_times)
        return self.aligned(patches(x[:, :, self.places]), self.masks(key))

    def aligned(self, cut: torch.Tensor, masks: Masks) -> Aligned:
        """Encode and predict [window, patch, channel, sample] through the masks."""
        n_channels = cut.shape[2]
        tokens = cut.flatten(1, 2)
        seen = shapes.rows(tokens, masks.seen.flatten(1)).unflatten(1, masks.seen.shape[1:])
        encoded = self.encoder(seen, self.electrodes[masks.seen % n_channels])
        predicted, summaries = self.predictor(encoded, masks.times)
        electrodes = self.electrodes[masks.asked % n_channels]
        reconstructed = self.reconstructor(summaries, masks.asked // n_channels, electrodes)
        with torch.no_grad():
            target = self.target_encoder(cut, self.electrodes)
        return Aligned(predicted, target, reconstructed, shapes.rows(tokens, masks.asked))

    def masks(self, key: torch.Tensor) -> Masks:
        """Draw the masks: half of the times are visible, with a few of their channels. Reconstructed are all other
        times and a part of the rest."""
        n_channels = len(self.electrodes)
        times = noise.permutation(key, TIMES, self.n_patches)
        channels = noise.uniform(key, CHANNELS, self.n_patches, n_channels).argsort(dim=2, stable=True)
        numbers = times[:, :, None] * n_channels + channels
        seen, unseen = numbers[:, : self.n_seen, : self.seen_channels], numbers[:, : self.n_seen, self.seen_channels :]
        unseen = unseen.flatten(1)
        some = noise.permutation(key, ASKED, unseen.shape[1])[:, : self.n_asked]
        asked = torch.cat([numbers[:, self.n_seen :].flatten(1), unseen.gather(1, some)], dim=1)
        return Masks(times[:, : self.n_seen], seen, asked)

    @torch.no_grad()
    def after_step(self, done: float) -> None:
        """Move the encoder that sees everything towards the other, more slowly as training goes on."""
        keep = SLOWEST + (FASTEST - SLOWEST) * done
        for ours, theirs in zip(self.target_encoder.parameters(), self.encoder.parameters(), strict=True):
            ours.lerp_(theirs, 1 - keep)
