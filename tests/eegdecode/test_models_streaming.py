"""A causal network reads nothing that comes later, and gives the same chunk by chunk as for the whole window."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from eegdecode import models
from eegdecode.models import Model
from eegdecode.models.parts.streaming import Stream
from eegdecode.models.tcn import TCN
from eegdecode.models.transformer import Transformer
from eegdecode.signals import SignalSpec
from tests.eegdecode.planted import accuracy, trained, two_rhythms

WHOSE = torch.zeros(2, dtype=torch.int64)
CAUSAL: list[Any] = [
    TCN(width=8, blocks=3, kernel=4),
    Transformer(causal=True, width=16, heads=2, layers=2, patch=4, past=7),
    Transformer(causal=True, width=16, heads=2, layers=2, patch=1),
]
OTHERS: list[Any] = [
    TCN(causal=False, width=8, blocks=3),
    Transformer(width=16, heads=2, layers=2),
]
CHUNKS = [1, 2, 3, 40, 1, 1, 62, 7, 83]  # 200 samples


def spec(target_sfreq: float = 0.0) -> SignalSpec:
    return SignalSpec(("C3", "Cz", "C4"), 100.0, 2, ("sub-01",), target_sfreq)


def whole(cfg: Model, data: SignalSpec) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A network, a window, and the network's output for it."""
    torch.manual_seed(0)
    network: Any = models.build(cfg, data).eval()
    x = torch.randn(2, 200, 3)
    with torch.no_grad():
        return network, x, network(x, WHOSE)


@pytest.mark.parametrize("target_sfreq", [100.0, 30.0, 250.0])
@pytest.mark.parametrize("cfg", CAUSAL, ids=lambda cfg: f"{cfg.name}{getattr(cfg, 'patch', '')}")
def test_chunk_by_chunk_is_the_same_as_at_once(cfg: Model, target_sfreq: float) -> None:
    network, x, at_once = whole(cfg, spec(target_sfreq))
    stream = Stream(network)
    out = torch.cat([stream.feed(chunk) for chunk in x.split(CHUNKS, dim=1)], dim=1)
    assert out.shape[1] == math.ceil(200 * target_sfreq / 100) >= at_once.shape[1]
    assert (out[:, : at_once.shape[1]] - at_once).abs().max() < 1e-5
    assert at_once[:, 20:].std(dim=1).min() > 1e-3


@pytest.mark.parametrize("cfg", CAUSAL, ids=lambda cfg: f"{cfg.name}{getattr(cfg, 'patch', '')}")
def test_what_a_window_has_one_of_is_the_mean_up_to_now(cfg: Model) -> None:
    network, x, at_once = whole(cfg, spec())
    stream = Stream(network)
    so_far = [stream.feed(chunk) for chunk in x.split(CHUNKS, dim=1)]
    assert (so_far[-1] - at_once).abs().max() < 1e-5
    with torch.no_grad():
        assert (so_far[3] - network(x[:, :46], WHOSE)).abs().max() < 1e-5


@pytest.mark.parametrize("target_sfreq", [0.0, 30.0])
@pytest.mark.parametrize("cfg", CAUSAL, ids=lambda cfg: f"{cfg.name}{getattr(cfg, 'patch', '')}")
def test_a_chunk_of_nothing_changes_nothing(cfg: Model, target_sfreq: float) -> None:
    network, x, _ = whole(cfg, spec(target_sfreq))
    stream, other = Stream(network), Stream(network)
    nothing = stream.feed(x[:, :0])
    assert nothing.shape == ((2, 0, 2) if target_sfreq else (2, 2)) and not nothing.any()
    first = stream.feed(x[:, :50])
    again = stream.feed(x[:, :0])
    assert again.shape == (2, 0, 2) if target_sfreq else torch.equal(again, first)
    assert torch.equal(first, other.feed(x[:, :50]))
    assert torch.equal(stream.feed(x[:, 50:]), other.feed(x[:, 50:]))


@pytest.mark.parametrize("target_sfreq", [100.0, 30.0, 250.0])
@pytest.mark.parametrize("cfg", CAUSAL, ids=lambda cfg: f"{cfg.name}{getattr(cfg, 'patch', '')}")
def test_no_output_changes_at_all_when_later_samples_do(cfg: Model, target_sfreq: float) -> None:
    network, x, before = whole(cfg, spec(target_sfreq))
    for first in (1, 50, 123, 199):
        other = x.clone()
        other[:, first:] = 100 * torch.randn(2, 200 - first, 3)
        with torch.no_grad():
            after = network(other, WHOSE)
        n_safe = math.ceil(first * target_sfreq / 100)  # steps before the time of that sample
        assert torch.equal(after[:, :n_safe], before[:, :n_safe])
        assert first > 150 or not torch.equal(after, before)


def test_a_step_hears_of_the_sample_at_its_own_time() -> None:
    network, x, before = whole(CAUSAL[0], spec(100.0))
    x[:, 50] += 1
    with torch.no_grad():
        changed = (network(x, WHOSE) != before).any(dim=2).any(dim=0)
    assert changed.nonzero()[0] == 50


@pytest.mark.parametrize("cfg", OTHERS, ids=lambda cfg: cfg.name)
def test_others_hear_of_what_comes_and_cannot_stream(cfg: Model) -> None:
    network, x, before = whole(cfg, spec(100.0))
    x[:, 198:] += 1
    with torch.no_grad():
        assert (network(x, WHOSE) != before)[:, 194].any()
    with pytest.raises(ValueError, match="so it cannot stream: train one with causal=true"):
        Stream(network)


def test_what_a_stream_keeps_does_not_grow() -> None:
    def kept(memory: Any) -> int:
        return memory.numel() if isinstance(memory, torch.Tensor) else sum(kept(part) for part in memory)

    for cfg in CAUSAL[:2]:
        stream = Stream(models.build(cfg, spec(100.0)).eval())  # type: ignore[arg-type]
        sizes = [(stream.feed(torch.randn(1, 40, 3)), kept(stream.memory))[1] for _ in range(5)]
        assert sizes[1:] == sizes[1:2] * 4


def test_a_stream_needs_a_network_that_has_learnt_and_its_channels() -> None:
    network: Any = models.build(CAUSAL[0], spec(100.0))
    with pytest.raises(ValueError, match=r"in training mode cannot stream: call its eval\(\) first"):
        Stream(network.train())
    with pytest.raises(ValueError, match="got 2 channels x 9 samples; this model was built for 3 channels"):
        Stream(network.eval()).feed(torch.zeros(1, 9, 2))


@pytest.mark.parametrize("cfg", [*CAUSAL[:2], *OTHERS], ids=lambda cfg: f"{cfg.name}-{cfg.causal}")
def test_each_gives_classes_and_sequences_compiles_and_takes_half_precision(cfg: Model) -> None:
    x = torch.randn(2, 201, 3)
    network = models.build(cfg, spec())
    assert network(x, WHOSE).shape == (2, 2)
    assert models.build(cfg, spec(30.0))(x, WHOSE).shape == (2, 60, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x, WHOSE).isfinite().all()
    torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(x, WHOSE).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_checkpointing_changes_no_gradient() -> None:
    slopes = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        network = models.build(dataclasses.replace(OTHERS[1], checkpoint=checkpoint), spec()).train()
        torch.manual_seed(1)
        network(torch.ones(2, 64, 3), WHOSE).square().sum().backward()
        slopes.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*slopes, strict=True))


@pytest.mark.parametrize(
    "cfg",
    [TCN(width=16, blocks=4), Transformer(causal=True, width=16, heads=2, layers=1)],
    ids=lambda cfg: cfg.name,
)
def test_causal_networks_tell_two_rhythms_apart_in_unseen_subjects(cfg: Model) -> None:
    data = two_rhythms(0.7, n_channels=8, n_times=128)
    assert accuracy(trained(cfg, *data, steps=50, lr=5e-3), *data) >= 0.90


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        (TCN, {"kernel": 0}, "kernel must be at least 1, got 0"),
        (TCN, {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        (Transformer, {"past": 0}, "past must be at least 1, got 0"),
        (Transformer, {"width": 30}, "got 4 heads for a width of 30"),
    ],
)
def test_nonsense_is_refused(kind: Any, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**knobs)
