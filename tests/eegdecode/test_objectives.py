"""Objectives with a target compute what their papers say, on one rank and on several."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from eegdecode import objectives
from eegdecode.objectives import AnyObjective, Batch, clip
from eegdecode.objectives.classification import Classification, focal
from eegdecode.objectives.clip import Clip
from eegdecode.objectives.regression import Regression
from eegdecode.signals import SignalSpec
from hpc.rank import ddp
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir
from tests.ranks import in_ranks


class Echo(nn.Module):
    """A model that returns its input, so that a test defines what is decoded."""

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        return x


class Plain(nn.Module):
    """The simplest decoder: linear at every time."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, dtype=torch.float64)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        decoded: torch.Tensor = self.linear(x)
        return decoded


def spec(n_outputs: int, target_sfreq: float = 0.0, class_values: tuple[float, ...] = ()) -> SignalSpec:
    names = tuple(f"{value:g}" for value in class_values)
    return SignalSpec(("E1",), 64.0, n_outputs, ("sub-01",), target_sfreq, class_values=class_values, classes=names)


def batch(signal: torch.Tensor, target: torch.Tensor) -> Batch:
    which = torch.arange(len(signal))
    return Batch(signal, target, torch.zeros_like(which), which)


def measured(
    cfg: AnyObjective, decoded: torch.Tensor, target: torch.Tensor, **known: tuple[float, ...]
) -> dict[str, float]:
    signal_spec = replace(spec(target.shape[-1], 64.0 if target.ndim == 3 else 0.0), **known)  # type: ignore[arg-type]
    loss, watched = objectives.build(cfg, signal_spec)(Echo().eval(), batch(decoded, target))
    return {"loss": loss.item()} | {name: value.item() for name, value in watched.items()}


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("shape", [(5, 16), (5, 40, 3)], ids=["of a window", "in time"])
def test_the_cosine_is_0_away_from_itself_and_2_from_its_opposite(shape: tuple[int, ...]) -> None:
    x = gaussian(*shape)
    assert measured(Regression(loss="cosine"), 3 * x, x)["loss"] == pytest.approx(0, abs=1e-12)
    assert measured(Regression(loss="cosine"), -x, x)["loss"] == pytest.approx(2)


def test_features_of_a_window_correlate_with_each_other() -> None:
    x, y = gaussian(5, 16), gaussian(5, 16, seed=1)
    by_hand = np.mean([np.corrcoef(x[i], y[i])[0, 1] for i in range(5)])
    assert measured(Regression(), x, y) == pytest.approx({"loss": 1 - by_hand, "r": by_hand})


def test_what_is_decoded_in_half_precision_is_compared_in_whole() -> None:
    """Both values stand in bf16 as they are, their mean does not."""
    course = torch.tensor([256.0, 258.0]).repeat(8)[None, :, None]
    loss = measured(Regression(), course.bfloat16(), course)
    assert loss["loss"] == pytest.approx(0, abs=1e-6) and loss["r"] == pytest.approx(1, abs=1e-6)


def test_a_single_number_of_a_window_is_followed_but_not_correlated() -> None:
    x, y = gaussian(5, 1), gaussian(5, 1, seed=1)
    assert measured(Regression(loss="mse"), x, y) == pytest.approx(
        {"loss": ((x - y) ** 2).mean().item(), "off_by": (x - y).abs().mean().item()}
    )
    with pytest.raises(ValueError, match="correlation compares several numbers of a window, but this target is 1"):
        Regression().asks(spec(1))


def test_a_single_number_of_a_window_has_no_direction_to_be_found_by() -> None:
    with pytest.raises(ValueError, match="one number a window, as in this target, has none: use objective=regression"):
        Clip().asks(spec(1))
    assert Clip().asks(spec(1, 64.0)) == spec(1, 64.0)


def test_the_focal_loss_is_what_its_paper_says() -> None:
    logits, truth = torch.tensor([[0.9, 0.1]], dtype=torch.float64).log(), torch.tensor([[1.0, 0.0]])
    assert focal(logits, truth, focus=0).item() == pytest.approx(0.10536, abs=1e-5)
    assert focal(logits, truth, focus=2).item() == pytest.approx(0.00105361, abs=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_focus_it_is_cross_entropy(smoothing: float) -> None:
    logits, target = gaussian(8, 3).float(), torch.arange(8)[:, None] % 3
    loss = measured(Classification(label_smoothing=smoothing), logits, target, class_values=(0, 1, 2))
    assert loss["loss"] == pytest.approx(
        functional.cross_entropy(logits, target[:, 0], label_smoothing=smoothing).item()
    )
    assert loss["accuracy"] == (logits.argmax(dim=1) == target[:, 0]).double().mean()


def test_shares_of_classes_are_the_mean_of_the_losses_of_each() -> None:
    logits = gaussian(8, 3).float()
    one, other = torch.arange(8)[:, None] % 3, torch.arange(8)[:, None] % 2
    mixed = 0.3 * functional.one_hot(one[:, 0], 3) + 0.7 * functional.one_hot(other[:, 0], 3)
    alone, beside, both = (
        measured(Classification(), logits, target, class_values=(0, 1, 2))["loss"] for target in (one, other, mixed)
    )
    assert both == pytest.approx(0.3 * alone + 0.7 * beside)


@pytest.mark.parametrize("focus", [0.5, 2.0])
def test_what_is_told_for_certain_has_a_gradient(focus: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), focus).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_numbers_of_the_data_are_classes_in_their_order() -> None:
    cfg, signal_spec = Classification(), spec(1, class_values=(-1.0, 2.0, 7.0))
    assert cfg.asks(signal_spec).n_outputs == 3
    sure = 50 * torch.eye(3)
    given = measured(cfg, sure, torch.tensor([[-1.0], [2.0], [7.0]]), class_values=(-1.0, 2.0, 7.0))
    assert given == {"loss": 0, "accuracy": 1}
    assert measured(cfg, sure, torch.tensor([[7.0], [2.0], [7.0]]), class_values=(-1.0, 2.0, 7.0))[
        "accuracy"
    ] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (spec(1, 64.0), "2 classes or more, but this one follows the signal in time: name a label of the trials"),
        (spec(3), r"this one has 3 number\(s\) a window"),
        (spec(1, class_values=(4.0,)), "this one is always 4"),
    ],
)
def test_a_target_without_classes_is_refused(found: SignalSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classification().asks(found)


@pytest.mark.parametrize("cfg", [Regression(), Clip()], ids=lambda cfg: cfg.name)
def test_no_target_is_refused(cfg: Regression | Clip) -> None:
    with pytest.raises(ValueError, match=r"name one \(target=envelope\)"):
        cfg.asks(spec(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classification(focus=-1), "focus must be 0 or above, got -1"),
        (lambda: Classification(label_smoothing=1), r"label_smoothing must lie in \[0, 1\), got 1"),
        (lambda: Clip(temperature=0), "temperature must be above 0, got 0"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_other_shapes_than_the_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the model gives \(4, 3\), but the target is \(4, 2\)"):
        measured(Clip(), gaussian(4, 3), gaussian(4, 2))
    with pytest.raises(ValueError, match=r"the model gives \(4, 3\), but 2 classes of 4 windows are needed"):
        measured(Classification(), gaussian(4, 3), torch.zeros(4, 1), class_values=(0, 1))


@pytest.mark.parametrize("shape", [(4, 4), (4, 2, 2)], ids=["of a window", "in time"])
@pytest.mark.parametrize(
    ("cfg", "loss"),
    [(Clip(), log(1 + 3 * exp(-1 / 0.07))), (Clip(form="speech"), log(exp(1) + 3) - 1)],
    ids=lambda value: getattr(value, "form", None),
)
def test_clip_of_four_orthonormal_targets_is_as_by_hand(cfg: Clip, loss: float, shape: tuple[int, ...]) -> None:
    eye = torch.eye(4, dtype=torch.float64).reshape(shape)
    assert measured(cfg, eye, eye) == pytest.approx({"loss": loss, "top1": 1, "top5": 1})
    assert loss == pytest.approx({"symmetric": 1.8746e-6, "speech": 0.743668}[cfg.form], rel=1e-4)


def test_only_the_candidates_of_the_speech_form_are_brought_to_one_length() -> None:
    x, y = gaussian(6, 8), gaussian(6, 8, seed=1)
    for factor_x, factor_y, forms in ((1, 5, ("symmetric", "speech")), (5, 1, ("symmetric",))):
        for form in ("symmetric", "speech"):
            same = measured(Clip(form=form), factor_x * x, factor_y * y)["loss"] == pytest.approx(
                measured(Clip(form=form), x, y)["loss"]
            )
            assert same == (form in forms)


def test_a_stimulus_that_was_shown_twice_is_no_wrong_answer() -> None:
    shown = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 0]]
    of_twins, of_others = log(exp(1) + 2) - 1, log(exp(1) + 3) - 1
    assert measured(Clip(form="speech"), shown, shown) == pytest.approx(
        {"loss": (of_twins + of_others) / 2, "top1": 1, "top5": 1}
    )
    assert measured(Clip(form="speech", mask_equal=False), shown, shown) == pytest.approx(
        {"loss": (log(2 * exp(1) + 2) - 1 + of_others) / 2, "top1": 0.5, "top5": 1}
    )


def test_only_equal_targets_have_one_fingerprint() -> None:
    one_hot = torch.eye(300)
    pairs = torch.cat([one_hot, one_hot + one_hot.roll(7, 1), one_hot + one_hot.roll(8, 1), one_hot])
    numbers = clip.fingerprint(pairs)
    assert len(numbers.unique()) == 900
    assert torch.equal(numbers[:300], numbers[900:])
    assert torch.equal(clip.fingerprint(torch.tensor([[0.0, -0.0]])), clip.fingerprint(torch.tensor([[-0.0, 0.0]])))


@pytest.mark.parametrize("form", ["symmetric", "speech"])
def test_scores_are_not_rounded_to_half_precision(form: str) -> None:
    x, y = gaussian(16, 64).float(), gaussian(16, 64, seed=1).float()
    plain = measured(Clip(form=form), x, y)["loss"]  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        assert measured(Clip(form=form), x, y)["loss"] == plain  # type: ignore[arg-type]


def test_what_makes_no_difference_is_not_found() -> None:
    same = measured(Clip(mask_equal=False), torch.ones(8, 3), torch.ones(8, 3))
    assert (same["top1"], same["top5"]) == (0, 0)


FORMS = [Clip(), Clip(form="speech"), Clip(mask_equal=False)]


def trained_step(cfg: Clip, model: nn.Module, rank: int, size: int) -> tuple[float, float, torch.Tensor]:
    """Return the loss, the other figures and the gradient for this rank's share of the same eight windows."""
    signal, target = gaussian(8, 5, 4), gaussian(8, 5, 3, seed=1)
    target[5] = target[0]  # on the other rank, where there are two
    model.zero_grad()
    loss, watched = objectives.build(cfg, spec(3, 64.0))(model, batch(signal[rank::size], target[rank::size]))
    loss.backward()
    return loss.item(), watched["top1"].item(), torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]


def rank_of_two(rank: int, run: Path) -> None:
    where = ddp.start(Context(World(rank, 2), RunDir(run), attempt=1))
    torch.manual_seed(0)
    model = ddp.wrap(Plain(), where)
    torch.save([trained_step(cfg, model, rank, 2) for cfg in FORMS], run / f"{rank}.pt")
    ddp.stop()


@pytest.mark.ranks
def test_two_ranks_contrast_as_one_does_with_all_windows(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    in_ranks(rank_of_two, 2, tmp_path)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for number, cfg in enumerate(FORMS):
        torch.manual_seed(0)
        loss, top1, gradient = trained_step(cfg, Plain(), 0, 1)
        shares = [gradients[number] for gradients in both]
        assert np.mean([share[0] for share in shares]) == pytest.approx(loss, abs=1e-9)
        assert np.mean([share[1] for share in shares]) == pytest.approx(top1)
        for share in shares:
            assert (share[2] - gradient).abs().max() < 1e-9
        alone = trained_step(cfg, Plain(), 0, 2)[2]
        assert (alone - gradient).abs().max() > 1e-3  # a rank by itself would learn something else
