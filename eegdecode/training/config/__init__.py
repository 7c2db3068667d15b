"""The configs of training. Light to import."""

from eegdecode.training.config.augment import (
    Augment,
    ChannelDropout,
    CutMix,
    FrequencyShift,
    Mixup,
    Noise,
    Recombine,
    SpecAugment,
    TimeShift,
)
from eegdecode.training.config.optim import (
    Compute,
    Constant,
    Cosine,
    Ema,
    FindRate,
    Halving,
    OneCycle,
    Optim,
    Sam,
    Schedule,
    Swa,
    WarmRestarts,
)
from eegdecode.training.config.start import Start
from eegdecode.training.config.train import Estimate, Soup, Train, check_ranks
from eegdecode.training.config.watch import Alerts, Watch

__all__ = [
    "Alerts", "Augment", "ChannelDropout", "Compute", "Constant", "Cosine", "CutMix", "Ema", "Estimate", "FindRate",
    "FrequencyShift", "Halving", "Mixup", "Noise", "OneCycle", "Optim", "Recombine", "Sam", "Schedule", "Soup",
    "SpecAugment", "Start", "Swa", "TimeShift", "Train", "WarmRestarts", "Watch",
    "check_ranks",
]  # fmt: skip
