"""Measure the latency of a causal model fed chunk by chunk: `python -m hpc.launch stream model=train-x chunk=8`

The stored signals of the test set are fed trial after trial, in chunks of so many samples. Measured are the time to
compute a chunk, the latency of its outputs if chunks arrive in real time, and whether outputs equal those of the whole
trial at once. The preprocessing is not streamed: its filters look ahead, and the page says how far.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from eegdecode import plots
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.config import Stream as Cfg
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.report import sections
from eegdecode.models import MODELS
from eegdecode.models.parts.streaming import Stream
from eegdecode.page import page
from eegdecode.plots import Line
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.training import model_file, validator
from eegdecode.training.model_file import Trained
from hpc.media import many
from hpc.rank import ddp
from hpc.rank.context import Context, Preempted
from hpc.runs import products
from hpc.runs.rundir import RunDir

SAME = 1e-4
"""Outputs that differ by so much at most from those decoded at once are called equal."""
WARM_UP = 20
"""Chunks that are fed before measuring: the first calls are slow."""


@dataclass(frozen=True)
class Timing:
    """What was measured. Times in ms.

    Parameters
    ----------
    compute_median, compute_p95, compute_worst
        Computing time of a chunk.
    wait_worst
        How long a sample waits at most until its chunk and its token are complete.
    late_share
        The share of chunks whose outputs were not ready when the next chunk arrived.
    delay_p95, delay_worst
        The latency from a sample that waits so long to the first output that depends on it: its wait, unfinished
        earlier chunks, and the computing.
    ahead
        How far the preprocessing looked ahead; a live signal would be that much later, or filtered otherwise.
    """

    chunk: int
    samples: int
    chunk_ms: float
    n_chunks: int
    seconds: float
    compute_median: float
    compute_p95: float
    compute_worst: float
    wait_worst: float
    late_share: float
    delay_p95: float
    delay_worst: float
    ahead: float
    difference: float

    @property
    def is_equal(self) -> bool:
        return self.difference <= SAME

    @property
    def verdict(self) -> str:
        same = "as at once" if self.is_equal else "NOT as at once"
        pace = "keeps up" if self.late_share == 0 else "is late" if self.late_share > 0.5 else "mostly keeps up"
        # It keeps up with the signal; but live, this signal itself would arrive later
        ahead = f", with signals whose preprocessing looked {self.ahead / 1e3:.2f} s ahead" if self.ahead > 0 else ""
        return f"decodes {same}, {pace}{ahead}"


def run(cfg: Cfg, ctx: Context) -> dict[str, object]:
    """Leave stream.html and stream.json."""
    if not ctx.world.is_first:
        return {}
    trained = model_file.load(ctx.input(cfg.model))
    refuse_other_than_causal(trained)
    data, parts = predict.open_data(trained, ctx)
    device = ddp.device(ctx)
    network: Any = trained.network().to(device)
    trials = _windows(trained, parts.test, data, network.samples, cfg.most_s)
    warm_up(network, cfg.chunk, device)
    seconds_of: list[np.ndarray] = []
    differences: list[float] = []
    for done, signal in enumerate(trials):
        ctx.progress("stream", done, len(trials))
        seconds, difference = follow(network, signal, cfg.chunk, device, ctx)
        seconds_of.append(seconds)
        differences.append(difference)
    ways = predict.preprocessed(data)
    timing = summarize(
        trained.spec.sfreq, network.samples, cfg.chunk, seconds_of, float(np.max(differences)), ahead_s(ways)
    )
    whole = dict.fromkeys(step.name for _, chain in ways for step in chain if chains.needs_whole(step))
    text = render(
        RunDir(ctx.out.resolve().parent), trained, timing, np.concatenate(seconds_of) * 1e3, device, ", ".join(whole)
    )
    products.write_json(
        ctx.out / "stream.json", {"verdict": timing.verdict, "equal": timing.is_equal, **asdict(timing)}
    )
    products.write_text(ctx.out / "stream.html", text)
    return {
        "verdict": timing.verdict,
        "difference": timing.difference,
        "late_share": timing.late_share,
        "compute_median_ms": timing.compute_median,
        "compute_p95_ms": timing.compute_p95,
        "compute_worst_ms": timing.compute_worst,
        "delay_p95_ms": timing.delay_p95,
        "look_ahead_ms": timing.ahead,
        "page": "stream.html",
    }


def refuse_other_than_causal(trained: Trained) -> None:
    knobs = trained.model
    if getattr(knobs, "causal", False):
        return
    can = [name for name, kind in MODELS.items() if "causal" in {field.name for field in fields(kind)}]
    which = f"{knobs.name} with causal=false" if knobs.name in can else knobs.name
    raise ValueError(
        f"{trained.run.name} is a {which}, which reads later samples, so it cannot stream: "
        f"train model={' or '.join(can)} with model.causal=true"
    )


def _windows(trained: Trained, part: Sequence[Any], data: Store, samples: int, most_s: float) -> list[torch.Tensor]:
    """The windows of the test set as evaluate decodes them, one by one, [1, time, channel], up to `most_s` in all."""
    test_set = validator.Validator(trained.train(), part, data, trained.spec, trained.network())
    windows: list[torch.Tensor] = []
    left = math.ceil(most_s * trained.spec.sfreq)
    for number in range(len(test_set.batches)):
        for window in test_set.batch(number, torch.device("cpu")).signal:
            if left < samples:
                return windows
            windows.append(window[None, :left])
            left -= windows[-1].shape[1]
    return windows


def warm_up(network: Any, chunk: int, device: torch.device) -> None:
    stream = Stream(network)
    for _ in range(WARM_UP):
        stream.feed(torch.zeros(1, chunk, network.spec.n_channels, device=device)).cpu()


def follow(
    network: Any, signal: torch.Tensor, chunk: int, device: torch.device, ctx: Context
) -> tuple[np.ndarray, float]:
    """The seconds that each chunk of a trial took, from host memory to host memory; and the largest difference of the
    outputs to those of the whole trial at once."""
    stream = Stream(network)
    outputs, seconds = [], []
    for part in signal.split(chunk, dim=1):
        if ctx.should_stop():
            raise Preempted
        began = time.perf_counter()
        outputs.append(stream.feed(part.to(device)).cpu())
        seconds.append(time.perf_counter() - began)
    with torch.no_grad():
        at_once = network(signal.to(device), torch.zeros(1, dtype=torch.int64, device=device)).cpu()
    streamed = torch.cat(outputs, dim=1)[:, : at_once.shape[1]] if network.spec.is_sequence else outputs[-1]
    return np.array(seconds), float((streamed - at_once).abs().max())


def summarize(
    sfreq: float, samples: int, chunk: int, seconds_of: Sequence[np.ndarray], difference: float, ahead: float
) -> Timing:
    """`seconds_of`: the seconds of each chunk, by trial. `samples`: of a token."""
    every = chunk / sfreq
    lag = np.concatenate([lags(seconds, every) for seconds in seconds_of])
    seconds, longest = np.concatenate(seconds_of), float(wait(samples, chunk).max()) / sfreq
    median, p95, worst = (1e3 * float(np.quantile(seconds, q)) for q in (0.5, 0.95, 1.0))
    return Timing(
        chunk=chunk,
        samples=samples,
        chunk_ms=1e3 * every,
        n_chunks=len(seconds),
        seconds=len(seconds) * every,
        compute_median=median,
        compute_p95=p95,
        compute_worst=worst,
        wait_worst=1e3 * longest,
        late_share=float((lag > every).mean()),
        delay_p95=1e3 * (longest + float(np.quantile(lag, 0.95))),
        delay_worst=1e3 * (longest + float(lag.max())),
        ahead=1e3 * ahead,
        difference=difference,
    )


def lags(seconds: np.ndarray, every_s: float) -> np.ndarray:
    """The time from the arrival of each chunk to its outputs, if a chunk arrives every `every_s` and waits for those
    before it."""
    delays, free = np.empty(len(seconds)), 0.0
    for index, takes in enumerate(seconds):
        there = index * every_s
        free = max(there, free) + takes
        delays[index] = free - there
    return delays


def wait(samples: int, chunk: int) -> np.ndarray:
    """How many samples each sample waits until its token is complete, and the chunk that completes it."""
    number = np.arange(math.lcm(samples, chunk))
    whole = (number // samples + 1) * samples
    return -(-whole // chunk) * chunk - (number + 1)


def ahead_s(ways: Sequence[tuple[float, Sequence[StepConfig]]]) -> float:
    """How far the filters and the resampling of the preprocessing look ahead; of several chains, the farthest."""
    return max((chains.ahead_s(chain, sfreq) for sfreq, chain in ways), default=0.0)


def render(run: RunDir, trained: Trained, timing: Timing, took_ms: np.ndarray, device: torch.device, whole: str) -> str:
    """The page. `whole`: the steps of the preprocessing that need a whole recording."""
    shares = np.linspace(0, 100, 200)
    curve = Line(shares, np.percentile(took_ms, shares * 0.99), "decoded")
    label = (
        f"Computing time of a chunk in ms, from the fastest to the slowest: the median is {timing.compute_median:.2f}."
    )
    runs = [*sections.lineage(trained.run), run]
    return page(
        "evaluation/live",
        run=run.name,
        target=trained.target,
        timing=timing,
        place=_place(device),
        same=f"{SAME:g}",
        warm_up=WARM_UP,
        chart=plots.lines([curve], label, "% of chunks take less"),
        whole=whole,
        made_up=sections.made_up(runs),
        capsule=sections.capsule(runs, [trained]),
    )


def _place(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU, {many(torch.get_num_threads(), 'thread')}"
