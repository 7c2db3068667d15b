"""An LSTM in half precision is torch's if the CPU supports one, and otherwise the one in float32."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from eegdecode import models
from eegdecode.models.braindecode import Braindecode
from eegdecode.models.parts import recurrent
from eegdecode.signals import SignalSpec
from tests.eegdecode.ranks import on_older_processor

HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)


@dataclass(frozen=True)
class Computed:
    out: torch.Tensor
    gradients: tuple[torch.Tensor, ...]


def computed(lstm: nn.LSTM, half: torch.dtype | None, x: torch.Tensor) -> Computed:
    with torch.autocast("cpu", half, enabled=half is not None):
        out, _ = lstm(x)
    return Computed(out.detach(), torch.autograd.grad(out.float().square().sum(), list(lstm.parameters())))


def assert_equal(one: Computed, other: Computed) -> None:
    assert one.out.dtype == other.out.dtype and torch.equal(one.out, other.out)
    assert all(torch.equal(mine, its) for mine, its in zip(one.gradients, other.gradients, strict=True))


def two() -> tuple[nn.LSTM, nn.LSTM, torch.Tensor]:
    """Ours and torch's, drawn from the same seed, and a signal."""
    torch.manual_seed(0)
    ours = recurrent.LSTM(6, 5, batch_first=True, bidirectional=True)
    torch.manual_seed(0)
    return ours, nn.LSTM(6, 5, batch_first=True, bidirectional=True), torch.randn(3, 20, 6)


def test_in_whole_precision_it_is_torchs_own() -> None:
    ours, torchs, x = two()
    assert_equal(computed(ours, None, x), computed(torchs, None, x))


@HALVES
def test_in_half_precision_it_is_torchs_own_where_the_cpu_has_one(half: torch.dtype) -> None:
    if not recurrent.has_kernel(half):
        pytest.skip(f"this CPU has no LSTM in {half}")
    ours, torchs, x = two()
    assert_equal(computed(ours, half, x), computed(torchs, half, x))


@HALVES
def test_in_half_precision_it_is_the_one_in_float32_where_the_cpu_has_none(half: torch.dtype) -> None:
    on_older_processor("SSE41", assert_in_float32, half)


def assert_in_float32(half: torch.dtype) -> None:
    assert not recurrent.has_kernel(half)
    ours, torchs, x = two()
    expected = computed(torchs, None, x)
    assert_equal(computed(ours, half, x), expected)
    recurrent.adopt(torchs)
    assert_equal(computed(torchs, half, x), expected)
    # What comes before has rounded it already, and the state with it
    state = torch.ones(2, 3, 5), torch.zeros(2, 3, 5)
    with torch.no_grad(), torch.autocast("cpu", half):
        out, _ = ours(x.to(half), (state[0].to(half), state[1].to(half)))
    assert torch.equal(out, torchs(x.to(half).float(), state)[0])


def test_the_lstm_in_a_network_of_others_is_ours_too() -> None:
    pytest.importorskip("braindecode")
    spec = SignalSpec(("Cz", "Pz"), 100.0, 4, ("sub-1",), n_times=3000)
    network = models.build(Braindecode(model="DeepSleepNet"), spec)
    assert [type(part) for part in network.modules() if isinstance(part, nn.LSTM)] == [recurrent.LSTM]


@HALVES
def test_to_ask_the_cpu_draws_no_numbers(half: torch.dtype) -> None:
    before = torch.get_rng_state()
    recurrent.has_kernel.cache_clear()
    with torch.inference_mode():
        recurrent.has_kernel(half)
    assert torch.equal(torch.get_rng_state(), before)
