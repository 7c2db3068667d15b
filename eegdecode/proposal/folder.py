"""Which files are in a folder: those that may be recordings, by format, and all others. No file is opened."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eegdecode.data.io import recordings
from eegdecode.data.io.formats import EXTENSIONS, TABLES
from eegdecode.data.io.recordings import Entry
from eegdecode.proposal import names
from eegdecode.proposal.names import Names
from eegdecode.proposal.progress import Progress
from hpc.errors import first_of
from hpc.media import many

MOST_FILES = 200_000
"""A folder with more is not one study."""
USUAL = 0.8
"""The fraction of the recordings that have one format; the others are left out."""
NOT_RECORDINGS = re.compile(
    r"([-_](eve|cov|ave|trans|fwd|inv|src|sol|bem|proj|head|annot|ica|lay|stc|morph)(-\d+)?\.fif(\.gz)?$)"
    r"|((^|[_/])(events?|channels|electrodes|participants|sessions|scans|coordsystem|files|samples|readme|license|changes)"
    r"\.(tsv|csv|txt)$)|\.eve$",
    re.IGNORECASE,
)
"""Files next to recordings that have their endings."""
TABLES_OF_FILES = ("files.tsv", "files.csv")
"""A table of the recordings, with what is known of each."""
SOUNDS, PICTURES, FILMS = (
    (".wav", ".flac", ".ogg", ".mp3", ".au", ".aiff", ".m4a"),
    (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".svg"),
    (".mp4", ".avi", ".mov", ".mkv", ".webm"),
)


@dataclass(frozen=True)
class Folder:
    """A study: its recordings in the order of their names, and how they are found."""

    path: Path
    entries: tuple[Entry, ...]
    files: str  # the pattern; empty for BIDS
    names: Names | None
    n_files: int
    counts: dict[str, int]  # of files by ending
    has_events: bool = False  # whether there is any events.tsv
    notes: tuple[str, ...] = ()


def look(path: Path, files: str, progress: Progress) -> Folder:
    """Find the recordings of a folder. Raises ValueError with a sentence where there are none that one config reads."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "is not there"
        raise ValueError(f"{path} {what}: name the folder of a study")
    every = list(_walk(path, progress))
    counts = Counter(_ending(name) for name in every)
    has_events = any(name.endswith("events.tsv") for name in every)
    if files:
        return Folder(path, tuple(recordings.find(path, files)), files, None, len(every), counts, has_events)
    if any(re.match(r"sub-[^/]+/(ses-[^/]+/)?(eeg|meg|ieeg)/", name) for name in every):
        entries = recordings.find(path)
        return Folder(path, tuple(entries), "", None, len(every), counts, has_events)
    if table := next((name for name in TABLES_OF_FILES if name in every), ""):
        return Folder(path, tuple(recordings.find(path, table)), table, None, len(every), counts, has_events)
    candidates, others = _candidates(path, every, counts)
    inferred = names.infer(candidates)
    notes = [f"{many(len(others), 'file')} of another format left out: {first_of(others)}"] if others else []
    if inferred.left_out:
        notes.append(
            f"{many(len(inferred.left_out), 'file')} whose names have another form are left out: "
            f"{first_of(inferred.left_out)}"
        )
    entries = recordings.find(path, inferred.files)
    return Folder(path, tuple(entries), inferred.files, inferred, len(every), counts, has_events, tuple(notes))


def _candidates(path: Path, every: list[str], counts: Counter[str]) -> tuple[list[str], list[str]]:
    """The files of the format that the recordings have, and those of other formats."""
    if not every:
        raise ValueError(f"{path} is empty: name the folder that holds the recordings")
    by_format: dict[str, list[str]] = {}
    for name in every:
        ending = _ending(name)
        if ending in (*EXTENSIONS, *TABLES) and not NOT_RECORDINGS.search(name):
            by_format.setdefault(ending, []).append(name)
    if set(by_format) - set(TABLES):  # a table next to recordings of another format tells of them
        by_format = {ending: found for ending, found in by_format.items() if ending not in TABLES}
    if not by_format:
        raise ValueError(f"{path} has no EEG or MEG recording: {_what(counts)}. Recordings end with {_endings()}")
    most = max(by_format, key=lambda ending: len(by_format[ending]))
    n = sum(map(len, by_format.values()))
    if len(by_format[most]) < USUAL * n:
        shares = ", ".join(f"{len(found)} {ending}" for ending, found in sorted(by_format.items()))
        raise ValueError(
            f"{path} has recordings of several formats ({shares}), which may be several studies or one twice: put each "
            f'into a folder of its own, or name the ones you mean with files="{{subject}}*{most}"'
        )
    others = [name for ending, found in by_format.items() if ending != most for name in found]
    return sorted(by_format[most]), sorted(others)


def _what(counts: Counter[str]) -> str:
    """What is in the folder instead, in words."""
    kinds = {"sounds": SOUNDS, "pictures": PICTURES, "films": FILMS}
    n_of = {kind: sum(counts[ending] for ending in endings) for kind, endings in kinds.items()}
    shares = [f"{n} {kind}" for kind, n in n_of.items() if n]
    others = {ending: n for ending, n in counts.items() if not any(ending in endings for endings in kinds.values())}
    shares += [f"{n} {ending or 'without an ending'}" for ending, n in Counter(others).most_common(4)]
    return f"its files are {', '.join(shares)}"


def _endings() -> str:
    return " ".join((*EXTENSIONS, *TABLES))


def _walk(path: Path, progress: Progress) -> Iterator[str]:
    """All files and recordings that are folders below a study, relative to it; links to folders are not followed."""
    waiting, n = [path], 0
    while waiting:
        above = waiting.pop()
        with os.scandir(above) as listed:
            for each in listed:
                if each.name.startswith("."):
                    continue
                is_folder = each.is_dir(follow_symlinks=False)
                if is_folder and _ending(each.name) not in EXTENSIONS:
                    if each.name != "derivatives":
                        waiting.append(Path(each))
                    continue
                n += 1
                progress.at(f"{n} files")
                if n > MOST_FILES:
                    raise ValueError(
                        f"{path} has more than {MOST_FILES} files: name the folder of one study, or the pattern of its "
                        'recordings with files="{subject}/*.EXT"'
                    )
                yield Path(each).relative_to(path).as_posix()


def _ending(name: str) -> str:
    return ".fif.gz" if name.lower().endswith(".fif.gz") else Path(name).suffix.lower()
