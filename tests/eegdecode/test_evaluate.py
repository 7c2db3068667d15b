"""An evaluation says what it cannot judge, which baselines it lacks, and which models decode together."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eegdecode import stages
from eegdecode.data.config import EpochWindows, Split
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.evaluation import confounds, evaluate, results
from eegdecode.evaluation.baselines import windows
from eegdecode.evaluation.config import Evaluate, Scoring
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.report import export
from eegdecode.evaluation.results import Result
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives.classification import Classification
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training import model_file
from eegdecode.training.config import Optim, Train
from hpc.rank import context as rank_context
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs import products, records
from hpc.runs.rundir import RunDir, read_json, write_json
from tests.eegdecode.reported import page_of
from tests.waiting import wait_for

SFREQ, CHANNELS, N_TRIALS = 50.0, ("C3", "Cz", "C4"), 40  # CSP's band goes up to 30 Hz, which 50 Hz do not hold


def context(run: Path) -> Context:
    return Context(World(), RunDir(run))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a network that tells noise of two subjects apart, badly."""
    folder = tmp_path_factory.mktemp("runs")
    rng, names = np.random.default_rng(0), ["sub-01", "sub-02"]
    store.write_manifest(folder / "data", names)
    for name in names:
        signal = rng.normal(size=(round(N_TRIALS * SFREQ), len(CHANNELS))).astype(np.float32)
        trials = tuple(Trial(float(n), 1.0, f"s{n}") for n in range(N_TRIALS))
        kinds = rng.permutation(np.arange(N_TRIALS) % 2).astype(np.float32)[:, None]
        recording = Recording(name, name, Signal(signal, SFREQ, CHANNELS).stream(), trials, values={"side": kinds})
        store.write(folder / "data", recording)
    cfg = Train(
        data=(Input(str(folder / "data")),),
        target="side",
        model=EEGNet(dropout=0.1),
        objective=Classification(),
        split=Split(by="trial", shared=("subject", "stimulus")),
        windows=EpochWindows(tmin_s=0.0, tmax_s=1.0, batch=16),
        optim=Optim(steps=4, warmup_steps=2, validate_every=2),
    )
    stages.train(cfg, context(folder / "train-a"))
    return folder / "train-a"


def copied(model: Path, name: str, **changed: object) -> Input:
    """The same run under another name, with something else in its model."""
    copy = model.parent / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(model, copy)
    path = RunDir(copy).out / "model.pt"
    torch.save(torch.load(path, weights_only=True) | changed, path)
    products.enter(path)
    return Input(str(path.parent))


def test_outputs_that_are_no_numbers_are_not_judged(model: Path, tmp_path: Path) -> None:
    trained = model_file.load(RunDir(model).out)
    spoilt = {name: torch.full_like(value, torch.nan) for name, value in trained.parameters.items() if value.ndim}
    broken = copied(model, "train-b", parameters=trained.parameters | spoilt)
    message = (
        r"^train-b gave .* NaN or infinite for (\d+) of \1 test windows \(\d of sub-01, \d of sub-02\), .* evaluated"
    )
    with pytest.raises(ValueError, match=message):
        stages.evaluate(Evaluate((broken,)), context(tmp_path / "run"))
    assert not (tmp_path / "run" / "out" / "report.json").exists()


def test_a_baseline_that_cannot_be_fitted_is_left_out_and_the_page_says_so(model: Path, tmp_path: Path) -> None:
    summary = stages.evaluate(Evaluate((Input(str(RunDir(model).out)),)), context(tmp_path / "run"))
    assert "balanced_accuracy_bandpower" in summary and "balanced_accuracy_csp" not in summary
    of_training = EventAccumulator(str(RunDir(model).tensorboard)).Reload()
    (shown,) = of_training.Scalars("test/balanced_accuracy")
    assert shown.value == pytest.approx(summary["balanced_accuracy"]["value"])  # type: ignore[index]
    page = (RunDir(tmp_path / "run").out / "report.html").read_text()
    assert "the target “side” has 2 classes (0, 1)." in page
    assert "The linear baseline csp is left out, as it could not be fitted: CSP&#39;s band from 8 to 30 Hz" in page
    assert list((read_json(RunDir(tmp_path / "run").out / "report.json") or {})["baselines"]) == [
        "bandpower",
        "riemann",
        "mdm",
        "evoked",
        "xdawn",
    ]


def test_all_test_windows_are_decoded_by_the_baselines_however_many_there_are(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large training set not all windows are held in memory; test windows are decoded batch by batch."""
    trained, ctx = model_file.load(RunDir(model).out), context(tmp_path / "run")
    small = replace(trained, config=trained.config | {"windows": trained.config["windows"] | {"batch": 4}})
    _, decoded = predict.decode([RunDir(model).out], ctx) or pytest.fail("the first rank decodes")
    whole = windows.baselines(trained, decoded, ctx)
    again = windows.baselines(small, decoded, ctx)
    np.testing.assert_allclose(again.test["bandpower"], whole.test["bandpower"], atol=1e-6)
    monkeypatch.setattr(windows, "MOST", 2000)
    thinned = windows.baselines(small, decoded, ctx)
    assert len(thinned.test["bandpower"]) == len(decoded.trials) > 8
    assert np.abs(thinned.test["bandpower"] - whole.test["bandpower"]).max() > 1e-3, "fitted to fewer"
    monkeypatch.undo()
    monkeypatch.setattr(windows, "MOST_FITTED", 12)
    some = windows.baselines(trained, decoded, ctx)
    assert np.abs(some.test["riemann"] - whole.test["riemann"]).max() > 1e-3, "fitted to fewer, as each costs time"
    np.testing.assert_array_equal(some.test["bandpower"], whole.test["bandpower"])


def test_a_long_fit_of_a_baseline_is_not_taken_to_hang(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor ends ranks without a heartbeat for --hang; a fit may be one call of scikit-learn."""
    monkeypatch.setattr(rank_context, "BEAT_S", 0.05)
    trained, ctx = model_file.load(RunDir(model).out), context(tmp_path / "run")
    _, decoded = predict.decode([RunDir(model).out], ctx) or pytest.fail("the first rank decodes")

    def slow(train: Any, val: Any, **others: object) -> Any:
        before = records.heartbeat(ctx.run, 0)["time"]
        wait_for(lambda: records.heartbeat(ctx.run, 0)["time"] > before)
        return lambda x: np.zeros((len(x), 2))

    monkeypatch.setattr(windows, "OF_CLASSES", {"slow": slow})
    monkeypatch.setattr(windows, "EVOKED", {})
    outputs = windows.baselines(trained, decoded, ctx)
    assert list(outputs.test) == list(outputs.val) == ["slow"] and not outputs.failures


def test_a_baseline_stops_when_asked_to(model: Path, tmp_path: Path) -> None:
    trained, ctx = model_file.load(RunDir(model).out), context(tmp_path / "run")
    _, decoded = predict.decode([RunDir(model).out], ctx) or pytest.fail("the first rank decodes")
    for asked in range(6):  # while windows are read, before a fit, between batches
        times = itertools.count()
        ctx.should_stop = lambda times=times, asked=asked: next(times) >= asked  # type: ignore[misc]
        with pytest.raises(Preempted):
            windows.baselines(trained, decoded, ctx)


def test_a_control_is_trained_on_shuffled_targets_and_tested_on_such(model: Path, tmp_path: Path) -> None:
    cfg = Evaluate((Input(str(RunDir(model).out)),), scoring=Scoring(n_null=100), control="shuffled")
    stages.evaluate(cfg, context(tmp_path / "run"))
    report = read_json(RunDir(tmp_path / "run").out / "report.json") or {}
    assert report["control"]["chance"] == 0.5 and 0.1 <= report["control"]["value"] <= 0.9
    page = (RunDir(tmp_path / "run").out / "report.html").read_text()
    assert "Control: a network that was trained in the same way on shuffled targets" in page
    written = tmp_path / "run" / "control" / "out" / "model.pt"
    before = written.stat().st_mtime_ns
    stages.evaluate(cfg, context(tmp_path / "run"))
    assert written.stat().st_mtime_ns == before, "another attempt does not train again"
    trained, null = model_file.load(RunDir(model).out), model_file.load(written.parent)
    assert null.train().control == "shuffled" and null.train().optim == trained.train().optim
    ours, theirs = (predict.open_data(each, context(tmp_path / "run"))[0].recordings for each in (trained, null))
    for one, other in zip(ours, theirs, strict=True):
        assert sorted(one.values("side").ravel()) == sorted(other.values("side").ravel())
        np.testing.assert_array_equal(one.signal, other.signal)
    assert any((one.values("side") != other.values("side")).any() for one, other in zip(ours, theirs, strict=True))


def test_classes_that_go_with_time_cap_the_headline(model: Path, tmp_path: Path) -> None:
    """In the second half of each recording all trials are of one class, in the training set and in the test set."""
    folder = tmp_path / "data"
    names = ["sub-01", "sub-02", "sub-03"]
    store.write_manifest(folder, names)
    for number, name in enumerate(names):
        late = (np.arange(N_TRIALS) >= N_TRIALS / 2).astype(np.float32)
        signal = np.random.default_rng(number).normal(size=(round(N_TRIALS * SFREQ), len(CHANNELS)))
        trials = tuple(Trial(float(n), 1.0, f"s{n}") for n in range(N_TRIALS))
        stored = Signal(signal.astype(np.float32), SFREQ, CHANNELS).stream()
        store.write(folder, Recording(name, name, stored, trials, values={"side": late[:, None]}))
    trained = model_file.load(RunDir(model).out)
    data = store.open_store(folder)
    parts = splits.split(Split(by="trial", shared=("subject", "stimulus")), data.recordings, trained.train().windows)
    tested = tuple(
        DecodedTrial(stored.subject, "x", np.array([[float(k >= N_TRIALS / 2)]]), np.zeros((1, 2)), stored.name, k, k)
        for segment in parts.test
        for stored in [data.recordings[segment.recording]]
        for k in [stored.trials.index(segment.trial)]
    )
    decoded = Decoded(0.0, tested, (), "classes", "side", ("0", "1"))
    reached = confounds.of(trained, decoded, data, parts, [])
    assert reached == {"the half of the recording alone predicts the class with a balanced accuracy of 1.00": 1.0}
    known, new = (data.recordings[index].name for index in (parts.train[0].recording, parts.test[0].recording))
    copies = {"what": "copy", "where": f"{known} and {new}", "sentence": "9 trials hold the same samples"}
    sound = {"what": "sound", "where": new, "sentence": "channel Cz follows side at r 0.9 with no delay"}
    other = {"what": "sound", "where": new, "sentence": "channel Cz follows envelope at r 0.9 with no delay"}
    order = {"what": "order", "where": new, "sentence": "trial 7 comes after one"}
    assert len(confounds.of(trained, decoded, data, parts, [copies, sound, other, order])) == 3


def test_a_report_says_which_study_and_split_it_is_of_however_it_was_preprocessed(tmp_path: Path, model: Path) -> None:
    trained = model_file.load(RunDir(model).out)
    split = trained.config["split"]
    assert evaluate.tested(trained) == {"study": list(trained.data), "split": split}
    here = replace(trained, run=RunDir(tmp_path / "train-a"), config=trained.config | {"data": ["preprocess-b"]})
    write_json(RunDir(tmp_path / "preprocess-b").plan, {"inputs": {"study": "synthesize-a"}})
    assert evaluate.tested(here) == {"study": ["synthesize-a"], "split": split}


def test_a_page_of_several_models_says_so_and_has_all_of_them(model: Path, tmp_path: Path) -> None:
    both = Input(str(RunDir(model).out)), copied(model, "train-b")
    stages.evaluate(Evaluate(both, weigh="entropy"), context(tmp_path / "run"))
    page = (RunDir(tmp_path / "run").out / "report.html").read_text()
    assert "The network is 2 models that decode together, of which the one with the lower entropy" in page
    assert "(weigh=entropy): train-a, train-b." in page
    for name in ("train-a", "train-b"):
        assert f'<tr><th scope="row">{name}</th>' in page and f"<h3>{name}</h3>" in page
        assert f"All settings of training, {name}" in page
    trained = model_file.load(RunDir(model).out)
    learnt = sum(parameter.numel() for parameter in trained.network().parameters())
    assert learnt < sum(value.numel() for value in trained.parameters.values()), "batch norms keep more than they learn"
    assert f"Models eegnet with {learnt:,} parameters, eegnet with {learnt:,} parameters." in page


@pytest.mark.parametrize(
    ("part", "knobs", "differs"),
    [
        ("split", {"train": 0.5, "val": 0.3}, "split.train=0.5 and split.val=0.3, where train-a has split.train=0.67"),
        ("windows", {"tmax_s": 0.5}, "windows.tmax_s=0.5, where train-a has windows.tmax_s=1.0"),
    ],
)
def test_models_that_cannot_decode_together_are_told_what_differs(
    part: str, knobs: dict[str, float], differs: str, model: Path
) -> None:
    first = model_file.load(RunDir(model).out)
    changed = first.config | {part: first.config[part] | knobs}
    second = model_file.load(Path(copied(model, "train-b", config=changed)))
    with pytest.raises(ValueError, match="need one target, split, data and windows, but train-b has .*" + differs):
        predict.refuse_unlike([first, second])


def people() -> Result:
    """Of twelve subjects who have one score each, which is decoded well."""
    rng = np.random.default_rng(0)
    trials = [
        DecodedTrial(f"sub-{s:02d}", "x", np.array([[score]]), np.array([[score + rng.normal() / 4]]), f"r{s}", t)
        for s, score in enumerate(rng.normal(size=12))
        for t in range(4)
    ]
    decoded = Decoded(0.0, tuple(trials), (), "values", "score")
    return results.evaluate(replace(decoded, baselines={"ridge": 0 * decoded.output + 0.1}), Scoring())


def test_where_subjects_are_dealt_out_none_is_said_to_be_above_chance_by_itself() -> None:
    result = people()
    page, text = page_of(result), export.markdown(result)
    assert "Above chance." in page and "One by one" not in page
    assert "p (Holm)" not in page and page.count(">95th percentile of the null</th>") == 2, "of metrics, of decoders"
    assert (
        "| subject | windows | minus the error, in standard deviations | ridge |\n| --- | --- | --- | --- |\n" in text
    )
    each = page_of(replace(result, of_subjects=""))
    assert "One by one, " in each and "p (Holm)" in each and each.count(">95th percentile of the null</th>") == 3


def test_tables_for_other_documents_have_the_bound_of_chance_and_as_many_cells_in_each_row() -> None:
    for result in (people(), replace(people(), of_subjects="")):
        for part in export.markdown(result).split("\n\n")[2:]:
            assert len({line.count("|") for line in part.strip().splitlines()}) == 1
        rows = [line for line in export.latex(result).splitlines() if "&" in line]
        assert {row.count("&") for row in rows} == {4} and "95th percentile of the null" in rows[0]
        bound = result.figures["r"].bound
        assert bound is not None and f"& {bound:.3f} &" in rows[1] and f"| {bound:.3f} |" in export.markdown(result)


@pytest.mark.parametrize("in_a_run", [True, False])
def test_a_model_of_which_a_byte_was_changed_is_refused(
    model: Path, tmp_path: Path, in_a_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the byte stands: in a parameter, in the outline, in the list of parts. In a file that came without its
    list, a byte between them does no harm."""
    place = Path(copied(model, "train-b")) / "model.pt"
    if not in_a_run:
        place = Path(shutil.copy(place, tmp_path))
    whole, original = place.read_bytes(), model_file.load(place.parent)
    messages: list[str] = []
    for at in range(100, len(whole), len(whole) // 200):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        monkeypatch.setattr(products, "MEMORY", products.Memory())  # it was changed within one tick of the clock
        try:
            trained = model_file.load(place.parent)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert not in_a_run
            assert all(torch.equal(trained.parameters[name], value) for name, value in original.parameters.items())
            assert (trained.config, trained.step) == (original.config, original.step)
    assert len(messages) > 20
    assert all("model.pt is damaged: its " in each for each in messages)
