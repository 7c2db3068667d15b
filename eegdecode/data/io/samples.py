"""Damage that only the samples show: channels that are flat, railed, duplicated or NaN, and impossible units.

One pass in blocks, so memory is bounded for any length.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from eegdecode.data.io.channels.units import SPREAD
from eegdecode.data.io.damage import Defect
from eegdecode.signals import BRAIN, Kind, Sensor, Stream
from hpc.errors import first_of

BLOCK_S = 10.0  # short enough that drift does not count as amplitude
BLOCK_VALUES = 1 << 22
N_FOR_SPREAD = 1024  # samples of a block that its spread and its digest are computed from
RAILED, HALF_RAILED = 0.005, 0.15  # fraction of samples that stay at one outlying extreme; at either extreme


def find_defects(stream: Stream, most: int | None = None) -> tuple[Defect, ...]:
    """Defects in the samples. Fatal are units off by 10^3 or more, and brain channels that are all NaN or all flat.

    `most`: look at no more than so many pieces of 10 s, evenly spread over the recording.
    """
    stats = _BlockStatistics(stream.n_channels)
    stretch = max(2, min(round(BLOCK_S * stream.sfreq), BLOCK_VALUES // stream.n_channels))
    firsts = range(0, stream.n_times, stretch)
    for first in firsts[:: -(-len(firsts) // most) if most else 1]:
        stats.add(stream.read(first, min(first + stretch, stream.n_times)))
    names, kinds = stream.channels, [stream.sensor(name).kind for name in stream.channels]
    brain = np.array([kind in BRAIN for kind in kinds], bool)
    signal = np.array([kind in BRAIN or kind in SPREAD for kind in kinds], bool)
    railed = _railed(stats) & signal
    return tuple(
        defect
        for defects in (
            _not_numbers(names, stats, brain, stats.n),
            _flat(names, stats, signal, brain),
            _railed_defects(names, stats, railed),
            _units(names, kinds, stats, railed),
            _duplicates(names, stats, brain),
        )
        for defect in defects
    )


class _BlockStatistics:
    """Running statistics over the blocks."""

    def __init__(self, n_channels: int) -> None:
        self.n = 0
        self.not_numbers = np.zeros(n_channels, np.int64)
        self.lowest = np.full(n_channels, np.inf)
        self.highest = np.full(n_channels, -np.inf)
        self.n_lowest = np.zeros(n_channels, np.int64)
        self.n_highest = np.zeros(n_channels, np.int64)
        self.centres: list[np.ndarray] = []
        self.spreads: list[np.ndarray] = []
        self.digests = [hashlib.blake2b(digest_size=16) for _ in range(n_channels)]

    def add(self, block: np.ndarray) -> None:
        self.n += len(block)
        if not np.isfinite(block.sum()):
            bad = ~np.isfinite(block)
            self.not_numbers += bad.sum(axis=0)
            # NaN compares with nothing, and so is in none of the figures below
            block = np.where(bad, np.nan, block)
        still = block[1:] == block[:-1]
        # fmin and fmax pass over NaN
        self.n_lowest = _count(self.lowest, self.n_lowest, lowest := np.fmin.reduce(block), block, still, np.less)
        self.n_highest = _count(
            self.highest, self.n_highest, highest := np.fmax.reduce(block), block, still, np.greater
        )
        self.lowest, self.highest = np.fmin(self.lowest, lowest), np.fmax(self.highest, highest)
        some = block[:: max(1, len(block) // N_FOR_SPREAD)]
        for digest, column in zip(self.digests, np.ascontiguousarray(some.T, np.float32), strict=True):
            digest.update(column.tobytes())
        usable = np.isfinite(some).all(axis=0)
        centre = np.full(some.shape[1], np.nan)
        spread = centre.copy()
        centre[usable] = np.median(some[:, usable], axis=0)
        spread[usable] = 1.4826 * np.median(np.abs(some[:, usable] - centre[usable]), axis=0)
        self.centres.append(centre)
        self.spreads.append(spread)

    def typical(self, of: Sequence[np.ndarray]) -> np.ndarray:
        """The median over blocks, per channel; NaN where no block is whole."""
        table = np.array(of)
        typical = np.full(table.shape[1], np.nan)
        some = np.isfinite(table).any(axis=0)
        typical[some] = np.nanmedian(table[:, some], axis=0)
        return typical


def _count(
    before: np.ndarray, n: np.ndarray, now: np.ndarray, block: np.ndarray, still: np.ndarray, beyond: np.ufunc
) -> np.ndarray:
    """How often a channel repeated its extreme value; counted anew where this block exceeds it."""
    here = (still & (block[1:] == now)).sum(axis=0)
    return np.where(beyond(now, before), here, n + np.where(now == before, here, 0))


def _not_numbers(names: Sequence[str], stats: _BlockStatistics, brain: np.ndarray, n_times: int) -> list[Defect]:
    hit = _named(names, stats.not_numbers > 0)
    if not hit:
        return []
    share = 100 * stats.not_numbers.max() / n_times
    fatal = bool(brain.any() and (stats.not_numbers[brain] == n_times).all())
    text = f"{_list(hit)}: up to {share:.2g} % of the samples are not numbers (NaN or infinite)"
    return [Defect("not numbers", text + (", in every brain channel: export it again" if fatal else ""), hit, fatal)]


def _flat(names: Sequence[str], stats: _BlockStatistics, signal: np.ndarray, brain: np.ndarray) -> list[Defect]:
    flat = signal & (stats.lowest == stats.highest)
    hit = _named(names, flat)
    if not hit:
        return []
    fatal = bool(brain.any() and flat[brain].all())
    text = f"{_list(hit)}: flat, the same value throughout"
    return [Defect("flat", text + (", all of them: nothing was recorded" if fatal else ""), hit, fatal)]


def _railed(stats: _BlockStatistics) -> np.ndarray:
    centre, spread = stats.typical(stats.centres), stats.typical(stats.spreads)
    railed = stats.n_lowest + stats.n_highest > HALF_RAILED * stats.n
    for n, extreme in ((stats.n_lowest, stats.lowest), (stats.n_highest, stats.highest)):
        # A coarsely quantised signal is often at its extremes without being clipped there
        with np.errstate(invalid="ignore"):
            railed |= (n > RAILED * stats.n) & (np.abs(extreme - centre) > 2 * spread)
    return railed & (stats.lowest < stats.highest)


def _railed_defects(names: Sequence[str], stats: _BlockStatistics, railed: np.ndarray) -> list[Defect]:
    hit = _named(names, railed)
    if not hit:
        return []
    share = 100 * (stats.n_lowest + stats.n_highest)[railed].max() / stats.n
    return [
        Defect(
            "railed",
            f"{_list(hit)}: at the limits of the amplifier for up to {share:.2g} % of the time",
            hit,
        )
    ]


def _units(names: Sequence[str], kinds: Sequence[Kind], stats: _BlockStatistics, railed: np.ndarray) -> list[Defect]:
    spread = stats.typical(stats.spreads)
    defects = []
    for kind, (low, high) in SPREAD.items():
        of_kind = np.array([each == kind for each in kinds], bool)
        mine = of_kind & (spread > 0) & ~railed
        # When most are unplugged, the rest allows no conclusion
        if not mine.any() or mine.sum() < 0.5 * of_kind.sum():
            continue
        typical = float(np.median(spread[mine]))
        factors = [f for f in (1e3, 1e6, 1e9, 1e12, 1e15, 1e-3, 1e-6) if low <= typical / f <= high]
        if low <= typical <= high or not factors:
            continue
        hit, unit = _named(names, mine), Sensor(kind).unit
        power = round(math.log10(factors[0]))
        side = f"10^{power} times too large" if power > 0 else f"10^{-power} times too small"
        text = (
            f"{_list(hit)}: {kind} spreads by {typical:.2g} {unit} where {low:g} to {high:g} {unit} is plausible, so "
            f"it seems {side}: correct the unit in the file or in channels.tsv, or say the right one with units, as "
            'units={"*": mV}'
        )
        defects.append(Defect("units", text, hit, fatal=kind in BRAIN))
    return defects


def _duplicates(names: Sequence[str], stats: _BlockStatistics, brain: np.ndarray) -> list[Defect]:
    groups: dict[bytes, list[str]] = {}
    for name, digest, is_brain, moves in zip(names, stats.digests, brain, stats.lowest < stats.highest, strict=True):
        if is_brain and moves:
            groups.setdefault(digest.digest(), []).append(name)
    return [
        Defect("duplicate", f"{_list(group)}: the same samples under {len(group)} names", tuple(group))
        for group in groups.values()
        if len(group) > 1
    ]


def _named(names: Sequence[str], which: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, yes in zip(names, which, strict=True) if yes)


def _list(names: Sequence[str]) -> str:
    return first_of(names, 8)
