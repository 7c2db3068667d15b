"""Every model builds, learns, is saved, compiles, computes in half precision, and says what input it needs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from eegdecode import models
from eegdecode.models import MODELS
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.unet import UNet
from eegdecode.signals import SignalSpec

N_TIMES, SFREQ = 512, 128.0
NAMES = ("Fz", "Cz", "Pz", "C3", "C4", "O1")
EEG = ("eeg",) * 4 + ("mag",) * 2
PLACES = tuple((0.01 * index, 0.02 * (index % 3), 0.1) for index in range(6))
CLASSES = SignalSpec(
    NAMES,
    SFREQ,
    4,
    ("a", "b"),
    0.0,
    N_TIMES,
    EEG,
    PLACES,
    (0.0, 1.0, 2.0, 3.0),
    ("l", "r", "f", "t"),  # type: ignore[arg-type]
)
SEQUENCE = SignalSpec(NAMES, SFREQ, 8, ("a", "b"), 16.0, N_TIMES, EEG, PLACES)  # type: ignore[arg-type]
WHOSE = torch.tensor([0, 1, 1])

SMALL: dict[str, dict[str, Any]] = {
    "bilstm": {"hidden": 4},
    "brainmodule": {"hidden": 8, "virtual_channels": 8, "frequencies": 4},
    "deep4": {"filters": 4},
    "diffwave": {"channels": 8, "layers": 2, "conditional": False},
    "dit": {"width": 16, "layers": 1, "heads": 2},
    "eegnet_ssvep": {"filters": 4},
    "eegpt": {"variant": "tiny1"},
    "eegpt_pretrain": {"variant": "tiny1", "seen_channels": 2},
    "fusion": {"eeg": EEGNet(), "meg": EEGNet()},
    "joined": {"encoder": EEGNet(), "generator": UNet(widths=(8,)), "features": 4},
    "mae": {"width": 16, "depth": 1, "heads": 2},
    "mae_pretrain": {"width": 16, "depth": 1, "heads": 2, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
    "multipath": {"waveform": EEGNet(), "spectrum": EEGNet(), "picture": 4},
    "unet": {"widths": (8,)},
}
"""Knobs that make a model fit for a test; others are small as they are."""
LSTM = "torch.compile goes round nn.LSTM, of which it would make a graph for every sample"


def knobs(name: str) -> Any:
    return MODELS[name](**SMALL.get(name, {}))


def spec_of(name: str) -> SignalSpec:
    if name == "diffwave":
        return replace(SEQUENCE, n_outputs=1)
    return SEQUENCE if MODELS[name].output_kind == "noise" else CLASSES


def given(name: str, network: nn.Module) -> tuple[torch.Tensor, ...]:
    """What a network of that kind is called with."""
    torch.manual_seed(1)
    x, keys = torch.randn(3, N_TIMES, 6), torch.arange(3)
    match MODELS[name].output_kind:
        case "outputs":
            return x, WHOSE
        case "noise":
            return x, WHOSE, torch.randn(3, 64, 8 if name != "diffwave" else 1), torch.tensor([0, 10, 20])
        case "tfc":
            return x, WHOSE, torch.fft.fft(x, dim=1).abs()
    return x, WHOSE, keys


def flat(out: Any) -> list[torch.Tensor]:
    if isinstance(out, torch.Tensor):
        return [out]
    return [each for part in (out.values() if isinstance(out, dict) else out) for each in flat(part)]


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return models.build(knobs(name), spec_of(name))


EVERY = pytest.mark.parametrize("name", sorted(set(MODELS) - {"braindecode"}))


@EVERY
def test_it_learns_from_every_parameter_that_it_trains(name: str) -> None:
    network = built(name).train()
    outputs = [each for each in flat(network(*given(name, network))) if each.requires_grad]
    sum(each.float().square().mean() for each in outputs).backward()  # type: ignore[union-attr]
    silent = [
        n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert silent == []
    for act in models.after_steps(network):
        act(0.5)


@EVERY
def test_it_is_built_without_numbers_to_see_whether_it_fits(name: str) -> None:
    with torch.device("meta"):
        empty = models.build(knobs(name), spec_of(name))
    network = built(name)
    assert all(parameter.is_meta for parameter in empty.parameters())
    shapes = [{n: p.shape for n, p in each.named_parameters()} for each in (empty, network)]
    assert shapes[0] == shapes[1]


@EVERY
def test_it_is_saved_and_read_back(name: str) -> None:
    network, other = built(name).eval(), models.build(knobs(name), spec_of(name)).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        pairs = zip(flat(network(*given(name, network))), flat(other(*given(name, other))), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)


@EVERY
def test_it_compiles_without_a_break(name: str) -> None:
    network = built(name).eval()
    if any(isinstance(part, nn.LSTM) for part in network.modules()):
        pytest.skip(LSTM)
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        pairs = zip(flat(network(*given(name, network))), flat(compiled(*given(name, network))), strict=True)
        for one, two in pairs:
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@EVERY
def test_it_computes_in_half_precision(name: str) -> None:
    network = built(name).eval()
    with torch.no_grad():
        whole = flat(network(*given(name, network)))
        with torch.autocast("cpu", torch.bfloat16):
            half = flat(network(*given(name, network)))
    for one, two in zip(whole, half, strict=True):
        assert two.isfinite().all()
        if one.is_floating_point():
            assert (one - two.float()).abs().max() <= 0.1 * one.abs().max() + 0.05


@pytest.mark.parametrize("name", sorted(n for n in MODELS if MODELS[n].output_kind == "outputs" and n != "braindecode"))
def test_it_gives_what_the_target_asks_for(name: str) -> None:
    for spec, shape in ((CLASSES, (3, 4)), (SEQUENCE, (3, 64, 8))):
        network = models.build(knobs(name), spec).eval()
        with torch.no_grad():
            assert network(torch.randn(3, N_TIMES, 6), WHOSE).shape == shape


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"braindecode", "diffwave"}))  # this one hears no signal here
def test_it_says_what_it_was_built_for(name: str) -> None:
    network = built(name)
    x, *others = given(name, network)
    with pytest.raises(ValueError, match="got 5 channels x 512 samples; this model was built for 6 channels"):
        network(x[:, :, :5], *others)
    with pytest.raises(ValueError, match=r"reads \[window, time, channel\], got a tensor of shape \(512, 6\)"):
        network(x[0], *others)
    if network.n_times is not None:
        with pytest.raises(ValueError, match="got 6 channels x 500 samples; this model was built for 512 samples"):
            network(x[:, :500], *others)


@pytest.mark.parametrize("name", ["eegnet", "deep4", "shallow", "conformer", "eegpt"])
def test_windows_that_are_too_short_are_refused_when_it_is_built(name: str) -> None:
    with pytest.raises(ValueError, match=r"got 6 channels x 3 samples; needs at least \d+ samples"):
        models.build(knobs(name), replace(CLASSES, n_times=3))
