"""Evaluate the network on the validation or test set: every window once, the same on any number of ranks."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from eegdecode import objectives
from eegdecode.data.config import BucketedWindows, EpochWindows, GridWindows, Windows
from eegdecode.data.loading import gather, order, transfer, windows
from eegdecode.data.loading.gather import Gathered
from eegdecode.data.loading.loader import converted
from eegdecode.data.loading.resident import Resident
from eegdecode.data.loading.windows import Places
from eegdecode.data.split.splits import Segment
from eegdecode.data.store.dataset import Store
from eegdecode.objectives import Batch, Objective, scored_as
from eegdecode.signals import SignalSpec
from eegdecode.training.config import Train
from hpc.config.choices import code_of
from hpc.rank import ddp, fsdp
from hpc.rank.context import Context

_VALIDATION = 6  # separates these draws from others of the same seed


class Validator:
    """The windows of a set, in batches.

    Windows with fixed places are those of training. Otherwise they are whole trials, if the network takes any length
    and the objective does not compare windows, or else windows of the training's length, end to end. `resident`: the
    data, if they lie on the device.
    """

    def __init__(
        self,
        cfg: Train,
        part: Sequence[Segment],
        data: Store,
        spec: SignalSpec,
        network: nn.Module,
        resident: Resident | None = None,
    ) -> None:
        self.cfg, self.data, self.spec, self.resident = cfg, data, spec, resident
        self.length = cast("int | None", network.n_times)
        alone = self.length is None and not getattr(cfg.objective, "compares_windows", False)
        alone = alone and not cfg.windows.baseline_s  # the baseline of a trial is not that of a window
        self.baseline = windows.n_baseline(cfg.windows, spec.sfreq)
        self.batches = batches(cfg.windows, part, data, alone)
        sizes = [len(places.start) for places in self.batches]
        self.n_windows, self._first = sum(sizes), np.cumsum([0, *sizes])
        are_classes = scored_as(cfg.objective) == "classes" and bool(spec.class_values)
        self.class_values = spec.class_values if are_classes else ()
        self._planned: dict[int, _Planned] = {}

    def __call__(
        self, network: nn.Module, objective: Objective, names: Sequence[str], ctx: Context
    ) -> dict[str, float] | None:
        """Return the means over windows of the loss and the other figures, which are `names`, and figures of classes;
        the ranks share the batches. None if a rank was asked to stop meanwhile. Values of the device are read once, at
        the end."""
        device = next(network.parameters()).device
        sharded = any(map(fsdp.is_sharded, network.parameters()))
        network.eval()
        recorder, answers = _Recorder(network), _Answers(self.n_windows, len(self.class_values))
        sums = dict.fromkeys(names, torch.zeros((), dtype=torch.float64, device=device))
        stopped = 0.0
        mine = ctx.world.share(range(len(self.batches)))
        if sharded:  # every rank has a part of the network, so all must run it equally often
            mine = [*mine, *[0] * (-(-len(self.batches) // ctx.world.size) - len(mine))]
        with torch.no_grad():
            for turn, batch in enumerate(self._ahead(mine, device)):
                if ctx.should_stop():
                    stopped = 1.0
                if stopped and not sharded:
                    break
                ctx.beat()
                loss, watched = objective(cast(nn.Module, recorder) if self.class_values else network, batch)
                if turn * ctx.world.size + ctx.world.rank < len(self.batches):
                    if self.class_values:
                        answers.add(int(self._first[mine[turn]]), self._outputs(recorder, batch), self._truth(batch))
                    for name, value in {"loss": loss, **watched}.items():
                        sums[name] = sums[name] + value.detach().double() * len(batch.signal)
        own = [*torch.stack(list(sums.values())).tolist(), stopped]
        *totals, n_stopped = ddp.total(torch.tensor(own, dtype=torch.float64)).tolist()
        if n_stopped:
            return None
        means = {name: total / self.n_windows for name, total in zip(sums, totals, strict=True)}
        return means | (answers.figures() if self.class_values else {})

    def _outputs(self, recorder: "_Recorder", batch: Batch) -> torch.Tensor:
        """Return the scores of the classes [window, class]; an objective with a `decode` of its own decodes."""
        if recorder.output is None or hasattr(code_of(self.cfg.objective), "decode"):
            return objectives.decode(self.cfg.objective, recorder.network, batch, self.spec)
        return recorder.output

    def _truth(self, batch: Batch) -> torch.Tensor:
        """Return the class of each window, as a place among all."""
        return (batch.target[:, :1] == objectives.constant(self.class_values, batch.target)).to(torch.int64).argmax(1)

    def names(self, network: nn.Module, objective: Objective) -> list[str]:
        """Return the names of the figures of a batch; the same on every rank, even on one without a batch."""
        network.eval()
        with torch.no_grad():
            _, watched = objective(network, self.batch(0, next(network.parameters()).device))
        return ["loss", *watched]

    def batch(self, number: int, device: torch.device) -> Batch:
        if self.resident is not None and device == self.resident.device:
            return self._resident_batch(self.resident, number)
        return self._copied(number, self._gathered(number), device)

    def _ahead(self, numbers: Sequence[int], device: torch.device) -> Iterator[Batch]:
        """Yield these batches. For a GPU the next one is read while it computes, and the host is at most two ahead."""
        if device.type == "cpu" or self.resident is not None:
            yield from (self.batch(number, device) for number in numbers)
            return
        used: deque[torch.Event] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="validation") as reader:
            coming = deque(reader.submit(self._gathered, number) for number in numbers[:1])
            for turn, number in enumerate(numbers):
                coming.extend(reader.submit(self._gathered, later) for later in numbers[turn + 1 : turn + 2])
                yield self._copied(number, coming.popleft().result(), device)
                used.append(torch.Event(device))
                used[-1].record(torch.accelerator.current_stream(device))
                if len(used) > 2:  # else all batches of a long validation would wait in pinned memory
                    used.popleft().synchronize()

    def _gathered(self, number: int) -> Gathered:
        return gather.gather(self.data, self.batches[number], self.cfg.target, self.length, self.baseline)

    def _copied(self, number: int, gathered: Gathered, device: torch.device) -> Batch:
        arrays = (*gathered, self._keys(number))
        return Batch(*(transfer.to_device(array, device) for array in arrays))

    def _keys(self, number: int) -> np.ndarray:
        rows = np.arange(len(self.batches[number].start))
        return order.key(self.cfg.seed, _VALIDATION, number, rows).astype(np.int64)

    def _resident_batch(self, resident: Resident, number: int) -> Batch:
        if number not in self._planned:
            places = self.batches[number]
            key = transfer.to_device(self._keys(number), resident.device)
            # As `gather` computes it: numpy adds in another order than torch
            means = gather.baselines(self.data, places, self.baseline) if self.baseline else None
            mean = None if means is None else transfer.to_device(means, resident.device)
            length = self.length or int(places.n_times[0])
            self._planned[number] = _Planned(resident.plan(places), length, key, mean)
        plan, length, key, mean = self._planned[number]
        signal, target, recording, subject = resident.windows(plan, length)
        signal = converted(signal, recording, resident.scale, 0, channels_first=False)
        return Batch(signal if mean is None else signal - mean, target, subject, key)


class _Recorder:
    """Stands for the network, and notes its last output."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.output: torch.Tensor | None = None

    def __call__(self, *inputs: Any, **others: Any) -> torch.Tensor:
        self.output = self.network(*inputs, **others)
        return self.output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


MOST_SCORES = 1 << 23
"""Scores of classes that all ranks together hold for AUROC, 64 MB; of a larger set, evenly spaced windows are taken."""


class _Answers:
    """The classes that the windows of a validation are given, counted, and the scores of these for AUROC."""

    def __init__(self, n_windows: int, n_classes: int) -> None:
        self.n_classes, self.every = n_classes, max(1, -(-n_windows * n_classes // MOST_SCORES))
        self.n_windows = -(-n_windows // self.every)
        self.own: list[tuple[np.ndarray, torch.Tensor, torch.Tensor]] = []

    def add(self, first: int, scores: torch.Tensor, truth: torch.Tensor) -> None:
        self.own.append((np.arange(first, first + len(truth)), scores.detach().float(), truth))

    def figures(self) -> dict[str, float]:
        """Return the figures of all ranks: a collective call. Those that there are none of are left out."""
        counts = torch.zeros(self.n_classes, self.n_classes, dtype=torch.float64)
        scored = torch.zeros(self.n_windows, self.n_classes + 1, dtype=torch.float64)
        for places, scores, truth in self.own:
            own = torch.cat([scores, truth[:, None]], dim=1).double().cpu()
            places_of = own[:, -1].long() * self.n_classes + own[:, :-1].argmax(dim=1)
            counts += places_of.bincount(minlength=counts.numel()).reshape(counts.shape)
            rows = np.flatnonzero(places % self.every == 0)
            scored[places[rows] // self.every] = own[rows]
        counts, scored = ddp.total(counts), ddp.total(scored)
        occur = counts.sum(dim=1)
        recall = (counts.diag() / occur.clamp_min(1)).sum() / (occur > 0).sum()
        figures = {
            "balanced_accuracy": float(recall),
            "auroc": mean_auroc(scored[:, -1].numpy(), scored[:, :-1].numpy()),
        }
        figures["most_predicted"] = float(counts.sum(dim=0).max() / counts.sum())
        return {name: value for name, value in figures.items() if np.isfinite(value)}


def mean_auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """From classes [window] and scores [window, class]: the mean over the classes that occur, each against the rest; 1
    is perfect, chance is 0.5. Log probabilities will do, as any monotonic function of a score gives the same."""
    areas = np.array([auroc(scores[:, number], truth == number) for number in range(scores.shape[1])])
    return float(areas[~np.isnan(areas)].mean()) if not np.isnan(areas).all() else float("nan")


def auroc(scores: np.ndarray, is_own: np.ndarray) -> float:
    """The probability that a window of the class has a higher score than one of others, ties counting half, which is
    Mann and Whitney's U over the number of pairs; NaN if there are none of either."""
    n_own = int(is_own.sum())
    pairs = n_own * (len(is_own) - n_own)
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # as scipy's, which a bench of the GPU does without
    return float((ranks[is_own].sum() - n_own * (n_own + 1) / 2) / pairs) if pairs else float("nan")


class _Planned(NamedTuple):
    """What is needed to cut a batch of windows on the device."""

    plan: torch.Tensor
    length: int
    key: torch.Tensor
    mean: torch.Tensor | None  # of the baseline of each window


def batches(cfg: Windows, part: Sequence[Segment], data: Store, whole_trials: bool) -> list[Places]:
    if not isinstance(cfg, GridWindows | EpochWindows):
        if isinstance(cfg, BucketedWindows) or whole_trials:
            return [windows.whole(segment, data.recordings[segment.recording]) for segment in part]
        cfg = GridWindows(length_s=cfg.length_s, batch=cfg.batch)
    places, _ = windows.cut(cfg, part, data.recordings)
    return [places.take(slice(first, first + cfg.batch)) for first in range(0, len(places.start), cfg.batch)]


def whole_trial(data: Store, segment: Segment, target: str) -> Gathered:
    """Return a whole trial as one window."""
    return gather.gather(data, windows.whole(segment, data.recordings[segment.recording]), target)
