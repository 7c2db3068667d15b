"""The pictures of a recording's section, from its record; drawings.html.jinja draws them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from eegdecode.data.survey import evoked, spectra
from eegdecode.plots import Chart, ticks

FREQUENCIES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
MOST_NAMED = 24  # channels named on a head, beside the bad ones
WIDTH = 1000.0  # of traces, in their own units


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a class of the style sheet, and text."""

    style: str
    text: str


@dataclass(frozen=True)
class Drawn:
    """A chart with what stands above and below it."""

    chart: Chart
    above: str
    key: list[Key] = field(default_factory=list)
    below: str = ""


@dataclass(frozen=True)
class Trace:
    name: str
    path: str
    top: str
    style: str


@dataclass(frozen=True)
class Traces:
    label: str
    height: int
    width: str
    traces: list[Trace]
    x_ticks: list[tuple[str, str]]
    scale: str


@dataclass(frozen=True)
class Place:
    x: str
    y: str
    tooltip: str
    name: str  # shown beside it; empty for most
    style: str
    per_cent: str


@dataclass(frozen=True)
class Channels:
    label: str
    kind: str
    radius: str
    places: list[Place]
    below: str


def number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def spectrum(sides: Sequence[tuple[str, Mapping[str, Any]]], kind: str) -> list[Drawn]:
    """The spectra of a kind of channel, before and after: in one chart if their units are the same."""
    there = [(side, of[kind]) for side, of in sides if of.get(kind, {}).get("hz")]
    if len(there) == 2 and there[0][1]["unit"] == there[1][1]["unit"]:
        return [_spectrum(there, kind)]
    return [_spectrum([each], kind) for each in there]


STYLE_OF = {"before": "before", "after": "decoded"}
SAID = {"before": "as recorded", "after": "preprocessed"}


def _spectrum(there: Sequence[tuple[str, Mapping[str, Any]]], kind: str) -> Drawn:
    x_low = min(each["hz"][0] for _, each in there)
    x_high = max(each["hz"][-1] for _, each in there)
    tops = [max(each["db"]["high"]) for _, each in there]
    y_high = max(tops)
    # What filters took away need not be seen to the bottom of float32
    floor = max(tops) - 90
    y_low = max(floor, min(min(each["db"]["low"]) for _, each in there))
    y_high, y_low = y_high + 2, min(y_low, y_high - 10) - 1

    def across(hz: float) -> float:
        return 100 * math.log(hz / x_low) / math.log(x_high / x_low)

    def down(decibel: float) -> float:
        return 100 * (1 - (max(decibel, y_low) - y_low) / (y_high - y_low))

    paths: list[tuple[str, str]] = []
    key: list[Key] = []
    for side, each in there:
        style, xs = STYLE_OF[side], [across(hz) for hz in each["hz"]]
        low, middle, high = ([down(value) for value in each["db"][name]] for name in ("low", "median", "high"))
        paths.append((f"band {style}", _path([*xs, *reversed(xs)], [*high, *reversed(low)]) + "Z"))
        for line in each["lines"].values():
            paths.append(("bad", _path(xs, [down(value) for value in line])))
        paths.append((style, _path(xs, middle)))
        key.append(Key(f"line {style}", f"{SAID[side]}: median and 10–90 % of {each['n']} channels"))
    if bad := list(dict.fromkeys(name for _, each in there for name in each["lines"])):
        key.append(Key("line bad", f"bad: {', '.join(bad)}"))
    unit = there[0][1]["unit"]
    chart = Chart(
        f"Power spectrum of {kind}",
        "frequency (Hz), logarithmic",
        [(f"{across(hz):.1f}", f"{hz:g}") for hz in FREQUENCIES if x_low <= hz <= x_high],
        [(f"{down(value):.1f}", number(value)) for value in ticks(y_low, y_high, 5)],
        paths,
    )
    which = " and ".join(SAID[side] for side, _ in there)
    return Drawn(chart, f"{kind.upper()} {which}, dB of {_squared(unit)}", key)


def _squared(unit: str) -> str:
    return f"({unit})²/Hz" if " " in unit or "/" in unit else f"{unit}²/Hz" if unit else "unit²/Hz"


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))


def traces(side: str, of: Mapping[str, Any], bads: Mapping[str, str]) -> Traces | None:
    """Some seconds of some channels; the paths are relative, as these are short."""
    if not of.get("traces"):
        return None
    n_rows, n = len(of["traces"]), len(of["traces"][0]["row"])
    step = spectra.SPACING
    height = step * (n_rows + 1)
    dx = WIDTH / max(1, n - 1)
    seconds = (n - 1) / of["sfreq"]
    drawn = []
    for row, trace in enumerate(of["traces"]):
        base = step * (row + 1)
        ys = [base - value for value in trace["row"]]
        xs = [round(index * dx) for index in range(n)]
        moves = " ".join(f"{b - a} {d - c}" for (a, b), (c, d) in zip(pairwise(xs), pairwise(ys), strict=True))
        style = "bad" if trace["name"] in bads else STYLE_OF[side]
        drawn.append(
            Trace(trace["name"], f"M0 {ys[0]}l{moves}".replace(" -", "-"), f"{100 * base / height:.2f}", style)
        )
    start = of["start_s"]
    x_ticks = [(f"{100 * (at - start) / seconds:.1f}", f"{at:g}") for at in ticks(start, start + seconds, 5)]
    scale = ", ".join(f"{number(spacing)} {unit or 'units'}" for unit, spacing in of["spacing"].items())
    return Traces(f"Traces {SAID[side]}", height, f"{WIDTH:g}", drawn, x_ticks, scale)


def channels(record: Mapping[str, Any]) -> list[Channels]:
    """Each kind of channel on the head: how loud it is as it came, and which are bad."""
    bads: Mapping[str, str] = record["decisions"]["bad_channels"]
    heads = []
    for kind, places in record.get("places", {}).items():
        of_kind = record["before"]["kinds"].get(kind)
        if not places or not of_kind:
            continue
        loud = {name: value for name, value in of_kind["loudness"].items() if name in places}
        usual = sorted(value for name, value in loud.items() if value > 0 and name not in bads) or [1.0]
        low, high = math.log(usual[len(usual) // 20]), math.log(usual[-1 - len(usual) // 20])
        named = set(list(places) if len(places) <= MOST_NAMED else ())
        drawn = []
        for name, (x, y) in places.items():
            value = loud.get(name, 0.0)
            part = (math.log(value) - low) / (high - low) if value > 0 and high > low else 0.0
            why = f", bad: {bads[name]}" if name in bads else ""
            drawn.append(
                Place(
                    f"{x:g}", f"{-y:g}", f"{name}: {number(value)} {of_kind['unit']}{why}",
                    name if name in bads or name in named else "", "isbad" if name in bads else "",
                    f"{10 + 80 * min(1.0, max(0.0, part)):.0f}",
                )
            )  # fmt: skip
        lost = of_kind["n"] - len(drawn)
        n_bad = sum(name in bads for name in places)
        below = (
            f"{len(drawn)} {kind.upper()} channels, {n_bad} bad. Colour: standard deviation within 2 s, from "
            f"{number(math.exp(low))} (pale) to {number(math.exp(high))} {of_kind['unit']} (full), logarithmic."
            + (" Placed by their 10-10 names." if record.get("by_name") and kind == "eeg" else "")
            + (f" {lost} without a place are not drawn." if lost > 0 else "")
        )
        radius = "0.062" if len(drawn) <= 40 else "0.042" if len(drawn) <= 90 else "0.028"
        label = f"{kind.upper()} channels on the head; bad: {', '.join(n for n in places if n in bads) or 'none'}"
        heads.append(Channels(label, kind, radius, drawn, below))
    return heads


def _time_axis(of: Mapping[str, Any]) -> tuple[float, float, list[tuple[str, str]]]:
    start, step, n = of["time"]["start_s"], of["time"]["step_s"], of["time"]["n"]
    end = start + step * (n - 1)
    return start, end, [(f"{100 * (at - start) / (end - start):.1f}", number(at)) for at in ticks(start, end, 6)]


def responses(of: Mapping[str, Any]) -> dict[str, Any]:
    """The evoked responses, the maps, the picture of all trials and the power over time and frequency."""
    if not of:
        return {}
    start, end, x_ticks = _time_axis(of)
    unit = of["unit"] or "units"
    since = "seconds from the start of a trial"
    zero = ("mark", f"M{100 * -start / (end - start):.1f} 0V100")
    names = [each["name"] for each in of["conditions"]]
    averaged = f" (the mean of {of['image']['averaged']})" if of["image"]["averaged"] > 1 else ""
    return {
        "of": of,
        "evoked": _evoked(of, start, end, x_ticks, unit, since, zero),
        "maps": {
            "drawn": [(f"{number(each['time_s'])} s", each["png"]) for each in of["maps"]["drawn"]],
            "scale": f"{number(-of['maps']['most'])} to {number(of['maps']['most'])} {unit}",
        },
        "image": Drawn(
            Chart("All trials", since, x_ticks, _rows_of(of), [zero], of["image"]["png"]),
            f"{of['channel']}, each row a trial{averaged}",
            below=f"{number(-of['image']['most'])} to {number(of['image']['most'])} {unit}",
        ),
        "power": _power(of, names, x_ticks, since, zero),
        "colours": evoked_colours(),
    }  # fmt: skip


def evoked_colours() -> tuple[str, ...]:
    from eegdecode.topomap import ABOVE_AND_BELOW

    return ABOVE_AND_BELOW


def _evoked(
    of: Mapping[str, Any],
    start: float,
    end: float,
    x_ticks: list[tuple[str, str]],
    unit: str,
    since: str,
    zero: tuple[str, str],
) -> Drawn:
    lines = [(index, each) for index, each in enumerate(of["evoked"]) if each["mean"]]
    ends = [m + s * e for _, each in lines for s in (-1, 1) for m, e in zip(each["mean"], each["error"], strict=True)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    high = high if high > low else low + 1.0

    def down(value: float) -> float:
        return 100 * (1 - (value - low) / (high - low))

    step = of["time"]["step_s"]
    paths = [zero, ("mark", f"M0 {down(0.0):.1f}H100")]
    for index, each in lines:
        xs = [100 * step * place / (end - start) for place in range(len(each["mean"]))]
        above = [down(m + e) for m, e in zip(each["mean"], each["error"], strict=True)]
        below = [down(m - e) for m, e in zip(each["mean"], each["error"], strict=True)]
        paths.append((f"band c{index}", _path([*xs, *reversed(xs)], [*above, *reversed(below)]) + "Z"))
    for index, each in lines:
        xs = [100 * step * place / (end - start) for place in range(len(each["mean"]))]
        paths.append((f"c{index}", _path(xs, [down(value) for value in each["mean"]])))
    key = [Key(f"line c{index}", _counted(of["conditions"][index])) for index, _ in lines]
    y_ticks = [(f"{down(value):.1f}", number(value)) for value in ticks(low, high, 5)]
    chart = Chart(f"Evoked response at {of['channel']}", since, x_ticks, y_ticks, paths)
    return Drawn(chart, f"{of['channel']}, mean and 95 % interval, {unit}", key)


def _counted(condition: Mapping[str, Any]) -> str:
    return f"{condition['name']} (n = {condition['n']})"


def _rows_of(of: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The number of trials as ticks: the edges between conditions."""
    total, so_far, edges = sum(each["n"] for each in of["conditions"]), 0, [("0.0", "1")]
    for each in of["conditions"]:
        so_far += each["n"]
        if 100 * so_far / total - float(edges[-1][0]) > 8:
            edges.append((f"{100 * so_far / total:.1f}", str(so_far)))
    return edges


def _power(
    of: Mapping[str, Any], names: Sequence[str], x_ticks: list[tuple[str, str]], since: str, zero: tuple[str, str]
) -> list[Drawn]:
    power = of["power"]
    if not power:
        return []
    low, high = (math.log(hz) for hz in power["hz"])
    half = (high - low) / (evoked.N_FREQUENCIES - 1) / 2
    low, high = low - half, high + half
    y_ticks = [
        (f"{100 * (1 - (math.log(hz) - low) / (high - low)):.1f}", f"{hz}")
        for hz in (4, 8, 13, 20, 30, 40)
        if low <= math.log(hz) <= high
    ]
    scale = f"{number(-power['most_db'])} to {number(power['most_db'])} dB of the mean 0.5 to 0.1 s before"
    return [
        Drawn(
            Chart(f"Power at {of['channel']}, {name}", since, x_ticks, y_ticks, [zero], png),
            f"{_counted(each)}, Hz",
            below=scale,
        )
        for name, each, png in zip(names, of["conditions"], power["png"], strict=True)
        if each["n"]
    ]


def timeline(record: Mapping[str, Any], drops: Sequence[Mapping[str, Any]]) -> Drawn | None:
    """When trials were, over the whole recording, a row a condition; those that were dropped are crossed."""
    trials = record.get("trials", {})
    starts, names = trials.get("start_s", ()), trials.get("names", ())
    if not starts:
        return None
    total = max(record["seconds"], 1e-9)
    n = len(names)
    parts: list[list[str]] = [[] for _ in names]
    for start, lasts, condition in zip(starts, trials["duration_s"], trials["condition"], strict=True):
        left, width = 100 * start / total, max(0.15, 100 * lasts / total - 0.1)
        parts[condition].append(f"M{left:.2f} {100 * (condition + 0.5) / n:.1f}h{width:.2f}")
    paths = [(f"event c{index}", "".join(part)) for index, part in enumerate(parts) if part]
    at = [float(each["start_s"]) for each in drops if isinstance(each.get("start_s"), int | float)]
    if at:
        paths.append(("dropped", "".join(f"M{100 * start / total:.2f} 0V100" for start in at)))
    unit, divisor = ("minutes", 60.0) if total > 180 else ("seconds", 1.0)
    x_ticks = [(f"{100 * at * divisor / total:.1f}", f"{at:g}") for at in ticks(0.0, total / divisor, 6)]
    key = [
        Key(f"line c{index}", f"{name} (n = {count})")
        for index, (name, count) in enumerate(zip(names, trials["counts"], strict=True))
    ]
    if at:
        key.append(Key("line dropped", f"dropped (n = {len(at)})"))
    by = f"by {trials['by']}" if trials["by"] else ""
    shown = f", {len(starts)} of them drawn" if len(starts) < trials["n"] else ""
    chart = Chart("Trials over the recording", f"{unit} from the start of the recording", x_ticks, [], paths)
    return Drawn(chart, f"{trials['n']} trials {by}{shown}".replace("  ", " "), key)


def intervals(record: Mapping[str, Any]) -> Drawn | None:
    """The time from one trial to the next: jitter, breaks and lost triggers."""
    trials = record.get("trials", {})
    starts = sorted(trials.get("start_s", ()))
    between = trials.get("between_s")
    if not between or len(starts) < 3 or len(starts) < trials["n"]:
        return None
    steps = [b - a for a, b in pairwise(starts)]
    low, high = min(0.0, *steps), max(*steps) * 1.05 or 1.0
    points = "".join(
        f"M{100 * index / max(1, len(steps) - 1):.2f} {100 * (1 - (step - low) / (high - low)):.1f}h0"
        for index, step in enumerate(steps)
    )
    n = len(steps)
    x_ticks = [
        (f"{100 * (at - 1) / max(1, n - 1):.1f}", f"{at:g}") for at in ticks(1, n, 6) if 1 <= at <= n and at == int(at)
    ]
    y_ticks = [(f"{100 * (1 - (value - low) / (high - low)):.1f}", number(value)) for value in ticks(low, high, 4)]
    chart = Chart("Time to the next trial", "trial", x_ticks, y_ticks, [("points before", points)])
    least, middle, most = (number(between[name]) for name in ("least", "median", "most"))
    below = f"shortest {least} s, median {middle} s, longest {most} s"
    return Drawn(chart, "Time to the next trial, seconds", below=below)


def overlay(records: Sequence[tuple[str, bool, Mapping[str, Any]]], side: str) -> Drawn | None:
    """The median spectra of all recordings of one kind in one chart; odd ones in another colour."""
    there = [(name, odd, of) for name, odd, of in records if of.get("hz")]
    if len(there) < 2:
        return None
    x_low, x_high = min(of["hz"][0] for *_, of in there), max(of["hz"][-1] for *_, of in there)
    y_high = max(max(of["median"]) for *_, of in there) + 2
    y_low = max(y_high - 92, min(min(of["median"]) for *_, of in there) - 1)

    def down(decibel: float) -> float:
        return 100 * (1 - (max(decibel, y_low) - y_low) / (y_high - y_low))

    def across(hz: float) -> float:
        return 100 * math.log(hz / x_low) / math.log(x_high / x_low)

    paths = [
        ("bad" if odd else "faint", _path([across(hz) for hz in of["hz"]], [down(value) for value in of["median"]]))
        for _, odd, of in sorted(there, key=lambda each: each[1])
    ]
    n_odd = sum(odd for _, odd, _ in there)
    key = [Key("line faint", f"a recording (n = {len(there) - n_odd})")]
    if n_odd:
        key.append(Key("line bad", f"an odd one (n = {n_odd})"))
    chart = Chart(
        f"Median spectra of all recordings, {SAID[side]}",
        "frequency (Hz), logarithmic",
        [(f"{across(hz):.1f}", f"{hz:g}") for hz in FREQUENCIES if x_low <= hz <= x_high],
        [(f"{down(value):.1f}", number(value)) for value in ticks(y_low, y_high, 5)],
        paths,
    )
    unit, kind = there[0][2]["unit"], there[0][2]["kind"]
    return Drawn(chart, f"{kind.upper()} {SAID[side]}, median over channels, dB of {_squared(unit)}", key)
