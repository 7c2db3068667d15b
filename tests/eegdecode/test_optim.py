"""The optimizer, its rates, SAM and averages do what their papers say."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eegdecode.training import optim
from eegdecode.training.config import Constant, Ema, FindRate, OneCycle, Optim, Sam, Swa, WarmRestarts
from eegdecode.training.search import lr_finder


def rates(cfg: Optim) -> list[float]:
    return [optim.rate(cfg, cfg.lr, step) for step in range(cfg.steps)]


def torchs(steps: int, lr: float, scheduler: Any) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    course, lrs = scheduler(optimizer), []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        course.step()
    return lrs


def test_warm_restarts_are_torchs_and_start_again_at_5_15_and_35() -> None:
    cfg = Optim(lr=0.1, steps=70, schedule=WarmRestarts(first_steps=5, factor=2))
    ours = rates(cfg)
    assert [step for step in range(1, 70) if ours[step] > ours[step - 1]] == [5, 15, 35]
    theirs = torchs(
        70, 0.1, lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 5, T_mult=2, eta_min=0.001)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_one_cycle_is_torchs() -> None:
    cfg = Optim(lr=0.1, steps=50, schedule=OneCycle(rise=0.2, start_divisor=2, end_divisor=8))
    exact = torch.optim.lr_scheduler.OneCycleLR
    theirs = torchs(49, 0.1, lambda o: exact(o, 0.1, total_steps=50, pct_start=0.2, div_factor=2, final_div_factor=8))
    np.testing.assert_allclose(rates(cfg)[:49], theirs, rtol=1e-9)


@pytest.mark.parametrize(("rise", "steps"), [(0.1, 10), (0.01, 10), (0.5, 2), (0.5, 1)])
def test_one_cycle_whose_rise_is_a_step_or_less_begins_at_the_top(rise: float, steps: int) -> None:
    lrs = rates(Optim(lr=0.1, steps=steps, schedule=OneCycle(rise=rise)))
    assert max(lrs) == lrs[0] <= 0.1 and lrs == sorted(lrs, reverse=True) and lrs[-1] > 0


def test_a_snapshot_is_taken_at_the_end_of_each_cosine_and_at_the_end() -> None:
    cfg = Optim(steps=40, warmup_steps=0, schedule=WarmRestarts(first_steps=5, snapshots=True))
    assert [done for done in range(1, 41) if optim.is_snapshot(cfg, done)] == [5, 15, 35, 40]
    assert not optim.is_snapshot(Optim(steps=40), 40)


def test_the_rate_scales_with_the_batch_and_says_so() -> None:
    assert optim.highest_rate(Optim(lr=0.01), 128) == (
        0.01,
        "lr 0.01, whatever the batch (128 windows): optim.scale_lr would change it",
    )
    assert optim.highest_rate(Optim(lr=0.01, scale_lr="linear", lr_batch=32), 128)[0] == pytest.approx(0.04)
    lr, sentence = optim.highest_rate(Optim(lr=0.01, scale_lr="sqrt", lr_batch=32), 128)
    assert lr == pytest.approx(0.02) and sentence == "lr 0.02 = 0.01 x 2, sqrt from 32 to 128 windows a step"


def test_weights_decay_by_exactly_lr_times_decay_and_biases_do_not() -> None:
    network = nn.Linear(3, 2)
    before = copy.deepcopy(network.state_dict())
    optimizer = optim.adamw(network, Optim(lr=0.1, weight_decay=0.5))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(network.weight.detach(), before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(network.bias.detach(), before["bias"])


class Deep(nn.Module):
    heads, last = ("filter", "readout"), ("blocks",)

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Linear(3, 2)
        self.embed = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.readout = nn.Linear(2, 1)


def test_each_block_learns_at_a_part_of_the_rate_of_the_next() -> None:
    shares = optim.lr_scales(Deep(), 0.5)
    assert shares["filter.weight"] == shares["readout.weight"] == 1 and shares["embed.bias"] == 0.5**4
    assert [shares[f"blocks.{index}.weight"] for index in range(3)] == [0.5**3, 0.5**2, 0.5]
    network = Deep()
    network.embed.requires_grad_(False)
    assert "embed.weight" not in optim.lr_scales(network, 0.5)
    groups = optim.adamw(network, Optim(layer_decay=0.5)).param_groups
    assert sum(len(group["params"]) for group in groups) == 10


def test_layer_decay_without_a_chain_of_blocks_is_refused() -> None:
    class Lists(Deep):
        last = ("embed",)  # lists of modules that are no chain are not taken for one

    assert set(optim.lr_scales(Lists(), 1.0).values()) == {1.0}
    with pytest.raises(ValueError, match=r"layer_decay=0.5 needs a model whose blocks .* leave it at 1"):
        optim.adamw(Lists(), Optim(layer_decay=0.5))


def sam_step(start: list[float], loss_of: Any, cfg: Sam, lr: float = 0.1) -> torch.Tensor:
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    uphill = torch.autograd.grad(loss_of(w), [w])
    before = w.detach().clone()
    with optim.sam_perturbed([w], uphill, cfg):
        loss_of(w).backward()
    assert torch.equal(w.detach(), before)
    assert w.grad is not None
    return w.detach() - lr * w.grad


def test_sam_gives_the_numbers_of_its_paper() -> None:
    assert sam_step([1.0], lambda w: (w**2 / 2).sum(), Sam(rho=0.05)).item() == pytest.approx(0.895)
    gradient = sam_step([1.0, 1.0], lambda w: (3 * w[0] ** 2 + w[1] ** 2) / 2, Sam(rho=0.05))
    np.testing.assert_allclose(gradient, [0.6857698, 0.8984189], atol=1e-7)


def test_asam_looks_as_far_as_a_parameter_is_large() -> None:
    """By hand: T = |w|, e = rho T² g / ||T g||."""
    w, rho = np.array([1.0, 2.0]), 0.5
    g = np.array([3.0, 1.0]) * w
    e = rho * w**2 * g / np.linalg.norm(w * g)
    gradient = sam_step(w.tolist(), lambda w: (3 * w[0] ** 2 + w[1] ** 2) / 2, Sam(rho=rho, adaptive=True))
    np.testing.assert_allclose(gradient, w - 0.1 * np.array([3.0, 1.0]) * (w + e), atol=1e-12)


def test_batch_norms_learn_nothing_of_a_second_look() -> None:
    norm = nn.BatchNorm1d(2).train()
    x = torch.randn(8, 2)
    first = norm(x)
    seen = copy.deepcopy(norm.state_dict())
    with optim.frozen_batchnorm(norm):
        assert torch.equal(norm(x), first)
    assert all(torch.equal(value, norm.state_dict()[name]) for name, value in seen.items())
    norm(x)
    assert not torch.equal(norm.running_mean, seen["running_mean"])  # type: ignore[arg-type]


def averaged(cfg: Ema | Swa, values: list[float]) -> list[float]:
    network, average, weights = nn.Linear(1, 1, bias=False), optim.Average(cfg), []
    for step, value in enumerate(values, 1):
        nn.init.constant_(network.weight, value)
        average.update(network, step, len(values))
        with average.applied(network):
            weights.append(network.weight.item())
        assert network.weight.item() == pytest.approx(value)
    return weights


def test_swa_is_the_plain_mean_of_the_last_part() -> None:
    assert averaged(Swa(start=0.5), [1, 2, 3, 4, 5, 9]) == pytest.approx([1, 2, 3, 4, 4.5, 6])


def test_ema_forgets() -> None:
    weights = averaged(Ema(decay=0.5), [0.0] + [1.0] * 30)
    by_hand = [0.0]
    for n in range(1, 31):
        keep = min(0.5, (1 + n) / (10 + n))
        by_hand.append(keep * by_hand[-1] + (1 - keep))
    assert weights == pytest.approx(by_hand, abs=1e-6)


def test_the_finder_takes_a_rate_that_descends_a_quadratic() -> None:
    """Loss L/2 w²: rates under 2/L converge, those far under 1/L crawl."""
    lipschitz, w = 4.0, 1.0

    def step(lr: float, _: int) -> float:
        nonlocal w
        loss = lipschitz / 2 * w**2
        w -= lr * lipschitz * w
        return loss

    search = lr_finder.find(FindRate(low=1e-8, high=10.0, steps=100), step)
    assert 1 / (10 * lipschitz) < search["lr"] < 2 / lipschitz
    assert len(search["rates"]) < 100, "it stops when the loss has blown up"
    assert "Learning rates" in lr_finder.drawn(search)


def test_a_loss_that_blows_up_at_once_is_named() -> None:
    with pytest.raises(ValueError, match=r"blew up after \d+ rates.*lower optim.find_lr.low"):
        lr_finder.find(FindRate(), lambda lr, k: float("nan") if k > 4 else 1.0)


def test_constant_is_constant() -> None:
    assert set(rates(Optim(lr=0.5, steps=5, schedule=Constant()))) == {0.5}
