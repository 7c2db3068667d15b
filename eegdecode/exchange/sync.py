"""Bring what trackers wrote offline in a run folder to their servers: `hpc sync RUN`, from a machine with internet."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegdecode.training.trackers import mlflow, wandb
from eegdecode.training.trackers.installed import how_to_install, missing
from eegdecode.training.trackers.offline import secret
from hpc.errors import ConfigError
from hpc.media import many
from hpc.runs import status
from hpc.runs.rundir import RunDir

AT_ONCE = 1000
"""Figures that a server of MLflow takes in one request, at most."""


@dataclass(frozen=True)
class Sync:
    """Where to look."""

    runs: str = "runs"  # the folder that holds the run folders


def run(cfg: Sync, files: Sequence[Path], as_json: bool) -> str:
    """Send what trackers wrote offline in a run to Weights & Biases and MLflow.

    WANDB_API_KEY and MLFLOW_TRACKING_URI say where; what is there already is not sent twice.

    python -m hpc.launch sync RUN
    """
    several = [_run(file, cfg.runs) for file in files]
    sent = {each.name: _sync(each, os.environ) for each in several}
    if as_json:
        return json.dumps(sent)
    lines = [f"{name}: {sentence}" for name, sentences in sent.items() for sentence in sentences]
    return "\n".join(lines)


def _run(word: Path, runs: str) -> RunDir:
    if (word / "plan.json").is_file():
        return RunDir(word)
    try:
        return status.find(str(word), runs)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _sync(run: RunDir, environ: Mapping[str, str]) -> list[str]:
    """Sentences about what was done. Raises ValueError if a server or a token is missing."""
    todo: dict[str, tuple[bool, Callable[[RunDir, Mapping[str, str]], str]]] = {
        "wandb": (bool(wandb.unsynced(run.path)), _wandb),
        "mlflow": (mlflow.store(run).is_dir(), _mlflow),
    }
    offline = [name for name, (is_offline, _) in todo.items() if is_offline]
    if absent := [name for name in offline if missing([name])]:
        raise ValueError(f"{run.name} has curves for {absent[0]}, which is not installed: {how_to_install(absent[0])}")
    done: list[str] = []
    failed: list[str] = []
    for name in offline:
        try:
            done.append(todo[name][1](run, environ))
        except ValueError as error:
            failed.append(str(error))
    if failed:
        raise ValueError(". ".join([*failed, *(f"But {sentence}" for sentence in done)]))
    return done or ["nothing was written offline that is not synced"]


def _wandb(run: RunDir, environ: Mapping[str, str]) -> str:
    """Its own command sends the files of all attempts one after another, and marks each that it has sent."""
    key = secret("WANDB_API_KEY", environ)
    command = [sys.executable, "-m", "wandb", "sync", str(run.path.resolve() / "wandb")]
    before = wandb.unsynced(run.path)
    own = {**environ, "WANDB_MODE": "online", **({"WANDB_API_KEY": key} if key else {})}
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    left = wandb.unsynced(run.path)
    if left:
        said = (done.stderr.strip() or done.stdout.strip()).replace(key or "\0", "…").splitlines()
        raise ValueError(
            f"{run.name}: Weights & Biases took {len(before) - len(left)} of {many(len(before), 'file')} "
            f"({said[-1] if said else 'it said nothing'}): set WANDB_API_KEY, or `wandb login`, and try again"
        )
    return f"Weights & Biases has taken {many(len(before), 'file')}"


def _mlflow(run: RunDir, environ: Mapping[str, str]) -> str:
    address = environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        raise ValueError(f"{run.name} has curves for MLflow: name the server in MLFLOW_TRACKING_URI")
    here, there = mlflow.client(mlflow.store(run).absolute().as_uri()), mlflow.client(address)
    experiments = [one.experiment_id for one in here.search_experiments()]
    n_figures = sum(_copied(here, there, one) for one in here.search_runs(experiments))
    return f"MLflow has got {many(n_figures, 'figure')} that it did not have"


def _copied(here: Any, there: Any, one: Any) -> int:
    """Copy a run to a server, or what it lacks there. Returns the number of figures."""
    from mlflow.entities import Param

    experiment = mlflow.experiment_of(there)
    tag = one.data.tags[mlflow.TAG]
    known = there.search_runs([experiment], f"tags.`{mlflow.TAG}` = '{tag}'", max_results=1)
    tags = {name: value for name, value in one.data.tags.items() if not name.startswith("mlflow.")}
    run = known[0] if known else there.create_run(experiment, one.info.start_time, tags, one.info.run_name)
    run_id, n_figures = run.info.run_id, 0
    params = [Param(name, value) for name, value in one.data.params.items() if name not in run.data.params]
    for first in range(0, len(params), mlflow.PARAMS_AT_ONCE):
        there.log_batch(run_id, params=params[first : first + mlflow.PARAMS_AT_ONCE])
    for name in sorted(one.data.metrics):
        theirs = {metric.step for metric in there.get_metric_history(run_id, name)}
        new = [metric for metric in here.get_metric_history(one.info.run_id, name) if metric.step not in theirs]
        for first in range(0, len(new), AT_ONCE):
            there.log_batch(run_id, new[first : first + AT_ONCE])
        n_figures += len(new)
    has = set(_artifacts(there, run_id))
    with tempfile.TemporaryDirectory() as folder:
        for name in set(_artifacts(here, one.info.run_id)) - has:
            path = here.download_artifacts(one.info.run_id, name, folder)
            there.log_artifact(run_id, path, str(Path(name).parent))
    there.set_terminated(run_id, one.info.status)
    return n_figures


def _artifacts(server: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    """The names of files of a run, with their folders."""
    for each in server.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from _artifacts(server, run_id, each.path)
        else:
            yield each.path
