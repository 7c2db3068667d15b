"""Objectives without a target compute what their papers say, from a window and its key alone."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from eegdecode import models, objectives
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.eegpt_pretrain import EEGPTPretrain
from eegdecode.models.mae_pretrain import MAEPretrain, Masked
from eegdecode.models.tfc import Embedded
from eegdecode.models.tfc_pretrain import TFCPretrain
from eegdecode.objectives import Batch, simclr, tfc
from eegdecode.objectives.eegpt import Alignment
from eegdecode.objectives.mae import MaskedPatches
from eegdecode.objectives.simclr import SimCLR
from eegdecode.objectives.tfc import TimeFrequency
from eegdecode.signals import SignalSpec
from hpc.rank import ddp
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir
from tests.ranks import in_ranks

NAMES = ("Cz", "C3", "C4", "Pz", "Fz", "O1", "O2", "T3")


def spec(n_times: int = 128) -> SignalSpec:
    return SignalSpec(NAMES, 128.0, 0, ("sub-01",), n_times=n_times)


def batch(n: int, n_times: int = 128) -> Batch:
    x = torch.randn(n, n_times, len(NAMES))
    return Batch(x, torch.zeros(n, 0), torch.zeros(n, dtype=torch.int64), torch.arange(n) * 7919)


def orthonormal(n: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(n, n))[0]


@pytest.mark.parametrize(("n", "temperature"), [(4, 0.5), (4, 0.2), (9, 0.5)])
def test_identical_views_of_orthonormal_windows_cost_what_the_formula_says(n: int, temperature: float) -> None:
    views = orthonormal(n)
    loss = simclr.nt_xent(views, 3 * views, temperature).item()
    assert loss == pytest.approx(math.log(1 + (2 * n - 2) * math.exp(-1 / temperature)), abs=1e-6)
    if (n, temperature) == (4, 0.5):
        assert loss == pytest.approx(0.594438, abs=1e-6)


def test_contrast_equals_a_loop_over_views() -> None:
    one, other = torch.randn(5, 12), torch.randn(5, 12)
    views = torch.nn.functional.normalize(torch.cat([one, other]), dim=1)
    losses = []
    for index in range(10):
        likes = {place: (views[index] @ views[place] / 0.3).exp() for place in range(10) if place != index}
        losses.append(-torch.log(likes[(index + 5) % 10] / torch.stack(list(likes.values())).sum()))
    assert simclr.nt_xent(one, other, 0.3).item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-6)


def test_two_views_differ_and_come_from_the_key_alone() -> None:
    cfg, given = SimCLR(), batch(6)
    one, other = (simclr.view(cfg, given.signal, given.rng_key, which) for which in (0, 1))
    assert not torch.allclose(one, other)
    alone = simclr.view(cfg, given.signal[2:3], given.rng_key[2:3], 0)
    assert torch.allclose(alone[0], one[2], atol=1e-6)
    assert ((one == 0).all(dim=1).sum(dim=1) == int(0.2 * len(NAMES))).all()


def test_each_part_of_a_view_does_what_it_says() -> None:
    off: Any = {"scale": 0.0, "shift": 0.0, "silent": 0.0, "noise": 0.0}
    x, key = batch(4).signal, batch(4).rng_key
    assert torch.equal(simclr.view(SimCLR(**off), x, key, 0), x)
    factors = simclr.view(SimCLR(**off | {"scale": 0.3}), x, key, 0) / x
    assert factors.std(dim=(1, 2)).max() < 1e-5 and factors.min() >= 0.7 and factors.max() <= 1.3
    shifted = simclr.view(SimCLR(**off | {"shift": 0.2}), x, key, 0)
    for row, window in zip(shifted, x, strict=True):
        by = [by for by in range(-26, 27) if torch.equal(row, window.roll(by, dims=0))]
        assert len(by) == 1
    noisy = simclr.view(SimCLR(**off | {"noise": 0.5}), 10 * x, key, 0) - 10 * x
    assert (noisy.std() / 5).item() == pytest.approx(1, abs=0.1)


def test_contrast_trains_any_model_that_gives_outputs() -> None:
    cfg = SimCLR(size=16)
    asked = cfg.asks(spec())
    assert asked.n_outputs == 16 and not asked.is_sequence
    torch.manual_seed(0)
    network = models.build(BiLSTM(hidden=8, layers=1), asked)
    objective, given = objectives.build(cfg, spec()), batch(8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss, watched = objective(network, given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0] and watched["found"] > 0.5


def one_of_two(rank: int, folder: Path) -> None:
    """Keep the loss of this rank and, of both ranks, the mean gradient."""
    where = ddp.start(Context(World(rank, 2), RunDir(folder), attempt=1))
    for name, (network, objective, given) in trained_by_contrast().items():
        mine = Batch(*(values[rank::2] for values in given))
        model = ddp.wrap(network, where)
        loss, _ = objective(model, mine)
        loss.backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        torch.save((loss.detach(), gradients), folder / f"{name}_{rank}.pt")
    ddp.stop()


def trained_by_contrast() -> dict[str, Any]:
    torch.manual_seed(0)
    contrast, given = SimCLR(size=16), batch(6)
    simple = models.build(BiLSTM(hidden=4, layers=1), contrast.asks(spec())).train()
    pair = models.build(TFCPretrain(), spec()).train()
    for module in pair.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    return {
        "simclr": (simple, objectives.build(contrast, spec()), given),
        "tfc": (pair, objectives.build(TimeFrequency(), spec()), given),
    }


@pytest.mark.ranks
def test_two_ranks_have_the_loss_and_the_gradient_of_one(tmp_path: Path) -> None:
    in_ranks(one_of_two, 2, tmp_path)
    for name, (network, objective, given) in trained_by_contrast().items():
        loss, _ = objective(network, given)
        loss.backward()
        for rank in (0, 1):
            theirs, gradients = torch.load(tmp_path / f"{name}_{rank}.pt")
            assert theirs.item() == pytest.approx(loss.item(), abs=1e-5)
            for gradient, parameter in zip(gradients, network.parameters(), strict=True):
                assert torch.allclose(gradient, parameter.grad, atol=1e-5)


class Given(torch.nn.Module):
    """A model that returns a fixed output for any input."""

    def __init__(self, out: Any) -> None:
        super().__init__()
        self.out = out

    def forward(self, *_: torch.Tensor) -> Any:
        return self.out


def test_only_hidden_patches_count() -> None:
    decoded, patches = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    hidden = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    objective = objectives.build(MaskedPatches(), spec())
    loss, watched = objective(Given(Masked(decoded, patches, hidden)), batch(2))
    which = [(0, 0), (0, 2), (1, 1), (1, 2)]
    by_hand = [(decoded[at] - patches[at]).square().mean().item() for at in which]
    assert loss.item() == pytest.approx(sum(by_hand) / 4, abs=1e-6)
    r = [torch.corrcoef(torch.stack([decoded[at], patches[at]]))[0, 1].item() for at in which]
    assert watched["r"].item() == pytest.approx(sum(r) / 4, abs=1e-6)
    seen = decoded + 100 * (1 - hidden)[:, :, None]
    assert objective(Given(Masked(seen, patches, hidden)), batch(2))[0].item() == loss.item()


def embedded(n: int) -> Embedded:
    return Embedded(*(torch.randn(n, size) for size in (20, 20, 6, 6)))


def test_time_and_frequency_are_weighed_as_in_the_paper_or_as_released() -> None:
    plain, other = embedded(5), embedded(5)

    def d(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        return simclr.nt_xent(one, two, 0.2)

    across = d(plain.z_t, plain.z_f)
    pairs = [d(plain.z_t, other.z_f), d(other.z_t, plain.z_f), d(other.z_t, other.z_f)]
    consistency = sum(across - pair + 1 for pair in pairs)
    wanted = 0.3 * (d(plain.h_t, other.h_t) + d(plain.h_f, other.h_f)) + 0.7 * consistency
    letter = TimeFrequency(balance=0.3, anchor=0.0)
    assert tfc.combined(letter, plain, other)[0].item() == pytest.approx(wanted.item(), abs=1e-5)
    wanted += 0.7 * across
    assert tfc.combined(TimeFrequency(balance=0.3), plain, other)[0].item() == pytest.approx(wanted.item(), abs=1e-5)

    def released(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        """As the released NTXentLoss_poly reads: rows of the right one first, then all wrong ones."""
        views = torch.nn.functional.normalize(torch.cat([one, two]), dim=1)
        alike = views @ views.T / 0.2
        rows = []
        for index in range(10):
            partner = (index + 5) % 10
            wrong = [alike[index, place] for place in range(10) if place not in (index, partner)]
            rows.append(torch.stack([alike[index, partner], *wrong]))
        logits = torch.stack(rows)
        entropy = torch.nn.functional.cross_entropy(logits, torch.zeros(10, dtype=torch.int64))
        right = torch.zeros_like(logits)
        right[:, 0] = 1
        return entropy + 5 * (1 / 5 - (right * logits.softmax(dim=1)).mean())

    wanted = 0.2 * (released(plain.h_t, other.h_t) + released(plain.h_f, other.h_f)) + released(plain.z_t, plain.z_f)
    loss = tfc.combined(TimeFrequency(form="released"), plain, other)[0]
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)


def test_what_chance_makes_of_signal_and_spectrum_comes_from_the_key_alone() -> None:
    given = batch(40)
    spectrum = tfc.magnitudes(given.signal)
    assert spectrum.shape == given.signal.shape
    assert torch.allclose(spectrum[:, 3], spectrum[:, -3], atol=1e-3)
    for change, x in ((tfc.other_signal, given.signal), (tfc.other_spectrum, spectrum)):
        changed = change(x, given.rng_key)
        assert changed.shape == x.shape and not torch.allclose(changed, x)
        assert torch.allclose(change(x[3:4], given.rng_key[3:4])[0], changed[3], atol=1e-5)
    other = tfc.other_spectrum(spectrum, given.rng_key)
    assert torch.allclose(other[:, 3], other[:, -3], atol=1e-3)
    same = (other == spectrum).float().mean()
    assert 0.7 < same < 0.95
    # Two of the four only move samples about
    moved = tfc.other_signal(given.signal, given.rng_key)
    unchanged = [
        torch.equal(a.sort(dim=0).values, b.sort(dim=0).values) for a, b in zip(moved, given.signal, strict=True)
    ]
    assert 10 < sum(unchanged) < 30


def test_after_training_a_window_is_nearer_to_its_own_spectrum_than_to_others() -> None:
    torch.manual_seed(0)
    network = models.build(TFCPretrain(), spec(32))
    objective = objectives.build(TimeFrequency(), spec(32))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    time = torch.arange(32)[None, :, None]

    def draw(first: int) -> Batch:
        """Each window has a rhythm of its own, at another amplitude in each channel."""
        rhythm = torch.randint(2, 15, (16, 1, 1)) / 32
        phase, loud = torch.rand(16, 1, 1), torch.rand(16, 1, len(NAMES))
        x = loud * torch.sin(2 * math.pi * (rhythm * time + phase)) + 0.1 * torch.randn(16, 32, len(NAMES))
        return Batch(x, torch.zeros(16, 0), torch.zeros(16, dtype=torch.int64), torch.arange(16) + first)

    for step in range(200):
        loss, _ = objective(network, draw(16 * step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    given = draw(10**6)
    with torch.no_grad():
        embedded = network.eval()(given.signal, given.subject, tfc.magnitudes(given.signal))
    alike = torch.nn.functional.normalize(embedded.z_t, dim=1) @ torch.nn.functional.normalize(embedded.z_f, dim=1).T
    matched, shuffled = alike.diagonal().mean(), (alike.sum() - alike.trace()) / (16 * 15)
    assert matched > shuffled + 0.3


SMALL: Any = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


@pytest.mark.parametrize(
    ("model", "cfg"),
    [
        (EEGPTPretrain(variant="tiny1", seen_channels=2), Alignment()),
        (MAEPretrain(**SMALL), MaskedPatches()),
        (TFCPretrain(), TimeFrequency()),
        (TFCPretrain(form="released"), TimeFrequency(form="released")),
    ],
    ids=["eegpt", "mae", "tfc", "tfc released"],
)
def test_each_pretraining_fits_its_model_and_repeats_itself(model: Any, cfg: Any) -> None:
    assert model.output_kind == cfg.input_kind
    torch.manual_seed(0)
    network = models.build(model, cfg.asks(spec()))
    objective, given = objectives.build(cfg, spec()), batch(4)
    losses = []
    for _ in range(2):
        torch.manual_seed(1)  # dropout
        loss, watched = objective(network, given)
        losses.append(loss.item())
        assert all(not value.requires_grad and value.ndim == 0 for value in watched.values())
    assert losses[0] == losses[1]
    loss.backward()
    learns = {name for name, value in network.named_parameters() if value.requires_grad}
    assert learns == {name for name, value in network.named_parameters() if value.grad is not None}
    other = objective(network, given._replace(rng_key=given.rng_key + 1))[0].item()
    assert other != losses[0]


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        (SimCLR, {"temperature": 0.0}, "temperature above 0, got 128 and 0.0"),
        (SimCLR, {"silent": 1.0}, r"silent must lie in \[0, 1\), got 1.0"),
        (TimeFrequency, {"balance": 2.0}, r"balance in \[0, 1\]"),
        (Alignment, {"align": -1.0}, "align must be at least 0, got -1.0"),
    ],
)
def test_nonsense_is_refused(kind: Any, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**knobs)
