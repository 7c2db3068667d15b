"""Figures of evaluation are what they say, fair at chance, and the baseline is a true ridge."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy import signal as dsp
from sklearn.linear_model import Ridge

from eegdecode import stages
from eegdecode.data.config import GridWindows, RandomWindows, Split
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation import results
from eegdecode.evaluation.baselines import lagged_ridge
from eegdecode.evaluation.config import Evaluate, Scoring
from eegdecode.evaluation.decode import ensemble, predict, predictions
from eegdecode.evaluation.decode.predict import Decoded, DecodedTrial
from eegdecode.evaluation.statistics import nulls
from eegdecode.models.bilstm import BiLSTM
from eegdecode.preprocessing.config import Preprocess
from eegdecode.signals import Recording, Signal, SignalSpec, Trial
from eegdecode.synth.config import Music
from eegdecode.training import model_file
from eegdecode.training.config import Optim, Train
from eegdecode.training.model_file import Trained
from eegdecode.training.validator import whole_trial
from hpc.config.stages import check
from hpc.rank.context import Context, Input, World
from hpc.runs import records
from hpc.runs.rundir import RunDir, read_json
from tests.eegdecode.ranks import on_ranks

SFREQ = 64.0
SUBJECTS, PIECES = 4, 5
EVERY = ("r", "rank_accuracy", "match_mismatch", "spectrum_r", "spectrum_rank", "ssim", "ssim_rank")
"""The figures of a target that is slow and of one feature."""


def ctx(run: Path) -> Context:
    return Context(World(), RunDir(run))


def slow_noise(rng: np.random.Generator, n_times: int) -> np.ndarray:
    """[time, 1] with the rhythm of an envelope."""
    return dsp.sosfiltfilt(dsp.butter(2, 4, fs=SFREQ, output="sos"), rng.normal(size=(n_times, 1)), axis=0)


def listening(seed: int, clarity: float = 0.0, n_times: int = 640) -> Decoded:
    """What four subjects' decoders might give for five pieces.

    They hold the pieces as well as `clarity` says, and something that all subjects who hear a piece have in common.
    """
    rng = np.random.default_rng(seed)
    trials = []
    for piece in range(PIECES):
        target, common = slow_noise(rng, n_times), slow_noise(rng, n_times)
        for subject in range(SUBJECTS):
            output = clarity * target + common + slow_noise(rng, n_times)
            trials.append(DecodedTrial(f"sub-{subject}", f"piece-{piece}", target, output))
    return Decoded(SFREQ, tuple(trials), ())


def identity(decoded: Decoded) -> Decoded:
    return replace(decoded, trials=tuple(replace(trial, output=trial.target) for trial in decoded.trials))


def test_rotations_are_those_of_numpy() -> None:
    trial = listening(0, n_times=201).trials[0]
    by_hand = [np.corrcoef(trial.output[:, 0], np.roll(trial.target[:, 0], k))[0, 1] for k in range(201)]
    np.testing.assert_allclose(nulls.rotated(trial.output, trial.target), by_hand, atol=1e-9)


def test_a_perfect_decoder_is_perfect_by_every_figure() -> None:
    result = results.evaluate(identity(listening(0)), Scoring())
    values = {name: result.figures[name].value for name in EVERY}
    assert values == pytest.approx(dict.fromkeys(EVERY, 1.0))
    assert all(result.figures[name].chance < 0.9 for name in EVERY)
    assert result.verdict == "above chance"
    assert [row.n_windows for row in result.subjects] == [PIECES] * SUBJECTS


def test_the_summary_has_chance_beside_each_figure() -> None:
    decoded = listening(0, clarity=1.0)
    decoded = replace(decoded, baselines={"ridge": identity(decoded).output})
    result = results.evaluate(decoded, Scoring(n_null=200))
    summary = result.summary()
    for name in EVERY:
        assert summary[name]["value"] > summary[name]["chance"]  # type: ignore[index]
    assert summary["r_ridge"] == pytest.approx(1)
    for name in ("rank_accuracy", "match_mismatch", "spectrum_rank", "ssim_rank"):
        assert summary[name]["chance"] == 0.5  # type: ignore[index]
    assert summary["spectrum_r"]["chance"] > 0.1, "music has like spectra"  # type: ignore[index]
    assert (summary["p"], summary["verdict"]) == (pytest.approx(1 / 201), "above chance")
    assert all(row.p_holm == pytest.approx(SUBJECTS * row.p) for row in result.subjects)


def test_decoders_that_follow_something_else_pass_for_above_chance_in_5_of_100_cases() -> None:
    """Also where all who hear a piece share what is decoded, so that their trials are not independent."""
    of_seeds = [results.evaluate(decoded, Scoring(seed=1, n_null=200)) for decoded in map(listening, range(100))]
    assert 1 <= sum(scores.verdict == "above chance" for scores in of_seeds) <= 10
    for name in EVERY:
        beyond = [scores.figures[name].value - scores.figures[name].chance for scores in of_seeds]
        assert np.mean(beyond) == pytest.approx(0, abs=3.5 * np.std(beyond) / np.sqrt(len(beyond))), name


def fading(seed: int, n_pieces: int, clarity: float, n_times: int = 640) -> Decoded:
    """Pieces that all fade in and out, and decoders that know when, and of the piece itself what `clarity` says."""
    rng, instants = np.random.default_rng(seed), np.arange(n_times) / SFREQ
    fade = np.clip(np.minimum(instants, n_times / SFREQ - instants) / 2, 0, 1)[:, None]
    trials = []
    for piece in range(n_pieces):
        target = fade * (1 + slow_noise(rng, n_times))
        for subject in range(SUBJECTS):
            output = fade + clarity * target + 0.5 * slow_noise(rng, n_times)
            trials.append(DecodedTrial(f"sub-{subject}", f"piece-{piece}", target, output))
    return Decoded(SFREQ, tuple(trials), ())


@pytest.mark.parametrize("n_pieces", [2, 4, 12])
def test_who_knows_only_how_trials_begin_and_end_decodes_nothing(n_pieces: int) -> None:
    of_seeds = [results.evaluate(fading(seed, n_pieces, 0.0), Scoring(n_null=100)) for seed in range(30)]
    assert sum(scores.verdict == "above chance" for scores in of_seeds) <= 4
    of_r = [scores.figures["r"] for scores in of_seeds]
    assert np.mean([r.value for r in of_r]) == pytest.approx(np.mean([r.chance for r in of_r]), abs=0.02)
    assert min(r.value for r in of_r) > 0.3
    same_for_all = fading(0, n_pieces, 0.0)
    trials = tuple(replace(trial, output=same_for_all.trials[0].output) for trial in same_for_all.trials)
    assert results.evaluate(replace(same_for_all, trials=trials), Scoring()).figures["r"].p > 0.3  # type: ignore[operator]


def test_who_follows_the_piece_beyond_that_is_above_chance() -> None:
    result = results.evaluate(fading(0, 4, 1.0), Scoring())
    assert result.verdict == "above chance" and all(row.p_holm < 0.05 for row in result.subjects)


def test_of_a_single_piece_it_is_said_what_cannot_be_told() -> None:
    result = results.evaluate(fading(0, 1, 1.0), Scoring())
    assert (
        result.figures["r"].chance == 0 and "with a single test piece, following it cannot be separated" in result.what
    )
    assert "single" not in results.evaluate(fading(0, 2, 1.0), Scoring()).what


def test_what_never_moves_is_at_chance() -> None:
    decoded = listening(0)
    flat = replace(decoded, trials=tuple(replace(trial, output=np.ones_like(trial.target)) for trial in decoded.trials))
    result = results.evaluate(flat, Scoring())
    assert result.figures["r"].value == 0
    for name in ("rank_accuracy", "match_mismatch", "spectrum_rank", "ssim_rank"):
        assert result.figures[name].value == 0.5, name
    assert result.verdict == "not above chance"


def test_what_cannot_be_told_is_left_out() -> None:
    decoded = listening(0)

    def names(n_times: int, n_trials: int | None = None, sfreq: float = SFREQ) -> list[str]:
        """Of trials that are as short."""
        trials = (replace(t, target=t.target[:n_times], output=t.output[:n_times]) for t in decoded.trials[:n_trials])
        figures = results.evaluate(replace(decoded, trials=tuple(trials), sfreq=sfreq), Scoring()).figures
        return [name for name in figures if name in EVERY]

    assert names(400, SUBJECTS) == ["r"], "a single piece, and less than two windows"
    assert names(400) == ["r", "rank_accuracy", "spectrum_r", "spectrum_rank"]
    assert "match_mismatch" not in names(200)
    assert names(640, sfreq=8.0) == ["r", "rank_accuracy", "match_mismatch"]


def test_the_seed_alone_decides_the_chance_level() -> None:
    decoded = listening(3)
    first, again, other = (results.evaluate(decoded, Scoring(seed=seed)).figures["r"].bound for seed in (1, 1, 2))
    assert first == again != other


def test_too_few_rotations_are_refused() -> None:
    with pytest.raises(ValueError, match="n_null must be at least 100, .* got 20"):
        Scoring(n_null=20)


def test_lags_look_ahead_of_each_sample() -> None:
    x = np.arange(1, 9).reshape(4, 2)
    np.testing.assert_array_equal(
        lagged_ridge.lagged(x, 3), [[1, 3, 5, 2, 4, 6], [3, 5, 7, 4, 6, 8], [5, 7, 0, 6, 8, 0], [7, 0, 0, 8, 0, 0]]
    )


def test_the_ridge_is_sklearns(tiny_store: Store) -> None:
    segments = splits.split(Split(), tiny_store.recordings).train
    decoder = lagged_ridge.solved(lagged_ridge.sums_of(tiny_store, segments, "envelope", n_lags=5))
    trials = [whole_trial(tiny_store, segment, "envelope") for segment in segments]
    inputs = np.concatenate([lagged_ridge.lagged(x[0] - decoder.x_mean, 5) for x, _, _ in trials]).astype(np.float64)
    targets = np.concatenate([y[0] - decoder.y_mean for _, y, _ in trials])
    mean_eigenvalue = np.square(inputs).sum() / inputs.shape[1]
    for index in (0, 7, 14):
        oracle = Ridge(lagged_ridge.PENALTIES[index] * mean_eigenvalue, fit_intercept=False).fit(inputs, targets[:, 0])
        np.testing.assert_allclose(decoder.weights[index, :, 0], oracle.coef_, rtol=1e-3, atol=1e-6)


def test_the_ridge_is_mnes_receptive_field(tiny_store: Store) -> None:
    """Backwards: the signal at an instant and the four samples after it give the target."""
    segments = splits.split(Split(), tiny_store.recordings).train[:1]
    decoder = lagged_ridge.solved(lagged_ridge.sums_of(tiny_store, segments, "envelope", n_lags=5))
    x, y, _ = whole_trial(tiny_store, segments[0], "envelope")
    x, y = x[0].astype(np.float64) - decoder.x_mean, y[0].astype(np.float64) - decoder.y_mean
    assert len(x) == len(y)
    penalty = lagged_ridge.PENALTIES[7] * np.square(lagged_ridge.lagged(x, 5)).sum() / (5 * x.shape[1])
    oracle = mne.decoding.ReceptiveField(-4.0, 0.0, 1.0, estimator=Ridge(penalty, fit_intercept=False))
    oracle.fit(x, y[:, 0])
    weights = decoder.weights[7, :, 0].reshape(x.shape[1], 5)
    np.testing.assert_allclose(weights, oracle.coef_[:, ::-1], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(decoder.by_lag(7), weights.T)


def train(run: Path, data: Path, **knobs: object) -> Path:
    """A model of a few steps."""
    cfg = Train(
        data=(Input(str(data)),),
        model=BiLSTM(hidden=16, dropout=0.3),
        windows=RandomWindows(length_s=3.0, batch=16),
        optim=Optim(lr=0.01, weight_decay=3.0, steps=100, validate_every=25),
        **knobs,  # type: ignore[arg-type]
    )
    stages.train(cfg, ctx(run))
    return RunDir(run).out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with pieces enough to learn from."""
    runs = tmp_path_factory.mktemp("runs")
    study = Music(n_subjects=2, n_pieces=12, piece_s=(10.0, 11.0), n_channels=8, response_uv=4.0)
    stages.synthesize(study, ctx(runs / "study"))
    stages.preprocess(Preprocess(Input("study")), ctx(runs / "data"))
    return RunDir(runs / "data").out


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "train", data)


def test_a_planted_answer_is_found(model: Path, tmp_path: Path) -> None:
    summary = stages.evaluate(Evaluate((Input(str(model)),)), ctx(tmp_path / "run"))
    assert summary["verdict"] == "above chance"
    report = read_json(tmp_path / "run" / "out" / "report.json") or {}
    assert min(summary["r"]["value"], summary["r_ridge"]) > 2 * report["figures"]["r"]["bound"]  # type: ignore[index]
    for name in ("rank_accuracy", "match_mismatch"):
        assert summary[name]["value"] > 0.8  # type: ignore[index]
    assert (tmp_path / "run" / "out" / str(summary["report"])).is_file()


def test_where_sounds_are_swapped_nothing_is_found(data: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped"
    recordings = store.open_store(data).recordings
    store.write_manifest(swapped, [stored.name for stored in recordings])
    for stored in recordings:
        # Every trial gets the sound of half a session later
        stream = np.roll(stored.target("envelope"), stored.n_times // 2, axis=0)
        envelope = {"envelope": Signal(stream, SFREQ, ("envelope0",)).stream()}
        signal = Signal(np.array(stored.signal), SFREQ, stored.channels).stream()
        store.write(swapped, Recording(stored.name, stored.subject, signal, stored.trials, targets=envelope))
    model = train(tmp_path / "train", swapped)
    summary = stages.evaluate(Evaluate((Input(str(model)),)), ctx(tmp_path / "run"))
    assert summary["verdict"] == "not above chance"


def test_a_subject_without_training_is_decoded_by_what_others_trained(tiny_store: Store, tmp_path: Path) -> None:
    """A ridge for sub-02 from sub-01 alone: the same as one fitted to sub-01 by hand."""
    three = tmp_path / "three"
    store.write_manifest(three, ["sub-00", *(stored.name for stored in tiny_store.recordings)])
    for name, stored in zip(["sub-00", "", ""], [tiny_store.recordings[0], *tiny_store.recordings], strict=True):
        envelope = {"envelope": Signal(np.array(stored.target("envelope")), SFREQ, ("envelope0",)).stream()}
        samples = np.array(stored.signal) * np.float32(1 + 1e-6 * bool(name))  # the very same in two parts are refused
        signal = Signal(samples, SFREQ, stored.channels).stream()
        recording = Recording(name or stored.name, name or stored.subject, signal, stored.trials, targets=envelope)
        store.write(three, recording)
    by_subject = Split(by="subject", train=0.4, val=0.3, test=0.3, shared=("stimulus",))
    trained = model_file.load(train(tmp_path / "train", three, split=by_subject))
    decoded = predict.decode([trained.run.out], ctx(tmp_path / "run"))
    assert decoded is not None
    evaluation = ctx(tmp_path / "run")
    ridge = lagged_ridge.ridge(trained, decoded[1], Scoring(), evaluation)
    evaluation.say_how_far()
    heartbeat = records.heartbeat(evaluation.run, 0)
    assert (heartbeat["what"], heartbeat["done"]) == ("ridge", heartbeat["total"] - 1), (
        "one for each trial that is read"
    )

    data, parts = predict.open_data(trained, ctx(tmp_path / "run"))
    decoder = lagged_ridge.solved(lagged_ridge.sums_of(data, parts.train, "envelope", n_lags=33))
    x, _, _ = whole_trial(data, parts.test[0], "envelope")
    first = decoded[1].trials[0]
    assert not {trial.subject for trial in decoded[1].trials} & {parts.subjects[s.recording] for s in parts.train}
    n = len(first.output)
    assert any(np.allclose(ridge[:n], output[:n]) for output in decoder.decode(x[0], x.shape[1]))


def test_the_ridge_answers_for_the_windows_own_samples_where_trials_begin_between_two(tmp_path: Path) -> None:
    """The target is a channel: an answer that is a sample late would tell nothing of it."""
    folder = tmp_path / "store"
    store.write_manifest(folder, ["sub-01"])
    samples = np.random.default_rng(0).normal(size=(64 * 40, 3)).astype(np.float32)
    trials = tuple(Trial(1.004 + 6 * number, 4.5, f"{number}.wav") for number in range(6))
    targets = {"envelope": Signal(samples[:, :1].copy(), SFREQ, ("envelope0",)).stream()}
    signal = Signal(samples, SFREQ, ("Cz", "C3", "C4")).stream()
    store.write(folder, Recording("sub-01", "sub-01", signal, trials, targets=targets))
    cfg = Train((Input(str(folder)),), windows=GridWindows(length_s=1.0, batch=4), optim=Optim(steps=1))
    stages.train(cfg, ctx(tmp_path / "train"))
    trained = model_file.load(RunDir(tmp_path / "train").out)
    decoded = predict.decode([trained.run.out], ctx(tmp_path / "run"))
    assert decoded is not None
    ridge = lagged_ridge.ridge(trained, decoded[1], Scoring(), ctx(tmp_path / "run"))
    truth = np.concatenate([trial.target for trial in decoded[1].trials])
    assert np.corrcoef(ridge[:, 0], truth[:, 0])[0, 1] > 0.99


def test_models_that_tell_no_classes_are_not_weighed_and_that_is_said_before_the_job(
    model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(model.parent, tmp_path / "b")) / "out"
    both, find = Evaluate(model=(Input("a"), Input("b"))), {"a": model, "b": copy}.get
    assert check(stages.evaluate, both, 1, find) == "2 models decode together"
    with pytest.raises(ValueError, match="weigh=entropy needs to know how sure a model is, as only classifiers do"):
        check(stages.evaluate, replace(both, weigh="entropy"), 1, find)
    with pytest.raises(ValueError, match="train is named twice: models that decode together are different runs"):
        check(stages.evaluate, both, 1, lambda ref: model)
    unsure = replace(both, weigh="entropy")
    assert check(stages.evaluate, unsure, 1, lambda ref: None) == "", "they are still to be made"


def test_predictions_are_kept_for_work_beyond_the_report(model: Path, tmp_path: Path) -> None:
    stages.evaluate(Evaluate((Input(str(model)),)), ctx(tmp_path / "run"))
    stored = predictions.read(tmp_path / "run" / "out" / "predictions.h5")
    decoded = predict.decode([model], ctx(tmp_path / "again"))
    assert decoded is not None
    assert len(stored.trials) == len(decoded[1].trials)
    for one, other in zip(stored.trials, decoded[1].trials, strict=True):
        assert (one.subject, one.stimulus, one.recording, one.start_s) == (
            other.subject, other.stimulus, other.recording, other.start_s,
        )  # fmt: skip
        np.testing.assert_array_equal(one.output, other.output)
        np.testing.assert_array_equal(one.target, other.target)
    assert (stored.audit, stored.sfreq, stored.kind) == (decoded[1].audit, SFREQ, "sequence")
    assert stored.by("ridge").output.shape == stored.output.shape


@pytest.mark.ranks
def test_one_rank_and_three_decode_the_same(model: Path, tmp_path: Path) -> None:
    stages.evaluate(Evaluate((Input(str(model)),)), ctx(tmp_path / "one"))
    metrics = on_ranks(stages.evaluate, Evaluate((Input(str(model)),)), tmp_path / "three", 3)
    assert metrics[1] == metrics[2] == {} and metrics[0]["verdict"] == "above chance"
    one, three = (predictions.read(tmp_path / run / "out" / "predictions.h5") for run in ("one", "three"))
    np.testing.assert_array_equal(one.output, three.output)
    np.testing.assert_array_equal(one.by("ridge").output, three.by("ridge").output)
    for name in ("report.json", "report.md", "table.tex"):
        assert (tmp_path / "one" / "out" / name).read_bytes() == (tmp_path / "three" / "out" / name).read_bytes()


def test_windows_of_a_trial_are_stitched_and_those_that_overlap_are_not_counted_twice() -> None:
    def window(trial: int, start_s: float) -> DecodedTrial:
        rows = start_s * 10 + np.arange(10.0)[:, None]
        return DecodedTrial("a", f"s{trial}", rows, -rows, "rec", trial, start_s)

    starts = [(1, 0.0), (0, 1.0), (0, 0.0), (0, 0.5), (0, 3.0)]
    trials = predict.stitched([window(*start) for start in starts], 10.0)
    assert [(each.trial, each.start_s, len(each.output)) for each in trials] == [
        (0, 0.0, 20),
        (0, 3.0, 10),
        (1, 0.0, 10),
    ]
    np.testing.assert_array_equal(trials[0].target[:, 0], np.arange(20.0))


def test_surer_models_count_for_more() -> None:
    unsure, sure = np.full((1, 4), 0.25), np.array([[0.97, 0.01, 0.01, 0.01]])
    both = np.stack([unsure, sure])
    for weigh in ("mean", "confidence", "entropy"):
        weights = ensemble.weights(both, weigh)  # type: ignore[arg-type]
        np.testing.assert_allclose(weights.sum(axis=0), 1)
        np.testing.assert_allclose(ensemble.weights(np.stack([unsure, unsure]), weigh), 0.5)  # type: ignore[arg-type]
    np.testing.assert_allclose(ensemble.weights(both, "mean"), 0.5)
    np.testing.assert_allclose(ensemble.weights(both, "entropy")[:, 0], [0, 1], atol=1e-6)
    mixed = ensemble.together(np.log(both), "entropy", are_classes=True)
    np.testing.assert_allclose(np.exp(mixed), sure, atol=1e-6)
    with pytest.raises(ValueError, match="weigh=entropy needs to know how sure a model is, as only classifiers do"):
        ensemble.together(both, "entropy", are_classes=False)


def test_data_that_have_changed_are_refused(model: Path, tmp_path: Path) -> None:
    trained = model_file.load(model)
    other = replace(trained, spec=replace(trained.spec, channels=("Cz", "Pz")))
    with pytest.raises(ValueError, match=r"the model was trained on .*Pz.* now holds .*: train it again"):
        predict.open_data(other, ctx(tmp_path / "run"))


def test_a_target_of_many_numbers_is_scored_by_retrieval_from_a_number_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def trained(n_outputs: int, objective: str = "regression") -> Trained:
        spec = SignalSpec(("Cz",), 64.0, n_outputs, n_times=64)
        return Trained(RunDir(Path()), {"objective": {"name": objective}}, spec, {}, 0, {})

    caplog.set_level(logging.INFO)
    for n, objective, limit, kind, sentence in (
        (
            15,
            "regression",
            16,
            "values",
            "by correlation, not retrieval, as the target has 15 numbers a window (evaluate",
        ),
        (16, "regression", 16, "retrieval", "by retrieval, as the target has 16 numbers a window (evaluate.scoring"),
        (16, "regression", 17, "values", "16 numbers a window (evaluate.scoring.retrieval_from=17)"),
        (2, "clip", 16, "retrieval", "by retrieval, as the objective is clip"),
    ):
        assert predict.kind_of(trained(n, objective), limit) == kind
        [logged] = predict.scored_by(trained(n, objective), kind, limit)
        assert sentence in logged and logged in caplog.messages
    assert predict.scored_by(trained(2, "classification"), "classes", 16) == []
    with pytest.raises(ValueError, match="retrieval_from must be at least 2, .* got 1"):
        Scoring(retrieval_from=1)
