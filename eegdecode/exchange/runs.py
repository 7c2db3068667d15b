"""The run that a word means: a run's name, its folder, or a copy of what it has made."""

from dataclasses import dataclass
from pathlib import Path

from hpc.errors import ConfigError
from hpc.runs import products, records, status
from hpc.runs.rundir import RunDir

STAGE = "preprocess"
MODELS = ("train", "soup")
"""The stages that leave a model.pt."""
PROGRAMS = {".pt2": "torch.export.load", ".onnx": "ONNX Runtime"}
"""What runs a file of export-model, by its ending."""


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


def find_model(word: str | Path, runs: str | Path = "runs") -> Path:
    """Return the file of a trained model that a word means: a train or soup run, its folder, a copy of its `out`, or
    the file itself. Raises ValueError if there is none."""
    path = Path(word)
    if path.suffix in PROGRAMS and path.is_file():
        runner = PROGRAMS[path.suffix]
        raise ValueError(
            f"{path} is a program, as export-model writes them: {runner} runs it; name a train run instead"
        )
    if path.is_file():
        return path
    if (path / "plan.json").is_file():
        return _finished(RunDir(path), MODELS).out / "model.pt"
    if path.name == "out" and (path.parent / "plan.json").is_file():
        return _finished(RunDir(path.parent), MODELS).out / "model.pt"
    if (path / "model.pt").is_file():
        return path / "model.pt"
    if path.suffix == ".pt" or (path.is_dir() and str(word) not in [run.name for run in status.all_runs(runs)]):
        raise ValueError(f"{path} is no model: name a train run, its folder, or its model.pt")
    try:
        return _finished(status.find(str(word), runs), MODELS).out / "model.pt"
    except ConfigError as error:
        raise ValueError(f"{error}; name a train run, or its model.pt") from None


def _of_run(run: RunDir) -> Meant:
    return Meant(_finished(run, (STAGE,)).out, run)


def _finished(run: RunDir, stages: tuple[str, ...]) -> RunDir:
    """Return the run; refuses one of another stage, and one that has not finished."""
    plan = records.plan(run)
    if plan.get("stage") not in stages:
        inputs = plan.get("inputs", {}).values()
        read = [name for name in inputs if name.rpartition("/")[2].startswith(tuple(f"{stage}-" for stage in stages))]
        instead = f": it reads {', '.join(read)}, name that" if read else ""
        raise ValueError(f"{run.name} is a run of {plan.get('stage')}, and not of {' or '.join(stages)}{instead}")
    if not run.result.is_file():
        raise ValueError(f"{run.name} has not finished: `hpc resume {products.option(run)}`")
    return run
