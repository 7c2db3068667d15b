"""The bytecode that processes of a node cache of a run's code: for the next one, and never of another source."""

import hashlib
import marshal
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.runs import seal, unpack
from tests import archives


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of two modules: `thing` says which code of `value` it was given."""
    sources = {
        "lib/thing.py": b"import value\nprint(value.VALUE, value.__spec__.loader.__class__.__name__)\n",
        "lib/value.py": b"VALUE = 1\n",
        unpack.IMPORTS: b'["lib"]',
        "__main__.py": Path(unpack.__file__).read_bytes(),
    }
    folder = tmp_path / "code"
    folder.mkdir()
    archives.write(folder / unpack.ARCHIVE, sources)
    (folder / unpack.MANIFEST).write_bytes(seal.manifest({name: (each, False) for name, each in sources.items()}))
    return folder / unpack.ARCHIVE


@pytest.fixture
def copy(archive: Path) -> Iterator[Path]:
    """Where the copy of this node is once the archive has run."""
    digest = hashlib.sha256((archive.parent / unpack.MANIFEST).read_bytes()).hexdigest()[:16]
    copy = unpack.own_folders({})[0] / f"code-{digest}"
    yield copy
    unpack.delete(copy)


@pytest.fixture
def cache(copy: Path) -> Path:
    """The folder of its bytecode."""
    return unpack.bytecode_of(copy)


def run(archive: Path) -> str:
    words = [sys.executable, "-PB", str(archive), "-m", "thing"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_a_second_process_takes_what_the_first_has_compiled(archive: Path, copy: Path, cache: Path) -> None:
    assert run(archive) == "1 CachingLoader"
    files = sorted(cache.iterdir())
    assert len(files) == 2
    of_value = next(file for file in files if b"VALUE" in file.read_bytes() and b"print" not in file.read_bytes())
    data = marshal.dumps(compile("VALUE = 7", "value.py", "exec"))
    of_value.write_bytes(hashlib.sha256(data).digest() + data)  # so that one sees which of the two was run
    assert run(archive) == "7 CachingLoader"
    unpack.delete(copy)
    assert not cache.exists() and not copy.exists()


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:40], lambda data: data[:-1] + b"\0\0"])
def test_what_is_damaged_is_compiled_again(archive: Path, cache: Path, damage: object) -> None:
    run(archive)
    before = {file: file.read_bytes() for file in cache.iterdir()}
    for file, data in before.items():
        file.write_bytes(damage(data))  # type: ignore[operator]
    assert run(archive) == "1 CachingLoader"
    assert {file: file.read_bytes()[:32] for file in cache.iterdir()} == {f: data[:32] for f, data in before.items()}


def test_of_an_edited_source_nothing_older_is_run(archive: Path, copy: Path, cache: Path) -> None:
    """Whatever time the file has; the copy is then mended, and what belongs to it is there still."""
    run(archive)
    source = copy / "lib/value.py"
    times = os.stat(source)
    source.write_text("VALUE = 2\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    environ = {**os.environ, "PYTHONPATH": str(source.parent)}
    code = (
        f"import sys; sys.path.insert(0, {str(Path(unpack.__file__).parent)!r}); import pathlib, unpack;"
        f"unpack.cache_bytecode(pathlib.Path({str(copy)!r})); import value; print(value.VALUE)"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2" and len(list(cache.iterdir())) == 3
    copy.with_name(f"{copy.name}.use").write_bytes(b"")  # so that the next one looks at each file
    assert run(archive) == "1 CachingLoader"


def test_where_nothing_can_be_cached_it_runs_all_the_same(archive: Path, cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    assert run(archive) == "1 CachingLoader"
    cache.unlink()
