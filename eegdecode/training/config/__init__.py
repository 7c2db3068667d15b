"""The configs of training. Cheap to import."""

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
    is_lower_better,
)
from eegdecode.training.config.start import Start
from eegdecode.training.config.train import Estimate, Soup, Train, check_ranks, depends_on_ranks, why_not_exact
from eegdecode.training.config.watch import Alerts, Watch, without_receivers

__all__ = [
    "Alerts", "Compute", "Constant", "Cosine", "Ema", "Estimate", "FindRate", "Halving", "OneCycle", "Optim", "Sam",
    "Schedule", "Soup", "Start", "Swa", "Train", "WarmRestarts", "Watch",
    "check_ranks", "depends_on_ranks", "is_lower_better", "why_not_exact", "without_receivers",
]  # fmt: skip
