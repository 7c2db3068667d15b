"""A causal model fed as an amplifier would: `python -m hpc.launch stream model=train-x chunk=8`

What comes is the test part as it is stored, trial after trial, in chunks of so many samples. Said is how long a chunk
takes, how late its outputs are where chunks come in real time, and whether the same is decoded as from the whole trial.
The preprocessing is not streamed: its filters look ahead, and the page says how far.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from html import escape
from typing import Any

import numpy as np
import torch

from eegdecode import page, plots
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.config import Stream as Cfg
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.report import sections
from eegdecode.evaluation.report.sections import many
from eegdecode.models import MODELS
from eegdecode.models.parts.streaming import Stream
from eegdecode.plots import Line
from eegdecode.preprocessing import designs, fft
from eegdecode.preprocessing.config import Bandpass, Notch, Resample, Step
from eegdecode.preprocessing.steps import OF_THE_WHOLE
from eegdecode.training import model_file, validator
from eegdecode.training.model_file import Trained
from hpc.rank import ddp
from hpc.rank.context import Context, Preempted
from hpc.runs.rundir import RunDir, atomic_write, write_json

SAME = 1e-4
"""The most that an output may differ from the one decoded at once, to be called equal."""
WARM_UP = 20
"""Chunks that are fed before time is taken: the first calls of anything are slow."""


@dataclass(frozen=True)
class Live:
    """What was found. Times in ms.

    Parameters
    ----------
    compute_median, compute_p95, compute_worst
        From a chunk to its outputs.
    wait_worst
        How long a sample waits at most until its chunk, and the token it belongs to, are whole.
    late_share
        Of the chunks: those whose outputs were not there when the next chunk came.
    delay_p95, delay_worst
        From a sample that waits so long to the first output that has heard it: also the chunks before, and computing.
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
        # It keeps up with what comes; but what was fed here would itself have come later
        ahead = f", with signals whose preprocessing looked {self.ahead / 1e3:.2f} s ahead" if self.ahead > 0 else ""
        return f"decodes {same}, {pace}{ahead}"


def run(cfg: Cfg, ctx: Context) -> dict[str, object]:
    """Leave stream.html and stream.json."""
    if not ctx.world.is_first:
        return {}
    trained = model_file.load(ctx.input(cfg.model))
    refuse_other_than_causal(trained)
    data, parts = predict.open_data(trained, ctx)
    where = ddp.device(ctx)
    network: Any = trained.network().to(where)
    trials = _windows(trained, parts.test, data, network.samples, cfg.most_s)
    warm_up(network, cfg.chunk, where)
    took: list[np.ndarray] = []
    away: list[float] = []
    for done, signal in enumerate(trials):
        ctx.progress("stream", done, len(trials))
        seconds, difference = follow(network, signal, cfg.chunk, where, ctx)
        took.append(seconds)
        away.append(difference)
    ways = predict.preprocessed(data)
    found = summed(trained.spec.sfreq, network.samples, cfg.chunk, took, float(np.max(away)), ahead_s(ways))
    whole = dict.fromkeys(step.name for _, chain in ways for step in chain if isinstance(step, OF_THE_WHOLE))
    text = render(RunDir(ctx.out.resolve().parent), trained, found, np.concatenate(took) * 1e3, where, ", ".join(whole))
    write_json(ctx.out / "stream.json", {"verdict": found.verdict, "equal": found.is_equal, **asdict(found)})
    atomic_write(ctx.out / "stream.html", lambda file: file.write(text.encode()))
    return {
        "verdict": found.verdict,
        "difference": found.difference,
        "late_share": found.late_share,
        "compute_median_ms": found.compute_median,
        "compute_p95_ms": found.compute_p95,
        "compute_worst_ms": found.compute_worst,
        "delay_p95_ms": found.delay_p95,
        "look_ahead_ms": found.ahead,
        "page": "stream.html",
    }


def refuse_other_than_causal(trained: Trained) -> None:
    knobs = trained.model
    if getattr(knobs, "causal", False):
        return
    can = [name for name, kind in MODELS.items() if "causal" in {field.name for field in fields(kind)}]
    which = f"{knobs.name} with causal=false" if knobs.name in can else knobs.name
    raise ValueError(
        f"{trained.run.name} is a {which}, which hears of later samples, so it cannot stream: "
        f"train model={' or '.join(can)} with model.causal=true"
    )


def _windows(trained: Trained, part: Sequence[Any], data: Store, samples: int, most_s: float) -> list[torch.Tensor]:
    """The windows of the test part as it is judged, one by one, [1, time, channel], up to so many seconds in all."""
    judged = validator.Validator(trained.train(), part, data, trained.spec, trained.network())
    found: list[torch.Tensor] = []
    left = math.ceil(most_s * trained.spec.sfreq)
    for number in range(len(judged.batches)):
        for window in judged.batch(number, torch.device("cpu")).signal:
            if left < samples:
                return found
            found.append(window[None, :left])
            left -= found[-1].shape[1]
    return found


def warm_up(network: Any, chunk: int, where: torch.device) -> None:
    stream = Stream(network)
    for _ in range(WARM_UP):
        stream.feed(torch.zeros(1, chunk, network.spec.n_channels, device=where)).cpu()


def follow(
    network: Any, signal: torch.Tensor, chunk: int, where: torch.device, ctx: Context
) -> tuple[np.ndarray, float]:
    """Seconds that each chunk of a trial took, from the memory of this machine to there; and by how much the outputs
    differ at most from those of the whole trial at once."""
    stream = Stream(network)
    outputs, took = [], []
    for part in signal.split(chunk, dim=1):
        if ctx.should_stop():
            raise Preempted
        began = time.perf_counter()
        outputs.append(stream.feed(part.to(where)).cpu())
        took.append(time.perf_counter() - began)
    with torch.no_grad():
        at_once = network(signal.to(where), torch.zeros(1, dtype=torch.int64, device=where)).cpu()
    said = torch.cat(outputs, dim=1)[:, : at_once.shape[1]] if network.spec.is_sequence else outputs[-1]
    return np.array(took), float((said - at_once).abs().max())


def summed(sfreq: float, samples: int, chunk: int, took: Sequence[np.ndarray], difference: float, ahead: float) -> Live:
    """`took`: the seconds of each chunk, by trial. `samples`: of a token."""
    every = chunk / sfreq
    lag = np.concatenate([lags(seconds, every) for seconds in took])
    seconds, longest = np.concatenate(took), float(wait(samples, chunk).max()) / sfreq
    median, p95, worst = (1e3 * float(np.quantile(seconds, q)) for q in (0.5, 0.95, 1.0))
    return Live(
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
    """From when each chunk is there until its outputs are, where a chunk comes every so often and has to wait for those
    before it."""
    found, free = np.empty(len(seconds)), 0.0
    for index, takes in enumerate(seconds):
        there = index * every_s
        free = max(there, free) + takes
        found[index] = free - there
    return found


def wait(samples: int, chunk: int) -> np.ndarray:
    """For how many samples each sample waits until its token is whole, and the chunk in which it became so."""
    number = np.arange(math.lcm(samples, chunk))
    whole = (number // samples + 1) * samples
    return -(-whole // chunk) * chunk - (number + 1)


def ahead_s(ways: Sequence[tuple[float, Sequence[Step]]]) -> float:
    """How far the filters of the preprocessing look ahead, and the resampling; of several ways, the farthest."""
    farthest = 0.0
    for sfreq, chain in ways:
        reach_s = 0.0
        for step in chain:
            if isinstance(step, Notch | Bandpass):
                reach_s += designs.design(step, sfreq).reach / sfreq
            elif isinstance(step, Resample):
                ratio = Fraction(step.sfreq / sfreq).limit_denominator(1000)
                reach_s += fft.Polyphase(ratio.numerator, ratio.denominator).reach / sfreq if ratio != 1 else 0.0
                sfreq = step.sfreq
        farthest = max(farthest, reach_s)
    return farthest


def render(run: RunDir, trained: Trained, found: Live, took_ms: np.ndarray, where: torch.device, whole: str) -> str:
    """The page. `whole`: the steps of the preprocessing that knew all of a recording."""
    title = f"Decoding the {trained.target} as it comes"
    tokens = f", {many(found.samples, 'sample')} of it make a token" if found.samples > 1 else ""
    said = (
        f"<strong>{escape(found.verdict.capitalize())}.</strong> {many(found.n_chunks, 'chunk')} of "
        f"{many(found.chunk, 'sample')} ({found.chunk_ms:.3g} ms) were decoded one by one on {escape(_place(where))}, "
        f"{found.seconds:.0f} s of signal{tokens}. An output differs from the one decoded at once by "
        f"{found.difference:.1g} at most; up to {SAME:g} it is called equal."
    )
    cards = [
        (
            "Computing",
            f"{found.compute_median:.2f} ms",
            f"a chunk, the median; 95 % take at most {found.compute_p95:.2f} ms",
        ),
        ("Worst", f"{found.compute_worst:.1f} ms", "the slowest chunk"),
        ("Too late", f"{100 * found.late_share:.2g} %", "of the chunks were not done when the next one came"),
        (
            "Delay",
            f"{found.delay_p95:.3g} ms",
            f"from a sample to what hears it, in 95 of 100; {found.delay_worst:.3g} at most",
        ),
    ]
    drawn = "\n".join(
        f'<div><dt>{name}</dt><dd><div class="value">{value}</div><div class="note">{escape(what)}</div></dd></div>'
        for name, value, what in cards
    )
    shares = np.linspace(0, 100, 200)
    curve = Line(shares, np.percentile(took_ms, shares * 0.99), "decoded")
    label = f"Milliseconds that a chunk takes, from the quickest to the slowest: half take {found.compute_median:.2f}."
    chart = (
        f"<h3>How long a chunk takes</h3>\n<figure>{plots.lines([curve], label, '% of chunks take less')}"
        f"<figcaption>{label} The slowest of a hundred are not drawn.</figcaption></figure>"
    )
    known = f" These steps knew the whole recording beside that: {escape(whole)}." if whole else ""
    honest = (
        "<ul><li>Fed were the signals as preprocess has stored them. Its filters have no delay because they look "
        f"{found.ahead / 1e3:.2f} s ahead. Live, these signals would come so much later; or causal filters would make "
        f"others, on which a model is to be trained.{known}</li>\n"
        f"<li>The model hears of no later sample. A sample waits up to {found.wait_worst:.3g} ms for its chunk and "
        "its token to be whole. The delay is that wait, what is left to do of earlier chunks, and the computing. What "
        "amplifier and network need comes on top.</li>\n"
        "<li>The computing is from a chunk in the memory of this machine to its outputs there, after "
        f"{WARM_UP} chunks to warm up.</li></ul>"
    )
    runs = [*sections.lineage(trained.run), run]
    blocks = [
        f'<header><p class="eyebrow">{escape(run.name)}</p>\n<h1>{escape(title)}</h1>',
        f'<p class="verdict">{said}</p>{sections.made_up(runs)}</header>',
        page.section("How fast", f'<dl class="cards">\n{drawn}\n</dl>{chart}'),
        page.section("What was streamed", honest),
        page.section("How this came about", sections.capsule(runs, [trained])),
    ]
    return page.page(f"{title}: {found.verdict}", blocks)


def _place(where: torch.device) -> str:
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"the CPU, {many(torch.get_num_threads(), 'thread')}"
