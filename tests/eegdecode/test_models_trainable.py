"""A part of any model is trained while the rest stays as it is, bit for bit; LoRA starts as nothing and merges."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from eegdecode import models
from eegdecode.models import BiLSTM, DiT, Joined, lora, trainable
from eegdecode.models.knobs.trainable import Trainable
from eegdecode.signals import SignalSpec

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
        given = (NOISY, torch.zeros(2)) if cfg.gives == "noise" else ()
        network(X, WHOSE, *given).square().mean().backward()
        optimizer.step()
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert sorted(changed) == sorted(names)


_BLOCKS = [f"blocks.{index}" for index in range(8)]


class Norms(nn.Module):
    """A network with means that run, dropout, an average that is never trained, and blocks with a norm behind."""

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
        (Trainable(part="encodr"), "no part 'encodr'; there is: body, blocks, norm, average, head"),
        (Trainable("last", part="body"), "train=last wants a network with a list of blocks"),
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
    assert torch.equal(network(*given), plain(*given))
    assert sum(name.endswith("lora_a") for name in names) == 2 + 1 + 3 * 5  # step, embedding, blocks
    moved(network, seed=3)
    expected = network(*given)
    plain.load_state_dict(lora.merged(network.state_dict(), cfg.alpha))
    torch.testing.assert_close(plain(*given), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("cfg", "joins"),
    [
        (Trainable("head", free_at=(5,)), {5: ["body", "blocks", "norm"]}),
        (Trainable("head", free_at=(5, 7, 9)), {5: ["blocks.7"], 7: ["blocks.6"], 9: ["body", *_BLOCKS[:6]]}),
        (Trainable("last", free_at=(2, 3)), {2: ["blocks.6"], 3: ["body", *_BLOCKS[:6]]}),
        (Trainable("head", part="body", rest="trained", free_at=(4,)), {4: ["body.0"]}),
    ],
)
def test_more_is_freed_at_each_of_the_steps_and_at_the_last_all(cfg: Trainable, joins: dict[int, list[str]]) -> None:
    network = Norms()
    since = trainable.choose(network, cfg)
    for step, parts in joins.items():
        names = {name for name, first in since.items() if first == step}
        assert all(any(name.startswith(f"{part}.") for part in parts) for name in names), step
        assert {part for part in parts if not any(name.startswith(f"{part}.") for name in names)} <= {"norm"}
    for step in (0, *joins):
        trainable.free(network, since, step)
        moving = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        assert moving == [name for name, first in since.items() if first <= step]
    whole = [name for name, _ in network.named_parameters() if not name.startswith("average")]
    assert moving == whole, "what a model froze itself stays frozen"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trainable("lora", rank=0), "rank must be at least 1 and alpha above 0, got 0 and 16.0"),
        (lambda: Trainable("all", free_at=(5,)), "free_at begins with train=head or last, .*, got all"),
        (lambda: Trainable("head", free_at=(5, 5)), r"each later than the one before, got \[5, 5\]"),
        (lambda: Trainable("head", free_at=(0,)), r"each later than the one before, got \[0\]"),
        (
            lambda: trainable.choose(Norms(), Trainable("head", part="body", free_at=(1, 2))),
            "free_at has 2 steps, but there are 0 blocks to be freed .*: list 1 steps at most",
        ),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
