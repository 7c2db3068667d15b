"""Whether this commit may be released: `make release`, or `python env/release.py [--only WORD,…] [--list]`.

Each line of the checklist is one function below, which returns what it has seen, or raises Missing with what to do.
Nothing is uploaded and nothing tagged: the last lines say what a person does then. `dist/` has the wheel, the source
distribution and NOTES.md, the text of the release, afterwards.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from configparser import ConfigParser
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = ["synthesize.n_subjects=2", "synthesize.n_pieces=5", "synthesize.piece_s=[4,6]", "train.optim.steps=20"]
"""The demo, so small that it takes seconds."""


class Missing(Exception):
    """What has to be done before a release."""


class LeftOut(Exception):
    """Why this machine cannot say."""


def version() -> str:
    """One version in code, citation, changelog and conda's recipe, with a date."""
    (number,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "hpc/__init__.py").read_text(), re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text()
    stands = {
        "CITATION.cff": re.findall(r"^version: (.+)$", citation, re.MULTILINE),
        "env/conda/meta.yaml": re.findall(r'set version = "(.+)"', (ROOT / "env/conda/meta.yaml").read_text()),
        "CHANGELOG.md, first section": re.findall(r"^## (\S+)", changelog(), re.MULTILINE)[:1],
    }
    for place, has in stands.items():
        if has != [number]:
            raise Missing(f"{place} has {', '.join(has) or 'no version'}, and hpc/__init__.py has {number}")
    if not (date := re.findall(r"^date-released: (\d{4}-\d\d-\d\d)$", citation, re.MULTILINE)):
        raise Missing("CITATION.cff has no date-released: YYYY-MM-DD")
    if f"## {number} ({date[0]})" not in changelog():
        raise Missing(
            f"the section of CHANGELOG.md is to read `## {number} ({date[0]})`, with the date of CITATION.cff"
        )
    return f"{number} of {date[0]}"


def notes() -> str:
    """The changelog's section of this version has highlights, and docs/upgrading.md how to come to it."""
    number = version().split()[0]
    section = section_of(number)
    if "### Highlights" not in section:
        raise Missing(f"the section {number} of CHANGELOG.md has no `### Highlights`: what a user wants to know first")
    if not re.search(rf"^## To {re.escape(number)}$", (ROOT / "docs/upgrading.md").read_text(), re.MULTILINE):
        raise Missing(f"docs/upgrading.md has no section `## To {number}`: what changes for who has the version before")
    place = ROOT / "dist/NOTES.md"
    place.parent.mkdir(exist_ok=True)
    place.write_text(section)
    return f"{len(section.splitlines())} lines, in {place.relative_to(ROOT)}"


def commit() -> str:
    """All is committed, and no other commit has this version's tag."""
    number = version().split()[0]
    if changed := output("git", "status", "--porcelain"):
        raise Missing(f"not committed: {', '.join(line[3:] for line in changed.splitlines()[:5])}")
    head = output("git", "rev-parse", "HEAD")
    tagged = subprocess.run(
        ["git", "rev-parse", "-q", "--verify", f"v{number}^{{commit}}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    if tagged not in ("", head):
        raise Missing(f"v{number} is {tagged[:10]} already, and this is {head[:10]}: a new version, then")
    return head[:10]


def lint() -> str:
    """ruff, mypy and the layers."""
    make("lint")
    return "no complaints"


def tests() -> str:
    """All that a scheduled CI runs, with a Slurm."""
    return make("test-slow", REQUIRE_SLURM="1").strip().splitlines()[-1].strip("= ")


def docs() -> str:
    """The documentation is built without a warning."""
    make("docs")
    return "built"


def built() -> str:
    """A wheel and a source distribution with the packages, their files and a description that an index can show."""
    number = version().split()[0]
    for old in (ROOT / "dist").glob("hpc_eegdecode-*"):
        old.unlink()
    make("wheel")
    wheel, sdist = distributions(number)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (place,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(place).decode())
    if metadata["Version"] != number or metadata["Description-Content-Type"] != "text/markdown":
        raise Missing(f"{wheel.name} says version {metadata['Version']}, {metadata['Description-Content-Type']}")
    if outside := {name.split("/")[0] for name in names if ".dist-info/" not in name} - {"hpc", "eegdecode"}:
        raise Missing(f"{wheel.name} has {', '.join(sorted(outside))} beside the packages")
    return f"{wheel.name} {wheel.stat().st_size / 1e6:.1f} MB, {sdist.name} {sdist.stat().st_size / 1e6:.1f} MB"


def installed() -> str:
    """Wheel and source distribution, each in an empty environment, pass twine's check and run the demo elsewhere."""
    number = version().split()[0]
    for file in distributions(number):
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "venv/bin/python"
            run(sys.executable, "-m", "venv", str(python.parent.parent))
            pip = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "env/constraints-cpu.txt")]
            run(*pip, str(file), "twine")
            run(str(python), "-m", "twine", "check", "--strict", str(file))
            elsewhere = Path(folder) / "empty"
            elsewhere.mkdir()
            hpc = str(python.parent / "hpc")
            if number not in run(hpc, "--version", cwd=elsewhere):
                raise Missing(f"hpc of {file.name} does not say version {number}")
            run(hpc, "pipeline", "demo", *TINY, "--on", "local", cwd=elsewhere)
            if not list(elsewhere.glob("runs/evaluate-*/out/report.html")):
                raise Missing(f"the demo of {file.name} has written no report.html")
    return "the demo ran from both"


def requirements() -> str:
    """conda's recipe asks for what setup.cfg asks for."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    ours = {line.replace(" ", "") for line in config["options"]["install_requires"].splitlines() if line[:1].isalpha()}
    text = (ROOT / "env/conda/meta.yaml").read_text().split("  run:\n")[1].split("\ntest:")[0]
    theirs = {"".join(line.strip(" -").split()) for line in text.splitlines() if line.strip().startswith("- ")}
    theirs = {CONDA_NAMES.get(name, name) + rest for name, rest in map(split_name, theirs)} - {"python>=3.11"}
    if ours != theirs:
        raise Missing(f"setup.cfg and env/conda/meta.yaml differ in {', '.join(sorted(ours ^ theirs))}")
    return f"{len(ours)} packages"


CONDA_NAMES = {
    "pytorch": "torch",
    "mne-base": "mne",
    "pyyaml": "PyYAML",
    "matplotlib-base": "matplotlib",
    "pysoundfile": "soundfile",
}
"""Our name of what conda-forge calls otherwise."""


def conda() -> str:
    """conda's recipe is built."""
    if not (program := shutil.which("conda-build") or shutil.which("rattler-build")):
        raise LeftOut("no conda-build here")
    words = ["build", "--recipe"] if program.endswith("rattler-build") else []
    run(program, *words, str(ROOT / "env/conda"))
    return "built"


def container() -> str:
    """The container recipe is built, and has hpc in it."""
    program = shutil.which("podman") or shutil.which("docker")
    base = os.environ.get("BASE", "")
    if not program:
        raise LeftOut("neither podman nor docker here")
    words = ["--build-arg", f"BASE={base}"] if base else []
    try:
        run(program, "build", "-q", "-t", "hpc-eegdecode:release", *words, "-f", "env/Dockerfile", ".")
    except Missing as failed:
        if re.search("pinging|pulling|registry|lookup|connect to the Docker daemon", str(failed)):
            raise LeftOut("no daemon, or its base image cannot be had here (BASE=IMAGE names another one)") from None
        raise
    return run(program, "run", "--rm", "hpc-eegdecode:release", "hpc", "--version").splitlines()[0]


CHECKS: tuple[Callable[[], str], ...] = (
    version, notes, commit, requirements, lint, docs, tests, built, installed, container, conda,
)  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Whether this commit may be released.")
    parser.add_argument("--only", help="these lines of the checklist alone, with commas between")
    parser.add_argument("--list", action="store_true", help="print the checklist")
    options = parser.parse_args(words)
    names = [check.__name__ for check in CHECKS]
    wanted = options.only.split(",") if options.only else names
    if unknown := sorted(set(wanted) - set(names)):
        print(f"release: no line {', '.join(unknown)}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    if options.list:
        print(*(f"{check.__name__:<13} {check.__doc__}" for check in CHECKS), sep="\n")
        return 0
    missing = left_out = 0
    for check in CHECKS:
        if check.__name__ not in wanted:
            continue
        began = time.monotonic()
        print(f"release: {check.__name__:<13} …", flush=True)
        try:
            word, text = "ok", check()
        except LeftOut as reason:
            word, text, left_out = "left out", str(reason), left_out + 1
        except Missing as reason:
            word, text, missing = "MISSING", str(reason), missing + 1
        print(f"release: {check.__name__:<13} {word}: {text} ({time.monotonic() - began:.0f} s)", flush=True)
    if missing:
        print(f"release: {missing} to do, see above")
        return 1
    if wanted == names:
        number = version().split()[0]
        print(f"release: ready. {left_out} left out. Then, as a person:")
        print(f"  git tag -a v{number} -m {number} && git push origin v{number}")
        print(f"  twine upload dist/hpc_eegdecode-{number}*    # the text of the release is dist/NOTES.md")
        print("  and begin the next one: `## Unreleased` in CHANGELOG.md")
    return 0


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text()


def section_of(number: str) -> str:
    """What the changelog says of a version, without its heading."""
    after = re.split(rf"^## {re.escape(number)}\b.*$", changelog(), flags=re.MULTILINE)[1]
    return re.split(r"^## ", after, flags=re.MULTILINE)[0].strip() + "\n"


def distributions(number: str) -> tuple[Path, Path]:
    files = (ROOT / f"dist/hpc_eegdecode-{number}-py3-none-any.whl", ROOT / f"dist/hpc_eegdecode-{number}.tar.gz")
    for file in files:
        if not file.is_file():
            raise Missing(f"no {file.relative_to(ROOT)}: make wheel")
    return files


def split_name(requirement: str) -> tuple[str, str]:
    name = re.match(r"[A-Za-z0-9-]+", requirement)
    assert name, requirement
    return name[0], requirement[name.end() :]


def make(target: str, **environ: str) -> str:
    return run("make", target, **environ)


def output(*command: str) -> str:
    return run(*command).rstrip("\n")


def run(*command: str, cwd: Path | None = None, **environ: str) -> str:
    """What a command prints; a failure is something to do, with its last lines."""
    done = subprocess.run(
        command,
        cwd=cwd or ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise Missing(f"`{' '.join(command)}` gave {done.returncode}\n    " + "\n    ".join(lines))
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
