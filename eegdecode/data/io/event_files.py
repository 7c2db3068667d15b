"""Files of events next to a recording, as MNE-Python and MNE-C write them: -eve.fif and .eve.

beside(path)              those that belong to a recording
read(path)                (sample, code) of each event; samples count from the first of the acquisition
names(path)               {code: name}, where the file has names
"""

import gzip
import re
import struct
from pathlib import Path

import numpy as np

from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused

ENDS = ("eve.fif", "eve.fif.gz", "eve", "eve.lst", "eve.txt")
EVENT_LIST, DESCRIPTION = 3561, 206
"""Tags of a FIF file, from its dictionary (https://github.com/mne-tools/fiff-constants): int32 [event, (sample, before,
code)], and the names of codes as `left:1;right:2`."""
FIF_HEAD = b"\0\0\0\x64\0\0\0\x1f\0\0\0\x14"
_OF_RECORDING = re.compile(r"[-_](raw|meg|eeg|ieeg|epo)(_(sss|tsss))?$")


def is_one(path: Path) -> bool:
    """Whether a file has events, by its name; it is then no recording."""
    return path.suffix.lower() == ".eve" or re.search(r"[-_]eve\.(fif|fif\.gz|lst|txt)$", path.name.lower()) is not None


def kind(path: Path) -> str:
    """The end of its name that says what it is, as -eve.fif."""
    match = re.search(r"([-_]eve)?\.(eve|fif|fif\.gz|lst|txt)$", path.name.lower())
    return match[0] if match else path.name


def beside(path: Path) -> list[Path]:
    """The files of events next to a recording, that of the closest name first: `s01_raw-eve.fif` or `s01-eve.fif` for
    `s01_raw.fif`."""
    whole = re.sub(r"(\.fif\.gz|\.[A-Za-z0-9]+)$", "", path.name)
    bare = _OF_RECORDING.sub("", whole)
    names = [f"{stem}{join}{end}" for stem in dict.fromkeys((whole, bare)) for join in "-_." for end in ENDS]
    return [file for name in names if is_one(file := path.with_name(name)) and file.exists()]


def read(path: Path) -> np.ndarray:
    """[event, (sample, code)] in the order of the file."""
    if path.name.lower().endswith((".fif", ".fif.gz")):
        events = _tags(path).get(EVENT_LIST)
        if events is None:
            raise Refused(f"{path} is a FIF file without a list of events: save it with mne.write_events")
        if len(events) % 12:
            raise Refused(f"{path} is damaged: its list of events has {len(events)} bytes; fetch it again")
        return np.frombuffer(events, ">i4").reshape(-1, 3)[:, [0, 2]].astype(int)
    return _lines(path)


def names(path: Path) -> dict[str, str]:
    """{code: name}; empty where the file has no names."""
    if not path.name.lower().endswith((".fif", ".fif.gz")):
        return {}
    text = _tags(path).get(DESCRIPTION, b"").decode("latin-1")
    pairs = (part.rpartition(":") for part in text.split(";"))
    return {code.strip(): name for name, _, code in pairs if name and re.fullmatch(r"-?\d+", code.strip())}


def _tags(path: Path) -> dict[int, bytes]:
    """The first tag of each of our kinds. A tag: kind, type, length and the place of the next; 0: right behind it."""
    content, tags = _content(path), dict[int, bytes]()
    if not content.startswith(FIF_HEAD):
        raise Refused(f"{path} is no FIF file: save it with mne.write_events, or fetch it again")
    at = 0
    while 0 <= at < len(content):
        guard.promise(path, "a tag", 16, len(content) - at)
        kind, _, n_bytes, following = struct.unpack(">4i", content[at : at + 16])
        guard.promise(path, "a tag", n_bytes, len(content) - at - 16)
        if kind in (EVENT_LIST, DESCRIPTION):
            tags.setdefault(kind, content[at + 16 : at + 16 + n_bytes])
        after = at + 16 + n_bytes if following == 0 else following
        if after != -1 and after <= at:
            raise Refused(f"{path} is damaged: a tag at byte {at} leads back to byte {after}; fetch it again")
        at = after
    return tags


def _content(path: Path) -> bytes:
    with guard.open_file(path) as file, guard.reading(path):
        if path.name.lower().endswith(".gz"):
            with gzip.open(file) as packed:
                content = packed.read(guard.TEXT_BYTES + 1)
        else:
            content = file.read(guard.TEXT_BYTES + 1)
    if len(content) > guard.TEXT_BYTES:
        raise Refused(f"{path} has more than {guard.TEXT_BYTES} bytes, as no list of events has: fetch it again")
    return content


def _lines(path: Path) -> np.ndarray:
    """Lines of `sample before code`, or of `sample seconds before code`, as MNE-C writes them."""
    events = []
    for number, line in enumerate(guard.text(path).splitlines(), 1):
        cells = line.partition("#")[0].split()
        if not cells:
            continue
        try:
            events.append((int(cells[0]), int(cells[-1])))
        except ValueError:
            cells = []
        if len(cells) not in (3, 4):
            raise Refused(
                f"line {number} of {path} is {line.strip()[:60]!r}, no event: it needs the sample, the value before "
                "and the code, as whole numbers"
            )
    return np.array(events, int).reshape(-1, 2)
