"""Graph attention is GATv2's; hybrids are built of any stages; STGATE learns the adjacency."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from eegdecode import models
from eegdecode.models import Model
from eegdecode.models.hybrid import Hybrid, Stage
from eegdecode.models.parts.gatv2 import GATv2
from eegdecode.models.stgate import STGATE
from eegdecode.signals import SignalSpec
from tests.eegdecode.planted import accuracy, trained, two_rhythms

NAMED: list[tuple[Stage, ...]] = [
    ("gat", "fc"),
    ("cnn", "transformer"),
    ("transformer", "cnn"),
    ("cnn", "gat"),
    ("transformer", "gat"),
    ("cnn", "transformer", "gat"),
]
WHOSE = torch.zeros(3, dtype=torch.int64)


def spec(n_channels: int = 5, sfreq: float = 128.0, **more: Any) -> SignalSpec:
    channels = tuple(f"E{index}" for index in range(n_channels))
    return dataclasses.replace(SignalSpec(channels, sfreq, 3, ("sub-01",)), **more)


@pytest.mark.filterwarnings("ignore")  # of what torch_geometric imports
@pytest.mark.parametrize("self_loops", [True, False])
def test_graph_attention_is_that_of_torch_geometric(self_loops: bool) -> None:
    geometric = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(0)
    theirs = geometric.GATv2Conv(8, 16, heads=2, add_self_loops=self_loops)
    nn.init.normal_(theirs.bias)
    ours = GATv2(8, 16, heads=2, self_loops=self_loops)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    may_look = torch.rand(10, 10) < 0.3
    may_look[4] = False  # one that sees nobody
    looking, seen = may_look.nonzero().unbind(1)
    x = torch.randn(10, 8)
    with torch.no_grad():
        difference = ours(x[None], may_look)[0] - theirs(x, torch.stack([seen, looking]))
    assert difference.abs().max() < 1e-5


def test_graph_attention_gives_the_numbers_of_torch_geometric() -> None:
    """Those of GATv2Conv(2, 2, heads=2) of torch_geometric 2.8.1, for a ring of four nodes and one more."""
    layer = GATv2(2, 2, heads=2)
    with torch.no_grad():
        for number, value in enumerate(layer.state_dict().values()):
            value.copy_(torch.sin(0.7 * torch.arange(value.numel()) ** 2 + number).reshape(value.shape))
    ring = torch.zeros(5, 5, dtype=torch.bool)
    ring[torch.arange(4), (torch.arange(4) + 1) % 4] = True
    x = torch.cos(torch.arange(10.0) ** 2).reshape(1, 5, 2)
    outputs = [
        1.037708,
        0.125716,
        -0.80605,
        1.313456,
        0.374726,
        1.705399,
        -1.515152,
        0.196055,
        0.743675,
        1.652756,
        -1.006172,
        -0.12808,
        1.525818,
        0.433289,
        -0.508187,
        0.995606,
        1.670846,
        0.772179,
        -0.374137,
        0.554174,
    ]
    assert layer(x, ring)[0].flatten().tolist() == pytest.approx(outputs, abs=1e-5)


def test_what_a_node_takes_is_1_in_all_and_0_where_it_may_not_look() -> None:
    layer = GATv2(4, 4, heads=2, self_loops=False)
    mask = torch.rand(6, 6) < 0.5
    mask[2] = False
    seen, looking = torch.randn(2, 3, 6, 2, 4)
    share = layer.shares(seen, looking, mask, None)
    assert (share[:, ~mask] == 0).all()
    assert torch.allclose(share.sum(dim=2), mask.any(dim=1).float()[None, :, None].expand(3, 6, 2))
    layer(torch.randn(3, 6, 4), mask).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_a_node_that_falls_silent_changes_nothing_for_those_who_do_not_look_at_it() -> None:
    layer = GATv2(4, 4, heads=2, self_loops=False)
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[:, 2] = torch.tensor([True, False, False, True, False, False])
    x = torch.randn(3, 6, 4)
    silent = x.clone()
    silent[:, 2] = 0
    changed = (layer(x, mask) != layer(silent, mask)).any(dim=2).any(dim=0)
    assert changed.tolist() == [True, False, True, True, False, False]  # itself too: whom it looks at depends on it


SMALL: list[Any] = [
    *(Hybrid(stages=stages, width=8, heads=2, nodes=3, layers=1) for stages in (NAMED[0], NAMED[2])),
    Hybrid(stages=("cnn", "gat"), width=8, heads=2, nodes=0, layers=1, checkpoint=True),
    STGATE(width=8, heads=2, layers=1),
]


@pytest.mark.parametrize("cfg", SMALL, ids=lambda cfg: "-".join(getattr(cfg, "stages", (cfg.name,))))
def test_each_gives_classes_and_sequences_compiles_and_takes_half_precision(cfg: Model) -> None:
    x = torch.randn(3, 300, 5)
    network = models.build(cfg, spec())
    assert network(x, WHOSE).shape == (3, 3)
    follows = models.build(cfg, spec(target_sfreq=30.0))
    for n_times in (300, 200):
        assert follows(x[:, :n_times], WHOSE).shape == (3, round(n_times * 30 / 128), 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x, WHOSE).isfinite().all()
    torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(x, WHOSE).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with pytest.raises(ValueError, match="got 4 channels x 300 samples; this model was built for 5 channels"):
        network(x[:, :, :4], WHOSE)


@pytest.mark.parametrize("stages", NAMED, ids="-".join)
def test_every_hybrid_tells_two_rhythms_apart_in_unseen_subjects(stages: tuple[Stage, ...]) -> None:
    data = two_rhythms(0.7, n_channels=8, n_times=128)
    cfg = Hybrid(stages=stages, width=16, nodes=0 if stages == ("cnn", "gat") else 4, layers=1)
    assert accuracy(trained(cfg, *data, steps=60, lr=5e-3), *data) >= 0.90


def coupled() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Signal, class, subject: 10 Hz comes and goes at three electrodes, half of the time at each; at the first when it
    does at the second (class 0) or the third (class 1). No electrode alone tells the class."""
    draw = torch.Generator().manual_seed(0)
    n, n_patches, samples = 640, 8, 64
    label = torch.arange(n) % 2
    comes = torch.rand(n, n_patches, 3, generator=draw) < 0.5
    comes[torch.arange(n), :, 1 + label] = comes[:, :, 0]
    turns = 10 * torch.arange(samples)[:, None] / 128 + torch.rand(n, n_patches, 1, 3, generator=draw)
    x = torch.randn(n, n_patches, samples, 6, generator=draw)
    x[..., :3] += 5 * comes[:, :, None] * torch.sin(2 * torch.pi * turns)
    return x.flatten(1, 2), label, torch.arange(n) * 8 // n


def test_stgate_hears_which_electrodes_go_together() -> None:
    data = coupled()
    network = trained(STGATE(patch_s=0.5, width=16, layers=1), *data, steps=150, lr=5e-3)
    assert accuracy(network, *data) >= 0.90


def test_who_is_next_to_whom_is_learnt_and_shared_out_over_the_others() -> None:
    torch.manual_seed(0)
    network: Any = models.build(STGATE(width=8, heads=2, layers=1), spec())
    before = network.adjacency()
    assert torch.allclose(before, (1 - torch.eye(5)) / 4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(3, 300, 5), WHOSE).square().sum().backward()
        optimizer.step()
    after = network.adjacency()
    assert torch.allclose(after.sum(dim=1), torch.ones(5))
    assert after.diagonal().abs().max() == 0
    assert (after - before).abs().max() > 1e-3


def test_stgates_powers_are_those_of_a_sine_in_its_band_alone() -> None:
    cfg = STGATE(width=8, heads=2)
    network: Any = models.build(cfg, spec(2)).eval()
    x = torch.sin(2 * torch.pi * 10 * torch.arange(128) / 128)[None, None, :, None].expand(1, 1, 128, 2)
    assert network.power(x)[0, 0].argmax(dim=1).tolist() == [2, 2]  # 8 to 14 Hz
    louder = network.power(10 * x) - network.power(x)
    assert louder[0, 0, 0, 2].item() == pytest.approx(2 * torch.log(torch.tensor(10.0)).item(), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        (Hybrid, {"stages": ()}, "at least one of cnn, transformer, gat, fc; got none"),
        (Hybrid, {"width": 30}, "got 4 heads for a width of 30"),
        (Hybrid, {"patch_s": 0.0}, "patch_s must be above 0 s, got 0.0"),
        (Hybrid, {"nodes": -1}, "nodes must be 0 .* or more, got -1"),
        (STGATE, {"bands_hz": (8.0, 4.0)}, r"increasing from 0 or more: got \(8.0, 4.0\)"),
        (STGATE, {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_nonsense_is_refused(kind: Any, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**knobs)


def test_bands_that_the_signal_does_not_have_and_lonely_electrodes_are_refused() -> None:
    with pytest.raises(ValueError, match="64 samples at 64 Hz have no frequency from 40 to 50 Hz: .* below 32 Hz"):
        models.build(STGATE(bands_hz=(4.0, 40.0, 50.0)), spec(sfreq=64.0))
    with pytest.raises(ValueError, match="at least 2 channels to look at each other, got 1"):
        models.build(STGATE(), spec(1))
