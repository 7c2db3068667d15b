"""A connection between a supervisor and a fork server on any node: messages in JSON, each signed.

It begins like that of the rendezvous: each side proves that it has the secret of the attempt. Neither side ever waits:
select says when there is something to read, and what is sent is short.
"""

import contextlib
import hmac
import json
import secrets
import socket
import sys
from typing import Any

from hpc.rank.rendezvous import N_B, Signatures

MAX_B = 1 << 12
"""The longest message; a stranger cannot make us keep more."""
IDLE_S = 60
"""How often the kernel shows that an idle connection is alive, before anything on its way forgets it."""
AGAIN_S, N_AGAIN = 10, 6
"""How often it asks again, and how many times, before it gives up a side that does not answer: one whose node was
switched off, or whose cable was cut. A side that is stopped still answers."""
NAMES = (b"server", b"client")


class Lost(ConnectionError):
    """The connection is of no more use, but the other side may live."""


class Closed(EOFError):
    """The other side has closed the connection, or has ended."""


class Link:
    """One end of it. `of_supervisor`: this end has listened, and the other one has connected."""

    def __init__(self, connection: socket.socket, secret: str, *, of_supervisor: bool) -> None:
        self._socket = connection
        self._secret = bytes.fromhex(secret)
        self._of_supervisor = of_supervisor
        self._mine, self._other = NAMES if of_supervisor else NAMES[::-1]
        self._random = secrets.token_bytes(N_B)
        self._signatures: Signatures | None = None
        self._received = b""
        self._ended = False
        self.proven = False
        """Whether the other side has proven that it has the secret."""
        connection.setblocking(False)
        if of_supervisor:
            self._write(self._random)

    @classmethod
    def to(cls, host: str, port: int, secret: str) -> "Link":
        """Begin to connect to a supervisor. Raises OSError; what fails later does so when it is read."""
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        connection.connect_ex(address)
        return cls(connection, secret, of_supervisor=False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def messages(self) -> list[dict[str, Any]]:
        """Read what has come. Raises Closed after the last message, Lost where something is wrong."""
        self._read()
        read = []
        if self.proven or self._is_proven_now():
            while (body := self._next_body()) is not None:
                read.append(json.loads(body))
        if self._ended and not read:
            raise Closed
        return read

    def send(self, **message: object) -> None:
        assert self._signatures is not None, "nothing is sent before the other side is known"
        body = json.dumps(message).encode()
        self._write(len(body).to_bytes(4) + body + self._signatures.of(body, self._mine))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _read(self) -> None:
        try:
            while part := self._socket.recv(MAX_B):
                self._received += part
                if len(self._received) > 16 * MAX_B:
                    raise Lost("too much at once")
            self._ended = True
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost(str(error)) from None

    def _write(self, data: bytes) -> None:
        try:
            n_sent = self._socket.send(data)
        except OSError as error:
            raise Lost(str(error)) from None
        if n_sent < len(data):
            raise Lost("the other side has read nothing for long")

    def _is_proven_now(self) -> bool:
        """Take the next step of the beginning, if what it needs is there."""
        if not self._of_supervisor and self._signatures is None and len(self._received) >= N_B:
            self._signatures = Signatures(self._secret, self._take(N_B), self._random)
            self._write(self._random + self._signatures.client_proof())
        if self._of_supervisor and len(self._received) >= 2 * N_B:
            self._signatures = Signatures(self._secret, self._random, self._take(N_B))
            self._believe(self._signatures.client_proof())
            self._write(self._signatures.server_proof())
        elif self._signatures is not None and len(self._received) >= N_B:
            self._believe(self._signatures.server_proof())
        if self.proven:
            self._notice_silence()
        return self.proven

    def _notice_silence(self) -> None:
        """Have the kernel end a connection whose other side is no longer reached."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            patience_s = IDLE_S + AGAIN_S * N_AGAIN
            for option, value in {
                socket.TCP_KEEPIDLE: IDLE_S,
                socket.TCP_KEEPINTVL: AGAIN_S,
                socket.TCP_KEEPCNT: N_AGAIN,
                socket.TCP_USER_TIMEOUT: 1000 * patience_s,  # the same for what was sent and not acknowledged
            }.items():
                self._socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def _believe(self, proof: bytes) -> None:
        if not hmac.compare_digest(self._take(N_B), proof):
            raise Lost("the other side does not have the secret of this attempt")
        self.proven = True

    def _next_body(self) -> bytes | None:
        """Return the next whole message; None if it is not there yet."""
        assert self._signatures is not None
        if len(self._received) < 4:
            return None
        n_b = int.from_bytes(self._received[:4])
        if n_b > MAX_B:
            raise Lost("a message is too long")
        if len(self._received) < 4 + n_b + N_B:
            return None
        body = self._take(4 + n_b)[4:]
        if not hmac.compare_digest(self._take(N_B), self._signatures.of(body, self._other)):
            raise Lost("a message is not signed as it should be")
        return body

    def _take(self, n_b: int) -> bytes:
        taken, self._received = self._received[:n_b], self._received[n_b:]
        return taken
