"""The supervisor's end of the connections to its fork servers (hpc/rank/forkserver.py), one for each rank.

It has no thread: the supervisor calls `wait` where it would sleep otherwise.
"""

import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from hpc.rank import rendezvous
from hpc.rank.link import Closed, Link, Lost
from hpc.runs.rundir import AttemptDir
from hpc.site import fabric

MAX_STRANGERS = 64
"""The most connections, beyond those of our ranks, that have proven nothing; another one closes the oldest."""


@dataclass
class Slot:
    """The place of a rank: its fork server, and how the rank of the current attempt has ended there."""

    link: Link | None
    host: str
    attempt: int
    code: int | None = None


class ForkServers:
    """The fork servers of a job, as they become known; `slots` has them by rank.

    Parameters
    ----------
    folder
        The folder of the attempt that starts them, where they find our address.
    n_ranks
        How many there will be.
    all_here
        Whether all of them are on this machine.
    """

    def __init__(self, folder: AttemptDir, n_ranks: int, all_here: bool) -> None:
        self.n_ranks = n_ranks
        self.slots: dict[int, Slot] = {}
        self._links: set[Link] = set()
        self._strangers: dict[Link, None] = {}
        self._secret = rendezvous.new_secret()
        host = rendezvous.LOOPBACK if all_here else fabric.own_address(os.environ)
        self._listener: socket.socket | None = rendezvous.listen(host)
        self._listener.setblocking(False)
        self.address = folder.fork_servers
        """The file from which they know us."""
        rendezvous.Address(host, self._listener.getsockname()[1], self._secret).write(self.address)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    @property
    def complete(self) -> bool:
        """Whether each rank has one, and all can be reached."""
        return len(self.slots) == self.n_ranks and all(slot.link is not None for slot in self.slots.values())

    def code(self, rank: int) -> int | None:
        """Return how the rank has ended; None: it has not, or nobody has told."""
        return self.slots[rank].code if rank in self.slots else None

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until there is news."""
        if self._listener is None:
            time.sleep(seconds)
            return
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listener:
                self._accept(self._listener)
            elif key.fileobj in self._links:  # not closed meanwhile
                self._read(key.data)

    def signal(self, number: signal.Signals) -> None:
        """Have a signal sent to each rank that has not ended."""
        for slot in self.slots.values():
            if slot.code is None:
                self._send(slot, signal=int(number))

    def start(self, attempt: int) -> None:
        """Have the ranks of another attempt forked."""
        for slot in self.slots.values():
            slot.attempt, slot.code = attempt, None
            self._send(slot, attempt=attempt)

    def close(self) -> None:
        """Release the fork servers: they end, and kill ranks that live. What they have told stays known."""
        for link in list(self._links):
            self._drop(link)
        self._selector.close()
        if self._listener is not None:
            self._listener.close()
        self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # Lost is one: it has gone again
            connection, _ = listener.accept()
            if len(self._strangers) >= self.n_ranks + MAX_STRANGERS:
                self._drop(next(iter(self._strangers)))
            link = Link(connection, self._secret, of_supervisor=True)
            self._strangers[link] = None
            self._links.add(link)
            self._selector.register(link, selectors.EVENT_READ, link)

    def _read(self, link: Link) -> None:
        try:
            for message in link.messages():
                self._note(link, message)
        except (Closed, Lost):
            self._drop(link)

    def _note(self, link: Link, message: dict[str, object]) -> None:
        match message:
            case {"rank": int(rank), "host": str(host), "attempt": int(attempt)}:
                self._strangers.pop(link, None)
                self.slots[rank] = Slot(link, host, attempt)
            case {"attempt": int(attempt), "code": int(code)}:
                for slot in self.slots.values():
                    if slot.link is link and slot.attempt == attempt:
                        slot.code = code

    def _send(self, slot: Slot, **message: int) -> None:
        if slot.link is None:
            return
        try:
            slot.link.send(**message)
        except Lost:
            self._drop(slot.link)

    def _drop(self, link: Link) -> None:
        self._links.remove(link)
        self._selector.unregister(link)
        self._strangers.pop(link, None)
        for slot in self.slots.values():
            if slot.link is link:
                slot.link = None
        link.close()
