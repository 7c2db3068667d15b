"""Decide what each channel of an open recording is, from all that says something about it, and note why.

The config is final; then comes channels.tsv, then the file; the names and the samples of channels decide where a file
calls all channels EEG, and the size of the numbers where nobody says their unit.
"""

from collections.abc import Mapping
from dataclasses import replace

from eegdecode.data.config.files import Reading
from eegdecode.data.io import bids
from eegdecode.data.io.channels import kinds, units
from eegdecode.data.io.channels.table import Channel, sentences
from eegdecode.data.io.readers.opened import Opened
from eegdecode.signals import Kind, Sensor, Stream

TABLE = "channels.tsv"
LOOKED_AT_S = 4.0


def channels(opened: Opened, rows: Mapping[str, Mapping[str, str]], table_name: str, cfg: Reading) -> Opened:
    """The recording with the kinds and units that were decided; `rows` are those of its channels.tsv by name."""
    stream = opened.stream
    by = dict(opened.kinds_by)
    decided: dict[str, Kind] = {}
    for name in stream.channels:
        told = bids.kind(rows.get(name, {}))
        if told is not None:
            decided[name] = told
            by.pop(name, None)
            if told != stream.sensor(name).kind:
                by[name] = TABLE
    for name, (kind, why) in kinds.by_config(stream.channels, cfg.kinds).items():  # type: ignore[arg-type]
        decided[name], by[name] = kind, why
    open_question = [
        name for name in stream.channels if name not in decided and name not in by and stream.sensor(name).kind == "eeg"
    ]
    if cfg.look and open_question:
        for name, (kind, why) in _by_signal(stream, open_question).items():
            decided[name], by[name] = kind, why
    sensors = {
        **stream.sensors,
        **{name: Sensor(kind, stream.sensor(name).position) for name, kind in decided.items()},
    }
    stream = replace(stream, sensors=sensors)
    in_table = {name: row.get("units", "") for name, row in rows.items()}
    known = units.decide(stream, opened.units, opened.assumed, in_table, cfg.units, cfg.look)
    bads = {name: why for name in stream.channels if (why := bids.bad(rows.get(name, {}), table_name))}
    bads = {**opened.bads, **bads}
    table = tuple(
        Channel(
            name,
            stream.sensor(name).kind,
            by.get(name, "the file"),
            known[name].name if name in known else opened.units.get(name, ""),
            known[name].why if name in known else "",
            bads.get(name, ""),
        )
        for name in stream.channels
    )
    notes = (
        *opened.notes,
        *sentences(table),
        *units.unused(stream.channels, cfg.units, "units"),
        *units.unused(stream.channels, cfg.kinds, "kinds"),
    )
    return replace(
        opened,
        stream=units.scaled(stream, known),
        notes=notes,
        bads=bads,
        units={**in_table, **opened.units, **{name: unit.name for name, unit in known.items() if unit.name}},
        decided=table,
    )


def _by_signal(stream: Stream, names: list[str]) -> dict[str, tuple[Kind, str]]:
    length = min(stream.n_times, max(kinds.FEWEST, round(LOOKED_AT_S * stream.sfreq)))
    first = (stream.n_times - length) // 2
    block = stream.read(first, first + length)
    return kinds.by_signal(names, block[:, [stream.channels.index(name) for name in names]])
