"""What independent components are, by rules of our own, and what becomes of each: labels, reasons, decisions.

A component follows an EOG or ECG channel; has spikes (kurtosis); has the rising spectrum of muscles; has a peak at the
mains; or stands on one channel alone. What a person has decided in a table wins.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import signal as dsp
from scipy.stats import kurtosis

from eegdecode.signals import Stream

SLOPE_HZ = (7.0, 45.0)
"""Where a brain's power falls with frequency and a muscle's rises, as in MNE's find_bads_muscle."""
MAINS_HZ = (50.0, 60.0)
MAINS_DB = 15.0  # above its neighbours, a peak at the mains is most of a component
ALONE = 0.9  # of the squared weights of a map: so much on one channel is that channel's own noise
N_STRETCHES, STRETCH_S, FFT_S = 60, 10.0, 2.0
"""Spectra are those of so many stretches, evenly spread over the recording."""
MOST_HZ_KEPT = 60
DECISIONS = ("keep", "drop")


class Limits(Protocol):
    """What the step ica sets."""

    @property
    def follows(self) -> float: ...
    @property
    def kurtosis(self) -> float: ...
    @property
    def muscle_slope(self) -> float: ...


@dataclass(frozen=True)
class Components:
    """`unmixing` [component, channel] of the signal divided by `unit`, and `mixing` back."""

    channels: Sequence[str]
    unmixing: np.ndarray
    mixing: np.ndarray
    unit: np.ndarray

    def map(self, index: int) -> np.ndarray:
        """The weights of the channels in one unit for each kind, the largest 1."""
        weights = self.mixing[:, index]
        return weights / weights[np.abs(weights).argmax()]

    def fingerprint(self, index: int) -> str:
        """Of the map, roughly: equal where the same recording gives the same component again."""
        rough = np.round(self.map(index), 1) + 0.0
        return hashlib.blake2b(rough.astype("<f4").tobytes(), digest_size=4).hexdigest()


@dataclass
class Judged:
    """What is known of one component; the first label counts."""

    index: int
    kurtosis: float
    slope: float | None
    hz: Sequence[float]
    db: Sequence[float]
    labels: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, label: str, reason: str) -> None:
        self.labels.append(label)
        self.reasons.append(reason)


def spectra(copy: Stream, brain: np.ndarray, of: Components) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and the power of each component, [component, frequency]: from whole stretches of the signal."""
    length = min(copy.n_times, max(2, round(STRETCH_S * copy.sfreq)))
    n = max(1, min(N_STRETCHES, copy.n_times // length))
    total: Any = 0.0
    for first in np.linspace(0, copy.n_times - length, n).astype(int).tolist():
        data = copy.read(first, first + length)[:, brain].astype(np.float64) / of.unit
        hz, power = dsp.welch(data @ of.unmixing.T, copy.sfreq, nperseg=min(length, round(FFT_S * copy.sfreq)), axis=0)
        total = total + power.T / n
    return hz, np.asarray(total)


def judged(
    cfg: Limits,
    of: Components,
    sources: np.ndarray,
    watched: Mapping[str, np.ndarray],
    heart: Sequence[str],
    spectra: tuple[np.ndarray, np.ndarray],
) -> list[Judged]:
    """Each component with its labels and their reasons, in own words.

    Parameters
    ----------
    watched
        The samples of the EOG and ECG channels; `heart` names those of ECG.
    """
    hz, power = spectra
    out = []
    for index, (source, peaked) in enumerate(zip(sources.T, kurtosis(sources, axis=0).tolist(), strict=True)):
        slope = _slope(hz, power[index])
        one = Judged(index, peaked, slope, hz.tolist(), (10 * np.log10(power[index] + 1e-30)).tolist())
        for channel, samples in watched.items():
            follows = abs(np.corrcoef(source, samples)[0, 1]) if samples.std() > 0 else 0.0
            if follows >= cfg.follows:
                one.add("ecg" if channel in heart else "eog", f"follows {channel}, r = {follows:.2f}")
        if peaked >= cfg.kurtosis:
            one.add("spikes", f"spikes, kurtosis {peaked:.0f}")
        if slope is not None and slope > cfg.muscle_slope:
            low, high = SLOPE_HZ
            one.add("muscle", f"power rises from {low:g} to {high:g} Hz as that of a muscle, slope {slope:+.1f}")
        for mains in MAINS_HZ:
            if (peak := _peak(hz, power[index], mains)) > MAINS_DB:
                one.add("line_noise", f"a peak at {mains:g} Hz, {peak:.0f} dB above its neighbours")
        weights = of.map(index) ** 2
        if weights.max() > ALONE * weights.sum():
            one.add("ch_noise", f"{of.channels[int(weights.argmax())]} alone")
        out.append(one)
    return out


def _slope(hz: np.ndarray, power: np.ndarray) -> float | None:
    """Of log power over log frequency; None where the signal has no such frequencies."""
    low, high = SLOPE_HZ
    inside = (hz >= low) & (hz <= high)
    if hz[-1] < high or inside.sum() < 3:
        return None
    return float(np.polyfit(np.log10(hz[inside]), np.log10(power[inside] + 1e-30), 1)[0])


def _peak(hz: np.ndarray, power: np.ndarray, at: float) -> float:
    """In dB, how far the power at a frequency is above that of its neighbours, 2 to 5 Hz away."""
    away = np.abs(hz - at)
    around = (away >= 2) & (away <= 5)
    if hz[-1] < at + 2 or not around.any():
        return 0.0
    return float(10 * np.log10((power[away <= 1].max() + 1e-30) / (np.median(power[around]) + 1e-30)))


def decided_by_a_person(table: Path, recording: str) -> dict[int, tuple[str, str]]:
    """Of a recording, decision and fingerprint (or an empty text) by component."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if lacking := {"recording", "component", "decision"} - set(reader.fieldnames or ()):
            raise ValueError(
                f"{table} has no column {', '.join(sorted(lacking))}: a TSV needs recording, component and decision"
            )
        out: dict[int, tuple[str, str]] = {}
        for line, row in enumerate(reader, 2):
            decision, component = (row["decision"] or "").strip(), (row["component"] or "").strip()
            if decision not in (*DECISIONS, "", "n/a") or not component.isdigit():
                raise ValueError(
                    f"line {line} of {table} has component {component!r} and decision {decision!r}: the component is a "
                    "number from 0 on, the decision keep or drop"
                )
            if row["recording"] != recording or decision not in DECISIONS:
                continue
            if int(component) in out:
                raise ValueError(f"line {line} of {table} decides about component {component} of {recording} again")
            out[int(component)] = decision, (row.get("fingerprint") or "").strip()
    return out


def records(
    judged: Sequence[Judged],
    of: Components,
    sources: np.ndarray,
    decided: Mapping[int, tuple[str, str]],
    remove: Sequence[str],
) -> tuple[dict[str, Any], ...]:
    """Of each component what stands in the record (eegdecode/preprocessing/record.py)."""
    if unknown := [str(index) for index in decided if index >= len(judged)]:
        raise ValueError(
            f"a person decided about component {', '.join(unknown)}, but there are {len(judged)} here, from 0 on: "
            "correct the table of components"
        )
    power = (of.mixing**2).sum(axis=0) * sources.var(axis=0)
    out = []
    for one in judged:
        decision, fingerprint = decided.get(one.index, ("", ""))
        if fingerprint not in ("", of.fingerprint(one.index)):
            raise ValueError(
                f"component {one.index} is not the one that a person decided about, its map is another (fingerprint "
                f"{of.fingerprint(one.index)}, in the table {fingerprint}): look at it again"
            )
        wanted = next((label for label in one.labels if label in remove), "")
        some = [k for k, hz in enumerate(one.hz) if hz <= MOST_HZ_KEPT]
        out.append(
            {
                "index": one.index,
                "fingerprint": of.fingerprint(one.index),
                "label": wanted or next(iter(one.labels), "brain"),
                "decision": decision or ("drop" if wanted else "keep"),
                "decided_by": "person" if decision else "step",
                "reasons": one.reasons,
                "kurtosis": round(one.kurtosis, 2),
                "slope": None if one.slope is None else round(one.slope, 2),
                "variance": round(float(power[one.index] / power.sum()), 4),
                "map": dict(zip(of.channels, np.round(of.map(one.index), 3).tolist(), strict=True)),
                "spectrum": {"hz": [round(one.hz[k], 2) for k in some], "db": [round(one.db[k], 1) for k in some]},
            }
        )
    return tuple(out)
