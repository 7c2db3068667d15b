"""The content of a study as a table and a page. Missing, damaged and duplicate recordings are named."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eegdecode.data.io.channels.table import Channel
from hpc import media
from hpc.errors import first_of
from hpc.media import many

UNUSABLE = "CANNOT BE USED"
REASONS = 6
"""The most reasons that are listed one by one; a study without its large files has a thousand."""


@dataclass(frozen=True)
class RecordingRow:
    """One recording. `failed` says why it cannot be used; the rest is then unknown."""

    name: str
    subject: str
    session: str = ""
    run: str = ""
    channels: Mapping[str, int] = field(default_factory=dict)  # number of each kind
    sfreq: float = 0.0
    duration_s: float = 0.0
    stimuli: Mapping[str, int] = field(default_factory=dict)  # number of trials of each
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checksum: str = ""  # of its samples
    content: str = ""  # of its file, if another may be a copy of it
    study: str = ""  # if there are several
    failed: str = ""
    events: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The codes or names of events that are there, used or not, with their number; by where they are."""
    decided: tuple[Channel, ...] = ()  # what was decided about each channel, and why
    drawn: str = ""  # the name of its page data (eegdecode/data/survey/page_data.py), if it has any
    key: str = ""  # of that

    @property
    def label(self) -> str:
        return f"{self.study}/{self.name}" if self.study else self.name

    @property
    def cells(self) -> dict[str, str]:
        channels = " + ".join(f"{count} {kind}" for kind, count in self.channels.items())
        return {
            "study": self.study,
            "recording": self.name,
            "subject": self.subject,
            "session": self.session,
            "run": self.run,
            "channels": channels,
            "Hz": f"{self.sfreq:g}" if self.sfreq else "",
            "minutes": f"{self.duration_s / 60:.1f}" if self.duration_s else "",
            "trials": str(sum(self.stimuli.values())) if not self.failed else "",
            "stimuli": str(len(self.stimuli)) if not self.failed else "",
            "labels": " ".join(self.labels),
            "events": "; ".join(f"{where}: {counted(events)}" for where, events in self.events.items()),
        }


@dataclass(frozen=True)
class StudyTable:
    """All recordings of one or several studies, in order."""

    rows: tuple[RecordingRow, ...]
    page: str = "survey"
    """The name of its page, without .html."""

    @property
    def good(self) -> list[RecordingRow]:
        return [row for row in self.rows if not row.failed]

    @property
    def failed(self) -> list[RecordingRow]:
        return [row for row in self.rows if row.failed]

    @property
    def subjects(self) -> list[str]:
        return sorted({row.subject for row in self.rows})

    @property
    def hours(self) -> float:
        return sum(row.duration_s for row in self.rows) / 3600

    @property
    def duplicates(self) -> list[list[str]]:
        """Groups of recordings that hold the same samples, or are made from copies of one file."""
        group_of = {index: {index} for index in range(len(self.good))}
        first: dict[tuple[str, str], int] = {}
        for index, row in enumerate(self.good):
            for key in (("samples", row.checksum), ("file", row.content)):
                if key[1]:
                    joined = group_of[first.setdefault(key, index)] | group_of[index]
                    group_of |= dict.fromkeys(joined, joined)
        groups = {min(group): sorted(group) for group in group_of.values() if len(group) > 1}
        return [[self.good[index].label for index in group] for _, group in sorted(groups.items())]

    @property
    def without_trials(self) -> list[str]:
        return [row.label for row in self.good if not row.stimuli]

    @property
    def missing(self) -> list[str]:
        """The runs that most subjects have and some lack."""
        runs = {subject: {(r.session, r.run) for r in self.rows if r.subject == subject} for subject in self.subjects}
        count = Counter(run for of_subject in runs.values() for run in of_subject)
        usual = {run for run, n in count.items() if n > len(runs) / 2}
        return [
            f"{subject} lacks {listed([_run(run) for run in sorted(usual - runs[subject])])}"
            for subject in self.subjects
            if usual - runs[subject]
        ]

    def sentences(self) -> list[str]:
        """The sentences that a reader should see first."""
        rates, trials = sorted({row.sfreq for row in self.good}), sum(sum(row.stimuli.values()) for row in self.good)
        n_stimuli = len({stimulus for row in self.good for stimulus in row.stimuli})
        of = f"{many(trials, 'trial')} of {n_stimuli} {'stimulus' if n_stimuli == 1 else 'stimuli'}"
        sentences = [
            f"{many(len(self.rows), 'recording')} of {many(len(self.subjects), 'subject')}, {self.hours:.1f} hours, "
            f"{of}, at {listed([f'{rate:g}' for rate in rates])} Hz."
        ]
        why: dict[str, list[str]] = {}
        for row in self.failed:
            why.setdefault(row.failed, []).append(row.label)
        shown = list(why.items())[:REASONS]
        sentences += [f"{UNUSABLE}: {listed(names)}: {reason}" for reason, names in shown]
        if left := len(self.failed) - sum(len(names) for _, names in shown):
            sentences.append(f"{UNUSABLE}: {many(left, 'recording')} more, each with its reason in {self.page}.html")
        sentences += [
            f"THE SAME SAMPLES: {listed(names)} are one recording under several names." for names in self.duplicates
        ]
        if self.without_trials:
            sentences.append(f"NO TRIAL: {listed(self.without_trials)}: nothing can be decoded there, check events.")
        sentences += [f"MISSING: {sentence}." for sentence in self.missing]
        sentences += self._events()
        alike = Counter(note for row in self.good for note in row.notes)
        sentences += [f"{note}{f' ({count} recordings)' if count > 1 else ''}" for note, count in alike.items()]
        return sentences

    def _events(self) -> list[str]:
        """The events of the whole study, by where they are."""
        where = dict.fromkeys(name for row in self.good for name in row.events)
        of_all = {name: [row.events[name] for row in self.good if name in row.events] for name in where}
        return [
            f"EVENTS in {name} of {many(len(each), 'recording')}: {counted(sum(map(Counter, each), Counter[str]()))}"
            for name, each in of_all.items()
        ]

    def table(self) -> str:
        """The table as text, without empty columns. Events are too long for it: they are in a sentence."""
        columns = [name for name in self.columns() if name != "events"]
        cells = [columns] + [[media.one_line(row.cells[column]) for column in columns] for row in self.rows]
        widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)

    def columns(self) -> list[str]:
        return [name for name in RecordingRow("", "").cells if any(row.cells[name] for row in self.rows)] or [
            "recording"
        ]

    def tsv(self) -> str:
        """All columns, tab-separated."""
        return media.tsv([list(RecordingRow("", "").cells), *(list(row.cells.values()) for row in self.rows)])

    def metrics(self) -> dict[str, object]:
        return {
            "recordings": len(self.rows),
            "subjects": len(self.subjects),
            "hours": round(self.hours, 3),
            "failed": len(self.failed),
            "without_trials": len(self.without_trials),
            "duplicates": sum(len(names) - 1 for names in self.duplicates),
        }


def _run(run: tuple[str, str]) -> str:
    session, number = run
    return f"{f'session {session} ' if session else ''}run {number or '(unnumbered)'}"


def counted(events: Mapping[str, int]) -> str:
    """Format `30 × left, 29 × right`, the most frequent first."""
    ordered = sorted(events.items(), key=lambda pair: (-pair[1], pair[0]))
    return first_of([f"{n} × {media.one_line(text)}" for text, n in ordered], 12)


def listed(words: Sequence[str]) -> str:
    """Format a list for a sentence, shortened to eight."""
    some = [*words[:8], "…"] if len(words) > 8 else list(words)
    return f"{', '.join(some[:-1])} and {some[-1]}" if len(some) > 1 else "".join(some)
