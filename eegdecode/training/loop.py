"""Train a decoder: `python -m hpc.launch train …`. `fit` is the training loop.

A batch is a pure function of (seed, step), and the ranks share it. So a stopped run resumes from its checkpoint bit for
bit (on CPU), and 1, 2 or 4 ranks train alike, except for dropout: each rank draws its own.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch

from eegdecode import models, objectives
from eegdecode.data.loading.resident import resident
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.models.parts import lora, trainable
from eegdecode.objectives import Batch, takes_soft_labels
from eegdecode.training import (
    exact,
    graph,
    model_file,
    optim,
    setup,
    target_statistics,
    transfer,
)
from eegdecode.training.augment import Augmentation
from eegdecode.training.batches import NOISE, Batches
from eegdecode.training.config import Train, check_ranks
from eegdecode.training.monitor import doctor, memory
from eegdecode.training.monitor.log_points import LogPoints
from eegdecode.training.monitor.logger import Record
from eegdecode.training.monitor.watch import Watcher
from eegdecode.training.probes import ridge
from eegdecode.training.search import lr_finder, successive_halving
from eegdecode.training.step import TYPES, Stepper
from eegdecode.training.trackers import choice
from eegdecode.training.train_state import Best, TrainState, whole
from eegdecode.training.validator import Validator
from hpc.checkpoint.saver import Saver
from hpc.rank import ddp
from hpc.rank.context import BEAT_S, Context, Preempted
from hpc.rank.verification import Verification
from hpc.runs import records

log = logging.getLogger(__name__)

_MODEL = 4  # separates the draws of one seed, also from those of batches and of eegdecode.data


@memory.explained
def fit(cfg: Train, ctx: Context) -> dict[str, object]:
    """Train, keep the parameters that are best on the validation set, and save them in model.pt."""
    check_ranks(cfg, ctx.world.size)  # the plan has checked it too, but a stage can be called without a plan
    data = setup.controlled(cfg, store.open_store(*(ctx.input(name, often=True) for name in cfg.data)))
    verification = Verification(ctx, [stored.path for stored in data.recordings])
    device = ddp.start(ctx)
    exact.begin(cfg, ctx.world.size, device)
    if ddp.any_rank(not verification.wait()):
        ddp.stop()
        raise Preempted
    training = Training(replace(cfg, compute=cfg.compute.on(ctx.world.size)), ctx, data, device)
    training.resume()
    if cfg.trainable.train == "ridge":
        training.solve_head()
    while training.goes_on():
        training.advance()
    return training.finish()


class Training:
    """The parts of `fit`: the data, the model, the state, and the objects that monitor and save it."""

    def __init__(self, cfg: Train, ctx: Context, data: Store, device: torch.device) -> None:
        self.cfg, self.ctx = cfg, ctx
        data, data_spec, sets, self.draw = setup.prepare(
            data, cfg.target, cfg.split, cfg.windows, cfg.seed, classes=setup.has_classes(cfg)
        )
        for sentence in sets.audit():
            log.info("%s", sentence)
        augment = Augmentation(cfg.augment, data_spec, soft=takes_soft_labels(cfg.objective))
        self.data = data
        used = {segment.recording for part in (sets.train, sets.val) for segment in part}
        on_device = resident(cfg.compute.data_on_device, data, cfg.target, used, device, ctx.beat)
        self.batches = Batches(cfg, ctx, data, self.draw, augment, device, on_device)

        # The model, the same on every rank
        spec = setup.model_spec(cfg, data_spec, self.draw)
        data_spec = target_statistics.with_statistics(cfg.objective, data_spec, data, cfg.target, self.draw.places)
        self.spec = spec.knowing(data_spec)
        torch.manual_seed(_seed(cfg.seed, _MODEL))
        self.network = network = models.build(cfg.model, self.spec)
        if cfg.start is not None:
            transfer.load_pretrained(network, cfg.start, ctx.input(cfg.start.source), cfg.model, spec)
        self.first_steps = trainable.choose(network, cfg.trainable)
        network.to(device)
        if cfg.compute.compile:
            log.info("%s", models.compile_network(network))  # batches and windows have one shape each
            ctx.beat_until_progress()  # the first step compiles
        in_order = None if cfg.compute.exact == "auto" else cfg.compute.exact
        half = TYPES[cfg.compute.precision] if cfg.compute.precision == "bf16" else None
        model = ddp.wrap(network, device, cfg.compute.shard, in_order, half, models.blocks(network))
        self.objective = objectives.build(cfg.objective, data_spec)
        self.validator = Validator(cfg, sets.val, data, self.spec, network, on_device)
        self.training_set = sets.train
        optimizer = optim.adamw(network, cfg.optim)
        self.stepper = Stepper(cfg.optim, cfg.compute, model, network, self.objective, optimizer, device)
        self.after_steps = models.after_steps(network)
        self.average = optim.Average(cfg.optim.average)
        self.state = TrainState(network, optimizer, self.stepper.scaler, self.average)
        self.saver = Saver(ctx, cfg.optim.checkpoint_every, keep_every=cfg.optim.keep_every)

    def resume(self) -> None:
        """Continue where an earlier attempt stopped, or begin."""
        cfg, ctx, state = self.cfg, self.ctx, self.state
        unwritten = state.resume(ctx)
        trainable.unfreeze(self.network, self.first_steps, state.step)
        self.stepper.trained = optim.trainable_parameters(state.optimizer)
        self.peak_lr, rate_sentence = optim.highest_rate(cfg.optim, cfg.windows.batch)
        log.info("%s", rate_sentence)
        if cfg.optim.halving is not None:
            successive_halving.remark(ctx)
        if self.batches.device.type == "cuda":
            batch = next(self.batches.at(state.step))
            longest = self.draw.longest
            memory.try_longest(cfg, ctx, self.stepper, batch, longest, self.spec.n_steps(longest))
        if cfg.optim.find_lr is not None:
            self.peak_lr = lr_finder.searched(cfg.optim.find_lr, ctx, self.stepper, self._train_one())
        stepper = self.stepper
        stepper.graph = graph.begin(
            cfg, ctx, stepper.gradients, self.network, self.batches.device, self.draw.one_length
        )
        n_trained = len(stepper.trained)
        log.info("%d parameters on %s, %d tensors of them trained, from step %d of %d",
                 self.n_parameters, self.batches.device, n_trained, state.step, cfg.optim.steps)  # fmt: skip
        # The line of a step whose validation was interrupted has not been written yet
        trackers = choice.of_training(cfg, ctx)
        self.record = Record(ctx, state.step - (state.pending is not None), unwritten, trackers)
        self.watcher = Watcher(cfg.watch, ctx, self.record, state.step, self.batch_of, self._damages)
        self.log_points = LogPoints(cfg.watch.every, state.step)
        self.upcoming = self.batches.at(state.step, cfg.optim.steps)
        trainable.train(self.stepper.model)
        self.began = self.reported = time.perf_counter()
        """The start of the current step: the end of the one before, without validation."""

    def solve_head(self) -> None:
        """Instead of all steps: solve for the head by ridge regression, and validate."""
        if self.state.step:
            return  # an earlier attempt has done it
        train = Validator(self.cfg, self.training_set, self.data, self.spec, self.network)
        figures = ridge.fit_head(self.network, train, self.validator, self.spec, self.objective, self.ctx)
        self.state.step = self.cfg.optim.steps
        self.write(figures | self.validate(figures))
        self.save_or_stop()

    def goes_on(self) -> bool:
        return (self.state.step < self.cfg.optim.steps and not self.state.best.ended) or bool(self.state.pending)

    def advance(self) -> None:
        """Do one step, and at a log point also what follows from its figures."""
        figures = self.pending_figures()
        if figures is None:
            self.train_step()
            if not self.at_log_point():
                return
            figures = self.read_figures()
        if self.is_validated():
            figures |= self.validate(figures)
        self.save_snapshot(figures)
        self.write(figures)
        self.save_or_stop()

    def pending_figures(self) -> dict[str, float] | None:
        """Return the figures of a step whose validation a stop request interrupted: it is validated again."""
        figures, self.state.pending = self.state.pending, None
        return figures

    def train_step(self) -> None:
        """Do one step of the optimizer. Its figures are read at the next log point."""
        cfg, step, stepper = self.cfg, self.state.step, self.stepper
        self.watcher.before(step)
        with self.ctx.phase("data"):
            batch = next(self.upcoming)
        if step in cfg.trainable.unfreeze_at:
            self._unfreeze(step)
        lr = optim.rate(cfg.optim, self.peak_lr, step)
        self._seed_dropout(step)
        figures = stepper.backward(batch, lr, partial(self._seed_dropout, step))
        norm = stepper.clip_grad_norm()
        self.saver.settle()
        stepper.step()
        self.state.step += 1
        for act in self.after_steps:
            act(self.state.step / cfg.optim.steps)
        self.average.update(self.network, self.state.step, cfg.optim.steps)
        now = time.perf_counter()
        seconds, self.began = now - self.began, now
        self.log_points.add(self.state.step, figures, norm, lr=lr, seconds=seconds, data_wait_s=self.batches.wait_s)
        if now - self.reported > BEAT_S:  # steps have become slow since the last log point
            self._report()

    def at_log_point(self) -> bool:
        """Whether figures are read after this step; the same on all ranks."""
        step = self.state.step
        planned = self.is_validated() or self.saver.is_planned(step) or optim.is_snapshot(self.cfg.optim, step)
        return planned or self.log_points.due(step)

    def read_figures(self) -> dict[str, float]:
        """Return the figures of this step, the same on all ranks. Those of the steps before it, since the last log
        point, are written with them. Raises if any is NaN or infinite."""
        lines, own = self.log_points.read()
        for line, alone in zip(lines, own, strict=True):
            figures = {name: line[name] for name in alone}
            if self.stepper.scaler.is_enabled():  # it skips such a step, and lowers its scale
                del figures["grad_norm"]
            self.watcher.refuse_nonfinite(figures, int(line["step"]) - 1, line["lr"], alone)
        self.record.add(lines[:-1])
        return {name: value for name, value in lines[-1].items() if name != "step"}

    def is_validated(self) -> bool:
        return self.state.step == self.cfg.optim.steps or self.state.step % self.cfg.optim.validate_every == 0

    def validate(self, figures: dict[str, float]) -> dict[str, float]:
        """Validate, and note whether it is the best so far. Returns the figures of the validation. Raises Preempted if
        a stop was requested meanwhile: `figures` are saved, and the next attempt validates."""
        began, state, step = time.perf_counter(), self.state, self.state.step
        with self.average.applied(self.network), self.new_statistics():
            names = [name for name in figures if name not in TIMES]
            with self.stepper.precision:
                means = self.validator(self.network, self.objective, names, self.ctx)
            if means is not None:
                val_figures = {f"val_{name}": value for name, value in means.items()}
                rate = optim.rate(self.cfg.optim, self.peak_lr, step)
                self.watcher.refuse_nonfinite(val_figures, step, rate)
                self.watcher.validated(step, means, state.best, self.network, self.validator)
                best = state.best.after(step, means, state.copy_of_parameters, self.cfg.optim.choose_by)
        if means is None:  # outside of `applied`: the parameters are saved, not their average
            self.watcher.after(step, over=True)
            state.pending = figures
            self.saver.save(step, state.state_dict(self.record.unwritten), state.best.step)
            self._stop()
        trainable.train(self.stepper.model)
        validation_s = time.perf_counter() - began
        self.began += validation_s
        state.best = best.ending(self._why_it_ends(best))
        log.info("step %d: loss %.3f, in validation %.3f", step, figures["loss"], means["loss"])
        return val_figures | {"validation_s": validation_s}

    @contextmanager
    def new_statistics(self) -> Iterator[None]:
        """Estimate the statistics of batch norms anew, the same on all ranks, for what is done within the context."""
        ddp.same_statistics(self.network)

        def forward() -> None:
            # To compile for norms alone in training mode would take longer than all of these batches
            eager = torch.compiler.set_stance("force_eager") if self.cfg.compute.compile else nullcontext()
            with eager, self.stepper.precision:
                for batch in self.batches.for_statistics():
                    self.ctx.beat()
                    self.objective(self.network, batch)

        with optim.estimated_statistics(self.network, forward) as changed:
            if changed:
                ddp.same_statistics(self.network)
            yield

    def save_snapshot(self, figures: dict[str, float]) -> None:
        """Write the parameters of this step to a separate file, if it is one of `optim.snapshots`."""
        step = self.state.step
        if not optim.is_snapshot(self.cfg.optim, step):
            return
        with self.new_statistics():
            parameters = lora.merged(whole(self.state.copy_of_parameters()), self.cfg.trainable.alpha)
        trainable.train(self.stepper.model)
        # The figures of an averaged model are not those of these parameters
        validation = {} if self.average.kept else validation_figures(figures)
        snapshot = {"step": step, "parameters": parameters, "validation": validation}
        self._save_model(f"snapshot-{step:08d}.pt", snapshot)

    def write(self, figures: dict[str, float]) -> None:
        self.record.write(self.state.step, figures)
        self._report(loss=figures["loss"])

    def save_or_stop(self) -> None:
        """Save a checkpoint if one is due, at the end, or before a stop, which raises Preempted."""
        state = self.state
        last = state.step == self.cfg.optim.steps or bool(state.best.ended)
        stop, due = ddp.agree(self.ctx.should_stop() or self.ctx.pauses_after(state.step), self.saver.due(state.step))
        self.watcher.after(state.step, over=last or stop)
        if last or stop or due:
            with self.ctx.phase("save"):
                self.record.flush(wait=last)
                contents = state.state_dict(self.record.unwritten)
                self.saver.save(state.step, contents, state.best.step, last, later=("optimizer", "average", "best"))
        if stop and not last:
            self._stop()

    def finish(self) -> dict[str, object]:
        """Write model.pt. Returns the metrics of the run."""
        best = self.state.best
        self.close({"step": best.step, **best.validation})
        if self.ctx.world.is_first:
            for remark in doctor.remarks(records.metrics(self.ctx.run), len(self.spec.class_values)):
                log.warning("%s", remark)
        parameters = lora.merged(whole(best.parameters), self.cfg.trainable.alpha)
        self._save_model("model.pt", {"step": best.step, "validation": best.validation, "parameters": parameters})
        ddp.barrier()
        ddp.stop()
        metrics = {"steps": self.state.step, "best_step": best.step, "parameters": self.n_parameters}
        best_figures = {f"val_{name}": value for name, value in best.validation.items()}
        return metrics | best_figures | ({"ended_early": best.ended} if best.ended else {})

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def _unfreeze(self, step: int) -> None:
        trainable.unfreeze(self.network, self.first_steps, step)
        self.stepper.trained = optim.trainable_parameters(self.state.optimizer)
        if self.stepper.graph is not None:
            self.stepper.graph.forget()
        trainable.train(self.stepper.model)
        log.info("step %d: %d tensors are trained from here on", step, len(self.stepper.trained))

    def _why_it_ends(self, best: Best) -> str:
        """Return why training ends after this validation, before its last step; "" if it continues. The same on all
        ranks."""
        if self.cfg.optim.patience and best.misses >= self.cfg.optim.patience:
            return f"no better validation {self.cfg.optim.choose_by} in {best.misses} validations"
        step, halving = self.state.step, self.cfg.optim.halving
        number = successive_halving.rung(halving, step) if halving else None
        if number is None:
            return ""
        loss = best.validation["loss"]
        goes_on = not self.ctx.world.is_first or successive_halving.goes_on(self.cfg, number, loss, self.ctx)
        return f"behind others at step {step}" if ddp.any_rank(not goes_on) else ""

    def _train_one(self) -> lr_finder.TrainOne:
        """Return a step for the range test of the learning rate, which restores what it changes."""
        trainable.train(self.stepper.model)
        upcoming = self.batches.at(0)

        def train_one(lr: float, number: int) -> float:
            self._seed_dropout(number)
            loss = self.stepper.backward(next(upcoming), lr, partial(self._seed_dropout, number))["loss"]
            self.stepper.clip_grad_norm()
            self.stepper.step()
            for act in self.after_steps:
                act(0.0)
            return float(ddp.total(loss)) / self.ctx.world.size

        return train_one

    def _seed_dropout(self, step: int, portion: int = 0) -> None:
        """Seed dropout from the step and the share of the batch, so that it does not depend on earlier draws."""
        share = self.ctx.world.rank + self.ctx.world.size * portion
        ddp.seed(_seed(self.cfg.seed, NOISE, step, share), self.batches.device)

    def _report(self, **figures: float) -> None:
        self.reported = time.perf_counter()
        self.ctx.progress("train", self.state.step, self.cfg.optim.steps, **figures)

    def batch_of(self, step: int) -> Batch:
        return next(self.batches.at(step, step + 1))

    def _damages(self, step: int) -> list[str]:
        return store.broken(self.data, self.draw.at([step]).recording.tolist())

    def _save_model(self, name: str, contents: dict[str, Any]) -> None:
        if self.ctx.world.is_first:
            contents = {**contents, "preprocessing": setup.preprocessing(self.data)}
            save = partial(model_file.save, self.ctx.out / name, self.cfg, self.spec, contents)
            self.ctx.until_there_is_room(save)

    def _stop(self) -> NoReturn:
        """Raise Preempted once every rank has saved everything."""
        self.close()
        ddp.barrier()
        ddp.stop()
        raise Preempted

    def close(self, final: dict[str, float] | None = None) -> None:
        """`final`: the best figures, if training has ended."""
        self.batches.close()
        self.saver.close()
        self.record.close(final)


def validation_figures(figures: dict[str, float]) -> dict[str, float]:
    """Return the figures of the validation at this step; empty if there was none."""
    return {name.removeprefix("val_"): value for name, value in figures.items() if name.startswith("val_")}


TIMES = ("grad_norm", "lr", "seconds", "data_wait_s", "validation_s")
"""Figures of a training step that a validation does not have."""


def _seed(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0])
