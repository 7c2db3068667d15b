"""Sample sound or spectrograms from noise, step by step, with a trained denoising network.

    sound = sampling.sample(network, signal, subject, keys, (n_steps, n_features), learned, learned.fewer(20))

All draws derive from the windows' keys (eegdecode/noise.py): the same keys give the same sound. Ho 2020 (arXiv
2006.11239), with the six steps of DiffWave (arXiv 2009.09761) after a training with fifty.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from eegdecode import noise

FAST = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5)
"""The noise that DiffWave adds in each of six steps."""
_START, _ON_THE_WAY = 43, 4300  # separate the draws of a window; the second counts on from there


@dataclass(frozen=True)
class Schedule:
    """How much noise each diffusion step adds, as a share of the variance, from the first step to the last."""

    betas: tuple[float, ...]

    @classmethod
    def line(cls, steps: int, first: float, last: float) -> "Schedule":
        return cls(tuple(np.linspace(first, last, steps).tolist()))

    @property
    def alphas_cumprod(self) -> np.ndarray:
        """[step]: the share of the target's variance that is left after each step."""
        return np.cumprod(1 - np.asarray(self.betas))

    def fewer(self, n: int) -> "Schedule":
        """n of these steps, evenly spread from the first to the last, that leave as much as the same ones here."""
        if not 2 <= n <= len(self.betas):
            raise ValueError(f"of {len(self.betas)} steps 2 to {len(self.betas)} can be taken, got {n}")
        alphas = self.alphas_cumprod[np.linspace(0, len(self.betas) - 1, n).round().astype(int)]
        return Schedule(tuple((1 - alphas / np.concatenate([[1.0], alphas[:-1]])).tolist()))

    def matching_steps(self, other: "Schedule") -> np.ndarray:
        """The fractional steps of this schedule that leave as much of the target as each step of another."""
        wanted, own = other.alphas_cumprod, self.alphas_cumprod
        if wanted.min() < own[-1] - 1e-9 or wanted.max() > own[0] + 1e-9:
            raise ValueError(
                f"the network was trained with {own[-1]:.4f} to {own[0]:.4f} of the target left, but these steps "
                f"leave {wanted.min():.4f} to {wanted.max():.4f}: take smaller or fewer ones"
            )
        # In proportion to amplitude, as DiffWave does; np.interp needs increasing values
        return np.interp(-np.sqrt(wanted), -np.sqrt(own), np.arange(len(own)))


def add_noise(target: torch.Tensor, drawn: torch.Tensor, t: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """The target [window, …] with the noise of `t` [window] steps added."""
    alphas = torch.tensor(schedule.alphas_cumprod, dtype=target.dtype, device=target.device)[t]
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
    """Samples of the network for these windows, [window, *shape].

    Parameters
    ----------
    network
        Gives the noise in (x, subject, noisy, t).
    keys
        [window] of int64, from which all chance comes.
    shape
        Steps and features of what is made.
    learned, taken
        The schedule it was trained by, and that of the steps to take: learned.fewer(20), for DiffWave's sound
        Schedule(FAST), or the same where left out.
    limit
        The largest value there is, as 1 in sound: what is beyond is set to it after every step.
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
