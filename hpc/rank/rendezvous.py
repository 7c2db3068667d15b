"""Where the ranks of an attempt meet: keys and values that rank 0 keeps, for those alone who have the attempt's secret.

A connection begins with a proof from each side (HMAC-SHA256 over a random number of each), and every message after that
is signed: whoever lacks the secret can neither read nor write a key, and what he sends only closes his own connection.
"""

import asyncio
import contextlib
import hmac
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple

from hpc.runs.rundir import read_json, write_json

N_B = 32
"""The length of a secret, of a random number and of a signature."""
PROOF_S = 10.0
"""How long a new connection may take to prove that it has the secret."""
MAX_UNPROVEN = 64
"""The most connections that have proven nothing yet; another one closes the oldest."""
MAX_B = 1 << 26
LATE_S = 30.0
"""How much later than its timeout an answer may come."""
LOOPBACK = "127.0.0.1"
REFUSED = bytes(N_B)


class WrongSecret(ConnectionError):
    """The other side has another secret."""


def new_secret() -> str:
    return secrets.token_hex(N_B)


class Address(NamedTuple):
    """Where somebody listens, and the secret that lets in."""

    host: str
    port: int
    secret: str

    def write(self, path: Path) -> None:
        """Leave it in a file that nobody but the user may read; without a host, by the name of this one."""
        write_json(path, self._replace(host=self.host or socket.gethostname())._asdict(), private=True)

    @classmethod
    def read(cls, path: Path) -> "Address | None":
        """Return what is written there, as it is reached from this machine; None if nothing is."""
        if (record := read_json(path)) is None:
            return None
        address = cls(record["host"], record["port"], record["secret"])
        return address._replace(host=LOOPBACK) if address.host == socket.gethostname() else address


def _pack(*fields: bytes) -> bytes:
    return b"".join(part for field in fields for part in (len(field).to_bytes(4), field))


def _unpack(body: bytes) -> list[bytes]:
    fields, at = [], 0
    while at < len(body):
        end = at + 4 + int.from_bytes(body[at : at + 4])
        fields.append(body[at + 4 : end])
        at = end
    return fields


class Signatures:
    """Signs the messages of one connection: each has a number and a direction, so none can be repeated or returned."""

    def __init__(self, secret: bytes, of_server: bytes, of_client: bytes) -> None:
        self._secret, self._both = secret, of_server + of_client
        self._session = self._proof(b"session")
        self._counts = {b"client": 0, b"server": 0}

    def _proof(self, who: bytes) -> bytes:
        return hmac.digest(self._secret, who + self._both, "sha256")

    def client_proof(self) -> bytes:
        return self._proof(b"client")

    def server_proof(self) -> bytes:
        return self._proof(b"server")

    def of(self, body: bytes, sender: bytes) -> bytes:
        """Return the signature of the next message of that side."""
        self._counts[sender] += 1
        return hmac.digest(self._session, sender + self._counts[sender].to_bytes(8) + body, "sha256")


class Server:
    """Keeps the values, in a thread of rank 0, until its process ends.

    Parameters
    ----------
    host
        The address to listen at; empty for all.
    secret
        What a client must have.
    """

    def __init__(self, host: str, secret: str) -> None:
        self._secret = bytes.fromhex(secret)
        self._values: dict[bytes, bytes] = {}
        self._arrivals: dict[bytes, asyncio.Event] = {}
        self._unproven: dict[asyncio.StreamWriter, None] = {}
        self._listener = listen(host)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=asyncio.run, args=[self._serve()], name="rendezvous", daemon=True).start()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, sock=self._listener, backlog=1024)
        await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if signatures := await self._proven(reader, writer):
                await self._answer(reader, writer, signatures)
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            pass  # it has gone, or says nothing: its connection is closed
        finally:
            self._unproven.pop(writer, None)
            writer.transport.abort()

    async def _proven(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Signatures | None:
        if len(self._unproven) >= MAX_UNPROVEN:
            oldest = next(iter(self._unproven))
            del self._unproven[oldest]
            oldest.transport.abort()
        self._unproven[writer] = None
        mine = secrets.token_bytes(N_B)
        writer.write(mine)
        async with asyncio.timeout(PROOF_S):
            theirs, proof = await reader.readexactly(N_B), await reader.readexactly(N_B)
        signatures = Signatures(self._secret, mine, theirs)
        right = hmac.compare_digest(proof, signatures.client_proof())
        writer.write(signatures.server_proof() if right else REFUSED)
        await writer.drain()
        self._unproven.pop(writer, None)
        return signatures if right else None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, signatures: Signatures) -> None:
        """Carry out the requests of a connection, one after the other, until one is not signed as it should be."""
        while True:
            n_b = int.from_bytes(await reader.readexactly(4))
            if n_b > MAX_B:
                return
            body, signature = await reader.readexactly(n_b), await reader.readexactly(N_B)
            if not hmac.compare_digest(signature, signatures.of(body, b"client")):
                return
            what, timeout_s, *fields = _unpack(body)
            try:
                async with asyncio.timeout(float(timeout_s)):
                    answer = _pack(b"done", *await self._act(what, fields))
            except TimeoutError:
                answer = _pack(b"late")
            writer.write(len(answer).to_bytes(4) + answer + signatures.of(answer, b"server"))
            await writer.drain()

    async def _act(self, what: bytes, fields: list[bytes]) -> list[bytes]:
        values = self._values
        match what, fields:
            case b"set", pairs:
                for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                    self._put(key, value)
                return []
            case b"get", keys:
                await self._until(keys)
                return [values[key] for key in keys]
            case b"wait", keys:
                await self._until(keys)
                return []
            case b"check", keys:
                return [b"yes" if all(key in values for key in keys) else b"no"]
            case b"add", [key, number]:
                self._put(key, str(int(values.get(key, b"0")) + int(number)).encode())
                return [values[key]]
            case b"append", [key, value]:
                self._put(key, values.get(key, b"") + value)
                return []
            case b"swap", [key, expected, desired]:
                if values.get(key, b"") == expected:
                    self._put(key, desired)
                return [values.get(key, expected)]
            case b"delete", [key]:
                return [b"no" if values.pop(key, None) is None else b"yes"]
            case b"count", []:
                return [str(len(values)).encode()]
        raise AssertionError(f"the ranks have no request {what!r} with {len(fields)} fields")

    def _put(self, key: bytes, value: bytes) -> None:
        self._values[key] = value
        if arrival := self._arrivals.pop(key, None):
            arrival.set()

    async def _until(self, keys: list[bytes]) -> None:
        """Wait until all keys are there."""
        for key in keys:
            while key not in self._values:
                await self._arrivals.setdefault(key, asyncio.Event()).wait()


def listen(host: str) -> socket.socket:
    """Listen at a free port of this address; of all addresses, if it is empty."""
    if host or not socket.has_dualstack_ipv6():
        return socket.create_server((host, 0), backlog=1024)
    return socket.create_server((host, 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)


class Client:
    """Asks the server; each thread has a connection of its own, as one may wait for a key while another asks.

    Parameters
    ----------
    host, port
        Where the server listens.
    secret
        The secret of this attempt.
    patience_s
        For how long to try to connect.
    """

    def __init__(self, host: str, port: int, secret: str, patience_s: float) -> None:
        self._at, self._secret, self._patience_s = (host, port), bytes.fromhex(secret), patience_s
        self._of_thread = threading.local()
        self._connection()

    def ask(self, what: str, *fields: bytes, timeout_s: float) -> list[bytes]:
        """Send a request; return the fields of its answer. Raises TimeoutError, or ConnectionError."""
        connection = self._connection()
        try:
            answer, *values = connection.ask(_pack(what.encode(), str(timeout_s).encode(), *fields), timeout_s)
        except OSError as error:
            connection.close()
            del self._of_thread.connection
            lost = f"the connection to rank 0 at {self._at[0]}:{self._at[1]} is lost: {error or 'no answer'}"
            raise ConnectionError(lost) from None
        if answer == b"late":
            names = ", ".join(field.decode(errors="replace") for field in fields[:4])
            raise TimeoutError(f"{what} {names}: not there within {timeout_s:g} s")
        return values

    def _connection(self) -> "_Connection":
        connection: _Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = self._connect()
        return connection

    def _connect(self) -> "_Connection":
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return _Connection(self._at, self._secret)
            except WrongSecret:
                raise
            except OSError as error:
                if time.monotonic() > deadline:
                    reason = error.strerror or error
                    raise ConnectionError(f"no connection to rank 0 at {self._at[0]}:{self._at[1]}: {reason}") from None
            time.sleep(0.1)


class _Connection:
    def __init__(self, at: tuple[str, int], secret: bytes) -> None:
        self._socket = socket.create_connection(at, timeout=PROOF_S)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            mine = secrets.token_bytes(N_B)
            self._signatures = Signatures(secret, self._read(N_B), mine)
            self._socket.sendall(mine + self._signatures.client_proof())
            proof = self._read(N_B)
        except BaseException:
            self.close()
            raise
        if not hmac.compare_digest(proof, self._signatures.server_proof()):
            self.close()
            whose = "refuses" if proof == REFUSED else "does not know"
            raise WrongSecret(
                f"the process at {at[0]}:{at[1]} {whose} the secret in rendezvous.json: is it rank 0 of this attempt?"
            )

    def ask(self, body: bytes, timeout_s: float) -> list[bytes]:
        self._socket.settimeout(timeout_s + LATE_S)
        self._socket.sendall(len(body).to_bytes(4) + body + self._signatures.of(body, b"client"))
        answer = self._read(int.from_bytes(self._read(4)))
        if not hmac.compare_digest(self._read(N_B), self._signatures.of(answer, b"server")):
            raise ConnectionError("an answer that rank 0 has not signed")
        return _unpack(answer)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _read(self, n_b: int) -> bytes:
        parts = bytearray()
        while len(parts) < n_b:
            part = self._socket.recv(n_b - len(parts))
            if not part:
                raise ConnectionError("it was closed at the other end")
            parts += part
        return bytes(parts)
