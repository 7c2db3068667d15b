"""The record of a recording: the numbers behind its section of the page, in one small file, RECORDING.page.json.

before, after   spectra, traces and responses of the signal as it came and, of a preprocessed one, as it is stored
trials          when they were, and of which condition
decisions       what was decided: any of these may be absent, and a step adds its own by `Stream.decided`
    bad_channels    {channel: why}
    components      [{index, removed, reason, share, map: {channel: strength}}, …]
    drop_log        [{trial, start_s, stimulus, reason}, …]
    channels        [{name, kind, unit, …: any further column}, …]
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegdecode.data.survey import evoked, spectra
from eegdecode.data.survey.topomap import Places
from eegdecode.signals import BRAIN, Stream, Trial
from hpc.runs import products

VERSION = 1
MOST_EVENTS = 1500  # trials on the time line
MOST_COMPONENTS = 12  # with a map; those that were removed first

Record = Mapping[str, Any]


def of(
    raw: Stream,
    bads: Mapping[str, str],
    trials: Sequence[Trial],
    after: Stream | None = None,
    scaled: bool = False,
    prefer: Sequence[str] = (),
) -> dict[str, Any]:
    """Look at a recording. `bads`: channels that the recording marks as bad, and why; `scaled`: whether the samples of
    `after` have lost their unit; `prefer`: columns of the events that may be conditions, before others."""
    decisions: dict[str, Any] = dict(after.decisions) if after else {}
    marked = {name: why for name, why in bads.items() if name in raw.channels}
    bad_channels = marked | _words(decisions.get("bad_channels"))
    decisions["bad_channels"], bad = bad_channels, list(bad_channels)
    made = evoked.conditions(trials, prefer)
    start_s = _middle(raw, trials)
    shown = spectra.trace_channels(raw, bad)
    sides = {"before": (raw, False)} | ({"after": (after, scaled)} if after else {})
    record: dict[str, Any] = {"version": VERSION, "seconds": round(raw.duration, 3)}
    for side, (stream, unitless) in sides.items():
        skip = bad if side == "before" else ()
        is_last = side == list(sides)[-1]
        record[side] = {
            "sfreq": stream.sfreq,
            "kinds": spectra.looked_at(stream, unitless, bad),
            "traces": spectra.some_seconds(stream, unitless, shown, start_s),
            "responses": evoked.responses(stream, unitless, after is None, trials, made, skip) if is_last else {},
        }
    places = {kind: Places(raw, kind) for kind in spectra.kinds(raw)}
    record["places"] = {kind: each.flat for kind, each in places.items()}
    record["by_name"] = any(each.by_name for each in places.values())
    record["trials"] = _timeline(trials, made)
    if components := _rows(decisions.get("components")):
        decisions["components"] = _mapped(components, places.values())
    if not _rows(decisions.get("channels")):
        decisions["channels"] = [
            {"name": name, "kind": raw.sensor(name).kind, "unit": raw.sensor(name).unit} for name in raw.channels
        ]
    return record | {"decisions": decisions}


def empty(why: str, decisions: Mapping[str, object]) -> dict[str, Any]:
    """The record of a recording that cannot be drawn, and why."""
    known = dict(decisions) | {"bad_channels": _words(decisions.get("bad_channels"))}
    known.pop("components", None)  # their maps are numbers still
    return {"version": VERSION, "failed": why, "decisions": known}


def write(folder: Path, name: str, record: Record, key: str = "") -> None:
    text = json.dumps({"key": key, **record}, ensure_ascii=False, separators=(",", ":"))
    products.write_text(_file(folder, name), text)


def read(folder: Path, name: str, key: str = "") -> dict[str, Any] | None:
    """Return a record; None if there is none, or one of another key or version."""
    record = products.read(_file(folder, name)) if _file(folder, name).is_file() else None
    if not isinstance(record, dict) or (record.get("key"), record.get("version")) != (key, VERSION):
        return None
    return record


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.page.json"


def _middle(raw: Stream, trials: Sequence[Trial]) -> float:
    """Where the traces begin: half a second before a trial in the middle, or at 40 % of the recording."""
    if trials:
        return max(0.0, trials[len(trials) // 2].start - 0.5)
    return 0.4 * raw.duration


def _timeline(trials: Sequence[Trial], made: evoked.Conditions) -> dict[str, Any]:
    starts = np.array([trial.start for trial in trials])
    between = np.diff(np.sort(starts))
    n_shown = min(len(trials), MOST_EVENTS)
    shown = np.unique(np.linspace(0, len(trials) - 1, n_shown).astype(int)).tolist() if trials else []
    timeline: dict[str, Any] = {
        "n": len(trials),
        "by": made.by,
        "names": made.names,
        "counts": [made.of_trial.count(number) for number in range(len(made.names))],
        "start_s": [round(trials[index].start, 3) for index in shown],
        "duration_s": [round(trials[index].duration, 3) for index in shown],
        "condition": [made.of_trial[index] for index in shown],
    }
    if len(between):
        low, middle, high = np.quantile(between, (0, 0.5, 1)).tolist()
        timeline["between_s"] = {"least": round(low, 4), "median": round(middle, 4), "most": round(high, 4)}
    return timeline


def _mapped(components: Sequence[Mapping[str, Any]], places: Iterable[Places]) -> list[dict[str, Any]]:
    """The components with pictures of their maps instead of numbers: the removed ones, and the strongest others."""
    order = sorted(range(len(components)), key=lambda index: (not components[index].get("removed"), index))
    drawn = set(order[:MOST_COMPONENTS])
    listed = []
    for index, component in enumerate(components):
        values = component.get("map") if index in drawn else None
        pictures = [each.picture(values) for each in places] if isinstance(values, Mapping) else []
        plain = {name: value for name, value in component.items() if name != "map"}
        listed.append(plain | {"png": next(filter(None, pictures), "")})
    return listed


def _words(value: object) -> dict[str, str]:
    """Reasons by channel; a list of names has none."""
    if isinstance(value, Mapping):
        return {str(name): str(why) for name, why in value.items()}
    return {str(name): "" for name in value} if isinstance(value, list | tuple) else {}


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def n_brain(record: Record) -> int:
    """The number of channels that measure the brain."""
    return sum(
        of_kind.get("n", 0) for kind, of_kind in record.get("before", {}).get("kinds", {}).items() if kind in BRAIN
    )
