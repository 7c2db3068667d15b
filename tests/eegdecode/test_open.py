"""eegdecode.open gives what is stored, as objects of MNE, numpy and torch; verified, and read where it is asked for."""

import pickle
import subprocess
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

import eegdecode
from eegdecode.exchange.opened import Preprocessed
from eegdecode.preprocessing.steps.pick import Pick
from hpc.runs.products import DamagedProduct
from hpc.runs.rundir import RunDir, write_json
from tests.eegdecode import preprocessed

ONE = "sub-01_task-hands_run-1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return preprocessed.run(tmp_path_factory.mktemp("open"))


@pytest.fixture(scope="module")
def opened(run: RunDir) -> Preprocessed:
    return eegdecode.open(run.path)


def test_to_import_eegdecode_and_to_name_open_costs_nothing() -> None:
    heavy = "{'torch', 'mne', 'h5py', 'scipy', 'numpy', 'pandas'}"
    code = f"import sys, eegdecode; assert 'open' in dir(eegdecode); print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_run_is_meant_by_its_name_its_folder_its_out_and_a_copy(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(run.out, tmp_path / "copy")
    monkeypatch.chdir(run.path.parent.parent)
    each = [eegdecode.open(word) for word in ("preprocess-ab", run.path, run.out, tmp_path / "copy")]
    assert {one.recordings for one in each} == {(ONE, ONE.replace("01", "02"))}
    assert "2 recordings of 2 subjects, 10 trials" in repr(each[0])


def test_raw_has_the_stored_bits_positions_and_trials(opened: Preprocessed) -> None:
    raw, stored = opened.raw(ONE), opened.stored(ONE)
    assert not raw.preload and raw.info["sfreq"] == 64 and raw.get_channel_types() == ["eeg"] * 3
    np.testing.assert_array_equal(raw.get_data(), stored.read(0, stored.n_times).T)
    np.testing.assert_array_equal(raw.get_data(picks=[2, 0], start=7, stop=9), stored.read(7, 9).T[[2, 0]])
    places = raw.get_montage().get_positions()["ch_pos"]
    assert {name: tuple(place) for name, place in places.items()}["Fz"] == pytest.approx((0, 0.07, 0.05), abs=1e-6)
    texts = raw.annotations.description.tolist()
    assert texts.count("left") == 3 and texts.count("right") == 2 and texts.count("BAD_cough") == 1
    filtered = pickle.loads(pickle.dumps(raw)).load_data().filter(1, 20, verbose="error")
    assert filtered.get_data().shape == (3, stored.n_times)


def test_epochs_are_the_trials_with_their_labels_and_mne_cuts_what_we_cut(opened: Preprocessed) -> None:
    epochs = opened.epochs(ONE)
    assert epochs.metadata.columns.tolist()[-2:] == ["trial_type", "age"] or "age" in epochs.metadata
    assert (epochs.metadata["age"] == 20).all() and epochs.event_id == {"left": 1, "right": 2}
    arrays = opened.select(ONE).numpy("trial_type")
    np.testing.assert_array_equal(epochs.get_data().astype(np.float32), arrays.X)
    assert arrays.y is not None and arrays.y.tolist() == [0, 1, 0, 1, 0]
    by_age = opened.epochs(tmin=0.1, tmax=0.6, by="age", baseline=(None, None))
    assert by_age.event_id == {"20": 1, "31": 2} and len(by_age) == 10
    assert isinstance(opened.epochs(ONE), mne.Epochs) and len(opened.epochs()["left"]) == 6


def test_a_window_that_reaches_into_a_bad_span_is_left_out_of_epochs_and_data_sets(opened: Preprocessed) -> None:
    assert len(opened.epochs(ONE, tmax=2.0).drop_bad()) == 5
    assert len(opened.select(ONE).dataset(tmax=2.5)) == 4  # the last one begins 0.2 s before the cough
    assert len(opened.epochs(ONE, tmax=2.5).drop_bad()) == 4


def test_rests_behind_a_masked_span_are_no_epochs(tmp_path: Path) -> None:
    from dataclasses import replace

    run = preprocessed.run(tmp_path, lambda cfg: replace(cfg, bad_spans="mask", shortest_s=0.1))
    opened = eegdecode.open(run.path).select(ONE)
    assert len(opened.stored().trials) == 7
    assert len(opened.epochs(tmax=0.1).events) == 6 and len(opened.dataset(tmax=0.1)) == 6


def test_the_data_set_is_one_of_torch_and_its_pickle_holds_no_samples(opened: Preprocessed) -> None:
    data = opened.dataset("trial_type", tmin=0.0, tmax=1.0)
    arrays = opened.numpy("trial_type", tmax=1.0)
    x, y = data[3]
    assert x.dtype == torch.float32 and y == 1 and data.classes == ("left", "right")
    assert data.subjects == ["sub-01"] * 5 + ["sub-02"] * 5 and data.metadata[0]["age"] == 20
    assert len(pickle.dumps(data)) < 20_000
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)
    batches = list(loader)
    np.testing.assert_array_equal(torch.cat([x for x, _ in batches]).numpy(), arrays.X)
    assert torch.cat([y for _, y in batches]).tolist() == (arrays.y.tolist() if arrays.y is not None else None)
    with pytest.raises(IndexError):
        data[len(data)]


def test_windows_within_trials_and_targets_over_time(tiny_store: object, opened: Preprocessed) -> None:
    music = Preprocessed("music", Path(), tiny_store)  # type: ignore[arg-type]
    data = music.dataset("envelope", length=1.0, stride=0.5)
    x, y = data[0]
    arrays = music.numpy("envelope", length=1.0, stride=0.5)
    assert x.shape == (8, 64) and y.shape == (1, 64) and len(data) == len(arrays.metadata) > 80
    assert arrays.y is not None and arrays.y.shape[1:] == (1, 64)
    assert torch.equal(opened.dataset(tmax=1)[0], opened.dataset("trial_type", tmax=1)[0][0])
    with pytest.raises(ValueError, match="last from 5.* to .* s: give tmax, at most 5"):
        music.epochs()


def test_int16_is_read_in_volt(tmp_path: Path) -> None:
    from dataclasses import replace

    run = preprocessed.run(tmp_path, lambda cfg: replace(cfg, int16=True, steps=(*cfg.steps, Pick(names=("Cz",)))))
    opened = eegdecode.open(run.path)
    raw = opened.raw(ONE).get_data()
    assert raw.shape[0] == 1 and 0.2e-5 < raw.std() < 2e-5
    np.testing.assert_array_equal(opened.select(ONE).numpy(tmax=1).X[0, 0], raw[0, 64:128].astype(np.float32))


def test_a_flipped_bit_is_found_before_the_first_sample(tmp_path: Path) -> None:
    run = preprocessed.run(tmp_path)
    file = run.out / f"{ONE}.h5"
    content = bytearray(file.read_bytes())
    content[eegdecode.open(run.path).stored(ONE).blocks["signal"].offset + 100] ^= 1
    file.write_bytes(content)
    opened = eegdecode.open(run.path)
    for read in (
        lambda: opened.raw(ONE).get_data(), lambda: opened.epochs(ONE).get_data(), lambda: opened.numpy(),
        lambda: opened.dataset()[0],
    ):  # fmt: skip
        with pytest.raises(DamagedProduct, match=f"{ONE}.h5 is damaged.*hpc verify"):
            read()


def test_what_is_no_finished_run_of_preprocess_is_refused_in_a_sentence(run: RunDir, tmp_path: Path) -> None:
    train = RunDir(tmp_path / "train-x")
    write_json(train.plan, {"stage": "train", "name": "train-x", "inputs": {"data": "preprocess-q1"}})
    with pytest.raises(ValueError, match="train-x is a run of train, and not of preprocess: it reads preprocess-q1"):
        eegdecode.open(train.path)
    half = RunDir(tmp_path / "preprocess-x")
    write_json(half.plan, {"stage": "preprocess", "name": "preprocess-x"})
    with pytest.raises(ValueError, match="preprocess-x has not finished: `hpc resume preprocess-x"):
        eegdecode.open("preprocess-x", runs=tmp_path)
    with pytest.raises(ValueError, match="there is no run 'nowhere' in .*name a run of preprocess"):
        eegdecode.open("nowhere", runs=tmp_path)
    with pytest.raises(ValueError, match="is neither a run nor a copy of its store"):
        eegdecode.open(tmp_path)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda opened: opened.raw(), "has 2 recordings, .*: say which"),
        (lambda opened: opened.raw("sub-1_task-hands_run-1"), "Did you mean 'sub-01_task-hands_run-1'"),
        (lambda opened: opened.select("sub-09*"), "no recording of .* is sub-09"),
        (lambda opened: opened.dataset("nothing", tmax=1), "target must be one of trial_type"),
        (lambda opened: opened.epochs(by="weight"), "no label 'weight': `by` is one of stimulus, age, level"),
        (lambda opened: opened.dataset(tmin=0.5, length=1), "give tmin and tmax .*, or length .*: not both"),
        (lambda opened: opened.dataset(tmin=-9), "leaves the recording"),
    ],
)
def test_a_wrong_question_is_answered_in_a_sentence(opened: Preprocessed, ask: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ask(opened)  # type: ignore[operator]


def test_without_pandas_the_sentence_says_how_to_do_without(
    opened: Preprocessed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match=r"pandas, which is not installed: .*or give metadata=None"):
        opened.epochs(ONE)
