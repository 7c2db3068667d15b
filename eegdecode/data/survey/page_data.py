"""The page data of a recording: the numbers behind its section of the page, in one small file, RECORDING.page.json.

before, after   spectra, traces and responses of the signal as it came and, of a preprocessed one, as it is stored
trials          when they were, and of which condition
maps            of each independent component the picture of its map, in the order of the record of decisions

What was decided is not in it: that is in the record of decisions (eegdecode/preprocessing/record.py) and the table of
channels (eegdecode/data/io/channels/table.py), and `joined` puts it beside the numbers.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eegdecode.data.io.channels.table import Channel
from eegdecode.data.survey import evoked, spectra
from eegdecode.signals import BRAIN, Decisions, Stream, Trial
from eegdecode.topomap import Places
from hpc.runs import products

VERSION = 1
MOST_EVENTS = 1500  # trials on the time line
MOST_COMPONENTS = 12  # with a map; those that were removed first

PageData = Mapping[str, Any]


def of(
    raw: Stream,
    bads: Iterable[str],
    trials: Sequence[Trial],
    after: Stream | None = None,
    scaled: bool = False,
    prefer: Sequence[str] = (),
) -> dict[str, Any]:
    """Look at a recording. `bads`: channels that the recording marks as bad; `scaled`: whether the samples of `after`
    have lost their unit; `prefer`: columns of the events that may be conditions, before others."""
    decisions = after.decisions if after else Decisions()
    known_bad = {*bads, *(str(channel["name"]) for channel in decisions.channels)}
    bad = [name for name in raw.channels if name in known_bad]
    made = evoked.conditions(trials, prefer)
    start_s = _middle(raw, trials)
    shown = spectra.trace_channels(raw, bad)
    sides = {"before": (raw, False)} | ({"after": (after, scaled)} if after else {})
    data: dict[str, Any] = {"version": VERSION, "seconds": round(raw.duration, 3)}
    for side, (stream, unitless) in sides.items():
        skip = bad if side == "before" else ()
        is_last = side == list(sides)[-1]
        data[side] = {
            "sfreq": stream.sfreq,
            "kinds": spectra.looked_at(stream, unitless, bad),
            "traces": spectra.some_seconds(stream, unitless, shown, start_s),
            "responses": evoked.responses(stream, unitless, after is None, trials, made, skip) if is_last else {},
        }
    places = {kind: Places.of_stream(raw, kind) for kind in spectra.kinds(raw)}
    data["places"] = {kind: each.flat for kind, each in places.items()}
    data["by_name"] = any(each.by_name for each in places.values())
    data["trials"] = _timeline(trials, made)
    data["maps"] = _maps(decisions.components, list(places.values()))
    return data


def empty(why: str) -> dict[str, Any]:
    """The page data of a recording that cannot be drawn, and why."""
    return {"version": VERSION, "failed": why}


def joined(data: PageData, channels: Sequence[Channel], record: Mapping[str, Any]) -> dict[str, Any]:
    """The page data with what was decided, as the page words it. `record`: that of decisions, empty for a survey."""
    bad = {each.name: each.bad for each in channels if each.bad}
    for each in record.get("channels", ()):
        bad[each["name"]] = f"{bad.get(each['name']) or each['reason']}; {each['decision']}"
    pictures = data.get("maps", ())
    components = [
        {
            "index": each["index"],
            "removed": each["decision"] == "drop",
            "reason": _why(each),
            "share": each["variance"],
            "png": pictures[at] if at < len(pictures) else "",
        }
        for at, each in enumerate(record.get("components", ()))
    ]
    drop_log = [
        {
            "start_s": each["start"],
            "duration_s": each["duration"],
            "stimulus": each["stimulus"],
            "decision": each["decision"],
            "reason": ", ".join(dict.fromkeys(why["reason"] for why in each["reasons"])),
            "detail": "; ".join(dict.fromkeys(why["detail"] for why in each["reasons"] if why["detail"])),
        }
        for each in record.get("trials", ())
    ]
    decided = {
        "bad_channels": bad,
        "components": sorted(components, key=lambda each: -each["share"]),
        "drop_log": drop_log,
        "counts": record.get("counts", {}),
        "spans": record.get("spans", ()),
        "channels": [asdict(each) for each in channels],
    }
    return {**data, "decisions": decided}


def _why(component: Mapping[str, Any]) -> str:
    by = ["decided by a person"] if component["decided_by"] == "person" else []
    return f"{component['label']}: {'; '.join([*by, *component['reasons']])}".removesuffix(": ")


def write(folder: Path, name: str, data: PageData, key: str = "") -> None:
    text = json.dumps({"key": key, **data}, ensure_ascii=False, separators=(",", ":"))
    products.write_text(_file(folder, name), text)


def read(folder: Path, name: str, key: str = "") -> dict[str, Any] | None:
    """Return page data; None if there is none, or one of another key or version."""
    data = products.read(_file(folder, name)) if _file(folder, name).is_file() else None
    if not isinstance(data, dict) or (data.get("key"), data.get("version")) != (key, VERSION):
        return None
    return data


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


def _maps(components: Sequence[Mapping[str, Any]], places: Sequence[Places]) -> list[str]:
    """The pictures of the removed ones, and of the strongest others; empty for the rest."""
    order = sorted(
        range(len(components)), key=lambda at: (components[at]["decision"] != "drop", -components[at]["variance"])
    )
    maps = [""] * len(components)
    for at in order[:MOST_COMPONENTS]:
        pictures = [each.picture(components[at]["map"]) for each in places]
        maps[at] = next(filter(None, pictures), "")
    return maps


def n_brain(data: PageData) -> int:
    """The number of channels that measure the brain."""
    return sum(
        of_kind.get("n", 0) for kind, of_kind in data.get("before", {}).get("kinds", {}).items() if kind in BRAIN
    )
