"""Unpacks the code of a run on this node, once, and runs a module of it: `python code.zip -m hpc.supervisor RUN`.

It is also the `__main__.py` of every archive, and so uses nothing of ours.

    runs/.code/3f2a91c0d4e5b6a7/code.zip     the code, one file for all nodes, with manifest.json beside it
    /tmp/hpc-1000/code-3f2a91c0d4e5b6a7/     the copy on a node, each file as the manifest says
    /tmp/hpc-1000/code-3f2a91c0d4e5b6a7.use  locked by each process that has imported from it
    /tmp/hpc-1000/code-3f2a91c0d4e5b6a7.pyc/ what Python has compiled of it, by the content of each source
"""

import errno
import fcntl
import hashlib
import json
import marshal
import os
import runpy
import shutil
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    all_suffixes,
)
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType
from typing import Any

ARCHIVE, MANIFEST, IMPORTS = "code.zip", "manifest.json", "imports.json"
"""The archive, the manifest beside it, and in it the folders from which Python imports."""
UNPACKED = "HPC_UNPACKED"
"""The variable that names the copy from which a process has imported."""
PLACES = ("/tmp", "/dev/shm")
"""Folders that each node has for itself; the last resort is TMPDIR, which sites set to a shared disk too."""
IMPORTABLE = tuple(all_suffixes())
"""A file of such a name, added to the code, could be imported in place of another."""
FRESH_S = 10.0
"""How long after one process has looked at each file others of its node need not."""
UNUSED_S = 24 * 3600.0
"""A copy that nobody has used for so long is deleted by the next one who unpacks."""
LARGE_B = 64 << 20
"""A file of so many bytes is read whole even if its manifest says that it has fewer, to say its hash."""
NEVER = 93
"""As in hpc/codes.py: trying again would change nothing."""


DAMAGE = (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OverflowError, struct.error, zlib.error)
"""What reading a damaged archive raises."""


class Changed(ValueError):
    """The archive is not what its manifest says."""


def main(argv: list[str], environ: MutableMapping[str, str]) -> None:
    """Run `-m MODULE WORDS` from the copy of the archive that Python was started with."""
    if "-m" not in argv[:-1]:
        raise SystemExit(f"usage: python {argv[0]} -m MODULE …")
    at = argv.index("-m") + 1
    try:
        folder = unpack(Path(argv[0]), environ)
    except (Changed, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        raise SystemExit(NEVER if isinstance(error, Changed) else 1) from None
    names = json.loads((folder / IMPORTS).read_text())
    if outside := [name for name in names if leads_out(name)]:
        print(f"{argv[0]}: it imports from {outside[0]!r}, which is not in it", file=sys.stderr, flush=True)
        raise SystemExit(NEVER)
    imports = [str(folder / each) for each in names]
    sys.path[:] = imports + [place for place in sys.path if place != argv[0]]
    environ["PYTHONPATH"] = os.pathsep.join([*imports, *filter(None, [environ.get("PYTHONPATH")])])
    environ[UNPACKED] = str(folder)
    cache_bytecode(folder)
    sys.argv = argv[at:]
    runpy.run_module(argv[at], run_name="__main__", alter_sys=True)


def unpack(archive: Path, environ: Mapping[str, str]) -> Path:
    """Return the copy of an archive on this node, which stays in use until this process ends. Raises Changed if the
    archive is not what its manifest says, and OSError if there is no place for a copy."""
    manifest = (archive.parent / MANIFEST).read_bytes()
    name = f"code-{hashlib.sha256(manifest).hexdigest()[:16]}"
    tried = []
    for place in own_folders(environ):
        try:
            return _unpack_in(_own(place), name, archive, json.loads(manifest))
        except OSError as error:
            tried.append(f"{place}: {error.strerror or error}")
    raise OSError(
        f"the run's code, {archive}, can be unpacked nowhere on {os.uname().nodename} ({'; '.join(tried)}): free some "
        "room there, or set TMPDIR to a folder of that node"
    )


def own_folders(environ: Mapping[str, str]) -> list[Path]:
    """Return where copies may be, the best place first; where nothing may be executed, compiled modules cannot be
    imported."""
    places = [place for place in (*PLACES, environ.get("TMPDIR", "")) if place and os.path.isdir(place)]
    places.sort(key=lambda place: bool(os.statvfs(place).f_flag & os.ST_NOEXEC))
    return [Path(place, f"hpc-{os.getuid()}") for place in dict.fromkeys(places)]


def _own(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    entry = folder.lstat()
    if entry.st_uid != os.getuid() or entry.st_mode & 0o170000 != 0o040000:  # anybody may write to /tmp
        raise PermissionError(0, "is not a folder of this user")
    return folder


def _unpack_in(own: Path, name: str, archive: Path, files: Mapping[str, Mapping[str, Any]]) -> Path:
    copy = own / name
    with open(own / "code.lock", "w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        use = os.open(f"{copy}.use", os.O_RDWR | os.O_CREAT, 0o600)  # open until this process ends
        fcntl.flock(use, fcntl.LOCK_SH)
        looked = os.fstat(use)
        try:
            if not (looked.st_size and 0 <= time.time() - looked.st_mtime < FRESH_S and copy.is_dir()):
                os.ftruncate(use, 0)
                mend(copy, archive, files)
                os.pwrite(use, b"whole\n", 0)
        except BaseException:
            os.close(use)
            raise
        for path in unused(own, UNUSED_S):
            delete(path)
    return copy


def mend(copy: Path, archive: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Make a copy what the manifest says, file for file: a node may clean its disk, and anybody may have edited a file.
    Bytecode is deleted: ranks write none, and Python would believe one that is as old as its source."""
    if outside := [path for path in files if leads_out(path)]:
        raise Changed(f"{archive}: its manifest names {outside[0]!r}, which leads out of the copy: it is none of hpc")
    if lacking := [path for path, entry in files.items() if not _is(copy / path, entry)]:
        with opened(archive) as packed:
            for path in lacking:
                _put(copy / path, content_of(packed, path, files[path]), bool(files[path].get("executable")))
    for path in list(importable(copy)):
        if path not in files:
            (copy / path).unlink(missing_ok=True)
    for cache in list(copy.rglob("__pycache__")):
        shutil.rmtree(cache, ignore_errors=True)


def leads_out(path: str) -> bool:
    """Whether a name in an archive would be written elsewhere than in its copy."""
    return path.startswith("/") or ".." in path.split("/") or "\0" in path


def opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except DAMAGE:
        raise Changed(f"{archive} was changed after submission: it is no archive") from None


def content_of(packed: zipfile.ZipFile, path: str, entry: Mapping[str, Any]) -> bytes:
    """Return a file of an archive, which must be what the manifest says of it."""
    try:
        info = packed.getinfo(entry_name(path))
        with packed.open(info) as file:
            content = file.read(max(int(entry["bytes"]) + 1, LARGE_B))  # no more, however much there is
    except KeyError:
        raise Changed(f"{path}, of the run's copy of the code, {packed.filename}, is gone") from None
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of the disk, not of what is on it
            raise
        raise Changed(f"{path} in {packed.filename} was changed after submission: {error}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry["sha256"]:
        raise Changed(
            f"{path} in {packed.filename} was changed after submission: expected {entry['bytes']} bytes with SHA-256 "
            f"{entry['sha256']}, found {info.file_size} with {digest}"
        )
    return content


def entry_name(path: str) -> str:
    """Return what a file is called in an archive, where names are Unicode; on disks they need not be."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path).decode("latin-1")
    return path


def importable(folder: Path) -> Iterator[str]:
    """Yield what Python could import, relative to a folder."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (os.path.relpath(os.path.join(parent, name), folder) for name in names if name.endswith(IMPORTABLE))


def _is(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return len(content) == entry["bytes"] and hashlib.sha256(content).hexdigest() == entry["sha256"]


def _put(path: Path, content: bytes, executable: bool) -> None:
    """Write a file that others may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_bytes(content)
    if executable:
        partial.chmod(0o700)
    os.replace(partial, path)


def cache_bytecode(copy: Path) -> None:
    """Have this process import from a copy with the bytecode that others of its node have cached, and cache its own."""
    details = (ExtensionFileLoader, EXTENSION_SUFFIXES), (CachingLoader, SOURCE_SUFFIXES)

    def finder(folder: str) -> FileFinder:
        if folder != str(copy) and not folder.startswith(f"{copy}/"):
            raise ImportError
        return FileFinder(folder, *details)

    CachingLoader.folder = bytecode_of(copy)
    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.clear()


def bytecode_of(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.pyc")


class CachingLoader(SourceFileLoader):
    """Compiles a file, unless the very same content was compiled before. A rank imports hundreds of files, and Python's
    own bytecode is found by the time of a source, which says too little of a file that anybody may have edited."""

    folder: Path
    compiles_as_python_does = True

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        how = f"{sys.flags.optimize} {self.path}\0".encode(errors="surrogateescape")
        key = hashlib.sha256(MAGIC_NUMBER + how + source).hexdigest()
        cache = self.folder / f"{key}.{sys.implementation.cache_tag}"
        with suppress(OSError):
            digest, data = (content := cache.read_bytes())[:32], content[32:]
            if hashlib.sha256(data).digest() == digest:
                code: CodeType = marshal.loads(data)
                return code
        code = self.source_to_code(source, self.path)
        data = marshal.dumps(code)
        with suppress(OSError):  # a full disk: then the next one compiles it too
            self.folder.mkdir(mode=0o700, exist_ok=True)
            _put(cache, hashlib.sha256(data).digest() + data, executable=False)
        return code


def unused(own: Path, since_s: float) -> Iterator[Path]:
    """Yield the copies below one of `own_folders` that no process uses, nor has begun to use for so long."""
    for use in sorted(own.glob("code-*.use")):
        try:
            file = os.open(use, os.O_RDWR)
        except OSError:  # deleted by another
            continue
        try:
            if time.time() - os.fstat(file).st_mtime >= since_s:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield use.with_suffix("")
        except BlockingIOError:  # in use
            continue
        finally:
            os.close(file)


def delete(copy: Path) -> None:
    copy.with_name(f"{copy.name}.use").unlink(missing_ok=True)  # first: half a copy must not count
    shutil.rmtree(copy, ignore_errors=True)
    shutil.rmtree(bytecode_of(copy), ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv, os.environ)
