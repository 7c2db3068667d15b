"""The entry point of the EEG challenge of 2025. The stage `submission` copies it into its zip as submission.py.

    Submission(100, "cuda").get_model_challenge_1()     (B, 129, 200) in volt -> (B, 1)

It runs on the judge's machine, which has torch and numpy; of our code it has only eegdecode.zip next to it.
"""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

SFREQ_HZ, N_CHANNELS, N_TIMES = 100, 129, 200
CODE = "eegdecode.zip"
FOLDERS = (Path(__file__).resolve().parent, Path("/app/input/res"), Path("/app/input"), Path())
"""Folders where the judge may have unpacked the zip."""


class Submission:
    """The interface that the judge calls."""

    def __init__(self, SFREQ: float, DEVICE: "torch.device | str") -> None:  # noqa: N803  the judge's own names
        if SFREQ != SFREQ_HZ:
            raise ValueError(f"these models read {SFREQ_HZ} Hz, but SFREQ is {SFREQ}")
        self.device = torch.device(DEVICE)

    def get_model_challenge_1(self) -> nn.Module:
        """Predicts the reaction time, in seconds."""
        return self._model(1)

    def get_model_challenge_2(self) -> nn.Module:
        """Predicts the externalizing score."""
        return self._model(2)

    def _model(self, number: int) -> nn.Module:
        code = str(find(CODE))
        if code not in sys.path:
            sys.path.insert(0, code)
        # Besides tensors it holds the settings of the models, as dataclasses of the code in eegdecode.zip
        saved = torch.load(find(f"weights_challenge_{number}.pt"), map_location="cpu", weights_only=False)
        return Decoder(saved).to(self.device).eval()


def find(name: str) -> Path:
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is not in the zip: it was made without that challenge")


class Decoder(nn.Module):
    """(B, 129, 200) in volt -> (B, 1): the preprocessing of the training signals, then the mean of the networks.

    Parameters
    ----------
    saved
        `channels`: [channel of the networks, channel of the challenge], a sample of the one from a sample of the other.
        `scale`, `clamp`: as the step of that name, of the window alone. `n_times`: of the networks; a window that is
        shorter repeats its start. `baseline`: so many samples of its start have mean 0, unless it is 0. `models`:
        settings, spec and parameters of each network; of outputs that are standardised the spec knows the units.
    """

    channels: torch.Tensor

    def __init__(self, saved: "dict[str, Any]") -> None:
        super().__init__()
        from eegdecode import models

        self.register_buffer("channels", saved["channels"])
        self.scale, self.clamp, self.n_times = saved["scale"], saved["clamp"], saved["n_times"]
        self.baseline = saved["baseline"]
        self.units = [(spec.target_std or (1.0,), spec.target_mean or (0.0,)) for _, spec, _ in saved["models"]]
        self.networks = nn.ModuleList(models.build(knobs, spec) for knobs, spec, _ in saved["models"])
        for network, (_, _, parameters) in zip(self.networks, saved["models"]):
            network.load_state_dict(parameters)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1:] != (N_CHANNELS, N_TIMES):
            raise ValueError(f"a window is {N_CHANNELS} channels x {N_TIMES} samples, but got {tuple(x.shape[1:])}")
        x = (self.channels @ x.float()).mT
        x = scaled(x, self.scale).clamp(-self.clamp, self.clamp)
        x = torch.cat([x, x[:, : self.n_times - N_TIMES]], dim=1)
        if self.baseline:
            x = x - x[:, : self.baseline].mean(dim=1, keepdim=True)
        subject = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        outputs = [
            network(x, subject) * x.new_tensor(std) + x.new_tensor(mean)
            for network, (std, mean) in zip(self.networks, self.units)
        ]
        return torch.stack(outputs).mean(dim=0)


def scaled(x: torch.Tensor, how: str) -> torch.Tensor:
    """Each channel of [window, time, channel] around its centre in that window, in units of its spread there."""
    if not how:
        return x
    if how == "standard":
        middle, spread = x.mean(dim=1, keepdim=True), x.std(dim=1, correction=0, keepdim=True)
    else:
        ordered = x.sort(dim=1).values
        low, middle, high = (_quantile(ordered, p) for p in (0.25, 0.5, 0.75))
        spread = (high - low) / 1.349  # the standard deviation, were it normal
    flat = spread <= 1e-7 * middle.abs()  # a dead channel stays at zero
    return torch.where(flat, 0, (x - middle) / torch.where(flat, 1, spread))


def _quantile(ordered: torch.Tensor, p: float) -> torch.Tensor:
    """[window, 1, channel]; torch.quantile refuses large batches."""
    place = p * (ordered.shape[1] - 1)
    below = math.floor(place)
    low, high = ordered[:, below : below + 1], ordered[:, math.ceil(place) : math.ceil(place) + 1]
    return low + (high - low) * (place - below)
