"""Fit a decoder: `python -m hpc.launch train …`. One function, in the order things happen.

A batch is the same whoever draws it: pure in (seed, step), shared out over the ranks. So a run that was stopped goes on
from its checkpoint bit for bit (on CPU), and 1, 2 or 4 ranks follow the same course
(but for dropout: each rank draws its own).
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
from eegdecode.objectives import Batch, Classification
from eegdecode.training import lr_finder, model_file, optim, setup, successive_halving, target_statistics, transfer
from eegdecode.training.augment import Augmentation
from eegdecode.training.config import Train, check_ranks
from eegdecode.training.monitor.logger import Record
from eegdecode.training.monitor.watch import Watcher
from eegdecode.training.step import Descent
from eegdecode.training.validator import Judge
from hpc.checkpoint import checkpoint
from hpc.checkpoint.saver import Saver
from hpc.rank import ddp, fsdp
from hpc.rank.context import Context, Preempted
from hpc.runs.rundir import atomic_write, read_json, write_json

log = logging.getLogger(__name__)

FILLING = 4
"""Threads that fill batches: two read as fast as memory gives, more help where storage is slow."""
_MODEL, _NOISE = 4, 5  # tell the draws of one seed from each other, and from those of eegdecode.data


def fit(cfg: Train, ctx: Context) -> dict[str, object]:
    """Train, keep the parameters that do best on the validation part, and leave them in model.pt."""
    world = ctx.world
    check_ranks(cfg, world.size)  # also where there was no plan
    where = ddp.start(ctx)

    # The data
    tells_classes = isinstance(cfg.objective, Classification)
    folders = [ctx.input(data, often=True) for data in cfg.data]
    data, found_spec, parts, draw = setup.prepare(
        folders, cfg.target, cfg.split, cfg.windows, cfg.seed, classes=tells_classes
    )
    for sentence in parts.audit():
        log.info("%s", sentence)
    augment = Augmentation(cfg.augment, found_spec, soft=tells_classes)
    batches = Batches(cfg, ctx, data, draw, augment, where)

    # The model, the same on every rank
    spec = setup.fitted(cfg, found_spec, draw)
    found_spec = target_statistics.known(cfg.objective, found_spec, data, cfg.target, draw.places)
    spec = spec.knowing(found_spec)
    torch.manual_seed(_seed(cfg.seed, _MODEL))
    network = models.build(cfg.model, spec)
    if cfg.start is not None:
        transfer.begin(network, cfg.start, ctx.input(cfg.start.source))
    moved = trainable.choose(network, cfg.trainable)
    network.to(where)
    if cfg.compute.compile:
        network.compile(dynamic=False)  # batches and windows have one shape each
    model = ddp.wrap(network, where, cfg.compute.shard)
    objective = objectives.build(cfg.objective, found_spec)
    judge = Judge(cfg, parts.val, data, spec, network)
    optimizer = optim.adamw(network, cfg.optim)
    descent = Descent(cfg.optim, cfg.compute, model, network, objective, optimizer, where)
    precision, scaler = descent.precision, descent.scaler
    average = optim.Average(cfg.optim.average)

    # Where an earlier attempt stopped
    saver = Saver(ctx, cfg.optim.checkpoint_every, keep_every=cfg.optim.keep_every)
    step, found = _resume(ctx)
    best: dict[str, Any] = {"step": 0, "validation": {"loss": math.inf}, "parameters": {}, "misses": 0, "ended": ""}
    unseen: dict[str, float] | None = None  # figures of a step whose validation was broken off by a wish to stop
    if found is not None:
        fsdp.restore(network, optimizer, found)
        scaler.load_state_dict(found["scaler"])
        average.load(found["average"], network)
        best, unseen = found["best"], found["unseen"]
    trainable.free(network, moved, step)
    descent.trained = optim.moved(optimizer)
    highest, said = optim.highest_rate(cfg.optim, cfg.windows.batch)
    log.info("%s", said)
    if cfg.optim.halving is not None:
        successive_halving.remark(ctx)
    if cfg.optim.find_lr is not None:
        highest = _found_rate(cfg, ctx, network, descent, batches)
    log.info("%d parameters on %s, %d tensors of them trained, from step %d of %d", _count(network), where,
             len(descent.trained), step, cfg.optim.steps)  # fmt: skip
    # The line of a step whose validation was broken off is still to be written
    record = Record(ctx, step - (unseen is not None), found["unwritten"] if found else ())
    watcher = Watcher(cfg.watch, ctx, record, step, lambda at: store.broken(data, draw.at([at]).recording.tolist()))
    coming = batches.at(step, cfg.optim.steps)

    began = time.perf_counter()  # a step's time is all from the end of the one before, but for validation

    while (step < cfg.optim.steps and not best["ended"]) or unseen:
        if unseen is None:
            watcher.before(step)
            batch = next(coming)
            if step in cfg.trainable.free_at:
                trainable.free(network, moved, step)
                descent.trained = optim.moved(optimizer)
                ddp.without_remark(model)
                log.info("step %d: %d tensors are trained from here on", step, len(descent.trained))
            lr = optim.rate(cfg.optim, highest, step)
            # Dropout too is a function of the step, not of what was drawn before
            torch.manual_seed(_seed(cfg.seed, _NOISE, step, world.rank))
            trainable.train(model)
            sums = descent.look(batch, lr)
            # Equal shares, so the mean over ranks is the mean over the global batch
            means = (ddp.total(torch.stack([value.float() for value in sums.values()])) / world.size).tolist()
            figures = dict(zip(sums, means, strict=True))
            watcher.refuse_nonfinite(figures, step, batch, float(sums["loss"]), lr)
            norm = descent.length()
            if not scaler.is_enabled():
                watcher.refuse_nonfinite({"grad_norm": norm}, step, batch, norm, lr)
            saver.settle()
            descent.go()
            step += 1
            models.after_step(network, step / cfg.optim.steps)
            average.update(network, step, cfg.optim.steps)
            seconds, began = time.perf_counter() - began, time.perf_counter()
            figures |= {"grad_norm": norm, "lr": lr, "seconds": seconds, "data_wait_s": batches.wait_s}
        else:
            figures, unseen = unseen, None

        last = step == cfg.optim.steps
        if last or step % cfg.optim.validate_every == 0:
            looked = time.perf_counter()
            with average.applied(network):
                names = [name for name in figures if name not in TIMES]
                with precision:
                    found_now = judge(network, objective, names, ctx)
                if found_now is not None:
                    figures |= {f"val_{name}": value for name, value in found_now.items()}
                    rate = optim.rate(cfg.optim, highest, step)
                    watcher.refuse_nonfinite(figures, step, None, found_now["loss"], rate)
                    watcher.judged(step, found_now, best, network, judge)
                    if found_now["loss"] < best["validation"]["loss"]:
                        now = {"step": step, "validation": found_now, "parameters": _copy(network), "misses": 0}
                    else:
                        now = {"misses": best["misses"] + 1}
            if found_now is None:  # the parameters that go on are saved, not their average
                watcher.after(step, over=True)
                saver.save(step, _kept(network, optimizer, scaler, average, best, record, figures), best["step"])
                _leave(saver, record, batches)
            validation_s = time.perf_counter() - looked
            began += validation_s
            figures |= {"validation_s": validation_s}
            best = best | now
            best = best | {"ended": _enough(cfg, ctx, step, best)}
            log.info("step %d: loss %.3f, in validation %.3f", step, figures["loss"], found_now["loss"])
        if optim.is_snapshot(cfg.optim, step):
            parameters = lora.merged(_whole(_copy(network)), cfg.trainable.alpha)
            # What validation found of an average is not of these parameters
            validation = {} if average.kept else found_last(figures)
            snapshot = {"step": step, "parameters": parameters, "validation": validation}
            if world.is_first:
                place = ctx.out / f"snapshot-{step:08d}.pt"
                ctx.until_there_is_room(partial(model_file.save, place, cfg, spec, snapshot))
        record.write(step, figures)
        ctx.progress("train", step, cfg.optim.steps, loss=figures["loss"])

        last = last or bool(best["ended"])
        stop, due = ddp.agree(ctx.should_stop(), saver.due(step))
        watcher.after(step, over=last or stop)
        if last or stop or due:
            record.flush(wait=last)
            kept = _kept(network, optimizer, scaler, average, best, record)
            saver.save(step, kept, best["step"], last, later=("optimizer", "average", "best"))
        if stop and not last:
            _leave(saver, record, batches)

    batches.close()
    saver.close()
    record.close()
    best = best | {"parameters": lora.merged(_whole(best["parameters"]), cfg.trainable.alpha)}
    if world.is_first:
        ctx.until_there_is_room(lambda: model_file.save(ctx.out / "model.pt", cfg, spec, best))
    ddp.barrier()
    ddp.stop()
    judged = {f"val_{name}": value for name, value in best["validation"].items()}
    early = {"ended_early": best["ended"]} if best["ended"] else {}
    return {"steps": step, "best_step": best["step"], "parameters": _count(network)} | judged | early


def found_last(figures: dict[str, float]) -> dict[str, float]:
    """What validation found at this step, if it looked."""
    return {name.removeprefix("val_"): value for name, value in figures.items() if name.startswith("val_")}


TIMES = ("grad_norm", "lr", "seconds", "data_wait_s", "validation_s")
"""Figures of a step that validation has not."""


class Batches:
    """This rank's batches from any step on, augmented, each window with its key."""

    def __init__(
        self, cfg: Train, ctx: Context, data: Store, draw: Draw, augment: Augmentation, where: torch.device
    ) -> None:
        self.cfg, self.world, self.where, self.augment = cfg, ctx.world, where, augment
        share = partial(Loader, data, target=cfg.target, rank=ctx.world.rank, size=ctx.world.size, device=where)
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
                partners = [Batch(x, y, whose, batch.key) for x, y, whose in zip(*columns, strict=True)]
            yield self.augment(batch, partners)

    def _keys(self, step: int) -> torch.Tensor:
        """What is random of a window comes from seed, step and its place in the global batch."""
        n = self.cfg.windows.batch
        places = np.arange(self.world.rank, n, self.world.size, dtype=np.int64) + step * n
        return torch.from_numpy(order.key(self.cfg.seed, _NOISE, places).astype(np.int64)).to(self.where)

    def close(self) -> None:
        self.own.close()
        if self.others is not None:
            self.others.close()


def _enough(cfg: Train, ctx: Context, step: int, best: dict[str, Any]) -> str:
    """Why training ends after this validation, before its last step; "" where it goes on. The same on all ranks."""
    if cfg.optim.patience and best["misses"] >= cfg.optim.patience:
        return f"no better validation in {best['misses']} of them"
    number = successive_halving.rung(cfg.optim.halving, step) if cfg.optim.halving else None
    if cfg.optim.halving is None or number is None:
        return ""
    goes = not ctx.world.is_first or successive_halving.goes_on(cfg, number, best["validation"]["loss"], ctx)
    return f"behind others at step {step}" if ddp.any_rank(not goes) else ""


def _found_rate(cfg: Train, ctx: Context, network: nn.Module, descent: Descent, batches: Batches) -> float:
    """The rate that was looked for before the first step; all that the search changed is put back."""
    search = cfg.optim.find_lr
    assert search is not None
    place = ctx.out / "lr_finder.json"
    found = read_json(place) if ctx.world.is_first else None
    known = float(ddp.total(torch.tensor(found["lr"] if found else 0.0, dtype=torch.float64)))
    if known:
        return known
    optimizer, scaler = descent.optimizer, descent.scaler
    kept = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
    before = copy.deepcopy(kept)
    coming = batches.at(0)

    def one(lr: float, number: int) -> float:
        ctx.progress("find lr", number, search.steps)
        if ddp.any_rank(ctx.should_stop()):
            raise Preempted
        torch.manual_seed(_seed(cfg.seed, _NOISE, number, ctx.world.rank))
        trainable.train(descent.model)
        loss = descent.look(next(coming), lr)["loss"]
        descent.length()
        descent.go()
        models.after_step(network, 0.0)
        return float(ddp.total(loss)) / ctx.world.size

    found = lr_finder.find(search, one)
    network.load_state_dict(before["model"])
    optimizer.load_state_dict(before["optimizer"])
    scaler.load_state_dict(before["scaler"])
    page = lr_finder.drawn(found)
    log.info("lr %.3g is taken, where the loss falls most steeply (%s)", found["lr"], place)
    if ctx.world.is_first:
        drawn = ctx.out / "lr_finder.html"
        ctx.until_there_is_room(lambda: atomic_write(drawn, lambda file: file.write(page.encode())))
        ctx.until_there_is_room(lambda: write_json(place, found))
    return float(found["lr"])


def _kept(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: optim.Average,
    best: dict[str, Any],
    record: Record,
    unseen: dict[str, float] | None = None,
) -> dict[str, Any]:
    """What a checkpoint holds: beside the parameters, the lines of metrics.jsonl that a full disk has not taken yet."""
    both = fsdp.state_of(network, optimizer)
    others = {"scaler": scaler.state_dict(), "average": average.state(), "best": best}
    return {**both, **others, "unseen": unseen, "unwritten": record.unwritten}


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters as they are, on the CPU; those of a sharded network stay where they are."""
    return {
        name: value.detach().clone() if fsdp.is_sharded(value) else value.detach().cpu().clone()
        for name, value in network.state_dict().items()
    }


def _whole(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: fsdp.whole(value).cpu() for name, value in parameters.items()}


def _leave(saver: Saver, record: Record, batches: Batches) -> NoReturn:
    """All is saved, on every rank, before any says that it has stopped."""
    batches.close()
    saver.close()
    record.close()
    ddp.barrier()
    ddp.stop()
    raise Preempted


def _resume(ctx: Context) -> tuple[int, dict[str, Any] | None]:
    """The step and state to go on from: rank 0 looks which is the newest whole one, and all read that."""
    found = checkpoint.latest(ctx.run.checkpoints) if ctx.world.is_first else None
    step = int(ddp.total(torch.tensor(found[0] if found else 0)))
    if found is not None:
        return found
    return step, checkpoint.load(ctx.run.checkpoints, step) if step else None


def _seed(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0])


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
