"""Fit a decoder: `python -m hpc.launch train …`. One function, in the order things happen.

A batch is the same whoever draws it: pure in (seed, step), shared out over the ranks. So a run that was stopped goes on
from its checkpoint bit for bit (on CPU), and 1, 2 or 4 ranks follow the same course
(but for dropout: each rank draws its own).
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import torch
from torch import nn

from eegdecode import models, objectives
from eegdecode.data import (
    BucketedWindows,
    GridWindows,
    LockedWindows,
    Windows,
    gather,
    loader,
    order,
    splits,
    store,
    windows,
)
from eegdecode.data.draw import Draw
from eegdecode.data.gather import Gathered
from eegdecode.data.loader import Loader
from eegdecode.data.splits import Segment
from eegdecode.data.stored import Store
from eegdecode.data.windows import Places
from eegdecode.objectives import Batch, Objective
from eegdecode.training import Optim, state
from eegdecode.training.record import Record
from hpc import checkpoint, ddp
from hpc.context import Context, Preempted
from hpc.saver import Saver

if TYPE_CHECKING:
    from eegdecode.stages import Train

log = logging.getLogger(__name__)

FILLING = 4
"""Threads that fill batches: two read as fast as memory gives, more help where storage is slow."""
_MODEL, _NOISE, _JUDGED = 4, 5, 6  # tell the draws of one seed from each other, and from those of eegdecode.data


def fit(cfg: "Train", ctx: Context) -> dict[str, object]:
    """Train, keep the parameters that do best on the validation part, and leave them in model.pt."""
    world = ctx.world
    cfg.check_ranks(world.size)  # also where there was no plan
    where = ddp.start(ctx)

    # The data
    data = store.open_store(*(ctx.input(data, often=True) for data in cfg.data))
    found_spec = data.spec(cfg.target)
    parts = splits.split(cfg.split, data.recordings)
    for sentence in parts.audit():
        log.info("%s", sentence)
    draw = Draw(cfg.windows, parts.train, data.recordings, cfg.seed)
    batches = Loader(
        data,
        draw,
        cfg.target,
        rank=world.rank,
        size=world.size,
        threads=min(loader.cores(world.local_size), FILLING),
        device=where,
    )

    # The model, the same on every rank
    spec = replace(cfg.objective.asks(found_spec), n_times=draw.one_length)
    torch.manual_seed(_seed(cfg.seed, _MODEL))
    network = models.build(cfg.model, spec).to(where)
    model = ddp.wrap(network, where)
    objective = objectives.build(cfg.objective, found_spec)
    judged = judge_by(cfg.windows, parts.val, data, network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=cfg.optim.lr, weight_decay=cfg.optim.weight_decay)

    # Where an earlier attempt stopped
    saver = Saver(ctx, cfg.optim.checkpoint_every, keep_every=cfg.optim.keep_every)
    step, found = _resume(ctx)
    best: dict[str, Any] = {"step": 0, "validation": {"loss": math.inf}, "parameters": {}}
    unseen: dict[str, float] | None = None  # figures of a step whose validation was broken off by a wish to stop
    if found is not None:
        network.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
        best, unseen = found["best"], found["unseen"]
    log.info("%d parameters on %s, from step %d of %d", _count(network), where, step, cfg.optim.steps)
    record = Record(ctx, step)
    coming = batches.at(step, stop=cfg.optim.steps)

    while step < cfg.optim.steps or unseen:
        if unseen is None:
            began = time.perf_counter()
            batch = Batch(*next(coming), keys(cfg, step, world.rank, world.size, where))

            # Dropout too is a function of the step, not of what was drawn before
            torch.manual_seed(_seed(cfg.seed, _NOISE, step, world.rank))
            model.train()
            loss, watched = objective(model, batch)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), cfg.optim.clip_norm)
            # Equal shares, so the mean over ranks is the mean over the global batch
            means = (ddp.total(torch.stack([loss.detach(), *watched.values()])) / world.size).tolist()
            lr = learning_rate(cfg.optim, step)
            figures = dict(zip(["loss", *watched], means, strict=True)) | {"grad_norm": norm.item(), "lr": lr}
            _refuse_nonfinite(figures, step)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            step += 1
            models.after_step(network, step / cfg.optim.steps)
            figures |= {"seconds": time.perf_counter() - began, "data_wait_s": batches.wait_s}
        else:
            figures, unseen = unseen, None

        last = step == cfg.optim.steps
        if last or step % cfg.optim.validate_every == 0:
            names = [name for name in figures if name not in ("grad_norm", "lr", "seconds", "data_wait_s")]
            found_now = validate(network, objective, names, data, judged, cfg, ctx)
            if found_now is None:
                saver.save(step, _kept(network, optimizer, best, unseen=figures), best["step"])
                _leave(saver, record, batches)
            figures |= {f"val_{name}": value for name, value in found_now.items()}
            _refuse_nonfinite(figures, step)
            if found_now["loss"] < best["validation"]["loss"]:
                parameters = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
                best = {"step": step, "validation": found_now, "parameters": parameters}
            log.info("step %d: loss %.3f, in validation %.3f", step, figures["loss"], found_now["loss"])
        record.write(step, figures)
        ctx.progress("train", step, cfg.optim.steps, loss=figures["loss"])

        stop, due = ddp.agree(ctx.should_stop(), saver.due(step))
        if last or stop or due:
            record.flush()
            saver.save(step, _kept(network, optimizer, best), best["step"], last)
        if stop and not last:
            _leave(saver, record, batches)

    batches.close()
    saver.close()
    record.close()
    if world.is_first:
        state.save(ctx.out, cfg, spec, best)
    ddp.stop()
    validation = {f"val_{name}": value for name, value in best["validation"].items()}
    return {"steps": step, "best_step": best["step"], "parameters": _count(network)} | validation


def validate(
    network: nn.Module,
    objective: Objective,
    names: Sequence[str],
    data: Store,
    judged: Sequence[Places],
    cfg: "Train",
    ctx: Context,
) -> dict[str, float] | None:
    """The means over windows of the loss and what is watched, which are `names`; one rank sees a batch of them. None
    when some rank was asked to stop meanwhile."""
    where = next(network.parameters()).device
    length = cast("int | None", network.n_times)
    network.eval()
    sums = dict.fromkeys(names, 0.0)
    stopped = 0.0
    with torch.no_grad():
        for number, places in ctx.world.share(list(enumerate(judged))):
            if ctx.should_stop():
                stopped = 1.0
                break
            ctx.beat()
            n_windows = len(places.start)
            chance = torch.arange(n_windows, device=where) + _seed(cfg.seed, _JUDGED, number) // 2
            signal, target, whose = to_device(gather.gather(data, places, cfg.target, length), where)
            batch = Batch(signal, target, whose, chance)
            loss, watched = objective(network, batch)
            for name, value in {"loss": loss, **watched}.items():
                sums[name] += value.item() * n_windows
    *totals, n_stopped = ddp.total(torch.tensor([*sums.values(), stopped], dtype=torch.float64)).tolist()
    n_judged = sum(len(places.start) for places in judged)
    return None if n_stopped else {name: total / n_judged for name, total in zip(sums, totals, strict=True)}


def judge_by(cfg: Windows, part: Sequence[Segment], data: Store, network: nn.Module) -> list[Places]:
    """The windows of a part that is looked at without chance, in batches: those of the training where they lie fixed,
    whole trials where the network takes any length, else its length end to end."""
    if not isinstance(cfg, GridWindows | LockedWindows):
        if isinstance(cfg, BucketedWindows) or network.n_times is None:
            return [windows.whole(segment, data.recordings[segment.recording]) for segment in part]
        cfg = GridWindows(length_s=cfg.length_s, batch=cfg.batch)
    places, _ = windows.cut(cfg, part, data.recordings)
    return [places.take(slice(first, first + cfg.batch)) for first in range(0, len(places.start), cfg.batch)]


def keys(cfg: "Train", step: int, rank: int, n_ranks: int, where: torch.device) -> torch.Tensor:
    """What is random of this rank's windows comes from these: seed, step and the place in the global batch."""
    places = np.arange(rank, cfg.windows.batch, n_ranks, dtype=np.int64) + step * cfg.windows.batch
    return torch.from_numpy(order.key(cfg.seed, _NOISE, places).astype(np.int64)).to(where)


def _kept(
    network: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, Any], unseen: dict[str, float] | None = None
) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "best": best, "unseen": unseen}


def _leave(saver: Saver, record: Record, batches: Loader) -> NoReturn:
    """All is saved, on every rank, before any says that it has stopped."""
    batches.close()
    saver.close()
    record.close()
    ddp.barrier()
    ddp.stop()
    raise Preempted


def to_device(gathered: Gathered, where: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Signal, target and subject."""
    signal, target, subject = (torch.from_numpy(array).to(where) for array in gathered)
    return signal, target, subject


def whole_trial(data: Store, segment: Segment, target: str) -> Gathered:
    """All of a trial, as one window."""
    return gather.gather(data, windows.whole(segment, data.recordings[segment.recording]), target)


def learning_rate(cfg: Optim, step: int) -> float:
    """A function of the step alone: a line up over the first steps, then half a cosine down to 0."""
    if step < cfg.warmup_steps:
        return cfg.lr * (step + 1) / cfg.warmup_steps
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - cfg.warmup_steps) / (cfg.steps - cfg.warmup_steps)))


def _resume(ctx: Context) -> tuple[int, dict[str, Any] | None]:
    """The step and state to go on from: rank 0 looks which is the newest whole one, and all read that."""
    found = checkpoint.latest(ctx.run.checkpoints) if ctx.world.is_first else None
    step = int(ddp.total(torch.tensor(found[0] if found else 0)))
    if found is not None:
        return found
    return step, checkpoint.load(ctx.run.checkpoints, step) if step else None


def _refuse_nonfinite(figures: dict[str, float], step: int) -> None:
    broken = {name: value for name, value in figures.items() if not math.isfinite(value)}
    if broken:
        raise FloatingPointError(
            f"{' and '.join(f'{name} {value}' for name, value in broken.items())} at step {step} "
            f"(lr {figures['lr']:.3g}): lower optim.lr or optim.clip_norm, and look for NaN in the data"
        )


def _seed(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0])


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
