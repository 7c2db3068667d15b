"""Windows of the same stimulus are averaged before they are decoded, for the network and for linear decoders alike."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegdecode import stages
from eegdecode.data.config import EpochWindows, Split
from eegdecode.data.loading.windows import Places
from eegdecode.data.store import store
from eegdecode.evaluation.config import Evaluate, Scoring
from eegdecode.evaluation.decode.averaging import by_stimulus
from eegdecode.models.lfcnn import LFCNN
from eegdecode.objectives.regression import Regression
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training.config import Optim, Train
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_json

SFREQ, N_CHANNELS, N_TRAIN, N_TEST, N_REPEATS = 16.0, 24, 60, 24, 8
SCORING = Scoring(n_null=100)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects see pictures eight times each; the signal is a map of their embedding, in six times as much
    noise."""
    runs = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(N_TRAIN + N_TEST, 16)).astype(np.float32)
    weights = rng.normal(size=(16, N_CHANNELS)) / 4
    store.write_manifest(runs / "data", ["a", "b"])
    for subject in ("a", "b"):
        shown = rng.permutation(np.repeat(np.arange(len(pictures)), N_REPEATS))
        signal = 6 * rng.normal(size=(len(shown), int(SFREQ), N_CHANNELS)) + (pictures[shown] @ weights)[:, None]
        labels = [{"set": "train" if picture < N_TRAIN else "test"} for picture in shown]
        trials = tuple(
            Trial(float(n), 1.0, f"picture-{picture}", labels=label)
            for n, (picture, label) in enumerate(zip(shown, labels, strict=True))
        )
        stream = Signal(
            signal.reshape(-1, N_CHANNELS).astype(np.float32), SFREQ, tuple(f"E{n}" for n in range(N_CHANNELS))
        ).stream()
        store.write(runs / "data", Recording(subject, subject, stream, trials, values={"images": pictures[shown]}))
    cfg = Train(
        data=(Input(str(runs / "data")),),
        target="images",
        model=LFCNN(latents=16, kernel=1, pool=2, dropout=0.0),
        objective=Regression(loss="mse"),
        split=Split(by="stimulus", train=0.6, val=0.1, test=0.3, shared=("subject",)),
        windows=EpochWindows(tmin_s=0.0, tmax_s=1.0, batch=64),
        optim=Optim(steps=200, warmup_steps=4, validate_every=50, lr=1e-2),
    )
    stages.train(cfg, Context(World(), RunDir(runs / "train")))
    return runs


def evaluated(runs: Path, name: str, **settings: Any) -> dict[str, Any]:
    cfg = Evaluate((Input(str(RunDir(runs / "train").out)),), scoring=SCORING, **settings)
    stages.evaluate(cfg, Context(World(), RunDir(runs / name)))
    report = read_json(RunDir(runs / name).out / "report.json")
    assert isinstance(report, dict)
    return report


def test_averages_of_eight_are_decoded_better_than_single_windows(trained: Path) -> None:
    single, averaged = evaluated(trained, "single"), evaluated(trained, "averaged", average="stimulus")
    main = single["headline"]
    before, after = (report["figures"][main] for report in (single, averaged))
    assert after["value"] > before["value"] + 0.05 and after["chance"] == before["chance"]
    ridge = [report["baselines"]["ridge"]["top1"] for report in (single, averaged)]
    assert ridge[1] > ridge[0] + 0.15, "linear decoders get the same averages"
    n = [sum(row["n_windows"] for row in report["subjects"]) for report in (single, averaged)]
    assert n[0] == N_REPEATS * n[1] and averaged["verdict"] == "above chance"
    page = (RunDir(trained / "averaged").out / "report.html").read_text()
    assert f"{n[0]} windows are {n[1]} averages of {N_REPEATS}" in " ".join(page.split())


def test_an_average_is_of_one_subject_stimulus_and_place_in_the_trial(trained: Path) -> None:
    data = store.open_store(trained / "data")
    rng = np.random.default_rng(1)
    n = len(data.recordings[0].trials)
    recording, trial, half = (each.ravel() for each in np.meshgrid([0, 1], np.arange(n), [0, 1], indexing="ij"))
    every = Places(recording, trial, 16 * trial + 8 * half, np.full(len(trial), 8)).take(rng.permutation(len(trial)))
    averaging = by_stimulus([every.take(slice(0, 700)), every.take(slice(700, None))], data)
    assert averaging.counts.tolist() == [N_REPEATS] * (2 * 2 * (N_TRAIN + N_TEST))
    assert sum(len(places.start) for places in averaging.batches) == len(trial)
    for number, places in enumerate(averaging.batches):
        pairs = zip(places.recording, places.trial, strict=True)
        stimuli = np.array([int(data.recordings[which].trials[row].stimulus.split("-")[1]) for which, row in pairs])
        what = np.stack([places.recording, stimuli, places.start % 16], axis=1).astype(float)
        assert np.array_equal(averaging.mean(number, what), what[averaging.firsts[number]])


def test_classes_are_not_averaged_by_what_is_to_be_decoded(trained: Path) -> None:
    model, scoring = Input(str(RunDir(trained / "train").out)), replace(SCORING, retrieval_from=17)
    with pytest.raises(ValueError, match="average=stimulus is for retrieval, but these models decode values"):
        stages.evaluate(
            Evaluate((model,), scoring=scoring, average="stimulus"), Context(World(), RunDir(trained / "refused"))
        )
