"""An augmentation: its config, and a function of the windows of a step."""

from dataclasses import dataclass
from typing import Literal

import torch

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MyFlip:
    """Change the sign of all channels of a window with that probability."""

    name: Literal["mylab_flip"] = "mylab_flip"
    p: float = 0.5  # probability that a window is flipped


def apply(cfg: MyFlip, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    flipped = noise.uniform(batch.rng_key, what)[:, :, None] < cfg.p
    return batch._replace(signal=torch.where(flipped, -batch.signal, batch.signal))
