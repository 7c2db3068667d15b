"""A part of any model is trained while the rest stays as it is, bit for bit; LoRA starts as nothing and merges."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from eegdecode import models
from eegdecode.models import MODELS
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Trainable
from eegdecode.models.dit import DiT
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.eegpt import EEGPT
from eegdecode.models.fusion import Fusion
from eegdecode.models.hybrid import Hybrid
from eegdecode.models.joined import Joined
from eegdecode.models.multipath import Multipath
from eegdecode.models.parts import lora, trainable
from eegdecode.signals import SignalSpec
from hpc import config, errors
from tests.eegdecode.test_models_all import CLASSES, built, given

WHOSE = torch.tensor([0, 1])
EEG = SignalSpec(tuple(f"E{index}" for index in range(8)), 64.0, 16, ("sub-01", "sub-02"), 32.0)
X, NOISY = (
    torch.linspace(-2, 2, 2 * 64 * 8).sin().view(2, 64, 8),
    torch.linspace(9, -9, 2 * 32 * 16).cos().view(2, 32, 16),
)


def moved(network: nn.Module, seed: int = 0) -> nn.Module:
    """With small random numbers added, as layers that start at 0 give nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


def alive(cfg: models.Model) -> nn.Module:
    torch.manual_seed(1)
    return moved(models.build(cfg, EEG))


BLOCKS = DiT(width=32, layers=3, heads=2)
TRAINED = {
    "all": (BLOCKS, Trainable(), ["step", "told", "embedding", "blocks", "modulation", "readout"]),
    "head": (BLOCKS, Trainable("head"), ["modulation", "readout"]),
    "last": (BLOCKS, Trainable("last"), ["blocks.2", "modulation", "readout"]),
    "lora": (
        BLOCKS,
        Trainable("lora", layers=("qkv",)),
        [*(f"blocks.{i}.attn.qkv.lora_" for i in range(3)), "modulation", "readout"],
    ),
    "last layer of an LSTM": (BiLSTM(hidden=4, layers=3), Trainable("last"), ["layers.2", "readout"]),
    "last of the encoder": (
        Joined(encoder=BiLSTM(hidden=4), generator=BLOCKS, features=5),
        Trainable("last", part="encoder"),
        ["encoder.layers.1", "encoder.readout"],
    ),
    "head of the encoder, and the generator": (
        Joined(encoder=BiLSTM(hidden=4), generator=BLOCKS, features=5),
        Trainable("head", part="encoder", rest="trained"),
        ["encoder.readout", "generator"],
    ),
    "head of both": (
        Joined(encoder=BiLSTM(hidden=4), generator=BLOCKS, features=5),
        Trainable("head"),
        ["generator.modulation", "generator.readout"],
    ),
}


@pytest.mark.parametrize("which", TRAINED)
def test_what_is_trained_moves_and_all_else_stays_bit_for_bit(which: str) -> None:
    cfg, chosen, begins = TRAINED[which]
    network = alive(cfg)
    names = trainable.choose(network, chosen)
    assert all(any(name.startswith(begin) for begin in begins) for name in names)
    assert all(any(name.startswith(begin) for name in names) for begin in begins)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        trainable.train(network)
        given = (NOISY, torch.zeros(2)) if cfg.output_kind == "noise" else ()
        network(X, WHOSE, *given).square().mean().backward()
        optimizer.step()
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert sorted(changed) == sorted(names)


GATED: dict[str, Any] = {
    "fusion, gated": Fusion(eeg=EEGNet(), meg=EEGNet(), fusion="gated"),
    "multipath, gated": Multipath(waveform=EEGNet(), spectrum=EEGNet(), picture=4, fusion="gated"),
    "eegpt without its filter": EEGPT(variant="tiny1", spatial_filter=0),
    "hybrid of one stage": Hybrid(stages=("cnn",)),
}
READ = "readout"
PARTS: dict[str, tuple[list[str], list[str]]] = {
    "bilstm": ([READ], ["layers.1"]),
    "brainmodule": (["wide", READ], ["layers.9"]),
    "conformer": (["wide", "narrow", READ], ["blocks.5"]),
    "deep4": ([READ], ["convolutions.2", "norms.3"]),
    "diffwave": (["skip_projection", "output_projection"], ["residual_layers.1"]),
    "dit": (["modulation", READ], ["blocks.0"]),
    "eegnet": ([READ], ["depth", "point", "norm_point"]),
    "eegnet_ssvep": ([READ], ["depth", "point", "norm_point"]),
    "eegpt": (["filter", "probe", READ], ["encoder.blocks.1", "encoder.norm"]),
    "eegpt without its filter": (["probe", READ], ["encoder.blocks.1", "encoder.norm"]),
    "eegpt_pretrain": (["predictor.predictor_proj", "reconstructor.reconstructor_proj"], []),
    "fusion": (["eeg.readout", "meg.readout"], []),
    "fusion, gated": (["eeg.readout", "meg.readout", "join.gate"], []),
    "hybrid": ([READ], ["stages.0", "norm"]),
    "hybrid of one stage": ([READ], []),
    "joined": (["generator.readout"], ["generator.up.0", "generator.norm"]),
    "lfcnn": ([READ], []),
    "mae": ([READ], ["encoder.blocks.0", "encoder.norm"]),
    "mae_pretrain": (["decoder.pred"], ["decoder.blocks.0", "decoder.norm"]),
    "multipath": (["waveform.readout", "spectrum.readout", "picture.readout"], []),
    "multipath, gated": (["waveform.readout", "spectrum.readout", "picture.readout", "join.gate"], []),
    "shallow": ([READ], []),
    "stgate": ([READ], ["over_time", "norm"]),
    "tcn": ([READ], ["blocks.4", "norm"]),
    "tfc": (["classifier"], []),
    "tfc_pretrain": (["encoder.time.projector", "encoder.frequency.projector"], []),
    "transformer": ([READ], ["blocks.3", "norm"]),
    "tsconv": (["readout", "residual", "norm"], []),
    "unet": ([READ], ["up.0", "norm"]),
    "varcnn": ([READ], []),
}
"""For each model its heads, and its last block; no block if several are parallel, or there is only one."""


def of_name(name: str) -> nn.Module:
    torch.manual_seed(0)
    return models.build(GATED[name], CLASSES) if name in GATED else built(name)


def test_every_model_is_in_the_table() -> None:
    assert set(PARTS) - set(GATED) == set(MODELS) - {"braindecode"}


@pytest.mark.parametrize("name", PARTS)
def test_of_every_model_the_head_is_what_makes_the_outputs_and_the_rest_is_frozen(name: str) -> None:
    heads, last = PARTS[name]
    network = of_name(name)
    every = [each for each, parameter in network.named_parameters() if parameter.requires_grad]

    def within(parts: list[str]) -> list[str]:
        return [each for each in every if each.startswith(tuple(f"{part}." for part in parts))]

    assert list(trainable.choose(network, Trainable("head"))) == within(heads)
    for part in heads:
        assert within([part]), part
    network = of_name(name)
    if last:
        assert list(trainable.choose(network, Trainable("last"))) == within([*last, *heads])
    else:
        with pytest.raises(
            ValueError, match="train=last needs blocks that follow each other, .* this network has none"
        ):
            trainable.choose(network, Trainable("last"))


@pytest.mark.parametrize("name", [n for n in PARTS if n in GATED or MODELS[n].output_kind in ("outputs", "noise")])
def test_nothing_goes_round_the_head(name: str) -> None:
    network = moved(of_name(name)).eval()
    kind = name if name in MODELS else name.split(",")[0].split(" ")[0]
    x, *others = given(kind, network)
    with torch.no_grad():
        assert not torch.equal(network(x, *others), network(x.roll(1, dims=1), *others)) or name == "diffwave"
        for head in trainable.heads_of(network):
            for parameter in network.get_submodule(head).parameters():
                parameter.zero_()
        assert torch.equal(network(x, *others), network(x.roll(1, dims=1), *others))


def test_a_network_that_does_not_say_what_its_head_is_can_be_trained_whole_or_by_lora() -> None:
    network = nn.ModuleDict({"eeg": nn.Linear(4, 4), "meg": nn.Linear(4, 4)})
    assert trainable.together(eeg=network["eeg"], meg=built("eegnet")) == ()
    with pytest.raises(ValueError, match="train=head needs a network that names its heads"):
        trainable.choose(network, Trainable("head"))
    corrected = [f"{part}.lora_{letter}" for part in ("eeg", "meg") for letter in "ab"]
    assert list(trainable.choose(network, Trainable("lora", rank=2))) == corrected


_BLOCKS = [f"blocks.{index}" for index in range(8)]


class Norms(nn.Module):
    """A network with means that run, dropout, an average that is never trained, and blocks with a norm behind."""

    heads, last = ("head",), ("blocks", "norm")

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(8))
        self.norm = nn.LayerNorm(4)
        self.average = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 2)


def test_what_is_frozen_does_not_drift_and_what_a_model_froze_itself_stays_frozen() -> None:
    network = Norms()
    assert "average.weight" not in trainable.choose(network, Trainable())
    assert list(trainable.choose(network, Trainable("last"))) == [
        f"{part}.{value}" for part in ("blocks.7", "norm", "head") for value in ("weight", "bias")
    ]
    trainable.train(network)
    assert [network.training, network.head.training, network.blocks[7].training] == [True] * 3
    assert [network.body.training, network.body[2].training, network.blocks[0].training] == [False] * 3
    before = network.body[1].running_mean.clone()
    assert torch.equal(network.body(torch.ones(3, 4)), network.body(torch.ones(3, 4)))
    assert torch.equal(network.body[1].running_mean, before)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (Trainable(part="encodr"), "no part 'encodr'; it has: body, blocks, norm, average, head"),
        (
            Trainable("last", part="body"),
            "train=last needs a network that names its heads, .* the part 'body' does not: use",
        ),
        (Trainable("lora", layers=("qkv",)), "no linear layer called qkv but its head; there is: body.0, blocks.0"),
    ],
)
def test_a_part_that_is_not_there_is_named(cfg: Trainable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainable.choose(Norms(), cfg)


def test_lora_starts_as_if_it_were_not_there_and_can_be_merged() -> None:
    plain = alive(BLOCKS)
    network = alive(BLOCKS)
    given = (X, WHOSE, NOISY, torch.zeros(2))
    cfg = Trainable("lora", rank=2, alpha=6.0)
    names = trainable.choose(network, cfg)
    torch.testing.assert_close(network(*given), plain(*given), atol=1e-6, rtol=1e-5)  # each processor rounds its way
    assert sum(name.endswith("lora_a") for name in names) == 2 + 1 + 3 * 5  # step, embedding, blocks
    second = [parameter for name, parameter in network.named_parameters() if name.endswith("lora_b")]
    moved(nn.ParameterList(second), seed=3)
    assert (network(*given) - plain(*given)).abs().max() > 1e-2  # had they not started at 0
    moved(network, seed=3)
    expected = network(*given)
    plain.load_state_dict(lora.merged(network.state_dict(), cfg.alpha))
    torch.testing.assert_close(plain(*given), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("cfg", "joins"),
    [
        (Trainable("head", unfreeze_at=(5,)), {5: ["body", "blocks", "norm"]}),
        (
            Trainable("head", unfreeze_at=(5, 7, 9)),
            {5: ["blocks.7"], 7: ["blocks.6"], 9: ["body", "norm", *_BLOCKS[:6]]},
        ),
        (Trainable("last", unfreeze_at=(2, 3)), {2: ["blocks.6"], 3: ["body", *_BLOCKS[:6]]}),
    ],
)
def test_more_is_freed_at_each_of_the_steps_and_at_the_last_all(cfg: Trainable, joins: dict[int, list[str]]) -> None:
    network = Norms()
    since = trainable.choose(network, cfg)
    for step, parts in joins.items():
        names = {name for name, first in since.items() if first == step}
        assert all(any(name.startswith(f"{part}.") for part in parts) for name in names), step
        assert all(any(name.startswith(f"{part}.") for name in names) for part in parts), step
    for step in (0, *joins):
        trainable.unfreeze(network, since, step)
        moving = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        assert moving == [name for name, first in since.items() if first <= step]
    whole = [name for name, _ in network.named_parameters() if not name.startswith("average")]
    assert moving == whole, "what a model froze itself stays frozen"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trainable("lora", rank=0), "rank must be at least 1 and alpha above 0, got 0 and 16.0"),
        (lambda: Trainable("all", unfreeze_at=(5,)), "unfreeze_at needs train=head or last, .*, got train=all"),
        (lambda: Trainable("head", unfreeze_at=(5, 5)), r"each later than the one before, got \[5, 5\]"),
        (lambda: Trainable("head", unfreeze_at=(0,)), r"each later than the one before, got \[0\]"),
        (
            lambda: trainable.choose(Norms(), Trainable("last", unfreeze_at=tuple(range(1, 10)))),
            "unfreeze_at has 9 steps, but there are 7 blocks to be unfrozen .*: list 8 steps at most",
        ),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_config_with_the_former_name_of_unfreeze_at_is_the_same_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors, "_noticed", set())
    built = config.build(Trainable, {"train": "head", "free_at": [5, 7]}, "train.trainable")
    assert built == Trainable("head", unfreeze_at=(5, 7))
    assert "note: train.trainable.free_at is called unfreeze_at now" in capsys.readouterr().err
