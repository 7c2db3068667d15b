"""Set-up says what it takes and how far it is, adds what is missing and takes nothing away."""

import configparser
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT


def load_install() -> ModuleType:
    """env/install.py is a script that knows no package, not even ours."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "env/install.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load_install()
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


# ---- what pip says, and what of it is passed on


@pytest.mark.parametrize(
    ("line", "passed_on"),
    [
        ("Collecting scipy>=1.14 (from hpc-eegdecode==0.1.0)", ""),
        ("  Downloading scipy-1.17.1-cp311-cp311-manylinux_2_27_x86_64.whl.metadata (62 kB)", ""),
        ("Downloading scipy-1.17.1-cp311-cp311-manylinux_2_27_x86_64.whl (35.2 MB)", "   1  scipy 1.17.1, 35.2 MB"),
        ("  Using cached submitit-1.5.4-py3-none-any.whl (76 kB)", "   1  submitit 1.5.4, 76 kB"),
        ("  Downloading pesq-0.0.4.tar.gz (38 kB)", "   1  pesq 0.0.4.tar.gz, 38 kB"),
        ("Building wheels for collected packages: pesq", ""),
        ("  Building wheel for pesq (pyproject.toml): started", "building wheel for pesq (pyproject.toml)"),
        ("Installing collected packages: mpmath, sympy, torch", "installing 3 packages"),
        (
            "WARNING: Retrying (Retry(total=4, connect=None)) after",
            "WARNING: Retrying (Retry(total=4, connect=None)) after",
        ),
        ("Requirement already satisfied: idna<4 in ./lib (3.20)", ""),
    ],
)
def test_of_what_pip_says_each_package_has_a_line(tmp_path: Path, line: str, passed_on: str) -> None:
    assert install.Progress(tmp_path, tmp_path).hear(line) == passed_on


def test_a_wheel_from_a_folder_has_its_size_too(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").write_bytes(b"x" * 3_000_000)
    line = f"Processing {tmp_path}/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl (from hpc-eegdecode==0.1.0)"
    assert install.Progress(tmp_path, tmp_path).hear(line) == "   1  torch 2.13.0+cpu, 3 MB"


def test_while_pip_is_silent_one_hears_how_far_it_is(tmp_path: Path) -> None:
    folder, tmp = tmp_path / "site", tmp_path / "tmp"
    (folder / "old-1.dist-info").mkdir(parents=True)
    tmp.mkdir()
    (folder / "old-1.dist-info/RECORD").touch()
    progress = install.Progress(folder, tmp)
    assert progress.beat() == "still looking what is needed, 0 packages so far"
    progress.hear("Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (526.6 MB)")
    (tmp / "unpack").mkdir()
    (tmp / "unpack/torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"x" * 2_000_000)
    assert progress.beat() == "still at torch 2.13.0, 2 MB of it are here"
    progress.hear("Installing collected packages: sympy, torch")
    assert progress.beat().startswith("0 of 2 packages in place, ")
    (folder / "sympy-1.dist-info").mkdir()
    assert progress.beat().startswith("0 of 2 packages in place, ")
    (folder / "sympy-1.dist-info/RECORD").touch()
    assert progress.beat().startswith("1 of 2 packages in place, ")


def test_a_package_that_is_here_does_not_get_the_bytes_of_the_next_one(tmp_path: Path) -> None:
    progress = install.Progress(tmp_path, tmp_path)
    progress.hear("Downloading cycler-0.12.1-py3-none-any.whl (8.3 kB)")
    (tmp_path / "cycler-0.12.1-py3-none-any.whl").write_bytes(b"x" * 8_321)
    (tmp_path / "fonttools-4.60.1-cp311-cp311-manylinux_2_17_x86_64.whl").write_bytes(b"x" * 2_000_000)
    assert progress.beat() == "still fetching, 1 package so far"


def test_a_silent_child_does_not_make_us_silent() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "print('first', flush=True); input(); print('last')"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdin
    heard = install.lines_and_silences(child, 0.01)
    assert next(line for line in heard if line is not None) == "first"
    assert [next(heard) for _ in range(3)] == [None, None, None]
    child.stdin.write("go on\n")
    child.stdin.close()
    assert [line for line in heard if line is not None] == ["last"]
    assert child.wait() == 0


# ---- a real pip


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with wheels of two small packages; alpha asks for beta."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, needs in (("alpha", "Requires-Dist: beta\n"), ("beta", "")):
        info = f"{name}-1.0.dist-info"
        files = {
            f"{name}/__init__.py": "answer = 42\n",
            f"{name}/tests/__init__.py": "",
            f"{name}/template.py": "this {{is}} no Python\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            for file, text in files.items():
                wheel.writestr(file, text)
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A virtual environment with nothing in it but this one's pip."""
    pip = importlib.util.find_spec("pip")
    assert pip and pip.submodule_search_locations
    folder = tmp_path / "a fresh venv"
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "pip").symlink_to(pip.submodule_search_locations[0])
    return folder


def run_install(fresh: Path, shop: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """In a container, where Python is often told to leave no compiled files behind."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHONPATH"))}
    return subprocess.run(
        [fresh / "bin/python", ROOT / "env/install.py", *words],
        env=inherited | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shop), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_set_up_says_what_it_will_take_and_each_package_as_it_comes(fresh: Path, shop: Path) -> None:
    done = run_install(fresh, shop, "--extras", "dev", "--there", "base", "install", "alpha")
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if not line.startswith("setup:       ")]
    assert re.fullmatch(r"setup: about \d+ MB to download and \d+ MB on disk", said[0])
    assert [re.sub(r", \d kB", "", line) for line in said[1:3]] == ["setup:    1  alpha 1.0", "setup:    2  beta 1.0"]
    assert said[3] == "setup: installing 2 packages"
    assert re.fullmatch(r"setup: 2 packages, \d kB came, \d+ kB on disk, \d+ s", said[4])


def test_what_is_installed_is_compiled_but_for_tests(fresh: Path, shop: Path) -> None:
    assert run_install(fresh, shop, "--there", "base", "install", "alpha").returncode == 0
    (site,) = fresh.glob("lib/python*/site-packages")
    compiled = {str(path.parent.parent.relative_to(site)) for path in site.glob("[ab]*/**/*.pyc")}
    assert compiled == {"alpha", "beta"}


def test_when_pip_fails_all_that_it_wrote_is_shown(fresh: Path, shop: Path) -> None:
    done = run_install(fresh, shop, "--there", "base", "install", "alpha", "gamma")
    assert done.returncode == 1
    assert "setup: pip failed. All that it wrote:" in done.stdout
    wrote = done.stderr.splitlines()
    assert wrote[0].startswith("Looking in links: ") and any(line.startswith("Processing ") for line in wrote)
    assert any("No matching distribution found for gamma" in line for line in wrote)


def test_what_pip_was_stopped_at_is_installed_when_it_goes_on(fresh: Path, shop: Path) -> None:
    assert run_install(fresh, shop, "--there", "base", "install", "alpha").returncode == 0
    (site,) = fresh.glob("lib/python*/site-packages")
    (site / "beta-1.0.dist-info/RECORD").unlink()
    (site / "beta/__init__.py").unlink()
    assert run_install(fresh, shop, "--there", "base", "install", "alpha").returncode == 0
    assert (site / "beta/__init__.py").exists()


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="only there torch may be either")
def test_where_pip_cannot_say_which_torch_there_is_nothing_is_said_of_cuda_being_there(fresh: Path, shop: Path) -> None:
    done = run_install(fresh, shop, "--torch", "2.13.0", "install", "alpha")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "comes with CUDA here (" not in done.stdout
    assert "could not ask pip whether torch comes with CUDA here: ERROR: No matching distribution" in done.stdout
    refused = run_install(fresh, shop, "--torch", "2.13.0", "--no-cuda", "install", "alpha")
    assert refused.returncode == install.UNKNOWN


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_pip_and_leaves_no_traceback_and_no_folder(
    fresh: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (site,) = fresh.glob("lib/python*/site-packages")
    (site / "pip").unlink()
    (site / "pip").mkdir()
    (site / "pip/__main__.py").write_text("print('Building me: started')\ninput()\n")
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    child = subprocess.Popen(
        [fresh / "bin/python", ROOT / "env/install.py", "--there", "base", "install", "alpha"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        env=os.environ | {"TMPDIR": str(tmp)},
    )  # fmt: skip
    wait_for_line(child, "building me")
    child.send_signal(number)
    rest = ended(child)
    assert child.returncode == code and "Traceback" not in rest
    assert ("stopped; the same command goes on" in rest) == (number == signal.SIGINT)
    assert not list(tmp.iterdir())


def hear_all() -> None:
    """A shell cannot trap what was ignored when it began, as SIGHUP is below `nohup make test`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_for_line(child: "subprocess.Popen[bytes]", text: str) -> None:
    assert child.stdout
    lines = []
    for line in child.stdout:  # unbuffered, what comes after stays for `ended`
        lines.append(line.decode())
        if text in lines[-1]:
            return
    pytest.fail(f"it ended without {text!r}:\n{''.join(lines)}")


def ended(child: "subprocess.Popen[bytes]") -> str:
    """The rest of what it and its children wrote: the pipe is closed by the last of them. 60 s stand for never."""
    return child.communicate(timeout=60)[0].decode()


# ---- what it costs


def closure(roots: Iterable[str]) -> set[str]:
    """The distributions that a requirement brings, by name; those that are not installed are left out."""
    todo = [(Requirement(root), "") for root in roots]
    names: set[str] = set()
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in names:
            names.add(name)
            todo += [(Requirement(need), extra) for need in needs for extra in ("", *wanted.extras)]
    return names


def disk_mb(names: Iterable[str]) -> float:
    """Of files and what is compiled of them."""
    total = 0
    for name in names:
        for file in importlib.metadata.files(name) or []:
            path = Path(str(file.locate()))
            if path.suffix == ".pyc" or not path.is_file():
                continue
            total += path.lstat().st_blocks * 512
            if path.suffix == ".py" and not install.NOT_COMPILED.search(str(file)):
                compiled = Path(importlib.util.cache_from_source(str(path)))
                total += (compiled if compiled.exists() else path).lstat().st_blocks * 512
    return total / 1e6


def listed(section: str, option: str) -> list[str]:
    return [line for line in SETUP[section][option].split("\n") if line and not line.startswith("#")]


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="sizes are those of Linux x86-64")
@pytest.mark.parametrize("part", ["base", "torch", "docs", "test", "dev"])
def test_what_set_up_says_it_takes_is_what_it_takes(part: str) -> None:
    base = closure(listed("options", "install_requires"))
    if part == "torch":
        said, names = install.TORCH_MB[1], {"torch"}
        if importlib.metadata.version("torch").partition("+")[2] != "cpu":
            pytest.skip("the torch that is installed here brings CUDA")
    elif part == "base":
        said, names = install.COSTS_MB[part][1], base - {"torch"}
    else:
        said, names = install.COSTS_MB[part][1], closure(listed("options.extras_require", part)) - base
    assert said == pytest.approx(disk_mb(names), rel=0.2)


def test_torch_is_told_from_torch_with_cuda_by_what_pip_lists() -> None:
    pypi, cpu = "Available versions: 2.14.1, 2.13.0, 2.12.1", "Available versions: 2.14.1, 2.13.0+cpu, 2.13.0"
    assert install.torch_has_cuda("2.13.0", pypi, "Linux", "x86_64")
    assert not install.torch_has_cuda("2.13.0", cpu, "Linux", "x86_64")
    assert install.torch_has_cuda("2.12.1", cpu, "Linux", "x86_64")
    assert not install.torch_has_cuda("2.13.0", pypi, "Linux", "aarch64")
    assert not install.torch_has_cuda("2.13.0", pypi, "Darwin", "arm64")


def test_what_is_added_costs_less_than_all() -> None:
    assert install.cost(["test"], [], (190, 790)).endswith(" GB on disk")
    test = install.COSTS_MB["test"]
    assert install.cost(["test"], ["base"], (0, 0)) == f"about {test[0]} MB to download and {test[1]} MB on disk"


def test_every_extra_has_a_cost_and_set_up_takes_it() -> None:
    extras = set(SETUP["options.extras_require"])
    assert extras == install.COSTS_MB.keys() - {"base"}
    usage = subprocess.run([ROOT / "env/setup.sh"], capture_output=True, text=True, check=False).stderr
    named = re.search(r"--extras ([\w,]+)", usage)
    assert named and set(named[1].split(",")) == extras
    refused = subprocess.run(
        [ROOT / "env/setup.sh", "cpu", "--extras", "x"], capture_output=True, text=True, check=False
    )
    allowed = re.search(r"allowed extras are ([\w, ]+), but", refused.stderr)
    assert allowed and set(allowed[1].split(", ")) == extras


# ---- the stamp


class Checkout:
    """What env/setup.sh reads of a checkout, and a virtual environment whose python notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "env", folder / "env")
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        python = folder / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        (folder / ".venv/pyvenv.cfg").touch()
        self.program(
            python,
            f"case $* in *version_info*) echo 3.11 ;; *install.py*) echo \"$@\" >> '{folder}/calls' ;; esac",
        )
        self.running: list[subprocess.Popen[bytes]] = []

    def program(self, path: Path, text: str) -> Path:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def on_install(self, text: str) -> None:
        """What the python of the environment does instead of installing."""
        self.program(self.folder / ".venv/bin/python", f"case $* in *install.py*) {text} ;; esac")

    def inherited(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "PYTHON"}

    def start(self, *words: str, **environ: str) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(
            [self.folder / "env/setup.sh", "cpu", *words],
            env=self.inherited() | environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
            start_new_session=True, preexec_fn=hear_all,
        )  # fmt: skip
        self.running.append(child)
        return child

    def end(self) -> None:
        for child in self.running:
            if child.poll() is None:
                child.kill()
                child.wait()

    def __call__(self, *words: str, code: int = 0, **environ: str) -> str:
        """What it said, after what it had installed; "" stands for nothing."""
        (self.folder / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            [self.folder / "env/setup.sh", "cpu", *words],
            env=self.inherited() | environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def installed(self) -> tuple[str, str] | None:
        """The extras that were asked of pip, and what was said to be there."""
        calls = self.folder / "calls"
        if not calls.exists():
            return None
        asked = re.search(r"--extras ([\w,]*) +--there ([\w,]*) .*-e \S.*?(\[[\w,]*\])?$", calls.read_text().strip())
        assert asked and f"[{asked[1]}]" == (asked[3] or "[]")
        return asked[1], asked[2].strip(",")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path / "a check out")
    yield checkout
    checkout.end()


def test_the_demo_takes_nothing_that_only_tests_need_and_nothing_away(checkout: Checkout) -> None:
    checkout()
    assert checkout.installed() == ("", "")
    assert "is up to date" in checkout() and checkout.installed() is None
    checkout("--extras", "test,dev")
    assert checkout.installed() == ("test,dev", "base")
    for fewer in ([], ["--extras", "dev"], ["--extras", "dev,test"]):
        assert "is up to date" in checkout(*fewer) and checkout.installed() is None
    checkout("--extras", "audio")
    assert checkout.installed() == ("test,dev,audio", "base,test,dev")


def test_other_pins_renew_also_the_extras_that_were_asked_for_before(checkout: Checkout) -> None:
    checkout("--extras", "test,dev")
    with open(checkout.folder / "env/constraints-cpu.txt", "a") as pins:
        pins.write("one==2\n")
    checkout()
    assert checkout.installed() == ("test,dev", "")


def test_an_extra_that_there_is_not_is_refused(checkout: Checkout) -> None:
    said = checkout("--extras", "test,tset", code=2)
    allowed = "test, dev, artefacts, audio, tables, film, hub, moabb, metadata, mlflow, mpi, onnx, search, wandb, docs"
    assert f"allowed extras are {allowed}, but got 'tset' instead" in said
    assert checkout.installed() is None


def test_an_environment_of_another_python_is_not_taken(checkout: Checkout) -> None:
    checkout()
    other = checkout.folder / "python3.12"
    other.write_text("#!/bin/sh\necho 3.12\n")
    other.chmod(0o755)
    said = checkout(code=1, PYTHON=str(other))
    assert "has Python 3.11, and PYTHON=" in said and "make VENV=.venv-3.12" in said


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.10"])
def test_a_python_that_is_too_old_is_refused(checkout: Checkout, version: str) -> None:
    old = checkout.program(checkout.folder / "old", f"echo {version}")
    said = checkout("--venv", str(checkout.folder / "new"), code=1, PYTHON=str(old))
    assert f"PYTHON={old} is Python {version}, and this needs 3.11 or newer" in said
    assert not (checkout.folder / "new").exists()


def test_a_folder_with_somebodys_files_is_not_filled(checkout: Checkout) -> None:
    folder = checkout.folder / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("mine")
    said = checkout("--venv", str(folder), code=1)
    assert f"{folder} has files in it and is no virtual environment (no pyvenv.cfg)" in said
    assert os.listdir(folder) == ["chapter.tex"]


def test_help_is_help_and_a_word_too_many_is_called_a_word(checkout: Checkout) -> None:
    for words in (["--help"], ["cpu", "-h"]):
        done = subprocess.run([ROOT / "env/setup.sh", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout.startswith("usage: env/setup.sh cpu|cuda ") and not done.stderr
    assert "unknown word 'extra'" in checkout("extra", code=2)
    assert "unknown option '--vnev'" in checkout("--vnev", code=2)
    assert "--venv needs a value" in checkout("--venv", code=2)
    assert checkout.installed() is None


# ---- stopped, and two at once


def test_stopped_while_the_environment_is_made_there_is_none_and_the_same_command_goes_on(checkout: Checkout) -> None:
    """As Ctrl-C in a terminal does it: to the script and all that belong to it."""
    venv = checkout.folder / "new"
    half = f"mkdir -p '{venv}/bin'; touch '{venv}/pyvenv.cfg'; ln -s /bin/true '{venv}/bin/python'; echo half made"
    waits = f"exec '{sys.executable}' -c 'import time; time.sleep(1000)'"
    goes_on = f"case $* in *version_info*) echo 3.11 ;; *'-m venv'*) {half}; %s ;; esac"
    python = checkout.program(checkout.folder / "python", goes_on % f"sleep 1000 & {waits}")
    child = checkout.start("--venv", str(venv), PYTHON=str(python))
    wait_for_line(child, "half made")
    os.killpg(child.pid, signal.SIGINT)
    assert ended(child) == "setup: stopped; the same command goes on\n"
    assert child.returncode == 130
    assert not (venv / "bin").exists()
    checkout.program(python, goes_on % "true")
    assert "done; next: " in checkout("--venv", str(venv), PYTHON=str(python))


def test_an_environment_that_was_left_half_made_is_made_anew(checkout: Checkout, tmp_path: Path) -> None:
    """With the mark of ours, as after kill -9, or without pip and packages, as older set-ups left it."""
    new = tmp_path / "new"
    work = f"mkdir '{new}/bin'; touch '{new}/pyvenv.cfg'; ln -s /bin/true '{new}/bin/python'"
    python = checkout.program(tmp_path / "python", f"case $* in *info*) echo 3.11 ;; *'-m venv'*) {work} ;; esac")
    for mark in (True, False):
        shutil.rmtree(new, ignore_errors=True)
        (new / "bin").mkdir(parents=True)
        for name in ("pyvenv.cfg", "left", *[".half-made"] * mark):
            (new / name).touch()
        checkout.program(new / "bin/python", "case $* in *version_info*) echo 3.11 ;; *) exit 1 ;; esac")
        assert "making it anew" in checkout("--venv", str(new), PYTHON=str(python))
        assert not (new / "left").exists() and not (new / ".half-made").exists()


def test_an_environment_with_packages_and_no_pip_is_left_alone(checkout: Checkout) -> None:
    package = checkout.folder / ".venv/lib/python3.11/site-packages/mine-1.0.dist-info"
    package.mkdir(parents=True)
    checkout.program(checkout.folder / ".venv/bin/python", "exit 1")
    assert "has packages in it but no pip that works: remove that folder" in checkout(code=1)
    assert package.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_to_set_up_alone_ends_what_it_has_started(
    checkout: Checkout, number: signal.Signals, code: int
) -> None:
    checkout.on_install("echo installing now; sleep 1000 & sleep 1000")
    child = checkout.start()
    wait_for_line(child, "installing now")
    child.send_signal(number)
    assert "stopped; the same command goes on" in ended(child)
    assert child.returncode == code


def test_a_second_set_up_waits_for_the_first_and_finds_it_done(checkout: Checkout) -> None:
    os.mkfifo(checkout.folder / "go on")
    checkout.on_install(f"echo >> '{checkout.folder}/calls'; echo installing now; cat '{checkout.folder}/go on'")
    first = checkout.start()
    wait_for_line(first, "installing now")
    second = checkout.start()
    wait_for_line(second, f"another set-up is at work in {checkout.folder}/.venv (process {first.pid} on ")
    (checkout.folder / "go on").write_text("")
    assert "done; next: " in ended(first) and "is up to date" in ended(second)
    assert (first.returncode, second.returncode) == (0, 0)
    assert (checkout.folder / "calls").read_text() == "\n"


def test_one_that_is_stopped_while_it_waits_takes_nothing_from_the_first(checkout: Checkout) -> None:
    os.mkfifo(checkout.folder / "go on")
    checkout.on_install(f"echo installing now; cat '{checkout.folder}/go on'")
    first = checkout.start()
    wait_for_line(first, "installing now")
    (checkout.folder / ".venv/.half-made").touch()
    second = checkout.start()
    wait_for_line(second, "another set-up is at work")
    second.terminate()
    ended(second)
    assert second.returncode == 143 and (checkout.folder / ".venv/pyvenv.cfg").exists()
    (checkout.folder / "go on").write_text("")
    assert "done; next: " in ended(first)


# ---- the front door


def test_a_wheel_needs_what_builds_it_and_not_the_tests() -> None:
    said = subprocess.run(["make", "-n", "wheel"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--extras dev\n" in said and "test" not in said


@pytest.mark.parametrize("shell", ["bash", "dash", "sh"])
def test_activate_that_is_run_says_that_it_is_to_be_sourced(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "env/activate.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("activate: source this") and done.stderr.endswith(": . env/activate.sh\n")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_activate_elsewhere_works_or_says_where_it_looked(checkout: Checkout, shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    activate = f". '{checkout.folder}/env/activate.sh' && echo \"$VIRTUAL_ENV\""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENV_")}
    done = subprocess.run(
        [shell, "-c", activate], cwd=tmp_path, env=inherited, capture_output=True, text=True, check=False
    )
    if shell == "bash":
        assert done.stdout == f"{checkout.folder}/.venv\n"
    else:
        assert f"looked for .venv in {tmp_path}, as this shell does not say which file it reads" in done.stderr
        assert "source it from the repository's root, or set ENV_VENV=" in done.stderr
