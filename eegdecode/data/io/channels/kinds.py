"""What a channel measures, by its name and by its samples: many formats call every channel EEG."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from eegdecode.signals import Kind

BY_NAME: tuple[tuple[str, Kind, str], ...] = (
    (r"(?<![a-z])[hvlr]{0,2}[_-]?eog", "eog", ""),
    (r"(?<![a-z])(ecg|ekg)", "ecg", ""),
    (r"(?<![a-z])emg", "emg", ""),
    (r"^(status|trig(ger)?s?|sti ?\d+|din ?\d*|markers?|event_?(id|code)?s?|stim(ulus)?_?(code)?)$", "stim", ""),
    (r"^(eeg[ _])?(A1-A2|A2-A1|M1-M2|M2-M1)$", "ref", "the difference of two references"),
    (r"gyro|^gyr[ _.-]?[xyz\d]?$|^(acc|accel\w*|accelerometer|mag(netometer)?|quat|imu)[ _.-]?[wxyz\d]$|^imu", "misc",
     "motion"),
    (r"^(sample_?|packet_?|eeg_?)?(counter|cntr|index|number|num|seq(uence)?)$|^samples?$|^packets?$", "misc",
     "a counter"),
    (r"time_?stamp|^(time|times|t|lsl_?time|unix_?time|elapsed\w*)([ _]?[(\[]?m?s(ec)?[)\]]?)?$", "misc", "a clock"),
    (r"^(battery|batt|quality|cq_\w+|cqs?|interpolated|raw_cq|impedance\w*|valid\w*)$", "misc", "state of the device"),
    (r"^(gsr|eda|resp\w*|belt|temp|sound|audio|photo\w*|pleth|spo2|ppg|bvp|acc\w*)\b", "misc", ""),
)  # fmt: skip
"""Kinds by name, and what such a channel is in words."""
EARS = ("A1", "A2")
"""The ear lobes of the 10-20 system, a reference; electrodes of the scalp where they go on to A3, as BioSemi's."""
TEN_TWENTY = re.compile(r"(fp|af|f|fc|ft|c|cp|tp|t|p|po|o)(z|\d{1,2})", re.IGNORECASE)
FEWEST, FEWEST_OF_SCALP = 64, 3
"""Samples that show what a channel is; names of the 10-20 system beside which A1 is an ear."""


def by_name(names: Sequence[str]) -> dict[str, tuple[Kind, str]]:
    """The channels among those that are called EEG whose names say otherwise, and why."""
    decided: dict[str, tuple[Kind, str]] = {}
    bare = [re.sub(r"^EEG[ _]|[-_ ](REF|LE|A\d|Cz)$", "", name, flags=re.IGNORECASE) for name in names]
    on_scalp = sum(bool(TEN_TWENTY.fullmatch(name)) for name in bare)
    ears = on_scalp >= FEWEST_OF_SCALP and not {"A3", "A4"} & {name.upper() for name in bare}
    for name, short in zip(names, bare, strict=True):
        for pattern, kind, what in BY_NAME:
            if re.search(pattern, name.strip(), re.IGNORECASE):
                decided[name] = (kind, f"its name{f' ({what})' if what else ''}")
                break
        else:
            if ears and short.upper() in EARS:
                decided[name] = ("ref", "its name (an ear lobe, a reference)")
    return decided


def by_signal(names: Sequence[str], samples: np.ndarray) -> dict[str, tuple[Kind, str]]:
    """The channels whose samples, [time, channel] as they stand in the file, are no signal of a body, and why."""
    decided: dict[str, tuple[Kind, str]] = {}
    if len(samples) < FEWEST:
        return decided
    for name, column in zip(names, samples.T.astype(float), strict=True):
        what = _what(column) if np.isfinite(column).all() else None
        if what:
            decided[name] = what
    return decided


def _what(column: np.ndarray) -> tuple[Kind, str] | None:
    steps = np.diff(column)
    if not steps.any():
        return None
    rising = steps > 0
    usual = float(np.median(steps))
    regular = np.isclose(steps, usual, rtol=1e-2, atol=0)
    if usual > 0 and regular.mean() > 0.9 and (~rising).sum() <= 0.02 * len(steps) + 1:
        falls = int((~rising).sum())
        return (
            "misc",
            f"its samples ({f'a counter, from the start again {falls} times' if falls else 'a counter or clock'})",
        )
    if rising.all() and usual > 0:
        return "misc", "its samples (a clock: they only rise)"
    values, counts = np.unique(column, return_counts=True)
    still = (steps == 0).mean()
    one_sided = values[0] >= 0 or values[-1] <= 0  # a dead electrode flickers to both sides
    if (
        len(values) <= 32
        and still > 0.8
        and one_sided
        and _whole_multiples(values)
        and counts.max() > 0.5 * len(column)
    ):
        return "stim", f"its samples ({len(values)} levels, and still for {100 * still:.0f} % of the time)"
    return None


def _whole_multiples(values: np.ndarray) -> bool:
    """Whether levels are whole multiples of the smallest, as codes are in any unit."""
    sizes = np.abs(values[values != 0])
    ratios = sizes / sizes.min() if len(sizes) else sizes
    return bool(np.allclose(ratios, np.rint(ratios), rtol=0, atol=1e-3))


def by_config(names: Sequence[str], kinds: Mapping[str, Kind]) -> dict[str, tuple[Kind, str]]:
    """The channels that the config names, by patterns as GYR*; a later pattern wins."""
    return {
        name: (kind, f"kinds ({pattern})")
        for pattern, kind in kinds.items()
        for name in names
        if fnmatchcase(name, pattern)
    }
