"""The connection to a login node: one for all commands, no questions, and a sentence for each way in which it fails.

Sites throttle new connections and lock who knocks too often: the first command opens a connection, and those of the
next minutes go through it (ControlMaster, with a socket of our own).
"""

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from hpc.errors import ConfigError, Unreachable
from hpc.media import one_line

SSH_FAILED = 255
"""The exit code of ssh itself; no command of ours ends with it."""
RSYNC_LOST = (10, 12, 30, 35, SSH_FAILED)
"""rsync's exit codes for a connection that broke: socket, protocol stream, two kinds of time-out."""
WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""How long to wait before each further try."""
KEPT_S = 120
"""How long an idle connection is kept for the next command."""
LONGEST_PATH = 60
"""A socket's path ends at 107 characters: ours is the folder, 40 of the hash, and 17 while ssh makes it."""


class Answer:
    """How a command over there ended."""

    def __init__(self, code: int, out: str, error: str) -> None:
        self.code = code
        self.out = out
        self.error = error


class Ssh:
    """Runs commands on a login node.

    Parameters
    ----------
    host
        As ssh takes it.
    tell
        Prints a line for the user: that the connection broke, and is tried again.
    setup
        Lines for the shell there, before rsync is started.
    """

    def __init__(self, host: str, tell: Callable[[str], object], setup: Sequence[str] = ()) -> None:
        self.host = host
        self.tell = tell
        self.setup = setup
        self._options = [*_OPTIONS, f"-oControlPath={_sockets()}/%C"]

    def run(self, *words: str, n_tries: int, patience_s: float) -> Answer:
        """Run a command to its end.

        Parameters
        ----------
        words
            The command. Nothing in it is a secret: others on that machine see it in `ps`.
        n_tries
            How often it is run if the connection breaks. More than once only if it does nothing twice.
        patience_s
            How long it may take.
        """
        return self.insist(lambda: self._once(words, patience_s), n_tries)

    def insist(self, once: Callable[[], Answer], n_tries: int) -> Answer:
        """Do it, and if the connection breaks do it again after a while, and again, and then raise Unreachable."""
        for wait_s in WAITS_S[: n_tries - 1]:
            try:
                return once()
            except Unreachable as lost:
                self.tell(f"{lost}; trying again in {wait_s:g} s")
                time.sleep(wait_s)
        return once()

    def _once(self, words: Sequence[str], patience_s: float) -> Answer:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            # Not pipes: the process that keeps the connection would hold them open, with some versions of ssh
            try:
                code = subprocess.run(
                    self._command(words),
                    stdin=subprocess.DEVNULL, stdout=out, stderr=error, check=False, timeout=patience_s,
                ).returncode  # fmt: skip
            except FileNotFoundError:
                raise _no_program("ssh", "openssh-client") from None
            except subprocess.TimeoutExpired:
                raise Unreachable(f"{self.host} has not answered within {patience_s:.0f} s") from None
            answer = Answer(code, _text(out), _text(error))
        if code == SSH_FAILED:
            raise failure(self.host, answer.error)
        return answer

    def stream(self, words: Sequence[str], show: Callable[[bytes], object]) -> int:
        """Run a command that prints for a long time, and show what it prints. It is ended there when the connection
        breaks, or when this process ends: its stdin is closed then. Raises Unreachable."""
        with tempfile.TemporaryFile() as error:
            try:
                process = subprocess.Popen(
                    self._command(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=error
                )
            except FileNotFoundError:
                raise _no_program("ssh", "openssh-client") from None
            assert process.stdin is not None and process.stdout is not None
            try:
                while block := os.read(process.stdout.fileno(), 1 << 16):
                    show(block)
            finally:
                with suppress(BrokenPipeError):
                    process.stdin.close()
                process.stdout.close()
                try:
                    code = process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    code = process.wait()
            if code == SSH_FAILED or code < 0:
                raise failure(self.host, _text(error))
            if code:
                self.tell(_text(error).rstrip())
            return code

    def rsync(self, *words: str, text: str = "") -> Answer:
        """Run rsync with these words, in which REMOTE:path is a path over there; it takes up what an earlier one has
        begun. `text` goes to its stdin."""
        command = ["rsync", "-e", shlex.join(["ssh", *self._options]), "--timeout=60"]
        command += [f"--rsync-path={'; '.join([*self.setup, 'rsync'])}"] if self.setup else []
        command += [
            f"{self.host}:{word.removeprefix('REMOTE:')}" if word.startswith("REMOTE:") else word for word in words
        ]

        def once() -> Answer:
            try:
                done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
            except FileNotFoundError:
                raise _no_program("rsync", "rsync") from None
            answer = Answer(done.returncode, _decoded(done.stdout), _decoded(done.stderr))
            if answer.code in RSYNC_LOST and not _is_there_no_rsync(answer.error):
                raise failure(self.host, answer.error)
            return answer

        answer = self.insist(once, len(WAITS_S) + 1)
        if _is_there_no_rsync(answer.error):
            raise ConfigError(
                f"{self.host} has no rsync on the PATH that a command of ssh gets: if a login shell has one, say so in "
                "`login.setup` of the profile, as [. /etc/profile, module load rsync]"
            )
        return answer

    def _command(self, words: Sequence[str]) -> list[str]:
        return ["ssh", *self._options, "-T", self.host, shlex.join(words)]


_OPTIONS = (
    "-oBatchMode=yes",  # a question would wait for ever
    "-oLogLevel=ERROR",  # no greetings among the errors
    "-oConnectTimeout=15",
    "-oServerAliveInterval=10",
    "-oServerAliveCountMax=3",  # a connection that has died is noticed after half a minute
    "-oControlMaster=auto",
    "-oForwardAgent=no",
    "-oForwardX11=no",
    "-oClearAllForwardings=yes",
    "-oRemoteCommand=none",  # what ~/.ssh/config may want for a shell
    f"-oControlPersist={KEPT_S}",
)


def _sockets() -> Path:
    """Return the folder of the sockets of connections that are kept; only this user can look into it."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    base = base if os.path.isdir(base) and len(base) < LONGEST_PATH - 20 else "/tmp"
    folder = Path(base, f"hpc-ssh-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    owned = folder.lstat()
    if folder.is_symlink() or owned.st_uid != os.getuid() or owned.st_mode & 0o077:
        raise ConfigError(f"{folder} is not a folder that only you can enter: remove it, it is for connections of ssh")
    return folder


def failure(host: str, error: str) -> Exception:
    """Return what to raise for ssh's words: a ConfigError if only the user can mend it, else Unreachable."""
    login = host.rpartition("@")[2]
    if "HOST IDENTIFICATION HAS CHANGED" in error:
        return ConfigError(
            f"{login} shows another host key than the one that ssh knows: somebody may be in between. Ask the site "
            f"whether the key has changed, and only then forget the old one: ssh-keygen -R {login}"
        )
    if "Host key verification failed" in error or "host key is known" in error:
        return ConfigError(
            f"ssh does not know the host key of {login}: run `ssh {host}` once by hand, and compare the fingerprint "
            "that it shows with the one that the site publishes"
        )
    if "Permission denied" in error or "Too many authentication failures" in error:
        return ConfigError(
            f"{login} refuses the login ({_last_line(error)}): `ssh -o BatchMode=yes {host} true` must work without a "
            "question. Load your key with ssh-add, and name your user there in ~/.ssh/config or as `host: me@…` in "
            "~/.config/hpc/logins.yaml"
        )
    if "Bad configuration option" in error or "Bad owner or permissions" in error:
        return ConfigError(f"ssh cannot read its configuration: {_last_line(error)}")
    return Unreachable(f"no connection to {login} ({_last_line(error) or 'it was closed'})")


def _last_line(error: str) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    of_ssh = [line for line in lines if not line.startswith(("rsync", "mux_", "Control socket"))]
    return one_line((of_ssh or lines or [""])[-1])


def no_room(error: str) -> bool:
    """Whether a command over there found its disk full, or its owner's quota."""
    return re.search(r"Disk quota exceeded|No space left on device|disk quota", error) is not None


def _is_there_no_rsync(error: str) -> bool:
    return re.search(r"rsync: (command )?not found|rsync: No such file", error) is not None


def _no_program(name: str, package: str) -> ConfigError:
    return ConfigError(f"there is no {name} on this machine, which a site with a `login:` needs: install {package}")


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return _decoded(file.read())


def _decoded(text: bytes) -> str:
    return text.decode(errors="replace")
