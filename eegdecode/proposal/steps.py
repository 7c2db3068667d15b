"""The steps of preprocessing that suit what was seen."""

from typing import Any

from eegdecode.proposal.decoding import Decoding
from eegdecode.proposal.seen import Sight
from eegdecode.proposal.write import Guess
from eegdecode.signals import BRAIN
from hpc.errors import first_of

SFREQ = 128.0
"""Enough for what is decoded up to 40 Hz."""
LOW_HZ, HIGH_HZ = 0.5, 40.0
FEWEST_FOR_AVERAGE = 8
"""Channels, of which the average is close to what all have in common."""


def choose(sight: Sight, decoding: Decoding) -> list[Guess]:
    kinds = {kind: n for kind, n in sight.kinds.items() if kind in BRAIN}
    channels, slowest = sight.channels, sight.rates[0]
    if not channels:
        raise ValueError(
            f"{sight.folder.path}: no EEG or MEG channel is in all recordings that were opened, which have "
            f"{first_of(sorted({name for seen in sight.seen for name in seen.stream.channels}))}: leave some out"
        )
    steps: list[Guess] = []
    lacking = sorted({name for seen in sight.seen for name in seen.brain} - set(channels))
    if lacking:
        why = f"Not all recordings have {first_of(lacking)}: these are the channels that those that were opened share."
        steps.append(Guess({"name": "pick", "names": channels}, why))
    n_eeg = sum(n for kind, n in kinds.items() if kind == "eeg")
    if n_eeg >= FEWEST_FOR_AVERAGE:
        why = f"The average of {n_eeg} EEG channels; noise that all of them share goes with it."
        steps.append(Guess({"name": "reference"}, why, ("{name: reference, channels: [M1, M2]}",)))
    mains = [seen.mains_hz for seen in sight.seen if seen.mains_hz]
    mains_hz = max(set(mains), key=mains.count) if mains else None
    if mains_hz and mains_hz < slowest / 2:
        told = any(seen.opened.line_hz for seen in sight.seen)
        why = f"{mains_hz:g} Hz {'is the mains frequency of the files' if told else 'stands out of the spectrum'}."
        steps.append(Guess({"name": "notch", "hz": mains_hz}, why))
    high_hz = min(HIGH_HZ, round(0.4 * min(slowest, SFREQ if slowest > 1.25 * SFREQ else slowest), 1))
    none = "" if mains_hz else " No mains frequency stands out, so there is no notch."
    steps.append(
        Guess(
            {"name": "bandpass", "low_hz": LOW_HZ, "high_hz": high_hz},
            f"Drifts are below, mostly muscle is above.{none}",
            ("low_hz: 4, high_hz: 38 for rhythms", "low_hz: 0.1, high_hz: 20 for slow evoked responses"),
        )
    )
    rates = ", ".join(f"{rate:g}" for rate in sight.rates)
    if slowest > 1.25 * SFREQ:
        steps.append(
            Guess({"name": "resample", "sfreq": SFREQ}, f"Recorded at {rates} Hz, which {high_hz:g} Hz do not need.")
        )
    elif len(sight.rates) > 1:
        steps.append(Guess({"name": "resample", "sfreq": slowest}, f"Recordings have {rates} Hz: all get the lowest."))
    why = "Each channel to unit spread, so that subjects and amplifiers compare."
    flat = _flat(sight)
    others = ("{name: bad_channels} before reference interpolates them, {name: pick} leaves them out",) if flat else ()
    steps.append(Guess({"name": "scale"}, f"{why}{flat}", others))
    return steps


def _flat(sight: Sight) -> str:
    """Which channels are flat in recordings that were opened, in a sentence."""
    recordings = {name: [seen.entry.name for seen in sight.seen if name in seen.flat] for name in sight.channels}
    texts = [f"{name} in {first_of(names, 3)}" for name, names in recordings.items() if names]
    return f" Flat, the same value throughout: {first_of(texts, 4)}." if texts else ""


def sfreq(sight: Sight) -> float:
    """The rate after these steps."""
    return SFREQ if sight.rates[0] > 1.25 * SFREQ else sight.rates[0]


def settings_of(steps: list[Guess]) -> list[dict[str, Any]]:
    return [step.value for step in steps]
