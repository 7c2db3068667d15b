"""The page of a study, one file that can be mailed: what is odd, all tables, and a section a recording with pictures.

The oddest recordings come first. A page has MOST_SECTIONS of them at most, and the next file the following ones, so
that each opens quickly.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegdecode.data.io.channels import table as channels_table
from eegdecode.data.survey import drawings, oddities, page_data
from eegdecode.data.survey.oddities import Measures, Oddities
from eegdecode.data.survey.table import RecordingRow, StudyTable
from eegdecode.page import page
from hpc.media import many
from hpc.runs import products

MOST_SECTIONS = 60
MOST_CHANNELS_LISTED = 400  # rows of a table of channels on the page; its CSV has all of them

Load = Callable[[RecordingRow], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Table:
    """A table of a page, and `every` row for those who download it."""

    name: str
    head: Sequence[str]
    every: Sequence[Sequence[str]]
    most: int | None = None

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        return self.every[: self.most]


@dataclass(frozen=True)
class Known:
    """A recording as the page has it. `at`: its place in the study, which names its section."""

    at: int
    row: RecordingRow
    measures: Measures
    odd: Oddities
    spectra: dict[str, Mapping[str, Any]]


def write(
    folder: Path,
    title: str,
    table: StudyTable,
    record: Callable[[str], Mapping[str, Any]] | None = None,
    decided: Sequence[str] = (),
) -> None:
    """Write survey.tsv, channels.tsv and the page: NAME.html, and NAME-2.html and so on if there are many recordings.
    `record`: gives the record of decisions of a recording by its name; `decided`: sentences about all of them."""

    def load(row: RecordingRow) -> Mapping[str, Any] | None:
        data = page_data.read(folder, row.drawn, row.key)
        return None if data is None else page_data.joined(data, row.decided, record(row.name) if record else {})

    products.write_text(folder / "survey.tsv", table.tsv())
    products.write_text(folder / "channels.tsv", channels_table.tsv({row.label: row.decided for row in table.good}))
    for file, text in pages(title, table, load, decided):
        products.write_text(folder / file, text)


def pages(title: str, table: StudyTable, load: Load, decided: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Each file of the page, its name and content."""
    name, known = table.page, _known(table, load)
    drawn = sorted((each for each in known if each.row.drawn), key=lambda each: (-each.odd.score, each.at))
    parts = [drawn[first : first + MOST_SECTIONS] for first in range(0, len(drawn), MOST_SECTIONS)] or [[]]
    file_of = [f"{name}.html", *(f"{name}-{number}.html" for number in range(2, len(parts) + 1))]
    link_of = {each.at: f"{'' if number == 0 else file_of[number]}#recording-{each.at}"
               for number, part in enumerate(parts) for each in part}  # fmt: skip
    for number, (file, part) in enumerate(zip(file_of, parts, strict=True)):
        sections = [_section(each, load(each.row)) for each in part]
        about: dict[str, object] = {"overview": None}
        if number == 0:
            about = {"overview": _overview(name, table, known, link_of, decided)}
        yield file, page(
            "data/survey/survey",
            title=title,
            sections=sections,
            part=(number + 1, len(parts)),
            files=[(place + 1, other) for place, other in enumerate(file_of)],
            first=sum(map(len, parts[:number])) + 1,
            n_drawn=len(drawn),
            **about,
        )  # fmt: skip


def _known(table: StudyTable, load: Load) -> list[Known]:
    of_row: list[tuple[Measures, dict[str, Mapping[str, Any]]]] = []
    for row in table.rows:
        looked = load(row) if row.drawn else None
        of_row.append((oddities.measures(looked), _medians(looked)))
    all_measures = [measures for measures, _ in of_row]
    return [
        Known(at, row, measures, oddities.found(measures, all_measures) if row.drawn else Oddities(), spectra)
        for at, (row, (measures, spectra)) in enumerate(zip(table.rows, of_row, strict=True))
    ]


def _medians(looked: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Of each side the median spectrum of the kind with most channels."""
    medians: dict[str, Mapping[str, Any]] = {}
    for side in ("before", "after"):
        kinds = (looked or {}).get(side, {}).get("kinds", {})
        for kind, of in list(kinds.items())[:1]:
            medians[side] = {"kind": kind, "unit": of["unit"], "hz": of["hz"], "median": of["db"]["median"]}
    return medians


def _overview(
    name: str, table: StudyTable, known: Sequence[Known], link_of: Mapping[int, str], decided: Sequence[str]
) -> dict[str, object]:
    first, *more = table.sentences()
    n_odd = sum(bool(each.odd.sentences) for each in known)
    subjects = _subjects(known, link_of)
    columns = table.columns()
    cells = [
        ["" if row.failed and column not in ("study", "recording", "subject", "session", "run") else row.cells[column]
         for column in columns] + [row.failed or "; ".join(each.odd.sentences)]
        for row, each in zip(table.rows, known, strict=True)
    ]  # fmt: skip
    return {
        "first": first,
        "more": [*(more or ["Nothing is missing, damaged or duplicated."]), *decided],
        "cards": _cards(table, known),
        "n_odd": n_odd,
        "subjects": subjects,
        "subjects_csv": Table(
            f"{name}-subjects",
            ("subject", "what is odd", "recordings", "minutes", "trials", "bad channels", "score"),
            [[each["name"], "; ".join(each["odd"]), *each["numbers"], f"{each['score']:g}"] for each in subjects],
        ),
        "columns": columns,
        "rows": [(row, link_of.get(at, "")) for at, row in enumerate(table.rows)],
        "rows_csv": Table(f"{name}-recordings", (*columns, "remarks"), cells),
        "overlays": [
            drawn
            for side in ("before", "after")
            if (drawn := drawings.overlay(_alike([
                (each.row.label, bool(each.odd.sentences), each.spectra[side]) for each in known if side in each.spectra
            ]), side))
        ],
    }  # fmt: skip


def _alike(
    there: Sequence[tuple[str, bool, Mapping[str, Any]]],
) -> list[tuple[str, bool, Mapping[str, Any]]]:
    """Those of the kind and unit that most of them have."""
    kinds = Counter((of["kind"], of["unit"]) for *_, of in there)
    most = max(kinds, key=lambda kind: kinds[kind], default=None)
    return [each for each in there if (each[2]["kind"], each[2]["unit"]) == most]


def _cards(table: StudyTable, known: Sequence[Known]) -> list[tuple[str, str, str]]:
    trials = sum(sum(row.stimuli.values()) for row in table.rows)
    n_stimuli = len({stimulus for row in table.rows for stimulus in row.stimuli})
    bad = [each.measures.n_bad / each.measures.n_channels for each in known if each.measures.n_channels]
    cards = [
        ("subjects", str(len(table.subjects)), many(len(table.rows), "recording")),
        ("hours", f"{table.hours:.1f}", f"{len(table.failed)} cannot be used" if table.failed else "all can be used"),
        ("trials", str(trials), f"of {n_stimuli} {'stimulus' if n_stimuli == 1 else 'stimuli'}"),
    ]  # fmt: skip
    if bad:
        cards.append(
            ("bad channels", f"{100 * statistics.mean(bad):.1f} %", f"at most {100 * max(bad):.0f} % in a recording")
        )
    return cards


def _subjects(known: Sequence[Known], link_of: Mapping[int, str]) -> list[dict[str, Any]]:
    """The subjects, the oddest first."""
    of_subject: dict[str, list[Known]] = {}
    for each in known:
        of_subject.setdefault(each.row.subject, []).append(each)
    rows = []
    for subject, mine in of_subject.items():
        mine = sorted(mine, key=lambda each: -each.odd.score)
        failed = [each for each in mine if each.row.failed]
        odd = [f"{many(len(failed), 'recording')} cannot be used"] if failed else []
        several = len(mine) > 1
        odd += [
            f"{each.row.label.removeprefix(subject + '_')}: {sentence}" if several else sentence
            for each in mine
            for sentence in each.odd.sentences
        ]
        good = [each for each in mine if not each.row.failed]
        bad = sum(each.measures.n_bad for each in good)
        rows.append(
            {
                "name": subject,
                "odd": odd,
                "link": next((link_of[each.at] for each in mine if each.at in link_of), ""),
                "numbers": [
                    str(len(mine)),
                    f"{sum(each.row.duration_s for each in good) / 60:.1f}",
                    str(sum(sum(each.row.stimuli.values()) for each in good)),
                    str(bad) if any(each.row.drawn for each in good) else "",
                ],
                "score": round(1000.0 * len(failed) + sum(each.odd.score for each in mine), 3),
            }
        )
    return sorted(rows, key=lambda row: (-row["score"], row["name"]))


def _section(known: Known, looked: Mapping[str, Any] | None) -> dict[str, Any]:
    row = known.row
    decisions = (looked or {}).get("decisions", {})
    section: dict[str, Any] = {
        "id": f"recording-{known.at}",
        "name": row.label,
        "facts": [text for column, text in row.cells.items() if column == "channels" and text]
        + [f"{row.sfreq:g} Hz", f"{row.duration_s / 60:.1f} min", many(sum(row.stimuli.values()), "trial")],
        "odd": known.odd.sentences,
        "notes": list(dict.fromkeys(row.notes)),
        "bad": list(decisions.get("bad_channels", {}).items()),
        "components": decisions.get("components"),
        "failed": (looked or {}).get("failed", "")
        if looked
        else "its page data are not there; run this again to draw it",
        "drawn": None,
        **_tables(row.label, decisions, looked or {}),
    }
    if looked and "failed" not in looked:
        section["drawn"] = _pictures(looked, decisions)
    return section


def _pictures(looked: Mapping[str, Any], decisions: Mapping[str, Any]) -> dict[str, Any]:
    sides = [(side, looked[side]) for side in ("before", "after") if side in looked]
    bads = decisions["bad_channels"]
    by_kind = [(side, of["kinds"]) for side, of in sides]
    kinds = list(dict.fromkeys(kind for _, of in by_kind for kind in of))
    responses: Mapping[str, Any] = next((of["responses"] for _, of in reversed(sides) if of.get("responses")), {})
    return {
        "heads": drawings.channels(looked),
        "spectra": [drawn for kind in kinds for drawn in drawings.spectrum(by_kind, kind)],
        "traces": [drawn for side, of in sides if (drawn := drawings.traces(side, of["traces"], bads))],
        "responses": drawings.responses(responses),
        "timeline": drawings.timeline(
            looked, [each for each in decisions["drop_log"] if each["decision"] == "dropped"]
        ),
        "intervals": drawings.intervals(looked),
        "is_stored": "after" in looked,
    }


def _tables(label: str, decisions: Mapping[str, Any], looked: Mapping[str, Any]) -> dict[str, Any]:
    """The channels, and the trials that were dropped."""
    bads = decisions.get("bad_channels", {})
    loud = {
        name: f"{value:.3g} {of['unit']}"
        for of in looked.get("before", {}).get("kinds", {}).values()
        for name, value in of["loudness"].items()
    }
    rows = [
        {**each, "loudness": loud.get(each["name"], ""), "bad": bads.get(each["name"], "")}
        for each in decisions.get("channels", ())
    ]
    tables: dict[str, Any] = {"channels": None, "drops": None, "drop_counts": [], "spans": None}
    if rows:
        tables["channels"] = _table(f"{label}-channels", rows, MOST_CHANNELS_LISTED)
    if drops := decisions.get("drop_log", ()):
        tables["drops"] = _table(f"{label}-drop-log", drops, 100)
        counts = Counter((each["decision"], each["reason"]) for each in drops)
        tables["drop_counts"] = [(f"{decision}: {why}", n) for (decision, why), n in counts.most_common()]
    if spans := decisions.get("spans", ()):
        tables["spans"] = _table(f"{label}-bad-spans", spans, 100)
    return tables


def _table(name: str, rows: Sequence[Mapping[str, Any]], most: int) -> Table:
    head = list(dict.fromkeys(str(column) for row in rows for column in row))
    return Table(name, head, [[_text(row.get(column, "")) for column in head] for row in rows], most)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)
