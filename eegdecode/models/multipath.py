"""Fuse three networks on the same signal: on its samples, on its spectra over time, and on its spectrogram."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from eegdecode import models
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Encoder, How
from eegdecode.models.parts import joining, shapes, trainable
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Multipath:
    """Several networks on the same signal: on its samples, on its spectra over time, and on spectrograms as images.

    After PANNs for sound (Kong 2020, arXiv 1912.10211). Bands are evenly spaced: for EEG and MEG, whose power is below
    1 kHz, mel bands would be so too.
    """

    name: Literal["multipath"] = "multipath"
    waveform: Encoder = field(default_factory=BiLSTM)  # encoder of the samples
    spectrum: Encoder = field(default_factory=BiLSTM)
    """Encoder of the spectra over time; each band of each channel is an input channel."""
    picture: int = 16
    """Feature maps of the convolutions over time and band, twice as many in the second block; 0: no such path."""
    frame_s: float = 0.5  # length of the frame of a spectrum; a longer one has finer bands, 1 / frame_s apart
    hop_s: float = 0.125  # time from one frame to the next, at most frame_s
    fusion: How = "add"
    """How the outputs of the encoders become one: `add`, the mean; `concat`, each gives an equal share of the outputs;
    `gated`, a mean weighted by learnt gates."""
    output_kind: ClassVar[str] = "outputs"
    composite: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.frame_s:
            raise ValueError(f"hop_s must lie in (0, frame_s], got {self.hop_s} s, with frames of {self.frame_s} s")
        if self.picture < 0:
            raise ValueError(f"picture must be 0 or above, got {self.picture}")


SHORTEST = 8
"""The minimum number of samples of a frame: five bands, which the picture's convolutions halve twice."""


class Network(nn.Module):
    """([window, time, channel], [window]) -> the target's shape."""

    def __init__(self, cfg: Multipath, spec: SignalSpec) -> None:
        super().__init__()
        self.spec = spec
        n_paths = 3 if cfg.picture else 2
        n_each = joining.share(cfg.fusion, n_paths, spec.n_outputs)
        self.waveform = models.build(cfg.waveform, replace(spec, n_outputs=n_each))
        self.spectra = Spectra(spec, cfg.frame_s, cfg.hop_s)
        self.spectrum = models.build(cfg.spectrum, self.spectra.spec(n_each))
        self.picture = Picture(spec.n_channels, cfg.picture, n_each) if cfg.picture else None
        self.n_times = joining.one_length(self.waveform)
        if joining.one_length(self.spectrum) is not None:  # it then takes only as many frames as these windows have
            self.n_times = shapes.need_length(spec, cfg.spectrum.name)
        self.join = joining.Join(cfg.fusion, n_paths, n_each)
        self.heads = trainable.together(
            waveform=self.waveform, spectrum=self.spectrum, picture=self.picture, join=self.join
        )

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.spec.n_channels, self.n_times)
        n_times = x.shape[1]
        spectra = self.spectra(x)
        paths = [self.waveform(x, subject), self._timed(self.spectrum(spectra.flatten(2), subject), n_times)]
        if self.picture is not None:
            paths.append(self._timed(self.picture(spectra), n_times))
        joined: torch.Tensor = self.join(paths)
        return joined

    def _timed(self, of_frames: torch.Tensor, n_times: int) -> torch.Tensor:
        """Resample from frames to the times of the target; the part of the last frame beyond the window's end is
        cut."""
        if of_frames.ndim == 2:
            return of_frames
        timed = shapes.at_steps(of_frames, self.spec, of_frames.shape[1] * self.spectra.hop)
        return timed[:, : self.spec.n_steps(n_times)] if self.spec.is_sequence else timed


class Spectra(nn.Module):
    """[window, time, channel] -> [window, frame, channel, band]: the logarithm of the power, each band of each channel
    with mean 0 and variance 1. A frame lies around the middle of its hop."""

    taper: torch.Tensor

    def __init__(self, spec: SignalSpec, frame_s: float, hop_s: float) -> None:
        super().__init__()
        self.signal = spec
        self.frame, self.hop = round(frame_s * spec.sfreq), max(1, round(hop_s * spec.sfreq))
        if self.frame < SHORTEST:
            raise ValueError(
                f"a frame of {frame_s} s has {self.frame} samples at {spec.sfreq:g} Hz; "
                f"needs at least {SHORTEST}: raise model.frame_s"
            )
        self.n_bands = self.frame // 2 + 1
        self.norm = nn.BatchNorm1d(spec.n_channels * self.n_bands)
        self.register_buffer("taper", torch.hann_window(self.frame), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n_over = self.frame - self.hop
        end = self.n_frames(x.shape[1]) * self.hop - x.shape[1]
        x = functional.pad(x.float(), (0, 0, n_over // 2, end + n_over - n_over // 2))
        spectra = torch.view_as_real(torch.fft.rfft(x.unfold(1, self.frame, self.hop) * self.taper))
        power = spectra.square().sum(dim=-1) / self.frame
        levels: torch.Tensor = self.norm(torch.log(power + 1e-6).flatten(2).flatten(0, 1))
        return levels.reshape(power.shape)

    def n_frames(self, n_times: int) -> int:
        return -(-n_times // self.hop)

    def spec(self, n_outputs: int) -> SignalSpec:
        """Return the spec of the encoder of the spectra."""
        of, n = self.signal, self.n_bands
        sfreq = of.sfreq / self.hop
        return replace(
            of,
            channels=tuple(f"{name}:{band * of.sfreq / self.frame:g}Hz" for name in of.channels for band in range(n)),
            kinds=tuple(kind for kind in of.kinds for _ in range(n)),
            positions=tuple(place for place in of.positions for _ in range(n)),
            sfreq=sfreq,
            target_sfreq=sfreq if of.is_sequence else 0.0,
            n_times=None if of.n_times is None else self.n_frames(of.n_times),
            n_outputs=n_outputs,
        )


class Picture(nn.Module):
    """[window, frame, channel, band] -> [window, frame, output], by convolutions over frames and bands."""

    heads = ("readout",)

    def __init__(self, n_channels: int, n_maps: int, n_outputs: int) -> None:
        super().__init__()
        sizes = (n_channels, n_maps, 2 * n_maps)
        self.blocks = nn.Sequential(*(_block(n_in, n_out) for n_in, n_out in pairwise(sizes)))
        self.readout = nn.Linear(sizes[-1], n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.readout(self.blocks(x.transpose(1, 2)).mean(dim=3).mT)
        return seen


def _block(n_in: int, n_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
        nn.AvgPool2d((1, 2)),  # pools bands and keeps time
    )
