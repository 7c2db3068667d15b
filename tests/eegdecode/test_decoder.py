"""load_model and predict: a raw recording is decoded as the training's own were, or refused in a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch

import eegdecode
from eegdecode import stages
from eegdecode.data.config import EpochWindows, GridWindows, Split
from eegdecode.data.store.dataset import Store
from eegdecode.decoder import export, program
from eegdecode.decoder import predict as predicting
from eegdecode.decoder.decoder import Decoder
from eegdecode.decoder.export import ExportModel
from eegdecode.evaluation.decode import predict as of_evaluation
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives.classification import Classification
from eegdecode.training.config import Optim, Train
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, write_json
from tests.eegdecode import preprocessed

STEPS = Optim(steps=2, validate_every=2, warmup_steps=0)
ONE = "sub-01_task-hands_run-1"


def trained(runs: Path, cfg: Train) -> RunDir:
    """A train run that has finished."""
    run = RunDir(runs / "train-k3f9")
    stages.train(cfg, Context(World(), run))
    write_json(run.plan, {"stage": "train", "name": run.name, "inputs": {"data": cfg.data[0]}, "schema": 2})
    write_json(run.result, {"metrics": {}, "attempts": 1})
    return run


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A classifier of epochs of 1 s at 64 Hz, of recordings at 128 Hz with an EOG channel that it does not read."""
    store = preprocessed.run(tmp_path_factory.mktemp("hands"))
    cfg = Train(
        data=(Input(store.name),),
        target="trial_type",
        model=EEGNet(filters=2),
        objective=Classification(),
        split=Split(by="trial", train=0.4, val=0.3, test=0.3, shared=("subject", "stimulus")),
        windows=EpochWindows(tmin_s=0.1, tmax_s=1.1, batch=4, baseline_s=0.2),
        optim=STEPS,
    )
    return trained(store.path.parent, cfg)


@pytest.fixture(scope="module")
def music(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    """A decoder of the envelope, by the default steps: reference, notch, band-pass, resampling, scaling."""
    cfg = Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4),
        windows=GridWindows(length_s=2.0, batch=4),
        optim=STEPS,
    )
    return eegdecode.load_model(trained(tmp_path_factory.mktemp("music"), cfg).path)


def recording(hands: RunDir, name: str = ONE) -> mne.io.BaseRaw:
    study = hands.path.parent.parent / "hands"
    return mne.io.read_raw(next(study.rglob(f"{name}_eeg.vhdr")), verbose="error")


def onsets(raw: mne.io.BaseRaw) -> list[float]:
    return [1 + 2.0 * k for k in range(5)]


def test_a_run_its_folder_and_its_file_are_the_same_model(
    hands: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(hands.out / "model.pt", tmp_path / "mine.pt")
    monkeypatch.chdir(hands.path.parent.parent)
    several = [eegdecode.load_model(word) for word in ("train-k3f9", hands.path, hands.out, tmp_path / "mine.pt")]
    x = torch.randn(3, 3, 64)
    assert {tuple(model(x).flatten().tolist()) for model in several} == {tuple(several[0](x).flatten().tolist())}
    assert several[0].classes == ("left", "right") and not several[0].training
    assert all(str(model.recipe) == str(several[0].recipe) for model in several)
    recipe = several[-1].recipe
    assert recipe.channels == ("Fz", "Cz", "Pz") and (recipe.sfreq, recipe.raw_sfreq, recipe.unit) == (64, 128, "V")
    assert recipe.n_times == 64 and recipe.steps is not None and [step.name for step in recipe.steps] == ["resample"]
    assert "3 channels (Fz, Cz, Pz) at 64 Hz, in V; windows of 64 samples; steps: resample" in repr(several[0])


def test_epochs_of_a_raw_recording_are_decoded_as_evaluate_decodes_those_of_the_store(hands: RunDir) -> None:
    model = eegdecode.load_model(hands.path)
    decoded = of_evaluation.decode([hands.out], Context(World(), RunDir(hands.path.parent / "evaluate-x")))
    assert decoded is not None and len(decoded[1].trials) == 3
    for trial in decoded[1].trials:
        predicted = eegdecode.predict(model, recording(hands, trial.recording), at=[1 + 2.0 * trial.trial])
        np.testing.assert_allclose(np.log(predicted.values), trial.output, atol=1e-5)
        assert predicted.labels == [model.classes[int(trial.output.argmax())]]
    opened = eegdecode.open("preprocess-abcd1234", hands.path.parent).select(ONE)
    of_raw = eegdecode.predict(model, recording(hands), at=onsets(recording(hands)))
    of_arrays = eegdecode.predict(model, opened.numpy(tmin=0.1, tmax=1.1).X, preprocessed=True)
    of_epochs = eegdecode.predict(model, opened.epochs(tmin=0.1, tmax=1.1), preprocessed=True)
    np.testing.assert_allclose(of_arrays.values, of_raw.values, atol=1e-5)
    np.testing.assert_allclose(of_epochs.values, of_raw.values, atol=1e-5)
    np.testing.assert_allclose(of_epochs.start_s, of_raw.start_s)


def test_epochs_of_mne_at_another_rate_are_brought_to_that_of_the_model(hands: RunDir) -> None:
    model, raw = eegdecode.load_model(hands.path), recording(hands)
    events = mne.make_fixed_length_events(raw, start=1.0, duration=2.0, stop=11.5)
    epochs = mne.Epochs(raw, events, tmin=0.1, tmax=1.1 - 1 / 128, baseline=None, verbose="error", preload=True)
    of_raw = eegdecode.predict(model, raw, at=onsets(raw))
    shuffled = epochs.copy().reorder_channels(["EOG", "Pz", "Fz", "Cz"])
    for windows in (epochs, shuffled):
        predicted = eegdecode.predict(model, windows)
        assert len(predicted) == 5
        np.testing.assert_allclose(predicted.values, of_raw.values, atol=0.05)  # filters see no further than a window


def test_a_whole_recording_is_one_course_the_same_however_it_is_read(
    music: Decoder, tiny_store: Store, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = mne.io.read_raw(next(study.rglob("sub-01*_eeg.edf")), verbose="error")
    predicted = eegdecode.predict(music, raw)
    stored = tiny_store.recordings[0]
    windows = [stored.read(start, start + 128) for start in range(0, stored.n_times - 127, 128)]
    with torch.inference_mode():
        expected = music(torch.from_numpy(np.stack(windows)).mT).flatten(0, 1).numpy()
    np.testing.assert_allclose(predicted.values[: len(expected)], expected, atol=1e-4)
    assert len(predicted.values) == music.spec.n_steps(stored.n_times) and np.isfinite(predicted.values).all()
    monkeypatch.setattr(predicting, "PIECE_VALUES", 1)
    again = eegdecode.predict(music, raw, batch=3)
    np.testing.assert_allclose(again.values, predicted.values, atol=1e-5)
    array = eegdecode.predict(music, raw.get_data(picks=list(stored.channels)), sfreq=raw.info["sfreq"])
    np.testing.assert_allclose(array.values, predicted.values, atol=1e-4)
    at = eegdecode.predict(music, raw, at=[4.0, 2.0])
    np.testing.assert_allclose(at.values, expected.reshape(-1, 128, 1)[[2, 1]], atol=1e-4)


def test_of_an_older_file_the_steps_are_those_of_its_data(hands: RunDir, tmp_path: Path) -> None:
    contents = torch.load(hands.out / "model.pt", weights_only=True)
    del contents["preprocessing"]
    old = RunDir(hands.path.parent / "train-old")
    old.out.mkdir(parents=True, exist_ok=True)
    for place in (old.out, tmp_path):
        torch.save(contents, place / "old.pt")
    assert "steps: resample" in str(eegdecode.load_model(old.out / "old.pt").recipe)
    alone = eegdecode.load_model(tmp_path / "old.pt")
    with pytest.raises(ValueError, match="is not known, or not the same for all: .* say preprocessed=True"):
        eegdecode.predict(alone, recording(hands))


def gappy(shape: tuple[int, int, int]) -> np.ndarray:
    """Windows [window, channel, time], a value of which is missing."""
    data = np.zeros(shape)
    data[1, 1, 30] = np.nan
    return data


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda raw: raw.drop_channels(["Cz"]), {}, "reads 3 channels, but Cz cannot be had of this signal, which has"),
        (lambda raw: raw.resample(50), {}, "has 50 Hz, but the model reads 64 Hz of recordings with 128 Hz or more"),
        (lambda raw: raw, {"preprocessed": True}, "reads 64 Hz, but the preprocessed signal has 128 Hz"),
        (lambda raw: raw, {"at": [14.5]}, "event at 14.5 s leaves the recording, which lasts 15.00 s"),
        (lambda raw: raw, {"at": []}, "`at` is empty"),
        (lambda raw: raw, {"length_s": 3}, "reads windows of 1 s, so leave out length_s"),
        (lambda raw: raw.get_data(), {"sfreq": 128}, "has 4 channels, but the model reads 3"),
        (lambda raw: raw.get_data()[:3], {}, "needs its rate: say sfreq"),
        (lambda raw: raw.get_data()[:3, :64], {"sfreq": 128}, "lasts 0.50 s, less than a window of 1 s"),
        (lambda raw: np.zeros((2, 3, 60)), {"preprocessed": True}, "have 60 samples at 64 Hz, but the model reads 64"),
        (lambda raw: np.zeros((2, 3, 64)), {"preprocessed": True, "at": [1]}, "these are windows already"),
        (lambda raw: gappy((2, 3, 64)), {"preprocessed": True}, "window 1 has values that are not numbers .* in Cz"),
        (lambda raw: gappy((2, 3, 128)), {"sfreq": 128}, "window 1 has values that are not numbers .* in Cz"),
        (lambda raw: gappy((2, 3, 640))[1], {"preprocessed": True}, "window 0 has values that are not numbers .* Cz"),
        (lambda raw: gappy((2, 3, 640))[1], {"sfreq": 128}, "Cz: no number at"),
        (lambda raw: raw.info, {}, "takes mne.io.Raw, mne.Epochs, or an array"),
    ],
)
def test_what_cannot_be_matched_is_refused_in_a_sentence(
    hands: RunDir, change: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        eegdecode.predict(hands.path, change(recording(hands).load_data(verbose="error")), **options)


def test_epochs_that_were_not_filtered_so_are_refused(music: Decoder, study: Path) -> None:
    raw = mne.io.read_raw(next(study.rglob("sub-01*_eeg.edf")), verbose="error")
    events = mne.make_fixed_length_events(raw, duration=2.0)
    epochs = mne.Epochs(raw, events, tmin=0, tmax=2 - 1 / raw.info["sfreq"], baseline=None, verbose="error")
    with pytest.raises(ValueError, match=r"removes more than the windows.*: give the whole recording, with at="):
        eegdecode.predict(music, epochs)


def test_a_channel_that_the_training_did_not_have_changes_nothing(
    music: Decoder, study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = mne.io.read_raw(next(study.rglob("sub-01*_eeg.edf")), preload=True, verbose="error")
    before = eegdecode.predict(music, raw)
    loud = mne.io.RawArray(
        np.ones((1, raw.n_times)), mne.create_info(["ZZ"], raw.info["sfreq"], "eeg"), verbose="error"
    )
    raw.add_channels([loud], force_update_info=True)
    np.testing.assert_array_equal(eegdecode.predict(music, raw).values, before.values)
    assert "left out are ZZ, which the training's recordings did not have" in caplog.text


@pytest.mark.parametrize("name", ["decoder.pt2", "decoder.onnx"])
def test_a_trained_model_is_written_as_a_program_with_its_recipe(hands: RunDir, tmp_path: Path, name: str) -> None:
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    text = export.run(ExportModel(str(tmp_path / name)), [hands.path], as_json=True)
    said = json.loads(text)
    assert said["difference"] <= 1e-5 and said["inputs"] == {"signal": ["window", 3, 64]}
    assert said["output"] == ["window", 2]
    x, model = torch.randn(7, 3, 64), eegdecode.load_model(hands.path)
    if name.endswith("pt2"):
        about = {"recipe": "", "classes": ""}
        program = torch.export.load(tmp_path / name, extra_files=about).module()
        with torch.no_grad():
            torch.testing.assert_close(program(x), model(x))
    else:
        import onnx

        about = {entry.key: entry.value for entry in onnx.load(tmp_path / name).metadata_props}
    assert json.loads(about["classes"]) == ["left", "right"]
    assert json.loads(about["recipe"])["channels"] == ["Fz", "Cz", "Pz"]


def test_without_a_name_it_is_named_as_the_run_is(
    hands: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export.run(ExportModel(), [hands.path], as_json=False).startswith(f"wrote {hands.name}.pt2: ")
    assert [path.name for path in tmp_path.iterdir()] == [f"{hands.name}.pt2"]


def test_what_cannot_be_written_is_refused_and_leaves_no_file(
    hands: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("decoder", "decoder.txt"):
        with pytest.raises(ValueError, match="say which file to write, -o NAME.pt2 or -o NAME.onnx"):
            export.run(ExportModel(name), [hands.path], as_json=False)
    monkeypatch.setattr(export, "PACKAGES", ("onnx_of_mars",))
    with pytest.raises(ValueError, match=r"needs onnx_of_mars: pip install .hpc-eegdecode\[onnx\]., or write a .pt2"):
        export.run(ExportModel("decoder.onnx"), [hands.path], as_json=False)
    monkeypatch.setattr(program, "of_pt2", lambda content: lambda x: torch.full((len(x), 2), 0.5))
    with pytest.raises(ValueError, match=r"decoder.pt2 would differ from the model by .*, so it is not written"):
        export.run(ExportModel(str(tmp_path / "decoder.pt2")), [hands.path], as_json=False)
    assert not any(tmp_path.iterdir())


def test_what_is_no_model_is_refused_in_a_sentence(hands: RunDir, tmp_path: Path) -> None:
    runs = hands.path.parent
    with pytest.raises(ValueError, match="preprocess-abcd1234 is a run of preprocess, and not of train or soup"):
        eegdecode.load_model("preprocess-abcd1234", runs)
    evaluate = RunDir(tmp_path / "evaluate-x")
    write_json(evaluate.plan, {"stage": "evaluate", "name": "evaluate-x", "inputs": {"model": "train-k3f9"}})
    with pytest.raises(ValueError, match="is a run of evaluate.*: it reads train-k3f9, name that"):
        eegdecode.load_model(evaluate.path)
    with pytest.raises(ValueError, match="there is no run 'nothing'"):
        eegdecode.load_model("nothing", runs)
    with pytest.raises(ValueError, match="is no model: name a train run"):
        eegdecode.load_model(tmp_path / "none.pt")
    (tmp_path / "decoder.pt2").write_bytes(b"PK")
    with pytest.raises(ValueError, match="decoder.pt2 is a program, as export-model writes them: torch.export.load"):
        eegdecode.load_model(tmp_path / "decoder.pt2")
