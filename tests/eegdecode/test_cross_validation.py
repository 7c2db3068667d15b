"""A cross-validation is one result: folds pooled, seeds averaged, settings chosen by validation sets only."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import folds as designs
from eegdecode import stages
from eegdecode.data.config import EpochWindows, Split
from eegdecode.data.store import store
from eegdecode.evaluation import results
from eegdecode.evaluation.config import Evaluate, Scoring
from eegdecode.evaluation.cross_validation import choice, folds
from eegdecode.evaluation.cross_validation import run as cross_validation
from eegdecode.evaluation.cross_validation.folds import Fold
from eegdecode.evaluation.decode import predict
from eegdecode.evaluation.decode.predictions import Decoded, Kind
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives.classification import Classification
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training.config import Optim, Train
from eegdecode.training.model_file import Trained
from hpc import config
from hpc.plan import plan
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_json, write_json
from tests.eegdecode.test_results import decoded

SCORING = Scoring(n_null=200)


def by_subject(whole: Decoded, repetition: str = "") -> list[Fold]:
    """Each subject as a fold."""
    made = []
    for number, name in enumerate(sorted({trial.subject for trial in whole.trials})):
        rows = [row for row, trial in enumerate(whole.trials) if trial.subject == name]
        baselines = {each: values[rows] for each, values in whole.baselines.items()}
        trials = tuple(whole.trials[row] for row in rows)
        made.append(Fold(f"fold={number}", repetition, replace(whole, trials=trials, baselines=baselines)))
    return made


@pytest.mark.parametrize("kind", ["classes", "retrieval", "values"])
def test_all_folds_are_one_test_set_with_one_p(kind: Kind) -> None:
    whole = decoded(kind, 1.0)
    pooled, once = folds.evaluate(by_subject(whole), SCORING), results.evaluate(whole, SCORING)
    main, before = pooled.result.figures[once.headline], once.figures[once.headline]
    assert (main.value, main.chance, main.low) == pytest.approx((before.value, before.chance, before.low))
    assert [row.value for row in pooled.result.subjects] == pytest.approx([row.value for row in once.subjects])
    assert pooled.result.baselines["linear"] == pytest.approx(once.baselines["linear"])
    assert pooled.result.verdict == "above chance" and pooled.n_folds == 4
    assert main.bound is not None and before.bound is not None and main.bound > before.bound, "as folds depend"
    assert "p" not in pooled.plain()["folds"][0] and "best" not in str(pooled.plain())


def test_the_null_is_wider_where_folds_train_on_one_another_and_only_there() -> None:
    whole = decoded("classes", 0.0)
    (every, alone) = (folds.pool(by_subject(whole)), folds.pool([Fold("one", "", whole)]))
    metric = folds.of_folds(results.metrics("classes")["balanced_accuracy"])
    assert metric.null is not None and metric.headline is not None
    wide, narrow = metric.null(every, SCORING), metric.null(alone, SCORING)
    assert wide.std() == pytest.approx(2**0.5 * narrow.std()) and wide.mean() == pytest.approx(narrow.mean())
    of_subjects = (metric.headline.null_by_subject(each, SCORING) for each in (every, alone))
    np.testing.assert_allclose(*of_subjects, err_msg="each subject is tested by one fold, which did not train on it")


@pytest.mark.parametrize("design", ["leave one of 8 subjects out", "by run, one subject, 5 folds"])
def test_cross_validations_of_nothing_are_above_chance_one_time_in_twenty(design: str) -> None:
    """`python -m bench folds` takes 400 of each design; 9 and more of 60 come in 1 of 500 such tests."""
    assert sum(designs.p_of(each)[0] < 0.05 for each in designs.studies(design, False, 60)) <= 8


def test_seeds_are_averaged_and_their_spread_is_told_beside_that_of_subjects() -> None:
    one, other = decoded("classes", 0.6), decoded("classes", 0.9, seed=1)
    whole = folds.evaluate([*by_subject(one, "seed=0"), *by_subject(other, "seed=1")], SCORING)
    alone = [folds.evaluate(by_subject(each), SCORING).result for each in (one, other)]
    values = [each.figures["balanced_accuracy"].value for each in alone]
    assert list(whole.repetitions.values()) == pytest.approx(values)
    assert whole.result.figures["balanced_accuracy"].value == pytest.approx(np.mean(values))
    assert whole.sd_repetitions == pytest.approx(np.std(values, ddof=1))
    means = [(a.value + b.value) / 2 for a, b in zip(alone[0].subjects, alone[1].subjects, strict=True)]
    assert [row.value for row in whole.result.subjects] == pytest.approx(means)
    assert whole.sd_subjects == pytest.approx(np.std(means, ddof=1))
    assert sum(map(sum, whole.result.confusion)) == 2 * len(one.trials)


def test_the_candidates_of_a_retrieval_are_those_of_a_windows_own_fold() -> None:
    whole = decoded("retrieval", 1.0)
    pieces = {f"s{number}": number % 3 for number in range(24)}
    parts = [
        Fold(f"fold={k}", "", replace(whole, trials=own, baselines={}))
        for k in range(3)
        if (own := tuple(trial for trial in whole.trials if pieces[trial.stimulus] == k))
    ]
    result = folds.evaluate(parts, SCORING).result
    assert result.headline == "top1" and result.figures["top1"].chance == pytest.approx(1 / 8)
    assert result.permuted == "8 candidates in each of 3 folds"
    each = [results.evaluate(part.decoded, SCORING).figures["top1"].value for part in parts]
    assert result.figures["top1"].value == pytest.approx(np.mean(each))
    assert [row.n_windows for row in result.subjects] == [48] * 4


def test_what_is_no_cross_validation_is_not_pooled() -> None:
    whole = by_subject(decoded("classes", 1.0))
    with pytest.raises(ValueError, match="fold=9 and fold=0 both test the window at 0 s of trial 0 of rec-0"):
        folds.pool([*whole, replace(whole[0], name="fold=9")])
    with pytest.raises(
        ValueError, match="have to test the same windows, but seed=1 tests 144, and the first 192, some of them others"
    ):
        folds.pool([*whole, *(replace(fold, repetition="seed=1") for fold in whole[1:])])
    other = replace(whole[1], decoded=replace(whole[1].decoded, target="age"))
    with pytest.raises(ValueError, match="have one target, but fold=1 has 'age', where fold=0 has 'target'"):
        folds.pool([whole[0], other])


def trained(runs: Path, name: str, loss: float, label: str = "cv", **changed: object) -> Trained:
    """A training as its folder says it was."""
    cfg = Train(data=(Input("preprocess-a"),), objective=Classification(), split=Split(by="subject", folds=3))
    cfg = replace(cfg, split=replace(cfg.split, fold=int(str(changed.pop("fold", 0)))))
    optim = replace(cfg.optim, lr=float(str(changed.pop("lr", 1e-3))), choose_by=str(changed.pop("by", "loss")))
    cfg = replace(cfg, optim=optim, **changed)  # type: ignore[arg-type]
    plain, run = config.plain(cfg), RunDir(runs / name)
    write_json(run.plan, {"stage": "train", "label": label})
    write_json(run.config, plain)  # JSON is YAML
    write_json(run.result, {})
    spec = None
    return Trained(run, plain, spec, {}, 0, {"loss": loss})  # type: ignore[arg-type]


def test_each_fold_chooses_its_settings_by_its_own_validation_set(tmp_path: Path) -> None:
    losses = {(0, 1e-3): 0.5, (0, 1e-2): 0.4, (1, 1e-3): 0.2, (1, 1e-2): 0.3, (2, 1e-3): 0.6, (2, 1e-2): 0.7}
    models = [
        trained(tmp_path, f"train-{number}", loss, fold=fold, lr=lr)
        for number, ((fold, lr), loss) in enumerate(losses.items())
    ]
    several = choice.choose(models, "apart", "nested", tmp_path)
    assert [(each.fold, each.settings, each.n_settings) for each in several] == [
        ("fold=0", "optim.lr=0.01", 2),
        ("fold=1", "optim.lr=0.001", 2),
        ("fold=2", "optim.lr=0.001", 2),
    ]
    assert cross_validation.sentence(several).endswith("each with the best of 2 settings by its validation set")


def test_a_fold_chooses_by_the_figure_that_chose_the_step(tmp_path: Path) -> None:
    accuracies = {(fold, lr): accuracy for fold in range(3) for lr, accuracy in ((1e-3, 0.6), (1e-2, 0.9))}
    models = []
    for (fold, lr), accuracy in accuracies.items():
        own = trained(tmp_path, f"train-{fold}-{lr}", accuracy, fold=fold, lr=lr, by="balanced_accuracy")
        models.append(replace(own, validation={**own.validation, "balanced_accuracy": accuracy}))
    several = choice.choose(models, "apart", "nested", tmp_path)
    assert [(each.settings, each.by) for each in several] == [("optim.lr=0.01", "balanced_accuracy")] * 3
    without = [replace(each, validation={"loss": 0.5}) for each in models]
    with pytest.raises(ValueError, match=r"by the validation balanced_accuracy, but train-\d-\S+ has only loss"):
        choice.choose(without, "apart", "nested", tmp_path)
    other = trained(tmp_path, "train-x", 0.1, fold=0, lr=0.1)
    with pytest.raises(ValueError, match="have chosen their steps by balanced_accuracy and loss"):
        choice.choose([*models, other], "apart", "fixed", tmp_path)


def test_a_part_of_the_settings_of_a_sweep_is_refused(tmp_path: Path) -> None:
    models = [trained(tmp_path, f"train-{fold}", 0.5, fold=fold) for fold in range(3)]
    trained(tmp_path, "train-x", 0.4, label="other", fold=0, lr=0.1)
    assert [each.n_settings for each in choice.choose(models, "apart", "nested", tmp_path)] == [1, 1, 1]
    trained(tmp_path, "train-y", 0.4, fold=0, lr=0.1)
    with pytest.raises(
        ValueError, match=r"the sweep cv has 1 other setting of the same task \(optim.lr=0.1\): say model=cv"
    ):
        choice.choose(models, "apart", "nested", tmp_path)
    assert len(choice.choose(models, "apart", "fixed", tmp_path)) == 3


def test_models_that_are_no_whole_cross_validation_are_refused(tmp_path: Path) -> None:
    models = [trained(tmp_path, f"train-{fold}", 0.5, fold=fold) for fold in range(3)]

    def refused(several: Sequence[Trained], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            choice.choose(several, "apart", "fixed", tmp_path)

    refused(
        models[:2], "of 3 there is no fold=2 .* train what is missing .the same sweep again does., and evaluate all"
    )
    again = trained(tmp_path, "train-2-2", 0.5, fold=2)
    refused([*models, again], "train-2 and train-2-2 have the same fold, seed and settings: name one")
    second = trained(tmp_path, "train-s", 0.5, fold=1, seed=1)
    refused(
        [*models, second],
        "of 3 there is no fold=0 and fold=2 with .*seed=1|of 3 there is no fold=0, fold=2 with .*seed=1",
    )
    refused(
        [*models[:2], trained(tmp_path, "train-t", 0.5, fold=2, target="age")], "one task, but train-t has target=age"
    )
    losses = [trained(tmp_path, f"train-l{k}", 0.5, fold=k, objective=Classification(focus=2.0)) for k in range(3)]
    refused([*models, *losses], "lowest validation loss, but these are of different losses")


def test_models_of_a_fold_decode_together_if_so_asked(tmp_path: Path) -> None:
    models = [
        trained(tmp_path, f"train-{fold}-{seed}", 0.5, fold=fold, seed=seed) for fold in range(3) for seed in range(2)
    ]
    apart, together = (choice.choose(models, how, "nested", tmp_path) for how in ("apart", "together"))
    assert [(each.repetition, len(each.models)) for each in apart] == [("seed=0", 1)] * 3 + [("seed=1", 1)] * 3
    assert [(each.repetition, len(each.models)) for each in together] == [("", 2)] * 3


def test_the_name_of_a_pipelines_sweep_means_its_trainings(tmp_path: Path) -> None:
    """Not its preprocessing and single evaluations, and not what a training started from."""
    inputs = {"train-a": {"start.source": "train-p"}, "train-b": {"start.source": "train-p"}, "evaluate-a": {}}
    for name in ("preprocess-x", "train-p", *inputs):
        stage = name.split("-")[0]
        write_json(RunDir(tmp_path / name).plan, {"label": "cv", "stage": stage, "inputs": inputs.get(name, {})})
    runs = [RunDir(folder) for folder in sorted(tmp_path.iterdir())]
    (science,) = plan.sciences("evaluate", {}, ["model=cv"], named=lambda ref: runs)
    assert science.config["model"] == ["train-a", "train-b"]


SFREQ, CHANNELS, N_TRIALS = 64.0, ("C3", "Cz", "C4"), 24


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of three folds of three subjects, with networks of two sizes; in half of the trials C4 is louder."""
    runs = tmp_path_factory.mktemp("runs")
    rng, names = np.random.default_rng(0), ["sub-1", "sub-2", "sub-3"]
    store.write_manifest(runs / "data", names)
    for name in names:
        kinds = rng.permutation(np.arange(N_TRIALS) % 2)
        signal = rng.normal(size=(N_TRIALS, round(SFREQ), len(CHANNELS)))
        signal[:, :, 2] *= 1 + 3 * kinds[:, None]
        trials = tuple(Trial(float(n), 1.0, f"s{n}") for n in range(N_TRIALS))
        stream = Signal(signal.reshape(-1, len(CHANNELS)).astype(np.float32), SFREQ, CHANNELS).stream()
        values = {"side": kinds.astype(np.float32)[:, None]}
        store.write(runs / "data", Recording(name, name, stream, trials, values=values))
    cfg = Train(
        data=(Input(str(runs / "data")),),
        target="side",
        model=EEGNet(dropout=0.1),
        objective=Classification(),
        split=Split(by="subject", folds=0, shared=("stimulus",)),
        windows=EpochWindows(tmin_s=0.0, tmax_s=1.0, batch=12),
        optim=Optim(steps=4, warmup_steps=2, validate_every=2),
    )
    for fold in range(3):
        for name, filters in (("eegnet", 8), ("small", 4)):
            own = replace(cfg, split=replace(cfg.split, fold=fold), model=EEGNet(filters=filters, dropout=0.1))
            run = RunDir(runs / f"train-{name}-{fold}")
            write_json(run.plan, {"stage": "train", "label": "cv"})
            write_json(run.config, config.plain(own))
            write_json(run.result, {"metrics": stages.train(own, Context(World(), run))})
    return runs


def of(runs: Path, *names: str) -> tuple[Input, ...]:
    return tuple(Input(str(RunDir(runs / f"train-{name}-{fold}").out)) for name in names for fold in range(3))


def test_a_nested_cross_validation_is_one_report(sweep: Path) -> None:
    run = RunDir(sweep / "evaluate-nested")
    summary = stages.evaluate(
        Evaluate(of(sweep, "eegnet", "small"), scoring=Scoring(n_null=100)), Context(World(), run)
    )
    assert (summary["folds"], summary["repetitions"]) == (3, 1) and "best" not in summary
    report = read_json(run.out / "report.json") or {}
    whole = report["cross_validation"]
    assert [row["n_settings"] for row in whole["models"]] == [2, 2, 2]
    for row in whole["models"]:
        losses = {}
        for model in ("eegnet", "small"):
            path = RunDir(sweep / f"train-{model}-{row['fold'].removeprefix('fold=')}")
            losses[path.name] = torch.load(path.out / "model.pt", weights_only=True)["validation"]["loss"]
        assert row["runs"] == [min(losses, key=losses.__getitem__)]
    assert {row["subject"]: row["n_windows"] for row in report["subjects"]} == {f"sub-{n}": N_TRIALS for n in (1, 2, 3)}
    assert "fold" not in report["of"]["split"] and report["figures"]["balanced_accuracy"]["low"] is not None
    page = " ".join((run.out / "report.html").read_text().split())
    assert "The cross-validation is nested: each fold chose from 2 settings by the loss" in page
    assert "2 settings of the network were tried on the validation set, and 2 of each linear decoder" in page
    assert "A fold has no p of its own" in page and page.count("<th>p (Holm)") <= 1


def test_a_part_of_a_sweep_is_refused_before_anything_is_decoded(sweep: Path) -> None:
    run = RunDir(sweep / "evaluate-part")
    with pytest.raises(ValueError, match="the sweep cv has 1 other setting of the same task"):
        stages.evaluate(Evaluate(of(sweep, "eegnet")), Context(World(), run))
    missing = of(sweep, "eegnet")[:2]
    with pytest.raises(
        ValueError, match="24 trials of 72 are in the test set of no fold, of sub-.: train the folds that"
    ):
        stages.evaluate(Evaluate(missing, choice="fixed"), Context(World(), run))
    assert not (run.out / "predictions").exists()


def test_a_stopped_cross_validation_goes_on_with_the_next_fold(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, run = (
        Evaluate(of(sweep, "eegnet"), scoring=Scoring(n_null=100), choice="fixed"),
        RunDir(sweep / "evaluate-again"),
    )
    decode, decoded_again = predict.decode, []

    def stopped(models: Sequence[Path], *others: object, **named: object) -> object:
        if "val" not in others:
            decoded_again.append(models[0].parent.name)
        if len(decoded_again) == 3:
            raise KeyboardInterrupt
        return decode(models, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(predict, "decode", stopped)
    with pytest.raises(KeyboardInterrupt):
        stages.evaluate(cfg, Context(World(), run))
    summary = stages.evaluate(cfg, Context(World(), run))
    assert decoded_again == [f"train-eegnet-{fold}" for fold in (0, 1, 2, 2)]
    whole = stages.evaluate(cfg, Context(World(), RunDir(sweep / "evaluate-whole")))
    assert summary == whole and isinstance(summary["balanced_accuracy"], Mapping)
    assert "fixed before any test set was looked at (choice=fixed)" in (run.out / "report.html").read_text()
