"""Training. Its knobs can be had from here, each from the file of what it turns."""

from eegdecode.training.knobs.augmenting import (
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
from eegdecode.training.knobs.optim import (
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
from eegdecode.training.knobs.starting import Start
from eegdecode.training.knobs.watching import Alerts, Watch

__all__ = [
    "Alerts", "Augment", "ChannelDropout", "Compute", "Constant", "Cosine", "CutMix", "Ema", "FindRate",
    "FrequencyShift", "Halving", "Mixup", "Noise", "OneCycle", "Optim", "Recombine", "Sam", "Schedule", "SpecAugment",
    "Start", "Swa", "TimeShift", "WarmRestarts", "Watch",
]  # fmt: skip
