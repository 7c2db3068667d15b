"""Training resumes where it was stopped, bit for bit, and is the same on one rank and on two."""

import logging
import logging.handlers
import math
import os
import traceback
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eegdecode import models, stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.split import splits
from eegdecode.data.store.dataset import Store
from eegdecode.models import Model
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Trainable
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.parts import recurrent
from eegdecode.models.transformer import Transformer
from eegdecode.objectives.regression import Regression
from eegdecode.training import loop, model_file, optim
from eegdecode.training.augmentations.config import AUGMENTATIONS, partners_of
from eegdecode.training.augmentations.mixup import Mixup
from eegdecode.training.augmentations.noise import Noise
from eegdecode.training.augmentations.time_shift import TimeShift
from eegdecode.training.config import Compute, Ema, FindRate, Optim, Sam, Train, WarmRestarts, Watch
from eegdecode.training.validator import Validator
from hpc.checkpoint import checkpoint
from hpc.rank import verification
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir, committed_steps, read_json, read_lines
from tests.eegdecode.ranks import on_older_processor
from tests.ranks import forked
from tests.waiting import LONG_S

STEPS = 12


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4, dropout=0.3),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=STEPS, warmup_steps=2, validate_every=4, checkpoint_every=5),
        watch=Watch(every=1),
    )


class AskedAt:
    """Asked to stop at its n-th look: one a step, and one a trial in validation."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self) -> bool:
        if verification.__file__ in (frame.filename for frame in traceback.extract_stack(limit=3)):
            return False  # on a busy machine, ranks also look while they wait for the data to be verified
        self.left -= 1
        return self.left == 0


def start(cfg: Train, run: Path, stop_at: int = 0, **world: Any) -> dict[str, object]:
    return stages.train(cfg, Context(World(), RunDir(run), should_stop=AskedAt(stop_at)))


def figures(run: Path) -> list[dict[str, float]]:
    """Read metrics.jsonl, without the figures that are never the same, such as the time of a step."""
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "data_wait_s", "validation_s")}
        for line in read_lines(RunDir(run).metrics)
    ]


def shown(run: Path) -> set[int]:
    """Return the steps whose validation TensorBoard shows."""
    readers = [EventAccumulator(str(file)).Reload() for file in RunDir(run).tensorboard.iterdir()]
    of = [each.Scalars("validation/loss") for each in readers if "validation/loss" in each.Tags()["scalars"]]
    return {event.step for events in of for event in events}


def assert_same_parameters(one: Path, other: Path) -> None:
    for source in ("model.pt", "last step"):
        first, second = (
            model_file.load(RunDir(run).out).parameters
            if source == "model.pt"
            else checkpoint.latest(RunDir(run).checkpoints)[1]["model"]  # type: ignore[index]
            for run in (one, other)
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), source


def test_interrupted_twice_equals_uninterrupted(cfg: Train, tmp_path: Path) -> None:
    whole = start(cfg, tmp_path / "whole")
    for stop_at in (3, 4):  # at step 3, then 4 steps later
        with pytest.raises(Preempted):
            start(cfg, tmp_path / "parts", stop_at)
    parts = start(cfg, tmp_path / "parts")

    assert parts == whole
    assert_same_parameters(tmp_path / "whole", tmp_path / "parts")
    assert [line["step"] for line in figures(tmp_path / "parts")] == list(range(1, STEPS + 1))
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")


def test_what_a_kill_took_is_done_again(cfg: Train, tmp_path: Path) -> None:
    start(cfg, tmp_path / "whole")

    def killed() -> bool:
        if read_lines(tmp_path / "killed" / "metrics.jsonl")[-1]["step"] == 8:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        stages.train(cfg, Context(World(), RunDir(tmp_path / "killed"), should_stop=killed))
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')  # the kill came in the middle of a line
    start(cfg, tmp_path / "killed")

    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    assert_same_parameters(tmp_path / "whole", tmp_path / "killed")


def test_how_often_it_saves_changes_nothing_else(cfg: Train, tmp_path: Path) -> None:
    start(cfg, tmp_path / "every 5")
    start(replace(cfg, optim=replace(cfg.optim, checkpoint_every=None, keep_every=3)), tmp_path / "as pays")
    assert committed_steps(RunDir(tmp_path / "every 5").checkpoints) == [10, 12]
    assert committed_steps(RunDir(tmp_path / "as pays").checkpoints) == [3, 6, 9, 12]
    assert figures(tmp_path / "as pays") == figures(tmp_path / "every 5")
    assert_same_parameters(tmp_path / "as pays", tmp_path / "every 5")


def test_a_finished_run_started_again_says_the_same(cfg: Train, tmp_path: Path) -> None:
    assert start(cfg, tmp_path / "run") == start(cfg, tmp_path / "run")


def test_stopped_at_any_look_it_ends_the_same(cfg: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Between steps and in the middle of validation, the last one included; after that a wish comes too late."""
    whole = start(cfg, tmp_path / "whole")
    for look in range(1, 100):
        run = tmp_path / f"stopped at look {look}"
        try:
            start(cfg, run, stop_at=look)
            break
        except Preempted:
            assert start(cfg, run) == whole
        assert figures(run) == figures(tmp_path / "whole")
        assert_same_parameters(tmp_path / "whole", run)
        assert shown(run) == {4, 8, 12}
    assert "has no line of step" not in caplog.text
    assert look > STEPS + 3, "it looks more than once a step"


def test_windows_with_a_baseline_are_judged_as_they_are_trained_with(cfg: Train, tiny_store: Store) -> None:
    cfg = replace(cfg, windows=RandomWindows(length_s=1.0, batch=4, baseline_s=0.25))
    spec = tiny_store.spec(cfg.target)
    part = splits.split(cfg.split, tiny_store.recordings, cfg.windows).val
    validator = Validator(cfg, part, tiny_store, spec, models.build(cfg.model, spec))
    assert len(validator.batches) > 1
    for number in range(len(validator.batches)):
        signal = validator.batch(number, torch.device("cpu")).signal
        assert signal.shape[1:] == (64, 8), "windows, and not whole trials"
        assert signal[:, :16].mean(dim=1).abs().max() < 1e-6 < signal.mean(dim=1).abs().max()


def test_the_model_kept_is_the_best_in_validation(cfg: Train, tmp_path: Path) -> None:
    metrics = start(cfg, tmp_path / "run")
    checked = [line for line in figures(tmp_path / "run") if "val_loss" in line]
    assert [line["step"] for line in checked] == [4, 8, 12]
    best = min(checked, key=lambda line: line["val_loss"])
    trained = model_file.load(RunDir(tmp_path / "run").out)
    assert (trained.step, trained.validation["loss"]) == (best["step"], best["val_loss"])
    assert (metrics["best_step"], metrics["val_r"]) == (best["step"], best["val_r"])


def test_a_trained_model_is_read_back_whole(cfg: Train, tmp_path: Path) -> None:
    start(cfg, tmp_path / "run")
    trained = model_file.load(RunDir(tmp_path / "run").out)
    assert (trained.model, trained.split, trained.data) == (cfg.model, cfg.split, cfg.data)
    assert trained.network()(torch.zeros(1, 64, 8), torch.tensor([0])).shape == (1, 64, 1)
    with pytest.raises(ValueError, match="holds no model.pt: name a train run that has finished"):
        model_file.load(tmp_path)


def test_a_batch_that_ranks_cannot_share_is_refused(cfg: Train, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch is 4 .* which 3 ranks cannot share evenly: use 3 or 6"):
        loop.fit(cfg, Context(World(0, 3), RunDir(tmp_path)))


def test_a_loss_that_is_no_number_ends_the_run_by_name(cfg: Train, tmp_path: Path) -> None:
    wild = replace(cfg, objective=Regression(loss="mse"), optim=replace(cfg.optim, lr=1e30))
    with pytest.raises(FloatingPointError, match=r"(inf|nan) at step \d+ \(lr .*\): lower optim.lr"):
        start(wild, tmp_path / "run")


def test_the_rate_rises_and_falls_to_nothing() -> None:
    cfg = Optim(lr=1.0, steps=110, warmup_steps=10)
    rates = [optim.rate(cfg, cfg.lr, step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"lr": 0.0}, "^lr must be above 0, got 0.0$"),
        ({"lr": math.nan}, "^lr must be above 0, got nan$"),
        ({"lr": math.inf}, "^lr must be finite, got inf$"),
        ({"weight_decay": math.nan}, "^weight_decay must be at least 0, got nan$"),
        ({"clip_norm": -1.0}, "^clip_norm must be above 0, got -1.0$"),
        ({"weight_decay": -0.1}, "^weight_decay must be at least 0, got -0.1$"),
        ({"steps": 0}, "steps, validate_every and checkpoint_every must be at least 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 400, 50 and 0"),
        ({"keep_every": -1}, "keep_every must be a number of steps and .*, or 0 for none, got -1 and 0"),
        ({"steps": 10, "warmup_steps": 10}, r"warmup_steps must be fewer than steps \(10\), got 10"),
    ],
)
def test_nonsense_is_refused(knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optim(**knobs)  # type: ignore[arg-type]


def everything(cfg: Train) -> Train:
    """All that training can do and one may want at once; there are no classes."""
    augmentations = [kind() for kind in AUGMENTATIONS.values()]
    return replace(
        cfg,
        augment=tuple(step for step in augmentations if "same class" not in partners_of(step)),
        compute=Compute(accumulate=2),
        optim=replace(
            cfg.optim,
            warmup_steps=None,
            schedule=WarmRestarts(first_steps=4, snapshots=True),
            sam=Sam(),
            average=Ema(decay=0.9),
            checkpoint_every=3,
        ),
    )


def test_interrupted_with_all_that_it_can_do_equals_uninterrupted(cfg: Train, tmp_path: Path) -> None:
    cfg = everything(cfg)
    whole = start(cfg, tmp_path / "whole")
    for stop_at in (3, 4):
        with pytest.raises(Preempted):
            start(cfg, tmp_path / "parts", stop_at)
    assert start(cfg, tmp_path / "parts") == whole
    assert_same_parameters(tmp_path / "whole", tmp_path / "parts")
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    average = checkpoint.latest(RunDir(tmp_path / "whole").checkpoints)[1]["average"]["kept"]  # type: ignore[index]
    again = checkpoint.latest(RunDir(tmp_path / "parts").checkpoints)[1]["average"]["kept"]  # type: ignore[index]
    assert all(torch.equal(average[name], again[name]) for name in average)
    for run in ("whole", "parts"):
        snapshots = sorted(path.name for path in RunDir(tmp_path / run).out.glob("snapshot-*"))
        assert snapshots == ["snapshot-00000004.pt", "snapshot-00000012.pt"]
    one, other = (model_file.load(RunDir(tmp_path / run).out, "snapshot-00000004.pt") for run in ("whole", "parts"))
    assert all(torch.equal(one.parameters[name], other.parameters[name]) for name in one.parameters)


def freed_step_by_step(cfg: Train, unfreeze_at: tuple[int, ...] = (3, 6)) -> Train:
    """With all that remembers something of each parameter."""
    return replace(
        cfg,
        model=Transformer(width=8, heads=2, layers=2, dropout=0.3),
        trainable=Trainable("head", unfreeze_at=unfreeze_at),
        compute=Compute(accumulate=2),
        optim=replace(cfg.optim, layer_decay=0.8, average=Ema(decay=0.9), keep_every=3),
    )


def test_what_is_freed_later_stays_until_then_and_ends_the_same_over_a_stop(cfg: Train, tmp_path: Path) -> None:
    cfg = freed_step_by_step(cfg)
    whole = start(cfg, tmp_path / "whole")
    for stop_at in (3, 1, 2):  # at step 3, which is the first to be freed at; then in between, and at the last of them
        with pytest.raises(Preempted):
            start(cfg, tmp_path / "parts", stop_at)
    assert start(cfg, tmp_path / "parts") == whole
    assert_same_parameters(tmp_path / "whole", tmp_path / "parts")
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")

    of = [checkpoint.load(RunDir(tmp_path / "whole").checkpoints, step)["model"] for step in (3, 6, 9)]
    changed = [{name for name in one if not torch.equal(one[name], other[name])} for one, other in pairwise(of)]
    head = {"norm.weight", "norm.bias", "readout.weight", "readout.bias"}
    assert changed[0] - head == {name for name in of[0] if name.startswith("blocks.1.")}
    assert changed[1] == set(of[0])


@pytest.mark.ranks
def test_two_ranks_free_as_one_does(cfg: Train, tmp_path: Path) -> None:
    cfg = freed_step_by_step(cfg)
    cfg = replace(cfg, model=replace(cfg.model, dropout=0.0), objective=Regression(loss="mse"))
    start(cfg, tmp_path / "alone")
    two_ranks(cfg, tmp_path / "two")
    two_ranks(cfg, tmp_path / "parts", stop_at=3)
    two_ranks(cfg, tmp_path / "parts", attempt=2)
    for line, alone in zip(figures(tmp_path / "two"), figures(tmp_path / "alone"), strict=True):
        assert line == pytest.approx(alone, rel=1e-3, abs=1e-5)
    assert figures(tmp_path / "parts") == figures(tmp_path / "two")
    assert_same_parameters(tmp_path / "parts", tmp_path / "two")


@pytest.mark.parametrize(
    ("unfreeze_at", "shard", "message"),
    [
        ((3, 12), False, r"unfreeze_at must be before the last of 12 steps, got \[3, 12\]$"),
        ((3,), True, r"unfreeze_at=\[3\] does not work for a model sharded over the ranks: .* compute.shard=false$"),
    ],
)
def test_what_cannot_be_freed_is_refused(cfg: Train, unfreeze_at: tuple[int, ...], shard: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(freed_step_by_step(cfg, unfreeze_at), compute=Compute(shard=shard))


def test_a_model_that_no_rank_has_whole_is_not_looked_around_with(cfg: Train) -> None:
    with pytest.raises(
        ValueError, match="optim.sam needs the gradient of one rank, .*compute.shard=true .*: use only one of the two"
    ):
        replace(cfg, optim=replace(cfg.optim, sam=Sam()), compute=Compute(shard=True))


@pytest.mark.parametrize(
    ("precision", "model", "sam"),
    [
        ("bf16", BiLSTM(hidden=4), None),
        ("fp16", BiLSTM(hidden=4), None),
        ("fp16", EEGNet(filters=2), None),
        ("fp16", EEGNet(filters=2), Sam()),
    ],
)
def test_interrupted_in_half_precision_equals_uninterrupted(
    cfg: Train, precision: str, model: Model, sam: Sam | None, tmp_path: Path
) -> None:
    """fp16 has a scaler, whose state resumes too."""
    compute = Compute(precision=precision)  # type: ignore[arg-type]
    cfg = replace(cfg, model=model, compute=compute, optim=replace(cfg.optim, sam=sam))
    start(cfg, tmp_path / "whole")
    with pytest.raises(Preempted):
        start(cfg, tmp_path / "parts", 6)
    start(cfg, tmp_path / "parts")
    assert_same_parameters(tmp_path / "whole", tmp_path / "parts")
    scalers = [checkpoint.latest(RunDir(tmp_path / run).checkpoints)[1]["scaler"] for run in ("whole", "parts")]  # type: ignore[index]
    assert scalers[0] == scalers[1] and bool(scalers[0]) == (precision == "fp16")


def test_bf16_learns_as_fp32_does(cfg: Train, tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        start(replace(cfg, compute=Compute(precision=precision)), tmp_path / precision)  # type: ignore[arg-type]
        losses.append(figures(tmp_path / precision)[-1]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("isa", ["SSE41", "AVX2"])
def test_half_precision_goes_where_the_cpu_has_no_lstm_in_it(cfg: Train, isa: str, tmp_path: Path) -> None:
    assert on_older_processor(isa, trained_in_half_precision, cfg, tmp_path) == [
        f"this CPU has no LSTM in {numbers} (could not create a primitive descriptor for the LSTM forward propagation "
        "primitive): LSTMs are computed in float32, the rest as requested"
        for numbers in ("bfloat16", "float16")
    ]
    for precision in ("bf16", "fp16"):
        assert_same_parameters(tmp_path / f"{precision} whole", tmp_path / f"{precision} parts")
        loss = figures(tmp_path / f"{precision} whole")[-1]["loss"]
        assert loss == pytest.approx(figures(tmp_path / "fp32 whole")[-1]["loss"], rel=0.02)


def trained_in_half_precision(cfg: Train, folder: Path) -> list[str]:
    """Train each without and with a stop; return what the log says of LSTMs."""
    sentences = logging.handlers.BufferingHandler(capacity=1000)
    logging.getLogger(recurrent.__name__).addHandler(sentences)
    logging.getLogger(recurrent.__name__).setLevel(logging.INFO)
    start(cfg, folder / "fp32 whole")
    for precision in ("bf16", "fp16"):
        half = replace(cfg, compute=Compute(precision=precision))  # type: ignore[arg-type]
        start(half, folder / f"{precision} whole")
        with pytest.raises(Preempted):
            start(half, folder / f"{precision} parts", 6)
        start(half, folder / f"{precision} parts")
    return [record.getMessage() for record in sentences.buffer]


def test_training_ends_when_validation_gets_no_better(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(cfg, optim=replace(cfg.optim, lr=1e-12, validate_every=1, patience=3, steps=40))
    whole = start(cfg, tmp_path / "whole")
    assert whole["steps"] == whole["best_step"] + 3 < 40  # type: ignore[operator]
    with pytest.raises(Preempted):
        start(cfg, tmp_path / "parts", 3)
    assert start(cfg, tmp_path / "parts") == whole == start(cfg, tmp_path / "whole")


def test_the_rate_is_looked_for_once_and_leaves_no_trace_in_the_model(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(cfg, optim=replace(cfg.optim, find_lr=FindRate(steps=30, high=0.1)))
    start(cfg, tmp_path / "run")
    search = read_json(RunDir(tmp_path / "run").out / "lr_finder.json")
    assert search is not None
    known = replace(cfg, optim=replace(cfg.optim, find_lr=None, lr=search["lr"]))
    start(known, tmp_path / "known")
    assert figures(tmp_path / "run") == figures(tmp_path / "known")
    with pytest.raises(Preempted):
        start(cfg, tmp_path / "parts", stop_at=34)  # 30 looks of the search, then some steps
    start(cfg, tmp_path / "parts")
    assert_same_parameters(tmp_path / "run", tmp_path / "parts")


@pytest.mark.parametrize(("precision", "model"), [("bf16", BiLSTM(hidden=4)), ("fp16", EEGNet(filters=2))])
def test_the_rate_is_looked_for_as_is_trained(cfg: Train, precision: str, model: Model, tmp_path: Path) -> None:
    compute = Compute(precision=precision, accumulate=2)  # type: ignore[arg-type]
    optimum = replace(cfg.optim, steps=4, find_lr=FindRate(steps=20, high=0.1))
    cfg = replace(cfg, model=model, compute=compute, optim=optimum)
    start(cfg, tmp_path / "run")
    search = read_json(RunDir(tmp_path / "run").out / "lr_finder.json")
    assert search is not None
    start(replace(cfg, optim=replace(optimum, find_lr=None, lr=search["lr"])), tmp_path / "known")
    assert figures(tmp_path / "run") == figures(tmp_path / "known"), "a scale of the gradients is put back too"
    assert search["losses"][0] == pytest.approx(figures(tmp_path / "run")[0]["loss"], rel=1e-9)


def test_the_batch_that_broke_it_is_kept(cfg: Train, tmp_path: Path) -> None:
    wild = replace(cfg, objective=Regression(loss="mse"), optim=replace(cfg.optim, lr=1e30))
    with pytest.raises(FloatingPointError, match=r"this rank's batch is in .*nonfinite-step-0.*pt"):
        start(wild, tmp_path / "run")
    out = RunDir(tmp_path / "run").out
    (path,) = out.glob("nonfinite-*.pt")
    batch = torch.load(path, weights_only=True)
    assert batch["signal"].shape == (4, 64, 8) and len(batch["rng_key"]) == 4
    (line,) = read_lines(out / "alerts.jsonl")
    assert line["title"] == "no number"


@pytest.mark.ranks
def test_one_rank_two_ranks_and_four_portions_come_to_the_same(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(
        cfg,
        model=BiLSTM(hidden=4),
        objective=Regression(loss="mse"),  # correlation has no gradient for an offset but rounding, which Adam follows
        augment=(Mixup(), TimeShift(), Noise()),
        windows=RandomWindows(length_s=1.0, batch=8),
        optim=replace(cfg.optim, steps=20, validate_every=20, average=Ema(decay=0.9)),
    )
    start(cfg, tmp_path / "1 x 8")
    two_ranks(cfg, tmp_path / "2 x 4")
    start(replace(cfg, compute=Compute(accumulate=4)), tmp_path / "4 portions of 2")
    two_ranks(replace(cfg, compute=Compute(accumulate=2)), tmp_path / "2 x 2 portions of 2")
    one = model_file.load(RunDir(tmp_path / "1 x 8").out).parameters
    for run in ("2 x 4", "4 portions of 2", "2 x 2 portions of 2"):
        other = model_file.load(RunDir(tmp_path / run).out).parameters
        worst = max((one[name] - other[name]).abs().max().item() for name in one)
        assert worst < 1e-6, run


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("model", "precision", "tolerance"),
    [
        (BiLSTM(hidden=4), "fp32", (1e-3, 1e-5)),
        (Transformer(width=8, heads=2, layers=2, dropout=0), "bf16", (3e-2, 1e-2)),
    ],
)
def test_a_sharded_model_follows_the_course_of_a_whole_one_and_resumes(
    cfg: Train, model: Model, precision: Any, tolerance: tuple[float, float], tmp_path: Path
) -> None:
    compute = Compute(precision=precision)
    cfg = replace(cfg, model=model, optim=replace(cfg.optim, average=Ema(decay=0.9)), compute=compute)
    two_ranks(cfg, tmp_path / "whole")
    cfg = replace(cfg, compute=replace(compute, shard=True))
    two_ranks(cfg, tmp_path / "sharded")
    for line, other in zip(figures(tmp_path / "sharded"), figures(tmp_path / "whole"), strict=True):
        assert line == pytest.approx(other, rel=tolerance[0], abs=tolerance[1])
    two_ranks(cfg, tmp_path / "parts", stop_at=3)
    two_ranks(cfg, tmp_path / "parts", attempt=2)
    assert figures(tmp_path / "parts") == figures(tmp_path / "sharded")
    one, other = (model_file.load(RunDir(tmp_path / run).out).parameters for run in ("parts", "sharded"))
    assert all(torch.equal(one[name], other[name]) and one[name].dtype == torch.float32 for name in one)


@pytest.mark.ranks
def test_two_ranks_follow_the_course_of_one_and_stop_together(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(cfg, model=BiLSTM(hidden=4))  # dropout draws anew on each rank
    start(cfg, tmp_path / "alone")
    two_ranks(cfg, tmp_path / "two")
    two_ranks(cfg, tmp_path / "parts", stop_at=3)
    assert committed_steps(RunDir(tmp_path / "parts").checkpoints) == [3]
    two_ranks(cfg, tmp_path / "parts", attempt=2)

    for line, alone in zip(figures(tmp_path / "two"), figures(tmp_path / "alone"), strict=True):
        assert line == pytest.approx(alone, rel=1e-3, abs=1e-5)
    assert figures(tmp_path / "parts") == figures(tmp_path / "two")
    assert_same_parameters(tmp_path / "parts", tmp_path / "two")


def two_ranks(cfg: Train, run: Path, attempt: int = 1, stop_at: int = 0) -> None:
    """Train on two ranks, processes of their own; only rank 1 is asked to stop."""
    ranks = [forked().Process(target=one_rank, args=(rank, cfg, run, attempt, stop_at), daemon=True) for rank in (0, 1)]
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(LONG_S)
        assert [rank.exitcode for rank in ranks] == [3 if stop_at else 0] * 2
    finally:
        for rank in ranks:
            rank.kill()  # one whose partner has died waits for long


def one_rank(rank: int, cfg: Train, run: Path, attempt: int, stop_at: int) -> None:
    """Ends as a worker does, at once: with 0, or with 3 when it was stopped and all was saved."""
    try:
        should_stop = AskedAt(stop_at if rank else 0)
        stages.train(cfg, Context(World(rank, 2, rank, 2), RunDir(run), attempt, should_stop))
    except Preempted:
        saved = committed_steps(RunDir(run).checkpoints)
        os._exit(3 if saved == [stop_at] else 4)
    os._exit(0)
