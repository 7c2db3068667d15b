"""Means of models, runs that end early because they are behind, and the estimate of a training."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from eegdecode import stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.config import Evaluate
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.config import Trainable
from eegdecode.objectives.regression import Regression
from eegdecode.training import estimate, model_file, soup
from eegdecode.training.config import Ema, Estimate, FindRate, Halving, Optim, Soup, Train, WarmRestarts, Watch
from eegdecode.training.search import successive_halving
from hpc import config
from hpc.book.forecast import Forecast, History, Shape, forecast
from hpc.checkpoint import checkpoint
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs import products
from hpc.runs.rundir import RunDir, read_lines, write_json


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=12, validate_every=4, warmup_steps=0, lr=0.01),
        watch=Watch(every=1),
    )


def context(run: Path) -> Context:
    return Context(World(), RunDir(run))


def trained(cfg: Train, *runs: Path) -> tuple[Input, ...]:
    for seed, run in enumerate(runs):
        stages.train(replace(cfg, seed=seed), context(run))
    return tuple(Input(str(RunDir(run).out)) for run in runs)


def test_a_mean_is_exact_and_counts_stay_whole() -> None:
    several = [{"w": torch.tensor([float(k), 1e8 + k]), "n": torch.tensor(k)} for k in (1, 2, 4)]
    mean = soup.mean(several)
    assert torch.equal(mean["w"], torch.tensor([7 / 3, (3e8 + 7) / 3]))
    assert mean["n"].dtype == torch.int64 and mean["n"].item() == 2


def test_a_uniform_soup_is_the_mean_of_its_runs(cfg: Train, tmp_path: Path) -> None:
    models = trained(cfg, tmp_path / "a", tmp_path / "b", tmp_path / "c")
    metrics = stages.soup(Soup(models=models, how="uniform"), context(tmp_path / "soup"))
    assert metrics["taken"] == 3
    parameters = model_file.load(RunDir(tmp_path / "soup").out).parameters
    by_hand = soup.mean([model_file.load(Path(model)).parameters for model in models])
    assert all(torch.equal(parameters[name], by_hand[name]) for name in parameters)


def test_a_greedy_soup_is_never_worse_than_the_best_of_its_runs(cfg: Train, tmp_path: Path) -> None:
    models = trained(cfg, tmp_path / "a", tmp_path / "b", tmp_path / "c")
    metrics = stages.soup(Soup(models=models), context(tmp_path / "soup"))
    alone = [model_file.load(Path(model)).validation["loss"] for model in models]
    assert metrics["best_alone"] == pytest.approx(min(alone), abs=1e-6)
    assert metrics["val_loss"] <= metrics["best_alone"]  # type: ignore[operator]
    read = stages.evaluate(Evaluate(model=(Input(str(RunDir(tmp_path / "soup").out)),)), context(tmp_path / "e"))
    assert read["report"] == "report.html"


def test_snapshots_make_a_soup(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(cfg, optim=replace(cfg.optim, schedule=WarmRestarts(first_steps=4, snapshots=True)))
    models = trained(cfg, tmp_path / "a")
    metrics = stages.soup(Soup(models=models, how="uniform", snapshots=True), context(tmp_path / "soup"))
    assert (metrics["models"], metrics["taken"]) == (2, 2)
    with pytest.raises(ValueError, match="a soup needs two models at least, got 1"):
        stages.soup(Soup(models=models), context(tmp_path / "alone"))


@pytest.mark.parametrize("average", [None, Ema(decay=0.9)])
def test_a_snapshot_has_only_figures_that_are_its_own_and_a_soup_asks_anew(
    cfg: Train, average: Ema | None, tmp_path: Path
) -> None:
    """Validation uses the average if there is one, and does not come at the end of every cosine."""
    restarts = WarmRestarts(first_steps=3, factor=3, snapshots=True)  # after 3 steps, and after the last
    models = trained(replace(cfg, optim=replace(cfg.optim, schedule=restarts, average=average)), tmp_path / "a")
    first, last = (model_file.load(Path(models[0]), f"snapshot-{step:08d}.pt") for step in (3, 12))
    assert first.validation == {} and bool(last.validation) == (average is None)
    metrics = stages.soup(Soup(models=models, snapshots=True), context(tmp_path / "soup"))
    assert metrics["models"] == 2 and "val_r" in metrics
    if average is None:
        assert metrics["best_alone"] <= last.validation["loss"] + 1e-6  # type: ignore[operator]


@pytest.mark.parametrize(("what", "knobs"), [("data", {"data": (Input("./o"),)}), ("target", {"target": "pitch"})])
def test_models_of_other_data_or_targets_are_refused(
    cfg: Train, what: str, knobs: dict[str, object], tmp_path: Path, tiny_store: Store
) -> None:
    models = []
    for name, each in (("a", cfg), ("b", replace(cfg, **knobs))):  # type: ignore[arg-type]
        place = RunDir(tmp_path / name).out / "model.pt"
        place.parent.mkdir(parents=True)
        model_file.save(place, each, tiny_store.spec("envelope"), {"parameters": {}, "step": 1, "validation": {}})
        models.append(Input(str(place.parent)))
    with pytest.raises(ValueError, match=f"models of one soup need one {what}, but a has .* and b has"):
        stages.soup(Soup(models=tuple(models)), context(tmp_path / "soup"))


def test_models_that_differ_are_refused(cfg: Train, tmp_path: Path) -> None:
    (one,) = trained(cfg, tmp_path / "a")
    (other,) = trained(replace(cfg, model=BiLSTM(hidden=5)), tmp_path / "b")
    with pytest.raises(ValueError, match="models of one soup need one model, but a has .*'hidden': 4"):
        stages.soup(Soup(models=(one, other)), context(tmp_path / "soup"))


def test_batch_norms_see_the_training_anew(cfg: Train, tiny_store: Store) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.n_times = nn.BatchNorm1d(8), None

        def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.norm(x.mT)
            return out

    network = Normed()
    data = store.open_store(tiny_store.recordings[0].path.parent)
    part = splits.split(cfg.split, data.recordings).train
    soup.learn_statistics(network, cfg, data, part, torch.device("cpu"))
    seen = network.norm.running_var
    assert network.norm.momentum == 0.1 and not network.norm.training
    assert seen is not None and (seen - 1).abs().max() > 0.01
    before = seen.clone()
    soup.learn_statistics(network, cfg, data, part, torch.device("cpu"))
    assert torch.equal(network.norm.running_var, before)  # type: ignore[arg-type]


def test_rungs_are_powers_of_the_factor() -> None:
    cfg = Halving(first_steps=100, factor=3)
    assert [step for step in range(1, 3000) if successive_halving.rung(cfg, step) is not None] == [100, 300, 900, 2700]


def test_of_nine_runs_those_behind_end_early(cfg: Train, tmp_path: Path) -> None:
    """Each is compared with those that came before it."""
    cfg, going = replace(cfg, optim=replace(cfg.optim, halving=Halving(first_steps=4, factor=3))), []
    for index, loss in enumerate([0.9, 0.5, 0.7, 0.4, 0.8, 0.3, 0.6, 0.2, 0.1]):
        ctx = context(tmp_path / f"run-{index}")
        write_json(ctx.run.plan, {"label": "search"})
        if successive_halving.goes_on(cfg, 0, loss, ctx):
            going.append(loss)
        assert successive_halving.goes_on(cfg, 0, loss, ctx) == (loss in going), (
            "a second attempt finds what the first decided"
        )
    assert going == [0.9, 0.5, 0.4, 0.3, 0.2, 0.1]
    stranger = context(tmp_path / "stranger")
    write_json(stranger.run.plan, {"label": "other"})
    assert successive_halving.goes_on(cfg, 0, 99.0, stranger), "runs of another name do not count"
    for name, other in (("objective", {"objective": Regression(loss="mse")}), ("target", {"target": "pitch"})):
        ctx = context(tmp_path / f"other-{name}")
        write_json(ctx.run.plan, {"label": "search"})
        assert successive_halving.goes_on(replace(cfg, **other), 0, 99.0, ctx), f"nor does what has another {name}"  # type: ignore[arg-type]


def test_a_run_that_has_nobody_to_be_compared_with_says_so(
    cfg: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = replace(cfg, optim=replace(cfg.optim, steps=4, halving=Halving(first_steps=4)))
    write_json(RunDir(tmp_path / "named").plan, {"label": "search"})
    stages.train(cfg, context(tmp_path / "named"))
    assert "--name" not in caplog.text
    stages.train(cfg, context(tmp_path / "alone"))
    assert caplog.text.count("compares runs of one --name, and this one has none") == 1


def test_a_run_that_is_behind_ends_and_says_why(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(cfg, optim=replace(cfg.optim, halving=Halving(first_steps=4)))
    for index in range(3):
        write_json(RunDir(tmp_path / f"good-{index}").plan, {"label": "search"})
        metrics = {"loss": -9.0, "learns": successive_halving.learned(cfg)}
        products.write_json(RunDir(tmp_path / f"good-{index}").out / "rung-0.json", metrics)
    write_json(RunDir(tmp_path / "bad").plan, {"label": "search"})
    metrics = stages.train(cfg, context(tmp_path / "bad"))
    assert metrics["steps"] == 4 and metrics["ended_early"] == "behind others at step 4"
    assert stages.train(cfg, context(tmp_path / "bad")) == metrics


def test_an_estimate_counts_steps_and_validations(cfg: Train, tmp_path: Path) -> None:
    asked = Estimate(**{**vars(cfg), "optim": replace(cfg.optim, steps=1000)}, probe_steps=12, price_a_day=80.0)
    metrics = stages.estimate(asked, context(tmp_path / "probe"))
    lines = read_lines(RunDir(tmp_path / "probe").metrics)
    assert len(lines) == 12 and metrics["steps"] == 1000
    assert metrics["step_s"] == pytest.approx(sum(line["seconds"] for line in lines[5:]) / 7)
    least_h = (1000 * metrics["step_s"] + 249 * lines[-1]["validation_s"]) / 3600  # type: ignore[operator]
    assert metrics["hours"] > least_h  # type: ignore[operator]
    assert metrics["cpu_hours"] >= metrics["hours"], "of the cores that it has computed in"  # type: ignore[operator]
    assert "gpu_hours" not in metrics and "price" not in metrics, "nobody spends GPU-hours where there is no GPU"


def test_an_estimate_on_gpus_says_their_hours_and_their_price() -> None:
    figures, sentence = estimate.costs(12.0, 4, 64, price_a_day=80.0)
    assert figures == {"hours": 12.0, "gpu_hours": 48.0, "price": 160.0}
    assert sentence == "12.00 h, 48 GPU-hours, 160.00 at 80 a GPU and day"
    assert estimate.costs(12.0, 0, 64, price_a_day=80.0)[1].startswith("12.00 h, 768 CPU-hours; no price, as")


def test_a_plan_of_a_training_knows_what_its_estimate_has_measured(cfg: Train, tmp_path: Path) -> None:
    """The same settings but the seed, and as many ranks; with other settings, or on other ranks, it says nothing."""
    run = RunDir(tmp_path / "estimate-a")
    resources = {"nodes": 1, "ranks_per_node": 1, "gpus_per_node": 1, "cpus_per_rank": 4}
    write_json(run.plan, {"stage": "estimate", "site": {"name": "lem-gpu"}, "resources": resources})
    write_json(run.result, {"metrics": {"hours": 2.5}, "seconds": 60.0})
    probed = Estimate(**{**vars(cfg), "seed": 7}, probe_steps=12)
    run.config.write_text(config.to_yaml(config.plain(probed)))
    shape, other = Shape("athena", 1, 1, 1, 4), replace(cfg, optim=replace(cfg.optim, steps=999))
    planned = RunDir(tmp_path / "train-b")

    def known(settings: Train, shape: Shape) -> Forecast | None:
        return forecast(History(tmp_path), planned, "train", config.plain(settings), shape)

    estimated = known(cfg, shape)
    assert estimated is not None and estimated.seconds == 9000
    assert estimated.why == "estimate-a has estimated it"
    assert known(other, shape) is None and known(cfg, shape._replace(nodes=2)) is None


PROBE = [{"step": step, "seconds": 2.0} for step in range(1, 12)] + [{"step": 12, "seconds": 2.0, "validation_s": 7.0}]


@pytest.mark.parametrize(("steps", "every", "validations"), [(100, 50, 2), (101, 50, 3), (20, 1000, 1)])
@pytest.mark.parametrize(("first", "mine_s"), [(0, 12 * 2 + 7), (8, 4 * 2 + 7), (12, 0)])
def test_an_estimate_has_every_validation_whichever_attempt_saw_the_probe(
    steps: int, every: int, validations: int, first: int, mine_s: int
) -> None:
    """The attempt before was stopped at step `first`; this one took 30 s to begin, and `mine_s` for what was left."""
    cfg = Optim(steps=steps, validate_every=every)
    whole_s = steps * 2 + validations * 7 + 30
    assert estimate.counted(cfg, PROBE, first, took_s=30.0 + mine_s) == (2.0, whole_s)
    searching = replace(cfg, find_lr=FindRate(steps=40))
    assert estimate.counted(searching, PROBE, first, took_s=30.0 + mine_s) == (2.0, whole_s + 40 * 2)


def test_an_estimate_that_was_stopped_does_not_take_the_first_attempt_for_its_own(cfg: Train, tmp_path: Path) -> None:
    asked = Estimate(**{**vars(cfg), "optim": replace(cfg.optim, steps=1000)}, probe_steps=12)
    metrics = RunDir(tmp_path / "probe").metrics
    with pytest.raises(Preempted):
        stages.estimate(
            asked, Context(World(), RunDir(tmp_path / "probe"), should_stop=lambda: len(read_lines(metrics)) >= 6)
        )
    lines = read_lines(metrics)
    assert len(lines) == 6
    slow = [line | {"seconds": 1e6} if line["step"] <= 4 else line for line in lines]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in slow))
    estimated = stages.estimate(asked, context(tmp_path / "probe"))
    assert estimated["hours"] > 1000 * estimated["step_s"] / 3600  # type: ignore[operator]


def test_the_time_of_a_step_is_all_that_passes_but_for_validation(cfg: Train, tmp_path: Path) -> None:
    """So that steps and validations make up the whole, as an estimate takes them to."""
    slow = Context(World(), RunDir(tmp_path / "run"), should_stop=lambda: time.sleep(0.05) is not None)
    stages.train(cfg, slow)  # asked once after each step, and at each trial of a validation
    lines = read_lines(RunDir(tmp_path / "run").metrics)
    assert min(line["seconds"] for line in lines[1:]) > 0.05
    assert min(line["validation_s"] for line in lines if "validation_s" in line) > 0.05


def test_what_is_freed_later_is_estimated_as_dear_as_it_becomes(cfg: Train, tmp_path: Path) -> None:
    freed = Trainable("head", unfreeze_at=(500,))
    asked = Estimate(**{**vars(cfg), "trainable": freed, "optim": replace(cfg.optim, steps=1000)}, probe_steps=10)
    stages.estimate(asked, context(tmp_path / "probe"))
    newest = checkpoint.latest(RunDir(tmp_path / "probe").checkpoints)
    assert newest is not None
    moved = {int(state["step"]) for state in newest[1]["optimizer"]["state"].values()}
    assert moved == {10, 9}, "from its second step on the probe trains all"
