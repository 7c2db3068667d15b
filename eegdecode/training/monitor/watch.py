"""Monitor a training: alerts, the batch that gave NaN, a profiler trace, pictures for the trackers."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from eegdecode.objectives import Batch
from eegdecode.training.config import Watch
from eegdecode.training.monitor import alerts, figures
from eegdecode.training.monitor.logger import Record
from eegdecode.training.train_state import Best
from eegdecode.training.validator import Validator
from hpc.rank import fsdp
from hpc.rank.context import Context
from hpc.runs import records
from hpc.runs.rundir import atomic_write

log = logging.getLogger(__name__)


class Watcher:
    """Monitors the steps and validations of one attempt, which begins after `step`. `batch_of` draws the batch of a
    step again; `damages` returns a sentence for each file of its windows whose checksum is wrong."""

    def __init__(
        self,
        cfg: Watch,
        ctx: Context,
        record: Record,
        step: int,
        batch_of: Callable[[int], Batch],
        damages: Callable[[int], list[str]],
    ) -> None:
        self.cfg, self.ctx, self.record, self.batch_of, self.damages = cfg, ctx, record, batch_of, damages
        self.alerts = alerts.Alerts(cfg.alerts, ctx)
        self._began = time.time()
        self._lived_s = sum(line["ended"] - line["started"] for line in records.attempts(ctx.run))
        self._profiler: Any = None
        self._traced_from = step
        if cfg.profile is not None and cfg.profile[0] < step <= cfg.profile[1]:
            log.info("of steps %d to %d, only those from %d on are profiled", *cfg.profile, step)

    def before(self, step: int) -> None:
        """Start the profiler at the start of a step, or resume it after a restart."""
        if self.cfg.profile is None or not self.ctx.world.is_first or self._profiler is not None:
            return
        first, last = self.cfg.profile
        if first <= step <= last:
            self._traced_from = step
            self._profiler = torch.profiler.profile(record_shapes=True)
            self._profiler.start()

    def after(self, step: int, over: bool) -> None:
        """Write the trace, after its last step or if training is `over`. `step`: the number of finished steps."""
        if self._profiler is None or self.cfg.profile is None or not (over or step > self.cfg.profile[1]):
            return
        self._profiler.stop()
        first, last = self._traced_from, step - 1
        path = self.ctx.out / f"trace-{first:06d}-{last:06d}.json"
        self._profiler.export_chrome_trace(str(path))
        table = self._profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)
        atomic_write(path.with_suffix(".txt"), lambda file: file.write(table.encode()))
        log.info("a trace of steps %d to %d is in %s (open it in chrome://tracing)", first, last, path)
        self._profiler = None

    def refuse_nonfinite(
        self, figures: dict[str, float], step: int, lr: float, own: Mapping[str, float] | None = None
    ) -> None:
        """Raise if a figure is NaN or infinite on any rank. A rank whose `own` figure is not finite saves the batch of
        the step, which it draws again."""
        broken = {name: value for name, value in figures.items() if not math.isfinite(value)}
        if not broken:
            return
        batch_note = ""
        if own is not None and not all(math.isfinite(own[name]) for name in broken):
            path = self.ctx.out / f"nonfinite-step-{step:08d}-rank-{self.ctx.world.rank:04d}.pt"
            tensors = {name: value.cpu() for name, value in self.batch_of(step)._asdict().items()}
            atomic_write(path, lambda file: torch.save(tensors, file))
            batch_note = f"; this rank's batch is in {path}"
        nonfinite = " and ".join(f"{name} {value}" for name, value in broken.items())
        self.alerts.say("no number", f"{nonfinite} at step {step}")
        raise FloatingPointError(
            f"{nonfinite} at step {step} (lr {lr:.3g}): lower optim.lr or optim.clip_norm, "
            f"and look for NaN in the data{batch_note}{''.join(f'. {sentence}' for sentence in self.damages(step))}"
        )

    def validated(
        self, step: int, validation: dict[str, float], best: Best, network: nn.Module, validator: Validator
    ) -> None:
        """Send alerts after a validation with these figures; `best` is from before it."""
        cfg, lowest = self.cfg.alerts, best.validation["loss"]
        if math.isfinite(lowest) and validation["loss"] > lowest + (cfg.diverged - 1) * abs(lowest):
            self.alerts.say("diverged", f"validation loss {validation['loss']:.4g} at step {step}, after {lowest:.4g}")
        if cfg.stalled_steps and validation["loss"] >= lowest and step - best.step >= cfg.stalled_steps:
            self.alerts.say("stalled", f"no better validation since step {best.step}, {step - best.step} ago")
        spent_h = (self._lived_s + time.time() - self._began) * self.ctx.world.size / 3600
        if cfg.budget_gpu_h and spent_h > cfg.budget_gpu_h:
            self.alerts.say("budget", f"{spent_h:.1f} GPU-hours spent by step {step}, of {cfg.budget_gpu_h:g}")
        alone = not any(map(fsdp.is_sharded, network.parameters()))
        if self.ctx.world.is_first and alone and (self.cfg.examples or self.cfg.histograms):
            self.record.show(lambda trackers: figures.draw(trackers, self.cfg, step, network, validator))
