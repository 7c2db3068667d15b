"""Evaluate the network on the validation or test set: every window once, the same on any number of ranks."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from eegdecode.data.config import BucketedWindows, EpochWindows, GridWindows, Windows
from eegdecode.data.loading import gather, order, windows
from eegdecode.data.loading.gather import Gathered
from eegdecode.data.loading.windows import Places
from eegdecode.data.split.splits import Segment
from eegdecode.data.store.dataset import Store
from eegdecode.objectives import Batch, Objective
from eegdecode.signals import SignalSpec
from eegdecode.training.config import Train
from hpc.rank import ddp, fsdp
from hpc.rank.context import Context

_VALIDATION = 6  # separates these draws from others of the same seed


class Validator:
    """The windows of a set, in batches.

    Windows with fixed places are those of training. Otherwise they are whole trials, if the network takes any length
    and the objective does not compare windows, or else windows of the training's length, end to end.
    """

    def __init__(self, cfg: Train, part: Sequence[Segment], data: Store, spec: SignalSpec, network: nn.Module) -> None:
        self.cfg, self.data, self.spec = cfg, data, spec
        self.length = cast("int | None", network.n_times)
        alone = self.length is None and not getattr(cfg.objective, "compares_windows", False)
        alone = alone and not cfg.windows.baseline_s  # the baseline of a trial is not that of a window
        self.baseline = windows.n_baseline(cfg.windows, spec.sfreq)
        self.batches = batches(cfg.windows, part, data, alone)
        self.n_windows = sum(len(places.start) for places in self.batches)

    def __call__(
        self, network: nn.Module, objective: Objective, names: Sequence[str], ctx: Context
    ) -> dict[str, float] | None:
        """Return the means over windows of the loss and the other figures, which are `names`; the ranks share the
        batches. None if a rank was asked to stop meanwhile."""
        device = next(network.parameters()).device
        sharded = any(map(fsdp.is_sharded, network.parameters()))
        network.eval()
        sums = dict.fromkeys(names, 0.0)
        stopped = 0.0
        mine = ctx.world.share(range(len(self.batches)))
        if sharded:  # every rank has a part of the network, so all must run it equally often
            mine = [*mine, *[0] * (-(-len(self.batches) // ctx.world.size) - len(mine))]
        with torch.no_grad():
            for turn, number in enumerate(mine):
                if ctx.should_stop():
                    stopped = 1.0
                if stopped and not sharded:
                    break
                ctx.beat()
                batch = self.batch(number, device)
                loss, watched = objective(network, batch)
                if turn * ctx.world.size + ctx.world.rank < len(self.batches):
                    for name, value in {"loss": loss, **watched}.items():
                        sums[name] += value.item() * len(batch.signal)
        *totals, n_stopped = ddp.total(torch.tensor([*sums.values(), stopped], dtype=torch.float64)).tolist()
        if n_stopped:
            return None
        return {name: total / self.n_windows for name, total in zip(sums, totals, strict=True)}

    def names(self, network: nn.Module, objective: Objective) -> list[str]:
        """Return the names of the figures of a batch; the same on every rank, even on one without a batch."""
        network.eval()
        with torch.no_grad():
            _, watched = objective(network, self.batch(0, next(network.parameters()).device))
        return ["loss", *watched]

    def batch(self, number: int, device: torch.device) -> Batch:
        places = self.batches[number]
        gathered = gather.gather(self.data, places, self.cfg.target, self.length, self.baseline)
        signal, target, subject = to_device(gathered, device)
        key = order.key(self.cfg.seed, _VALIDATION, number, torch.arange(len(subject)).numpy())
        return Batch(signal, target, subject, torch.from_numpy(key.astype("int64")).to(device))


def batches(cfg: Windows, part: Sequence[Segment], data: Store, whole_trials: bool) -> list[Places]:
    if not isinstance(cfg, GridWindows | EpochWindows):
        if isinstance(cfg, BucketedWindows) or whole_trials:
            return [windows.whole(segment, data.recordings[segment.recording]) for segment in part]
        cfg = GridWindows(length_s=cfg.length_s, batch=cfg.batch)
    places, _ = windows.cut(cfg, part, data.recordings)
    return [places.take(slice(first, first + cfg.batch)) for first in range(0, len(places.start), cfg.batch)]


def to_device(gathered: Gathered, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return signal, target and subject as tensors on the device."""
    signal, target, subject = (torch.from_numpy(array).to(device) for array in gathered)
    return signal, target, subject


def whole_trial(data: Store, segment: Segment, target: str) -> Gathered:
    """Return a whole trial as one window."""
    return gather.gather(data, windows.whole(segment, data.recordings[segment.recording]), target)
