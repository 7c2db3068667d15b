"""Fetch weights of the Hugging Face hub into a folder: `hpc fetch hf:NAME@REVISION`, where there is a way to the net.

The folder is whole or not there. Each file is checked by the checksum that the hub names (SHA-256 of large ones, git's
of small ones); a fetch that was stopped goes on in the middle of a file. The commit is noted, as a branch is another
one later. HF_ENDPOINT names another server, HF_TOKEN a token for weights behind terms of use.
"""

import hashlib
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from eegdecode.data.io import guard
from eegdecode.exchange import bids_study
from eegdecode.exchange.bids_study import VERSION
from eegdecode.exchange.progress import Progress
from hpc.errors import first_of
from hpc.media import many


@dataclass(frozen=True)
class FetchWeights:
    """What of a model's files is fetched, and where to."""

    output: str = ""  # the folder; by default the last word of the model's name, here
    files: tuple[str, ...] = ()  # names or patterns, as `*.ckpt`; by default weights and the small texts beside them


ENDPOINT = "https://huggingface.co"
WEIGHTS = ("*.safetensors", "*.ckpt", "*.pt", "*.pth", "*.bin")
TEXTS = ("*.json", "*.md", "*.txt", "LICENSE*")
TIMEOUT_S = 60
TRIES = 4
BLOCK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file of the hub. `digest`: `sha256:…`, or `git:…` of a small one."""

    name: str
    size: int
    digest: str


def run(cfg: FetchWeights, files: Sequence[Path], as_json: bool) -> str:
    """Fetch the weights of a model from the Hugging Face hub into a folder: whole, or not there.

    python -m hpc.launch fetch hf:braindecode/cbramod-pretrained@main
    python -m hpc.launch fetch hf:PulpBio/LUNA@main files=[LUNA_base.safetensors] -o luna
    """
    if len(files) != 1:
        raise ValueError(f"fetch gets the weights of one model, but got {len(files)}: give a line for each")
    name, revision = _named(str(files[0]))
    folder = Path(cfg.output or name.rpartition("/")[2])
    request = {"of": f"hf:{name}@{revision}", "files": list(cfg.files)}
    if bids_study.is_whole(folder, request):
        return json.dumps({"folder": str(folder)}) if as_json else f"{folder} is there already: {_then(folder)}"
    hub = Hub(os.environ)
    commit, every = hub.look(name, revision)
    chosen = _chosen(every, cfg.files, f"hf:{name}")
    progress = Progress(f"fetching hf:{name}", len(chosen))
    with bids_study.opened(folder, request) as study:
        for file in chosen:
            progress.begin(file.name)
            if not study.has(file.name):
                path = guard.below(study.part, file.name, "it is not fetched")
                hub.download(name, commit, file, path, progress)
                study.add(file.name, lambda _, path=path: [path])  # type: ignore[misc]
        progress.end()
        study.publish(of=f"hf:{name}@{commit}", asked=revision)
    if as_json:
        return json.dumps({"folder": str(folder), "commit": commit, "files": [file.name for file in chosen]})
    size = sum(file.size for file in chosen) / 1e6
    return f"wrote {folder}: {many(len(chosen), 'file')}, {size:.1f} MB, commit {commit[:12]}. {_then(folder)}"


def _named(word: str) -> tuple[str, str]:
    """The name and the revision."""
    name, _, revision = word.removeprefix("hf:").partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not re.fullmatch(r"[\w./-]*", revision) or ".." in word:
        raise ValueError(f"{word} names no model: hf:NAME@REVISION, as hf:braindecode/cbramod-pretrained@main")
    return name, revision or "main"


def _then(folder: Path) -> str:
    return (
        f"Next: hpc inspect {folder}, then train.start.source=./{folder}"
        if not folder.is_absolute()
        else (f"Next: hpc inspect {folder}, then train.start.source={folder}")
    )


def _chosen(every: Sequence[RemoteFile], patterns: Sequence[str], what: str) -> list[RemoteFile]:
    if patterns:
        for pattern in patterns:
            if not any(fnmatch(file.name, pattern) for file in every):
                raise ValueError(f"{what} has no file {pattern!r}, but {first_of([file.name for file in every], 12)}")
        return [file for file in every if any(fnmatch(file.name, pattern) for pattern in patterns)]
    weights = [file for file in every if any(fnmatch(file.name, each) for each in WEIGHTS)]
    safe = any(fnmatch(file.name, "model*.safetensors") for file in weights)
    weights = [
        file for file in weights if not (safe and fnmatch(file.name, "pytorch_model*.bin"))
    ]  # the same once more
    if not weights:
        names = first_of([file.name for file in every], 12)
        raise ValueError(f"{what} has no weights, but {names}: choose by files=[…]")
    return [*weights, *(file for file in every if file not in weights and any(fnmatch(file.name, t) for t in TEXTS))]


class Hub:
    """The hub over HTTP. `environ`: HF_ENDPOINT, HF_TOKEN and what else its own tools go by."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.endpoint = environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
        if urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise ValueError(f"HF_ENDPOINT is {self.endpoint!r}, which is no address of a hub, as {ENDPOINT}")
        if environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false"):
            raise ValueError("HF_HUB_OFFLINE is set: unset it to fetch, on a machine with a way to the net")
        self.token = _token(environ)

    def look(self, name: str, revision: str) -> tuple[str, list[RemoteFile]]:
        """The commit of a revision, and its files."""
        url = f"{self.endpoint}/api/models/{quote(name)}/revision/{quote(revision, safe='')}?blobs=true"
        with self._open(url, f"hf:{name}@{revision}") as answer:
            content = answer.read(1 << 26)
        try:
            about = json.loads(content)
            commit, files = str(about["sha"]), [_file(each) for each in about["siblings"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{self.endpoint} answers something else than a hub about hf:{name}@{revision}") from None
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError(f"{self.endpoint} names no commit of hf:{name}@{revision}, but {commit[:50]!r}")
        return commit, files

    def download(self, name: str, commit: str, file: RemoteFile, path: Path, progress: Progress) -> None:
        """Write a file; of one that is there in part, the rest is fetched."""
        part = path.with_name(f".{path.name}.incomplete")
        path.parent.mkdir(parents=True, exist_ok=True)
        what, url = f"{file.name} of hf:{name}", f"{self.endpoint}/{quote(name)}/resolve/{commit}/{quote(file.name)}"
        for tried in range(1, TRIES + 1):
            try:
                self._rest(url, what, file, part, progress)
            except (ConnectionError, TimeoutError, HTTPException) as error:
                if tried == TRIES:
                    raise _unreachable(what, error) from None
                time.sleep(0.1 * tried**2)
                continue
            break
        if (digest := _digest(part, file.digest)) != file.digest:
            part.unlink()
            raise ValueError(
                f"{what} has the checksum {digest[:20]}…, but the hub names {file.digest[:20]}…: what was downloaded "
                "is removed, give the line again"
            )
        os.replace(part, path)

    def _rest(self, url: str, what: str, file: RemoteFile, part: Path, progress: Progress) -> None:
        have = part.stat().st_size if part.is_file() else 0
        if have > file.size:
            part.unlink()
            have = 0
        if have == file.size and part.is_file():
            return
        with self._open(url, what, first=have) as answer, open(part, "ab" if answer.status == 206 else "wb") as out:
            have = have if answer.status == 206 else 0
            while block := answer.read(BLOCK):
                have += len(block)
                if have > file.size:
                    raise ValueError(f"{what} is longer than the {file.size} bytes that the hub names")
                out.write(block)
                progress.part(have / file.size)
        if have < file.size:
            raise ConnectionError(f"the connection ended after {have} of {file.size} bytes")

    def _open(self, url: str, what: str, first: int = 0) -> Any:
        request = urllib.request.Request(url, headers={"User-Agent": f"hpc-eegdecode/{VERSION}"})
        if first:
            request.add_header("Range", f"bytes={first}-")
        if self.token:  # not for the server that a redirect leads to
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise ValueError(_refused(what, error.code, bool(self.token))) from None
        except urllib.error.URLError as error:
            raise _unreachable(what, error.reason) from None


def _token(environ: Mapping[str, str]) -> str:
    if token := environ.get("HF_TOKEN", ""):
        return token.strip()
    home = Path(environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    try:
        return Path(environ.get("HF_TOKEN_PATH", home / "token")).read_text().strip()
    except OSError:
        return ""


def _file(entry: Mapping[str, Any]) -> RemoteFile:
    lfs = entry.get("lfs") or {}
    digest = f"sha256:{lfs['sha256']}" if "sha256" in lfs else f"git:{entry['blobId']}"
    return RemoteFile(str(entry["rfilename"]), int(entry["size"]), digest)


def _digest(path: Path, like: str) -> str:
    with open(path, "rb") as file:
        if like.startswith("sha256:"):
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        return f"git:{_git(file, path.stat().st_size)}"


def _git(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _refused(what: str, code: int, has_token: bool) -> str:
    if code in (401, 403):
        how = "this token has no access" if has_token else "set HF_TOKEN to a token of yours"
        return (
            f"the hub has no {what}, or keeps it to those who have accepted its terms: accept them on its page, {how}"
        )
    if code == 404:
        return f"the hub has no {what}: correct the name, the revision behind @ or files"
    return f"{what} could not be fetched, the hub answers {code}: give the line again later, it continues"


def _unreachable(what: str, error: object) -> ValueError:
    return ValueError(
        f"{what} could not be downloaded ({' '.join(str(error).split())[:200] or type(error).__name__}): give the line "
        "again where there is a way to the net and room on the disk, it continues"
    )
