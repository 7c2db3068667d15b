"""Denoising diffusion: predict the noise that was added to a target, to generate sound and spectrograms.

Diffusion step and noise derive from the window's key. The loss is the mean over all values of the target.
"""

import torch
from torch.nn import functional

from eegdecode import noise
from eegdecode.objectives import Batch, Objective, standard
from eegdecode.objectives.config.diffusion import Diffusion
from eegdecode.objectives.sampling import Schedule, add_noise
from eegdecode.signals import SignalSpec

_STEP, _NOISE = 41, 42  # separate the draws of a window


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


def schedule_of(cfg: Diffusion) -> Schedule:
    return Schedule.line(cfg.steps, cfg.first, cfg.last)


LOSSES = {"l1": functional.l1_loss, "mse": functional.mse_loss}
