"""The record of what preprocessing has decided about a recording, `NAME.decisions.json` in its products, and sentences.

channels     of each bad channel: name, decision (interpolated), reason
components   of each independent component: index, fingerprint, label, decision (keep or drop), decided_by (person or
             step), reasons, kurtosis, slope, variance, map {channel: weight}, spectrum {hz: […], db: […]}
spans        of each bad span: start, stop (seconds), reason (one word), detail
trials       of each trial that is not used as it was: start, duration, stimulus, decision (dropped, or cut), pieces
             (what it was cut into), reasons
counts       how many there are of each, and of all trials and channels
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eegdecode.data.events.bad_spans import Dropped, is_bad
from eegdecode.signals import Decisions, Trial
from hpc import media
from hpc.media import many
from hpc.runs import products

ENDING = ".decisions.json"


def file(folder: Path, name: str) -> Path:
    return folder / f"{name}{ENDING}"


def is_there(folder: Path, name: str) -> bool:
    """Whether the record is there, and undamaged."""
    try:
        return products.read(file(folder, name)) is not None
    except products.DamagedProduct:
        return False


def read(folder: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = products.read(file(folder, name))
    return record


def of_recording(
    name: str, decisions: Decisions, channels: Sequence[str], trials: Sequence[Trial], dropped: Sequence[Dropped]
) -> dict[str, Any]:
    """The record; `trials` are those that are left, `channels` those of the store."""
    whole = [each for each in dropped if not each.cut]
    components = [str(component["decision"]) for component in decisions.components]
    return {
        "recording": name,
        "channels": [dict(channel) for channel in decisions.channels],
        "components": [dict(component) for component in decisions.components],
        "spans": [
            {"start": span.start, "stop": span.stop, "reason": span.reason, "detail": span.detail}
            for span in decisions.spans
        ],
        "trials": [
            {
                "start": each.trial.start,
                "duration": each.trial.duration,
                "stimulus": each.trial.stimulus,
                "decision": "cut" if each.cut else "dropped",
                "pieces": each.cut,
                "reasons": [{"reason": span.reason, "detail": span.detail} for span in each.spans],
            }
            for each in dropped
        ],
        "counts": {
            "channels": len(channels),
            "bad_channels": len(decisions.channels),
            "components": len(components),
            "dropped_components": components.count("drop"),
            "trials": len(trials),
            "dropped_trials": len(whole),
            "cut_trials": len(dropped) - len(whole),
            "dropped_by_reason": dict(Counter(span.reason for each in whole for span in _first(each))),
            "bad_s": round(_seconds(decisions), 3),
        },
    }


def _first(dropped: Dropped) -> Sequence[Any]:
    """A trial counts for the first of its reasons only, so that counts add up."""
    return dropped.spans[:1]


def _seconds(decisions: Decisions) -> float:
    """Of the bad spans together, where they overlap once."""
    total = end = 0.0
    for span in sorted(decisions.spans, key=lambda span: span.start):
        total += max(0.0, span.stop - max(span.start, end))
        end = max(end, span.stop)
    return total


def write(folder: Path, record: Mapping[str, Any]) -> None:
    products.write_json(file(folder, str(record["recording"])), record)


def all_dropped(dropped: Sequence[Dropped], bad_spans: str) -> str:
    """The sentence where nothing is left of a recording: it names the setting to look at."""
    reasons = Counter(span.reason for each in dropped for span in _first(each))
    (most, _), *_ = reasons.most_common()
    example = next(each for each in dropped if each.spans[0].reason == most).spans[0].detail
    counted = ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
    words = {
        "amplitude": "raise `reject` of the step reject, or put it after the filters and before scale",
        "flat": "lower `flat` of the step reject, or put bad_channels before it",
        "muscle": "raise `muscle_z` of the step reject",
    }
    how = words.get(most, "set preprocess.bad_spans=mask to cut out the annotated seconds only, or ignore to keep them")
    if bad_spans == "mask":
        how = "lower preprocess.shortest_s, as all that is left of them is shorter, or set preprocess.bad_spans=ignore"
    return f"all {len(dropped)} trials were dropped ({counted}{f'; as {example}' if example else ''}): {how}"


def bad_spans(stored: Sequence[tuple[float, float]], folder: Path, name: str) -> list[tuple[float, float, str]]:
    """Start, stop and BAD_reason of the bad spans that a store has of a recording."""
    if not stored:
        return []
    spans = (products.read(file(folder, name)) or {}).get("spans", [])
    if not spans:  # of a store that was copied without its records
        return [(start, stop, "BAD_span") for start, stop in stored]
    reasons = [str(span["reason"]) for span in spans]
    words = [reason if is_bad(reason) else f"BAD_{reason}" for reason in reasons]
    return [(span["start"], span["stop"], word) for span, word in zip(spans, words, strict=True)]


def counts(folder: Path, names: Sequence[str]) -> Counter[str]:
    """What was decided in the whole study, as the counts of a record; those by reason as `reason NAME`."""
    total: Counter[str] = Counter()
    for name in names:
        of_recording = read(folder, name)["counts"]
        total.update({word: n for word, n in of_recording.items() if isinstance(n, int)})
        total.update({f"reason {reason}": n for reason, n in of_recording["dropped_by_reason"].items()})
    return total


def metrics(counts: Mapping[str, int]) -> dict[str, object]:
    """What is printed at the end; of channels and components only where a step looked for bad ones."""
    of_steps = {word: counts[word] for word in ("bad_channels", "dropped_components", "cut_trials") if counts[word]}
    return {"dropped_trials": counts["dropped_trials"], **of_steps}


def sentences(counts: Mapping[str, int]) -> list[str]:
    """The counts as sentences; none where nothing was decided."""
    out = []
    if counts["bad_channels"]:
        out.append(f"{many(counts['bad_channels'], 'bad channel')} of {counts['channels']} were repaired.")
    if counts["components"]:
        out.append(f"{counts['dropped_components']} of {many(counts['components'], 'component')} were removed.")
    if counts["dropped_trials"] or counts["cut_trials"]:
        before = counts["trials"] + counts["dropped_trials"]
        reasons = Counter({word.partition(" ")[2]: n for word, n in counts.items() if word.startswith("reason ")})
        listing = ", ".join(f"{n} × {reason}" for reason, n in reasons.most_common(8))
        out.append(
            f"{counts['dropped_trials']} of {many(before, 'trial')} were dropped{f': {listing}' if listing else ''}"
            + (f"; bad spans were cut out of {counts['cut_trials']}." if counts["cut_trials"] else ".")
        )
    if out:
        out.append(f"The reasons are in RECORDING{ENDING}, a file for each.")
    return out


COLUMNS = ("recording", "component", "fingerprint", "label", "decision", "decided_by", "reasons")


def write_components(folder: Path, names: Sequence[str]) -> None:
    """Write components.tsv, where ICA was done: what a person corrects and names in the setting `components`."""
    rows = [
        [name, *(str(component[word]) for word in ("index", *COLUMNS[2:-1])), "; ".join(component["reasons"])]
        for name in names
        for component in read(folder, name)["components"]
    ]
    if rows:
        products.write_text(folder / "components.tsv", media.tsv([COLUMNS, *rows]))
