"""A process that has imported everything forks the rank of each attempt, and is in no way of what the rank does.

The test is the supervisor here: it has the other end of the connection.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from hpc.rank.context import World
from hpc.rank.forkserver import ForkServer
from hpc.rank.rendezvous import LOOPBACK, N_B
from hpc.rank.signals import STACKS, Stop
from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps, make_folder, read_json
from hpc.runs.unpack import ARCHIVE
from hpc.supervise.forkservers import MAX_STRANGERS, ForkServers
from tests import archives
from tests.conftest import Launch
from tests.waiting import LONG_S, open_gate, wait_for

pytestmark = pytest.mark.ranks

STAGES = """
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from counting import stages
from counting.stages import Count
from hpc.rank.context import Context

with open(os.environ["IMPORTS"], "a") as file:
    print(os.getpid(), file=file)
if "STOP_AT_ONCE" in os.environ:
    os.kill(os.getpid(), signal.SIGUSR2)
if "WITH_THREAD" in os.environ:
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


def count(cfg: Count, ctx: Context) -> dict[str, object]:
    child = subprocess.Popen(["sleep", "3600"])
    (ctx.run.attempt(ctx.attempt).path / "child").write_text(str(child.pid))
    while "STOP_AT_ONCE" in os.environ and not (ctx.run.path / "known").exists():
        time.sleep(0.01)
    return stages.count(cfg, ctx)
"""
"""Those of a package of a user's own. `count` leaves a process behind if it is killed, as one that loads data would."""


class Place:
    """The place of a rank, and what its supervisor knows of it. The rank is held behind step 3."""

    def __init__(self, launch: Launch) -> None:
        launch("count", "n=5", "hold_at=3", "--on", "local", "--prepare", "--ranks", "1")
        self.run = RunDir(launch.runs()[0])
        self.imports = launch.folder / "imports"
        (launch.folder / "lib").mkdir()
        (launch.folder / "lib/own_stages.py").write_text(STAGES)
        plan = json.loads(self.run.plan.read_text()) | {"entry": "own_stages:count"}
        self.run.plan.write_text(json.dumps(plan))
        make_folder(self.run.attempt(1).path)
        self.servers = ForkServers(self.run.attempt(1), 1, all_here=True)
        self.environ = launch.environ | {"PYTHONPATH": str(launch.folder / "lib"), "IMPORTS": str(self.imports)}
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self, **environ: str) -> int:
        """Start the process for the rank of the first attempt, and wait until that is held; return its id."""
        self.start(**environ)
        return self.held(1)

    def start(self, **environ: str) -> None:
        command = [
            *(sys.executable, "-PB", str(self.run.code / ARCHIVE), "-m", "hpc.worker", str(self.run.path)),
            *("--attempt", "1", "--fork-server"),
        ]
        with open(self.run.attempt(1).log(0), "w") as log:
            self.process = subprocess.Popen(command, env=self.environ | environ, stdout=log, stderr=log)

    def held(self, attempt: int) -> int:
        """Wait until the rank of this attempt is held, or about to be; return its process."""
        self.wait_for(lambda: "starts at" in self.run.attempt(attempt).log(0).read_text(), "its stage has begun")
        self.wait_for(lambda: self.heartbeat.get("attempt") == attempt, "its first heartbeat")
        self.wait_for(lambda: committed_steps(self.run.checkpoints) == [1, 2, 3], "step 3 is saved")
        return int(self.heartbeat["pid"])

    def next(self, attempt: int) -> int:
        """Have the rank of the next attempt forked, and wait until it is held."""
        make_folder(self.run.attempt(attempt).path)
        self.run.attempt(attempt).log(0).touch()
        self.servers.start(attempt)
        return self.held(attempt)

    @property
    def heartbeat(self) -> dict[str, Any]:
        return dict(records.heartbeat(self.run, 0))

    def known(self) -> None:
        self.wait_for(lambda: self.servers.complete, "the supervisor knows the fork server")

    def wait_for(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait, and do what a supervisor does meanwhile; the connection is followed only once it is there."""

        def is_so() -> object:
            if self.follows:
                self.servers.wait(0)
            return condition()

        wait_for(is_so, what, self.logs)

    follows = True
    """Whether this supervisor reads what comes; False: it is stopped."""

    def code(self) -> int:
        """Wait until the rank has ended, and return how, as the fork server reports it."""
        self.wait_for(lambda: self.servers.code(0) is not None, "how the rank has ended")
        code = self.servers.code(0)
        assert code is not None
        return code

    def end(self) -> int:
        """Wait for the process that stands for the rank; return how it has ended."""
        assert self.process is not None
        return self.process.wait(LONG_S)

    def logs(self) -> str:
        return "\n".join(log.read_text() for log in self.run.jobs.glob("*/*.log"))


@pytest.fixture
def place(launch: Launch) -> Iterator[Place]:
    place = Place(launch)
    yield place
    place.servers.close()
    if place.process is not None:
        place.process.kill()
        place.process.wait()
    for child in place.run.jobs.glob("*/child"):  # of a rank that had no fork server
        with suppress(ProcessLookupError):
            os.kill(int(child.read_text()), signal.SIGKILL)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def child_of(place: Place, attempt: int) -> int:
    return int((place.run.attempt(attempt).path / "child").read_text())


def test_three_attempts_are_forked_from_one_process_that_imports_once(place: Place) -> None:
    pids = [place.begin()]
    place.known()
    for attempt in (2, 3):
        os.kill(pids[-1], signal.SIGKILL)
        assert place.code() == -signal.SIGKILL
        pids.append(place.next(attempt))
        assert parent(pids[-1]) == place.process.pid  # type: ignore[union-attr]
    assert len(set(pids)) == 3
    assert place.imports.read_text().split() == [str(place.process.pid)]  # type: ignore[union-attr]
    open_gate(place.run)
    assert place.code() == 0
    assert (place.run.out / "total.txt").read_text() == "15"
    log = "rank 0 of 1 starts at {}\n"
    assert [place.run.attempt(n).log(0).read_text() for n in (1, 2, 3)] == [log.format(step) for step in (0, 3, 3)]
    place.servers.close()
    assert place.end() == 0


def test_what_a_rank_leaves_behind_is_gone_before_the_next_one(place: Place) -> None:
    rank = place.begin()
    place.known()
    child = child_of(place, 1)
    assert lives(child)
    os.kill(rank, signal.SIGKILL)
    place.code()
    assert not lives(child)


def test_a_forked_rank_runs_the_snapshot_or_nothing(place: Place) -> None:
    rank = place.begin()
    place.known()
    os.kill(rank, signal.SIGKILL)
    place.code()
    archives.edit(place.run.code / ARCHIVE, "counting/stages.py", lambda content: content + b"# edited\n")
    make_folder(place.run.attempt(2).path)
    place.servers.start(2)
    assert place.code() == 93
    error = read_json(place.run.attempt(2).error(0)) or {}
    assert "counting/stages.py in " in error["error"] and "was changed after submission" in error["error"]


def test_a_wish_to_stop_is_for_one_attempt(place: Place) -> None:
    place.begin()
    place.known()
    for attempt in (2, 3):
        place.servers.signal(signal.SIGUSR2)
        assert place.code() == 0
        assert place.run.attempt(attempt - 1).stopped(0).exists()
        place.next(attempt)


def test_nor_does_one_that_came_before_the_first_fork_stop_the_second_attempt(place: Place) -> None:
    place.start(STOP_AT_ONCE="")
    place.known()
    (place.run.path / "known").touch()
    assert place.code() == 0 and place.run.attempt(1).stopped(0).exists()
    place.next(2)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_to_the_process_reaches_its_rank(place: Place, number: signal.Signals) -> None:
    """As srun sends it, and Slurm."""
    place.begin()
    place.known()
    os.kill(place.process.pid, number)  # type: ignore[union-attr]
    assert place.code() == 0 and place.run.attempt(1).stopped(0).exists()
    rank = place.next(2)
    os.kill(place.process.pid, number)  # type: ignore[union-attr]
    assert place.code() == 0 and place.run.attempt(2).stopped(0).exists()
    assert not lives(rank)


def test_a_signal_that_comes_as_its_rank_ends_is_nothing(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    server = ForkServer(RunDir(tmp_path).attempt(1), 1, World(), "", Stop())
    server.child = ended.pid
    server._pass_on(signal.SIGUSR2, None)


def test_a_forked_rank_that_hangs_writes_its_stacks(place: Place) -> None:
    rank = place.begin()
    place.known()
    os.kill(rank, signal.SIGKILL)
    place.code()
    place.next(2)
    stacks = place.run.attempt(2).stacks(0)
    assert stacks.read_text() == ""
    place.servers.signal(STACKS)
    place.wait_for(lambda: "in count" in stacks.read_text(), "the stacks are written")
    assert place.run.attempt(1).stacks(0).read_text() == ""
    assert place.servers.code(0) is None, "it goes on"


def test_a_process_whose_imports_start_a_thread_is_the_rank_itself(place: Place) -> None:
    assert place.begin(WITH_THREAD="") == place.process.pid  # type: ignore[union-attr]
    assert not place.servers.slots
    open_gate(place.run)
    assert place.end() == 0 and (place.run.out / "total.txt").read_text() == "15"


def test_strangers_hinder_nobody(place: Place) -> None:
    rank = place.begin()
    address = read_json(place.run.attempt(1).fork_servers) or {}
    with ExitStack() as strangers:

        def stranger(words: bytes = b"") -> socket.socket:
            connection = strangers.enter_context(socket.create_connection((LOOPBACK, address["port"])))
            connection.sendall(words)
            return connection

        first = stranger()
        for words in (bytes(2 * N_B), bytes(1 << 16), b"GET / HTTP/1.1\r\n\r\n", bytes(2 * N_B - 1)):
            stranger(words)
        for _ in range(2 * MAX_STRANGERS):
            stranger()
        place.known()
        for _ in range(MAX_STRANGERS):
            stranger().close()
        place.wait_for(lambda: is_closed(first), "the oldest stranger is sent away")
        os.kill(rank, signal.SIGKILL)
        assert place.code() == -signal.SIGKILL
        place.next(2)
        open_gate(place.run)
        assert place.code() == 0


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1 << 16) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_supervisor_that_stands_still_finds_all_as_it_was(place: Place) -> None:
    rank = place.begin()
    place.known()
    place.follows = False
    os.kill(rank, signal.SIGKILL)
    place.wait_for(lambda: not Path(f"/proc/{rank}").exists(), "its fork server has seen the end of the rank")
    place.follows = True
    assert place.code() == -signal.SIGKILL
    place.next(2)


def test_a_rank_ends_with_the_supervisor_that_knew_it_and_not_as_if_it_had_come_to_its_end(place: Place) -> None:
    rank = place.begin()
    place.known()
    child = child_of(place, 1)
    place.servers.close()
    assert place.end() == -signal.SIGKILL
    assert not lives(rank) and not lives(child)


@pytest.mark.parametrize("is_met", [False, True])
def test_a_supervisor_that_has_not_heard_of_a_rank_cannot_end_it_by_hanging_up(place: Place, is_met: bool) -> None:
    """As it does when all that it knows have ended: this one may have work left."""
    place.follows = False
    rank = place.begin()
    if is_met:
        place.servers.wait(LONG_S)  # it accepts the connection, and no more
    assert not place.servers.slots
    place.servers.close()
    place.wait_for(lambda: not n_connections(place), "the fork server has heard it")
    assert lives(rank)
    open_gate(place.run)
    assert place.end() == 0 and (place.run.out / "total.txt").read_text() == "15"


def n_connections(place: Place) -> int:
    """How many the fork server still has."""
    assert place.process is not None
    links = []
    for fd in Path(f"/proc/{place.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(fd))
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_without_a_supervisor_it_ends_as_its_rank_ends(place: Place, number: signal.Signals) -> None:
    place.servers.close()
    os.kill(place.begin(), number)
    assert place.end() == -number


def test_a_process_between_two_attempts_ends_at_once_with_the_job(place: Place) -> None:
    rank = place.begin()
    place.known()
    os.kill(rank, signal.SIGKILL)
    place.code()
    os.kill(place.process.pid, signal.SIGTERM)  # type: ignore[union-attr]
    assert place.end() == 0
    place.wait_for(lambda: not place.servers.complete, "the supervisor has heard of it")


def test_a_killed_process_takes_its_rank_along(place: Place) -> None:
    rank = place.begin()
    place.known()
    os.kill(place.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    place.wait_for(lambda: not lives(rank) and not place.servers.complete)
    assert place.servers.code(0) is None, "how it has ended is for srun to say"
