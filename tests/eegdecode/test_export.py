"""Models as programs of torch.export and ONNX: the same outputs, for any number of windows."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from eegdecode.decoder import program
from eegdecode.models import MODELS
from tests.eegdecode.test_models_all import built, flat, given

EVERY = sorted(set(MODELS) - {"braindecode"})
AS_ONNX = ("bilstm", "brainmodule")
"""Recurrent layers, and layers of subjects; convolutions are in the test of the verb. All others were tried by hand."""


class First(nn.Module):
    """The first output of a network that gives several."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: torch.Tensor, subject: torch.Tensor, third: torch.Tensor | None = None, t: torch.Tensor | None = None
    ) -> torch.Tensor:
        return flat(self.network(*(value for value in (x, subject, third, t) if value is not None)))[0]


def inputs(name: str, network: nn.Module, n_windows: int) -> dict[str, torch.Tensor]:
    of_three = given(name, network)
    return {f"input{k}": torch.cat([value, value])[:n_windows] for k, value in enumerate(of_three)}


def difference(name: str, made: Callable[[nn.Module, dict[str, torch.Tensor]], program.Program]) -> float:
    network = First(built(name)).eval()
    several = (inputs(name, network.network, n) for n in (program.TRACED, *program.TRIED))
    return program.worst(network, made(network, inputs(name, network.network, program.TRACED)), several)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in program.REFUSED])
def test_a_model_is_exported_and_equal_for_any_number_of_windows(name: str) -> None:
    assert difference(name, lambda *one: program.exported(*one).module()) <= program.ENOUGH


@pytest.mark.parametrize("name", AS_ONNX)
def test_a_model_as_onnx_is_equal_for_any_number_of_windows(name: str) -> None:
    pytest.importorskip("onnxruntime")
    assert difference(name, lambda *one: program.of_onnx(program.as_onnx(*one, {}))) <= program.ENOUGH
