"""No stage reads a byte that is not the one that was written; what is wrong is named, with the run to mend."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eegdecode import stages
from eegdecode.data.config import RandomWindows, Survey
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.evaluation.config import Audit, Compare, Evaluate, Stream
from eegdecode.evaluation.decode import predictions
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.tcn import TCN
from eegdecode.preprocessing.config import Preprocess
from eegdecode.training import model_file
from eegdecode.training.config import Estimate, Optim, Soup, Train
from eegdecode.weights.inspect import Inspect
from eegdecode.weights.inspect import run as inspect
from hpc.launch import main
from hpc.rank.context import Context, Input, Preempted, World
from hpc.rank.verification import Verification
from hpc.runs import products
from hpc.runs.products import DamagedProduct, Memory
from hpc.runs.rundir import RunDir, write_json


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """The memory of a process that has just started."""
    memory = Memory()
    monkeypatch.setattr("hpc.runs.products.MEMORY", memory)
    monkeypatch.setattr("hpc.rank.verification.MEMORY", memory)
    return memory


def context(run: Path) -> Context:
    return Context(World(), RunDir(run))


def train_cfg(data: Path) -> Train:
    return Train(
        data=(Input(str(data)),),
        model=BiLSTM(hidden=4),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=4, validate_every=4, warmup_steps=0, lr=0.01),
    )


@pytest.fixture(scope="module")
def made(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, two trainings of it and one of a causal model, and an evaluation."""
    runs = tmp_path_factory.mktemp("made")
    folder = runs / "preprocess-a"
    folder.mkdir()
    shutil.copytree(tiny_store.recordings[0].path.parent, folder / "out")
    write_json(folder / "plan.json", {"schema": 1, "name": folder.name})
    cfg = train_cfg(folder / "out")
    for name, variant in {
        "a": cfg,
        "b": replace(cfg, seed=1),
        "tcn": replace(cfg, model=TCN(width=4, blocks=2)),
    }.items():
        stages.train(variant, context(runs / f"train-{name}"))
    stages.evaluate(Evaluate(model=(Input(str(runs / "train-a/out")),)), context(runs / "evaluate-a"))
    stages.evaluate(Evaluate(model=(Input(str(runs / "train-b/out")),)), context(runs / "evaluate-b"))
    return runs


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy to be damaged. The models name their data by a path, which is that of the copy."""
    runs = tmp_path / "runs"
    shutil.copytree(made, runs)
    for path in runs.glob("train-*/out/model.pt"):
        trained = model_file.load(path.parent)
        cfg = replace(trained.train(), data=(Input(str(runs / "preprocess-a/out")),))
        best = {"step": trained.step, "validation": trained.validation, "parameters": trained.parameters}
        model_file.save(path, cfg, trained.spec, best)
    return runs


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


STAGES: dict[str, Callable[[Path], object]] = {
    "train": lambda runs: stages.train(train_cfg(runs / "preprocess-a/out"), context(runs / "t")),
    "estimate": lambda runs: stages.estimate(
        Estimate(**vars(train_cfg(runs / "preprocess-a/out")), probe_steps=10), context(runs / "t")
    ),
    "audit": lambda runs: stages.audit(Audit(data=(Input(str(runs / "preprocess-a/out")),)), context(runs / "t")),
    "evaluate": lambda runs: stages.evaluate(
        Evaluate(model=(Input(str(runs / "train-a/out")),)), context(runs / "t")
    ),
    "soup": lambda runs: stages.soup(
        Soup(models=(Input(str(runs / "train-a/out")), Input(str(runs / "train-b/out")))), context(runs / "t")
    ),
    "stream": lambda runs: stages.stream(Stream(Input(str(runs / "train-tcn/out"))), context(runs / "t")),
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_store_of_zeros_is_refused_by_every_stage(runs: Path, stage: str) -> None:
    for path in (runs / "preprocess-a/out").glob("*.h5"):
        zero(path)
    with pytest.raises(DamagedProduct, match=r"\.h5 is damaged: .*hpc verify preprocess-a --runs \S+ --repair"):
        STAGES[stage](runs)


@pytest.mark.parametrize("stage", STAGES)
def test_one_flipped_bit_of_an_index_is_found_by_every_stage(runs: Path, stage: str) -> None:
    path = runs / "preprocess-a/out/index.json"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedProduct, match=r"index\.json is damaged"):
        STAGES[stage](runs)


@pytest.fixture
def synthesized(study: Path, tmp_path: Path) -> RunDir:
    """A study that is the product of a finished run."""
    run = RunDir(tmp_path / "runs/synthesize-a")
    shutil.copytree(study, run.out)
    write_json(run.plan, {"schema": 2, "name": run.name})
    write_json(run.result, {"metrics": {}})
    products.close(run.out)
    return run


@pytest.mark.parametrize("stage", ["preprocess", "survey"])
@pytest.mark.parametrize("damage", ["a sample", "other events", "gone"])
def test_a_study_that_a_run_has_written_is_read_as_it_was_written(synthesized: RunDir, stage: str, damage: str) -> None:
    """A flipped sample, or the events of another subject, are as good as any to a reader; a recording that is gone is
    not missed."""
    first, *others = sorted(synthesized.out.rglob("sub-*_events.tsv" if damage == "other events" else "sub-*_eeg.edf"))
    if damage == "a sample":
        content = bytearray(first.read_bytes())
        content[-100] ^= 1
        first.write_bytes(content)
    elif damage == "other events":
        first.write_bytes(others[0].read_bytes())
    else:
        shutil.rmtree(first.parent)
    run = {
        "preprocess": lambda ctx: stages.preprocess(Preprocess(Input(str(synthesized.out))), ctx),
        "survey": lambda ctx: stages.survey(Survey((Input(str(synthesized.out)),)), ctx),
    }[stage]
    with pytest.raises(DamagedProduct, match=r"sub-01\S+ is (damaged|gone).*hpc verify synthesize-a .*--repair"):
        run(context(synthesized.path.parent / "p"))
    assert not list((synthesized.path.parent / "p/out").glob("*.h5"))


@pytest.fixture
def copy(runs: Path) -> Path:
    """A copy of a store, outside of any run."""
    return Path(shutil.copytree(runs / "preprocess-a/out", runs / "my-store"))


def trained(copy: Path) -> object:
    return stages.train(train_cfg(copy), context(copy.parent / "t"))


def unlisted(copy: Path) -> None:
    for path in (copy / products.LIST, *copy.glob(".products.*")):
        path.unlink(missing_ok=True)


def test_a_copied_store_is_verified_by_the_list_in_it(copy: Path) -> None:
    trained(copy)
    zero(next(copy.glob("*.h5")))
    with pytest.raises(DamagedProduct, match=r"my-store/\S+\.h5 is damaged: "):
        trained(copy)


@pytest.mark.parametrize("is_link", [False, True])
def test_a_copied_store_without_its_list_is_refused_until_somebody_trusts_it(
    copy: Path, is_link: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    unlisted(copy)
    path = copy.parent / "a link"  # to no run
    path.symlink_to(copy)
    path = path if is_link else copy
    words = f"hpc verify '{path}' --accept" if is_link else f"hpc verify {path} --accept"
    with pytest.raises(ValueError, match=f"has no products.jsonl, .* trust it as it is, `{words}`"):
        trained(path)
    assert main(["verify", str(path)], {}) == 1 and "is not there, so nobody knows" in capsys.readouterr().out
    assert main(["verify", str(path), "--accept"], {}) == 0
    assert main(["verify", str(path)], {}) == 0 and "as found and accepted on 20" in capsys.readouterr().out
    trained(path)
    next(copy.glob("*.h5")).write_bytes(b"")
    assert main(["verify", str(path)], {}) == 1
    assert "it has 0 bytes, and " in capsys.readouterr().out
    assert main(["verify", str(path), "--repair"], {}) == 2
    unlisted(copy)
    assert main(["verify", str(path), "--accept"], {}) == 1 and "is empty" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["evaluate", "soup"])
def test_a_damaged_model_is_refused(runs: Path, stage: str) -> None:
    path = runs / "train-a/out/model.pt"
    content = bytearray(path.read_bytes())
    content[-30] ^= 1  # in the end of the archive: no tensor's checksum knows
    path.write_bytes(content)
    with pytest.raises(DamagedProduct, match=r"model\.pt is damaged"):
        STAGES[stage](runs)
    for named in (path, path.parent, path.parent.parent):
        with pytest.raises(DamagedProduct, match=r"model\.pt is damaged"):
            inspect(Inspect(), [named], as_json=False)


def test_a_report_that_was_edited_is_not_compared(runs: Path) -> None:
    compared = Compare(runs=(Input("evaluate-a"), Input("evaluate-b")))
    stages.compare(compared, context(runs / "compare-1"))
    path = runs / "evaluate-b/out/report.json"
    path.write_text(path.read_text().replace('"value": ', '"value": 1', 1))
    with pytest.raises(DamagedProduct, match=r"report\.json is damaged"):
        stages.compare(compared, context(runs / "compare-2"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "TypeError: "), ({}, "KeyError: 'headline'"), ({"headline": []}, "KeyError: 'figures'"),
        ({"headline": [], "figures": {}}, "TypeError: unhashable"),
        ({"headline": "r", "figures": {"r": {"value": "1"}}}, "TypeError: '1' is no number"),
        ({"of": {"study": 3, "split": {}}}, "TypeError: "), ({"subjects": ["sub-01"]}, "TypeError: "),
        ({"verdict": {}}, "TypeError: the verdict is {}"), ({"subjects": None}, "TypeError: "),
    ],
)  # fmt: skip
def test_a_report_of_other_contents_is_a_sentence(runs: Path, content: object, why: str) -> None:
    path = runs / "evaluate-b/out/report.json"
    if isinstance(content, dict) and "figures" not in content and len(content) == 1 and "headline" not in content:
        content = json.loads(path.read_text()) | content
    products.write_json(path, content)  # listed: as a later version may write it
    compared = Compare(runs=(Input("evaluate-a"), Input("evaluate-b")))
    with pytest.raises(ValueError, match=rf"evaluate-b/out/report.json is not the report of an evaluation \({why}"):
        stages.compare(compared, context(runs / "compare"))


@pytest.mark.parametrize("content", [None, 3, {}, ["x"], [{"what": "leak"}], {"what": "leak"}])
def test_an_audit_of_other_contents_is_left_out_of_the_report(
    runs: Path, content: object, caplog: pytest.LogCaptureFixture
) -> None:
    write_json(runs / "audit-a/plan.json", {"schema": 1, "inputs": {"data": str(runs / "preprocess-a/out")}})
    products.write_json(runs / "audit-a/out/audit.json", content)
    stages.evaluate(Evaluate(model=(Input(str(runs / "train-a/out")),)), context(runs / "t"))
    assert ("audit.json is not the list of an audit's findings" in caplog.text) == (content != {})
    assert (runs / "t/out/report.html").is_file()


def test_predictions_that_were_edited_are_not_read(runs: Path) -> None:
    path = runs / "evaluate-a/out/predictions.h5"
    predictions.read(path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedProduct, match=r"predictions\.h5 is damaged"):
        predictions.read(path)


def test_training_verifies_each_file_once_and_the_next_attempt_none(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    sha256 = products._sha256
    monkeypatch.setattr(
        products, "_sha256", lambda path, count=int: hashed.append(path.name) or sha256(path, count)
    )  # fmt: skip
    names = sorted(path.name for path in (runs / "preprocess-a/out").glob("*.h5"))
    for expected in ([*names, "index.json", "manifest.json"], []):
        memory = Memory()
        memory.keep_in(runs / "verified", "rank-0000")
        monkeypatch.setattr("hpc.runs.products.MEMORY", memory)
        monkeypatch.setattr("hpc.rank.verification.MEMORY", memory)
        hashed.clear()
        stages.train(train_cfg(runs / "preprocess-a/out"), context(runs / "t"))
        assert sorted(hashed) == sorted(expected)


def test_a_plan_reads_no_sample_to_verify_it(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "_count", lambda self, n: pytest.fail("a plan reads everything"))
    hashed: list[str] = []
    sha256 = products._sha256
    monkeypatch.setattr(products, "_sha256", lambda path, count=int: hashed.append(path.name) or sha256(path))
    opened = store.open_store(runs / "preprocess-a/out", verified=False)
    opened.spec("")
    assert opened.recordings[0].signal.shape[1] == 8
    assert [name for name in hashed if name.endswith(".h5")] == []


def test_preprocessing_makes_a_damaged_recording_again_and_keeps_the_others(study: Path, tmp_path: Path) -> None:
    cfg, ctx = Preprocess(Input(str(study))), context(tmp_path / "p")
    stages.preprocess(cfg, ctx)
    first, second = sorted(ctx.out.glob("*.h5"))
    right = first.read_bytes(), second.read_bytes()
    kept = second.stat().st_ino
    content = bytearray(right[0])
    content[3] ^= 1  # in the head of HDF5, which has no checksum of its own
    first.write_bytes(content)
    stages.preprocess(cfg, ctx)
    assert (first.read_bytes(), second.read_bytes()) == right
    assert second.stat().st_ino == kept


def test_a_recording_that_was_not_listed_before_a_kill_is_kept(study: Path, tmp_path: Path) -> None:
    cfg, ctx = Preprocess(Input(str(study))), context(tmp_path / "p")
    stages.preprocess(cfg, ctx)
    products.close(ctx.out)
    first, second = sorted(ctx.out.glob("*.h5"))
    inodes = first.stat().st_ino, second.stat().st_ino
    lines = [json.loads(line) for line in (ctx.out / products.LIST).read_text().splitlines()]
    rest = [json.dumps(line) for line in lines if line.get("file") != first.name]
    (ctx.out / products.LIST).write_text("\n".join(rest) + "\n")
    stages.preprocess(cfg, ctx)
    assert (first.stat().st_ino, second.stat().st_ino) == inodes
    store.open_store(ctx.out).recordings[0].verify()


def test_a_stop_ends_the_verification(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = products._sha256

    def endless(path: Path, count: Callable[[int], object] = int) -> object:
        while path.suffix == ".h5":
            count(1)
            time.sleep(0.01)
        return sha256(path, count)

    monkeypatch.setattr(products, "_sha256", endless)
    paths = list((runs / "preprocess-a/out").glob("*.h5"))
    ctx = Context(World(), RunDir(runs / "t"), should_stop=lambda: True)
    monkeypatch.setattr("hpc.rank.verification.SHORT_S", 0.0)
    assert not Verification(ctx, paths).wait()
    assert RunDir(runs / "t").node(0).is_file()
    with pytest.raises(Preempted):
        stages.train(train_cfg(runs / "preprocess-a/out"), ctx)


def test_a_model_is_the_same_file_whether_its_strings_were_read_or_made(runs: Path, tmp_path: Path) -> None:
    trained = model_file.load(runs / "train-a/out")
    best = {"step": trained.step, "validation": trained.validation, "parameters": trained.parameters}
    model_file.save(tmp_path / "one.pt", trained.train(), trained.spec, best)
    copied = {"".join(list(name)): value for name, value in trained.parameters.items()}
    figures = {"".join(list(name)): value for name, value in trained.validation.items()}
    model_file.save(
        tmp_path / "two.pt", trained.train(), trained.spec, best | {"parameters": copied, "validation": figures}
    )
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
