"""Looks at one node of a job, before the first rank starts there: `python -m hpc.supervise.node_check`, by srun.

It reads what to look at from stdin, a line of JSON, and prints what it sees: a line that says where the other nodes
reach it, and, after a second line has said where it reaches the next one, a line with everything. It judges nothing:
health.py does, next to what the other nodes say. A look that takes too long is left out, and it never outlives LIFE_S.
"""

import errno
import hmac
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from hpc.site import fabric, gpus
from hpc.site.disks import disk_path

MARK = "hpc-node "
"""Begins its lines: a site's own scripts may print as well."""
LOOK_S, LIFE_S = 2.5, 30
"""How long the looks may take together; how long this process may live."""
PEER_B, CHUNK_B = 4 << 20, 1 << 16
PEER_S = 1.0
"""How much is sent to the next node, and how long that may take."""
PROBE_B = 4096


@dataclass
class Task:
    """What to look at."""

    run: str = ""
    scratch: list[str] = field(default_factory=list)
    """As in the profile: they may contain $VARIABLES of the node."""
    account: str = ""
    n_gpus: int = 0
    fabric: str = ""
    secret: str = ""
    has_peers: bool = False


@dataclass
class Disk:
    what: str
    path: str
    free_gb: float = 0.0
    error: str = ""
    errno: int = 0


@dataclass
class Peer:
    """What the way to the next node is like."""

    host: str = ""
    mb_s: float = 0.0
    error: str = ""


@dataclass
class Node:
    """What one node has shown."""

    host: str
    disks: list[Disk] = field(default_factory=list)
    available_gb: float | None = None
    total_gb: float | None = None
    gpu_faults: list[str] | None = None
    """None: there is nothing here that could say."""
    gpu_notes: list[str] = field(default_factory=list)
    fabric_error: str = ""
    peer: Peer | None = None
    received: float = 0.0
    """When this node had the second line, by its own clock; `sent`: when it has printed this."""
    sent: float = 0.0
    late: list[str] = field(default_factory=list)
    """What did not answer in time."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Node":
        disks = [Disk(**each) for each in values.get("disks", [])]
        peer = values.get("peer")
        return cls(**{**values, "disks": disks, "peer": peer and Peer(**peer)})


def main(environ: Mapping[str, str]) -> None:
    signal.alarm(LIFE_S)
    began = time.monotonic()
    task = Task(**json.loads(sys.stdin.readline()))
    node = Node(environ.get("SLURMD_NODENAME") or os.uname().nodename)
    looks: dict[str, Callable[[], None]] = {"memory": lambda: _memory(node)}
    for what, path in _places(task, environ):
        looks[path] = lambda what=what, path=path: _disk(node, what, path)  # type: ignore[misc]
    if task.n_gpus:
        looks["GPUs"] = lambda: _gpus(node, task.n_gpus, environ)
    threads = {name: _started(look) for name, look in looks.items()}
    if task.has_peers:
        server = _listen(node, task, environ)
        address, port = server.getsockname()[:2]
        place = socket.gethostname() if address == "0.0.0.0" else address
        _print({"host": node.host, "address": place, "port": port})
        _started(lambda: serve(server, task.secret))
        others = json.loads(sys.stdin.readline() or "{}")
        node.received = time.time()
        if following := others.get(node.host):
            threads["network"] = _started(lambda: _to_peer(node, following, task.secret))
    for name, thread in threads.items():
        thread.join(max(0.0, began + LOOK_S - time.monotonic()))
        if thread.is_alive():
            node.late.append(name)
    node.sent = time.time()
    _print(asdict(node))
    if task.has_peers:
        sys.stdin.read()  # to its end: until then the node before may still ask


def _print(values: Mapping[str, Any]) -> None:
    print(MARK + json.dumps(values), flush=True)


def _started(look: Callable[[], None]) -> Thread:
    thread = Thread(target=look, daemon=True)
    thread.start()
    return thread


def _places(task: Task, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    scratch = [path for text in task.scratch if (path := disk_path(text, environ, task.account))]
    places = [("the run folder", task.run), *(("its scratch", str(path)) for path in scratch)]
    places += [("its disk for temporary files", tempfile.gettempdir()), ("its memory for files", "/dev/shm")]
    return list({path: (what, path) for what, path in reversed(places)}.values())[::-1]


def _disk(node: Node, what: str, path: str) -> None:
    """Write a small file, read it, and remove it."""
    disk = Disk(what, path)
    file = Path(path) / f".hpc-node-{node.host}-{os.getpid()}"
    content = os.urandom(PROBE_B)
    try:
        state = os.statvfs(path)
        disk.free_gb = state.f_bavail * state.f_frsize / 1e9
        with open(file, "xb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        if file.read_bytes() != content:
            disk.error, disk.errno = "what was written is read as something else", errno.EIO
        file.unlink()
    except OSError as error:
        disk.error, disk.errno = error.strerror or str(error), error.errno or errno.EIO
        with suppress(OSError):
            file.unlink()
    node.disks.append(disk)


def _memory(node: Node) -> None:
    try:
        lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    except OSError:  # no Linux
        return
    kb = {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1}
    if "MemAvailable" in kb and "MemTotal" in kb:
        node.available_gb, node.total_gb = kb["MemAvailable"] * 1024 / 1e9, kb["MemTotal"] * 1024 / 1e9


def _gpus(node: Node, n_asked: int, environ: Mapping[str, str]) -> None:
    health = gpus.health(n_asked, environ)
    node.gpu_faults, node.gpu_notes = health.faults, health.notes


def _listen(node: Node, task: Task, environ: Mapping[str, str]) -> socket.socket:
    """Open a port at the address of the fabric, or at that which ranks would use."""
    try:
        chosen = fabric.variables(task.fabric, fabric.interfaces()) if task.fabric else {}
    except RuntimeError as error:
        node.fabric_error, chosen = str(error), {}
    address = fabric.own_address({**environ, **chosen})
    try:
        return socket.create_server((address, 0), backlog=16)
    except OSError as error:
        node.fabric_error = node.fabric_error or f"cannot listen at {address}: {error.strerror}"
        return socket.create_server(("", 0), backlog=16)


def serve(server: socket.socket, secret: str) -> None:
    """Take what nodes with the secret send, for ever."""
    while True:
        connection, _ = server.accept()
        _started(lambda connection=connection: _answer(connection, secret))  # type: ignore[misc]


def _answer(connection: socket.socket, secret: str) -> None:
    """Take what the node before sends, and say when all of it is here. Strangers, without the secret, get nothing."""
    with suppress(OSError), connection:
        connection.settimeout(2 * PEER_S)
        if not hmac.compare_digest(_exactly(connection, len(secret)), secret.encode()):
            return
        connection.sendall(b"1")
        _exactly(connection, PEER_B)
        connection.sendall(b"2")


def _to_peer(node: Node, following: Mapping[str, Any], secret: str) -> None:
    peer = node.peer = Peer(following["host"], error="no answer in time")
    peer.mb_s, peer.error = reach(following["address"], following["port"], secret)


def reach(address: str, port: int, secret: str) -> tuple[float, str]:
    """Send to a node that serves; return the MB/s, and the error if there is one."""
    n_b = 0
    try:
        with socket.create_connection((address, port), PEER_S) as connection:
            connection.settimeout(PEER_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(secret.encode())
            _exactly(connection, 1)
            began, chunk = time.perf_counter(), bytes(CHUNK_B)
            while n_b < PEER_B and time.perf_counter() - began < PEER_S:
                connection.sendall(chunk)
                n_b += CHUNK_B
            if n_b == PEER_B:
                _exactly(connection, 1)
            return n_b / 1e6 / max(time.perf_counter() - began, 1e-6), ""
    except OSError as error:
        return 0.0, error.strerror or str(error)


def _exactly(connection: socket.socket, n_b: int) -> bytes:
    """Receive so many bytes. Raises OSError if the other side ends before."""
    parts: list[bytes] = []
    while n_b:
        part = connection.recv(min(n_b, CHUNK_B))
        if not part:
            raise ConnectionError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        parts, n_b = [*(parts if n_b < CHUNK_B else []), part], n_b - len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main(os.environ)
    sys.stdout.flush()
    os._exit(0)  # a look that hangs is not waited for
