"""A BIDS folder that is whole or absent: it is written beside its place, and gets its name when all of it is there.

Stopped and given again, it continues: what was written of a recording is listed with sizes and SHA-256, and is written
again where the bytes are others. The list of all files, products.jsonl, stays in the folder: `hpc verify FOLDER/` and
`preprocess` check the files by it.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hpc import media
from hpc.runs import products
from hpc.runs.products import Product
from hpc.runs.rundir import LIST, append_line, atomic_write, read_json, read_lines, write_json

VERSION = version("hpc-eegdecode")
BIDS_VERSION = "1.10.0"
JOURNAL = ".written.jsonl"
"""What is there of an unfinished folder: for each recording a line with its files."""
ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "split", "proc", "space", "desc")
"""The entities of BIDS that our recordings can have, in the order of a name."""


class BidsStudy:
    """The folder, being written. `request`: what is to be in it, by which an unfinished one is known again."""

    def __init__(self, folder: Path, part: Path, request: Mapping[str, Any]) -> None:
        self.folder, self.part = folder, part
        self.key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
        self.written: dict[str, list[Product]] = {}
        self.notes: dict[str, dict[str, Any]] = {}

    def has(self, recording: str) -> bool:
        """Whether all files of a recording are there, as they were written."""
        files = self.written.get(recording, [])
        return bool(files) and all(
            (self.part / each.file).is_file() and products.is_intact(self.part / each.file, each) for each in files
        )

    def add(self, recording: str, write: Callable[[Path], Sequence[Path]]) -> None:
        """Write a recording: `write` gets the folder and returns the files it has written."""
        self.written[recording] = [_product(path, self.part) for path in write(self.part)]
        lines = [each.to_json() for each in self.written[recording]]
        append_line(self.part / JOURNAL, {"key": self.key, "recording": recording, "files": lines})

    def note(self, subject: str, **notes: Any) -> None:
        """Note what is known of a subject, all of whose recordings are there."""
        self.notes[subject] = notes
        append_line(self.part / JOURNAL, {"key": self.key, "subject": subject, "notes": notes})

    def finish(
        self, description: Mapping[str, Any], texts: Mapping[str, str], kept: Iterable[str], about: Mapping[str, Any]
    ) -> None:
        """Write the files at the root, list all files, and give the folder its name. `kept`: files that are there."""
        for name, text in texts.items():
            atomic_write(self.part / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
        atomic_write(self.part / ".bidsignore", lambda file: file.write(f"{LIST}\n".encode()))
        write_json(self.part / "dataset_description.json", {"BIDSVersion": BIDS_VERSION, **description})
        known = {each.file for files in self.written.values() for each in files}
        known |= {*texts, *kept, "dataset_description.json"}
        for path in list(products.files(self.part)):
            if path.relative_to(self.part).as_posix() not in known:
                path.unlink()  # half of a recording, or one that was written in another way before
        self.publish(**about)

    def publish(self, **about: Any) -> None:
        """List all files, and give the folder its name. `about`: what the list says of it."""
        products.close(self.part, run="", key=self.key, **about)
        (self.part / JOURNAL).unlink(missing_ok=True)
        (self.part / ".lock").unlink(missing_ok=True)
        os.rename(self.part, self.folder)


def is_whole(folder: Path, request: Mapping[str, Any]) -> bool:
    """Whether the folder is there and is what is asked for. Raises ValueError if it is something else, or damaged."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    head: dict[str, Any] = next(iter(read_lines(folder / LIST)), {}) if folder.is_dir() else {}
    if head.get("key") != BidsStudy(folder, folder, request).key:
        raise ValueError(
            f"{folder} is there already and is something else, and nothing is overwritten: give another -o"
        )
    for product in (products.listed(folder) or {}).values():
        path = folder / product.file
        if not path.is_file() or not products.is_intact(path, product):
            raise ValueError(f"{path} is not what was written: remove {folder} and give the line again")
    return True


@contextmanager
def opened(folder: Path, request: Mapping[str, Any]) -> Iterator[BidsStudy]:
    """Begin or continue a folder, alone."""
    part = folder.parent / f".{folder.name}.part"
    part.mkdir(parents=True, exist_ok=True)
    with open(part / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder} is being written by another process: wait for it, or give another -o") from None
        study = BidsStudy(folder, part, request)
        for line in read_lines(part / JOURNAL):
            if line.get("key") != study.key:
                continue
            if "subject" in line:
                study.notes[line["subject"]] = line["notes"]
            else:
                files = (Product.of_json(each) for each in line["files"])
                study.written[line["recording"]] = [product for product in files if product]
        if folder.is_dir():
            folder.rmdir()  # empty
        yield study


def name_of(entities: Mapping[str, str]) -> str:
    """`sub-01_task-rest`; entities in the order of BIDS, those without a value left out."""
    return "_".join(f"{key}-{entities[key]}" for key in ENTITIES if entities.get(key))


def label(text: object) -> str:
    """A value of an entity: letters and digits only."""
    return re.sub(r"[^A-Za-z0-9]", "", str(text))


def distinct(names: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The entities of recordings by name; where two would have the same, their runs are counted."""
    groups: dict[str, list[str]] = {}
    for recording, entities in names.items():
        groups.setdefault(name_of(entities), []).append(recording)
    return {
        recording: {**names[recording], **({"run": str(number)} if len(alike) > 1 else {})}
        for alike in groups.values()
        for number, recording in enumerate(alike, 1)
    }


def participants(rows: Sequence[Mapping[str, str]]) -> str:
    """The text of participants.tsv."""
    columns = list(dict.fromkeys(["participant_id", *(column for row in rows for column in row)]))
    return media.tsv([columns, *([row.get(column) or "n/a" for column in columns] for row in rows)])


def description_of(folder: Path) -> dict[str, Any]:
    """The dataset_description.json of a study; empty if it has none that can be read."""
    try:
        read = read_json(folder / "dataset_description.json")
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _product(path: Path, folder: Path) -> Product:
    digest, n_bytes = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            n_bytes += len(block)
    return Product(path.relative_to(folder).as_posix(), n_bytes, digest.hexdigest())
