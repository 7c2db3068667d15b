"""A run has one curve in each tracker, whatever stopped it, and a tracker that fails stops nothing."""

import importlib.util
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from eegdecode.exchange import sync
from eegdecode.training.config import Watch
from eegdecode.training.monitor.logger import Record
from eegdecode.training.trackers import choice, feed, installed, wandb_file
from eegdecode.training.trackers import mlflow as our_mlflow
from eegdecode.training.trackers.feed import Feed, Trackers
from eegdecode.training.trackers.tensorboard import TensorBoard
from eegdecode.training.trackers.tracker import Histogram, named, tracked
from hpc.errors import ConfigError
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir, write_json
from tests.eegdecode.wandb_server import WandbServer

CONFIG: dict[str, Any] = {
    "model": {"name": "eegnet", "f1": 8},
    "target": "envelope",
    "optim": {"lr": 1e-3, "betas": [0.9, 0.99], "halving": None},
    "watch": {"trackers": ["tensorboard"]},
    "seed": 3,
}
WAIT_S = 120.0
"""For a tracker's thread; nothing is asserted about how long it takes."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's key, and no server."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # it reads the environment once a process
    for name in (
        "WANDB_BASE_URL",
        "WANDB_API_KEY",
        "WANDB_MODE",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
        "WANDB_PROJECT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HPC_SECRETS", str(tmp_path / "secrets"))


def attempt(run: RunDir, name: str, first: int, last: int, finished: bool = False) -> None:
    """The steps after `first`, up to `last`, as Training logs them: with a picture before each second line."""
    context = Context(World(), run)
    record = Record(context, first, trackers=Trackers(choice.feeds([name], tracked(run, CONFIG))))
    for step in range(first + 1, last + 1):
        line = {"loss": 1 / step, "lr": 1e-3, "seconds": 0.1}
        if step % 2 == 0:
            record.show(lambda trackers, step=step: show(trackers, step))  # type: ignore[misc]
            line |= {"val_loss": 2 / step, "validation_s": 0.5}
        record._put_at = -1e9  # at once, also on a shared disk
        record.write(step, line)
    record.flush()
    if finished:
        record.trackers.summary(last, {"best/loss": 0.25})
    record.trackers.close(finished, WAIT_S)


def show(trackers: Trackers, step: int) -> None:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([step, 2])
    trackers.picture(step, "example 0", figure)
    trackers.sound(step, "example 0/decoded", np.sin(np.arange(800) / 5).astype(np.float32), 8000)
    trackers.histogram(step, "parameters/w", np.arange(9.0))


def in_tensorboard(run: RunDir) -> dict[str, list[int]]:
    shown = EventAccumulator(str(run.tensorboard), size_guidance={"images": 0, "audio": 0}).Reload()
    tags = shown.Tags()
    assert tags["histograms"] == ["parameters/w"] and tags["audio"] == ["example 0/decoded"]
    return {
        **{tag: [event.step for event in shown.Scalars(tag)] for tag in tags["scalars"]},
        "picture": [event.step for event in shown.Images("example 0")],
    }


def in_wandb(run: RunDir) -> dict[str, list[int]]:
    """What the server would get: the files one after another."""
    steps: dict[str, list[int]] = {}
    for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_file.records(path):
            for name in wandb_file.names(record.history) if record.HasField("history") else ():
                steps.setdefault(name, []).append(record.history.step.num)
    assert steps["parameters/w"] == steps["example 0/decoded"] == steps["example 0"]
    return steps | {"picture": steps["example 0"]}


def in_mlflow(run: RunDir) -> dict[str, list[int]]:
    server = our_mlflow.client(our_mlflow.store(run).as_uri())
    (there,) = server.search_runs([our_mlflow.experiment_of(server)])
    assert there.data.params["optim.lr"] == "0.001" and there.data.params["optim.halving"] == "none"
    assert there.info.status == "FINISHED" and there.info.run_name.startswith("eegnet envelope seed 3 · ")
    sounds = [Path(file.path).name for file in server.list_artifacts(there.info.run_id, "sounds/example 0/decoded")]
    assert sounds == [f"step-{step:08d}.wav" for step in (2, 4, 6, 8)]
    history = {name: server.get_metric_history(there.info.run_id, name) for name in there.data.metrics}
    images = [re.split("[%+]step[%+]", file.path)[1] for file in server.list_artifacts(there.info.run_id, "images")]
    steps = {name: [metric.step for metric in metrics] for name, metrics in history.items()}
    return steps | {"picture": sorted({int(re.split("[%+]", name)[0]) for name in images})}


READ = {"tensorboard": in_tensorboard, "wandb": in_wandb, "mlflow": in_mlflow}


@pytest.mark.parametrize("name", READ)
def test_a_run_that_was_killed_and_stopped_has_one_curve_and_no_point_twice(tmp_path: Path, name: str) -> None:
    """The first attempt is killed after step 6, and had saved step 3; the second is stopped after step 7."""
    if installed.missing([name]):
        pytest.skip(f"{name} is not installed")
    run = RunDir(tmp_path / "train-k3f9")
    attempt(run, name, 0, 6)
    attempt(run, name, 3, 7)
    attempt(run, name, 7, 8, finished=True)
    steps = READ[name](run)
    assert steps["train/loss"] == steps["train/lr"] == steps["time/step_s"] == list(range(1, 9))
    assert steps["validation/loss"] == steps["picture"] == [2, 4, 6, 8]
    if name != "wandb":  # there it is in the summary
        assert steps["best/loss"] == [8]


def test_a_file_of_wandb_is_whole_when_the_end_of_the_run_is_in_it(tmp_path: Path) -> None:
    """Its own process writes it, and may go on when our thread has been told that the run is finished."""
    if installed.missing(["wandb"]):
        pytest.skip("wandb is not installed")
    run = RunDir(tmp_path / "train-k3f9")
    attempt(run, "wandb", 0, 2, finished=True)
    (path,) = run.path.glob("wandb/offline-run-*/*.wandb")
    assert wandb_file.is_whole(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert wandb_file.last_step(path, "train/loss") == 2 and not wandb_file.is_whole(path)
    assert not wandb_file.is_whole(tmp_path / "not-there")


@pytest.mark.parametrize("online", [False, True])
def test_a_server_of_wandb_gets_one_curve_of_a_run_that_was_requeued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, online: bool
) -> None:
    """Online each attempt, or offline and synced afterwards, in two parts."""
    if installed.missing(["wandb"]):
        pytest.skip("wandb is not installed")
    run = RunDir(tmp_path / "runs" / "train-k3f9")
    write_json(run.plan, {"stage": "train", "identity": "0123456789abcdef"})
    with WandbServer() as server:
        if online:
            server.enter(monkeypatch)
        attempt(run, "wandb", 0, 6)
        attempt(run, "wandb", 3, 8, finished=True)
        choice.show_test(run, CONFIG | {"watch": {"trackers": ["wandb"]}}, 8, {"r": 0.5}, Context(World(), RunDir("e")))
        server.enter(monkeypatch)
        if not online:
            assert sync.run(sync.Sync(), [run.path], as_json=False) == "train-k3f9: Weights & Biases has taken 3 files"
        assert sync.run(sync.Sync(), [run.path], as_json=False).endswith(
            "nothing was written offline that is not synced"
        )
    assert server.histories.keys() == {"train-k3f9-01234567"}
    rows = server.histories["train-k3f9-01234567"]
    assert [row["_step"] for row in rows if "train/loss" in row] == list(range(1, 9))
    assert [row["_step"] for row in rows if "example 0" in row] == [2, 4, 6, 8]


def test_sync_says_what_is_missing_and_copies_to_a_server_of_mlflow_what_that_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed.missing(["wandb", "mlflow"]):
        pytest.skip("wandb and mlflow are not installed")
    run, server = RunDir(tmp_path / "runs" / "train-k3f9"), (tmp_path / "server").as_uri()
    write_json(run.plan, {"stage": "train", "identity": "0123456789abcdef"})
    with pytest.raises((ValueError, ConfigError), match="there is no run 'nothing'"):
        sync.run(sync.Sync(str(tmp_path)), [Path("nothing")], as_json=False)
    attempt(run, "mlflow", 0, 4)
    with pytest.raises(ValueError, match="has curves for MLflow: name the server in MLFLOW_TRACKING_URI"):
        sync.run(sync.Sync(), [run.path], as_json=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert sync.run(sync.Sync(), [run.path], as_json=False).endswith("MLflow has got 16 figures that it did not have")
    attempt(run, "mlflow", 4, 5)
    assert sync.run(sync.Sync(), [run.path], as_json=False).endswith("MLflow has got 3 figures that it did not have")
    there = our_mlflow.client(server)
    (copy,) = there.search_runs([our_mlflow.experiment_of(there)])
    assert [metric.step for metric in there.get_metric_history(copy.info.run_id, "train/loss")] == [1, 2, 3, 4, 5]
    assert len(there.list_artifacts(copy.info.run_id, "images")) == 4  # of two pictures, in two sizes each
    (run.path / "wandb" / "offline-run-x").mkdir(parents=True)
    (run.path / "wandb" / "offline-run-x" / "run-x.wandb").write_bytes(b"")
    with pytest.raises(ValueError, match="took 0 of 1 file .*API key.*: set WANDB_API_KEY, or `wandb login`"):
        sync.run(sync.Sync(), [run.path], as_json=False)


def test_lines_that_a_tracker_never_got_are_sent_by_the_next_attempt(tmp_path: Path) -> None:
    """A node that went down, before anything was written."""
    if installed.missing(["mlflow"]):
        pytest.skip("mlflow is not installed")
    run = RunDir(tmp_path / "train-k3f9")
    record = Record(Context(World(), run), 0)
    for step in range(1, 6):
        record.write(step, {"loss": 1 / step})
    record.close()
    record = Record(Context(World(), run), 5, trackers=Trackers(choice.feeds(["mlflow"], tracked(run, CONFIG))))
    record.close()
    server = our_mlflow.client(our_mlflow.store(run).as_uri())
    (there,) = server.search_runs([our_mlflow.experiment_of(server)])
    assert [metric.step for metric in server.get_metric_history(there.info.run_id, "train/loss")] == [1, 2, 3, 4, 5]


class Server:
    """A tracker whose server is down, until it is not."""

    name, title, waits = "tensorboard", "TensorBoard", False

    def __init__(self) -> None:
        self.down: Exception | None = None
        self.steps: list[int] = []
        self.closed = False

    def begin(self, safe: int) -> int:
        if self.down:
            raise self.down
        return max(self.steps, default=safe)

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        if self.down:
            raise self.down
        self.steps.append(step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None: ...
    def sound(self, step: int, name: str, samples: np.ndarray, sfreq: int) -> None: ...
    def histogram(self, step: int, name: str, histogram: Histogram) -> None: ...
    def summary(self, step: int, figures: Mapping[str, float]) -> None: ...
    def flush(self) -> None: ...
    def close(self, finished: bool) -> None:
        self.closed = True


def test_a_tracker_that_fails_is_named_once_and_later_gets_what_it_lacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "AGAIN_S", 0.0)
    run, server = RunDir(tmp_path / "train-k3f9"), Server()
    record = Record(Context(World(), run), 0, trackers=Trackers([Feed(server, tracked(run, CONFIG))]))
    for step in range(1, 8):
        server.down = RuntimeError("https://ala:planted7f3a@example.org is away") if 3 <= step < 6 else None
        record.write(step, {"loss": 1 / step, "validation_s": 0.1})
    record.close({"step": 7})
    assert server.steps == list(range(1, 8)) and server.closed
    assert caplog.text.count("TensorBoard cannot be written: RuntimeError. The run goes on; it is tried again") == 1
    assert "planted7f3a" not in caplog.text


def test_a_tracker_that_hangs_is_left_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, server = RunDir(tmp_path / "train-k3f9"), Server()
    server.waits = True
    server.begin = lambda safe: __import__("threading").Event().wait()  # type: ignore[assignment]
    trackers = Trackers([Feed(server, tracked(run, CONFIG))])
    trackers.begin()
    for step in range(feed.WAITING + 2):
        trackers.line({"step": step, "loss": 1.0})
    trackers.close(seconds=0.05)
    assert "TensorBoard is behind" in caplog.text and "TensorBoard has not got all" in caplog.text


def test_one_that_is_not_installed_is_named_in_the_plan_and_when_the_run_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == "wandb" else real(name))
    sentence = installed.missing(["tensorboard", "wandb"])
    assert sentence.startswith("watch.trackers names wandb, which is not installed: the run goes on without it, or ")
    assert "--extras wandb" in sentence and not installed.missing(["tensorboard"])
    run, server = RunDir(tmp_path / "train-k3f9"), Server()
    server.name, server.down = "wandb", ImportError("no module wandb")
    trackers = Trackers([Feed(server, tracked(run, CONFIG))])
    trackers.begin()
    trackers.close()
    assert "TensorBoard cannot be written: ImportError. The run goes on; install it with" in caplog.text
    assert not server.closed


def test_what_needs_nothing_heavy_names_a_folder_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wandb/` in the working directory, as its users have it, can be imported as a package without code."""
    (tmp_path / "planted_tracker").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "names planted_tracker, which is not installed" in installed.missing(["planted_tracker"])


def test_tensorboard_has_the_settings_beside_final_figures_and_those_of_the_test_set(tmp_path: Path) -> None:
    """In one run of its list, with the columns of each run as they are: no Experiment of hparams fixes them."""
    run = RunDir(tmp_path / "train-k3f9")
    attempt(run, "tensorboard", 0, 2, finished=True)
    for accuracy in (0.1, 0.75):  # an evaluation that is done again replaces what it has shown
        choice.show_test(run, CONFIG, 2, {"accuracy": accuracy}, Context(World(), RunDir(tmp_path / "evaluate-x")))
    shown = EventAccumulator(str(run.tensorboard)).Reload()
    assert [event.value for event in shown.Scalars("test/accuracy")] == [0.75]
    assert shown.Scalars("best/loss")[0].value == 0.25
    content = {tag: shown.SummaryMetadata(tag).plugin_data.content for tag in shown.PluginTagToContent("hparams")}
    assert content.keys() == {metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG}
    start = HParamsPluginData.FromString(content[metadata.SESSION_START_INFO_TAG]).session_start_info.hparams
    assert start["model.name"].string_value == "eegnet" and start["optim.lr"].number_value == 1e-3
    assert "watch.trackers" not in start
    copied = RunDir(tmp_path / "copied")
    choice.show_test(copied, CONFIG, 2, {"accuracy": 1.0}, Context(World(), RunDir(tmp_path / "evaluate-x")))
    assert not copied.path.exists()


def test_figures_are_grouped_by_what_they_are_of() -> None:
    line = {"step": 3, "loss": 1.0, "val_loss": 2.0, "lr": 0.1, "seconds": 0.2, "data_wait_s": 0.0}
    assert list(named(line)) == ["time/data_wait_s", "time/step_s", "train/lr", "validation/loss", "train/loss"]


def test_a_replay_is_another_run_and_a_later_attempt_is_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "train-k3f9")
    assert tracked(run, CONFIG).id == tracked(run, CONFIG).id != tracked(RunDir(tmp_path / "b/train-k3f9"), CONFIG).id
    assert tracked(run, CONFIG).main == {
        "model.name": "eegnet", "model.f1": 8, "target": "envelope", "optim.lr": 1e-3, "seed": 3,
    }  # fmt: skip


def test_ranks_but_the_first_have_no_tracker_and_each_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names each once, got wandb, wandb"):
        Watch(trackers=("wandb", "wandb"))
    assert Watch().trackers == ("tensorboard",) == choice.DEFAULT


def test_a_writer_on_a_full_disk_shows_what_is_missing_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "AGAIN_S", 0.0)
    run = RunDir(tmp_path / "train-k3f9")
    run.path.mkdir()
    run.tensorboard.write_text("in the way")
    record = Record(
        Context(World(), run), 0, trackers=Trackers([Feed(TensorBoard(tracked(run, CONFIG)), tracked(run, CONFIG))])
    )
    with caplog.at_level(logging.WARNING):
        record.write(1, {"loss": 1.0})
    assert "TensorBoard cannot be written: File exists" in caplog.text
    run.tensorboard.unlink()
    record._put_at = -1e9
    record.write(2, {"loss": 0.5})
    record.close()
    shown = EventAccumulator(str(run.tensorboard)).Reload()
    assert [event.step for event in shown.Scalars("train/loss")] == [1, 2]
