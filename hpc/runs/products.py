"""The products of a run, the files in its `out` folder, and the proof that they are what was written.

    out/products.jsonl             the run, its stage and meaning, then for each file its name, size and SHA-256
    out/.products.NODE.PID.jsonl   the lines of one process, until `close` adds them to products.jsonl

Whoever reads a product verifies it first, once in a run: a file that looks as it did when it was verified (inode, size,
times of the last change) is not read again for that, not even by the next attempt.

    RUN/verified/rank-0003.jsonl   what a rank has verified
"""

import hashlib
import json
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from hpc.runs import records
from hpc.runs.rundir import LIST, RunDir, append_line, atomic_write, damaged_lines, encoded, read_json, read_lines

BLOCK_B = 1 << 20
BEAT_S = 0.5


class DamagedProduct(ValueError):
    """The bytes of a product are not those that were written, or nobody knows what was written."""


class Product(NamedTuple):
    """A line of the list."""

    file: str
    n_bytes: int
    sha256: str
    time_ns: int = 0
    """When a process has listed it: of two lines for one file, the later one holds. 0 once `close` has joined them."""
    by_close: bool = False
    """Whether `close` has listed it, as whoever wrote it did not: a page, a log."""
    page: bool = False
    """Whether it is for people to read: the same results may be on another page (hpc.config.stages.leaves)."""

    def to_json(self) -> dict[str, Any]:
        line: dict[str, Any] = {"file": self.file, "bytes": self.n_bytes, "sha256": self.sha256}
        line |= {"time_ns": self.time_ns} if self.time_ns else {}
        return line | {name: True for name in ("by_close", "page") if getattr(self, name)}

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> "Product | None":
        """The product of a line; None if the line is not one, or leads out of the folder."""
        name, n_bytes, sha256, time_ns = (line.get(key) for key in ("file", "bytes", "sha256", "time_ns"))
        if not isinstance(name, str) or not isinstance(n_bytes, int) or not isinstance(sha256, str):
            return None
        parts = name.split("/")
        if not name.isprintable() or "" in parts or "." in parts or ".." in parts or n_bytes < 0:
            return None
        time_ns = time_ns if isinstance(time_ns, int) else 0
        return cls(name, n_bytes, sha256, time_ns, bool(line.get("by_close")), bool(line.get("page")))


# Writing


def write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a product, complete or not at all. It is listed first, so that whoever sees it finds it in the list."""

    def fill(file: BinaryIO) -> None:
        write(file)
        file.flush()
        written = _sha256(Path(file.name))
        _append(path, Product(path.name, written.n_bytes, written.sha256, time.time_ns()))

    atomic_write(path, fill)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(content)
        _append(path, Product(path.name, len(content), hashlib.sha256(content).hexdigest(), time.time_ns()))

    atomic_write(path, fill)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, encoded(text))


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False))


def enter(path: Path) -> None:
    """List a file as it is now."""
    _append(path, _looked_at(path, path.parent))


def close(folder: Path, beat: Callable[[], object] = bool, pages: Sequence[str] = (), **about: object) -> None:
    """Finish the list of a folder: with every file that is in it, in one file. Call it when nobody writes any more.
    `pages`: patterns of the names of pages. `about`: what else its first line says of the run."""
    known = listed(folder) or {}
    parts = list(_parts(folder))
    products = []
    for path in sorted(files(folder)):
        product = known.get(path.relative_to(folder).as_posix())
        if product is None or product.by_close:  # a later attempt may have written it again
            product = _looked_at(path, folder, beat)._replace(by_close=True)
        is_page = any(fnmatchcase(product.file, pattern) for pattern in pages)
        products.append(product._replace(time_ns=0, page=is_page))
    head = {"run": folder.parent.name, **about, "files": len(products)}
    lines = [head, *(product.to_json() for product in products)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    atomic_write(folder / LIST, lambda file: file.write(encoded(text)))
    for part in parts:
        part.unlink(missing_ok=True)


def _append(path: Path, product: Product) -> None:
    append_line(path.parent / f".products.{os.uname().nodename}.{os.getpid()}.jsonl", product.to_json())


def _looked_at(path: Path, folder: Path, beat: Callable[[], object] = bool) -> Product:
    digest = _sha256(path, lambda _: beat())
    return Product(path.relative_to(folder).as_posix(), digest.n_bytes, digest.sha256, time.time_ns())


def _parts(folder: Path) -> Iterator[Path]:
    return folder.glob(".products.*.jsonl")


# Reading


def files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that are products: not its lists, nor what is hidden."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.name != LIST and path.is_file():
            yield path


def is_intact(path: Path, product: Product, count: Callable[[int], object] = int) -> bool:
    """Whether the bytes of a file are those that were written; they are read, whatever is known of it."""
    return path.stat().st_size == product.n_bytes and _sha256(path, count).sha256 == product.sha256


def listed(folder: Path) -> dict[str, Product] | None:
    """Return the list of a folder by file; None if it has none, as those of earlier versions."""
    files = [file for file in (folder / LIST, *_parts(folder)) if file.is_file()]
    if not files:
        return None
    lines = [product for file in files for line in read_lines(file) if (product := Product.of_json(line))]
    return {product.file: product for product in sorted(lines, key=lambda product: product.time_ns)}


def digest(folder: Path) -> str:
    """Return the SHA-256 of what a folder lists, pages left out: equal for runs that have made the same, by whatever
    name; empty if it has no list."""
    known = listed(folder)
    if known is None:
        return ""
    lines = [f"{each.file}\t{each.n_bytes}\t{each.sha256}\n" for each in known.values() if not each.page]
    return hashlib.sha256(encoded("".join(sorted(lines)))).hexdigest()


def why_unlisted(run: RunDir) -> str:
    """Return the sentence on a run that has written products, and no list of them."""
    if records.plan(run).get("schema", 0) < records.WITH_LISTS:
        return (
            f"{run.out} has no {LIST}, which earlier versions did not write. `hpc verify {option(run)} --accept` makes "
            "the list from the files as they are now"
        )
    if not run.result.exists():
        return f"{run.name} has not finished: `hpc resume {option(run)}`"
    return f"{run.out / LIST} is gone. {what_to_do(run.out / LIST)}"


def _of_another_run(folder: Path) -> str:
    """Describe a list that another run has written; empty if it is the folder's own. A folder that was renamed since
    keeps the name in its plan."""
    run, name = _run_of(folder / LIST), _head(folder).get("run")
    if not name or run is None or name == run.name or name == records.plan(run).get("name"):
        return ""
    return f"{folder / LIST} is that of {name}, and not of {run.name}"


def faults(folder: Path) -> str:
    """Describe what is wrong with the finished list of a folder; empty if it is as `close` has left it."""
    path = folder / LIST
    if not path.is_file():
        return f"{path} is not there"
    if numbers := damaged_lines(path):
        return f"{path} is damaged: line {numbers[0]} is no JSON"
    if fault := _of_another_run(folder):
        return fault
    head, *lines = read_lines(path) or [{}]
    known = {product.file for line in lines if (product := Product.of_json(line))}
    if len(known) < len(lines) or head.get("files") != len(known):
        return (
            f"{path} is damaged: it lists {len(known)} files, and was written with {head.get('files', 'another head')}"
        )
    return ""


def is_of_run(folder: Path) -> bool:
    """Whether a folder is the `out` of a run, or below it."""
    return _run_of(folder / LIST) is not None


def accepted(folder: Path) -> str:
    """Return when somebody has accepted the files of a folder as they were; empty if they are as they were written."""
    return str(_head(folder).get("accepted", ""))


def read(path: Path) -> Any:
    """Return the content of a JSON product, verified; None if there is no such file, and none was written."""
    if not path.is_file():
        refuse_gone(path)
        return None
    verify(path)
    return read_json(path)


def refuse_gone(path: Path) -> None:
    """Raise DamagedProduct for a file that is not there, if a run that has finished lists it."""
    run = _run_of(path)
    if run is not None and run.result.is_file() and path.name in (listed(path.parent) or {}):
        verify(path)


def verify(path: Path) -> None:
    """Raise DamagedProduct unless the bytes of a file are those that were written; at once if that is known."""
    MEMORY.verify(path)


_Look = tuple[int, int, int, int, str]
LOOK = "inode", "bytes", "mtime_ns", "ctime_ns", "sha256"


class Memory:
    """What this process, and the other ranks of its run, have verified."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        """The folder of a run for its ranks to tell one another, and their next attempt."""
        self._writer = ""
        self._seen: set[_Look] = set()
        self._read: dict[str, int] = {}  # how many bytes of each file of `folder` are known
        self._lists: dict[Path, dict[str, Product]] = {}
        self._trees: list[Path] = []  # folders whose lists are those of the folders in them too
        self._lock = threading.Lock()
        self._at_work: dict[Path, threading.Lock] = {}
        self._beat: Callable[[], object] = bool

    def keep_in(self, folder: Path, writer: str = "", beat: Callable[[], object] = bool) -> None:
        """Keep it in a folder from now on. Without `writer`, only read there what others have verified. `beat` is
        called now and then by the main thread while it verifies or waits for another; it may raise."""
        self.folder, self._writer, self._beat = folder, writer, beat
        self.learn()

    def learn(self) -> bool:
        """Read what others have verified meanwhile; return whether there was anything."""
        news = False
        for file in sorted(self.folder.glob("*.jsonl")) if self.folder else ():
            n_bytes = file.stat().st_size
            if n_bytes == self._read.get(file.name):
                continue
            self._read[file.name], news = n_bytes, True
            for line in read_lines(file):
                try:
                    self._seen.add((line["inode"], line["bytes"], line["mtime_ns"], line["ctime_ns"], line["sha256"]))
                except (KeyError, TypeError):
                    continue  # cut off when its node went down: that file is verified once more
        return news

    def tree(self, folder: Path) -> list[Path]:
        """Return all files that a run has written into a folder and the folders in it, a study for example; none if no
        run has. Raises DamagedProduct if there are others, or if nobody knows which were written."""
        run = _run_of(folder / LIST)
        top = folder if run is None else _of_run(run, folder)
        if not (top / LIST).is_file():
            if run is not None:
                raise DamagedProduct(f"{folder} cannot be verified: {why_unlisted(run)}")
            return []
        if fault := faults(top):
            raise DamagedProduct(f"{folder} cannot be verified: {fault}. {what_to_do(top / LIST)}")
        self._trees = list(dict.fromkeys([*self._trees, top]))
        known = self._list(top) or {}
        for path in sorted(files(folder)):
            if path.relative_to(top).as_posix() not in known:
                raise DamagedProduct(why_damaged(path, None, top))
        return [path for file in known if (path := top / file).is_relative_to(folder)]

    def knows(self, path: Path) -> bool:
        """Whether it has been verified, and looks as it did then."""
        product = self._product(path)
        return product is not None and path.is_file() and _look(path, product) in self._seen

    def verify(self, path: Path, count: Callable[[int], object] | None = None) -> None:
        """As the function. `count` is called with the number of bytes after each block; it may raise."""
        if count is None:
            count = self._count if threading.current_thread() is threading.main_thread() else int
        with self._lock:
            mine = self._at_work.setdefault(path, threading.Lock())
        while not mine.acquire(timeout=BEAT_S):  # two threads do not read one file twice
            count(0)
        try:
            if not self._is_listed_and_intact(path, count):
                # It may have been written, or written again, since the list was read
                with self._lock:
                    self._lists.pop(self._folder(path), None)
                if not self._is_listed_and_intact(path, count):
                    raise DamagedProduct(why_damaged(path, self._product(path), self._folder(path)))
        finally:
            mine.release()

    def _is_listed_and_intact(self, path: Path, count: Callable[[int], object]) -> bool:
        if self._list(self._folder(path)) is not None:
            return self._is_intact(path, self._product(path), count)
        if (run := _run_of(path)) is not None:
            raise DamagedProduct(f"{path} cannot be verified: {why_unlisted(run)}")
        return True  # from outside: no list of ours ever said what is in it

    def _count(self, n_bytes: int) -> None:
        self._beat()

    def _is_intact(self, path: Path, product: Product | None, count: Callable[[int], object]) -> bool:
        if product is None or not path.is_file():
            return False
        look = _look(path, product)
        if look in self._seen:
            return True
        if not is_intact(path, product, count):
            return False
        if _look(path, product) == look:  # nobody wrote to it meanwhile
            self._seen.add(look)
            self._tell(look)
        return True

    def _folder(self, path: Path) -> Path:
        """Return the folder whose list has a file."""
        return next((top for top in self._trees if path.is_relative_to(top)), path.parent)

    def _product(self, path: Path) -> Product | None:
        folder = self._folder(path)
        return (self._list(folder) or {}).get(path.relative_to(folder).as_posix())

    def _list(self, folder: Path) -> dict[str, Product] | None:
        with self._lock:
            known = self._lists.get(folder)
            if known is None and (known := listed(folder)) is not None:
                if fault := _of_another_run(folder):
                    raise DamagedProduct(
                        f"{fault}: its files are not what was written here. {what_to_do(folder / LIST)}"
                    )
                self._lists[folder] = known
            return known

    def _tell(self, look: _Look) -> None:
        if self.folder is not None and self._writer:
            line = dict(zip(LOOK, look, strict=True))
            with suppress(OSError):  # a full disk: it is verified once more
                self.folder.mkdir(exist_ok=True)
                append_line(self.folder / f"{self._writer}.jsonl", line)


MEMORY = Memory()
"""That of this process."""


def why_damaged(path: Path, product: Product | None, folder: Path) -> str:
    """Return the sentence on a file that is not what was written, or of which nobody knows what was. `folder` has the
    list."""
    mend = what_to_do(folder / LIST)
    if product is None:
        if not (fault := faults(folder)):
            return (
                f"{path} is none of the files that its run has written, which {LIST} lists: remove it if it was put "
                f"there later. If the list has lost lines: {mend[0].lower()}{mend[1:]}"
            )
        return f"{path} cannot be verified: {fault}. {mend}"
    if not path.is_file():
        what = "is no file" if path.exists() else "is gone"
        return f"{path} {what}, and {LIST} lists it. {mend}"
    digest = _sha256(path)
    if digest.n_bytes != product.n_bytes:
        what = f"it has {digest.n_bytes} bytes, and {product.n_bytes} were written"
    else:
        what = f"its SHA-256 is {_differing(digest.sha256, product.sha256)}"
        what += f", and that of what was written is {_differing(product.sha256, digest.sha256)}"
    return f"{path} is damaged: {what}. {mend}"


def _differing(sha256: str, other: str) -> str:
    """Return the first part of a digest; all of it if another one begins alike."""
    return f"{sha256[:12]}…" if sha256[:12] != other[:12] else sha256


def what_to_do(path: Path) -> str:
    """Return the sentence on how a product is made again."""
    run = _run_of(path)
    if run is not None:
        return f"Run {repair(run)}, which makes it again"
    if name := _head(path.parent).get("run"):
        mend = f"`hpc verify {name} --repair`, then `hpc resume {name}`, make it again"
        return f"It is a copy of what {name} has written: copy it again; if it is damaged there too, {mend}"
    return "Copy it again with its list, or make it again"


def gone(run: RunDir) -> str:
    """Say that the products of a finished run were removed, and what makes them again; empty if they are there.
    Before there were lists of them, a run may have had none."""
    if run.out.is_dir() or not run.result.exists() or records.plan(run).get("schema", 0) < records.WITH_LISTS:
        return ""
    return f"its products are gone, its folder `out` is not there: {repair(run)}, make them again"


def repair(run: RunDir) -> str:
    """Return the two commands by which a finished run makes again what is damaged or gone."""
    return f"`hpc verify {option(run)} --repair`, then `hpc resume {option(run)}`"


def option(run: RunDir) -> str:
    """Return a run as one names it on the command line, from the current folder."""
    runs = run.path.resolve().parent
    return run.name if runs == Path("runs").resolve() else f"{run.name} --runs {shlex.quote(str(runs))}"


def _run_of(path: Path) -> RunDir | None:
    """Return the run whose product this is; None if it is of no run, or a copy on a node."""
    # As it was named, and as it is: `out`, or what leads to it, may be a link
    folders = [each for each in [*path.parents, *path.resolve().parents] if each.name == "out"]
    return next((RunDir(folder.parent) for folder in folders if (folder.parent / "plan.json").is_file()), None)


def _of_run(run: RunDir, folder: Path) -> Path:
    """Return the `out` of a run as the folder, or a folder in it, is named."""
    return next((each for each in (folder, *folder.parents) if each.resolve() == run.out.resolve()), run.out)


def _head(folder: Path) -> dict[str, Any]:
    """Return what the first line of a list says of the run; empty if there is none."""
    return next(iter(read_lines(folder / LIST)), {})


@dataclass(frozen=True)
class _Digest:
    n_bytes: int
    sha256: str


def _sha256(path: Path, count: Callable[[int], object] = int) -> _Digest:
    digest, n_bytes = hashlib.sha256(), 0
    block = memoryview(bytearray(BLOCK_B))
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while n := file.readinto(block):
            digest.update(block[:n])
            n_bytes += n
            count(n)
    return _Digest(n_bytes, digest.hexdigest())


def _look(path: Path, product: Product) -> _Look:
    """What a file looks like from outside; it is verified again when that changes. Who writes can set the time of that
    back, but not the time at which he did (ctime)."""
    entry = path.stat()
    return entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns, product.sha256
