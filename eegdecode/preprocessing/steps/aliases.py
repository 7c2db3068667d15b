"""Rename channels to today's names of the 10-20 system, or by a table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class Aliases:
    """Rename channels to the 10-20 system: T3 to T7, `EEG FP1-Ref` to Fp1. `table` has more names, {old: new}."""

    name: Literal["aliases"] = "aliases"
    table: dict[str, str] = field(default_factory=dict, hash=False)  # {old: new}, before what the 10-20 system says
    allow_nan: ClassVar[bool] = True


OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
PLACE = re.compile(r"(NZ?|FP|AFP?|F|FT|FC|T|TP|C|CP|P|PO|O|I)(\d{1,2}|Z)", re.IGNORECASE)
AROUND = re.compile(r"^EEG[ _:-]*|[ ._-]*(REF|LE|AVG|AR)$|[ ._*-]+$", re.IGNORECASE)


def apply(cfg: Aliases, stream: Stream, trials: Sequence[Trial]) -> Stream:
    table = {
        name: alias(name, cfg.table) if stream.sensor(name).kind == "eeg" else cfg.table.get(name, name)
        for name in stream.channels
    }
    sensors = {table[name]: sensor for name, sensor in stream.sensors.items() if name in table}
    bads = tuple(alias(name, cfg.table) for name in stream.bads)
    return replace(stream, channels=tuple(table.values()), sensors=sensors, bads=bads)


def of_windows(cfg: Aliases, windows: SingleWindows) -> SingleWindows:
    return windows.through(apply, cfg)


def alias(name: str, table: Mapping[str, str]) -> str:
    """Today's spelling in the 10-20 system; other names stay as they are."""
    if name in table:
        return table[name]
    bare = name
    while (shorter := AROUND.sub("", bare)) != bare:
        bare = shorter
    match = PLACE.fullmatch(bare)
    if not match:
        return name
    row = {"FP": "Fp", "NZ": "Nz"}.get(match[1].upper(), match[1].upper())
    spelled = row + match[2].lower()
    return table.get(spelled, OLD_NAMES.get(spelled, spelled))
