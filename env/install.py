"""Runs pip and says what it does; env/setup.sh starts it with the python of the virtual environment.

    python env/install.py [--extras test,dev] [--there base] [--torch 2.13.0] [--no-cuda] install -e .

What follows the options are pip's own words. It says what it will take, then each package as it comes, and every few
seconds how far it is: pip itself is silent while it downloads, unpacks and installs. When pip fails, all that it wrote
is shown. Only the standard library.
"""

import argparse
import compileall
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

MB = 1e6
BEAT_S = 3.0
"""The longest silence, also where nobody looks but a log."""

TORCH_MB = (190, 790)
TORCH_CUDA_MB = (2900, 5100)
COSTS_MB = {
    "base": (135, 560),
    "artefacts": (50, 54),
    "audio": (1, 1),
    "tables": (56, 180),
    "film": (36, 109),
    "moabb": (34, 130),
    "metadata": (11, 62),
    "hub": (25, 175),
    "mpi": (15, 42),
    "onnx": (41, 122),
    "search": (4, 39),
    "wandb": (30, 110),
    "mlflow": (12, 104),
    "docs": (25, 91),
    "test": (257, 935),
    "dev": (38, 115),
}
"""(to download, on disk) of what users need without torch, and of what each extra adds: wheels of Python 3.11 on Linux
x86-64. The last line of a set-up says what it was, to renew these; tests/env holds them against what is there."""

SMALL = (
    'for the small build end this, set PIP_EXTRA_INDEX_URL to PyTorch\'s CPU index (pytorch.org, "Get started") and '
    "start again"
)
NO_CUDA, UNKNOWN = 3, 4
"""The exit codes where torch must not have CUDA: it has, and it could not be asked."""

WHEEL = re.compile(
    r"(?:Downloading|Using cached|Processing) (?P<file>\S+\.(?:whl|tar\.gz|zip))"
    r"(?: \((?P<size>[\d.]+ (?:bytes|kB|MB|GB))\))?(?: \(from .*\))?$"
)
NOT_COMPILED = re.compile(r"(^|/)(tests?|pip|setuptools|fontTools|networkx|pygments/lexers)/")
"""What a run does not import. Python compiles it at its first import, where it may write."""
UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def cost(extras: Sequence[str], there: Sequence[str], torch: tuple[int, int]) -> str:
    """Of what is added to what is there already, in a phrase."""
    added = [part for part in ("base", *extras) if part not in there]
    parts = [COSTS_MB[part] for part in added] + ([torch] if "base" in added else [])
    download, disk = (sum(numbers) for numbers in zip(*parts, strict=True)) if parts else (0, 0)
    return f"about {spoken(download * MB)} to download and {spoken(disk * MB)} on disk"


def spoken(n_bytes: float) -> str:
    unit = "GB" if n_bytes >= 1e9 else "MB" if n_bytes >= 1e6 else "kB"
    return f"{n_bytes / UNITS[unit]:.{1 if unit == 'GB' else 0}f} {unit}"


def counted(n: int) -> str:
    return f"{n} package{'' if n == 1 else 's'}"


def torch_has_cuda(version: str, listed: str, system: str, machine: str) -> bool:
    """Whether the torch that pip would take brings CUDA, going by what `pip index versions torch` lists.

    On Linux x86-64 PyPI's own builds do; where an index or a folder offers one without, that is listed as +cpu."""
    return (system, machine) == ("Linux", "x86_64") and f"{version}+cpu" not in re.split(r"[\s,]+", listed)


class Progress:
    """What pip has said so far, and what to say of it."""

    def __init__(self, folder: Path, tmp: Path) -> None:
        self.folder, self.tmp = folder, tmp
        self.log: list[str] = []
        self.n_looked_at = 0
        self.n_wheels = 0
        self.fetched = self.n_bytes = 0.0
        self.doing = "looking what is needed"
        self.wheel = ""
        self.n_to_install = 0
        self.before = packages(folder)

    def hear(self, line: str) -> str:
        """What a line of pip's is worth saying, or ""."""
        self.log.append(line)
        text = line.strip()
        if text.startswith("Collecting "):
            self.n_looked_at += 1
        elif text.startswith("WARNING: Retrying"):
            return text
        elif text.startswith("Building ") and text.endswith("started"):
            self.wheel, self.doing = "", text[0].lower() + text[1:].removesuffix(": started")
            return self.doing
        elif text.startswith("Installing collected packages: "):
            self.n_to_install = text.count(",") + 1
            return f"installing {counted(self.n_to_install)}"
        elif wheel := WHEEL.match(text):
            return self._wheel(wheel["file"], wheel["size"])
        return ""

    def _wheel(self, file: str, size: str | None) -> str:
        path = Path(re.sub(r"^file://", "", file).replace("%2B", "+"))
        n_bytes = bytes_of(size) if size else path.stat().st_size if path.is_file() else 0.0
        name, _, version = path.name.partition("-")
        package = f"{name} {version.split('-')[0]}"
        self.wheel, self.doing = path.name, f"at {package}"
        self.n_wheels += 1
        self.n_bytes = n_bytes
        self.fetched += n_bytes
        return f"{self.n_wheels:4d}  {package}, {size or spoken(n_bytes)}"

    def beat(self) -> str:
        """How far it is, where pip says nothing."""
        if self.n_to_install:
            there = packages(self.folder)
            n_done = len(there - self.before)
            return f"{n_done} of {counted(self.n_to_install)} in place, {spoken(disk_use(self.folder))} on disk"
        n_so_far = counted(max(self.n_looked_at, self.n_wheels))
        if not self.wheel:
            return f"still {self.doing}, {n_so_far} so far"
        part = size_of(self.wheel, self.tmp)
        if 0 < part < self.n_bytes and spoken(part) != spoken(self.n_bytes):
            return f"still {self.doing}, {spoken(part)} of it are here"
        return f"still fetching, {n_so_far} so far"


def bytes_of(size: str) -> float:
    """Of `35.1 MB`, as pip writes it."""
    number, unit = size.split()
    return float(number) * UNITS[unit]


def packages(folder: Path) -> set[tuple[str, int]]:
    """What is installed whole: pip writes RECORD last."""
    records = [entry / "RECORD" for entry in folder.glob("*.dist-info")]
    return {(str(record), record.stat().st_mtime_ns) for record in records if record.exists()}


def forget_half_installed(folder: Path) -> None:
    """What pip was stopped at has no RECORD, and pip would take it as being there."""
    for entry in folder.glob("*.dist-info"):
        if not (entry / "RECORD").exists():
            shutil.rmtree(entry)


def files_in(folder: Path) -> Iterator[os.stat_result]:
    """Those that are there now; pip may take one away meanwhile."""
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                yield Path(place, name).lstat()
            except FileNotFoundError:
                continue


def disk_use(folder: Path) -> int:
    return sum(stat.st_blocks * 512 for stat in files_in(folder))


def size_of(name: str, folder: Path) -> int:
    """Of a file that pip is fetching somewhere in this folder, or 0."""
    for place, _, names in os.walk(folder):
        if name in names:
            try:
                return Path(place, name).stat().st_size
            except FileNotFoundError:  # pip took it away meanwhile
                return 0
    return 0


class Screen:
    """Lines, and on a terminal one that is written over."""

    def __init__(self) -> None:
        self.rewrites = sys.stdout.isatty()
        self.beat_s = 0.5 if self.rewrites else BEAT_S

    def line(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self.rewrites else text, flush=True)

    def beat(self, text: str) -> None:
        if self.rewrites:
            print(f"\r\x1b[K{text[:79]}", end="", flush=True)
        else:
            print(text, flush=True)


def run(words: Sequence[str]) -> int:
    """pip's exit code."""
    started = time.monotonic()
    folder = Path(sysconfig.get_path("purelib"))
    forget_half_installed(folder)
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="setup-") as tmp:
        progress = Progress(folder, Path(tmp))
        pip = subprocess.Popen(
            [sys.executable, "-m", "pip", "--no-input", *words, "--no-compile", "--progress-bar", "off"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=os.environ | {"TMPDIR": tmp, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            for line in lines_and_silences(pip, screen.beat_s):
                if line is None:
                    screen.beat(f"setup:       {progress.beat()}")
                elif text := progress.hear(line):
                    screen.line(f"setup: {text}")
            code = pip.wait()
        finally:
            if pip.poll() is None:
                pip.terminate()
                pip.wait()
    if code != 0:
        screen.line("setup: pip failed. All that it wrote:")
        print("\n".join(progress.log), file=sys.stderr, flush=True)
        return code
    compile_packages(folder, screen)
    screen.line(
        f"setup: {counted(progress.n_to_install)}, {spoken(progress.fetched)} came, "
        f"{spoken(disk_use(folder))} on disk, {time.monotonic() - started:.0f} s"
    )
    return 0


def compile_packages(folder: Path, screen: Screen) -> None:
    """What pip would do without --no-compile, but on several cores, and leaving out what a run does not import.

    A file that does not compile is a template of its package's; nobody imports it."""
    files = sorted(str(path) for path in folder.rglob("*.py") if not NOT_COMPILED.search(str(path.relative_to(folder))))
    beat = time.monotonic()
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), initializer=end_on_a_signal) as pool:
        for n_done, _ in enumerate(pool.map(compile_one, files, chunksize=20)):
            if time.monotonic() - beat > screen.beat_s:
                screen.beat(f"setup:       {n_done} of {len(files)} files compiled")
                beat = time.monotonic()


def end_on_a_signal() -> None:
    """And not as this process does, which has a folder to remove."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def compile_one(path: str) -> None:
    compileall.compile_file(path, quiet=2)


def lines_and_silences(child: "subprocess.Popen[str]", beat_s: float) -> Iterator[str | None]:
    """Each line as it comes, and None whenever none came for so long."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=beat_s)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--extras", default="", help="to be installed")
    parser.add_argument("--there", default="", help="base and the extras that are installed already")
    parser.add_argument("--torch", default="", help="its version, where it may come with CUDA or without")
    parser.add_argument("--no-cuda", action="store_true", help="refuse a torch with CUDA: exit code 3")
    options, words = parser.parse_known_args(argv)
    extras, there = (list(filter(None, text.split(","))) for text in (options.extras, options.there))
    again = Path(sysconfig.get_path("purelib"), "torch").exists()
    if again or "base" in there:
        print(f"setup: {'at most ' if again and not there else ''}{cost(extras, there, (0, 0))}", flush=True)
        return run(words)
    try:
        has_cuda = comes_with_cuda(options.torch)
    except CannotAskError as error:
        print(f"setup: could not ask pip whether torch comes with CUDA here: {error}", flush=True)
        if options.no_cuda:
            return UNKNOWN
        print(f"setup: {cost(extras, there, TORCH_MB)}, or with CUDA {cost(extras, there, TORCH_CUDA_MB)}", flush=True)
        return run(words)
    torch = TORCH_CUDA_MB if has_cuda else TORCH_MB
    if has_cuda and options.torch:
        print(f"setup: torch {options.torch} comes with CUDA here ({cost([], there, torch)}): {SMALL}", flush=True)
    if has_cuda and options.no_cuda:
        print("setup: went no further, as --no-cuda says", flush=True)
        return NO_CUDA
    print(f"setup: {cost(extras, there, torch)}", flush=True)
    return run(words)


class CannotAskError(Exception):
    """pip could not list the versions of torch; the message is the last line that it wrote."""


def comes_with_cuda(version: str) -> bool:
    """pip is asked only where both may be; without a version it is the one with CUDA that is wanted."""
    here = platform.system(), platform.machine()
    may = torch_has_cuda(version, "", *here)
    return may and (not version or torch_has_cuda(version, listed_torch(), *here))


def listed_torch() -> str:
    """The versions there are for this Python."""
    print("setup: looking which torch comes here, with CUDA or without", flush=True)
    words = ["pip", "index", "versions", "torch", "--retries", "0", "--timeout", "5"]
    asked = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise CannotAskError((asked.stderr.strip() or f"exit code {asked.returncode}").splitlines()[-1])
    return asked.stdout


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nsetup: stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
