"""The unit in which the numbers of a file are: by the config, channels.tsv, the file, or else by their size.

decide(stream, in_file, "uV", {"Fz": "mV"}, {"*": "mV"})     per channel: unit, why, and the factor for its samples
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from eegdecode.signals import Kind, Sensor, Stream
from hpc.errors import first_of

PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
UNITS: dict[str, tuple[str, float]] = {
    **{f"{prefix}{si}": (si, factor) for si in ("V", "T") for prefix, factor in PREFIXES.items()},
    **{f"{prefix}T/{length}": ("T/m", factor / metres)
       for prefix, factor in PREFIXES.items() for length, metres in (("m", 1.0), ("cm", 1e-2))},
}  # fmt: skip
"""What a unit measures, and how many of that it is."""
GUESSED = {"V": ("V", "mV", "uV", "nV"), "T": ("T", "nT", "pT", "fT"), "T/m": ("T/m", "fT/m", "fT/cm")}
SPREAD: dict[Kind, tuple[float, float]] = {
    "eeg": (2e-7, 7e-4),
    "ecog": (5e-7, 5e-3),
    "seeg": (5e-7, 5e-3),
    "mag": (1e-14, 1e-10),
    "grad": (1e-13, 2e-9),
    "eog": (5e-7, 5e-3),
    "ecg": (1e-6, 2e-2),
    "emg": (2e-7, 2e-2),
}
"""The range of the typical spread within some seconds of real recordings, raw or filtered, in the kind's unit."""
PIECES, PIECE_S = 3, 4.0
"""Of a recording, to see how large its numbers are."""


def parse(unit: str) -> tuple[str, float] | None:
    """What a unit measures and the factor to volt, tesla or tesla a metre; None for anything else."""
    bare = unit.strip().replace("µ", "u").replace("μ", "u").replace("micro", "u").replace("milli", "m")
    bare = {"volt": "V", "volts": "V", "uvolt": "uV", "uvolts": "uV", "mvolt": "mV", "mvolts": "mV", "tesla": "T"}.get(
        bare.lower(), bare
    )
    if bare in UNITS:
        return UNITS[bare]
    return next((value for name, value in UNITS.items() if name.lower() == bare.lower()), None)


@dataclass(frozen=True)
class Unit:
    """The unit of a channel's numbers, why, and the factor that its samples lack."""

    name: str
    why: str
    factor: float = 1.0


def decide(
    stream: Stream,
    in_file: Mapping[str, str],
    assumed: str,
    in_table: Mapping[str, str],
    in_config: Mapping[str, str],
    look: bool = True,
) -> dict[str, Unit]:
    """The units of the channels that have one.

    Parameters
    ----------
    in_file, assumed
        The units that the file says, by channel; that in which the others were read.
    in_table, in_config
        Those of channels.tsv by channel, and of `units` by patterns, which is final.
    look
        Read some samples, if what is said is in doubt; otherwise the nearest to the samples is believed.
    """
    seen: list[np.ndarray] = []  # read once, and only where needed

    def sizes() -> np.ndarray:
        if not seen:
            seen.append(spreads(stream))
        return seen[0]

    decided: dict[str, Unit] = {}
    groups: dict[tuple[Kind, str, str, str], list[str]] = {}
    for name in stream.channels:
        sensor = stream.sensor(name)
        if not sensor.unit:
            if assumed and (sensor.kind == "stim" or not parse(in_file.get(name, ""))):  # codes stay whole numbers
                decided[name] = Unit("", "", 1 / _factor(in_file.get(name) or assumed))
            continue
        stated = in_file.get(name, "")
        stated = stated if _measures(stated, sensor.unit) else ""
        read_as = stated or (assumed if _measures(assumed, sensor.unit) else sensor.unit)
        wanted = [(pattern, unit) for pattern, unit in in_config.items() if fnmatchcase(name, pattern)]
        table = in_table.get(name, "")
        table = table if _measures(table, sensor.unit) else ""
        if wanted and _measures(wanted[-1][1], sensor.unit):
            decided[name] = Unit(wanted[-1][1], f"units ({wanted[-1][0]})", _ratio(wanted[-1][1], read_as))
        elif not look or sensor.kind not in SPREAD or (stated and (not table or _ratio(table, stated) == 1)):
            decided[name] = _said(table, stated, read_as)
        else:
            groups.setdefault((sensor.kind, table, stated, read_as), []).append(name)
    for (kind, table, stated, read_as), names in groups.items():
        columns = [stream.channels.index(name) for name in names]
        decided |= dict.fromkeys(names, _by_size(kind, table, stated, read_as, sizes()[columns]))
    return decided


def _said(table: str, stated: str, read_as: str) -> Unit:
    if table:
        return Unit(
            table, "channels.tsv" if _ratio(table, stated or read_as) != 1 else "the file", _ratio(table, read_as)
        )
    return Unit(read_as, "the file" if stated else "")


def _by_size(kind: Kind, table: str, stated: str, read_as: str, sizes: np.ndarray) -> Unit:
    """The unit that is said, if numbers of this size can be in it."""
    usable = sizes[sizes > 0]
    typical = float(np.median(usable)) / _factor(read_as) if len(usable) else 0.0  # in the numbers of the file
    if table and (not typical or _fits(kind, typical, table) or not _fits(kind, typical, stated or read_as)):
        return _said(table, stated, read_as)
    if table:
        return Unit(stated or read_as, f"their size (in {table}, as channels.tsv says, they would be no {kind})")
    if stated or not typical or _fits(kind, typical, read_as):
        return _said(table, stated, read_as)
    fitting = [unit for unit in GUESSED[Sensor(kind).unit] if _fits(kind, typical, unit)]
    if not fitting:
        return Unit(read_as, "")
    low, high = SPREAD[kind]
    middle = math.sqrt(low * high)
    unit = min(fitting, key=lambda each: abs(math.log(typical * _factor(each) / middle)))
    why = f"their size ({typical:.2g}, which is no {kind} in {read_as}; if this is wrong, set units)"
    return Unit(unit, why, _ratio(unit, read_as))


def spreads(stream: Stream) -> np.ndarray:
    """The typical spread of each channel within some seconds; NaN where it has no number."""
    length = min(stream.n_times, max(2, round(PIECE_S * stream.sfreq)))
    firsts = np.linspace(0, stream.n_times - length, PIECES).astype(int).tolist()
    found = []
    for first in dict.fromkeys(firsts):
        block = stream.read(first, first + length).astype(float)
        block[~np.isfinite(block)] = np.nan
        with np.errstate(all="ignore"):
            found.append(1.4826 * _median(np.abs(block - _median(block))))
    return _median(np.array(found))


def _median(of: np.ndarray) -> np.ndarray:
    """Along the first axis, NaN left out."""
    some = np.isfinite(of).any(axis=0)
    middle = np.full(of.shape[1], np.nan)
    middle[some] = np.nanmedian(of[:, some], axis=0)
    return middle


def _factor(unit: str) -> float:
    known = parse(unit)
    assert known is not None, unit
    return known[1]


def _ratio(unit: str, read_as: str) -> float:
    ratio = _factor(unit) / _factor(read_as)
    return 1.0 if math.isclose(ratio, 1.0) else ratio


def _measures(unit: str, si: str) -> bool:
    known = parse(unit) if unit else None
    return known is not None and known[0] == si


def _fits(kind: Kind, number: float, unit: str) -> bool:
    low, high = SPREAD[kind]
    return low <= number * _factor(unit) <= high


def scaled(stream: Stream, units: Mapping[str, Unit]) -> Stream:
    """The stream in volt and tesla."""
    factors = np.array([units[name].factor if name in units else 1.0 for name in stream.channels], np.float32)
    if (factors == 1).all():
        return stream
    return Stream(
        stream.channels, stream.sfreq, stream.n_times, lambda first, stop: stream.read(first, stop) * factors,
        stream.sensors, stream.bads,
    )  # fmt: skip


def unused(names: Sequence[str], patterns: Mapping[str, object], setting: str) -> list[str]:
    """A note on patterns of the config that no channel has."""
    idle = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
    return [f"{setting}: no channel is called {first_of(idle)}; there are {first_of(names, 12)}"] if idle else []
