"""Channel importance: the channel that was planted is found, of classes and of signals, and on any number of ranks."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eegdecode import stages
from eegdecode.data.config import EpochWindows, Split
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.config import Evaluate, Scoring
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.report import lags, relevance
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives.classification import Classification
from eegdecode.signals import Recording, Signal, SignalSpec, Trial
from eegdecode.topomap import FINE, Places
from eegdecode.training import model_file
from eegdecode.training.config import Optim, Train
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_json
from tests.eegdecode.ranks import on_ranks
from tests.eegdecode.reported import chain

SFREQ, CHANNELS, N_TRIALS = 64.0, ("C3", "Cz", "C4", "Oz"), 48


def context(run: Path) -> Context:
    return Context(World(), RunDir(run))


def rhythms(folder: Path, amplitude: float) -> Path:
    """Two subjects, of whom channel C4 alone has 10 or 20 Hz, by the class of the trial."""
    rng, names = np.random.default_rng(0), ["sub-01", "sub-02"]
    store.write_manifest(folder, names)
    for name in names:
        signal = rng.normal(size=(round(N_TRIALS * SFREQ), len(CHANNELS))).astype(np.float32)
        kinds = rng.permutation(np.arange(N_TRIALS) % 2)
        time_s = np.arange(len(signal)) / SFREQ
        signal[:, 2] += amplitude * np.sin(2 * np.pi * 10 * (1 + np.repeat(kinds, round(SFREQ))) * time_s)
        trials = tuple(Trial(float(n), 1.0, f"s{n}") for n in range(N_TRIALS))
        values = {"movement": kinds[:, None].astype(np.float32)}
        recording = Recording(name, name, Signal(signal, SFREQ, CHANNELS).stream(), trials, values=values)
        store.write(folder, recording)
    return folder


def trained(folder: Path, amplitude: float) -> Evaluate:
    cfg = Train(
        data=(Input(str(rhythms(folder / "data", amplitude))),),
        target="movement",
        model=EEGNet(dropout=0.1),
        objective=Classification(),
        split=Split(by="trial", shared=("subject", "stimulus")),
        windows=EpochWindows(tmin_s=0.0, tmax_s=1.0, batch=16),
        optim=Optim(steps=60, lr=1e-2, warmup_steps=2, validate_every=20),
    )
    stages.train(cfg, context(folder / "train"))
    return Evaluate((Input(str(RunDir(folder / "train").out)),))


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    return trained(tmp_path_factory.mktemp("clear"), 2.0)


def test_the_channel_that_tells_is_found(clear: Evaluate, tmp_path: Path) -> None:
    assert stages.evaluate(clear, context(tmp_path))["verdict"] == "above chance"
    channels = (read_json(RunDir(tmp_path).out / "report.json") or {})["channels"]
    names = {"bandpower: 0, alpha", "bandpower: 1, alpha", "bandpower: 0, beta", "bandpower: 1, beta"}
    patterns = [pattern for name, pattern in channels.items() if name in names]
    assert len(patterns) == 2 and all(abs(pattern["C4"]) > 0.8 for pattern in patterns)
    assert patterns[0]["C4"] == pytest.approx(-patterns[1]["C4"]), "what speaks for one class speaks against the other"
    assert all(abs(pattern[name]) < 0.5 for pattern in patterns for name in ("C3", "Cz", "Oz"))
    grown = channels["network"]
    others = [abs(value) for name, value in grown.items() if name != "C4"]
    assert list(grown) == list(CHANNELS) and grown["C4"] > 5 * max(others)
    text = (RunDir(tmp_path).out / "report.html").read_text()
    assert "Most: C4 " in text and text.count('class="place"') == 3 * len(CHANNELS)


@pytest.mark.ranks
def test_one_rank_and_three_write_the_same_report(clear: Evaluate, tmp_path: Path) -> None:
    for size in (1, 3):
        on_ranks(stages.evaluate, clear, tmp_path / str(size), size)
    for name in ("report.json", "report.md", "table.tex"):
        one, three = (RunDir(tmp_path / size).out / name for size in ("1", "3"))
        assert one.read_bytes() == three.read_bytes(), name


def test_of_what_is_at_chance_no_head_is_drawn(tmp_path: Path) -> None:
    assert stages.evaluate(trained(tmp_path, 0.0), context(tmp_path / "run"))["verdict"] == "not above chance"
    assert (read_json(RunDir(tmp_path / "run").out / "report.json") or {})["channels"] == {}
    assert "the importance of channels means nothing" in (RunDir(tmp_path / "run").out / "report.html").read_text()


def test_the_pattern_of_a_linear_decoder_is_where_its_output_comes_from(
    tiny_store: Store, study: Path, tmp_path: Path
) -> None:
    """One that says what the fourth channel will be 0.1 s later."""
    ctx, stored = chain(tmp_path, tiny_store, study), tiny_store.recordings[0]
    trials = []
    for number, trial in enumerate(stored.trials):
        first = round(trial.start * SFREQ)
        output = stored.read(first + 6, first + 206)[:, 3:4]
        trials.append(DecodedTrial("sub-01", "x", output, output, stored.name, number, first / SFREQ))
    trained = model_file.load(tmp_path / "train-c" / "out")
    decoded = Decoded(SFREQ, tuple(trials), ())
    pattern = relevance.pattern_of(decoded, trained, Scoring(), ctx)
    assert pattern[3] == pytest.approx(1, abs=1e-6) and np.abs(np.delete(pattern, 3)).max() < 0.99
    weights = np.zeros((33, trained.spec.n_channels))
    weights[6, 3] = 1.0
    by_ridge = replace(decoded, weights=weights, baselines={"ridge": decoded.output})
    of = lags.of_ridge(by_ridge, trained, Scoring(), ctx)
    assert of is not None
    name, at = trained.spec.channels[3], of.seconds.index(round(6 / SFREQ, 4))
    assert (of.patterns[name][at], of.weights[name][at]) == (pytest.approx(1, abs=1e-4), 1.0)
    drawn = lags.drawn(of, trained.spec)
    assert drawn is not None and drawn.named[0] == ("c0", name)
    assert "0.09 s" in [each.when for each in drawn.maps] and all(each.drawn.png for each in drawn.maps)
    assert [name, f"{6 / SFREQ:.4f}", "1", "1"] in drawn.rows and len(drawn.rows) == 33 * trained.spec.n_channels
    assert lags.drawn(None, trained.spec) is None


def test_windows_are_exchanged_and_none_stays() -> None:
    for n in (2, 3, 64):
        others = relevance._others(n, 0, 1).numpy()
        assert sorted(others) == list(range(n)) and not (others == np.arange(n)).any()


def test_places_are_measured_or_known_by_name() -> None:
    by_name = Places.of_spec(SignalSpec(("C3", "C4", "Fz", "EMG"), 64.0, 1))
    assert by_name.flat["C3"][0] < 0 < by_name.flat["C4"][0] and by_name.flat["Fz"][1] > 0.3
    assert by_name.by_name and "EMG" not in by_name.flat
    measured = Places.of_spec(SignalSpec(("A", "B"), 64.0, 1, positions=((0.0, 0.09, 0.0), None)))
    assert measured.flat == {"A": pytest.approx((0.0, 90 / 95), abs=1e-3)} and not measured.by_name


def test_a_map_has_the_value_of_each_channel_and_lines_around_the_largest() -> None:
    names = ("Fp1", "Fp2", "C3", "Cz", "C4", "Pz", "O1", "O2")
    places = Places.of_spec(SignalSpec(names, 64.0, 1))
    values = dict.fromkeys(names, 0.0) | {"C4": 1.0}
    between = places._between(values, FINE)
    for name, (x, y) in places.flat.items():
        pixel = round((1 - y) / 2 * FINE - 0.5), round((1 + x) / 2 * FINE - 0.5)
        assert between[pixel] == pytest.approx(values[name], abs=0.08), name
    head = places.head(values, "a head")
    assert head.png and len(head.channels) == len(names)
    points = np.array(
        [[float(x) for x in pair.split()] for path in head.contours for pair in re.split("[ML]", path)[1:]]
    )
    assert np.hypot(*points.T).max() <= 1, "within the outline"
    x, y = places.flat["C4"]
    assert np.hypot(*(points[:, 0] - x, -points[:, 1] - y)).min() < 0.25
    few = Places.of_spec(SignalSpec(names[:3], 64.0, 1)).head(values, "a head")
    assert few.png == "" and few.contours == (), "three channels are no map"
