"""`hpc page --serve`: the page of all runs and what it links to, for a browser on this machine, or behind `ssh -L`.

It listens on the loopback alone, answers GET alone, and sends nothing but files below the folder of runs that are for
people to read. Others who use the same machine reach its loopback too: so each address has a word in it that only the
user knows.
"""

import errno
import hmac
import mimetypes
import os
import secrets
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from shutil import copyfileobj
from threading import Lock
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from hpc.errors import ConfigError
from hpc.overview import page, row
from hpc.runs.status import State

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
FRESH_S = 2.0
"""A page that is younger is sent once more."""
SHOWN = ("out/*", "jobs/*.log", "jobs/*.out", *row.OWN)
"""The files of a run that are sent; `*` is any letters, also slashes."""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; font-src data:; frame-src 'self'; base-uri 'none'; form-action 'none'"
)


class Server(ThreadingHTTPServer):
    """Serves a folder of runs until it is shut down. Raises ConfigError if the port is taken."""

    daemon_threads = True

    def __init__(self, runs: str, port: int = 0, elsewhere: Sequence[State] = ()) -> None:
        self.runs, self.elsewhere = runs, elsewhere
        self.root = os.path.realpath(runs)
        self.word = secrets.token_urlsafe(18)
        self._made_at, self._page, self._alone = -FRESH_S, b"", Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except PermissionError:
            raise ConfigError(f"--port {port} is for the administrator: say one above 1023, or none") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ConfigError(f"--port {port} is taken by another program: say another one, or none") from None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/{self.word}/"

    def page(self) -> bytes:
        """Return the page of now."""
        with self._alone:
            if time.monotonic() - self._made_at > FRESH_S:
                self._page = page.make(self.runs, self.elsewhere).text.encode()
                self._made_at = time.monotonic()
            return self._page

    def place_of(self, name: str) -> str | None:
        """Return the file that a name below the folder means, if it is there, for people to read, and no way out of the
        folder."""
        parts = name.split("/")
        if any(part.startswith(".") or not part or "\0" in part for part in parts):
            return None
        own = [parts[at:] for at in (1, 2) if len(parts) > at]  # RUN/…, or SITE/RUN/… of what was fetched
        is_page = len(parts) == 1 and name.endswith(".html")
        if not is_page and not any(fnmatch("/".join(each), pattern) for each in own for pattern in SHOWN):
            return None
        place = os.path.realpath(os.path.join(self.root, *parts))
        return place if place.startswith(f"{self.root}/") and os.path.isfile(place) else None


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.0"
    server_version, sys_version = "hpc", ""

    def do_GET(self) -> None:
        if self.headers.get("Host", "").rpartition(":")[0] not in HOSTS:  # a page elsewhere that gives itself our name
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        asked = os.fsdecode(unquote_to_bytes(urlsplit(self.path).path)).lstrip("/")
        word, _, name = asked.partition("/")
        if not hmac.compare_digest(os.fsencode(word), self.server.word.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
        elif name in ("", page.PAGE):
            self._send(self.server.page(), "text/html; charset=utf-8")
        elif place := self.server.place_of(name):
            self._send_file(place)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def parse_request(self) -> bool:
        is_whole = super().parse_request()
        if is_whole and self.command != "GET":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
            return False
        return is_whole

    def _send_file(self, place: str) -> None:
        try:
            file: BinaryIO = open(place, "rb")  # noqa: SIM115  closed below, after its headers are sent
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with file:
            kind = mimetypes.guess_type(place)[0] or "text/plain"
            if place.endswith((".log", ".out", ".jsonl", ".yaml", ".json", ".md", ".tex")):
                kind = "text/plain"
            self._head(HTTPStatus.OK, f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
            copyfileobj(file, self.wfile)

    def _send(self, content: bytes, kind: str) -> None:
        self._head(HTTPStatus.OK, kind)
        self.wfile.write(content)

    def _refuse(self, status: HTTPStatus) -> None:
        self._head(status, "text/plain; charset=utf-8")
        self.wfile.write(f"{status.value} {status.phrase}\n".encode())

    def _head(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": kind, "Content-Security-Policy": POLICY}).items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print no line for each request."""
