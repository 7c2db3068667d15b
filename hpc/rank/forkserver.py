"""Forks a rank anew for each attempt from a process that has imported everything: a rank that died is back at once.

One fork server stands where one rank would: srun has started it as that rank's task, on its node, with its CPUs, its
GPU and its environment, and what it forks inherits all of that. It has no threads, touches no GPU, and does nothing but
wait: for its rank to end, and for the supervisor, which says when to signal it and when to fork the next. Without a
supervisor that it can reach, it ends as its rank has ended, as if it had been the rank itself.
"""

import faulthandler
import gc
import os
import resource
import selectors
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from hpc.rank import rendezvous
from hpc.rank.context import World
from hpc.rank.link import Closed, Link, Lost
from hpc.rank.parent_death import adopt_orphans, die_with_parent, end_children
from hpc.rank.signals import STACKS, Stop
from hpc.runs.rundir import AttemptDir, Gone, RunDir, write_json
from hpc.site import memory

PASSED_ON = (signal.SIGUSR2, signal.SIGTERM, STACKS)
"""Signals that are meant for the rank."""
THREADS_END_S = 0.2
"""How long a BLAS may take to end its threads before a fork."""
ORPHANS_END_S = 1.0


def can_fork() -> bool:
    """Whether a fork of this process could work as a rank: it has no other threads, and no GPU has been touched."""
    if sys.platform != "linux":
        return False
    try:
        trial = os.fork()  # OpenBLAS ends its threads before a fork, and starts them again when they are needed
    except OSError:
        return False
    if trial == 0:
        torch = sys.modules.get("torch")
        os._exit(int(torch is not None and torch.cuda._is_in_bad_fork()))
    _, status = os.waitpid(trial, 0)
    return status == 0 and _is_alone()


def _is_alone() -> bool:
    deadline = time.monotonic() + THREADS_END_S
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class ForkServer:
    """Call `serve` once everything is imported.

    Parameters
    ----------
    folder
        The folder of the first attempt, in which the supervisor has left its address.
    attempt
        The number of that attempt.
    world
        The place of the rank.
    host
        The node's name in the scheduler.
    stop
        Whether the rank was asked to stop.
    """

    def __init__(self, folder: AttemptDir, attempt: int, world: World, host: str, stop: Stop) -> None:
        self.folder = folder
        self.attempt = attempt
        self.world = world
        self.host = host
        self.stop = stop
        self.child = 0
        self.code = 0
        """How the last rank has ended."""
        self._killed_by_us = False
        self._n_killed = 0
        """How many processes the kernel had killed for lack of memory before the current rank."""
        self.link: Link | None = None
        self._known = False
        """Whether the supervisor knows us."""
        self._forks = 0

    def serve(self) -> int:
        """Fork the ranks of this place; return in each of them, with the number of its attempt. The server itself ends
        its process."""
        if not can_fork() or self._fork():
            return self.attempt
        self._selector = selectors.DefaultSelector()
        self._wakes = os.pipe()
        for end in self._wakes:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wakes[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        os.write(self._wakes[1], b"-")  # the rank may have ended already
        self._selector.register(self._wakes[0], selectors.EVENT_READ)
        adopt_orphans()
        self._connect()
        while True:
            self._selector.select()
            self._drain()
            self._reap()
            if self.link is not None and self._follow_orders(self.link):
                return self.attempt

    def _fork(self) -> bool:
        """Fork the rank of the attempt; True in the rank."""
        server = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        if not self._forks:
            gc.freeze()  # the collector writes to all that it looks at, and what is written to is no longer shared
        self._forks += 1
        self._killed_by_us, self._n_killed = False, memory.of_this_process().n_killed
        try:
            self.child = os.fork()
        except OSError:
            if self._forks == 1:  # then this process is the rank
                signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
                return True
            self._end_like(1)
        if self.child == 0:
            die_with_parent(server)
            self._leave_to_rank()
        else:
            faulthandler.unregister(STACKS)
            for number in PASSED_ON:
                signal.signal(number, self._pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        return self.child == 0

    def _leave_to_rank(self) -> None:
        """Forget in the rank what belongs to the server."""
        if self._forks == 1:
            return
        signal.set_wakeup_fd(-1)
        for end in self._wakes:
            os.close(end)
        self._selector.close()
        if self.link is not None:
            self.link.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(STACKS, signal.SIG_IGN)
        self.stop.asked = False
        self.stop.listen()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self.child:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.child, number)
        elif number == signal.SIGTERM:  # the job ends
            os._exit(0)

    def _connect(self) -> None:
        """Begin to connect to the supervisor, if there is one."""
        try:
            address = rendezvous.Address.read(self.folder.fork_servers)
            if address is None:
                return
            self.link = Link.to(*address)
        except OSError:
            return
        self._selector.register(self.link, selectors.EVENT_READ)

    def _drain(self) -> None:
        try:
            os.read(self._wakes[0], 512)
        except BlockingIOError:
            return

    def _reap(self) -> None:
        """Look which children have ended: the rank, and then those that it has left behind."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.child, self.code = 0, os.waitstatus_to_exitcode(status)
                self._note_lack_of_memory(usage.ru_maxrss * 1024)
                self._end_orphans()
                if not self._known:
                    self._end_like(self.code)
                self._tell(attempt=self.attempt, code=self.code)

    def _note_lack_of_memory(self, peak_b: int) -> None:
        """Write down if the kernel has killed the rank, or a process of it, for lack of memory: it could not itself.
        `peak_b`: the most that it had."""
        if self.code == 0 or self._killed_by_us or (now := memory.of_this_process()).n_killed <= self._n_killed:
            return
        run = RunDir(self.folder.path.parent.parent)
        note = {"rank": self.world.rank, "host": self.host, "code": self.code, "rank_b": peak_b}
        with suppress(OSError, Gone):
            write_json(run.attempt(self.attempt).memory(self.world.rank), note | now.to_json(), durable=False)

    def _end_orphans(self) -> None:
        """End what the rank has left behind, before another takes its place."""
        deadline = time.monotonic() + ORPHANS_END_S
        while end_children() and time.monotonic() < deadline:
            time.sleep(0.002)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return

    def _follow_orders(self, link: Link) -> bool:
        """Do what the supervisor says; True in a rank that it had forked."""
        try:
            orders = link.messages()
        except (Closed, Lost) as end:
            if self._known and isinstance(end, Closed):
                self._end()
            self._lose()
            return False
        if link.proven and not self._known:
            self._known = True
            self._tell(rank=self.world.rank, host=self.host, pid=os.getpid(), attempt=self.attempt)
        for order in orders:
            if "signal" in order and self.child:
                self._killed_by_us = self._killed_by_us or order["signal"] == signal.SIGKILL
                os.kill(self.child, order["signal"])
            if "attempt" in order and not self.child:
                self.attempt = order["attempt"]
                if self._fork():
                    return True
        return False

    def _tell(self, **message: object) -> None:
        if self.link is None:
            self._end_like(self.code)
        try:
            self.link.send(**message)
        except Lost:
            self._lose()

    def _lose(self) -> None:
        """Go on without a supervisor: as the rank itself, if there is one."""
        if not self.child:
            self._end_like(self.code)
        if self.link is not None:
            self._selector.unregister(self.link)
            self.link.close()
        self.link, self._known = None, False

    def _end(self) -> NoReturn:
        """End with the supervisor, which has nothing more for us or was killed: its ranks must not outlive it."""
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            self._end_orphans()
            self._end_like(-signal.SIGKILL)  # what was broken off must not look as if it had come to its end
        os._exit(0)

    def _end_like(self, code: int) -> NoReturn:
        """End as the rank has ended, so that srun says of this task what it would say of the rank."""
        if code < 0:
            if -code != signal.SIGKILL:
                signal.signal(-code, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the rank has left its own
            os.kill(os.getpid(), -code)
            code = 128 - code  # nothing kills the first process of a container: it ends as a shell would
        os._exit(code)
