"""Find a learning rate: try rates from low to high before the first step, use the one at which the loss falls
fastest."""

import copy
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from eegdecode import plots
from eegdecode.page import page
from eegdecode.training.config import FindRate
from eegdecode.training.step import Stepper
from hpc.rank import ddp
from hpc.rank.context import Context, Preempted
from hpc.runs import products

log = logging.getLogger(__name__)

TrainOne = Callable[[float, int], float]
"""(rate, k): train with the k-th batch at that rate; returns the loss, the same on all ranks."""

SMOOTH = 0.98
TOO_BAD = 4.0
"""The search ends when the loss exceeds the best by this factor."""
SKIPPED = 10, 1
"""Points at either end that are left out of the slope."""


def find(cfg: FindRate, step: TrainOne) -> dict[str, Any]:
    """Find the rate. `step(rate, k)` trains with the k-th batch at that rate and returns the loss. Its changes are not
    undone here."""
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


def searched(cfg: FindRate, ctx: Context, stepper: Stepper, train_one: TrainOne) -> float:
    """Return the rate from a range test before the first step, or from that of an earlier attempt. The changes of the
    test are restored."""
    path = ctx.out / "lr_finder.json"
    search = products.read(path) if ctx.world.is_first else None
    known_rate = float(ddp.total(torch.tensor(search["lr"] if search else 0.0, dtype=torch.float64)))
    if known_rate:
        return known_rate
    parts = (stepper.network, stepper.optimizer, stepper.scaler)
    model, optimizer, scaler = [copy.deepcopy(part.state_dict()) for part in parts]

    def step(lr: float, number: int) -> float:
        ctx.progress("find lr", number, cfg.steps)
        if ddp.any_rank(ctx.should_stop()):
            raise Preempted
        return train_one(lr, number)

    search = find(cfg, step)
    stepper.network.load_state_dict(model)
    stepper.optimizer.load_state_dict(optimizer)
    stepper.scaler.load_state_dict(scaler)
    stepper.nonfinite.zero_()
    log.info("lr %.3g is used, at which the loss falls most steeply (%s)", search["lr"], path)
    if ctx.world.is_first:
        page_path, text = ctx.out / "lr_finder.html", drawn(search)
        ctx.until_there_is_room(lambda: products.write_text(page_path, text))
        ctx.until_there_is_room(lambda: products.write_json(path, search))
    return float(search["lr"])


def suggested(rates: list[float], losses: list[float]) -> float:
    """Return the rate at which the loss falls most steeply."""
    first, last = SKIPPED
    inner = np.array(losses[first : len(losses) - last])
    if len(inner) < 2:
        raise ValueError(
            f"the loss blew up after {len(losses)} rates, at {rates[-1] if rates else 0:.2g}: "
            "lower optim.find_lr.low, or set optim.lr yourself"
        )
    return rates[first + int(np.gradient(inner).argmin())]


def drawn(search: dict[str, Any]) -> str:
    """Draw the curve, as a page."""
    exponents = np.log10(search["rates"])
    curve = plots.Line(exponents, search["losses"], "heard")
    label = f"Loss over learning rates; {search['lr']:.2g} is taken, where it falls most steeply."
    chart = plots.lines([curve], label, "log10 of the learning rate", mark=math.log10(search["lr"]))
    return page("training/search/lr_finder", label=label, chart=chart)
