"""The preprocess run that a word means: a run's name, its folder, or a copy of its store."""

from dataclasses import dataclass
from pathlib import Path

from hpc.errors import ConfigError
from hpc.runs import products, records, status
from hpc.runs.rundir import RunDir

STAGE = "preprocess"


@dataclass(frozen=True)
class Meant:
    """The folder of a store, and the run that wrote it; None for a copy."""

    store: Path
    run: RunDir | None

    @property
    def name(self) -> str:
        return self.run.name if self.run else self.store.resolve().name


def find(word: str | Path, runs: str | Path = "runs") -> Meant:
    """Return the store that a word means. Raises ValueError if it is no run of preprocess, or has not finished."""
    path = Path(word)
    if (path / "plan.json").is_file():
        return _of_run(RunDir(path))
    if path.name == "out" and (path.parent / "plan.json").is_file():
        return _of_run(RunDir(path.parent))
    if (path / "manifest.json").is_file():
        return Meant(path, None)
    if path.is_dir() and str(word) not in [run.name for run in status.all_runs(runs)]:
        raise ValueError(f"{path} is neither a run nor a copy of its store, as it has no plan.json or manifest.json")
    try:
        return _of_run(status.find(str(word), runs))
    except ConfigError as error:
        raise ValueError(f"{error}; name a run of preprocess, or its folder") from None


def _of_run(run: RunDir) -> Meant:
    plan = records.plan(run)
    if plan.get("stage") != STAGE:
        read = [name for name in plan.get("inputs", {}).values() if name.startswith(f"{STAGE}-")]
        instead = f": it reads {', '.join(read)}, name that" if read else ""
        raise ValueError(f"{run.name} is a run of {plan.get('stage')}, and not of {STAGE}{instead}")
    if not run.result.is_file():
        raise ValueError(f"{run.name} has not finished: `hpc resume {products.option(run)}`")
    return Meant(run.out, run)
