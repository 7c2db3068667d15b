"""As much of a server of Weights & Biases as its client needs, and the history of each run that it was sent."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PROJECT = {"id": "P", "name": "eegdecode", "entity": {"id": "E", "name": "lab"}}


class WandbServer:
    def __init__(self) -> None:
        self.histories: dict[str, list[dict[str, Any]]] = {}
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_BASE_URL", self.address)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)

    def answer(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """To a query of GraphQL."""
        run = str(values.get("name"))
        rows = self.histories.get(run)
        if name == "RunResumeStatus":
            bucket = None if rows is None else _bucket(run, rows)
            return {"model": {**PROJECT, "bucket": bucket}}
        if name == "UpsertBucket":
            rows = self.histories.setdefault(run, [])
            bucket = {"id": "ID", "name": run, "displayName": run, "description": None, "config": "{}"}
            bucket |= {"sweepName": None, "historyLineCount": len(rows), "project": PROJECT}
            return {"upsertBucket": {"bucket": bucket, "inserted": not rows}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.address}/file"} for file in values["files"]]
            return {"createRunFiles": {"runID": "ID", "uploadHeaders": [], "files": files}}
        viewer = {"id": "U", "entity": "lab", "username": "ala", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer} if name == "Viewer" else {}

    def take(self, run: str, part: dict[str, Any]) -> None:
        """Lines of the history, which take the place of those from the offset on."""
        rows = [json.loads(line) for line in part["content"]]
        self.histories[run][part["offset"] : part["offset"] + len(rows)] = rows


def _bucket(run: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {"historyLineCount": len(rows), "logLineCount": 0, "eventsLineCount": 0}
    tails = {"historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]), "eventsTail": "[]"}
    texts = {"config": "{}", "tags": [], "wandbConfig": '{"t": 1}', "summaryMetrics": "{}"}
    return {"id": "ID", "name": run, "displayName": run, **counts, **tails, **texts}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: WandbServer

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}") if "otel" not in self.path else self._body() and {}
        if self.path.endswith("/graphql"):
            name = re.search(r"(?:query|mutation) (\w+)", body["query"])
            self._reply({"data": self.server_of.answer(name[1] if name else "", body.get("variables") or {})})
            return
        history = (body.get("files") or {}).get("wandb-history.jsonl")
        if self.path.endswith("/file_stream") and history:
            self.server_of.take(self.path.split("/")[-2], history)
        self._reply({})

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def do_HEAD(self) -> None:
        self._reply(None)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        else:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: object) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the test's output."""
