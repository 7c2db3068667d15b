"""A capsule: one file with all that somebody else needs to compute a run again, but for the data.

ro-crate-metadata.json      what is in it, with the SHA-256 of each file; its own is in the archive's comment
requirements.txt            the versions of the packages
runs/NAME/…                 of the run and of those that it reads: plan, config, result, metrics, provenance, hashes
runs/.code/HASH/code.zip    their code
runs/NAME/out/…, data/…     only if asked: what was made, and what was read from outside of runs
"""

import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from hpc import config
from hpc.config import secrets, stages
from hpc.config.input_file import MARK
from hpc.errors import ConfigError
from hpc.replay import compare, crate, replay, verdict
from hpc.replay.crate import Entry
from hpc.runs import products, provenance, records
from hpc.runs.rundir import LIST, RunDir, atomic_write, committed_steps, encoded, read_json
from hpc.runs.unpack import ARCHIVE, IMPORTS, MANIFEST, leads_out

COMMENT = "hpc capsule 1, sha256 of ro-crate-metadata.json: "
BLOCK_B = 1 << 20
SEARCHED_B = 64 << 20
"""Larger files are recordings, of which no part is a secret that could be recognised."""
SHORTEST = 6
"""A shorter value of a secret is not searched for: it would be anywhere."""
TOKEN = re.compile(rb"\b(gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})")
"""Tokens in the form that their makers give them, in code: what only looks like one may be a pattern, as above."""
RESOURCES = ("nodes", "ranks_per_node", "gpus_per_node", "cpus_per_rank", "time_s", "lead_s")
DAMAGE = (zipfile.BadZipFile, EOFError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, zlib.error)
LARGEST_CRATE_B, LARGEST_CODE_B = 64 << 20, 4 << 30
RECORDS = ("plan.json", "config.yaml", "result.json", "provenance.json", "metrics.jsonl", compare.FINGERPRINTS)
PART = r"(?!\.{1,2}(?:/|$))[^/\0]+"
"""A part of a path that leads down."""
RUN = r"[^/\0.][^/\0]*"
PLACES = re.compile(
    rf"requirements\.txt|data(?:/{PART})+|runs/\.code/[0-9a-f]{{16}}/(?:{re.escape(ARCHIVE)}|{re.escape(MANIFEST)})"
    rf"|runs/{RUN}/(?:{'|'.join(map(re.escape, RECORDS))}|out(?:/{PART})+)"
)
"""The only names that `pack` gives. Seals say that a capsule is as it was packed, not who has packed it."""


# Packing


@dataclass
class Contents:
    """What goes into a capsule: names and bytes, or names and files."""

    texts: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


def pack(was: RunDir, path: Path, with_data: bool, environ: Mapping[str, str]) -> list[str]:
    """Write the capsule of a run; return the names of the runs in it. Refuses a secret, without showing it."""
    replay.refuse(was, todays_code=False)
    if not provenance.read(was):
        raise ConfigError(
            f"{was.name} has no {was.provenance.name}, which earlier versions did not write: make it anew"
        )
    runs = [was, *(run for run in provenance.upstream_runs(was).values() if _can_be_packed(run))]
    contents = Contents()
    for run in runs:
        _add_run(run, contents, with_data)
    if with_data:
        _add_data(was, contents)
    contents.texts["requirements.txt"] = _requirements(was).encode()
    _refuse_secrets(runs, contents, environ)
    entries = {name: Entry(len(text), hashlib.sha256(text).hexdigest()) for name, text in contents.texts.items()}
    entries |= {name: _entry(file) for name, file in contents.files.items()}
    about = json.dumps(crate.metadata(runs, entries), indent=1, ensure_ascii=False).encode()
    atomic_write(path, lambda file: _write(file, contents, about))
    return [run.name for run in runs]


def _can_be_packed(run: RunDir) -> bool:
    """Whether a run that is read can be computed again too; if not, its products must be brought along."""
    whole = run.result.exists() and bool(provenance.read(run))
    return whole and not replay.config_fault(run) and not replay.code_fault(run)


def _add_run(run: RunDir, contents: Contents, with_data: bool) -> None:
    folder = f"runs/{run.name}"
    leaves = verdict.leaves_of(run)
    prints = {str(step): compare.fingerprint(run, step, leaves) for step in committed_steps(run.checkpoints)}
    contents.texts |= {
        f"{folder}/plan.json": _json(_plan(run)),
        f"{folder}/config.yaml": run.config.read_bytes(),
        f"{folder}/result.json": run.result.read_bytes(),
        f"{folder}/provenance.json": run.provenance.read_bytes(),
        f"{folder}/{compare.FINGERPRINTS}": _json(prints),
        f"{folder}/out/{LIST}": (run.out / LIST).read_bytes(),
    }
    if run.metrics.exists():
        contents.texts[f"{folder}/metrics.jsonl"] = run.metrics.read_bytes()
    code = f"runs/.code/{run.code.resolve().name}"
    contents.files |= {f"{code}/{name}": run.code.resolve() / name for name in (ARCHIVE, MANIFEST)}
    if with_data:
        for name, product in (products.listed(run.out) or {}).items():
            path = run.out / name
            if not path.is_file() or not products.is_intact(path, product):
                raise ConfigError(products.why_damaged(path, product, run.out))
            contents.files[f"{folder}/out/{name}"] = path


def _add_data(was: RunDir, contents: Contents) -> None:
    """Add what the run reads from outside of runs: folders and files that its config names."""
    cwd = records.plan(was).get("cwd", "")
    for ref, entry in provenance.read(was)["paths"].items():
        path = Path(cwd, ref).expanduser()
        if fault := provenance.first_difference(path, entry, was.path.parent):
            raise ConfigError(f"--with-data: {fault}: put it back as it was, or pack without the data")
        names = entry.get("files") or {name: None for name in [LIST, *(products.listed(path) or {})]}
        contents.files |= {f"data/{path.name}{f'/{name}' if name else ''}": path / name for name in names}
    for text in dict.fromkeys(text for _, text in config.texts(config.load([was.config]), "") if MARK in text):
        path = config.input_file(text)
        contents.files[f"data/{path.name}"] = path


def _plan(run: RunDir) -> dict[str, Any]:
    """Return plan.json for others: without the names of people, machines, accounts and folders, which it needs not."""
    record = records.whole_plan(run)
    asked = {"nodes": record["resources"]["nodes"], "ranks": record["resources"]["ranks_per_node"]}
    code = [{**code, "root": os.path.basename(code["root"])} for code in record["code"]]
    resources = {name: record["resources"][name] for name in RESOURCES if name in record["resources"]}
    return {
        **record, "label": "", "settings": "", "sources": [], "asked": asked, "code": code, "resources": resources,
        "site": {"name": record["site"]["name"], "kind": record["site"]["kind"]}, "cwd": "", "python": "",
    }  # fmt: skip


def _requirements(was: RunDir) -> str:
    environment = provenance.read(was)["environment"]
    lines = [f"{name}=={version}" for name, version in environment["packages"].items()]
    return "\n".join([f"# Python {environment['python']}, {environment['system']}", *lines, ""])


def _json(value: object) -> bytes:
    return encoded(json.dumps(value, indent=1, ensure_ascii=False))


def _refuse_secrets(runs: list[RunDir], contents: Contents, environ: Mapping[str, str]) -> None:
    """Refuse to pack what is a secret of this user, or looks like one."""
    names = {name for run in runs for name in records.plan(run).get("secrets", {}).values()}
    values = [*secrets.in_file(environ).values(), *(environ.get(name, "") for name in names)]
    known = [value.encode() for value in values if len(value) >= SHORTEST]
    for run in runs:
        stage = stages.load(records.plan(run)["entry"])
        cfg = config.build(stages.schema(stage), config.load([run.config]), run.name)
        if literal := [at for at, secret in config.secrets_of(cfg).items() if secret.is_literal]:
            raise ConfigError(
                f"{run.config} holds a secret itself, {literal[0]}, as earlier versions did: nothing is packed"
            )
    for name, text in contents.texts.items():
        if secrets.looks_like_one(text.decode(errors="replace")):
            raise ConfigError(f"{name} holds what looks like a secret: nothing is packed")
    for name, content in _searched(contents):
        if TOKEN.search(content) or any(value in content for value in known):
            raise ConfigError(
                f"{name} holds a secret of yours, or a token: nothing is packed. Take it out of that file"
            )


def _searched(contents: Contents) -> Iterator[tuple[str, bytes]]:
    yield from contents.texts.items()
    for name, path in contents.files.items():
        if path.name == ARCHIVE:
            with zipfile.ZipFile(path) as packed:
                yield from ((f"{each} of the code", packed.read(each)) for each in packed.namelist())
        elif path.stat().st_size <= SEARCHED_B:
            yield name, path.read_bytes()


def _entry(path: Path) -> Entry:
    with open(path, "rb") as file:
        return Entry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _write(file: BinaryIO, contents: Contents, about: bytes) -> None:
    """Write the archive, without times: equal contents, equal file."""
    with zipfile.ZipFile(file, "w") as packed:
        packed.comment = f"{COMMENT}{hashlib.sha256(about).hexdigest()}".encode()
        for name, text in {crate.NAME: about, **contents.texts}.items():
            packed.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
        for name, path in contents.files.items():
            with open(path, "rb") as source, packed.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, BLOCK_B)


# Unpacking


@dataclass(frozen=True)
class Capsule:
    """A capsule that is whole, as far as its metadata tell."""

    path: Path
    run: str
    """The run that it is of."""
    sha256: str
    """Of its metadata, which have that of each file."""
    entries: dict[str, Entry]


def opened(path: Path) -> Capsule:
    """Read the metadata of a capsule. Raises ConfigError if it is none, or not what was written."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as packed:
            sizes = {info.filename: info.file_size for info in packed.infolist()}
            if sizes[crate.NAME] > LARGEST_CRATE_B:
                raise ConfigError(f"{path}: {crate.NAME} has {sizes[crate.NAME]} bytes: this is no capsule of hpc")
            about = packed.read(crate.NAME)
            comment, names = packed.comment.decode(errors="replace"), packed.namelist()
        graph = json.loads(about)["@graph"]
        entries = {each["name"]: Entry(int(each["contentSize"]), each["sha256"])
                   for each in graph if each["@type"] == "File"}  # fmt: skip
        (root,) = (each for each in graph if each["@id"] == "./")
        run = root["mainEntity"]["@id"].removeprefix("#")
    except ConfigError:
        raise
    except (*DAMAGE, AttributeError):
        raise ConfigError(
            f"{path} is no capsule of a run, or was cut off: pack it again, hpc capsule RUN -o FILE"
        ) from None
    sha256 = hashlib.sha256(about).hexdigest()
    if comment != f"{COMMENT}{sha256}":
        raise ConfigError(f"{path}: {crate.NAME} was changed after it was packed: get the file again")
    if other := sorted({*names} ^ {*entries, crate.NAME}):
        raise ConfigError(f"{path}: {other[0]} was {'added' if other[0] in names else 'removed'} after it was packed")
    _refuse_places(path, names, entries, sizes)
    if f"runs/{run}/plan.json" not in entries or "/" in run:
        raise ConfigError(f"{path}: it holds no run {run!r}: this is no capsule of hpc")
    return Capsule(path, run, sha256, entries)


def _refuse_places(path: Path, names: Sequence[str], entries: Mapping[str, Entry], sizes: Mapping[str, int]) -> None:
    """Refuse files in places where `pack` puts none, two in one place, and sizes that are not those of the metadata."""
    if odd := [name for name in entries if not PLACES.fullmatch(name)]:
        raise ConfigError(f"{path}: {odd[0]!r} is in no place of a capsule, or leads out of it: this is none of hpc")
    folders = {str(parent) for name in entries for parent in PurePosixPath(name).parents}
    if twice := [name for name in entries if name in folders or names.count(name) > 1]:
        raise ConfigError(f"{path}: {twice[0]!r} is there twice: this is no capsule of hpc")
    for name, entry in entries.items():
        if sizes[name] != entry.n_bytes:
            raise ConfigError(
                f"{path}: {name} was changed after it was packed: it has {sizes[name]} bytes, and {entry.n_bytes} were "
                "written"
            )


def unpack(capsule: Capsule, folder: Path) -> dict[str, RunDir]:
    """Unpack a capsule into a folder, each file verified; return the runs in it by name. All of it is there or nothing
    is."""
    if not folder.exists():
        _refuse_if_too_large(capsule, folder)
        partial = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _unpack_all(capsule, partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            with suppress(OSError):  # it was made for the capsule, or there is more in it
                folder.parent.rmdir()
            raise
        os.rename(partial, folder)
    return {path.name: RunDir(path) for path in _run_folders(folder)}


def _refuse_if_too_large(capsule: Capsule, folder: Path) -> None:
    needed = sum(entry.n_bytes for entry in capsule.entries.values())
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    if needed > (free := shutil.disk_usage(there).free):
        raise ConfigError(
            f"{capsule.path} unpacks to {needed / 1e9:,.1f} GB, but {there} has {free / 1e9:,.1f} GB left: say --runs "
            "with a folder on a larger disk"
        )


def _unpack_all(capsule: Capsule, folder: Path) -> None:
    with zipfile.ZipFile(capsule.path) as packed:
        for name, entry in capsule.entries.items():
            _unpack(packed, name, entry, folder / name)
    for run in _run_folders(folder):
        snapshot = records.plan(RunDir(run)).get("snapshot", "")
        if not re.fullmatch("[0-9a-f]{64}", snapshot):
            raise ConfigError(f"{capsule.path}: {run.name} names no copy of its code: this is no capsule of hpc")
        _refuse_names(capsule, RunDir(run))
        (run / "code").symlink_to(f"../.code/{snapshot[:16]}")


def _refuse_names(capsule: Capsule, run: RunDir) -> None:
    """Refuse a run that reads runs of such names, or has files of such names, as lead out of a folder."""
    read = [*provenance.read(run).get("runs", {}), *provenance.upstream_runs(run)]
    if odd := [name for name in read if not re.fullmatch(RUN, name)]:
        raise ConfigError(f"{capsule.path}: {run.name} reads a run {odd[0]!r}, which is no name of one")
    if odd := [name for name in products.listed(run.out) or {} if not re.fullmatch(f"{PART}(?:/{PART})*", name)]:
        raise ConfigError(f"{capsule.path}: {run.name} lists a product {odd[0]!r}, which leads out of its folder")


def files_of_code(run: RunDir) -> dict[str, str]:
    """The SHA-256 of each file of the code of a run. Raises ConfigError if its archive is not what its list says."""
    nothing = f"code: {run.name} has no list of its files of code: this is no capsule of hpc"
    try:
        manifest: Any = read_json(run.code / MANIFEST)
        files = {str(name): str(entry["sha256"]) for name, entry in manifest.items()}
        n_bytes = sum(max(0, int(entry["bytes"])) for entry in manifest.values())
        if n_bytes > LARGEST_CODE_B:
            raise ConfigError(f"code: that of {run.name} has {n_bytes / 1e9:,.1f} GB: this is no capsule of hpc")
        fault = replay.code_fault(run)
    except ConfigError:
        raise
    except (*DAMAGE, AttributeError):
        raise ConfigError(nothing) from None
    if outside := [name for name in files if leads_out(name)]:
        raise ConfigError(f"code: {outside[0]!r} of {run.name} leads out of the copy: this is no capsule of hpc")
    if fault:
        raise ConfigError(f"code: {fault}")
    return files


def foreign_code(runs: Iterable[RunDir], todays: Collection[str]) -> dict[str, Path]:
    """The files of code of these runs that are not among today's, by name, with the archive that each is in. `todays`:
    the SHA-256 of what is installed here."""
    return {
        name: run.code / ARCHIVE
        for run in runs
        for name, sha256 in files_of_code(run).items()
        if sha256 not in todays and name not in NO_CODE
    }


NO_CODE = ("code.diff", IMPORTS)
"""What is in a copy of the code besides code."""


def _run_folders(folder: Path) -> list[Path]:
    return [path for path in sorted((folder / "runs").iterdir()) if path.name != ".code"]


def _unpack(packed: zipfile.ZipFile, name: str, entry: Entry, path: Path) -> None:
    digest, n_bytes = hashlib.sha256(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(name) as source, open(path, "xb") as target:
            while block := source.read(BLOCK_B):
                n_bytes += len(block)
                if n_bytes > entry.n_bytes:
                    raise ValueError(f"it has more than {entry.n_bytes} bytes")
                digest.update(block)
                target.write(block)
    except OSError as error:
        raise ConfigError(f"{packed.filename}: {name} cannot be unpacked: {error.strerror}") from None
    except DAMAGE as error:
        raise ConfigError(f"{packed.filename}: {name} is damaged ({error}): get the file again") from None
    if digest.hexdigest() != entry.sha256:
        now, then = digest.hexdigest()[:12], entry.sha256[:12]
        raise ConfigError(
            f"{packed.filename}: {name} was changed after it was packed: its SHA-256 is {now}…, and {then}… was written"
        )
