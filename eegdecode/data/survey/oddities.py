"""What is odd about a recording, in words: by itself, and next to the other recordings of its study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eegdecode.data.survey.page_data import PageData, n_brain
from hpc.media import many

MANY_BAD = 0.1  # of the channels
MANY_DROPPED = 0.1  # of the trials
LOUD_MAINS_DB = 30.0
FEWEST_TO_COMPARE = 4  # recordings
FAR = 4.0  # robust standard deviations from the median recording
LEAST_SPREAD = {"loudness": math.log(1.25), "mains": 3.0, "slow": 3.0, "fast": 3.0}
"""Differences that do not count, however alike the others are."""


@dataclass(frozen=True)
class Measures:
    """What recordings are compared by; None where it is not known."""

    n_channels: int = 0
    n_bad: int = 0
    n_trials: int = 0  # that are left
    n_dropped: int = 0
    seconds: float = 0.0
    loudness: float | None = None  # the median over channels
    unit: str = ""
    mains: float | None = None  # dB above the neighbouring frequencies
    mains_hz: int = 0
    slow: float | None = None  # 0.5-2 Hz, dB of 4-12 Hz
    fast: float | None = None  # 30-45 Hz, dB of 4-12 Hz
    bad: tuple[str, ...] = ()
    gap: str = ""


@dataclass(frozen=True)
class Oddities:
    """Sentences, the worst first, and a number to sort by: 0 if nothing is odd."""

    sentences: list[str] = field(default_factory=list)
    score: float = 0.0


def measures(data: PageData | None) -> Measures:
    """The measures of the signal as it came, of its most frequent kind of channel."""
    if data is None:
        return Measures()
    decisions = data.get("decisions", {})
    kinds: Mapping[str, Any] = data.get("before", {}).get("kinds", {})
    main: Mapping[str, Any] = next(iter(kinds.values()), {})
    bad = tuple(decisions.get("bad_channels", {}))
    loud = [value for name, value in main.get("loudness", {}).items() if value > 0 and name not in bad]
    ratios = main.get("ratios", {})
    mains = {hz: ratios[f"mains_{hz}_db"] for hz in (50, 60) if f"mains_{hz}_db" in ratios}
    mains_hz = max(mains, key=lambda hz: mains[hz], default=0)
    trials = data.get("trials", {})
    return Measures(
        n_channels=n_brain(data),
        n_bad=len(bad),
        n_trials=trials.get("n", 0),
        n_dropped=decisions.get("counts", {}).get("dropped_trials", 0),
        seconds=data.get("seconds", 0.0),
        loudness=float(np.median(loud)) if loud else None,
        unit=main.get("unit", ""),
        mains=mains.get(mains_hz),
        mains_hz=mains_hz,
        slow=ratios.get("slow_db"),
        fast=ratios.get("fast_db"),
        bad=bad,
        gap=_gap(trials),
    )


def _gap(trials: Mapping[str, Any]) -> str:
    starts = np.sort(np.array(trials.get("start_s", ())))
    between = trials.get("between_s")
    if len(starts) < 8 or len(starts) < trials.get("n", 0) or not between:
        return ""
    steps = np.diff(starts)
    at = int(steps.argmax())
    if steps[at] < 5 * between["median"] or steps[at] < 30:
        return ""
    return f"no trial for {_minutes(steps[at])} from {_minutes(starts[at])} on"


def found(mine: Measures, others: Sequence[Measures]) -> Oddities:
    """What is odd about one of them. `others`: all recordings, this one too."""
    told: list[tuple[float, str]] = []
    if mine.n_channels and mine.n_bad > MANY_BAD * mine.n_channels:
        share = mine.n_bad / mine.n_channels
        told.append((20 * share, f"{mine.n_bad} of {many(mine.n_channels, 'channel')} are bad"))
    if mine.n_dropped and mine.n_dropped > MANY_DROPPED * (mine.n_trials + mine.n_dropped):
        n_before = mine.n_trials + mine.n_dropped
        told.append((10 * mine.n_dropped / n_before, f"{mine.n_dropped} of {many(n_before, 'trial')} are dropped"))
    if mine.gap:
        told.append((1.5, mine.gap))
    told += _next_to(mine, others)
    if mine.mains is not None and mine.mains > LOUD_MAINS_DB and not any("mains" in words for _, words in told):
        told.append(
            ((mine.mains - LOUD_MAINS_DB) / 10, f"the mains ({mine.mains_hz} Hz) stand out by {mine.mains:.0f} dB")
        )
    told.sort(key=lambda each: -each[0])
    return Oddities([words for _, words in told], round(sum(score for score, _ in told), 3))


def _next_to(mine: Measures, others: Sequence[Measures]) -> list[tuple[float, str]]:
    """How it differs from the median recording."""
    told: list[tuple[float, str]] = []
    loud = [math.log(each.loudness) for each in others if each.loudness and each.unit == mine.unit]
    if mine.loudness and len(loud) >= FEWEST_TO_COMPARE:
        z, middle = _far(math.log(mine.loudness), loud, LEAST_SPREAD["loudness"])
        usual = math.exp(middle)
        if abs(z) >= FAR:
            ratio = max(mine.loudness / usual, usual / mine.loudness)
            word = "louder" if z > 0 else "quieter"
            told.append((
                abs(z) / FAR,
                f"{ratio:.1f} times {word} than the median recording "
                f"({mine.loudness:.3g} against {usual:.3g} {mine.unit})",
            ))  # fmt: skip
    for name, words in (
        ("mains", f"mains ({mine.mains_hz} Hz)"),
        ("slow", "slow drifts (0.5–2 Hz)"),
        ("fast", "fast activity (30–45 Hz, as of muscles)"),
    ):
        value = getattr(mine, name)
        known = [other for each in others if (other := getattr(each, name)) is not None]
        if value is None or len(known) < FEWEST_TO_COMPARE:
            continue
        z, middle = _far(value, known, LEAST_SPREAD[name])
        if z >= FAR:
            told.append((z / FAR, f"{words} {value - middle:.0f} dB above the median recording"))
    for attribute, say in (("n_trials", _trials), ("seconds", _minutes)):
        values = [getattr(each, attribute) for each in others if getattr(each, attribute)]
        value = getattr(mine, attribute)
        if len(values) >= FEWEST_TO_COMPARE and value and not 0.6 < value / np.median(values) < 1.7:
            middle = float(np.median(values))
            told.append((abs(math.log(value / middle)), f"{say(value)}, where the median recording has {say(middle)}"))
    return told


def _far(value: float, values: Sequence[float], least: float) -> tuple[float, float]:
    """How many robust standard deviations a value is from the median, and the median."""
    middle = float(np.median(values))
    width = max(1.4826 * float(np.median(np.abs(np.array(values) - middle))), least / 2)
    return (value - middle) / width, middle


def _trials(n: float) -> str:
    return many(round(n), "trial")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.3g} s"
