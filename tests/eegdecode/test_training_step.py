"""The gradient of a batch is the same in portions, in half precision, and where the loss is worst nearby."""

import math

import pytest
import torch
from torch import nn

from eegdecode.objectives import Batch
from eegdecode.training import optim
from eegdecode.training.config import Compute, Optim, Sam
from eegdecode.training.step import Stepper

CPU = torch.device("cpu")


class Curved(nn.Module):
    """Its gradient is another one nearby."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 5), nn.Linear(5, 1)
        self.unused = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.outer(torch.tanh(self.inner(x)))
        return out


def squares(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = (model(batch.signal).float() - batch.target).square().mean()
    return loss, {"twice": 2 * loss.detach()}


def gradient(sam: Sam | None, compute: Compute) -> tuple[torch.Tensor, dict[str, float]]:
    torch.manual_seed(0)
    network, keys = Curved(), torch.arange(8)
    batch = Batch(torch.randn(8, 3), torch.randn(8, 1), keys, keys)
    cfg = Optim(sam=sam, clip_norm=1e9)
    stepper = Stepper(cfg, compute, network, network, squares, optim.adamw(network, cfg), CPU)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    figures = {name: value.item() for name, value in stepper.backward(batch, 0.1).items()}
    while not math.isfinite(
        length := stepper.clip_grad_norm()
    ):  # too large a scale for fp16: no step, and a smaller one
        stepper.step()
        stepper.backward(batch, 0.1)
    assert all(torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))
    flat = torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])
    assert length == pytest.approx(flat.norm().item())
    return flat, figures


SAMS = [None, Sam(rho=0.5), Sam(rho=0.5, adaptive=True)]


@pytest.mark.parametrize("sam", SAMS)
@pytest.mark.parametrize("n", [2, 4])
def test_portions_come_to_the_same_as_the_whole_batch(sam: Sam | None, n: int) -> None:
    whole, figures = gradient(sam, Compute())
    portions, of_portions = gradient(sam, Compute(accumulate=n))
    torch.testing.assert_close(portions, whole, rtol=0, atol=1e-6)
    assert of_portions == pytest.approx(figures)


@pytest.mark.parametrize("sam", SAMS)
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_comes_to_about_the_same(sam: Sam | None, n: int, precision: str) -> None:
    whole, _ = gradient(sam, Compute())
    half, _ = gradient(sam, Compute(precision=precision, accumulate=n))  # type: ignore[arg-type]
    assert 0 < (half - whole).norm() < 0.03 * whole.norm()


def test_the_gradient_is_that_of_where_the_loss_is_worst_for_all_portions() -> None:
    """So that the tests above do not hold for one that has looked nowhere."""
    plain, _ = gradient(None, Compute(accumulate=4))
    sharp, _ = gradient(Sam(rho=0.5), Compute(accumulate=4))
    assert (sharp - plain).norm() > 0.05 * plain.norm()
