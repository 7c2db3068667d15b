"""`hpc fetch hf:NAME@REVISION` against a small hub on this machine: checked, continued, whole or not there."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from eegdecode.data.io.readers import safetensors
from eegdecode.weights.files import look
from hpc.cli import options, runs
from hpc.errors import ConfigError
from tests.conftest import Launch

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: a listing with checksums, and files behind a redirect. What is asked is noted."""

    server: Any
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.server
        hub.asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if self.path.startswith("/api/models/lab/net/revision/"):
            if "/v9" in self.path:
                return self._send(404, b"{}")
            return self._send(200, json.dumps({"sha": COMMIT, "siblings": hub.siblings}).encode())
        if self.path.startswith("/api/models/lab/secret"):
            return self._send(401, b"{}")
        name = self.path.rpartition("/")[2]
        if self.path.startswith(f"/lab/net/resolve/{COMMIT}/"):
            return self._send(302, b"", Location=f"/cdn/{name}")
        content = hub.contents[name]
        first = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if hub.cuts and not first:  # the connection breaks in the middle
            hub.cuts -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self._send(206 if first else 200, content[first:])

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(launch: Launch, tmp_path: Path) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    with open(tmp_path / "made", "wb") as file:
        safetensors.write(file, {"encoder.weight": torch.arange(3000.0)}, {})
    weights = (tmp_path / "made").read_bytes()
    config, doubled, picture = b'{"n": 1}', b"the same as a pickle", b"\x89PNG"
    server.contents = {
        "model.safetensors": weights, "config.json": config, "pytorch_model.bin": doubled, "a.png": picture,
    }  # fmt: skip
    server.siblings = [
        {
            "rfilename": name,
            "size": len(content),
            "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        }
        for name, content in server.contents.items()
    ]
    server.siblings[0]["lfs"] = {"sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)}
    server.asked, server.cuts = [], 0
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    launch.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_TOKEN": "mine"}
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def here(hub: Any, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, as each line takes seconds to start."""
    monkeypatch.chdir(launch.folder)
    for name in ("HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.setenv(name, launch.environ[name])


def test_weights_are_fetched_checked_listed_and_there_without_the_net(launch: Launch, hub: Any, tmp_path: Path) -> None:
    hub.cuts = 1
    done = launch("fetch", "hf:lab/net@v1").stdout
    assert f"wrote net: 2 files, 0.0 MB, commit {COMMIT[:12]}. Next: hpc inspect net" in done
    folder = tmp_path / "net"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "products.jsonl"]
    assert (folder / "model.safetensors").read_bytes() == hub.contents["model.safetensors"]
    half = len(hub.contents["model.safetensors"]) // 2
    assert f"bytes={half}-" in [range_ for _, range_, _ in hub.asked]  # it went on in the middle of the file
    assert {token for path, _, token in hub.asked if "/cdn/" not in path} == {"Bearer mine"}
    assert {token for path, _, token in hub.asked if "/cdn/" in path} == {None}
    head = json.loads((folder / "products.jsonl").read_text().splitlines()[0])
    assert (head["of"], head["asked"]) == (f"hf:lab/net@{COMMIT}", "v1")

    n_asked = len(hub.asked)
    launch.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
    assert "net is there already" in launch("fetch", "hf:lab/net@v1").stdout
    assert len(hub.asked) == n_asked
    assert look(folder).shapes["encoder.weight"].sizes == (3000,)
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(ValueError, match="model.safetensors is damaged: its SHA-256 is"):
        look(folder)
    with pytest.raises(ConfigError, match="is not what was written"):
        runs.fetch_runs(options.read(["fetch", "hf:lab/net@v1", "-o", str(folder)]), {})


def test_what_is_not_what_the_hub_names_is_not_kept(here: None, hub: Any, tmp_path: Path) -> None:
    hub.contents["config.json"] = b'{"n": 2}'
    with pytest.raises(ConfigError, match="config.json of hf:lab/net has the checksum git:.*, but the hub names git:"):
        runs.fetch_runs(options.read(["fetch", "hf:lab/net"]), {})
    assert not (tmp_path / "net").exists()
    hub.contents["config.json"] = b'{"n": 1}'
    before = len(hub.asked)
    runs.fetch_runs(options.read(["fetch", "hf:lab/net", "-o", "net"]), {})
    assert (tmp_path / "net/config.json").read_bytes() == b'{"n": 1}'
    assert not any("safetensors" in path for path, _, _ in hub.asked[before:])  # it was there already


def test_files_are_chosen_by_patterns(here: None, tmp_path: Path) -> None:
    runs.fetch_runs(options.read(["fetch", "hf:lab/net@v1", "files=['*.bin']", "-o", "other"]), {})
    assert (tmp_path / "other/pytorch_model.bin").read_bytes() == b"the same as a pickle"
    with pytest.raises(ConfigError, match="something else"):
        runs.fetch_runs(options.read(["fetch", "hf:lab/net@v2", "-o", "other"]), {})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hf:lab/net@v9"], "the hub has no hf:lab/net@v9: correct the name, the revision behind @"),
        (
            ["hf:lab/secret@v1"],
            "keeps it to those who have accepted its terms: accept them on its page, this token has no",
        ),
        (["hf:lab/net@v1", "files=['*.ckpt']"], "hf:lab/net has no file '*.ckpt', but model.safetensors, config.json"),
        (["hf:"], "names no model: hf:NAME@REVISION, as hf:"),
        (["hf:../net"], "names no model"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence(here: None, words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        runs.fetch_runs(options.read(["fetch", *words]), {})


def test_a_name_that_leads_out_of_the_folder_is_refused(here: None, hub: Any) -> None:
    hub.siblings[0]["rfilename"] = "../../model.safetensors"
    with pytest.raises(ConfigError, match="which leads out of it"):
        runs.fetch_runs(options.read(["fetch", "hf:lab/net"]), {})


def test_without_the_net_and_in_a_job_it_is_a_sentence(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    args = options.read(["fetch", "hf:lab/net@v1"])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="could not be downloaded .* give the line again where there is a way to the"):
        runs.fetch_runs(args, {})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        runs.fetch_runs(args, {})
    with pytest.raises(ConfigError, match="is for a login node, and this is job 4711"):
        runs.fetch_runs(args, {"SLURM_JOB_ID": "4711"})
