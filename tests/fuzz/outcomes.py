"""Read mutated files in child processes that may hang, crash or be refused memory, and say what became of each."""

import multiprocessing
import multiprocessing.connection
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tests.fuzz import mutations
from tests.fuzz.corpus import BY_NAME, Format, Reading, Sentence

OUTCOMES = ("correct", "as it says", "sentence", "traceback", "hang", "silent", "memory")
"""As before; as the file says now; refused in a sentence. And what may not be: the last four."""
GOOD = OUTCOMES[:3]
PATIENCE_S = 30.0
"""A file of 20 kB takes a hundredth of a second."""
MORE_BYTES = 1 << 30
"""What a reader may ask for, beyond what the process has after its imports."""
RESIDENT_BYTES = 300 << 20
ADVICE = re.compile(r"weights_only|allow_pickle|github\\.com|file an issue|Traceback|please report|0x[0-9a-f]{8,}")
NO_MEMORY = re.compile(r"MemoryError|[Uu]nable to allocate|can't allocate|bad_alloc|Cannot allocate|not enough memory")


@dataclass(frozen=True)
class Outcome:
    format: str
    number: int
    seed: int
    word: str
    mutation: str = ""
    text: str = ""

    @property
    def command(self) -> str:
        return f"python -m tests.fuzz --seed {self.seed} --only '{self.format}:{self.number}'"


def mutated(each: Format, content: bytes, number: int, seed: int) -> tuple[bytes, str]:
    return mutations.draw(each.kinds, content, random.Random(f"{seed} {each.name} {number}"))


def judge(each: Format, folder: Path, mutation: str, before: Reading, content: bytes) -> tuple[str, str]:
    """Read the file, and judge what came of it. Gives a word of OUTCOMES and what to know about it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = each.read(folder)
    except MemoryError as error:
        return "memory", repr(error)
    except (ValueError, OSError, Sentence) as error:
        return _sentence(each, str(error), error)
    except BaseException:  # noqa: BLE001  that is what is looked for
        return "traceback", traceback.format_exc()
    if read[:2] == before[:2]:
        return "correct", ""
    if each.ours:
        return "silent", f"{mutation}: {read.structure} instead of {before.structure}"
    if read.structure == before.structure:
        return "as it says", ""
    try:
        says = each.says(content) if each.says else None
    except Exception as error:  # noqa: BLE001  what a strict reading refuses was read
        says = repr(error)
    if says == read.structure:
        return "as it says", ""
    return "silent", f"{mutation}: read {read.structure}, before {before.structure}, the file says {says}; {read.notes}"


def _sentence(each: Format, text: str, error: BaseException) -> tuple[str, str]:
    """One line that names the file and is for the user. An error that h5py or numpy raised is none."""
    name = Path(each.victim).name
    shown = text.replace("\n  ", " ")  # a list in YAML's error
    if NO_MEMORY.search(text):
        return "memory", text
    if isinstance(error, OSError) and error.filename:
        return "sentence", text
    if "\n" in shown.strip() or ADVICE.search(text) or re.search(r"cannot be used \(\w+: ", text):
        return (
            "traceback",
            f"no sentence for a user: {text!r}\n{''.join(traceback.format_tb(error.__traceback__)[-2:])}",
        )
    if not _names_it(each, text) and not re.search(r"\btrials?\b|events\.tsv|annotation", text):
        return "traceback", f"does not name {name}: {text!r}\n{''.join(traceback.format_tb(error.__traceback__)[-2:])}"
    return "sentence", text


def _names_it(each: Format, text: str) -> bool:
    """Or a file next to it, which does not fit to it any more."""
    victim = Path(each.victim)
    return re.split(r"[._]", victim.name)[0] in text or f"/{victim.parent.name}" in text or "sub-01.h5" in text


def one(each: Format, base: Path, place: Path, number: int, seed: int, before: Reading) -> Outcome:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, place)
    victim = place / each.victim
    content, mutation = mutated(each, victim.read_bytes(), number, seed)
    victim.write_bytes(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    here = os.getcwd()
    os.chdir(place)  # where hostile pickles would leave their traces
    try:
        word, text = judge(each, place, mutation, before, content)
    finally:
        os.chdir(here)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
    if grown > RESIDENT_BYTES:
        word, text = "memory", f"{grown >> 20} MiB; {text}"
    if (place / "was-run").exists():
        word, text = "traceback", "CODE OF THE FILE WAS RUN"
    return Outcome(each.name, number, seed, word, mutation, text)


def _work(pipe: Connection, bases: Path, before: dict[str, Reading], place: Path) -> None:
    """In a child: imports and pages are those of the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MORE_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    while True:
        try:
            name, number, seed = pipe.recv()
        except EOFError:
            os._exit(0)
        each = BY_NAME[name]
        pipe.send(one(each, bases / name.replace("/", "-"), place, number, seed, before[name]))


class _Child:
    def __init__(self, bases: Path, before: dict[str, Reading], place: Path) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_work, args=(theirs, bases, before, place), daemon=True)
        self.process.start()
        theirs.close()
        self.case: tuple[str, int, int] | None = None
        self.since = 0.0

    def give(self, case: tuple[str, int, int]) -> None:
        self.case, self.since = case, time.monotonic()
        self.pipe.send(case)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run(names: Sequence[str], numbers: Sequence[int], seed: int, jobs: int = 1) -> Iterator[Outcome]:
    """The outcome of each case, as they come. A child that hangs or crashes is replaced."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        bases, before = Path(folder, "bases"), {}
        for name in names:
            base = bases / name.replace("/", "-")
            base.mkdir(parents=True)
            BY_NAME[name].make(base)
            whole = Path(folder, "whole")
            shutil.copytree(base, whole)
            before[name] = BY_NAME[name].read(whole)
            shutil.rmtree(whole)
        cases = iter([(name, number, seed) for number in numbers for name in names])
        children = [_Child(bases, before, Path(folder, f"child-{n}")) for n in range(jobs)]
        try:
            yield from _cases(cases, children, lambda n: _Child(bases, before, Path(folder, f"child-{n}")))
        finally:
            for child in children:
                child.end()


def _cases(cases, children, again):  # type: ignore[no-untyped-def]
    for child in children:
        if case := next(cases, None):
            child.give(case)
    while busy := [child for child in children if child.case]:
        ready = multiprocessing.connection.wait([child.pipe for child in busy], timeout=0.5)
        for n, child in enumerate(children):
            if child.case is None:
                continue
            name, number, seed = child.case
            if child.pipe in ready:
                try:
                    outcome = child.pipe.recv()
                except EOFError:
                    child.process.join()
                    outcome = Outcome(
                        name, number, seed, "traceback", text=f"the process ended, {child.process.exitcode}"
                    )
            elif time.monotonic() - child.since > PATIENCE_S:
                outcome = Outcome(name, number, seed, "hang", text=f"longer than {PATIENCE_S:.0f} s")
            else:
                continue
            yield outcome
            if outcome.word in ("hang", "memory") or not child.process.is_alive():
                child.end()
                children[n] = child = again(n)
            child.case = None
            if case := next(cases, None):
                child.give(case)


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts, a line a format."""
    names = list(dict.fromkeys(each.format for each in outcomes))
    rows = [("format", *OUTCOMES)]
    for name in names:
        words = [each.word for each in outcomes if each.format == name]
        rows.append((name, *(str(words.count(word) or "-") for word in OUTCOMES)))
    words = [each.word for each in outcomes]
    rows.append((f"all {len(outcomes)}", *(str(words.count(word)) for word in OUTCOMES)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in rows
    )
