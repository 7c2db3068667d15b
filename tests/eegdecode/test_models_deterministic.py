"""With deterministic algorithms, no model and no loss uses an operator that has none on a GPU. Needs no GPU: a spy sees
the operators of the forward and the backward pass."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from eegdecode import models, objectives
from eegdecode.models import MODELS
from eegdecode.models.parts import deterministic
from eegdecode.objectives import OBJECTIVES, Batch
from eegdecode.signals import SignalSpec
from eegdecode.training.augment import Augmentation
from eegdecode.training.augmentations.config import AUGMENTATIONS
from tests.eegdecode.test_models_all import CLASSES, N_TIMES, SEQUENCE, knobs

WITHOUT_DETERMINISTIC_FORM = {
    "AdaptiveAvgPool2d": ("_adaptive_avg_pool2d_backward",),
    "AdaptiveAvgPool3d": ("_adaptive_avg_pool3d_backward",),
    "AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward",),
    "AvgPool3d": ("avg_pool3d_backward",),
    "CTCLoss": ("_ctc_loss_backward",),
    "EmbeddingBag": ("_embedding_bag_backward", "_embedding_bag_dense_backward"),
    "FractionalMaxPool2d": ("fractional_max_pool2d_backward",),
    "FractionalMaxPool3d": ("fractional_max_pool3d_backward",),
    "MaxUnpool1d": ("max_unpool2d",),
    "MaxUnpool2d": ("max_unpool2d",),
    "MaxUnpool3d": ("max_unpool3d",),
    "NLLLoss": ("nll_loss2d_forward", "nll_loss2d_backward"),  # in space; that of classes is deterministic
    "ReflectionPad1d": ("reflection_pad1d_backward",),
    "ReflectionPad2d": ("reflection_pad2d_backward",),
    "ReflectionPad3d": ("reflection_pad3d_backward",),
    "Tensor.put_": ("put_",),
    "Tensor.resize_": (),  # of a quantized tensor
    "Tensor.scatter_reduce": ("scatter_reduce",),
    "bincount": ("bincount",),
    "cumsum": ("cumsum",),
    "histc": ("histc",),
    "median": ("median",),
    "functional.grid_sample": ("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    "functional.interpolate": (
        "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
        "upsample_trilinear3d_backward",
    ),
}  # fmt: skip
"""By the name in torch's documentation, what a spy sees of it."""
UNDOCUMENTED = ("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
"""They refuse too: https://github.com/pytorch/pytorch, DilatedMaxPool2d.cu."""
UNSTABLE = {name for names in WITHOUT_DETERMINISTIC_FORM.values() for name in names} | set(UNDOCUMENTED)


class Spy(TorchDispatchMode):
    """Collects the names of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function._schema.name.removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_the_list_is_that_of_the_documentation() -> None:
    text = torch.use_deterministic_algorithms.__doc__ or ""
    refusing = text.partition("operations will throw a")[2].partition("In addition")[0]
    documented = set(re.findall(r"\* :\w+:`torch\.(?:nn\.)?([\w.]+)`", refusing))
    assert len(documented) > 20
    assert documented <= set(WITHOUT_DETERMINISTIC_FORM)


def spec_for(objective: str, kind: str) -> SignalSpec:
    if objective == "classification":
        return CLASSES
    return replace(SEQUENCE, n_outputs=1 if kind == "diffwave" else 8)


PAIRS = [
    (objective, model)
    for objective in sorted(OBJECTIVES)
    for model in sorted(set(MODELS) - {"braindecode"})
    if OBJECTIVES[objective].input_kind == MODELS[model].output_kind  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(("objective", "model"), PAIRS)
@pytest.mark.usefixtures("deterministic_algorithms")
def test_a_step_uses_no_operator_without_a_deterministic_form(objective: str, model: str) -> None:
    cfg, spec = OBJECTIVES[objective](), spec_for(objective, model)  # type: ignore[call-arg]
    network = models.build(knobs(model), cfg.asks(spec)).train()
    batch = Batch(
        torch.randn(4, N_TIMES, 6),
        torch.randn(4, 64, spec.n_outputs) if spec.is_sequence else torch.tensor([[0.0], [1.0], [2.0], [3.0]]),
        torch.tensor([0, 1, 1, 0]),
        torch.arange(4),
    )
    loss_of = objectives.build(cfg, spec)
    with Spy() as spy:
        loss, _ = loss_of(network, batch)
        loss.backward()
    assert any("backward" in name for name in spy.names)
    assert not spy.names & UNSTABLE


@pytest.mark.usefixtures("deterministic_algorithms")
def test_augmentations_use_no_operator_without_a_deterministic_form() -> None:
    batch = Batch(
        torch.randn(4, N_TIMES, 6), torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 1, 0]),
        torch.arange(4),
    )  # fmt: skip
    for kind in AUGMENTATIONS.values():
        augment = Augmentation((kind(),), CLASSES, soft=True)  # type: ignore[call-arg]
        with Spy() as spy:
            augment(batch, [batch] * len(augment.partners))
        assert spy.names and not spy.names & UNSTABLE, kind


@pytest.mark.parametrize(("n_times", "to"), [(16, 64), (64, 16), (37, 90), (90, 37), (1, 8)])
def test_interpolation_by_a_matrix_is_that_of_torch(n_times: int, to: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, n_times, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, to, dtype=torch.float64)
    usual = deterministic.interpolated(x, to)
    torch.use_deterministic_algorithms(True)
    try:
        other = deterministic.interpolated(x, to)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(other, usual)
    one, two = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (usual, other))
    torch.testing.assert_close(one, two)
    half = torch.randn(2, 3, n_times, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert deterministic.interpolated(half, to).dtype == torch.bfloat16


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("n_times", "size"), [(12, 3), (13, 3), (14, 3), (2, 2), (7, 1), (2, 3)])
def test_maxima_of_windows_are_those_of_torch_to_the_last_bit(n_times: int, size: int, ceil_mode: bool) -> None:
    if n_times < size and not ceil_mode:
        pytest.skip("there is no window")
    torch.manual_seed(0)
    x = torch.randn(2, 3, n_times).round(decimals=0).requires_grad_()  # with equal values in a window
    usual = functional.max_pool1d(x, size, ceil_mode=ceil_mode)
    torch.use_deterministic_algorithms(True)
    try:
        other = deterministic.max_pooled(x, size, ceil_mode)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(other, usual)
    weights = torch.randn_like(usual)
    one, two = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (usual, other))
    assert torch.equal(one, two)


def test_the_operators_stay_as_they_were_unless_that_is_asked_for() -> None:
    with Spy() as spy:
        deterministic.interpolated(torch.randn(1, 1, 4, requires_grad=True), 8).sum().backward()
        deterministic.max_pooled(torch.randn(1, 1, 4, requires_grad=True), 2).sum().backward()
    assert spy.names >= {"upsample_linear1d_backward", "max_pool2d_with_indices_backward"}
