"""Networks of filters are the published ones: in size, in numbers, and in what they learn."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from eegdecode import models
from eegdecode.models import Model
from eegdecode.models.conformer import Conformer
from eegdecode.models.deep4 import Deep4
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.eegnet_ssvep import EEGNetSSVEP
from eegdecode.models.lfcnn import LFCNN
from eegdecode.models.parts import attention, norms
from eegdecode.models.shallow import Shallow
from eegdecode.models.varcnn import VARCNN
from eegdecode.signals import SignalSpec
from tests.eegdecode.planted import accuracy, trained, two_rhythms

SMALL: list[Any] = [
    EEGNet(filters=2, kernel=16),
    Deep4(filters=2, kernel=5, pool=2),
    Shallow(filters=4),
    Conformer(filters=8, heads=2, layers=2, hidden=(16, 8)),
    Conformer(filters=8, heads=2, layers=2, hidden=(16, 8), checkpoint=True),
    LFCNN(latents=4),
    VARCNN(latents=4),
]
WHOSE = torch.zeros(3, dtype=torch.int64)


def spec(n_channels: int, n_times: int | None, n_outputs: int, sfreq: float = 128.0, **more: Any) -> SignalSpec:
    values = tuple(float(index) for index in range(n_outputs))
    made = SignalSpec(
        tuple(f"E{i}" for i in range(n_channels)), sfreq, n_outputs, ("sub-01",), n_times=n_times, class_values=values
    )
    return dataclasses.replace(made, **more)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("cfg", "data", "n_parameters"),
    [
        (EEGNet(), spec(64, 128, 2), 2258),
        (EEGNet(filters=4), spec(64, 128, 2), 1066),
        (EEGNet(kernel=32), spec(22, 256, 4), 1716),
        (EEGNet(filters=4, kernel=32), spec(22, 256, 4), 796),
        # filters of a second + over 8 channels + in time + across + three norms + 96 x 8 features to 12 classes
        (EEGNetSSVEP(), spec(8, 256, 12, 256.0), 96 * 256 + 96 * 8 + 96 * 16 + 96 * 96 + 3 * 192 + 96 * 8 * 12 + 12),
        (Conformer(), spec(22, 1000, 4, 250.0), 789_572),
        (LFCNN(), spec(204, 101, 5), 204 * 32 + 32 + 32 * 7 + 32 + 32 * 51 * 5 + 5),
        (VARCNN(), spec(204, 101, 5), 204 * 32 + 32 + 32 * 32 * 7 + 32 + 32 * 51 * 5 + 5),
    ],
)
def test_each_is_as_large_as_published(cfg: Model, data: SignalSpec, n_parameters: int) -> None:
    with torch.device("meta"):
        assert count(models.build(cfg, data)) == n_parameters


@pytest.mark.parametrize("cfg", SMALL, ids=lambda cfg: cfg.name)
def test_each_gives_classes_and_sequences_compiles_and_takes_half_precision(cfg: Model) -> None:
    x = torch.randn(3, 300, 5)
    network = models.build(cfg, spec(5, 300, 4))
    assert network(x, WHOSE).shape == (3, 4)
    assert models.build(cfg, spec(5, 300, 4, target_sfreq=32.0))(x, WHOSE).shape == (3, 75, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x, WHOSE).isfinite().all()
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")
    compiled(x, WHOSE).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    again = models.build(cfg, spec(5, 300, 4))
    again.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(again.eval()(x, WHOSE), network.eval()(x, WHOSE))


def test_windows_of_two_lengths_one_after_the_other_compile() -> None:
    for n_times in (200, 300):
        network = torch.compile(models.build(LFCNN(), spec(5, n_times, 4)), fullgraph=True, backend="aot_eager")
        assert network(torch.randn(3, n_times, 5), WHOSE).shape == (3, 4)


@pytest.mark.parametrize(
    ("cfg", "at_least"), [(EEGNet(), 32), (EEGNetSSVEP(), 32), (Deep4(), 441), (Shallow(), 99), (Conformer(), 99)]
)
def test_the_shortest_window_works_and_a_shorter_one_is_refused(cfg: Model, at_least: int) -> None:
    network = models.build(cfg, spec(3, at_least, 2)).eval()
    assert network(torch.randn(1, at_least, 3), WHOSE[:1]).shape == (1, 2)
    with pytest.raises(ValueError, match=f"3 channels x {at_least - 1} samples; needs at least {at_least} samples"):
        models.build(cfg, spec(3, at_least - 1, 2))
    with pytest.raises(
        ValueError, match=f"got 3 channels x {at_least + 1} samples; this model was built for {at_least}"
    ):
        network(torch.randn(1, at_least + 1, 3), WHOSE[:1])
    with pytest.raises(ValueError, match=f"{cfg.name} takes windows of one length only"):
        models.build(cfg, spec(3, None, 2))


def take_over(network: nn.Module, oracle: nn.Module) -> None:
    """The parameters of braindecode's, which stand in the same order but for queries, keys and values in a matrix
    each, and in Deep4 for the norms between the convolutions."""
    theirs = oracle.state_dict()
    values = []
    for name, value in theirs.items():
        if ".keys." in name:
            parts = [theirs[name.replace(".keys.", f".{part}.")] for part in ("queries", "keys", "values")]
            values.append(torch.cat(parts))
        elif ".queries." not in name and ".values." not in name:
            values.append(value)
    if isinstance(oracle, nn.Module) and type(oracle).__name__ == "Deep4Net":
        bnorm = ["bnorm" in name for name in theirs]
        last = len(values) - 2
        body = [value for value, is_norm in zip(values[:last], bnorm[:last], strict=True) if not is_norm]
        values = body + [value for value, is_norm in zip(values, bnorm, strict=True) if is_norm] + values[last:]
    ours = network.state_dict()
    network.load_state_dict(
        {name: value.reshape(ours[name].shape) for name, value in zip(ours, values, strict=True)}, strict=True
    )


@pytest.mark.filterwarnings("ignore")  # of what braindecode imports
@pytest.mark.parametrize(
    ("cfg", "oracle", "settings"),
    [
        (EEGNet(padding="symmetric", kernel=64), "EEGNet", {}),
        (EEGNet(padding="symmetric", kernel=33, filters=4), "EEGNet", {"F1": 4, "kernel_length": 33}),
        (Deep4(), "Deep4Net", {}),
        (Shallow(), "ShallowFBCSPNet", {}),
        (Conformer(scale="head"), "EEGConformer", {}),
    ],
)
def test_outputs_are_those_of_braindecode(cfg: Model, oracle: str, settings: dict[str, int]) -> None:
    braindecode = pytest.importorskip("braindecode.models")
    torch.manual_seed(0)
    theirs = getattr(braindecode, oracle)(n_chans=22, n_outputs=4, n_times=600, **settings)
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    network = models.build(cfg, spec(22, 600, 4, class_values=()))
    assert count(network) == count(theirs)
    take_over(network, theirs)
    x = torch.randn(3, 600, 22)
    with torch.no_grad():
        difference = network.eval()(x, WHOSE) - theirs.eval()(x.mT)
    assert difference.abs().max() < 1e-5


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


@pytest.mark.parametrize(
    ("scale", "outputs"),
    [
        ("head", [0.7622090, -9.3908958, 7.5177555, -20.6094303]),
        ("emb", [0.7628284, -9.3905935, 7.5174813, -20.6103439]),
    ],
)
def test_the_conformer_gives_the_numbers_of_either_scale(scale: Any, outputs: list[float]) -> None:
    """Those of braindecode's (1.8.1) with the same parameters; for `emb`, with the products of queries and keys divided
    by the root of 40 there, as the authors do."""
    network = models.build(Conformer(scale=scale), spec(22, 300, 4)).eval()
    fill(network)
    x = torch.sin(0.3 * torch.arange(300 * 22, dtype=torch.float64) ** 1.5).reshape(1, 300, 22).float()
    with torch.no_grad():
        assert network(x, WHOSE[:1])[0].tolist() == pytest.approx(outputs, rel=2e-6, abs=1e-5)


def test_padding_is_that_of_keras_with_one_sample_more_after_than_before() -> None:
    network = models.build(EEGNet(kernel=64), spec(1, 256, 2))
    seen: list[torch.Tensor] = []
    network.time.register_forward_hook(lambda module, args, out: seen.append(out))
    x = torch.randn(1, 256, 1, requires_grad=True)
    network(x, WHOSE[:1])
    assert seen[0].shape[3] == 256
    (slope,) = torch.autograd.grad(seen[0][0, 0, 0, 100], x)
    heard = slope[0, :, 0].nonzero().flatten()
    assert (heard.min(), heard.max()) == (100 - 31, 100 + 32)


@pytest.mark.parametrize(
    ("layer", "bound"), [("space", 1.0), ("readout.linear", 0.25)], ids=["over channels", "of a class"]
)
def test_eegnet_keeps_its_norms_whatever_a_step_does(layer: str, bound: float) -> None:
    network = models.build(EEGNet(kernel=16), spec(8, 128, 2))
    weight = network.get_parameter(f"{layer}.weight")
    with torch.no_grad():
        weight.mul_(100)
    for act in models.after_steps(network):
        act(0.5)
    assert weight.detach().flatten(1).norm(dim=1).max().item() == pytest.approx(bound, abs=1e-6)


def test_a_spatial_filter_starts_and_stays_within_its_norm_and_smaller_ones_are_left_alone() -> None:
    layer = norms.Linear(22, 19, max_norm=1.0)
    assert count(layer) == 22 * 19 + 19
    with torch.no_grad():
        layer.weight[:9] *= 50
        before = layer.weight.clone()
    for act in models.after_steps(layer):
        act(1.0)
    assert layer.weight.norm(dim=1).max() <= 1 + 1e-6
    assert torch.equal(layer.weight[9:], before[9:])
    assert torch.nn.functional.cosine_similarity(layer.weight, before).min() > 1 - 1e-6
    assert norms.Linear(500, 3, max_norm=0.1).weight.norm(dim=1).max() <= 0.1 + 1e-6


def test_attention_turns_only_by_how_far_tokens_are_apart_and_a_mask_is_heeded() -> None:
    torch.manual_seed(0)
    layer = attention.Attention(16, 2)
    x = torch.randn(2, 6, 16)
    here, there = (layer(x, attention.angles(torch.arange(6) + first, 4)) for first in (0, 1000))
    assert torch.allclose(here, there, atol=1e-5)
    assert not torch.allclose(here, layer(x), atol=1e-3)
    backwards = torch.ones(6, 6, dtype=torch.bool).tril()
    assert torch.allclose(layer(x, mask=backwards), layer(x, causal=True), atol=1e-6)


@pytest.mark.parametrize(
    ("cfg", "steps", "lr"), [(EEGNet(), 40, 1e-2), (Shallow(), 30, 2e-3), (Conformer(layers=2), 30, 2e-3)]
)
def test_two_rhythms_are_told_apart_in_unseen_subjects(cfg: Model, steps: int, lr: float) -> None:
    data = two_rhythms(amplitude=0.5)
    assert accuracy(trained(cfg, *data, steps, lr), *data) >= 0.95


@pytest.mark.parametrize("cfg", [LFCNN(latents=4, dropout=0.0), VARCNN(latents=4, dropout=0.0)], ids=["lf", "var"])
def test_the_pattern_of_a_source_is_found_again(cfg: Model) -> None:
    """A pulse whose time tells the class, in noise that is alike at neighbouring sensors: the weights of a filter do
    not look like what it finds."""
    draw = torch.Generator().manual_seed(1)
    n = 300
    at_sensors = torch.randn(12, generator=draw)
    near = torch.exp(-((torch.arange(12)[:, None] - torch.arange(12)) ** 2) / 0.5)
    noise = torch.randn(n, 64, 12, generator=draw) @ near
    label = torch.arange(n) % 2
    pulse = torch.exp(-((torch.arange(64) - (20 + 20 * label[:, None])) ** 2) / 10)
    x = noise + 6 * pulse[:, :, None] * at_sensors
    torch.manual_seed(0)
    network: Any = models.build(cfg, spec(12, 64, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(network(x, WHOSE), label).backward()
        optimizer.step()
    found, weights = network.patterns(x).mT, network.unmix.weight.detach().double()
    alike = torch.corrcoef(torch.cat([at_sensors[None].double(), found, weights]))[0, 1:].abs()
    assert alike[:4].max() > 0.9 > alike[4:].max()
    assert (network(x, WHOSE).argmax(dim=1) == label).double().mean() > 0.95


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        (EEGNet, {"kernel": 0}, "kernel must be at least 1, got 0"),
        (EEGNet, {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        (EEGNetSSVEP, {"filters": 0}, "filters must be at least 1, got 0"),
        (Deep4, {"pool": 0}, "pool must be at least 1, got 0"),
        (Shallow, {"stride": 0}, "stride must be at least 1, got 0"),
        (Conformer, {"heads": 7}, "got 7 heads for 40 filters"),
        (Conformer, {"hidden": (256, 0)}, "hidden must be at least 1, got 0"),
        (LFCNN, {"latents": 0}, "latents must be at least 1, got 0"),
    ],
)
def test_nonsense_is_refused(kind: Any, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**knobs)
