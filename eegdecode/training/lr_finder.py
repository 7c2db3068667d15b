"""Which learning rate: try them from low to high before the first step, and take where the loss falls most steeply."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eegdecode import page, plots
from eegdecode.training.config import FindRate

SMOOTH = 0.98
TOO_BAD = 4.0
"""Times the best loss, past which higher rates are not tried."""
SKIPPED = 10, 1
"""Points at both ends that the slope is not looked for in."""


def find(cfg: FindRate, step: Callable[[float, int], float]) -> dict[str, Any]:
    """`step(rate, k)` trains with the k-th batch at that rate and gives the loss. What it changed is not put back."""
    rates: list[float] = []
    losses: list[float] = []
    smooth, best = 0.0, math.inf
    for number in range(cfg.steps):
        at = cfg.low * (cfg.high / cfg.low) ** (number / (cfg.steps - 1))
        loss = step(at, number)
        if not math.isfinite(loss):
            break
        smooth = SMOOTH * smooth + (1 - SMOOTH) * loss
        rates.append(at)
        losses.append(smooth / (1 - SMOOTH ** (number + 1)))
        best = min(best, losses[-1])
        if number > 1 and losses[-1] > TOO_BAD * best:
            break
    return {"rates": rates, "losses": losses, "lr": suggested(rates, losses)}


def suggested(rates: list[float], losses: list[float]) -> float:
    """Where the loss falls most steeply."""
    first, last = SKIPPED
    inner = np.array(losses[first : len(losses) - last])
    if len(inner) < 2:
        raise ValueError(
            f"the loss blew up after {len(losses)} rates, at {rates[-1] if rates else 0:.2g}: "
            "lower optim.find_lr.low, or say optim.lr yourself"
        )
    return rates[first + int(np.gradient(inner).argmin())]


def drawn(found: dict[str, Any]) -> str:
    """The curve, as a page."""
    exponents = np.log10(found["rates"])
    curve = plots.Line(exponents, found["losses"], "heard")
    label = f"Loss over learning rates; {found['lr']:.2g} is taken, where it falls most steeply."
    chart = plots.lines([curve], label, "log10 of the learning rate", mark=math.log10(found["lr"]))
    return page.page(
        "Learning rates", [page.section("Learning rates", f"<figure>{chart}<figcaption>{label}</figcaption></figure>")]
    )
