"""Run folders of earlier versions are read, go on, and are not passed off as today's.

old_runs/ has them as these versions wrote them, with a training that was stopped, but without recordings and copies of
code: release 0.1.0, and version 1 of run folders.
"""

import re
import shutil
import tarfile
from pathlib import Path

import pytest

from hpc.runs import records
from hpc.runs.rundir import RunDir, committed_steps, read_json
from tests.conftest import Launch, users_environ

OLD = sorted((Path(__file__).parent / "old_runs").glob("*.tar.xz"))
FORMER = "by code whose results differ (evaluate 1 → 7: the baseline csp is MNE's"


class Former(Launch):
    """The command line in a folder with the runs of a former version."""

    def run(self, stage: str, label: str = "whole") -> RunDir:
        (run,) = (
            RunDir(path) for path in self.runs() if path.name.startswith(stage) and _label(path) == label
        )  # fmt: skip
        return run


def _label(run: Path) -> str:
    return str((read_json(run / "plan.json") or {})["label"])


@pytest.fixture(params=OLD, ids=[path.name.removesuffix(".tar.xz") for path in OLD])
def former(request: pytest.FixtureRequest, tmp_path: Path) -> Former:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return Former(tmp_path, users_environ())


def test_there_is_a_folder_of_each_former_version() -> None:
    assert [path.name for path in OLD] == ["0.1.0.tar.xz", "version-1.tar.xz"]
    assert sum(path.stat().st_size for path in OLD) < 300_000


def test_their_state_is_shown(former: Former) -> None:
    text = former("status").stdout
    assert "5 runs: 4 finished, 1 stopped" in text
    assert "stopped at step" in former("status", former.run("train", "cut").name).stdout
    assert "rank 0" in former("logs", former.run("train").name).stdout
    assert records.plan(former.run("train")).get("schema", 0) < records.SCHEMA


def accept(former: Former) -> None:
    """Trust the files as they are: those versions kept no list of what they wrote."""
    former("verify", "--accept", *(path.name for path in former.runs()))


def test_their_products_are_refused_until_they_are_accepted(former: Former) -> None:
    store = former.run("preprocess")
    text = former("resume", "cut", code=2).stderr
    assert f"index.json cannot be verified: {store.out} has no products.jsonl" in text
    assert f"hpc verify {store.name} --accept" in text
    former("verify", store.name, "--accept")
    former("verify", store.name)
    assert "products.jsonl" not in former("resume", "cut", "--dry-run").stdout


def test_an_evaluation_says_that_todays_would_differ_and_one_of_the_old_model_is_new(former: Former) -> None:
    accept(former)
    before, model = former.run("evaluate"), former.run("train")
    done = former("resume", before.name)
    assert f"finished before, {FORMER}" in done.stdout and "balanced_accuracy" in done.stdout
    old = [f"model={model.name}", "scoring.n_null=120"]
    former("evaluate", *old, "--only", "--name", "anew")
    after = former.run("evaluate", "anew")
    assert records.result(after)["meaning"] == 7 and records.result(after)["read"] == {model.name: 1}
    report = read_json(after.out / "report.json")
    assert report is not None and report["meaning"] == 7
    assert "meaning 7 of evaluate" in (after.out / "report.html").read_text()
    compared = former("compare", f"runs=[{before.name},{after.name}]")
    assert f"reads {before.name}, made {FORMER}" in compared.stdout
    (page,) = (RunDir(path) for path in former.runs() if path.name.startswith("compare"))
    metrics = records.result(page)["metrics"]
    assert metrics is not None and metrics["evaluations"] == 2


@pytest.mark.ranks
def test_a_stopped_training_goes_on_and_a_new_one_reads_the_old_store(former: Former) -> None:
    accept(former)
    cut, store = former.run("train", "cut"), former.run("preprocess")
    saved = committed_steps(cut.checkpoints)[-1]
    metrics = (cut.metrics).read_text().splitlines()
    text = former("resume", "cut").stdout
    assert f"goes on from step {saved}" in text and re.search(r"steps +400\n", text)
    assert cut.metrics.read_text().splitlines()[:saved] == metrics[:saved]
    assert records.plan(cut)["schema"] == records.SCHEMA and records.result(cut)["meaning"] == 1
    assert "by code whose results differ (train 1 → 3: on several ranks" in former("resume", "cut").stdout
    words = ["train", "study.yaml", f"train.data={store.name}", "train.optim.steps=2", "train.optim.validate_every=1"]
    assert re.search(r"steps +2\n", former(*words, "--name", "short", "--only").stdout)


def test_a_checkpoint_in_which_a_byte_is_another_is_skipped_in_a_sentence(former: Former) -> None:
    accept(former)
    cut = former.run("train", "cut")
    *_, before, last = (0, *committed_steps(cut.checkpoints))
    (state,) = (cut.checkpoints / f"step-{last:08d}").glob("state-*")
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    shutil.rmtree(cut.path / "tensorboard", ignore_errors=True)
    text = former("resume", "cut").stdout
    whence = f"goes on from step {before}" if before else "begins anew"
    assert f"the checkpoint of step {last} is damaged: attempt 2 {whence}" in text
    assert records.attempts(cut)[-1]["from_step"] == before, "and not what its name promised"
    assert f"checkpoint of step {last} is damaged" in cut.attempt(2).log(0).read_text()
