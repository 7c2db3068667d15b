"""Train a decoder: `python -m hpc.launch train …`. One function, in the order things happen.

A batch is a pure function of (seed, step), and the ranks share it out. So a stopped run resumes from its checkpoint bit
for bit (on CPU), and 1, 2 or 4 ranks train alike, except for dropout: each rank draws its own.
"""

import copy
import logging
import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from eegdecode import models, objectives
from eegdecode.data.loading import loader, order
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.loader import Loader
from eegdecode.data.loading.partners import Partners
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.models.parts import lora, trainable
from eegdecode.objectives import Batch
from eegdecode.objectives.classification import Classification
from eegdecode.training import lr_finder, model_file, optim, setup, successive_halving, target_statistics, transfer
from eegdecode.training.augment import Augmentation
from eegdecode.training.config import Train, check_ranks
from eegdecode.training.monitor.logger import Record
from eegdecode.training.monitor.watch import Watcher
from eegdecode.training.step import Stepper
from eegdecode.training.validator import Validator
from hpc.checkpoint import checkpoint
from hpc.checkpoint.saver import Saver
from hpc.rank import ddp, fsdp
from hpc.rank.context import Context, Preempted
from hpc.runs.rundir import atomic_write, read_json, write_json

log = logging.getLogger(__name__)

FILLING = 4
"""Threads that fill batches: two read as fast as memory gives, more help where storage is slow."""
_MODEL, _NOISE = 4, 5  # separate the draws of one seed, also from those of eegdecode.data


def fit(cfg: Train, ctx: Context) -> dict[str, object]:
    """Train, keep the parameters with the lowest loss on the validation set, and save them in model.pt."""
    world = ctx.world
    check_ranks(cfg, world.size)  # the plan has checked it too, but a stage can be called without one
    device = ddp.start(ctx)

    # The data
    is_classification = isinstance(cfg.objective, Classification)
    folders = [ctx.input(data, often=True) for data in cfg.data]
    data, data_spec, parts, draw = setup.prepare(
        folders, cfg.target, cfg.split, cfg.windows, cfg.seed, classes=is_classification
    )
    for sentence in parts.audit():
        log.info("%s", sentence)
    augment = Augmentation(cfg.augment, data_spec, soft=is_classification)
    batches = Batches(cfg, ctx, data, draw, augment, device)

    # The model, the same on every rank
    spec = setup.model_spec(cfg, data_spec, draw)
    data_spec = target_statistics.with_statistics(cfg.objective, data_spec, data, cfg.target, draw.places)
    spec = spec.knowing(data_spec)
    torch.manual_seed(_seed(cfg.seed, _MODEL))
    network = models.build(cfg.model, spec)
    if cfg.start is not None:
        transfer.load_pretrained(network, cfg.start, ctx.input(cfg.start.source))
    first_steps = trainable.choose(network, cfg.trainable)
    network.to(device)
    if cfg.compute.compile:
        network.compile(dynamic=False)  # batches and windows have one shape each
    model = ddp.wrap(network, device, cfg.compute.shard)
    objective = objectives.build(cfg.objective, data_spec)
    validator = Validator(cfg, parts.val, data, spec, network)
    optimizer = optim.adamw(network, cfg.optim)
    stepper = Stepper(cfg.optim, cfg.compute, model, network, objective, optimizer, device)
    precision, scaler = stepper.precision, stepper.scaler
    average = optim.Average(cfg.optim.average)

    # Resume where an earlier attempt stopped
    saver = Saver(ctx, cfg.optim.checkpoint_every, keep_every=cfg.optim.keep_every)
    step, resumed = _resume(ctx)
    best: dict[str, Any] = {"step": 0, "validation": {"loss": math.inf}, "parameters": {}, "misses": 0, "ended": ""}
    unseen: dict[str, float] | None = None  # figures of a step whose validation a stop request interrupted
    if resumed is not None:
        fsdp.restore(network, optimizer, resumed)
        scaler.load_state_dict(resumed["scaler"])
        average.load(resumed["average"], network)
        best, unseen = resumed["best"], resumed["unseen"]
    trainable.unfreeze(network, first_steps, step)
    stepper.trained = optim.trainable_parameters(optimizer)
    highest, rate_sentence = optim.highest_rate(cfg.optim, cfg.windows.batch)
    log.info("%s", rate_sentence)
    if cfg.optim.halving is not None:
        successive_halving.remark(ctx)
    if cfg.optim.find_lr is not None:
        highest = _searched_rate(cfg, ctx, network, stepper, batches)
    log.info("%d parameters on %s, %d tensors of them trained, from step %d of %d", _count(network), device,
             len(stepper.trained), step, cfg.optim.steps)  # fmt: skip
    # The line of a step whose validation was interrupted is still to be written
    record = Record(ctx, step - (unseen is not None), resumed["unwritten"] if resumed else ())
    watcher = Watcher(cfg.watch, ctx, record, step, lambda at: store.broken(data, draw.at([at]).recording.tolist()))
    upcoming = batches.at(step, cfg.optim.steps)

    began = time.perf_counter()  # a step lasts from the end of the step before, without validation

    while (step < cfg.optim.steps and not best["ended"]) or unseen:
        if unseen is None:
            watcher.before(step)
            batch = next(upcoming)
            if step in cfg.trainable.unfreeze_at:
                trainable.unfreeze(network, first_steps, step)
                stepper.trained = optim.trainable_parameters(optimizer)
                ddp.without_remark(model)
                log.info("step %d: %d tensors are trained from here on", step, len(stepper.trained))
            lr = optim.rate(cfg.optim, highest, step)
            # Dropout depends on the step too, not on what was drawn before
            torch.manual_seed(_seed(cfg.seed, _NOISE, step, world.rank))
            trainable.train(model)
            sums = stepper.backward(batch, lr)
            # Ranks have equal shares, so the mean over ranks is the mean over the global batch
            means = (ddp.total(torch.stack([value.float() for value in sums.values()])) / world.size).tolist()
            figures = dict(zip(sums, means, strict=True))
            watcher.refuse_nonfinite(figures, step, batch, float(sums["loss"]), lr)
            norm = stepper.clip_grad_norm()
            if not scaler.is_enabled():
                watcher.refuse_nonfinite({"grad_norm": norm}, step, batch, norm, lr)
            saver.settle()
            stepper.step()
            step += 1
            models.after_step(network, step / cfg.optim.steps)
            average.update(network, step, cfg.optim.steps)
            seconds, began = time.perf_counter() - began, time.perf_counter()
            figures |= {"grad_norm": norm, "lr": lr, "seconds": seconds, "data_wait_s": batches.wait_s}
        else:
            figures, unseen = unseen, None

        last = step == cfg.optim.steps
        if last or step % cfg.optim.validate_every == 0:
            validation_began = time.perf_counter()
            with average.applied(network):
                names = [name for name in figures if name not in TIMES]
                with precision:
                    val_figures = validator(network, objective, names, ctx)
                if val_figures is not None:
                    figures |= {f"val_{name}": value for name, value in val_figures.items()}
                    rate = optim.rate(cfg.optim, highest, step)
                    watcher.refuse_nonfinite(figures, step, None, val_figures["loss"], rate)
                    watcher.validated(step, val_figures, best, network, validator)
                    if val_figures["loss"] < best["validation"]["loss"]:
                        now = {"step": step, "validation": val_figures, "parameters": _copy(network), "misses": 0}
                    else:
                        now = {"misses": best["misses"] + 1}
            if val_figures is None:  # outside of `applied`: the parameters are saved, not their average
                watcher.after(step, over=True)
                saver.save(
                    step, _checkpoint_state(network, optimizer, scaler, average, best, record, figures), best["step"]
                )
                _stop(saver, record, batches)
            validation_s = time.perf_counter() - validation_began
            began += validation_s
            figures |= {"validation_s": validation_s}
            best = best | now
            best = best | {"ended": _enough(cfg, ctx, step, best)}
            log.info("step %d: loss %.3f, in validation %.3f", step, figures["loss"], val_figures["loss"])
        if optim.is_snapshot(cfg.optim, step):
            parameters = lora.merged(_whole(_copy(network)), cfg.trainable.alpha)
            # The figures of an averaged model are not those of these parameters
            validation = {} if average.kept else validation_figures(figures)
            snapshot = {"step": step, "parameters": parameters, "validation": validation}
            if world.is_first:
                path = ctx.out / f"snapshot-{step:08d}.pt"
                ctx.until_there_is_room(partial(model_file.save, path, cfg, spec, snapshot))
        record.write(step, figures)
        ctx.progress("train", step, cfg.optim.steps, loss=figures["loss"])

        last = last or bool(best["ended"])
        stop, due = ddp.agree(ctx.should_stop(), saver.due(step))
        watcher.after(step, over=last or stop)
        if last or stop or due:
            record.flush(wait=last)
            state = _checkpoint_state(network, optimizer, scaler, average, best, record)
            saver.save(step, state, best["step"], last, later=("optimizer", "average", "best"))
        if stop and not last:
            _stop(saver, record, batches)

    batches.close()
    saver.close()
    record.close()
    best = best | {"parameters": lora.merged(_whole(best["parameters"]), cfg.trainable.alpha)}
    if world.is_first:
        ctx.until_there_is_room(lambda: model_file.save(ctx.out / "model.pt", cfg, spec, best))
    ddp.barrier()
    ddp.stop()
    best_figures = {f"val_{name}": value for name, value in best["validation"].items()}
    early = {"ended_early": best["ended"]} if best["ended"] else {}
    return {"steps": step, "best_step": best["step"], "parameters": _count(network)} | best_figures | early


def validation_figures(figures: dict[str, float]) -> dict[str, float]:
    """The figures of the validation at this step; empty if there was none."""
    return {name.removeprefix("val_"): value for name, value in figures.items() if name.startswith("val_")}


TIMES = ("grad_norm", "lr", "seconds", "data_wait_s", "validation_s")
"""Figures of a training step that a validation does not have."""


class Batches:
    """This rank's augmented batches from any step on, each window with its random key."""

    def __init__(
        self, cfg: Train, ctx: Context, data: Store, draw: Draw, augment: Augmentation, device: torch.device
    ) -> None:
        self.cfg, self.world, self.device, self.augment = cfg, ctx.world, device, augment
        share = partial(Loader, data, target=cfg.target, rank=ctx.world.rank, size=ctx.world.size, device=device)
        self.own = share(draw, threads=min(loader.cores(ctx.world.local_size), FILLING))
        self.others: Loader | None = None
        if augment.partners:
            self.others = share(Partners(draw, augment.partners, cfg.target, data.recordings))
        self.wait_s = 0.0

    def at(self, step: int, stop: int | None = None) -> Iterator[Batch]:
        others = self.others.at(step, stop) if self.others else None
        for number, loaded in enumerate(self.own.at(step, stop), step):
            self.wait_s = self.own.wait_s
            batch = Batch(loaded.signal, loaded.target, loaded.subject, self._keys(number))
            partners: list[Batch] = []
            if others is not None:
                columns = [column.tensor_split(len(self.augment.partners)) for column in next(others)]
                partners = [Batch(x, y, subject, batch.rng_key) for x, y, subject in zip(*columns, strict=True)]
            yield self.augment(batch, partners)

    def _keys(self, step: int) -> torch.Tensor:
        """All per-window randomness derives from (seed, step, index in the global batch)."""
        n = self.cfg.windows.batch
        places = np.arange(self.world.rank, n, self.world.size, dtype=np.int64) + step * n
        return torch.from_numpy(order.key(self.cfg.seed, _NOISE, places).astype(np.int64)).to(self.device)

    def close(self) -> None:
        self.own.close()
        if self.others is not None:
            self.others.close()


def _enough(cfg: Train, ctx: Context, step: int, best: dict[str, Any]) -> str:
    """Why training ends after this validation, before its last step; "" if it goes on. The same on all ranks."""
    if cfg.optim.patience and best["misses"] >= cfg.optim.patience:
        return f"no better validation loss in {best['misses']} validations"
    number = successive_halving.rung(cfg.optim.halving, step) if cfg.optim.halving else None
    if cfg.optim.halving is None or number is None:
        return ""
    goes = not ctx.world.is_first or successive_halving.goes_on(cfg, number, best["validation"]["loss"], ctx)
    return f"behind others at step {step}" if ddp.any_rank(not goes) else ""


def _searched_rate(cfg: Train, ctx: Context, network: nn.Module, stepper: Stepper, batches: Batches) -> float:
    """The learning rate of the range test before the first step. All that the test changed is restored."""
    search = cfg.optim.find_lr
    assert search is not None
    path = ctx.out / "lr_finder.json"
    search_result = read_json(path) if ctx.world.is_first else None
    known_rate = float(ddp.total(torch.tensor(search_result["lr"] if search_result else 0.0, dtype=torch.float64)))
    if known_rate:
        return known_rate
    optimizer, scaler = stepper.optimizer, stepper.scaler
    state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
    before = copy.deepcopy(state)
    upcoming = batches.at(0)

    def train_one(lr: float, number: int) -> float:
        ctx.progress("find lr", number, search.steps)
        if ddp.any_rank(ctx.should_stop()):
            raise Preempted
        torch.manual_seed(_seed(cfg.seed, _NOISE, number, ctx.world.rank))
        trainable.train(stepper.model)
        loss = stepper.backward(next(upcoming), lr)["loss"]
        stepper.clip_grad_norm()
        stepper.step()
        models.after_step(network, 0.0)
        return float(ddp.total(loss)) / ctx.world.size

    search_result = lr_finder.find(search, train_one)
    network.load_state_dict(before["model"])
    optimizer.load_state_dict(before["optimizer"])
    scaler.load_state_dict(before["scaler"])
    page = lr_finder.drawn(search_result)
    log.info("lr %.3g is taken, where the loss falls most steeply (%s)", search_result["lr"], path)
    if ctx.world.is_first:
        page_path = ctx.out / "lr_finder.html"
        ctx.until_there_is_room(lambda: atomic_write(page_path, lambda file: file.write(page.encode())))
        ctx.until_there_is_room(lambda: write_json(path, search_result))
    return float(search_result["lr"])


def _checkpoint_state(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: optim.Average,
    best: dict[str, Any],
    record: Record,
    unseen: dict[str, float] | None = None,
) -> dict[str, Any]:
    """The contents of a checkpoint, with the lines of metrics.jsonl that a full disk has not taken yet."""
    both = fsdp.state_of(network, optimizer)
    others = {"scaler": scaler.state_dict(), "average": average.state(), "best": best}
    return {**both, **others, "unseen": unseen, "unwritten": record.unwritten}


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the parameters on the CPU; those of a sharded network stay on their device."""
    return {
        name: value.detach().clone() if fsdp.is_sharded(value) else value.detach().cpu().clone()
        for name, value in network.state_dict().items()
    }


def _whole(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: fsdp.whole(value).cpu() for name, value in parameters.items()}


def _stop(saver: Saver, record: Record, batches: Batches) -> NoReturn:
    """Raise Preempted once every rank has saved everything."""
    batches.close()
    saver.close()
    record.close()
    ddp.barrier()
    ddp.stop()
    raise Preempted


def _resume(ctx: Context) -> tuple[int, dict[str, Any] | None]:
    """The step and state to resume from: rank 0 finds the newest complete checkpoint, and all ranks read that one."""
    newest = checkpoint.latest(ctx.run.checkpoints) if ctx.world.is_first else None
    step = int(ddp.total(torch.tensor(newest[0] if newest else 0)))
    if newest is not None:
        return newest
    return step, checkpoint.load(ctx.run.checkpoints, step) if step else None


def _seed(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0])


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
