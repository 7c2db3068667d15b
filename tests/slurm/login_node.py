"""A login node for tests: a real sshd on a loopback port, with keys and configuration in a folder of its own, a second
user, and between it and the laptop a cable that can be cut.

The laptop is a folder with a HOME of its own; an `ssh` that comes first on its PATH reads the configuration in it.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.waiting import wait_for

SSHD, SSH = "/usr/sbin/sshd", "/usr/bin/ssh"
NAME = "cluster"
"""What ssh calls it here."""


def missing() -> str:
    """What this machine lacks for a login node, in words, or ""."""
    programs = [name for name in (SSHD, SSH, "rsync", "useradd") if not shutil.which(name)]
    if programs:
        return f"{', '.join(programs)} not installed (as root on Debian/Ubuntu: env/bed install)"
    return "" if os.geteuid() == 0 else "only root can start a login node with a second user"


class Cable:
    """Forwards connections from a port of its own to another, until it is cut."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.is_cut = False
        self.left: int | None = None
        """How many bytes may still go over, in both directions together; then all connections break."""
        self.n_connections = 0
        self.n_bytes = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones until it is mended."""
        self.is_cut = True
        self.break_connections()

    def mend(self) -> None:
        self.is_cut = False

    def break_connections(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self) -> None:
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.to_port))
            except OSError:
                near.close()
                continue
            self.n_connections += 1
            with self._lock:
                self._pairs.add((near, far))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while block := source.recv(1 << 12):
                with self._lock:
                    self.n_bytes += len(block)
                    if self.left is not None:
                        self.left -= len(block)
                if self.left is not None and self.left < 0:
                    self.left = None
                    self.break_connections()
                    return
                target.sendall(block)
        except OSError:
            pass
        finally:
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class LoginNode:
    """The cluster's side, and how the laptop gets there."""

    def __init__(self, folder: Path, user: str, environ: dict[str, str]) -> None:
        self.folder = folder
        self.user = user
        self.home = folder / "home"
        self.log = folder / "sshd.log"
        for name in ("host", "client"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(keygen, check=True)
        (folder / "authorized_keys").write_text((folder / "client.pub").read_text())
        self.port = _free_port()
        exported = " ".join(f"{name}={value}" for name, value in environ.items())
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/sshd.pid\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nAllowUsers {user}\nSetEnv {exported}\nBanner {folder}/banner\n"
        )
        (folder / "banner").write_text("Welcome to the cluster. Be nice.\n")
        Path("/run/sshd").mkdir(exist_ok=True)
        with open(self.log, "ab") as log:
            self.sshd = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: _listens(self.port) or self.sshd.poll() is not None, "sshd listens")
        assert self.sshd.poll() is None, self.log.read_text()
        self.cable = Cable(self.port)
        self.python = self._environment()

    def _environment(self) -> Path:
        """Make a Python that the user may run, with the packages of ours but none of our own."""
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        base = next(
            (path for path in (os.path.realpath(sys.executable), f"/usr/bin/{name}") if self._may_run(path)), None
        )
        if base is None or not self._may_run("cat", sysconfig.get_path("purelib") + "/torch/version.py"):
            pytest.skip(f"no {name}, or its packages, that another user than root may use")
        packages = self.folder / f"env/lib/{name}/site-packages"
        packages.mkdir(parents=True)
        (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        (self.folder / "env/pyvenv.cfg").write_text(f"home = {Path(base).parent}\n")
        python = self.folder / "env/bin/python"
        python.parent.mkdir()
        python.symlink_to(base)
        return python

    def _may_run(self, *command: str) -> bool:
        words = command if len(command) > 1 else (*command, "-c", "")
        return (
            subprocess.run(["runuser", "-u", self.user, "--", *words], capture_output=True, check=False).returncode == 0
        )

    def laptop(self, home: Path) -> dict[str, str]:
        """Write what a user has at home to get there; return the variables of a shell on the laptop."""
        ssh = home / ".ssh"
        ssh.mkdir(parents=True)
        (ssh / "config").write_text(
            f"Host {NAME}\n  HostName 127.0.0.1\n  Port {self.cable.port}\n  User {self.user}\n"
            f"  IdentityFile {self.folder}/client\n  IdentitiesOnly yes\n  UserKnownHostsFile {ssh}/known_hosts\n"
            "  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  HostKeyAlias cluster\n  CheckHostIP no\n"
        )
        (ssh / "known_hosts").write_text(f"cluster {(self.folder / 'host.pub').read_text()}")
        (home / "bin").mkdir()
        (home / "bin/ssh").write_text(f'#!/bin/sh\necho "$@" >>{home}/ssh.log\nexec {SSH} -F {ssh}/config "$@"\n')
        (home / "bin/ssh").chmod(0o755)
        sockets = home / "run"
        sockets.mkdir()
        return {"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(sockets)}

    def sh(self, command: str) -> str:
        """Run a command there as its user, in the home."""
        shell = ["runuser", "-u", self.user, "--", "sh", "-c", command]
        return subprocess.run(shell, cwd=self.home, capture_output=True, text=True, check=True).stdout

    def end(self) -> None:
        self.cable.close()
        self.sshd.terminate()
        self.sshd.wait()


@contextmanager
def login_node(environ: dict[str, str]) -> Iterator[LoginNode]:
    """A login node with a user of its own, which is there as long as it.

    Parameters
    ----------
    environ
        What a command that comes by ssh finds in its environment: SLURM_CONF, PATH.
    """
    folder = Path(tempfile.mkdtemp(prefix="login-", dir="/tmp"))
    folder.chmod(0o755)
    user = f"hpc{os.getpid()}"
    _forget_former_users()
    (folder / "home").mkdir(mode=0o700)
    words = ["--no-create-home", "--home-dir", str(folder / "home"), "--shell", "/bin/bash", "--password", "*"]
    subprocess.run(["useradd", *words, user], check=True)
    try:
        shutil.chown(folder / "home", user, user)
        node = LoginNode(folder, user, environ)
        try:
            yield node
        finally:
            node.end()
    finally:
        uid = pwd.getpwnam(user).pw_uid
        wait_for(lambda: not _end_processes(uid), f"what {user} has left ends")
        subprocess.run(["userdel", user], check=True, capture_output=True)
        shutil.rmtree(folder)


def _forget_former_users() -> None:
    """Remove the users of test processes that were killed."""
    for line in Path("/etc/passwd").read_text().splitlines():
        name = line.partition(":")[0]
        pid = name.removeprefix("hpc")
        if name.startswith("hpc") and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            subprocess.run(["userdel", name], check=False, capture_output=True)


def _end_processes(uid: int) -> int:
    """End what a user of ours has left running; return how many processes that were."""
    n = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == uid:
                n += 1
                os.kill(int(process.name), signal.SIGKILL)
    return n


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
