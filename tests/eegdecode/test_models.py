"""Models have the size and the shapes of their papers; objectives measure what they say."""

import numpy as np
import pytest
import torch

from eegdecode import models, objectives
from eegdecode.models import MODELS
from eegdecode.models.bilstm import BiLSTM
from eegdecode.objectives import Batch
from eegdecode.objectives.regression import Regression
from eegdecode.signals import SignalSpec


def spec(n_channels: int, n_outputs: int = 1) -> SignalSpec:
    """Half of the channels are EEG, half MEG, alternating from left to right."""
    names = tuple(f"E{index}" for index in range(n_channels))
    kinds = tuple("mag" if index % 2 else "eeg" for index in range(n_channels))
    places = tuple((0.1 * (2 * index / n_channels - 1), 0.0, 0.05) for index in range(n_channels))
    return SignalSpec(names, 64.0, n_outputs, ("sub-01", "sub-02"), 64.0, kinds=kinds, positions=places)  # type: ignore[arg-type]


FIRST = torch.zeros(1, dtype=torch.int64)  # a batch of one window, of the first subject


@pytest.mark.parametrize(("n_channels", "n_parameters"), [(124, 5_264_501), (80, 5_176_501), (31, 5_078_501)])
def test_bilstm_is_as_large_as_dalys(n_channels: int, n_parameters: int) -> None:
    network = models.build(BiLSTM(hidden=250, layers=4), spec(n_channels))
    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters


@pytest.mark.parametrize("name", ["bilstm"])
def test_every_model_gives_an_output_for_each_sample(name: str) -> None:
    network = models.build(MODELS[name](), spec(16, n_outputs=3))
    for n_times in (64, 200):
        assert network(torch.randn(2, n_times, 16), torch.tensor([0, 1])).shape == (2, n_times, 3)


def test_the_first_sample_hears_of_the_last() -> None:
    network = models.build(BiLSTM(), spec(4))
    x = torch.zeros(1, 20, 4, requires_grad=True)
    network(x, FIRST)[0, 0, 0].backward()
    assert x.grad is not None
    assert x.grad[0, -1].abs().max() > 0


def test_other_channels_are_refused() -> None:
    network = models.build(BiLSTM(), spec(16))
    with pytest.raises(ValueError, match="got 22 channels x 64 samples; this model was built for 16 channels"):
        network(torch.zeros(1, 64, 22), FIRST)
    with pytest.raises(ValueError, match=r"\[window, time, channel\], got a tensor of shape \(64, 16\)"):
        network(torch.zeros(64, 16), FIRST)


def test_a_subject_layer_is_of_its_subject_alone_and_starts_as_if_it_were_not_there() -> None:
    torch.manual_seed(0)
    plain = models.build(BiLSTM(), spec(4))
    torch.manual_seed(0)
    network = models.build(BiLSTM(subject_layer=True), spec(4))
    x, subject = torch.randn(2, 20, 4), torch.tensor([0, 1])
    assert torch.equal(network(x, subject), plain(x, subject))
    network(x, torch.tensor([1, 1])).sum().backward()
    assert network.of_subject.grad[0].abs().max() == 0
    assert network.of_subject.grad[1].abs().max() > 0


def test_dropout_draws_from_torchs_seed_alone() -> None:
    network = models.build(BiLSTM(dropout=0.5), spec(4)).train()
    x = torch.randn(1, 20, 4)
    first, other, again = (network(x, FIRST) for seed in (1, 2, 1) if torch.manual_seed(seed))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"hidden": 0}, "at least 1, got 0 and 2"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": 0.1, "layers": 1}, "dropout 0.1 with 1 layer"),
    ],
)
def test_nonsense_is_refused(knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BiLSTM(**knobs)  # type: ignore[arg-type]


def batch(signal: torch.Tensor, target: torch.Tensor) -> Batch:
    which = torch.arange(len(signal))
    return Batch(signal, target, torch.zeros_like(which), which)


class Echo(torch.nn.Module):
    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        return x


def test_the_correlation_loss_is_one_less_pearsons_r_of_each_window() -> None:
    x, y = torch.randn(5, 100, 2), torch.randn(5, 100, 2)
    loss, watched = objectives.build(Regression(), spec(2))(Echo(), batch(x, y))
    by_hand = np.mean([np.corrcoef(x[i, :, f], y[i, :, f])[0, 1] for i in range(5) for f in range(2)])
    assert loss.item() == pytest.approx(1 - by_hand, abs=1e-6)
    assert watched["r"].item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize(("name", "blind"), [("correlation", True), ("cosine", False), ("mse", False), ("l1", False)])
def test_only_correlation_is_blind_to_the_offset(name: str, blind: bool) -> None:
    loss = objectives.build(Regression(loss=name), spec(1))  # type: ignore[arg-type]
    y = torch.randn(3, 100, 1)
    assert loss(Echo(), batch(y, y))[0].item() == pytest.approx(0, abs=1e-6)
    assert (loss(Echo(), batch(y + 3, y))[0].item() < 1e-5) == blind


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the model gives \(3, 100, 1\), but the target is \(3, 100, 2\)"):
        objectives.build(Regression(), spec(2))(Echo(), batch(torch.zeros(3, 100, 1), torch.zeros(3, 100, 2)))
