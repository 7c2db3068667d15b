"""Denoising diffusion: predict the noise that was added to a target, and generate sound and spectrograms from noise.

    sound = sample(network, signal, subject, keys, (n_steps, n_features), learned, learned.fewer(20))

Ho 2020 (arXiv 2006.11239), with the six steps of DiffWave (arXiv 2009.09761) after a training with fifty. All draws
derive from the windows' keys (eegdecode/noise.py): the same keys give the same sound. The loss is the mean over all
values of the target.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from eegdecode import noise
from eegdecode.objectives import Batch, Objective, constant, standard
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Diffusion:
    """Predict the noise that was added to a target (Ho 2020).

    The defaults are the schedule of DiffWave's vocoder. It leaves 28 % of the target's variance, which is little for a
    sound. A spectrogram has the variance of the noise, so less should be left: steps 1000 and last 0.02, or steps 100
    and last 0.1, leave nothing.
    """

    name: Literal["diffusion"] = "diffusion"
    steps: int = 50  # diffusion steps from the target to noise; 50 in DiffWave's vocoder, 1000 in Ho 2020
    first: float = 1e-4
    """Share of the variance that the first step adds as noise; it rises linearly to that of the last."""
    last: float = 0.05  # share of the variance that the last step adds as noise; a larger one leaves less of the target
    loss: Literal["l1", "mse"] = "l1"
    """Distance of the predicted noise from that added: `l1` as in DiffWave's public code, `mse` as in Ho 2020."""
    standardize: bool = False
    """Standardise the target by mean and standard deviation of each feature in the training set; samples have the
    target's units."""
    input_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if not 0 < self.first <= self.last < 1:
            raise ValueError(f"needs 0 < first <= last < 1, got first {self.first} and last {self.last}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """Return the spec of the model, from that of the data."""
        if not spec.n_outputs or not spec.is_sequence:
            raise ValueError("diffusion needs a target that is a time course: name one (target=mel, target=audio)")
        return spec


LOSSES = {"l1": functional.l1_loss, "mse": functional.mse_loss}
FAST = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5)
"""The noise that DiffWave adds in each of six steps."""
SAMPLED = 20
"""Denoising steps from noise to a decoded window."""
_STEP, _NOISE = 41, 42  # separate the draws of a window
_START, _ON_THE_WAY = 43, 4300  # and those of a sample; _ON_THE_WAY is the first of many


def objective(cfg: Diffusion, spec: SignalSpec) -> Objective:
    schedule, distance = schedule_of(cfg), LOSSES[cfg.loss]

    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        drawn = noise.normal(batch.rng_key, _NOISE, *batch.target.shape[1:])
        t = (noise.uniform(batch.rng_key, _STEP)[:, 0] * cfg.steps).long()
        target = standard(batch.target, spec)
        predicted = model(batch.signal, batch.subject, add_noise(target, drawn, t, schedule), t.float())
        if predicted.shape != drawn.shape:
            raise ValueError(f"the model gives {tuple(predicted.shape)}, but the target is {tuple(drawn.shape)}")
        return distance(predicted.float(), drawn), {}

    return loss_of


def decode(cfg: Diffusion, network: torch.nn.Module, batch: Batch, spec: SignalSpec) -> torch.Tensor:
    """Sample the target step by step."""
    learned = schedule_of(cfg)
    shape = batch.target.shape[1], batch.target.shape[2]
    schedule = Schedule(FAST) if spec.is_sound and cfg == Diffusion() else learned.fewer(SAMPLED)
    limit = 1.0 if spec.is_sound and not spec.target_std else None
    return sample(network, batch.signal, batch.subject, batch.rng_key, shape, learned, schedule, limit)


@dataclass(frozen=True)
class Schedule:
    """The noise of each diffusion step, as a share of the variance, from the first step to the last."""

    betas: tuple[float, ...]

    @classmethod
    def line(cls, steps: int, first: float, last: float) -> "Schedule":
        return cls(tuple(np.linspace(first, last, steps).tolist()))

    @property
    def alphas_cumprod(self) -> np.ndarray:
        """Return [step]: the share of the target's variance that is left after each step."""
        return np.cumprod(1 - np.asarray(self.betas))

    def fewer(self, n: int) -> "Schedule":
        """Return n of these steps, evenly spread from the first to the last; each leaves the same share as here."""
        if not 2 <= n <= len(self.betas):
            raise ValueError(f"of {len(self.betas)} steps 2 to {len(self.betas)} can be taken, got {n}")
        alphas = self.alphas_cumprod[np.linspace(0, len(self.betas) - 1, n).round().astype(int)]
        return Schedule(tuple((1 - alphas / np.concatenate([[1.0], alphas[:-1]])).tolist()))

    def matching_steps(self, other: "Schedule") -> np.ndarray:
        """Return the fractional steps of this schedule that leave as much of the target as each step of another."""
        wanted, own = other.alphas_cumprod, self.alphas_cumprod
        if wanted.min() < own[-1] - 1e-9 or wanted.max() > own[0] + 1e-9:
            raise ValueError(
                f"the network was trained with {own[-1]:.4f} to {own[0]:.4f} of the target left, but these steps "
                f"leave {wanted.min():.4f} to {wanted.max():.4f}: use smaller or fewer ones"
            )
        # In proportion to amplitude, as DiffWave does; np.interp needs increasing values
        return np.interp(-np.sqrt(wanted), -np.sqrt(own), np.arange(len(own)))


def schedule_of(cfg: Diffusion) -> Schedule:
    return Schedule.line(cfg.steps, cfg.first, cfg.last)


def add_noise(target: torch.Tensor, drawn: torch.Tensor, t: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """Return the target [window, …] with the noise of diffusion steps `t` [window] added."""
    alphas = constant(tuple(schedule.alphas_cumprod.tolist()), target)[t]
    alphas = alphas.view(-1, *[1] * (target.ndim - 1))
    return alphas.sqrt() * target + (1 - alphas).sqrt() * drawn


@torch.no_grad()
def sample(
    network: Callable[..., torch.Tensor],
    x: torch.Tensor,
    subject: torch.Tensor,
    keys: torch.Tensor,
    shape: tuple[int, int],
    learned: Schedule,
    taken: Schedule | None = None,
    limit: float | None = None,
) -> torch.Tensor:
    """Draw samples from the network for these windows, [window, *shape].

    Parameters
    ----------
    network
        Predicts the noise from (x, subject, noisy, t).
    keys
        [window] of int64, from which all randomness derives.
    shape
        Steps and features of a sample.
    learned, taken
        The schedule of the training, and that of the steps to take: learned.fewer(20), or Schedule(FAST) for DiffWave's
        sound. By default both are the same.
    limit
        The largest possible value, as 1 for sound: values beyond are clipped to it after every step.
    """
    taken = taken or learned
    betas, alphas, at = taken.betas, taken.alphas_cumprod.tolist(), learned.matching_steps(taken).tolist()
    noisy = noise.normal(keys, _START, *shape)
    for n in reversed(range(len(betas))):
        t = torch.full(keys.shape, at[n], device=noisy.device)
        predicted_noise = network(x, subject, noisy, t)
        noisy = (noisy - betas[n] / math.sqrt(1 - alphas[n]) * predicted_noise) / math.sqrt(1 - betas[n])
        if n:
            spread = math.sqrt((1 - alphas[n - 1]) / (1 - alphas[n]) * betas[n])
            noisy = noisy + spread * noise.normal(keys, _ON_THE_WAY + n, *shape)
        if limit is not None:
            noisy = noisy.clamp(-limit, limit)
    return noisy
