"""Which Slurm a bed runs: the system's, or that of another Debian release, unpacked beside it. Part of env/bed.

The packages come from the machine's own Debian mirror, through apt with folders of its own, so that signatures are
checked and nothing of the system is read or written but the keys. Each program is told where its own libc and libraries
lie (interpreter and RPATH, by patchelf), so no variable is needed that jobs would inherit: they run with the host's.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEBIAN = {"22.05": ("bookworm", "Debian 12"), "24.11": ("trixie", "Debian 13")}
DAEMONS = ("munged", "slurmctld", "slurmd")
LOGIN = ("sshd", "ssh", "rsync")
ASKED = ("slurmctld", "slurmd", "slurm-client", "munge", "patchelf")
ACCOUNTING = ("slurmdbd", "slurm-wlm-mysql-plugin", "slurm-wlm-basic-plugins", "mariadb-server-core", "patchelf")
HOLDS_LIBRARIES = re.compile(r"lib|zlib|ocl-icd|slurm|munge|patchelf|mariadb")  # not perl, systemd, passwd
PROGRAMS = re.compile(r"s|munge|unmunge|remunge|mariadbd$")
KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg")
MARKER = "packages.json"  # written last: its existence means that the tree is whole


class BedError(Exception):
    """What went wrong, for the user; printed as one line."""


def say(line: str) -> None:
    """Standard output carries only the line to eval."""
    print(f"bed: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Slurm:
    version: str
    """As `slurmd -V` says it: 24.11.5."""
    tree: Path | None = None
    """Where it is unpacked. None: the system's."""

    @property
    def release(self) -> str:
        return ".".join(self.version.split(".")[:2])

    @property
    def bin(self) -> Path | None:
        """Daemons and commands, and nothing else."""
        return self.tree / "bin" if self.tree else None

    @property
    def plugins(self) -> Path | None:
        return library_folders(self.tree)[0] if self.tree else None


def choose(asked: str | None) -> Slurm:
    """The Slurm to run; fetched when it is neither the system's nor there already."""
    system = installed()
    if asked is None:
        if system is None:
            raise BedError(
                f"{missing_daemons()} not found: run `env/bed install` as root, or take a Slurm that is only unpacked, "
                f"which needs no root: --slurm {' or --slurm '.join(DEBIAN)}"
            )
        return system
    if system and system.release == asked:
        return system
    if asked not in DEBIAN:
        here = f", or the system's {system.release}" if system and system.release not in DEBIAN else ""
        choices = " or ".join(f"{release} ({debian})" for release, (_, debian) in DEBIAN.items())
        raise BedError(f"--slurm takes {choices}{here}, but got {asked!r} instead")
    return unpacked(asked) or fetch(asked)


def accounting(slurm: Slurm) -> Slurm:
    """slurmdbd of the same release, and MariaDB; unpacked, also where that Slurm is the system's."""
    if slurm.release not in DEBIAN:
        raise BedError(f"accounting is unpacked for Slurm {' and '.join(DEBIAN)} only")
    return unpacked(slurm.release, "accounting") or fetch(slurm.release, "accounting")


# ------------------------------------------------------------------------------------------------------- the system's


def system_path() -> str:
    """PATH without what a bed put there, and with the folders of daemons, which a plain user's PATH lacks."""
    entries = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/local/sbin"]
    return ":".join(dict.fromkeys(entry for entry in entries if not of_a_bed(entry)))


def of_a_bed(entry: str) -> bool:
    """Whether a folder of PATH is the `bin` of a bed that runs, or of an unpacked Slurm."""
    return entry.endswith("/bin") and any((Path(entry).parent / name).exists() for name in ("pids.json", MARKER))


def missing_daemons() -> str:
    return ", ".join(name for name in DAEMONS if not shutil.which(name, path=system_path()))


def missing_login() -> str:
    """What tests of a login node lack; a bed needs none of it."""
    return ", ".join(name for name in LOGIN if not shutil.which(name, path=system_path()))


def installed() -> Slurm | None:
    if missing_daemons():
        return None
    return Slurm(version_of(str(shutil.which("slurmd", path=system_path()))))


def version_of(slurmd: str) -> str:
    done = subprocess.run([slurmd, "-V"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+\.\d+", done.stdout)
    if done.returncode != 0 or not number:
        raise BedError(f"`{slurmd} -V` does not say its version: {done.stdout}{done.stderr}".rstrip())
    return number[0]


# ----------------------------------------------------------------------------------------------------------- unpacked


def cache() -> Path:
    given = os.environ.get("BED_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpc-bed"
    if any(c.isspace() or c in "#,%[]=\\:" for c in str(base)):
        raise BedError(f"slurm.conf cannot hold this path, set BED_CACHE to one of letters, digits, / . _ -: {base}")
    return base.resolve()


def unpacked(release: str, what: str = "slurm") -> Slurm | None:
    """What lies in the cache, whole and where it was made for (programs hold the path of their libraries)."""
    tree = cache() / f"{what}-{release}"
    try:
        record = json.loads((tree / MARKER).read_text())
    except FileNotFoundError:
        return None
    return Slurm(record["version"], tree) if record["tree"] == str(tree) else None


def library_folders(tree: Path) -> list[Path]:
    """That of Slurm's plugins first."""
    folders = sorted(tree.glob("usr/lib/*-linux-gnu*")) + sorted(tree.glob("lib/*-linux-gnu*"))
    return [*tree.glob("usr/lib/*-linux-gnu*/slurm-wlm"), *folders]


def fetch(release: str, what: str = "slurm") -> Slurm:
    """Download, unpack beside, rename, try, mark."""
    suite, debian = DEBIAN[release]
    must_be_debian(release, debian)
    final = cache() / f"{what}-{release}"
    asked = ASKED if what == "slurm" else ACCOUNTING
    name = f"{what.capitalize()} {release}"
    with lock(final.with_name(f"{final.name}.lock"), name):
        if slurm := unpacked(release, what):  # by the process that we have waited for
            return slurm
        beside = final.with_name(f"{final.name}.part")
        for left in (beside, final):
            shutil.rmtree(left, ignore_errors=True)
        try:
            packages = download(beside, suite, asked, f"{name} of {debian}")
            tree = beside / "tree"
            for package in packages:
                run(["dpkg-deb", "-x", str(package), str(tree)], f"{package.name} cannot be unpacked")
            say(f"{len(packages)} packages unpacked; each program is told where its libraries are")
            link_programs(tree)
            point_at_own_libraries(tree, final)
            os.rename(tree, final)
            names = sorted(package.stem for package in packages)
            if what == "slurm":
                version = version_of(str(final / "bin/slurmd"))
            else:  # slurmdbd says its version only when it has a configuration
                run([str(final / "bin/mariadbd"), "--no-defaults", "--version"], "MariaDB cannot be run")
                version = next(name.split("_")[1].partition("-")[0] for name in names if name.startswith("slurmdbd_"))
            record = {"version": version, "debian": suite, "tree": str(final), "packages": names}
            (final / "marker.new").write_text(json.dumps(record, indent=1) + "\n")
            os.rename(final / "marker.new", final / MARKER)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            if not (final / MARKER).exists():
                shutil.rmtree(final, ignore_errors=True)
    say(f"{what.capitalize()} {version} is in {final}; nothing of the system was changed")
    return Slurm(version, final)


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise BedError(f"cannot write the cache, set BED_CACHE to a folder of yours: {error}") from None
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process fetches {what}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def link_programs(tree: Path) -> None:
    """bin/slurmd -> ../usr/sbin/slurmd-wlm, as Debian's alternatives name it."""
    (tree / "bin").mkdir(exist_ok=True)
    programs = [path for folder in ("usr/bin", "usr/sbin") for path in sorted((tree / folder).iterdir())]
    ours = [path for path in programs if PROGRAMS.match(path.name) and not path.is_symlink()]
    for path in ours:
        if is_program(path):
            (tree / "bin" / path.name.removesuffix("-wlm")).symlink_to(f"../{path.relative_to(tree)}")


def is_program(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def point_at_own_libraries(tree: Path, final: Path) -> None:
    """Interpreter and RPATH of the programs and of Slurm's plugins, as they will be when the tree lies at `final`.

    RPATH and not RUNPATH, which would not count for the libraries of a library.
    """
    folders = library_folders(tree)
    for plugin in folders[0].glob("mpi_pmix*"):
        plugin.unlink()  # it looks for its library in the system's folders only
    (loader,) = (path for folder in folders for path in folder.glob("ld-linux*.so.*"))
    libraries = ":".join(map(str, folders))
    patchelf = [str(loader), "--library-path", libraries, str(tree / "usr/bin/patchelf"), "--force-rpath"]
    rpath = ["--set-rpath", ":".join(str(final / folder.relative_to(tree)) for folder in folders)]
    interpreter = ["--set-interpreter", str(final / loader.relative_to(tree))]
    programs = [str(path.resolve()) for path in (tree / "bin").iterdir()]
    plugins = [str(path) for path in folders[0].glob("*.so*") if not path.is_symlink()]
    for names, words in ((programs, [*interpreter, *rpath]), (plugins, rpath)):
        run([*patchelf, *words, *names], "patchelf cannot tell programs where their libraries are")


# ---------------------------------------------------------------------------------------------------------- downloads


def must_be_debian(release: str, debian: str) -> None:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    tools = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    if system.get("ID") != "debian" or tools:
        here = f"has no {' and no '.join(tools)}" if tools else f"is {system.get('PRETTY_NAME', 'another')}"
        raise BedError(
            f"Slurm {release} is taken from the packages of {debian}, by the apt of a machine with Debian, "
            f"but this one {here}: leave out --slurm and install Slurm from the system's packages"
        )


class Apt:
    """apt-get with lists, cache and sources of its own, to which nothing is installed: a closure is all it needs."""

    def __init__(self, folder: Path, uri: str, suite: str, keyring: str) -> None:
        for name in ("lists/partial", "archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        signed_by = f"[signed-by={keyring}] " if keyring else ""
        (folder / "sources.list").write_text(f"deb {signed_by}{uri} {suite} main\n")
        settings = {
            "Dir::State": folder, "Dir::State::lists": folder / "lists", "Dir::State::status": folder / "status",
            "Dir::Cache": folder, "Dir::Cache::archives": folder / "archives",
            "Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": "root",  # as root: another user could not write into our folder
            "APT::Architectures": run(["dpkg", "--print-architecture"], "dpkg fails").strip(),
            "Acquire::Languages": "none", "Acquire::Retries": 2, "Acquire::http::Timeout": 20,
        }  # fmt: skip
        self.command = ["apt-get", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.command, *words], capture_output=True, text=True, check=False, env=plain())

    def update(self) -> subprocess.CompletedProcess[str]:
        """Fetch the list of packages; says what comes."""
        command = [*self.command, "update", "--error-on=any"]
        return followed(command, None, lambda line: line.strip() if line.startswith("Get:") else "", every_s=0)


def plain() -> dict[str, str]:
    """apt's lines in English, as they are read."""
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def download(folder: Path, suite: str, asked: tuple[str, ...], what: str) -> list[Path]:
    """The packages and all they need, the libc included."""
    uri, own_suite = mirror()
    keyring = next((path for path in KEYRINGS if Path(path).exists()), "")
    say(f"{what} is not here: looking it up at {uri}")
    apt = Apt(folder / "apt", uri, suite, keyring)
    done = apt.update()
    if done.returncode != 0 and unknown_key(done) and own_suite != suite:
        say(f"this machine's keyring lacks the key of {suite}: taking the newer keyring that {own_suite} has")
        apt = Apt(folder / "apt-newer", uri, suite, newer_keyring(folder, uri, own_suite, keyring))
        done = apt.update()
    if done.returncode != 0:
        why = (
            "its signature cannot be checked; as root: apt-get install debian-archive-keyring"
            if unknown_key(done)
            else "is there no network?"
        )
        raise BedError(f"the list of packages of {suite} did not come from {uri} ({why}):\n{complaints(done)}")
    done = apt("--print-uris", "-y", "--no-install-recommends", "install", *asked)
    sizes = {
        name: int(size)
        for name, size in re.findall(r"^'\S+' ([^_\s]+)_\S+ (\d+)", done.stdout, re.MULTILINE)
        if HOLDS_LIBRARIES.match(name)
    }
    if done.returncode != 0 or not set(asked) <= set(sizes):
        raise BedError(f"{uri} {suite} has not all of {', '.join(asked)}:\n{complaints(done)}")
    total_mb = sum(sizes.values()) / 1e6
    say(f"{what}: {len(sizes)} packages, {total_mb:.0f} MB from {uri}")
    place = folder / "debs"
    place.mkdir()
    done = followed(
        [*apt.command, "download", *sizes], place, lambda _: f"{n_packages(place)} of {len(sizes)} packages"
    )
    if done.returncode != 0 or n_packages(place) != len(sizes):
        raise BedError(f"{n_packages(place)} of {len(sizes)} packages came, then no more:\n{complaints(done)}")
    return sorted(place.glob("*.deb"))


def n_packages(place: Path) -> int:
    return len(list(place.glob("*.deb")))


def followed(
    command: list[str], cwd: Path | None, progress: Callable[[str], str], every_s: float = 1
) -> subprocess.CompletedProcess[str]:
    """Run it, and say as often as that at most how far its output shows it to be."""
    lines: list[str] = []
    spoke = time.monotonic()
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=plain()
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if time.monotonic() - spoke >= every_s and (text := progress(line)):
                spoke = time.monotonic()
                say(text)
    return subprocess.CompletedProcess(command, process.returncode, "".join(lines), "")


def mirror() -> tuple[str, str]:
    """The address of this machine's Debian mirror, and the suite it takes from there."""
    every = ["-o", "APT::Get::IndexTargets=false", "--no-release-info"]  # also those never downloaded
    form = ["--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    targets = run(["apt-get", *every, "indextargets", *form], "apt cannot read its sources").splitlines()
    for uri, suite, component in filter(lambda words: len(words) == 3, map(str.split, targets)):
        if component == "main" and "-" not in suite and "security" not in uri and "debian" in uri:
            return uri.rstrip("/"), suite
    raise BedError("apt's sources name no Debian mirror (`deb http://YOUR-MIRROR/debian SUITE main`): add one")


def unknown_key(done: subprocess.CompletedProcess[str]) -> bool:
    return re.search(r"NO_PUBKEY|Missing key|is not signed|couldn't be verified", done.stdout + done.stderr) is not None


def newer_keyring(folder: Path, uri: str, own_suite: str, keyring: str) -> str:
    """The keyring package of this machine's own release, which has the next release's keys and is signed by its own."""
    apt = Apt(folder / "apt-own", uri, own_suite, keyring)
    place = folder / "keyring"
    place.mkdir()
    done = apt.update()
    if done.returncode == 0:
        done = followed([*apt.command, "download", "debian-archive-keyring"], place, lambda _: "")
    if done.returncode != 0:
        raise BedError(f"the newer debian-archive-keyring of {own_suite} did not come:\n{complaints(done)}")
    (package,) = place.glob("*.deb")
    run(["dpkg-deb", "-x", str(package), str(place / "tree")], "the keyring cannot be unpacked")
    keyrings = (place / "tree" / path.lstrip("/") for path in KEYRINGS)
    return str(next(path for path in keyrings if path.exists()))


def complaints(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout + done.stderr).splitlines()
    return "\n".join([line for line in lines if line.startswith(("E:", "W:", "Err:"))][:6])


def run(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain())
    if done.returncode != 0:
        raise BedError(f"{what}: `{' '.join(command[:3])} …` gave {done.returncode}:\n{done.stderr[-500:].rstrip()}")
    return done.stdout
