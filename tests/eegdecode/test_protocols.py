"""A protocol is what a public benchmark fixes: it fits a study of its layout, and its page has the published rows."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.model_selection import train_test_split

from eegdecode import stages
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.evaluation import leaderboard, resampling
from eegdecode.evaluation.config import Leaderboard, Published
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.leaderboard import Row
from eegdecode.evaluation.metrics import metrics
from eegdecode.models import MODELS
from eegdecode.objectives.classification import Classification
from eegdecode.preprocessing.config import Preprocess
from eegdecode.signals import Signal
from eegdecode.synth import config as synth
from eegdecode.synth import study
from eegdecode.synth.formats import write_edf
from eegdecode.training import setup
from eegdecode.training.config import Train
from eegdecode.training.model_file import Trained
from hpc import config
from hpc.codes import USAGE
from hpc.config import recipes
from hpc.errors import ConfigError
from hpc.plan import protocol
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_json
from tests.conftest import ROOT, Launch

FOLDER = ROOT / "configs/protocols"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))
OF_EEGMAT = ("neuralbench-mental-arithmetic", "openeegbench-arithmetic-zyma2019")


def eegmat(folder: Path, n_subjects: int = 36, rest_s: int = 10) -> Path:
    """The files of eegmat, with three of its channels: subtraction has more of a rhythm at 10 Hz, rest less."""
    for subject in range(n_subjects):
        for task, lasts_s in ((1, rest_s), (2, rest_s // 2)):
            rng = np.random.default_rng([8, subject, task])
            times = np.arange(200 * lasts_s) / 200
            wave = (1 + 9 * (task == 2)) * 1e-6 * np.sin(2 * np.pi * 10 * times)
            data = (wave[:, None] + 3e-6 * rng.normal(size=(len(times), 3))).astype(np.float32)
            path = folder / f"data/Subject{subject:02d}_{task}.edf"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_edf(path, Signal(data, 200.0, ("EEG Fp1", "EEG O1", "EEG O2")))
    return folder


def made(cfg: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        ctx = Context(World(), RunDir(folder / "synthesize-x"))
        study.make_study(cfg, ctx)
        return ctx.out

    return make


def of_bci(folder: Path) -> Path:
    """The sessions as MOABB calls them."""
    out = made(synth.Motor(n_subjects=3, n_trials=24))(folder)
    for path in sorted(out.rglob("*ses-*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.replace("ses-train", "ses-0train").replace("ses-test", "ses-1test")))
    return out


def of_things(folder: Path) -> Path:
    """With a column that names the set of each presentation: the end of the training run validates."""
    out = made(synth.Images(n_subjects=1, n_train=40, n_test=4, n_repeats=4))(folder)
    for path in out.rglob("*_events.tsv"):
        head, *rows = path.read_text().splitlines()
        n_train = len(rows) * 2 // 3
        part = (
            ["test"] * len(rows) if "task-test" in path.name else ["train"] * n_train + ["val"] * (len(rows) - n_train)
        )
        text = [f"{head}\tset", *(f"{row}\t{name}" for row, name in zip(rows, part, strict=True))]
        path.write_text("\n".join(text) + "\n")
    return out


SPEECH = synth.Speech(n_subjects=2, n_sentences=12, sentence_s=(8.0, 9.0), n_channels=16)
STUDIES: dict[str, Callable[[Path], Path]] = {
    **dict.fromkeys(OF_EEGMAT, eegmat),
    **{name: of_bci for name in NAMES if name.startswith(("bcic2a", "moabb"))},
    **{f"speech-segments-{name}": made(SPEECH) for name in ("gwilliams", "broderick")},
    **{f"eeg2025-challenge{n}": made(synth.Eeg2025(n_subjects=4, n_trials=6)) for n in (1, 2)},
    "things-eeg2-nice": of_things,
    "daly-eeg": made(synth.MusicRuns(layout="ds002722", n_subjects=1, n_runs=3, n_trials=2, sfreq=250)),
    "daly-eeg-fmri": made(synth.MusicRuns(layout="ds002725", n_subjects=1, n_runs=3, n_trials=2, sfreq=250)),
}
MODEL = {"bcic2a-eegpt": "eegpt", "daly-eeg": "bilstm", "daly-eeg-fmri": "bilstm", "things-eeg2-nice": "tsconv"}


@cache
def contents(name: str) -> dict[str, Any]:
    return config.load([FOLDER / f"{name}.yaml"])


def planned(name: str, data: Path, *words: str, model: str = "") -> list[Any]:
    model = model or MODEL.get(name, "shallow")
    line = protocol.parse([f"protocol={name}", f"model={model}", f"data={data}", *words])
    return [science for science, _ in protocol.sciences(line)]


def test_every_protocol_is_tested_and_named_in_the_guide() -> None:
    assert sorted(STUDIES) == NAMES == sorted(recipes.protocols())
    guide = "".join(page.read_text() for page in (ROOT / "docs/guide").glob("*.md"))
    assert [name for name in NAMES if f"`{name}`" not in guide] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_published_table_says_where_it_is_from(name: str) -> None:
    values = contents(name)
    page = config.build(Leaderboard, values["leaderboard"], "leaderboard")
    assert page.title and page.differs, "whoever follows it has to know what is not as published"
    if page.published:
        assert page.source and page.date
    assert page.metric in {
        metric for kind in ("classes", "retrieval", "sequence", "values") for metric in metrics(kind)
    }  # type: ignore[arg-type]
    assert {row.model for row in page.published} <= {"", *MODELS}
    assert recipes.title(FOLDER / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_fits_a_made_study_of_its_layout(name: str, tmp_path: Path) -> None:
    """All but the training itself: files, events, labels, steps, targets, the split and the model."""
    data = STUDIES[name](tmp_path)
    everything = planned(name, data)
    first = {science.section: science for science in reversed(everything)}
    ctx = Context(World(), RunDir(tmp_path / first["preprocess"].name))
    stages.preprocess(config.build(Preprocess, first["preprocess"].config, "preprocess"), ctx)
    train = config.build(Train, first["train"].config, "train")
    said = setup.check(replace(train, start=None), [ctx.out], lambda ref: None)
    assert f"{MODEL.get(name, 'shallow')} of " in said
    assert len(everything[-1].inputs) == sum(science.section == "evaluate" for science in everything)


def test_the_subjects_of_neuralbench_are_those_of_its_rule() -> None:
    names = [f"sub-{number:02d}" for number in range(1, 36)]
    rest, test = train_test_split(names, test_size=0.2, random_state=33)
    _, val = train_test_split(rest, test_size=0.2 / (1 - 0.2), random_state=33)
    split = contents("neuralbench-mental-arithmetic")["train"]["split"]
    assert split["test_units"] == sorted(test) and split["val_units"] == sorted(val)


def test_the_published_tables_are_those_of_their_sources() -> None:
    rows = {row["name"]: row["value"] for row in contents(OF_EEGMAT[0])["leaderboard"]["published"]}
    assert (rows["REVE"], rows["ShallowFBCSPNet"], rows["EEGNet"], len(rows)) == (73.876, 69.709, 48.479, 17)
    rows = {row["name"]: row["value"] for row in contents(OF_EEGMAT[1])["leaderboard"]["published"]}
    assert rows["BIOT trained as a whole"] == 34.77 and rows["LaBraM linear probe"] == -0.25
    ssvep = contents("moabb-ssvep-within-session")["leaderboard"]["published"]
    kalunga = {row["name"]: (row["value"], row["spread"]) for row in ssvep if row["dataset"] == "Kalunga2016"}
    assert kalunga["SSVEP_TS+LR"] == (70.86, 11.64) and kalunga["SSVEP_CCA"] == (25.4, 2.51)


def test_a_bench_is_one_sweep_and_another_model_adds_only_its_own(tmp_path: Path) -> None:
    data = eegmat(tmp_path, 1)
    one, two = (planned(OF_EEGMAT[0], data, model=model) for model in ("shallow", "shallow,eegnet"))
    assert [science.section for science in one] == ["preprocess", *["train"] * 3, *["evaluate"] * 3, "leaderboard"]
    assert {science.name for science in one[:-1]} < {science.name for science in two[:-1]}
    assert len(two) == len(one) + 6 and two[-1].name != one[-1].name
    changed = planned(OF_EEGMAT[0], data, "train.seed=1", "train.optim.steps=4", "leaderboard.redraws=5")
    assert len(changed) == 4 and changed[1].config["seed"] == 1
    assert changed[-1].config["changed"] == ["train.seed=1", "train.optim.steps=4"]
    assert changed[-1].config["redraws"] == 5


def test_within_a_session_each_has_five_networks_of_its_own(tmp_path: Path) -> None:
    for subject, session in product((1, 2, 3), ("0train", "1test")):
        bare = f"sub-{subject:02d}_ses-{session}"
        path = tmp_path / f"{bare.replace('_', '/')}/eeg/{bare}_task-imagery_eeg.edf"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"only its name is read")
    everything = planned("moabb-mi-within-session", tmp_path)
    trains = [science.config["split"] for science in everything if science.section == "train"]
    sessions = [f"sub-{number:02d} session {name}" for number in (1, 2, 3) for name in ("0train", "1test")]
    assert sorted((split["only"][0], split["fold"]) for split in trains) == [(s, f) for s in sessions for f in range(5)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench"], "bench which protocol? Say bench protocol=NAME model=a,b data=PATH. There are:\n  bcic2a-c"),
        (["bench", "protocol=neural"], "there is no protocol 'neural'."),
        (["bench", "protocol=moabb-mi-cross-subject", "data=."], "which models are compared by moabb-mi-cross-subject"),
        (["bench", f"protocol={OF_EEGMAT[0]}", "model=eegnet"], "needs the data, data=PATH. It is a folder with Subj"),
        (["bench", f"protocol={OF_EEGMAT[0]}", "model=eegnet,eegnet", "data=."], "names a model twice: name each once"),
        (["bench", f"protocol={OF_EEGMAT[0]}", "model=egnet", "data=."], "Did you mean 'eegnet'"),
        (["bench", "protocol=daly-eeg", "model=bilstm", "data=./nix"], "there is no study at nix"),
        (["bench", f"protocol={OF_EEGMAT[0]}", "model=eegnet", "data=./nix"], "no such file or folder"),
        (["bench", f"protocol={OF_EEGMAT[0]}", "model=eegnet", "data=.", "--nodes", "1-2"], "a sweep is an array"),
    ],
)  # fmt: skip
def test_a_line_that_lacks_something_says_what(words: list[str], message: str, launch: Launch) -> None:
    assert message in launch(*words, "--on", "local", code=USAGE).stderr


def test_a_protocol_of_ones_own_is_a_file(tmp_path: Path) -> None:
    values = yaml.safe_load((FOLDER / f"{OF_EEGMAT[0]}.yaml").read_text())
    path, data = tmp_path / "mine.yaml", eegmat(tmp_path, 1)

    def refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
        changed = json.loads(json.dumps(values))
        change(changed)
        path.write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=message):
            planned(str(path), data)

    refused(lambda file: file.pop("protocol"), "mine.yaml has no section `protocol`")
    refused(lambda file: file["protocol"].update(datas="x"), "protocol has no setting 'datas'")
    refused(lambda file: file["protocol"].update(each={"train.seed": "sujects"}), "cannot be 'sujects'. Did you mean")
    refused(lambda file: file["leaderboard"].update(runs="evaluat"), "has to say whose runs it reads")
    path.write_text(json.dumps(values))
    assert planned(str(path), data)[-1].name == planned(OF_EEGMAT[0], data)[-1].name


def answers(n_subjects: int, right: Callable[[int], float], seed: int = 0) -> Decoded:
    """Forty windows of each subject; the share that is classified correctly."""
    rng = np.random.default_rng(seed)
    trials = []
    for subject in range(n_subjects):
        for number in range(40):
            true = number % 2
            answer = true if rng.random() < right(subject) else 1 - true
            output = np.log(np.eye(2)[answer] * 0.8 + 0.1)[None]
            trials.append(DecodedTrial(f"sub-{subject}", str(true), np.array([[float(true)]]), output, trial=number))
    return Decoded(0.0, tuple(trials), (), "classes", classes=("0", "1"))


def test_drawing_other_subjects_shows_how_unlike_they_are() -> None:
    metric = metrics("classes")["balanced_accuracy"]
    alike, unlike = (answers(8, right) for right in (lambda _: 0.75, lambda subject: (0.5, 1.0)[subject % 2]))
    wide, narrow = (
        np.ptp(np.quantile(resampling.over_subjects([d], metric, 500), (0.05, 0.95))) for d in (unlike, alike)
    )
    assert wide > 0.2 > narrow
    own = leaderboard.score(unlike, metric)
    assert np.mean(resampling.over_subjects([unlike], metric, 500)) == pytest.approx(own, abs=0.02)
    assert resampling.over_subjects([answers(2, lambda _: 0.8)], metric, 500).size == 0, "of two, nothing can be drawn"
    of_auroc = resampling.over_subjects([unlike], metrics("classes")["auroc"], 100)
    assert np.ptp(of_auroc) > 0.1
    halves = [replace(unlike, trials=unlike.trials[:160]), replace(unlike, trials=unlike.trials[160:])]
    whole = resampling.over_subjects([unlike], metric, 100)
    assert np.array_equal(resampling.over_subjects(halves, metric, 100), whole), "folds of a study are one study"


def test_all_folds_of_a_model_have_one_p_and_a_single_fold_has_none(tmp_path: Path) -> None:
    """In each of five folds nothing can be decided; together they can."""
    whole = answers(5, lambda _: 0.9)
    cfg = Train(data=(Input("preprocess-a"),), objective=Classification(), split=splits.Split(by="subject", folds=5))
    runs = []
    for number in range(5):
        own = config.plain(replace(cfg, split=replace(cfg.split, fold=number)))
        run = RunDir(tmp_path / f"train-{number}")
        decoded = replace(whole, trials=tuple(each for each in whole.trials if each.subject == f"sub-{number}"))
        model = Trained(run, own, None, {}, 0, {"loss": 1.0})  # type: ignore[arg-type]
        runs.append(leaderboard.Run(run.name, decoded, model))
    metric = metrics("classes")["balanced_accuracy"]
    result, why = leaderboard.decide(runs, metric)
    assert result is not None and not why and result.verdict == "above chance"
    assert result.figures["balanced_accuracy"].value == pytest.approx(leaderboard.score(whole, metric))
    row = leaderboard._with_p(Row("shallow", leaderboard.OURS, 90.0), result, "network")
    assert row.p == result.figures["balanced_accuracy"].p and leaderboard._cells(row)[5:] == ["0.001", "above chance"]
    twice, why = leaderboard.decide([*runs, runs[0]], metric)
    assert twice is None and "both test the window" in why


def test_figures_have_the_unit_of_the_table() -> None:
    assert leaderboard.in_unit(0.75, "percent", 0.5) == 75
    assert leaderboard.in_unit(0.75, "above_chance", 0.5) == 50
    assert leaderboard.in_unit(0.4, "above_chance", 0.5) == pytest.approx(-20)


def test_the_page_says_how_many_published_rows_are_within_reach() -> None:
    ours = [Row("shallow", leaderboard.OURS, 60.0, low=50.0, high=70.0)]
    theirs = [Row(str(value), leaderboard.PUBLISHED, value) for value in (49.0, 55.0, 70.0, 71.0)]
    (sentence,) = leaderboard.spreads(ours, theirs, np.empty(0))
    assert "from 50.0 to 70.0 in nine of ten draws; 2 of 4 published rows are within" in sentence
    _, redrawn = leaderboard.spreads(ours, theirs, np.linspace(40, 80, 101))
    assert "drawn anew 101 times" in redrawn and "is from 42.0 to 78.0, 60.0 in the median; 4 of 4" in redrawn


@pytest.mark.ranks
def test_a_bench_stands_beside_the_published_rows_and_does_only_what_is_missing(launch: Launch) -> None:
    data = eegmat(launch.folder / "eegmat")
    words = ["bench", f"protocol={OF_EEGMAT[0]}", "model=shallow", f"data={data}", "--on", "local"]
    words += ["train.optim.steps=60", "train.optim.lr=1e-2", "train.optim.validate_every=20", "train.seed=33"]
    words += ["leaderboard.redraws=10", "train.windows.batch=32"]
    launch(*words)
    (run,) = (RunDir(path.parent) for path in (launch.folder / "runs").glob("leaderboard-*/result.json"))
    page: Any = read_json(run.out / "leaderboard.json")
    rows = {row["name"]: row for row in page["rows"]}
    assert sum(row["whose"] == "published" for row in page["rows"]) == 17
    assert rows["shallow"]["value"] > 80 and rows["bandpower"]["value"] > 80, "the planted rhythm"
    assert rows["shallow"]["verdict"] == "above chance, but confounded", "rest comes first"
    assert rows["shallow"]["low"] <= rows["shallow"]["value"] <= rows["shallow"]["high"]
    assert page["chance"] == 50 and len(page["redrawn"]) == 10 and min(page["redrawn"]) > 80
    text = (run.out / "leaderboard.md").read_text()
    assert "| REVE | published | 73" in text and "Changed on the line: train" in text
    assert "REVE" in (run.out / "leaderboard.html").read_text()
    again = launch(*words).stdout
    assert again.count("finished before") == 4 and "attempt 1 starts" not in again


def test_a_network_of_one_session_sees_no_other(tmp_path: Path) -> None:
    ctx = Context(World(), RunDir(tmp_path / "preprocess-x"))
    first = planned("bcic2a-conformer", of_bci(tmp_path))[0]
    stages.preprocess(config.build(Preprocess, first.config, "preprocess"), ctx)
    recordings = store.open_store(ctx.out).recordings
    values = contents("bcic2a-conformer")["train"]["split"] | {"only": ("sub-02",)}
    sets = splits.split(config.build(splits.Split, values, "split"), recordings)
    sessions = {name: {recordings[s.recording].name for s in getattr(sets, name)} for name in ("train", "val", "test")}
    assert sessions["train"] == sessions["val"] == {"sub-02_ses-0train_task-imagery"}
    assert sessions["test"] == {"sub-02_ses-1test_task-imagery"}
    assert (len(sets.train), len(sets.val), len(sets.test)) == (19, 5, 24)


def test_rows_of_another_data_set_are_not_shown() -> None:
    table = (Published("a", 1.0, dataset="A"), Published("b", 2.0, dataset="B"))
    (sentence,) = leaderboard._of_no_dataset(Leaderboard(runs=(), published=table))  # type: ignore[arg-type]
    assert sentence == "Which data set it is was not said; rows are shown with leaderboard.dataset=A, B."
    assert leaderboard._of_no_dataset(Leaderboard(runs=(), published=table, dataset="B")) == []  # type: ignore[arg-type]
