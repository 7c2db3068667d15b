"""What some recordings of a study hold: channels, rates, units, marks. All of them would take hours; these are spread
over the study, and the tables next to the others are read too."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eegdecode.data.config import FileEvents, Reading
from eegdecode.data.events import of_recording, triggers
from eegdecode.data.io import event_files, guard, markers, recordings, samples
from eegdecode.data.io.recordings import Entry
from eegdecode.proposal.folder import Folder
from eegdecode.proposal.progress import Progress
from eegdecode.signals import BRAIN, Stream

if TYPE_CHECKING:
    from eegdecode.data.io.raw import Opened

log = logging.getLogger(__name__)

MOST_OPENED = 24
MOST_TABLES = 2000
"""Recordings that are opened, and those whose tables of events are read."""
PIECES = 3
"""Pieces of 10 s of a recording that are read: enough for its unit and what is flat."""
SPECTRUM_S, STANDS_OUT = 20.0, 5.0
MAINS_HZ = (50.0, 60.0)


class Mark(NamedTuple):
    """A moment, or a stretch of time, that a recording or a table next to it marks."""

    onset_s: float
    duration_s: float
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """A recording that was opened."""

    entry: Entry
    opened: "Opened"
    marks: Mapping[str, Sequence[Mark]]  # by where they stand: events.tsv, annotations, triggers of CHANNEL
    mains_hz: float | None = None
    flat: tuple[str, ...] = ()  # channels with one value throughout, in what was read

    @property
    def stream(self) -> Stream:
        return self.opened.stream

    @property
    def brain(self) -> list[str]:
        return [name for name in self.stream.channels if self.stream.sensor(name).kind in BRAIN]


@dataclass(frozen=True)
class Sight:
    """All that was seen of a study."""

    folder: Folder
    seen: tuple[Seen, ...]
    failed: Mapping[str, str]  # why recordings cannot be read, by name
    tables: Mapping[str, Sequence[Mark]]  # rows of events.tsv, by the name of the recording
    reading: Reading

    def leaving_out(self, names: Sequence[str], why: str) -> "Sight":
        """Without some recordings, as if they could not be used."""
        if not names:
            return self
        seen = tuple(each for each in self.seen if each.entry.name not in names)
        return replace(self, seen=seen, failed={**self.failed, **dict.fromkeys(names, why)})

    @property
    def entries(self) -> list[Entry]:
        return [entry for entry in self.folder.entries if entry.name not in self.failed]

    @property
    def subjects(self) -> list[str]:
        return sorted({entry.subject for entry in self.entries})

    @property
    def channels(self) -> list[str]:
        """The brain channels that all have, in their order."""
        common = set(self.seen[0].brain).intersection(*(seen.brain for seen in self.seen))
        return [name for name in self.seen[0].brain if name in common]

    @property
    def rates(self) -> list[float]:
        return sorted({seen.stream.sfreq for seen in self.seen})

    @property
    def kinds(self) -> Counter[str]:
        stream = self.seen[0].stream
        return Counter(stream.sensor(name).kind for name in stream.channels)

    def marks(self, source: str) -> dict[str, Sequence[Mark]]:
        """The marks of one kind, by the name of the recording; recordings without any are left out."""
        if source == EVENTS_TSV:
            return {name: marks for name, marks in self.tables.items() if marks}
        return {seen.entry.name: marks for seen in self.seen if (marks := seen.marks.get(source, ()))}

    @property
    def sources(self) -> list[str]:
        opened = dict.fromkeys(source for seen in self.seen for source in seen.marks)
        return [*([EVENTS_TSV] if any(self.tables.values()) else []), *opened]


EVENTS_TSV, FILE, EPOCHS, ANNOTATIONS, TRIGGERS = (
    "events.tsv", "the file of events next to it", "the epochs of the file", "annotations", "triggers of "
)  # fmt: skip
MARKERS = "the markers in the .mat"


def look(folder: Folder, reading: Reading, progress: Progress) -> Sight:
    """Open some recordings of a folder. Raises ValueError if none of them can be read."""
    some = [folder.entries[index] for index in spread(len(folder.entries), MOST_OPENED)]
    seen: list[Seen] = []
    failed: dict[str, str] = {}
    for number, entry in enumerate(some, 1):
        progress.at(f"recording {number} of {len(some)}, {entry.name}")
        try:
            seen.append(_open(entry, reading))
        except Exception as error:  # noqa: BLE001  whatever is wrong with a recording, the others go on
            failed[entry.name] = guard.one_line(entry.path, error).replace(f"{folder.path}/", "")
    if not seen:
        why = next(iter(failed.values()))
        raise ValueError(f"none of the {len(some)} recordings of {folder.path} that were opened can be read: {why}")
    tables: dict[str, Sequence[Mark]] = {}
    with_tables = spread(len(folder.entries), MOST_TABLES) if folder.has_events else []
    for entry in [folder.entries[index] for index in with_tables]:
        if entry.name in failed:
            continue
        progress.at(f"events of {entry.name}")
        try:
            tables[entry.name] = list(_rows(entry))
        except (ValueError, OSError) as error:
            failed[entry.name] = guard.one_line(entry.path, error).replace(f"{folder.path}/", "")
    usable = tuple(each for each in seen if each.entry.name not in failed)
    if not usable:
        raise ValueError(f"no recording of {folder.path} can be used: {next(iter(failed.values()))}")
    return Sight(folder, usable, failed, tables, reading)


def spread(n: int, most: int) -> list[int]:
    """Indices that are spread over n things, not in step with a condition that alternates."""
    if n <= most:
        return list(range(n))
    step = next(step for step in range(round(n * 0.618), n) if np.gcd(step, n) == 1)
    return sorted(step * number % n for number in range(most))


def _open(entry: Entry, reading: Reading) -> Seen:
    opened = recordings.open_entry(entry, reading)
    flat: tuple[str, ...] = ()
    for defect in samples.find_defects(opened.stream, PIECES):
        if defect.fatal:
            raise ValueError(f"{entry.path}: {defect.sentence}")
        flat = defect.channels if defect.kind == "flat" else flat
    marks: dict[str, list[Mark]] = {}
    if opened.trial_edges:
        return Seen(entry, opened, {EPOCHS: _epochs(entry, opened)}, opened.line_hz or _mains(opened.stream), flat)
    if beside := _beside(entry, opened):
        marks[FILE if event_files.beside(entry.path) else MARKERS] = beside
    if opened.annotations:
        marks[ANNOTATIONS] = [Mark(each.onset_s, each.duration_s, {"text": each.text}) for each in opened.annotations]
    stream = opened.stream
    for channel in [name for name in stream.channels if stream.sensor(name).kind == "stim"]:
        try:
            pulses = triggers.pulses(stream, channel)
        except ValueError:  # flat, or not a number: nothing to tell
            continue
        columns = (pulses.times_s.tolist(), pulses.durations_s.tolist(), pulses.values.tolist())
        marks[TRIGGERS + channel] = [
            Mark(max(0.0, onset_s), lasts_s, {"value": str(value)})
            for onset_s, lasts_s, value in zip(*columns, strict=True)
        ]
    return Seen(entry, opened, marks, opened.line_hz or _mains(stream), flat)


def _beside(entry: Entry, opened: "Opened") -> list[Mark]:
    """The events of a file next to the recording, or of markers in its .mat."""
    if not event_files.beside(entry.path) and entry.path.suffix.lower() != ".mat":
        return []
    moment = FileEvents(duration_s=1 / opened.stream.sfreq, overlap=True)
    try:
        trials = of_recording.trials(moment, entry, opened).trials
    except ValueError as error:  # a .mat without markers
        if event_files.beside(entry.path):
            raise
        log.debug("%s: %s", entry.path, error)
        return []
    return [Mark(trial.start, 0.0, {"code": trial.stimulus}) for trial in trials]


def _epochs(entry: Entry, opened: "Opened") -> list[Mark]:
    """What is known of each epoch of a file that was cut already: its event, and what a .mat says of each."""
    stream = opened.stream
    edges = [edge / stream.sfreq for edge in (0, *opened.trial_edges, stream.n_times)]
    n = len(edges) - 1
    columns = dict(markers.each_trial(entry.path, n)) if entry.path.suffix.lower() == ".mat" else {}
    if len(opened.annotations) == n:
        columns["trial_type"] = [each.text for each in opened.annotations]
    return [
        Mark(edges[k], edges[k + 1] - edges[k], {name: str(values[k]) for name, values in columns.items()})
        for k in range(n)
    ]


def _rows(entry: Entry) -> Iterator[Mark]:
    for row in entry.events() or []:
        onset_s = _seconds(row.get("onset"))
        if onset_s is not None:
            columns = {name: value for name, value in row.items() if name not in ("onset", "duration")}
            yield Mark(onset_s, _seconds(row.get("duration")) or 0.0, columns)


def _seconds(cell: str | None) -> float | None:
    try:
        number = float(cell or "")
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _mains(stream: Stream) -> float | None:
    """The mains frequency that stands out of the spectrum; None where none does."""
    brain = [place for place, name in enumerate(stream.channels) if stream.sensor(name).kind in BRAIN]
    length = min(stream.n_times, round(SPECTRUM_S * stream.sfreq))
    if not brain or length < 4 * stream.sfreq:
        return None
    first = (stream.n_times - length) // 2
    piece = np.nan_to_num(stream.read(first, first + length)[:, brain])
    piece = piece[:, np.ptp(piece, axis=0) > 0]  # of a flat channel nothing stands out
    if not piece.size:
        return None
    power = np.abs(np.fft.rfft(piece - piece.mean(axis=0), axis=0)) ** 2
    hz = np.fft.rfftfreq(length, 1 / stream.sfreq)
    ratios = {}
    for mains in (each for each in MAINS_HZ if each + 4 < stream.sfreq / 2):
        at, around = np.abs(hz - mains) < 0.5, (np.abs(hz - mains) > 1) & (np.abs(hz - mains) < 4)
        ratios[mains] = float(np.median(power[at].max(axis=0) / np.median(power[around], axis=0)))
    # The largest of some values of noise is several times their median, too
    floor = STANDS_OUT * np.log(max(2.0, length / stream.sfreq))
    return max(ratios, key=lambda mains: ratios[mains]) if ratios and max(ratios.values()) > floor else None
