"""Containers for tests: a real podman with a small image, and a stand-in for Apptainer, which Debian does not package.

The image is next to nothing, as no test may fetch one: its own files are a few lines of /etc, and the profile mounts
the Python of the tests and the system's libraries.
"""

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, Launch

IMAGE = "localhost/hpc-test:1"
MARKER = "etc/this-is-the-image"
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/opt")
APPTAINER = """\
#!{python}
# Checks its words as Apptainer would, notes them, and runs the command with the variables that Apptainer sets
import json, os, sys
words = sys.argv[1:]
assert words.pop(0) == "exec", words
binds, cwd = [], None
while words[0].startswith("-"):
    option = words.pop(0)
    if option == "--bind":
        binds.append(words.pop(0))
    elif option == "--pwd":
        cwd = words.pop(0)
    else:
        assert option in ("--nv", "--rocm", "--cleanenv"), option
image, *command = words
if not os.path.exists(image):
    sys.exit(f"FATAL:   could not open image {{image}}: failed to retrieve path for {{image}}")
for bind in binds:
    source = bind.split(":")[0]
    if not os.path.exists(source):
        sys.exit(f"FATAL:   container creation failed: mount {{source}}->{{source}} error: no such file or directory")
with open({calls!r}, "a") as file:
    file.write(json.dumps({{"image": image, "binds": binds, "cwd": cwd, "command": command}}) + "\\n")
os.chdir(cwd)
os.execvpe(command[0], command, os.environ | {{"APPTAINER_CONTAINER": image}})
"""


def podman_words() -> list[str]:
    """What podman needs on this machine besides what ranks ask for: no more limits than we have ourselves."""
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: min(resource.getrlimit(number)[1] % 2**63, 10_000) for name, number in limits.items()}
    return [f"--ulimit={name}={most}:{most}" for name, most in hard.items()]


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a command `podman` that has a store of its own with the image, for PATH."""
    real = shutil.which("podman")
    if real is None:
        pytest.skip("podman is not installed (as root on Debian or Ubuntu: apt-get install podman crun)")
    folder = tmp_path_factory.mktemp("podman")
    state = tempfile.mkdtemp(prefix="podman-")  # podman wants a name of 50 characters at most
    own = [real, "--root", f"{folder}/store", "--runroot", state, "--storage-driver", "vfs"]
    # crun does not go with version 1 and 2 of cgroups side by side, so it does not see the second
    hidden = 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
    start = ["unshare", "-m", "sh", "-c", hidden, "sh"] if Path("/sys/fs/cgroup/unified").is_dir() else []
    (folder / "bin").mkdir()
    command = folder / "bin/podman"
    command.write_text(f'#!/bin/sh\nexec {shlex.join([*start, *own])} "$@"\n')
    command.chmod(0o755)
    root = folder / "rootfs"
    for name in ("etc", "proc", "sys", "dev", "tmp", "run", *(place[1:] for place in SYSTEM)):
        (root / name).mkdir(parents=True)
    (root / MARKER).write_text("image\n")
    with tarfile.open(folder / "rootfs.tar", "w") as tar:
        tar.add(root, ".")
    subprocess.run([command, "import", folder / "rootfs.tar", IMAGE], check=True, capture_output=True)
    trial = [command, "run", "--rm", "--cgroups=disabled", "--network=host", *podman_words(), *_system(), IMAGE, "true"]
    done = subprocess.run(trial, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"podman starts no container on this machine: {done.stderr.strip()}")
    yield folder / "bin"
    subprocess.run([command, "unmount", "--all"], check=False, capture_output=True)
    shutil.rmtree(state, ignore_errors=True)


def _system() -> list[str]:
    return [f"--volume={place}:{place}:ro" for place in SYSTEM if Path(place).exists()]


def profile_with(launch: Launch, name: str, like: str, container: dict[str, object], *prologue: str) -> str:
    """Write a profile like another one, with a container whose Python is that of the tests."""
    profile = yaml.safe_load((ROOT / f"configs/site/{like}.yaml").read_text())
    profile.pop("detect", None)
    place = launch.folder / f"configs/site/{name}.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    profile["container"] = {"python": sys.executable} | container
    profile["prologue"] = [*profile.get("prologue", []), *prologue]
    place.write_text(yaml.safe_dump(profile))
    return name


def in_podman(launch: Launch, podman: Path, like: str = "local") -> str:
    """Return a profile whose ranks run in the image, by podman."""
    launch.environ["PATH"] = f"{podman}:{launch.environ['PATH']}"
    system = [*(place for place in SYSTEM if Path(place).exists()), sys.base_prefix, sys.prefix, str(ROOT)]
    binds = [f"{place}:{place}:ro" for place in dict.fromkeys(system)]
    container = {"runtime": "podman", "image": IMAGE, "binds": binds, "options": podman_words()}
    return profile_with(launch, "boxed", like, container, f"export PATH={podman}:$PATH")


def by_stand_in(launch: Launch, like: str = "local") -> str:
    """Return a profile that starts ranks by a stand-in for Apptainer, which notes its calls; env.sif is an image."""
    place = launch.folder / "bin"
    place.mkdir()
    (place / "apptainer").write_text(APPTAINER.format(python=sys.executable, calls=str(launch.folder / "calls")))
    (place / "apptainer").chmod(0o755)
    (launch.folder / "env.sif").write_bytes(b"an image")
    launch.environ["PATH"] = f"{place}:{launch.environ['PATH']}"
    # Of the environment here a strict site gives jobs nothing
    return profile_with(launch, "boxed", like, {"options": ["--cleanenv"]}, f"export PATH={place}:$PATH")


def calls(launch: Launch) -> list[dict[str, object]]:
    """What the stand-in was called with."""
    return [json.loads(line) for line in (launch.folder / "calls").read_text().splitlines()]


def workers(run: Path) -> list[int]:
    """Return the processes of a run's ranks, by the numbers that they have outside of a container."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            is_python = os.path.basename(os.readlink(place / "exe")).startswith("python")
        except OSError:  # it has just ended
            continue
        if is_python and b"hpc.worker" in words and os.fsencode(run) in words:
            found.append(int(place.name))
    return found
