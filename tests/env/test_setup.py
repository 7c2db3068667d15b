"""Set-up says what it takes and how far it is, adds what is missing and takes nothing away."""

import configparser
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
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
    (tmp / "torch.whl").write_bytes(b"x" * 2_000_000)
    assert progress.beat() == "still at torch 2.13.0, 2 MB of it are here"
    progress.hear("Installing collected packages: sympy, torch")
    assert progress.beat().startswith("0 of 2 packages in place, ")
    (folder / "sympy-1.dist-info").mkdir()
    assert progress.beat().startswith("0 of 2 packages in place, ")
    (folder / "sympy-1.dist-info/RECORD").touch()
    assert progress.beat().startswith("1 of 2 packages in place, ")


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
@pytest.mark.parametrize("part", ["base", "torch", "test", "dev"])
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
        python.write_text(
            "#!/bin/sh\n"
            f"case $* in *version_info*) echo 3.11 ;; *install.py*) echo \"$@\" >> '{folder}/calls' ;; esac\n"
        )
        python.chmod(0o755)

    def __call__(self, *words: str, code: int = 0, **environ: str) -> str:
        """What it said, after what it had installed; "" stands for nothing."""
        (self.folder / "calls").unlink(missing_ok=True)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        done = subprocess.run(
            [self.folder / "env/setup.sh", "cpu", *words],
            env=inherited | environ, capture_output=True, text=True, check=False,
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
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a check out")


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
    assert "allowed extras are test, dev, audio, mpi, wandb, but got 'tset' instead" in said
    assert checkout.installed() is None


def test_an_environment_of_another_python_is_not_taken(checkout: Checkout) -> None:
    checkout()
    other = checkout.folder / "python3.12"
    other.write_text("#!/bin/sh\necho 3.12\n")
    other.chmod(0o755)
    said = checkout(code=1, PYTHON=str(other))
    assert "has Python 3.11, and PYTHON=" in said and "make VENV=.venv-3.12" in said
