"""How surely each recipe finds what is planted: `python -m bench recipes [NAME] [--quick]`.

Each of configs/recipes at its tiny size on studies of five seeds, trained with the same seeds as on three processors
(torch's portable kernels, those of AVX2, and this machine's own), with one thread and with two. The margin is what is
found beyond chance, by what the recipe's test asks (bench/effects.py): 1 is just enough. --quick: two seeds, the first
and the last of the processors, one thread.

A study is made and preprocessed once a seed, by this machine as it is: what another makes of it differs by float32's
rounding, and so do their trainings after the first step. What was measured stands in runs/bench-recipes. Stopped by
Ctrl-C it shows the worst so far; started again it goes on, unless eegdecode or the recipe has changed since.
"""

import functools
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from bench import effects
from bench.compare import Goal, judged
from hpc import config
from hpc.config import stages
from hpc.plan import plan
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir, write_json

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "bench-recipes"
MARGIN = 1.5
MAKING = ("synthesize", "preprocess")

PROCESSORS = {
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "native": {},
}
"""What makes another processor of this one, for the kernels of torch, oneDNN, OpenBLAS and MKL."""


@dataclass(frozen=True)
class Machine:
    """A processor that this one is taken for, and the threads of a training."""

    processor: str
    threads: int = 1

    def environ(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in PROCESSORS["default"]}
        # A thread that waits leaves its core to others: what is computed is the same
        own = {"OMP_NUM_THREADS": str(self.threads), "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        return inherited | own | PROCESSORS[self.processor]

    def __str__(self) -> str:
        return f"{self.processor}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True)
class Measured:
    """What a recipe found on the study of a seed, trained with that seed as on one machine."""

    recipe: str
    figure: str
    value: float
    chance: float
    seed: int
    processor: str
    threads: int
    of: str
    """What it is true of: see `_identity`."""

    @property
    def machine(self) -> Machine:
        return Machine(self.processor, self.threads)

    @property
    def size(self) -> effects.Size:
        (effect,) = (effect for effect in effects.effects(self.recipe) if effect.figure == self.figure)
        return effects.Size(effect, self.value, self.chance)

    @property
    def margin(self) -> float:
        return self.size.margin


def run(quick: bool, name: str = "") -> bool:
    if name and name not in effects.EFFECTS:
        print(f"there is no recipe {name!r}: choose from {', '.join(effects.EFFECTS)}", file=sys.stderr)
        raise SystemExit(2)
    begun = {effect.after for effect in effects.EFFECTS.values()}  # measured with those that begin with them
    names = [name] if name else [each for each in effects.EFFECTS if each not in begun]
    processors = ["default", "native"] if quick else list(PROCESSORS)
    machines = [Machine(processor, n) for n in ((1,) if quick else (1, 2)) for processor in processors]
    seeds = range(2 if quick else 5)
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"{'':<26}{'figure':<14}{'worst margin':>12}{'median':>8}{'is':>8}{'by chance':>11}  where it is worst")
    goals: dict[str, Goal] = {}
    for each in names:
        courses = [(seed, machine) for machine in machines for seed in seeds]
        try:
            _measure(each, courses)
        except KeyboardInterrupt:
            _show(each, courses)
            print(f"stopped in {each}: nothing is judged; the same command goes on from here", flush=True)
            return False
        goals |= {key: Goal(margin, MARGIN, at_least=True) for key, margin in _show(each, courses).items()}
    return judged(goals)


Courses = Sequence[tuple[int, Machine]]
"""Seeds, and as on which machine."""


def _show(name: str, courses: Courses) -> dict[str, float]:
    """Print a line for each effect of what was measured of a recipe; gives the worst margin of each."""
    worst = {}
    measured = _known(name, courses)
    for recipe, figure in dict.fromkeys((each.recipe, each.figure) for each in measured):
        own = [each for each in measured if (each.recipe, each.figure) == (recipe, figure)]
        least, median = min(own, key=lambda each: each.margin), statistics.median(each.margin for each in own)
        where = f"seed {least.seed}, {least.machine}"
        part = f" ({len(own)} of {len(courses)} measured)" if len(own) < len(courses) else ""
        numbers = f"{least.margin:>12.2f}{median:>8.2f}{least.value:>8.3f}{least.chance:>11.3f}"
        print(f"{recipe:<26}{figure:<14}{numbers}  {where}{part}", flush=True)
        worst[f"{recipe}_{figure}"] = least.margin
    return worst


def _known(name: str, courses: Courses) -> list[Measured]:
    """What is known of these courses, from now and from before."""
    place = FOLDER / "margins.jsonl"
    lines = place.read_text().splitlines() if place.exists() else []
    every = dict.fromkeys(Measured(**json.loads(line)) for line in lines if line.endswith("}"))  # a kill cuts the last
    asked = {(seed, machine, _identity(name, seed, seed)) for seed, machine in courses}
    return [each for each in every if (each.seed, each.machine, each.of) in asked]


@functools.cache
def _identity(name: str, study: int, training: int) -> str:
    """Of all that decides what a recipe finds, but for the machine."""
    computed = [science.name for _, science in effects.seeded(name, study, training)]
    return hashlib.sha256(json.dumps([_code(), version("torch"), computed]).encode()).hexdigest()[:16]


@functools.cache
def _code() -> str:
    texts = (path.read_bytes() for path in sorted((ROOT / "eegdecode").rglob("*.py")))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _measure(name: str, courses: Courses) -> None:
    """Measure what is not known of these courses, as many at a time as there are cores."""
    known = {(each.seed, each.machine) for each in _known(name, courses) if each.recipe == name}
    left = [course for course in courses if course not in known]
    with tempfile.TemporaryDirectory(prefix="recipe-", dir=FOLDER) as store:
        _side_by_side([(Machine("native"), "prepare", name, store, {seed for seed, _ in left})])
        for threads in sorted({machine.threads for _, machine in left}):
            _side_by_side([
                (machine, "measure", name, store, {seed for seed, where in left if where == machine})
                for machine in dict.fromkeys(machine for _, machine in left) if machine.threads == threads
            ])  # fmt: skip


def _side_by_side(jobs: Sequence[tuple[Machine, str, str, str, set[int]]]) -> None:
    """Run these, each in processes of its own with every second seed, and write down what they say."""
    halves = [
        (machine, [what, name, store, *(f"{seed}/{seed}" for seed in half)])
        for machine, what, name, store, seeds in jobs
        for half in (sorted(seeds)[::2], sorted(seeds)[1::2])
        if half
    ]
    if not halves:
        return
    running: list[subprocess.Popen[str]] = []
    n = max(1, (os.cpu_count() or 1) // halves[0][0].threads)
    with ThreadPoolExecutor(n) as pool:
        waiting = [pool.submit(_run, machine, words, running) for machine, words in halves]
        try:
            for future in as_completed(waiting):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise


def child(machine: Machine, *words: str) -> list[str]:
    """The command of a process that is to be as on that machine: see `main`."""
    return [sys.executable, "-m", "bench.recipes", machine.processor, str(machine.threads), *words]


def _run(machine: Machine, words: Sequence[str], running: list["subprocess.Popen[str]"]) -> None:
    command = child(machine, *words)
    with (
        tempfile.TemporaryFile("w+") as errors,
        open(FOLDER / "margins.jsonl", "a") as known,
        subprocess.Popen(
            command, cwd=ROOT, env=machine.environ(), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            known.write(line)  # whole, at once: others write there too
            known.flush()
            if sys.stderr.isatty():
                row = json.loads(line)
                print(f"\r{row['recipe']}: seed {row['seed']}, {machine} is measured\033[K\r", end="", file=sys.stderr)
        if process.wait() > 0:
            errors.seek(0)
            raise RuntimeError(
                f"{' '.join(command)} ended with exit code {process.returncode}\n{errors.read()[-2000:]}"
            )


def prepare(name: str, study: int, training: int, store: Path) -> None:
    """Make the studies of a recipe, and of the one that it begins with, and preprocess them."""
    for _, science in effects.seeded(name, study, training):
        if science.stage in MAKING:
            _compute(science, store)


def measure(name: str, study: int, training: int, store: Path, folder: Path) -> Iterator[tuple[str, effects.Size]]:
    """Train a recipe, after the one that it begins with, on what stands in `store`: what each finds."""
    folder.mkdir(parents=True, exist_ok=True)
    for recipe, science in effects.seeded(name, study, training):
        sought = [effect for effect in effects.effects(recipe) if effect.section == science.section]
        if science.stage in MAKING:
            (folder / science.name).symlink_to(store / science.name)
        elif sought or science.stage == "train":
            run = _compute(science, folder)
            yield from ((recipe, effect.size(run)) for effect in sought)


def _compute(science: plan.Science, folder: Path) -> RunDir:
    """Run a stage in this process; it leaves what the command line would, but for the logs."""
    run = RunDir(folder / science.name)
    if not run.result.exists():
        stage = stages.load(science.entry)
        cfg = config.build(stages.schema(stage), science.config, science.stage)
        write_json(run.result, {"metrics": stage(cfg, Context(World(), run))})
    return run


def main(processor: str, threads: str, what: str, name: str, store: str, *seeds: str) -> None:
    """A child: prepares or measures, with seeds as STUDY/TRAINING; prints what it measured, a line of JSON each."""
    lines, sys.stdout = sys.stdout, sys.stderr  # what stages and mne print is none of them
    for study, training in (map(int, pair.split("/")) for pair in seeds):
        if what == "prepare":
            prepare(name, study, training, Path(store))
            continue
        with tempfile.TemporaryDirectory() as folder:
            for recipe, size in measure(name, study, training, Path(store), Path(folder)):
                where = (training, processor, int(threads), _identity(name, study, training))
                row = Measured(recipe, size.effect.figure, size.value, size.chance, *where)
                print(json.dumps(asdict(row)), file=lines, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
