"""A CUDA graph of a step has the bits of the step. Skipped, with a reason, if there is no GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from eegdecode import models, objectives
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.transformer import Transformer
from eegdecode.objectives.classification import Classification
from eegdecode.training import graph, optim
from eegdecode.training.config import Compute, Optim
from eegdecode.training.graph import Cuda, GraphedGradients
from eegdecode.training.step import Stepper
from hpc.rank import ddp
from tests.eegdecode.test_graph import assert_equal, reading, sentences, squares, steps
from tests.eegdecode.test_silent_steps import LABELS, batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here that torch can use"),
]
WHERE = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _deterministic(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("INFO")
    ddp.deterministic()
    yield
    torch.use_deterministic_algorithms(False)


def trained(model: Any, compute: Compute, with_graph: bool) -> tuple[list[torch.Tensor], Stepper]:
    torch.manual_seed(0)
    cfg, objective = Optim(), Classification()
    network = models.build(model, objective.asks(LABELS)).to(WHERE).train()
    optimizer = optim.adamw(network, cfg)
    stepper = Stepper(cfg, compute, network, network, objectives.build(objective, LABELS), optimizer, WHERE)
    if with_graph:
        stepper.graph = GraphedGradients(stepper.gradients, network, Cuda(WHERE), same_bits=True)
    for step in range(12):
        given = batch(LABELS, WHERE, seed=step)
        ddp.seed(100 + step, WHERE)
        stepper.backward(given, 0.01 / (1 + step), lambda portion, step=step: ddp.seed(100 + step, WHERE))  # type: ignore[misc]
        stepper.clip_grad_norm()
        stepper.step()
        for act in models.after_steps(network):
            act(step / 12)
    return [value.clone() for value in network.state_dict().values()], stepper


@pytest.mark.parametrize(
    ("model", "compute"),
    [
        (EEGNet(dropout=0.4), Compute()),
        (EEGNet(), Compute(precision="fp16")),
        (BiLSTM(hidden=8, dropout=0.3), Compute(accumulate=2)),
        (Transformer(width=16, heads=2, layers=2, dropout=0.3), Compute(precision="bf16")),
    ],
)
def test_steps_by_a_graph_have_the_same_bits(model: Any, compute: Compute, caplog: pytest.LogCaptureFixture) -> None:
    ordinary, _ = trained(model, compute, with_graph=False)
    by_graph, stepper = trained(model, compute, with_graph=True)
    assert_equal(by_graph, ordinary)
    assert stepper.graph is not None and stepper.graph.n_checked == graph.CHECKED, sentences(caplog)


def test_a_step_that_reads_the_gpu_is_found_before_it_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    assert_equal(steps(reading, Cuda(WHERE), where=WHERE)[0], steps(reading, None, where=WHERE)[0])
    (sentence,) = sentences(caplog)
    assert "as a step waits for the GPU at test_graph.py:" in sentence


class Blind(Cuda):
    """Finds nothing, so that the recording fails."""

    @contextmanager
    def host_reads(self) -> Iterator[list[str]]:
        yield []


def test_a_recording_that_fails_leaves_a_process_that_trains_and_records(caplog: pytest.LogCaptureFixture) -> None:
    stream = torch.cuda.current_stream()
    ordinary, _ = steps(reading, None, where=WHERE)
    assert_equal(steps(reading, Blind(WHERE), where=WHERE)[0], ordinary)
    (sentence,) = sentences(caplog)
    assert "graph: steps are done one operation after the other, as " in sentence
    assert torch.cuda.current_stream() == stream
    assert torch.rand(3, device=WHERE).isfinite().all()
    torch.cuda.empty_cache()
    caplog.clear()
    assert_equal(steps(squares, Cuda(WHERE), where=WHERE)[0], steps(squares, None, where=WHERE)[0])
    assert "from here on" in sentences(caplog)[0]
