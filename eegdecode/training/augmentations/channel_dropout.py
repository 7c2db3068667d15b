"""Drop channels at random."""

from dataclasses import dataclass
from typing import Literal

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class ChannelDropout:
    """Set each channel of a window to 0 with probability p; the others are scaled up to keep the expected sum."""

    name: Literal["channel_dropout"] = "channel_dropout"
    p: float = 0.1  # probability that a channel is set to 0

    def __post_init__(self) -> None:
        if not 0 < self.p < 1:
            raise ValueError(f"p must lie between 0 and 1, got {self.p}")


def apply(cfg: ChannelDropout, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    stays = noise.uniform(batch.rng_key, what, batch.signal.shape[2]) >= cfg.p
    return batch._replace(signal=batch.signal * (stays / (1 - cfg.p))[:, None])
