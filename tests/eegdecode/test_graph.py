"""compute.graph: replayed steps have the bits of ordinary ones, and what cannot be replayed is done as before.

A tape of the CPU's operations stands in for a CUDA graph (tests/tape.py); tests/gpu has the same with a real one.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eegdecode import models, objectives, stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Trainable
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.transformer import Transformer
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec
from eegdecode.training import graph, loop, optim
from eegdecode.training.augmentations.mixup import Mixup
from eegdecode.training.augmentations.time_shift import TimeShift
from eegdecode.training.config import Compute, Ema, Optim, Sam, Train, Watch
from eegdecode.training.graph import CHECKED, WARM_UP, GraphedGradients
from eegdecode.training.step import Stepper
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir, write_json
from tests.eegdecode.test_loop import AskedAt, assert_same_parameters, figures
from tests.eegdecode.test_models_all import N_TIMES, knobs
from tests.eegdecode.test_silent_steps import KNOWN, PAIRS, batch
from tests.tape import Tape

STEPS = 12
CPU = torch.device("cpu")


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=EEGNet(filters=2),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=STEPS, warmup_steps=2, validate_every=5, checkpoint_every=50, average=Ema(decay=0.9)),
        augment=(Mixup(), TimeShift()),
    )


class Replaying(loop.Training):
    """A training as on a GPU."""

    tape: Tape

    def resume(self) -> None:
        super().resume()
        type(self).tape = Tape()
        stepper = self.stepper
        stepper.graph = GraphedGradients(stepper.gradients, self.network, self.tape, same_bits=True)


def train(cfg: Train, run: Path, stop_at: int = 0) -> None:
    stages.train(cfg, Context(World(), RunDir(run), should_stop=AskedAt(stop_at)))


@pytest.mark.parametrize(
    ("model", "compute", "trainable"),
    [
        (EEGNet(filters=2, dropout=0.4), Compute(), Trainable()),
        (BiLSTM(hidden=4, dropout=0.3), Compute(accumulate=2), Trainable()),
        (Transformer(width=8, heads=2, layers=2, dropout=0.3), Compute(precision="bf16"), Trainable()),
        (EEGNet(filters=2), Compute(precision="fp16"), Trainable()),
        (Transformer(width=8, heads=2, layers=1, dropout=0.3), Compute(), Trainable("head", unfreeze_at=(6,))),
    ],
)
def test_a_replayed_training_ends_with_the_same_bits(
    cfg: Train, model: Any, compute: Compute, trainable: Trainable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over a stop: it is replayed from other steps on than without."""
    cfg = replace(cfg, model=model, compute=compute, trainable=trainable, watch=Watch(every=1))
    train(cfg, tmp_path / "ordinary")
    monkeypatch.setattr(loop, "Training", Replaying)
    train(cfg, tmp_path / "replayed")
    n_recorded = len(trainable.unfreeze_at) + 1
    assert Replaying.tape.n_recorded == n_recorded
    assert Replaying.tape.n_replayed >= STEPS - n_recorded * WARM_UP
    with pytest.raises(Preempted):
        train(cfg, tmp_path / "parts", stop_at=7)
    train(cfg, tmp_path / "parts")
    for run in ("replayed", "parts"):
        assert_same_parameters(tmp_path / run, tmp_path / "ordinary")
        assert figures(tmp_path / run) == figures(tmp_path / "ordinary")


def covering(pairs: list[Any]) -> list[Any]:
    """Return fewer pairs, which have each model and each objective with its settings."""
    seen: set[Any] = set()
    chosen = []
    for pair in pairs:
        name, objective, spec = pair.values
        new = {name, (objective, spec)} - seen
        if new:
            chosen.append(pair)
            seen |= new
    return chosen


@pytest.mark.parametrize(("name", "cfg", "spec"), covering(PAIRS))
def test_every_model_and_objective_can_be_replayed(name: str, cfg: Any, spec: SignalSpec) -> None:
    """With other windows, keys and dropout: nothing of a step is decided in Python."""
    if name == "diffwave":
        spec = replace(spec, n_outputs=1, **{what: known[:1] for what in KNOWN if (known := getattr(spec, what))})
    n_times = 64 if name == "bilstm" else N_TIMES  # each sample of an LSTM is an operation here
    torch.manual_seed(0)
    network = models.build(knobs(name), replace(cfg.asks(spec), n_times=n_times)).train()
    objective = objectives.build(cfg, spec)
    parameters = list(network.parameters())

    def gradients(batch: Batch) -> dict[str, torch.Tensor]:
        for parameter in parameters:
            parameter.grad = None
        loss, watched = objective(network, batch)
        loss.backward()
        return {"loss": loss.detach(), **watched}

    tape = Tape()
    replayed = GraphedGradients(gradients, network, tape, same_bits=True)
    for step in range(WARM_UP + CHECKED + 1):
        given = batch(spec, CPU, seed=step, n_times=n_times)
        torch.manual_seed(step)
        replayed(given, lambda seed=step: torch.manual_seed(seed))  # type: ignore[misc]
    assert not replayed.has_given_up and tape.n_recorded == 1
    assert tape.n_replayed == CHECKED + 1


# ---------------------------------------------------------------------------------------------- what cannot be replayed


class Drops(nn.Module):
    """A network with a batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(3), nn.Linear(3, 1)
        self.unused = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(nn.functional.dropout(self.norm(x), 0.3, self.training))
        return out


def squares(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return (model(batch.signal) - batch.target).square().mean(), {}


class Counting:
    """An objective of which each call is another one, as Python decides."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.n += 1
        return squares(model, batch)[0] * (1 + 0.1 * self.n), {}


def reading(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = squares(model, batch)[0]
    return loss * (2.0 if loss.item() > 0 else 1.0), {}


def steps(
    objective: Any,
    recorder: graph.Recorder | None,
    same_bits: bool = False,
    n: int = 9,
    n_windows: Callable[[int], int] = lambda step: 8,
    where: torch.device = CPU,
) -> tuple[list[torch.Tensor], Stepper]:
    torch.manual_seed(0)
    network = Drops().to(where)
    cfg = Optim()
    stepper = Stepper(cfg, Compute(), network, network, objective, optim.adamw(network, cfg), where)
    if recorder is not None:
        stepper.graph = GraphedGradients(stepper.gradients, network, recorder, same_bits)
    for step in range(n):
        drawn = torch.Generator().manual_seed(step)
        size, keys = n_windows(step), torch.arange(n_windows(step))
        columns = torch.randn(size, 3, generator=drawn), torch.randn(size, 1, generator=drawn), keys, keys
        batch = Batch(*(column.to(where) for column in columns))
        torch.manual_seed(100 + step)
        stepper.backward(batch, 0.1 / (1 + step), lambda portion, step=step: torch.manual_seed(100 + step) and None)  # type: ignore[misc]
        stepper.clip_grad_norm()
        stepper.step()
    return [value.clone() for value in network.state_dict().values()], stepper


def assert_equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def sentences(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.message.startswith("graph: ")]


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("same_bits", [False, True])
def test_the_learning_rate_and_the_seed_of_each_step_are_its_own(
    same_bits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tape = Tape()
    assert_equal(steps(squares, tape, same_bits)[0], steps(squares, None)[0])
    assert tape.n_recorded == 1 and tape.n_replayed == 9 - WARM_UP
    assert sentences(caplog) == [
        "graph: from here on, forward and backward pass are a CUDA graph; two steps were the same with it"
    ]


def test_a_parameter_without_a_gradient_has_none_in_a_replay() -> None:
    network = steps(squares, Tape())[1].network
    assert network.unused.grad is None and network.layer.weight.grad is not None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("objective", "tape", "same_bits", "sentence"),
    [
        (reading, Tape(), False, "a step waits for the GPU at _local_scalar_dense"),
        (reading, Tape(sees_reads=False), False, "RuntimeError: CUDA error: operation not permitted when stream is "
         "capturing"),
        (Counting(), Tape(), False, r"gradients are off by 0\.\d+ of their size"),
        (Counting(), Tape(), True, "with it, a step has other bits than without"),
        (squares, Tape(lacks="a graph would take up to 9.0 GB more, and 1.0 GB of the GPU are free"), False,
         "a graph would take up to 9.0 GB more, and 1.0 GB of the GPU are free"),
    ],
    ids=["reads a value", "reads one unseen", "counts", "counts exactly", "no memory"],
)  # fmt: skip
def test_what_cannot_be_replayed_is_done_as_before_with_the_same_bits(
    objective: Any, tape: Tape, same_bits: bool, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    ordinary = type(objective)() if isinstance(objective, Counting) else objective
    with_graph, stepper = steps(objective, tape, same_bits)
    if isinstance(objective, Counting):  # recording it has counted once more
        assert stepper.graph is not None and stepper.graph.has_given_up
    else:
        assert_equal(with_graph, steps(ordinary, None)[0])
    (said,) = sentences(caplog)
    assert said.startswith("graph: steps are done one operation after the other, as ")
    assert re.search(f"as {sentence}$", said), said
    assert tape.n_recorded <= 1


def test_a_batch_of_another_size_is_an_ordinary_step() -> None:
    def size(step: int) -> int:
        return 5 if step == 7 else 8

    tape = Tape()
    assert_equal(steps(squares, tape, n_windows=size)[0], steps(squares, None, n_windows=size)[0])
    assert tape.n_replayed == 9 - WARM_UP - 1


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that is built for CUDA."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")


@pytest.mark.usefixtures("nvidia")
@pytest.mark.parametrize(
    ("change", "n_ranks", "length", "reason"),
    [
        ({}, 1, 128, ""),
        ({"compute": Compute(graph=True, accumulate=2, precision="fp16")}, 1, 128, ""),
        ({"compute": Compute(graph=True, exact=True)}, 1, 128, ""),
        ({}, 2, 128, "2 ranks average gradients during the backward pass"),
        ({"compute": Compute(shard=True)}, 2, 128, "compute.shard gathers parameters during a step"),
        ({"compute": Compute(compile=True)}, 1, 128, "compute.compile compiles it"),
        ({"compute": Compute(exact=True)}, 1, 128, "compute.exact=true promises the same bits (compute.graph=true "
         "compares them)"),
        ({"compute": Compute(exact=True, accumulate=2)}, 1, 128, "compute.exact seeds each portion"),
        ({"optim": Optim(sam=Sam())}, 1, 128, "optim.sam has two passes"),
        ({}, 1, None, "windows differ in length"),
        ({"watch": Watch(profile=(3, 4))}, 1, 128, "watch.profile is to show each operation"),
        ({"model": Transformer(layers=1, checkpoint=True)}, 1, 128, "model.checkpoint computes activations again with "
         "the same random numbers"),
    ],
)  # fmt: skip
def test_it_says_why_there_is_no_graph(
    cfg: Train, change: dict[str, Any], n_ranks: int, length: int | None, reason: str
) -> None:
    cfg = replace(cfg, **change)
    network = models.build(cfg.model, SignalSpec(("Fz", "Cz"), 128.0, 1, n_times=128))
    assert graph.reason_against(cfg, n_ranks, "cuda", network, length) == reason
    assert graph.reason_against(cfg, n_ranks, "cpu", network, length) == "only NVIDIA's GPUs have graphs"


@pytest.mark.usefixtures("nvidia")
def test_auto_keeps_to_models_of_ours_and_learns_from_a_crash(cfg: Train) -> None:
    error = "AcceleratorError: CUDA error: an illegal memory access was encountered\nCompile with"
    always = replace(cfg, compute=Compute(graph=True))
    for network, last_error, reason in (
        (Drops(), "", f"Drops of {__name__} may do other things in each step (compute.graph=true)"),
        (nn.LSTM(2, 2), error, f"the last attempt ended with {error.partition(chr(10))[0]}"),
        (nn.LSTM(2, 2), "RuntimeError: the disk is full", ""),
    ):
        assert graph.reason_against(cfg, 1, "cuda", network, 128, last_error) == reason
        assert graph.reason_against(always, 1, "cuda", network, 128, last_error) == ""
    lstm = nn.LSTM(2, 2, num_layers=2, dropout=0.1)
    assert graph.reason_against(always, 1, "cuda", lstm, 128).startswith("cuDNN's dropout between layers")


@pytest.mark.usefixtures("nvidia")
def test_older_torch_has_no_graph(cfg: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    assert graph.reason_against(cfg, 1, "cuda", Drops(), 128) == "it needs torch 2.13, and this is 2.9"


def test_amds_gpus_have_no_graph(cfg: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)  # as in a torch that is built for ROCm
    assert graph.reason_against(cfg, 1, "cuda", Drops(), 128) == "only NVIDIA's GPUs have graphs"


def test_the_error_of_the_last_attempt_is_read(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.attempt(2).path.mkdir(parents=True)
    write_json(run.attempt(2).error(0), {"rank": 0, "error": "AcceleratorError: CUDA error: unspecified"})
    assert graph._last_error(Context(World(), run, attempt=3)) == "AcceleratorError: CUDA error: unspecified"
    assert graph._last_error(Context(World(), run, attempt=2)) == ""
    assert graph._last_error(Context(World(), run, attempt=1)) == ""


@pytest.mark.parametrize(("wanted", "said"), [("auto", False), (True, True), (False, False)])
def test_on_a_cpu_training_goes_on_without(
    cfg: Train, wanted: Any, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(replace(cfg, optim=Optim(steps=2, warmup_steps=0), compute=Compute(graph=wanted)), tmp_path)
    sentence = "graph: steps are done one operation after the other, as only NVIDIA's GPUs have graphs"
    assert sentences(caplog) == [sentence] * said


def test_a_step_with_infinite_gradients_proves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Overflows(Counting):
        """As fp16 in its first steps, before the scale of the loss has come down."""

        def __call__(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return squares(model, batch)[0] * torch.where(batch.signal[0, 0] == first_of_check, torch.inf, 1.0), {}

    first_of_check = torch.randn(8, 3, generator=torch.Generator().manual_seed(WARM_UP))[0, 0]
    tape = Tape()
    _, stepper = steps(Overflows(), tape, n=12)
    assert stepper.graph is not None and not stepper.graph.has_given_up
    assert stepper.graph.n_checked == CHECKED and tape.n_recorded == 1
