"""Mark trials, or blocks of time, whose signal is too large, flat or full of muscle activity."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal, get_args

import numpy as np

from eegdecode.data.events import bad_spans
from eegdecode.preprocessing import statistics
from eegdecode.preprocessing.artefacts import muscle
from eegdecode.preprocessing.designs import Filter
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps import bandpass
from eegdecode.signals import BadSpan, Decisions, Kind, Stream, Trial


@dataclass(frozen=True)
class Reject:
    """Mark trials as bad by their peak-to-peak amplitude, by flat channels, and by muscle activity. The signal stays as
    it is, and `bad_spans` says what becomes of the trials.

    Parameters
    ----------
    reject
        For kinds of channel the largest peak-to-peak amplitude of a good trial, in volt or tesla.
    flat
        For kinds of channel the smallest peak-to-peak amplitude of a good trial.
    muscle_z
        The largest z-score of the power from 110 to 140 Hz in a good trial, as MNE's annotate_muscle_zscore, which
        takes 4; 0: not looked at. It needs a rate above 280 Hz, so put this step before resample.
    autoreject
        Let the package autoreject find the thresholds of `reject` for each recording, by cross-validation.
    block_s
        Mark blocks of so many seconds instead of whole trials; with `bad_spans: mask` only these are cut out.
    seed
        The seed of autoreject.
    """

    name: Literal["reject"] = "reject"
    reject: dict[Kind, float] = field(default_factory=lambda: {"eeg": 150e-6, "mag": 4e-12, "grad": 4e-10})
    flat: dict[Kind, float] = field(default_factory=lambda: {"eeg": 1e-6, "mag": 1e-15, "grad": 1e-13})
    muscle_z: float = 0.0
    autoreject: bool = False
    block_s: float = 0.0
    seed: int = 0
    needs_whole: ClassVar[bool] = True
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("threshold", "peak_to_peak", "ptp"), "reject has the largest amplitude: {eeg: 150e-6}"),
        "reject_by_annotation": "preprocess.bad_spans says it for annotations; reject is the largest amplitude here",
        "random_state": "seed is the seed of autoreject",
    }

    def __post_init__(self) -> None:
        for word, limits in (("reject", self.reject), ("flat", self.flat)):
            if unknown := [kind for kind in limits if kind not in get_args(Kind)]:
                raise ValueError(f"{word} takes kinds among {', '.join(get_args(Kind))}, but got {', '.join(unknown)}")
            if wrong := [f"{kind}: {limit:g}" for kind, limit in limits.items() if not limit > 0]:
                raise ValueError(f"{word} takes amplitudes above 0, as {{eeg: 150e-6}}, but got {', '.join(wrong)}")
        if both := [kind for kind in self.reject if self.flat.get(kind, 0) >= self.reject[kind]]:
            raise ValueError(
                f"flat is below reject, but for {both[0]} they are {self.flat[both[0]]:g} and {self.reject[both[0]]:g}"
            )
        if self.muscle_z < 0 or self.block_s < 0:
            raise ValueError(
                f"muscle_z is above 0, or 0 for none, and block_s too, got {self.muscle_z:g} and {self.block_s:g}"
            )
        if not (self.reject or self.flat or self.muscle_z or self.autoreject):
            raise ValueError("reject has no criterion: set reject, flat, muscle_z or autoreject, or leave the step out")


log = logging.getLogger(__name__)


def apply(cfg: Reject, stream: Stream, trials: Sequence[Trial]) -> Stream:
    spans = find(cfg, stream, trials)
    counts = bad_spans.counted(spans)
    log.info("reject: of %d %s %s", len(_parts(cfg, stream, trials)), "blocks" if cfg.block_s else "trials", counts)
    return replace(stream, decisions=stream.decisions + Decisions(spans=spans))


def of_windows(cfg: Reject, windows: SingleWindows) -> SingleWindows:
    return windows  # all of them are decoded, the bad ones too


def find(cfg: Reject, stream: Stream, trials: Sequence[Trial]) -> tuple[BadSpan, ...]:
    """The bad trials or blocks, each with the first reason."""
    parts = _parts(cfg, stream, trials)
    kinds = {name: stream.sensor(name).kind for name in stream.channels if name not in stream.unrepaired}
    limits = dict(cfg.reject)
    if cfg.autoreject:
        from eegdecode.preprocessing.artefacts import thresholds

        limits |= thresholds.chosen(stream, parts, kinds, cfg.seed)
        log.info("reject: autoreject takes %s", ", ".join(f"{kind} {amount(limits[kind], kind)}" for kind in limits))
    if not cfg.muscle_z and not {*limits, *cfg.flat} & set(kinds.values()):
        raise ValueError(
            f"reject has limits for {', '.join({*limits, *cfg.flat})}, and this recording has "
            f"{', '.join(sorted(set(kinds.values()))) or 'no good channel'}: set reject for these"
        )
    z = muscle.scores(stream, list(kinds), partial(_band, stream.sfreq)) if cfg.muscle_z else None
    spans = []
    for start, stop in parts:
        why = _of_amplitude(cfg.flat, limits, kinds, stream, start, stop)
        if not why and z is not None and (highest := z.highest(start, stop)) > cfg.muscle_z:
            why = ("muscle", f"muscle activity with z = {highest:.1f}, above {cfg.muscle_z:g}")
        if why:
            spans.append(BadSpan(start, stop, *why))
    return tuple(spans)


def _band(sfreq: float, low_hz: float, high_hz: float) -> Filter:
    return bandpass.as_filter(bandpass.Bandpass(low_hz=low_hz, high_hz=high_hz), sfreq)


def _parts(cfg: Reject, stream: Stream, trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Start and stop of all that is judged: the trials, or blocks from the first sample on."""
    if not cfg.block_s:
        return [(trial.start, trial.start + trial.duration) for trial in trials]
    n = max(1, int(stream.duration / cfg.block_s + 1e-6))
    return [(k * cfg.block_s, (k + 1) * cfg.block_s if k + 1 < n else stream.duration) for k in range(n)]


def _of_amplitude(
    flat: Mapping[Kind, float],
    limits: Mapping[Kind, float],
    kinds: Mapping[str, Kind],
    stream: Stream,
    start: float,
    stop: float,
) -> tuple[str, str] | None:
    """Reason and detail where a channel's amplitude is too large or too small."""
    columns = [stream.channels.index(name) for name in kinds]
    lowest, highest = _extremes(stream, start, stop)
    amplitudes = dict(zip(kinds, (highest - lowest)[columns].tolist(), strict=True))
    for kind in dict.fromkeys(kinds.values()):
        of_kind = {name: amplitudes[name] for name, own in kinds.items() if own == kind}
        loudest, quietest = max(of_kind, key=of_kind.__getitem__), min(of_kind, key=of_kind.__getitem__)
        if kind in limits and of_kind[loudest] > limits[kind]:
            return "amplitude", (
                f"{loudest} with {amount(of_kind[loudest], kind)} peak to peak, above {amount(limits[kind], kind)}"
            )
        if kind in flat and of_kind[quietest] < flat[kind]:
            return "flat", (
                f"{quietest} with {amount(of_kind[quietest], kind)} peak to peak, below {amount(flat[kind], kind)}"
            )
    return None


def _extremes(stream: Stream, start: float, stop: float) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each channel, in blocks."""
    first, end = samples(stream, start, stop)
    lowest, highest = np.full(stream.n_channels, np.inf), np.full(stream.n_channels, -np.inf)
    for block in statistics.blocks(stream, first, end):
        lowest, highest = np.minimum(lowest, block.min(axis=0)), np.maximum(highest, block.max(axis=0))
    return lowest, highest


def samples(stream: Stream, start: float, stop: float) -> tuple[int, int]:
    """First sample and end, at least one sample."""
    first = min(round(start * stream.sfreq), stream.n_times - 1)
    return first, max(first + 1, min(round(stop * stream.sfreq), stream.n_times))


def amount(value: float, kind: Kind) -> str:
    """In the unit in which one speaks of that kind."""
    factor, unit = {"mag": (1e15, "fT"), "grad": (1e13, "fT/cm")}.get(kind, (1e6, "µV"))
    return f"{value * factor:.4g} {unit}"
