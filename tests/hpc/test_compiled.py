"""What processes of a node keep of the code that they have compiled: for the next one, and never of another source."""

import hashlib
import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.runs import seal, unpack
from tests import archives

MODULE = "lib/thing.py"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of two modules: `thing` says which code of `value` it was given."""
    sources = {
        MODULE: b"import value\nprint(value.VALUE, value.__spec__.loader.__class__.__name__)\n",
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
def kept(archive: Path) -> Path:
    """The folder with what is compiled, of a copy that is removed in the end."""
    digest = hashlib.sha256((archive.parent / unpack.MANIFEST).read_bytes()).hexdigest()[:16]
    return unpack.own_folders({})[0] / f"code-{digest}.pyc"


def run(archive: Path) -> str:
    words = [sys.executable, "-PB", str(archive), "-m", "thing"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_a_second_process_takes_what_the_first_has_compiled(archive: Path, kept: Path) -> None:
    assert run(archive) == "1 Compiled"
    files = sorted(kept.iterdir())
    assert len(files) == 2
    of_value = next(file for file in files if b"VALUE" in file.read_bytes() and b"print" not in file.read_bytes())
    data = marshal.dumps(compile("VALUE = 7", "value.py", "exec"))
    of_value.write_bytes(hashlib.sha256(data).digest() + data)  # so that one sees which of the two was run
    assert run(archive) == "7 Compiled"
    unpack.delete(kept.with_suffix(""))
    assert not kept.exists() and not kept.with_suffix("").exists()


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:40], lambda data: data[:-1] + b"\0\0"])
def test_what_is_damaged_is_compiled_again(archive: Path, kept: Path, damage: object) -> None:
    run(archive)
    before = {file: file.read_bytes() for file in kept.iterdir()}
    for file, data in before.items():
        file.write_bytes(damage(data))  # type: ignore[operator]
    assert run(archive) == "1 Compiled"
    assert {file: file.read_bytes()[:32] for file in kept.iterdir()} == {f: data[:32] for f, data in before.items()}
    unpack.delete(kept.with_suffix(""))


def test_of_an_edited_source_nothing_older_is_run(archive: Path, kept: Path) -> None:
    """Whatever time the file has; the copy is then mended, and what belongs to it is there still."""
    run(archive)
    source = kept.with_suffix("") / "lib/value.py"
    times = os.stat(source)
    source.write_text("VALUE = 2\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    environ = {**os.environ, "PYTHONPATH": str(source.parent)}
    code = (
        f"import sys; sys.path.insert(0, {str(Path(unpack.__file__).parent)!r}); import pathlib, unpack;"
        f"unpack.keep_compiled(pathlib.Path({str(source.parent.parent)!r})); import value; print(value.VALUE)"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2" and len(list(kept.iterdir())) == 3
    kept.with_suffix(".use").write_bytes(b"")  # so that the next one looks at each file
    assert run(archive) == "1 Compiled"
    unpack.delete(kept.with_suffix(""))


def test_where_nothing_can_be_kept_it_runs_all_the_same(archive: Path, kept: Path) -> None:
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("a file where the folder should be")
    assert run(archive) == "1 Compiled"
    kept.unlink()
    unpack.delete(kept.with_suffix(""))
