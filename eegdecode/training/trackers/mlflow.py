"""MLflow: at the server that MLFLOW_TRACKING_URI names, else as files in the run folder."""

import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eegdecode.training.trackers.offline import PROJECT, is_reachable, secret
from eegdecode.training.trackers.tracker import LOSS, Histogram, Tracked
from hpc.runs.rundir import RunDir

log = logging.getLogger(__name__)

TAG = "hpc.run"
PARAMS_AT_ONCE, LONGEST = 100, 500
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


class MLflow:
    name, title = "mlflow", "MLflow"
    waits = True

    def __init__(self, tracked: Tracked, address: str = "") -> None:
        """`address`: where it is written, if not by the rule of `where`."""
        self.tracked, self.address = tracked, address
        self._client: Any = None
        self._run_id = ""

    def begin(self, safe: int) -> int:
        run = self.tracked.run
        address, why = (self.address, "") if self.address else where(run, os.environ)
        self._client = client(address)
        if why:
            log.info("MLflow is written to %s, as %s: `hpc sync %s` brings it to a server", store(run), why, run.name)
        self._run_id, is_new = self._find()
        if is_new:
            self._params()
        else:
            self._client.update_run(self._run_id, status="RUNNING")
        history = self._client.get_metric_history(self._run_id, LOSS)
        return max((metric.step for metric in history), default=0)

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._run_id, [Metric(name, value, now, step) for name, value in figures.items()])

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._client.log_image(self._run_id, pixels, key=name, step=step)

    def sound(self, step: int, name: str, samples: np.ndarray, sfreq: int) -> None:
        import soundfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"step-{step:08d}.wav"
            soundfile.write(path, samples, sfreq)
            self._client.log_artifact(self._run_id, str(path), f"sounds/{name}")

    def histogram(self, step: int, name: str, histogram: Histogram) -> None:
        """MLflow shows none."""

    def summary(self, step: int, figures: Mapping[str, float]) -> None:
        self.scalars(step, figures)

    def flush(self) -> None:
        """Each call is written at once."""

    def close(self, finished: bool) -> None:
        self._client.set_terminated(self._run_id, "FINISHED" if finished else "KILLED")

    def _find(self) -> tuple[str, bool]:
        """The run of an earlier attempt, by its tag, or a new one; and whether it is new."""
        experiment = experiment_of(self._client)
        there = self._client.search_runs([experiment], f"tags.`{TAG}` = '{self.tracked.id}'", max_results=1)
        if there:
            return str(there[0].info.run_id), False
        tags = {TAG: self.tracked.id}
        return str(self._client.create_run(experiment, run_name=self.tracked.title, tags=tags).info.run_id), True

    def _params(self) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)[:LONGEST]) for name, value in self.tracked.settings.items()]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(self._run_id, params=params[first : first + PARAMS_AT_ONCE])


def experiment_of(server: Any) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    there = server.get_experiment_by_name(name)
    return str(there.experiment_id if there else server.create_experiment(name))


def client(address: str) -> Any:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if address.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in SECRETS:
        if name not in os.environ and (value := secret(name, os.environ)):
            os.environ[name] = value  # MLflow reads them nowhere else
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address)


def store(run: RunDir) -> Path:
    return run.path / "mlruns"


def where(run: RunDir, environ: Mapping[str, str]) -> tuple[str, str]:
    """Where a run is written, and why it is not a server. One that has begun in its folder stays there until it is
    synced."""
    here, named = store(run).absolute().as_uri(), environ.get("MLFLOW_TRACKING_URI", "")
    if store(run).is_dir():
        return here, "it has begun so"
    if not named:
        return here, "MLFLOW_TRACKING_URI names no server"
    if named.startswith("http") and not is_reachable(named):
        return here, "this node does not reach the server of MLFLOW_TRACKING_URI"
    return named, ""
