"""The ranks of a run meet behind a secret: who does not have it can neither read nor write, nor be in the way."""

import hmac
import json
import multiprocessing
import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hpc.rank import ddp, rendezvous
from hpc.rank.context import Context, World
from hpc.rank.rendezvous import LOOPBACK, MAX_UNPROVEN, N_B, Client, Server, WrongSecret
from hpc.runs.rundir import RunDir, read_json
from hpc.site import fabric
from tests.waiting import LONG_S, wait_for

SECRET = rendezvous.new_secret()


@pytest.fixture
def server() -> Server:
    return Server(LOOPBACK, SECRET)


@pytest.fixture
def client(server: Server) -> Client:
    client = Client(LOOPBACK, server.port, SECRET, 10)
    client.ask("set", b"address of rank 0", b"here", timeout_s=10)
    return client


def stranger(port: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), timeout=LONG_S)


def rest(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    parts = bytearray()
    try:
        while part := connection.recv(1 << 16):
            parts += part
    except ConnectionResetError:  # it was closed before all that we sent was read
        pass
    return bytes(parts)


JUNK: dict[str, Callable[[bytes], bytes]] = {
    "HTTP": lambda nonce: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(64),
    "TCPStore": lambda nonce: bytes([9, *(0xFADE).to_bytes(4, "little"), *bytes(64)]),
    "zeros": lambda nonce: bytes(1 << 20),
    "noise": lambda nonce: secrets.token_bytes(1 << 20),
    "its own number": lambda nonce: nonce + nonce,
    "another secret": lambda nonce: bytes(N_B) + hmac.digest(bytes(N_B), b"client" + nonce + bytes(N_B), "sha256"),
}


@pytest.mark.parametrize("junk", JUNK)
def test_who_sends_something_else_is_refused_and_learns_nothing(junk: str, server: Server, client: Client) -> None:
    with stranger(server.port) as connection:
        nonce = connection.recv(N_B, socket.MSG_WAITALL)
        connection.sendall(JUNK[junk](nonce))
        assert rest(connection) in (rendezvous.REFUSED, b"")
    assert client.ask("count", timeout_s=10) == [b"1"]
    assert client.ask("get", b"address of rank 0", timeout_s=10) == [b"here"]


def test_a_store_of_torch_gets_neither_a_list_nor_a_key(server: Server, client: Client) -> None:
    with pytest.raises(dist.DistError):
        dist.TCPStore(LOOPBACK, server.port, is_master=False, timeout=timedelta(seconds=3))
    assert client.ask("get", b"address of rank 0", timeout_s=10) == [b"here"]


def test_a_request_that_is_not_signed_closes_its_connection_and_does_nothing(server: Server, client: Client) -> None:
    with stranger(server.port) as connection:
        mine, nonce = bytes(N_B), connection.recv(N_B, socket.MSG_WAITALL)
        signatures = rendezvous.Signatures(bytes.fromhex(SECRET), nonce, mine)
        connection.sendall(mine + signatures.client_proof())
        assert connection.recv(N_B, socket.MSG_WAITALL) == signatures.server_proof()
        request = rendezvous._pack(b"set", b"1", b"address of rank 0", b"elsewhere")
        connection.sendall(len(request).to_bytes(4) + request + bytes(N_B))
        assert rest(connection) == b""
    assert client.ask("get", b"address of rank 0", timeout_s=10) == [b"here"]


def test_what_was_signed_once_counts_once(server: Server, client: Client) -> None:
    with stranger(server.port) as connection:
        mine, nonce = bytes(N_B), connection.recv(N_B, socket.MSG_WAITALL)
        signatures = rendezvous.Signatures(bytes.fromhex(SECRET), nonce, mine)
        connection.sendall(mine + signatures.client_proof())
        connection.recv(N_B, socket.MSG_WAITALL)
        request = rendezvous._pack(b"add", b"1", b"n", b"1")
        signed = len(request).to_bytes(4) + request + signatures.of(request, b"client")
        connection.sendall(signed + signed)
        rest(connection)
    assert client.ask("get", b"n", timeout_s=10) == [b"1"]


def test_many_who_say_nothing_are_not_in_the_way(server: Server) -> None:
    with ExitStack() as held:
        silent = [held.enter_context(stranger(server.port)) for _ in range(2 * MAX_UNPROVEN)]
        assert Client(LOOPBACK, server.port, SECRET, 10).ask("count", timeout_s=10) == [b"0"]
        assert rest(silent[0]) != b"", "it has had its random number, and was closed"


def test_the_wrong_secret_is_a_sentence_at_both_ends(server: Server) -> None:
    with pytest.raises(WrongSecret, match=f"127.0.0.1:{server.port} refuses the secret in rendezvous.json"):
        Client(LOOPBACK, server.port, rendezvous.new_secret(), 10)
    with socket.create_server((LOOPBACK, 0)) as impostor:
        port = impostor.getsockname()[1]
        process = multiprocessing.get_context("fork").Process(target=pretend, args=(impostor,))
        process.start()
        with pytest.raises(WrongSecret, match=f"127.0.0.1:{port} does not know the secret in rendezvous.json"):
            Client(LOOPBACK, port, SECRET, 10)
        process.join(LONG_S)


def pretend(impostor: socket.socket) -> None:
    connection, _ = impostor.accept()
    connection.sendall(bytes(N_B))
    connection.recv(2 * N_B, socket.MSG_WAITALL)
    connection.sendall(secrets.token_bytes(N_B))
    os._exit(0)


def test_it_is_the_store_that_torch_expects(client: Client) -> None:
    ours, theirs = ddp.Store(client), dist.HashStore()
    for store in (ours, theirs):
        store.set_timeout(timedelta(seconds=0.2))
        store.set("a", "1")
        store.set("b", b"\0\xff")
        assert store.get("b") == b"\0\xff"
        assert [store.add("n", 3), store.add("n", -1)] == [3, 2] and store.get("n") == b"2"
        assert store.check(["a", "b"]) and not store.check(["a", "x"])
        assert store.compare_set("c", "", "first") == b"first" and store.compare_set("c", "no", "x") == b"first"
        store.append("a", "2")
        assert store.multi_get(["a", "b"]) == [b"12", b"\0\xff"]
        store.multi_set(["d", "e"], ["4", "5"])
        store.wait(["d", "e"])
        assert store.get("e") == b"5" and store.delete_key("e") and not store.delete_key("e")
        with pytest.raises((TimeoutError, dist.DistError)):
            store.get("never")
        with pytest.raises((TimeoutError, dist.DistError)):
            store.wait(["a", "never"], timedelta(seconds=0.1))
    assert dist.PrefixStore("below", ours).add("n", 1) == 1, "from C++"
    assert ours.get("below/n") == b"1"


def test_rank_0_that_is_gone_is_said(server: Server, client: Client) -> None:
    client._of_thread.connection._socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionError, match=f"the connection to rank 0 at 127.0.0.1:{server.port} is lost"):
        client.ask("count", timeout_s=10)
    assert client.ask("count", timeout_s=10) == [b"1"], "it connects again"


def test_it_listens_where_the_site_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fabric.own_address({"GLOO_SOCKET_IFNAME": "lo"}) == LOOPBACK
    assert fabric.own_address({"NCCL_SOCKET_IFNAME": "=lo"}) == LOOPBACK
    monkeypatch.setattr(socket, "gethostname", lambda: "n1")
    of_name: list[object] = [(0, 0, 0, "", ("10.1.2.3", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: of_name)
    assert fabric.own_address({}) == "10.1.2.3"
    assert fabric.own_address({"NCCL_SOCKET_IFNAME": "^lo,docker"}) == "10.1.2.3", "a list of what not"
    of_name[:] = [(0, 0, 0, "", ("127.0.1.1", 0))]
    assert fabric.own_address({}) == "", "Debian gives a machine's own name to the loopback"
    assert Server("", SECRET).port > 0


def listening(pid: int) -> set[str]:
    """The addresses at which a process listens, as the kernel writes them."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # that of the folder itself
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


def join(rank: int, run: Path) -> None:
    os.umask(0)
    os.environ.pop("GLOO_SOCKET_IFNAME", None)
    ctx = Context(World(rank, 2, rank, 2), RunDir(run))
    try:
        ddp.start(ctx)
    except WrongSecret as error:
        (run / f"refused-{rank}").write_text(str(error))
        os._exit(1)
    value = ddp.total(torch.tensor([rank + 1.0]))
    (run / f"listening-{rank}").write_text(" ".join(listening(os.getpid())))
    ddp.barrier()
    os._exit(0 if value.item() == 3 else 2)


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Callable[..., multiprocessing.Process]]:
    started = []

    def start(rank: int, run: Path = tmp_path) -> multiprocessing.Process:
        process = multiprocessing.get_context("spawn").Process(target=join, args=(rank, run))
        process.start()
        started.append(process)
        return process  # type: ignore[return-value]

    yield start
    for process in started:
        process.kill()


@pytest.mark.ranks
def test_ranks_meet_while_strangers_shout_at_the_port(
    ranks: Callable[..., multiprocessing.Process], tmp_path: Path
) -> None:
    attempt = RunDir(tmp_path).attempt(1)
    first = ranks(0)
    wait_for(attempt.rendezvous.exists, "rank 0 listens")
    address = read_json(attempt.rendezvous) or {}
    assert stat.S_IMODE(attempt.rendezvous.stat().st_mode) == 0o600, "whatever the umask"
    assert address["host"] == LOOPBACK, "all ranks are on one node"
    with ExitStack() as held:
        for junk in JUNK.values():
            shouter = held.enter_context(stranger(address["port"]))
            shouter.sendall(junk(bytes(N_B)))
        for _ in range(MAX_UNPROVEN):
            held.enter_context(stranger(address["port"]))
        second = ranks(1)
        for process in (first, second):
            process.join(LONG_S)
    assert [first.exitcode, second.exitcode] == [0, 0]
    heard = {word for rank in (0, 1) for word in (tmp_path / f"listening-{rank}").read_text().split()}
    assert heard == {"0100007F"}, "gloo's own sockets too are on the loopback"


@pytest.mark.ranks
def test_a_rank_with_the_secret_of_another_attempt_stays_outside(
    ranks: Callable[..., multiprocessing.Process], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    ranks(0)
    ranks(0, tmp_path / "other")
    first, other = (RunDir(path).attempt(1).rendezvous for path in (tmp_path, tmp_path / "other"))
    wait_for(lambda: first.exists() and other.exists(), "both listen")
    secret, others = (json.loads(place.read_text())["secret"] for place in (first, other))
    assert secret != others, "each has its own"
    first.write_text(first.read_text().replace(secret, others))
    second = ranks(1)
    second.join(LONG_S)
    assert second.exitcode == 1
    assert (
        "refuses the secret in rendezvous.json: is it rank 0 of this attempt?" in (tmp_path / "refused-1").read_text()
    )


class Counted(Client):
    """Notes how many keys and values each request has."""

    def ask(self, what: str, *fields: bytes, timeout_s: float) -> list[bytes]:
        self.n_fields = [*getattr(self, "n_fields", []), len(fields)]
        return super().ask(what, *fields, timeout_s=timeout_s)


@pytest.mark.parametrize("n", [2, 12])
def test_however_many_ranks_there_are_each_asks_three_times_to_meet(n: int, tmp_path: Path) -> None:
    """Twelve ranks that ask for twelve keys each are 144 answers; of 512 it is a quarter of a million."""
    secret = rendezvous.new_secret()
    port = Server(LOOPBACK, secret).port
    clients = [Counted(LOOPBACK, port, secret, 60) for _ in range(n)]

    def meet(rank: int) -> None:
        ddp._all_here(Context(World(rank, n), RunDir(tmp_path)), ddp.Store(clients[rank]))

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    asked = [n_fields for client in clients for n_fields in client.n_fields]
    assert len(asked) == 3 * n + 1, "and one says that all are here"
    assert max(asked) == 2
