"""A supervisor and its fork servers understand each other over any connection, and whoever lacks the secret is no side
of it. Nobody ever waits for the other."""

import select
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hpc.rank import rendezvous
from hpc.rank.link import MAX_B, Closed, Link, Lost
from hpc.rank.rendezvous import LOOPBACK, N_B
from tests.waiting import LONG_S

SECRET = rendezvous.new_secret()
ORDER = {"attempt": 2}


class Wire:
    """Two ends, and a man in the middle: what one end has sent reaches the other when, and as, the test wants it."""

    def __init__(self, secret: str = SECRET) -> None:
        ours, self._to_server = pair()
        theirs, self._to_client = pair()
        self.server, self.client = Link(ours, SECRET, of_supervisor=True), Link(theirs, secret, of_supervisor=False)

    def of_server(self) -> bytes:
        return sent(self._to_server)

    def of_client(self) -> bytes:
        return sent(self._to_client)

    def to_server(self, data: bytes) -> list[dict[str, Any]]:
        self._to_server.sendall(data)
        return self.server.messages()

    def to_client(self, data: bytes) -> list[dict[str, Any]]:
        self._to_client.sendall(data)
        return self.client.messages()

    def prove(self) -> None:
        self.to_client(self.of_server())
        self.to_server(self.of_client())
        self.to_client(self.of_server())
        assert self.server.proven and self.client.proven

    def order(self) -> bytes:
        """An order, as it is on its way to the client."""
        self.server.send(**ORDER)
        return self.of_server()

    def hang_up(self) -> None:
        self._to_client.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a real TCP connection."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each byte is sent by itself
    return one, other


def sent(connection: socket.socket) -> bytes:
    return connection.recv(1 << 20) if select.select([connection], [], [], 0)[0] else b""


@pytest.fixture
def wire() -> Wire:
    wire = Wire()
    wire.prove()
    return wire


def test_messages_that_come_byte_by_byte_are_whole() -> None:
    wire = Wire()
    turns: list[tuple[Callable[[], bytes], Callable[[bytes], list[dict[str, Any]]]]] = [
        (wire.of_server, wire.to_client), (wire.of_client, wire.to_server), (wire.of_server, wire.to_client)
    ]  # fmt: skip
    for sent_by, to in turns:
        assert [message for byte in sent_by() for message in to(bytes([byte]))] == []
    assert wire.server.proven and wire.client.proven
    assert [message for byte in wire.order() for message in wire.to_client(bytes([byte]))] == [ORDER]


def test_messages_that_come_at_once_keep_their_order(wire: Wire) -> None:
    assert wire.to_client(wire.order() + wire.order()[:10]) == [ORDER]
    for number in range(3):
        wire.client.send(code=number)
    assert wire.to_server(wire.of_client()) == [{"code": 0}, {"code": 1}, {"code": 2}]


def test_nobody_waits_for_what_has_not_come(wire: Wire) -> None:
    assert wire.client.messages() == wire.server.messages() == []
    order = wire.order()
    assert wire.to_client(order[:-1]) == [], "nor for the rest of a message"
    assert wire.to_client(order[-1:]) == [ORDER]


def test_who_has_another_secret_is_refused_by_the_supervisor() -> None:
    wire = Wire(rendezvous.new_secret())
    wire.to_client(wire.of_server())
    with pytest.raises(Lost, match="does not have the secret of this attempt"):
        wire.to_server(wire.of_client())
    assert not wire.server.proven and wire.of_server() == b"", "and learns nothing"


def test_a_supervisor_with_another_secret_gives_no_orders() -> None:
    wire = Wire()
    wire.to_client(bytes(N_B))
    with pytest.raises(Lost, match="does not have the secret of this attempt"):
        wire.to_client(bytes(N_B))
    assert not wire.client.proven


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "another order": lambda order: order.replace(b"2", b"3"),
    "another signature": lambda order: order[:-1] + bytes([order[-1] ^ 1]),
    "the same again": lambda order: order + order,
    "too long": lambda order: (MAX_B + 1).to_bytes(4) + order[4:],
    "endless": lambda order: bytes(20 * MAX_B),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_signed_as_it_should_be_is_not_followed(wire: Wire, change: str) -> None:
    with pytest.raises(Lost):
        wire.to_client(CHANGES[change](wire.order()))


def test_an_end_is_heard_after_the_last_message(wire: Wire) -> None:
    order = wire.order()
    wire._to_client.sendall(order)
    wire.hang_up()
    assert wire.client.messages() == [ORDER]
    with pytest.raises(Closed):
        wire.client.messages()


def test_half_a_message_before_the_end_counts_for_nothing(wire: Wire) -> None:
    wire._to_client.sendall(wire.order()[:-1])
    wire.hang_up()
    with pytest.raises(Closed):
        wire.client.messages()


def test_who_sends_to_a_side_that_reads_nothing_does_not_wait(wire: Wire) -> None:
    with pytest.raises(Lost, match="has read nothing for long"):
        send_for_ever(wire.server)


def send_for_ever(link: Link) -> None:
    while True:
        link.send(**ORDER, room="x" * 1000)


def test_where_nobody_listens_it_is_lost_when_it_is_read() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    link = Link.to(LOOPBACK, port, SECRET)
    select.select([link], [], [])
    with pytest.raises(Lost):
        link.messages()


# In a network of its own, whose only cable is the loopback's
CUT = """
import select, socket, subprocess, sys
from hpc.rank import link
from hpc.rank.link import Link, Lost

link.IDLE_S, link.AGAIN_S, link.N_AGAIN = 1, 1, 1
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with socket.create_server(("127.0.0.1", 0)) as listener:
    client = Link.to("127.0.0.1", listener.getsockname()[1], "00" * 32)
    server = Link(listener.accept()[0], "00" * 32, of_supervisor=True)
while not (client.proven and server.proven):
    for side in select.select([client, server], [], [])[0]:
        side.messages()
subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
if sys.argv[1] == "sends":
    server.send(attempt=2)
for side in (server, client):
    select.select([side], [], [])
    try:
        side.messages()
    except Lost as error:
        print(error)
"""


@pytest.mark.parametrize("what", ["sends", "is silent"])
def test_a_cable_that_was_cut_is_noticed_at_both_ends(what: str) -> None:
    own_network = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*own_network, "ip", "link"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network of one's own here (unshare, ip)")
    done = subprocess.run(
        [*own_network, sys.executable, "-c", CUT, what], capture_output=True, text=True, check=True, timeout=LONG_S
    )
    assert len(done.stdout.splitlines()) == 2, done.stdout
