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
from eegdecode.training.config.watch import Alerts, Watch

__all__ = [
    "Alerts", "Augment", "ChannelDropout", "Compute", "Constant", "Cosine", "CutMix", "Ema", "FindRate",
    "FrequencyShift", "Halving", "Mixup", "Noise", "OneCycle", "Optim", "Recombine", "Sam", "Schedule", "SpecAugment",
    "Start", "Swa", "TimeShift", "WarmRestarts", "Watch",
]  # fmt: skip
