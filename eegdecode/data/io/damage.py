"""Detect damaged files before anything is computed from them: file, cause and remedy in one sentence.

DAMAGES is the table: each kind has a test on the file's bytes or its neighbours. `READER_ERRORS` translates the error
messages of readers. Damage that only the samples show is in `samples.py`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eegdecode.data.io import headers
from eegdecode.data.io.headers import KIT, File

MAGIC: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
    (b"0       ", "EDF", (".edf",)),
    (b"\xffBIOSEMI", "BDF", (".bdf",)),
    (b"GDF ", "GDF", (".gdf",)),
    (b"Brain Vision Data Exchange Header", "BrainVision", (".vhdr", ".ahdr")),
    (b"BrainVision Data Exchange Header", "BrainVision", (".vhdr", ".ahdr")),
    (b"\0\0\0\x64\0\0\0\x1f\0\0\0\x14", "FIF", (".fif",)),
    (b"MATLAB 5.0 MAT-file", "MATLAB", (".mat", ".set")),
    (b"MATLAB 7.3 MAT-file", "MATLAB", (".mat", ".set")),
    (b"\x89HDF\r\n\x1a\n", "HDF5", (".mat", ".set", ".snirf", ".h5", ".nwb")),
    (KIT, "KIT", (".con", ".sqd", ".raw", ".ave", ".mrk")),
    (b"Version 3.0", "Neuroscan CNT", (".cnt",)),
    (b"\x1f\x8b", "gzip", (".gz",)),
    (b"PK\x03\x04", "zip", (".zip", ".npz")),
    (b"\x93NUMPY", "NumPy", (".npy",)),
    (b"XDF:", "XDF", (".xdf",)),
    (b"PAR1", "Parquet", (".parquet",)),
)
"""The first bytes of files, their format, and its extensions."""

SIBLINGS = {".eeg": ".vhdr", ".vmrk": ".vhdr", ".dat": ".vhdr", ".avg": ".vhdr", ".fdt": ".set"}
"""Extensions of files that hold only a part, and that of the file to open instead."""

POSITIONS = (".hpts", ".elp", ".hsp", ".elc", ".sfp", ".pos", ".loc", ".locs", ".ced", ".bvef", ".xyz")
TEXT = (".json", ".md", ".html", ".m", ".py", ".bval", ".bvec", ".lock")
MEDIA = (
    ".mp3",
    ".mp4",
    ".mkv",
    ".avi",
    ".mov",
    ".webm",
    ".png",
    ".jpg",
    ".jpeg",
    ".pdf",
    ".nii",
    ".gz",
    ".zip",
    ".tar",
)


@dataclass(frozen=True)
class Defect:
    """Something that is wrong with a recording; `fatal`: nothing may be computed from it."""

    kind: str
    sentence: str
    channels: tuple[str, ...] = ()
    fatal: bool = False


def of_file(path: Path) -> tuple[Defect, ...]:
    """Defects that the bytes show; the search ends at the first fatal one, which is then the last."""
    defects = []
    file = headers.look_at(path)
    for kind, fatal, test in DAMAGES:
        if file is not None or kind in ("missing", "annex"):
            sentence = test(file or File(path, 0, b"", path.suffix.lower()))
            if sentence:
                defects.append(Defect(kind, f"{path} {sentence}", fatal=fatal))
                if fatal:
                    break
    return tuple(defects)


def explain(path: Path, error: BaseException) -> str:
    """Explain the error of a reader on a file in which no damage was detected."""
    cause = " ".join(str(error).split()) or type(error).__name__
    for pattern, sentence in READER_ERRORS:
        if match := re.search(pattern, cause, re.IGNORECASE):
            return f"{path} {match.expand(sentence)}"
    return f"{path} cannot be read ({cause[:300]}): fetch it again, with the files next to it"


def too_short(path: Path, samples: Path, n_bytes: int) -> str | None:
    """A sentence if a file of bare samples has other than `n_bytes`, which the header at `path` promises."""
    size = samples.stat().st_size
    if size == n_bytes:
        return None
    what = "is cut off" if size < n_bytes else "belongs to another header"
    return f"{samples} {what}: {path.name} promises {n_bytes} bytes, it has {size}: fetch both again"


def _missing(file: File) -> str | None:
    if file.path.exists() or file.path.is_symlink():
        return None
    return "does not exist: check the spelling, or fetch it"


def _annex(file: File) -> str | None:
    if file.path.is_symlink() and not file.path.exists():
        return "is a link to data that were not fetched: git annex get (or datalad get) it"
    if file.head.startswith(b"/annex/objects/"):
        return "is only a pointer of git-annex, the data were not fetched: git annex get it"
    return None


def _empty(file: File) -> str | None:
    if file.path.is_dir():
        return None if any(file.path.iterdir()) else "is an empty folder: fetch it again"
    return "is empty (0 bytes): fetch it again" if file.size == 0 else None


def _pointer(file: File) -> str | None:
    if file.head.startswith(b"version https://git-lfs.github.com/spec"):
        size = re.search(rb"size (\d+)", file.head)
        size_shown = f" ({int(size[1]):,} bytes)" if size else ""
        return f"is only a pointer of Git LFS, the data{size_shown} were not fetched: git lfs pull"
    return None


def _page(file: File) -> str | None:
    if re.match(rb"\s*(<!doctype html|<html)", file.head[:512], re.IGNORECASE) and file.suffix != ".html":
        return "is a web page, not data: the download asked for a login or failed; fetch it again"
    return None


def _part(file: File) -> str | None:
    whole = SIBLINGS.get(file.suffix)
    if whole and (with_header := _header_of(file, whole)):
        return f"is a part of {with_header}: open that, or fetch it"
    if file.suffix in (".meg4", ".res4") and file.path.parent.suffix == ".ds":
        return f"is a part of {file.path.parent.name}: open that folder"
    return None


def _header_of(file: File, suffix: str) -> str | None:
    own = file.path.with_suffix(suffix)
    if own.is_file():
        return own.name
    # .eeg of Nihon Kohden stands alone, and says so; .dat and .avg may be anything
    lonely = file.suffix in (".fdt", ".vmrk") or (file.suffix == ".eeg" and not file.head.startswith(b"EEG-"))
    return f"a recording whose {own.name} is not there" if lonely else None


def _other(file: File) -> str | None:
    if file.path.is_dir():
        return None
    if file.suffix == ".snirf":
        return (
            "holds fNIRS (SNIRF), the light that blood absorbs, which no decoder here is for: read it with "
            "mne.io.read_raw_snirf, and save what you derive from it as .csv or .fif"
        )
    if file.suffix in POSITIONS:
        return "holds positions of electrodes or of the head, no recording"
    bare = not file.suffix and file.head.isascii() and b"\0" not in file.head  # README, LICENSE
    if bare or (file.suffix in TEXT and b"BOXY.EXE" not in file.head[:4096]):
        return "is text, no recording"
    if file.suffix in MEDIA and not file.path.name.lower().endswith(".fif.gz"):
        return f"is no recording but a {file.suffix} file"
    return None


def _wrong_name(file: File) -> str | None:
    known = [(what, suffixes) for magic, what, suffixes in MAGIC if file.head.startswith(magic)]
    expected = [what for _, what, suffixes in MAGIC if file.suffix in suffixes]
    if known:
        what, suffixes = known[0]
        packed = what == "gzip" and file.path.name.lower().endswith(".fif.gz")
        if file.suffix in suffixes or packed or (what == "HDF5" and file.suffix == ".mff"):
            return None
        cure = "unpack it" if what in ("gzip", "zip") else f"rename it to end in {suffixes[0]}"
        return f"is called {file.suffix or 'without extension'} but is {what} inside: {cure}"
    # v4 MATLAB and CNT of ANT begin with what cannot be told from anything else
    if expected and file.suffix in (
        ".edf",
        ".bdf",
        ".gdf",
        ".fif",
        ".con",
        ".sqd",
        ".vhdr",
        ".npy",
        ".npz",
        ".xdf",
        ".nwb",
        ".parquet",
    ):
        begins = file.head[:8].decode("ascii", "backslashreplace")
        return (
            f"does not begin as {expected[0]} does but with {begins!r}: it is something else or damaged; fetch it again"
        )
    return None


DAMAGES: tuple[tuple[str, bool, Callable[[File], str | None]], ...] = (
    ("missing", True, _missing),
    ("annex", True, _annex),
    ("empty", True, _empty),
    ("pointer", True, _pointer),
    ("page", True, _page),
    ("part", True, _part),
    ("other", True, _other),
    ("translated", True, headers.as_text),
    ("name", True, _wrong_name),
    ("header", True, headers.edf_header),
    ("cut", True, headers.edf_cut),
    ("gaps", True, headers.edf_gaps),
    ("unfinished", False, headers.edf_unfinished),
    ("sibling", True, headers.vhdr_elsewhere),
    ("sibling", True, headers.vhdr_samples),
    ("header", True, headers.vhdr_mismatch),
    ("cut", True, headers.vhdr_cut),
    ("markers", False, headers.vhdr_markers),
    ("other", True, headers.kit_averages),
    ("cut", True, headers.kit_cut),
    ("cut", True, headers.fif_cut),
    ("sibling", True, headers.ctf),
)

READER_ERRORS: tuple[tuple[str, str], ...] = (
    (r"([^/\s]+\.fdt)\b.*not found", r"needs \1 for its samples, which is not there: fetch it and put it beside"),
    (r"tried .*?([^/\s]+\.fdt)", r"needs \1 for its samples, which is not there: fetch it and put it beside"),
    (r"[Ss]plit.*(not found|missing|manually)", "is the first of several parts, a later one is not there: fetch all"),
    (r"Could not find measurement data|No raw data|No .*raw .*in ",
     "holds no recording: transforms, head shapes and averages are FIF as well"),
    (r"Unsupported file type", "is of no format that holds EEG or MEG: look at its extension"),
    (r"cannot reshape|could not (be )?broadcast|end of file|EOF|buffer (is smaller|size)|not enough|truncated",
     "is cut off or damaged: fewer samples are there than its header says; fetch it again"),
)  # fmt: skip
"""Patterns of readers' error messages, and what they mean."""
