"""Audit the data before training for what inflates a decoder's results: `python -m hpc.launch audit data=…`

Copies, leaks, units, sounds among the channels, confounds. Each check reads the stored samples and trials themselves,
not what names and sidecars say.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from eegdecode.data.config import Split
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store, Stored
from eegdecode.evaluation import confounds
from eegdecode.evaluation.config import Audit
from eegdecode.page import page
from hpc.media import many
from hpc.rank.context import Context, Preempted
from hpc.runs import products

log = logging.getLogger(__name__)

What = Literal["copy", "leak", "units", "sound", "order", "damage", "confound"]
SOUND_R = 0.5
"""|r| of a channel, or of its amplitude, with the target at zero lag: brain signals are far below."""
UNITS = 1000.0
"""Channels whose amplitudes differ by this factor are not in one unit."""
CLIPPED = 0.01
"""Share of the samples at the highest or lowest value from which a channel is clipped: its amplifier saturated."""
LOOKED_AT_S = 300.0
"""The samples that are checked of each recording, from its middle."""


@dataclass(frozen=True)
class Finding:
    what: What
    where: str
    sentence: str


def run(cfg: Audit, ctx: Context) -> dict[str, object]:
    """Write audit.json and audit.html; ranks share out the recordings."""
    data = store.open_store(*(ctx.input(name) for name in cfg.data))
    for stored in data.recordings:
        stored.shape_of(cfg.target)  # refuses a target that is not there
    mine = ctx.world.share(range(len(data.recordings)))
    summaries: list[dict[str, object]] = []
    for done, index in enumerate(mine):
        ctx.progress("audit", done, len(mine))
        if ctx.should_stop():
            raise Preempted
        summaries.append({"index": index, **asdict(summarize(data.recordings[index], cfg.target))})
    ctx.progress("audit", len(mine), len(mine))
    by_index = {
        int(each.pop("index")): RecordingSummary.of(each) for of_rank in ctx.gather(summaries) for each in of_rank
    }
    if not ctx.world.is_first:
        return {}
    all_findings = findings(data, [by_index[index] for index in range(len(data.recordings))], cfg.target, cfg.split)
    for finding in all_findings:
        log.warning("%s: %s: %s", finding.what, finding.where, finding.sentence)
    products.write_json(ctx.out / "audit.json", [asdict(finding) for finding in all_findings])
    products.write_text(ctx.out / "audit.html", render(all_findings, data))
    return {"findings": len(all_findings), **Counter(finding.what for finding in all_findings), "page": "audit.html"}


@dataclass(frozen=True)
class RecordingSummary:
    """What is read from the samples of one recording."""

    scale: list[float]  # of each channel, the median size of a sample
    flat: list[str]
    clipped: dict[str, float]  # channel: part of the samples
    sounds: dict[str, float]  # channel: r with the target
    trials: list[str]  # a hash of each trial's samples

    @classmethod
    def of(cls, fields: dict[str, object]) -> "RecordingSummary":
        return cls(**fields)  # type: ignore[arg-type]


def summarize(stored: Stored, target: str) -> RecordingSummary:
    half = round(LOOKED_AT_S * stored.sfreq / 2)
    first, stop = max(0, stored.n_times // 2 - half), min(stored.n_times, stored.n_times // 2 + half)
    x = stored.read(first, stop).astype(np.float64)
    spread = x.std(axis=0)
    at_ends = np.maximum((x == x.max(axis=0)).mean(axis=0), (x == x.min(axis=0)).mean(axis=0))
    moving = spread > 0
    sounds: dict[str, float] = {}
    if target and f"targets/{target}" in stored.blocks:
        rate = stored.target_sfreq(target) / stored.sfreq
        y = np.array(stored.target(target)[round(first * rate) : round(stop * rate)]).mean(axis=1)
        sounds = dict(zip(stored.channels, _alike(x, y), strict=True))
    hashes = []
    for trial in stored.trials:
        begin = round(trial.start * stored.sfreq)
        samples = stored.read(begin, begin + round(trial.duration * stored.sfreq))
        hashes.append(hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest())
    return RecordingSummary(
        np.median(np.abs(x - np.median(x, axis=0)), axis=0).tolist(),
        [name for name, moves in zip(stored.channels, moving, strict=True) if not moves],
        {
            n: float(part)
            for n, part, moves in zip(stored.channels, at_ends, moving, strict=True)
            if moves and part > CLIPPED
        },
        {name: float(r) for name, r in sounds.items() if r > SOUND_R},
        hashes,
    )


def _alike(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each channel the larger of |r| of its samples, and of their size, with the target, at the target's times."""
    if len(y) < 2:
        return np.zeros(x.shape[1])
    edges = np.linspace(0, len(x), len(y) + 1).astype(int)
    counts = np.maximum(np.diff(edges), 1)[:, None]
    starts = np.minimum(edges[:-1], len(x) - 1)
    best = np.zeros(x.shape[1])
    for shown in (x, np.abs(x - x.mean(axis=0))):
        means = np.add.reduceat(shown, starts, axis=0) / counts
        means, wave = means - means.mean(axis=0), y - y.mean()
        length = np.linalg.norm(means, axis=0) * np.linalg.norm(wave)
        best = np.maximum(best, np.abs(wave @ means) / np.where(length > 0, length, np.inf))
    return best


def findings(data: Store, summaries: Sequence[RecordingSummary], target: str, split: Split) -> list[Finding]:
    return [
        *_copies(data, summaries),
        *_leaks(data, split),
        *_units(data, summaries),
        *_damages(data, summaries, target),
        *_orders(data),
        *_confounds(data, target),
    ]


def _copies(data: Store, summaries: Sequence[RecordingSummary]) -> Iterator[Finding]:
    """Trials with identical samples, whatever their recordings are called."""
    places: dict[str, list[str]] = defaultdict(list)
    for stored, summary in zip(data.recordings, summaries, strict=True):
        for trial, digest in zip(stored.trials, summary.trials, strict=True):
            places[digest].append(f"{stored.name} at {trial.start:.2f} s")
    pairs: Counter[tuple[str, ...]] = Counter()
    example: dict[tuple[str, ...], list[str]] = {}
    for same in places.values():
        if len(same) > 1:
            names = tuple(sorted({place.rpartition(" at ")[0] for place in same}))
            pairs[names] += 1
            example.setdefault(names, same)
    for names, count in pairs.items():
        yield Finding(
            "copy",
            " and ".join(names),
            f"{count} trials hold the same samples, as {' and '.join(example[names][:2])}: keep one of them",
        )


def _leaks(data: Store, split: Split) -> Iterator[Finding]:
    """Stimuli and subjects on both sides of the split, wanted or not; and what the split itself refuses."""
    try:
        parts = splits.split(split, data.recordings)
    except ValueError as refused:
        yield Finding("leak", f"split by {split.by}", str(refused))
        return
    seen = [*parts.train, *parts.val]
    for what, of in (
        ("stimulus", lambda segment: segment.trial.stimulus),
        ("subject", lambda segment: data.recordings[segment.recording].subject),
    ):
        both = sorted({of(segment) for segment in seen} & {of(segment) for segment in parts.test})
        if both:
            yield Finding(
                "leak",
                f"split by {split.by}",
                f"{len(both)} {what}(s) are in both the training set and the test set: {', '.join(both[:5])}"
                f"{' …' if len(both) > 5 else ''}. Results hold for these, not for new ones",
            )


def _units(data: Store, summaries: Sequence[RecordingSummary]) -> Iterator[Finding]:
    """Recordings, and channels of one kind, whose amplitudes differ from the others by factors that no brain has."""
    sizes = np.array([np.median([size for size in summary.scale if size] or [0.0]) for summary in summaries])
    usual = np.median(sizes[sizes > 0]) if (sizes > 0).any() else 0.0
    for stored, size in zip(data.recordings, sizes, strict=True):
        if size and usual and not usual / UNITS < size < usual * UNITS:
            yield Finding("units", stored.name, f"samples are {size / usual:.1e} times the others': correct its unit")
    for stored, summary in zip(data.recordings, summaries, strict=True):
        own = np.median([size for size in summary.scale if size] or [0.0])
        odd = [
            f"{name} ({size / own:.1e})"
            for name, size in zip(stored.channels, summary.scale, strict=True)
            if size and own and not own / UNITS < size < own * UNITS
        ]
        if odd:
            yield Finding("units", stored.name, f"channels of another unit than the others: {', '.join(odd[:5])}")


def _damages(data: Store, summaries: Sequence[RecordingSummary], target: str) -> Iterator[Finding]:
    for stored, summary in zip(data.recordings, summaries, strict=True):
        if summary.flat:
            yield Finding("damage", stored.name, f"flat: {', '.join(summary.flat[:8])}")
        if summary.clipped:
            clipped = ", ".join(f"{name} ({part:.0%})" for name, part in list(summary.clipped.items())[:8])
            yield Finding("damage", stored.name, f"clipped, samples at the very highest or lowest value: {clipped}")
        for name, r in summary.sounds.items():
            yield Finding(
                "sound",
                stored.name,
                f"channel {name} follows {target} at r {r:.2f} with no delay: that is no brain, leave it out (pick)",
            )


def _orders(data: Store) -> Iterator[Finding]:
    for stored in data.recordings:
        starts = [trial.start for trial in stored.trials]
        if starts != sorted(starts):
            late = next(index for index, (one, other) in enumerate(pairwise(starts), 1) if other < one)
            yield Finding(
                "order",
                stored.name,
                f"trial {late + 1}, at {starts[late]:.2f} s, comes after one at {starts[late - 1]:.2f} s: labels may "
                "belong to other trials, look at the events",
            )


def _confounds(data: Store, target: str) -> Iterator[Finding]:
    """Classes that recording, subject or time in the recording predict, so that a decoder need not look at brains."""
    if not target or f"values/{target}" not in data.recordings[0].blocks:
        return
    for each in confounds.of_labels(data, target):
        yield Finding(
            "confound",
            target,
            f"the {each.what} alone predicts the class in {each.accuracy:.0%} of the trials: split by "
            f"{each.what.split(' ')[-1]}, and compare with a decoder of that alone",
        )


def render(findings: Sequence[Finding], data: Store) -> str:
    counts = f"{many(len(data.recordings), 'recording')} of {many(len(data.subjects), 'subject')}"
    rows = [(finding.what, finding.where, finding.sentence) for finding in findings]
    return page("evaluation/audit", findings=findings, rows=rows, counts=counts)
