"""The brain module is the published one, and uses the subject."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from eegdecode import models, objectives
from eegdecode.models.brainmodule import BrainModule
from eegdecode.models.parts.merger import Merger, flat
from eegdecode.objectives import Batch
from eegdecode.objectives.clip import Clip
from eegdecode.signals import SignalSpec


def spec(n_channels: int, n_outputs: int, n_subjects: int = 2, target_sfreq: float = 120.0) -> SignalSpec:
    """Sensors on a spiral from the top of the head downwards."""
    heights = [1 - 1.2 * index / n_channels for index in range(n_channels)]
    positions = tuple(
        (0.1 * math.sqrt(1 - z * z) * math.cos(2.4 * i), 0.1 * math.sqrt(1 - z * z) * math.sin(2.4 * i), 0.1 * z)
        for i, z in enumerate(heights)
    )
    subjects = tuple(f"sub-{index:02d}" for index in range(n_subjects))
    names = tuple(f"MEG{index:03d}" for index in range(n_channels))
    kinds = ("mag",) * n_channels
    return SignalSpec(names, 120.0, n_outputs, subjects, target_sfreq, kinds=kinds, positions=positions)  # type: ignore[arg-type]


SMALL = BrainModule(virtual_channels=12, frequencies=4, hidden=16, layers=4)


@pytest.mark.parametrize(
    ("n_channels", "n_subjects", "n_parameters"),
    [(208, 27, 9_565_054), (273, 96, 14_595_154), (128, 19, 8_981_854), (60, 33, 10_002_454)],
    ids=["Gwilliams", "Schoffelen", "Broderick", "Brennan"],
)
def test_it_is_as_large_as_published(n_channels: int, n_subjects: int, n_parameters: int) -> None:
    with torch.device("meta"):
        network = models.build(BrainModule(), spec(n_channels, 1024, n_subjects))
        alike = models.build(BrainModule(subject_layer=False), spec(n_channels, 1024, n_subjects))
    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters
    assert sum(parameter.numel() for parameter in alike.parameters()) == 7_596_754


def fill(network: nn.Module) -> None:
    """Every parameter from a formula, so that another program can have the same."""
    with torch.no_grad():
        for number, (name, value) in enumerate(network.state_dict().items()):
            if not value.is_floating_point():
                continue
            wave = torch.sin(0.7 * torch.arange(value.numel(), dtype=torch.float64) ** 2 + number).reshape(value.shape)
            if name.endswith("running_var"):
                value.copy_(1 + 0.5 * wave)
            else:
                value.copy_(0.2 * wave if value.ndim == 1 else 2.4 * wave / math.sqrt(value[0].numel()))


def test_it_gives_what_the_published_one_gives() -> None:
    """The numbers are those of SimpleConv (neuraltrain 0.4.0) with the same parameters."""
    network = models.build(BrainModule(virtual_channels=27, frequencies=6, hidden=32), spec(24, 20, 3)).double().eval()
    fill(network)
    x = 5 * torch.sin(0.3 * torch.arange(2 * 100 * 24, dtype=torch.float64) ** 1.1).reshape(2, 100, 24)
    given = network(x, torch.tensor([2, 0])).flatten()[::397]
    golden = [
        *(0.3431201, -0.2303434, -0.2777514, -0.0097062, -0.0709355, -0.4592026),
        *(-0.2788546, -0.1295417, 0.3399386, -0.1642647, -0.1030932),
    ]
    assert np.abs(given.detach().numpy() - golden).max() < 1e-5


def test_the_head_is_seen_from_above() -> None:
    places = {
        "top": (0, 0, 0.1),
        "left": (-0.1, 0, 0),
        "right": (0.1, 0, 0),
        "nose": (0, 0.1, 0),
        "inion": (0, -0.1, 0),
    }
    seen = flat(SignalSpec(tuple(places), 120.0, 1, positions=tuple(places.values())))
    assert np.allclose(seen, [[0.5, 0.5], [0, 0.5], [1, 0.5], [0.5, 1], [0.5, 0]])
    below = flat(SignalSpec(("top", "ear", "neck"), 120.0, 1, positions=((0, 0, 1), (1, 0, 0), (0.9, 0, -0.4))))
    assert np.argsort(below[:, 0]).tolist() == [0, 1, 2]


def test_places_that_no_file_tells_come_from_the_names_of_the_channels() -> None:
    seen = flat(SignalSpec(("Cz", "T7", "T8", "Oz", "Fpz"), 120.0, 1))
    assert np.allclose(seen, [[0.5, 0.5], [0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]])


def test_channels_that_stand_nowhere_are_named() -> None:
    signal_spec = spec(12, 1)
    lost = (*signal_spec.positions[:3], None, *signal_spec.positions[4:11], None)
    for positions, message in (
        (lost, "2 of 12: MEG003, MEG011. Add their positions"),
        ((), "12 of 12: MEG000, .*, MEG004, …"),
    ):
        with pytest.raises(ValueError, match=message):
            models.build(SMALL, SignalSpec(signal_spec.channels, 120.0, 1, ("sub-01",), positions=positions))
    without = SignalSpec(signal_spec.channels, 120.0, 1, ("sub-01",))
    assert models.build(BrainModule(merger=False), without)(torch.zeros(2, 30, 12), torch.zeros(2).long()).shape == (
        2,
        1,
    )


def test_only_sensors_far_from_a_random_place_are_heard_in_a_step() -> None:
    merger = Merger(spec(60, 1), 5, 4, dropout_radius=0.2)
    x = torch.eye(60)[None]  # so what comes out is the weights
    for seed in range(20):
        torch.manual_seed(seed)
        weights = merger(x)[0]
        torch.manual_seed(seed)
        far = (merger.positions - torch.rand(2)).norm(dim=1) > 0.2
        assert torch.equal(weights > 0, far[:, None].expand(60, 5))
        assert torch.allclose(weights.sum(dim=0), torch.ones(5))
    assert (merger.eval()(x) > 0).all()


def test_a_step_in_which_all_sensors_are_near_hears_them_all() -> None:
    one = spec(1, 1)
    merger = Merger(one, 3, 4, dropout_radius=0.99)
    for _ in range(10):
        given = merger(torch.ones(1, 4, 1))
        given.sum().backward()
        assert torch.equal(given, torch.ones(1, 4, 3))
        assert merger.heads.grad is not None
        assert merger.heads.grad.isfinite().all()


@pytest.mark.parametrize("skip", ["identity", "projection", "gated"])
def test_every_skip_builds_learns_compiles_and_autocasts(skip: str) -> None:
    cfg = BrainModule(virtual_channels=12, frequencies=4, hidden=16, layers=4, skip=skip)  # type: ignore[arg-type]
    network = models.build(cfg, spec(12, 3))
    x, subject = torch.randn(2, 50, 12), torch.tensor([0, 1])
    network(x, subject).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    torch.manual_seed(0)
    plain = network(x, subject)
    torch.manual_seed(0)
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(x, subject)
    assert (compiled - plain).abs().max() < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x, subject).isfinite().all()


def test_the_output_has_the_times_of_the_target() -> None:
    x, subject = torch.randn(2, 50, 12), torch.tensor([0, 1])
    for target_sfreq, shape in ((120.0, (2, 50, 3)), (24.0, (2, 10, 3)), (0.0, (2, 3))):
        network = models.build(SMALL, spec(12, 3, target_sfreq=target_sfreq)).eval()
        assert network(x, subject).shape == shape
    with pytest.raises(ValueError, match="got 22 channels x 50 samples; this model was built for 12 channels"):
        network(torch.zeros(2, 50, 22), subject)


def test_a_matrix_is_of_its_subject_alone() -> None:
    network = models.build(SMALL, spec(12, 1))
    network(torch.randn(2, 50, 12), torch.tensor([1, 1])).sum().backward()
    assert network.of_subject.grad[0].abs().max() == 0
    assert network.of_subject.grad[1].abs().max() > 0


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"layers": 0}, "virtual_channels, frequencies, hidden, layers must be at least 1, got 270, 32, 320, 0"),
        ({"dropout_radius": 1.0}, r"dropout_radius must lie in \[0, 1\), got 1.0"),
    ],
)
def test_nonsense_is_refused(knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BrainModule(**knobs)  # type: ignore[arg-type]


def test_what_was_heard_is_found_among_200_but_not_through_the_matrix_of_another() -> None:
    """Each subject's sensors mix the same sixteen features in another way."""
    torch.manual_seed(0)
    n_subjects, n_features = 4, 16
    mixing = torch.randn(n_subjects, n_features, 24)

    def heard(n_windows: int) -> Batch:
        subject = torch.arange(n_windows) % n_subjects
        target = torch.randn(n_windows, n_features)
        signal = torch.bmm(target[:, None], mixing[subject]) + torch.randn(n_windows, 12, 24)
        return Batch(signal, target, subject, torch.arange(n_windows))

    cfg = BrainModule(merger=False, virtual_channels=24, hidden=64, layers=2)
    signal_spec = spec(24, n_features, n_subjects, target_sfreq=0.0)
    network = models.build(cfg, signal_spec)
    objective = objectives.build(Clip(), signal_spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(150):
        loss, _watched = objective(network, heard(128))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = heard(200)
    assert top10(network.eval(), test) > 0.95
    assert top10(network, test._replace(subject=(test.subject + 1) % n_subjects)) < 0.15


def top10(network: nn.Module, batch: Batch) -> float:
    with torch.no_grad():
        decoded = nn.functional.normalize(network(batch.signal, batch.subject), dim=1)
    scores = decoded @ nn.functional.normalize(batch.target, dim=1).mT
    return (scores >= scores.diagonal()[:, None]).sum(dim=1).le(10).float().mean().item()
