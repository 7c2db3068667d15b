"""Find a learning rate: try rates from low to high before the first step, take where the loss falls most steeply."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eegdecode import page, plots
from eegdecode.training.config import FindRate

SMOOTH = 0.98
TOO_BAD = 4.0
"""The search ends where the loss is so many times the best."""
SKIPPED = 10, 1
"""Points at either end that are left out of the slope."""


def find(cfg: FindRate, step: Callable[[float, int], float]) -> dict[str, Any]:
    """`step(rate, k)` trains with the k-th batch at that rate and returns the loss. Its changes are not undone here."""
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


def drawn(search: dict[str, Any]) -> str:
    """The curve, as a page."""
    exponents = np.log10(search["rates"])
    curve = plots.Line(exponents, search["losses"], "heard")
    label = f"Loss over learning rates; {search['lr']:.2g} is taken, where it falls most steeply."
    chart = plots.lines([curve], label, "log10 of the learning rate", mark=math.log10(search["lr"]))
    return page.page(
        "Learning rates", [page.section("Learning rates", f"<figure>{chart}<figcaption>{label}</figcaption></figure>")]
    )
