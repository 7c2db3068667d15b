"""A finished run is passed off as today's only if today's code would give the same."""

import shutil
import sys
from pathlib import Path

import pytest

from hpc.config import plugins, stages
from hpc.runs import records, status
from hpc.runs.outdated import outdated
from hpc.runs.rundir import RunDir, read_json, write_json
from hpc.slurm.squeue import Queue
from tests.conftest import EXAMPLE, Launch


class Package:
    """The example package outside of the checkout, so that a test can raise the meaning of its stages."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        shutil.copytree(EXAMPLE, launch.folder / "lib", ignore=shutil.ignore_patterns("__pycache__"))
        self.source = launch.folder / "lib/counting/stages.py"
        launch.environ["PYTHONPATH"] = str(launch.folder / "lib")

    def raise_meaning(self, stage: str, raises: dict[int, str]) -> None:
        """Write the number of results, and its reasons, beside a stage."""
        text = self.source.read_text()
        head = f"def {stage}(cfg"
        before, _, after = text.partition(head)
        lines = f"from hpc.config.stages import with_meaning\n\n\n@with_meaning({raises!r})\n{head}"
        self.source.write_text(before + lines + after)

    def run(self, stage: str) -> RunDir:
        (path,) = (path for path in self.launch.runs() if path.name.startswith(stage))
        return RunDir(path)


@pytest.fixture
def package(launch: Launch) -> Package:
    (launch.folder / "study.yaml").write_text("count: {n: 4}\ntally: {of: count}\n")
    return Package(launch)


def test_the_numbers_are_those_of_the_reasons() -> None:
    def stage(cfg: object, ctx: object) -> None: ...

    assert (stages.meaning(stage), stages.reasons(stage, 1)) == (1, [])
    stages.with_meaning({2: "sums begin at 1", 3: "sums are halved"})(stage)
    assert (stages.meaning(stage), stages.reasons(stage, 1)) == (3, ["sums begin at 1", "sums are halved"])
    assert stages.reasons(stage, 2) == ["sums are halved"]
    for wrong in ({3: "no 2"}, {1: "the first needs none"}, {3: "b", 2: "a"}):
        with pytest.raises(ValueError, match="the numbers of meaning go 2, 3, 4"):
            stages.with_meaning(wrong)


@pytest.mark.ranks
def test_a_run_that_finished_by_other_code_is_not_passed_off_as_todays(package: Package) -> None:
    launch = package.launch
    launch("count", "n=3")
    run = package.run("count")
    assert records.plan(run)["meaning"] == records.result(run)["meaning"] == 1
    assert "finished before (--again makes a new run)" in launch("count", "n=3").stdout
    package.raise_meaning("count", {2: "sums begin at 1", 3: "sums are halved"})
    sentence = "by code whose results differ (count 1 → 3: sums begin at 1; sums are halved)"
    assert f"finished before, {sentence}; --again makes it anew" in launch("count", "n=3").stdout
    assert f"finished before, {sentence}: it would not run again" in launch("count", "n=3", "--dry-run").stdout
    lines = launch("status").stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith(run.name))
    assert lines[at + 1].endswith(" made by code whose results differ (count 1 → 3)")
    assert "attempt 1 starts" in launch("count", "n=3", "--again").stdout
    anew = RunDir(run.folder + "-2")
    assert records.result(anew)["meaning"] == 3 and meanings_of(launch, anew) == ""


def meanings_of(launch: Launch, run: RunDir) -> str:
    """What the command line says of a finished run, if anything."""
    text = launch("resume", run.name).stdout
    return text.partition("finished before, ")[2].partition("; --again")[0]


@pytest.mark.ranks
def test_what_reads_an_older_run_says_so_before_and_afterwards(package: Package) -> None:
    launch = package.launch
    launch("count", "study.yaml")
    package.raise_meaning("count", {2: "sums begin at 1"})
    count = package.run("count")
    note = f"reads {count.name}, made by code whose results differ (count 1 → 2: sums begin at 1)"
    assert note in launch("tally", "study.yaml", "--dry-run").stdout
    assert note in launch("tally", "study.yaml").stdout
    tally = package.run("tally")
    assert records.result(tally)["read"] == {count.name: 1}
    assert (
        meanings_of(launch, tally)
        == f"from {count.name}, made by code whose results differ (count 1 → 2: sums begin at 1)"
    )
    assert status.look(tally).text == ""  # this process has the stage as it was
    assert f"from {count.name}, made by code whose results differ (count 1 → 2)" in launch("status").stdout


@pytest.mark.ranks
def test_what_has_read_a_run_that_was_made_anew_since_is_not_passed_off_either(package: Package) -> None:
    launch = package.launch
    launch("pipeline", "study.yaml")
    package.raise_meaning("count", {2: "sums begin at 1"})
    count, tally = package.run("count"), package.run("tally")
    shutil.rmtree(count.path)
    launch("count", "study.yaml")
    assert records.result(count)["meaning"] == 2
    assert meanings_of(launch, tally) == f"from {count.name} as it was before it was made anew (count 1 → 2)"


@pytest.mark.ranks
def test_a_copy_of_what_a_run_has_written_is_judged_by_the_list_in_it(package: Package) -> None:
    launch = package.launch
    launch("count", "n=3")
    count = package.run("count")
    shutil.copytree(count.out, launch.folder / "copy")
    launch("tally", "of=./copy")
    tally = package.run("tally")
    assert records.result(tally)["read"] == {"./copy": 1} and meanings_of(launch, tally) == ""
    package.raise_meaning("count", {2: "sums begin at 1"})
    text = "made by code whose results differ (count 1 → 2: sums begin at 1)"
    assert meanings_of(launch, tally) == f"from ./copy, {text}"
    assert f"reads ./copy, {text}" in launch("tally", "of=./copy", "--again", "--dry-run").stdout
    file = "./copy/total.txt"
    assert f"reads {file}, {text}" in launch("tally", f"of={file}", "--dry-run").stdout


@pytest.mark.ranks
def test_a_run_that_goes_on_from_what_other_code_saved_keeps_its_number(package: Package) -> None:
    launch = package.launch
    launch("count", "n=4", "fail_at=3", code=1)
    run = package.run("count")
    package.raise_meaning("count", {2: "sums begin at 1"})
    text = launch("resume", run.name, code=1).stdout
    note = "goes on from what was saved by code whose results differ (count 1 → 2: sums begin at 1), and counts as 1"
    assert note in text
    assert records.plan(run)["meaning"] == 1
    launch("count", "n=4", "bad_at=1", code=93)  # nothing is saved
    fresh = next(RunDir(path) for path in launch.runs() if path.name != run.name)
    write_json(fresh.plan, {**(read_json(fresh.plan) or {}), "meaning": 1})
    assert "goes on from" not in launch("resume", fresh.name, code=93).stdout
    assert records.plan(fresh)["meaning"] == 2


@pytest.mark.ranks
def test_a_sweep_says_how_many_of_its_runs_are_of_other_code(package: Package) -> None:
    launch = package.launch
    launch("count", "n=2")
    launch("count", "n=3")
    package.raise_meaning("count", {2: "sums begin at 1"})
    text = launch("sweep", "count", "n=2,3", "--on", "slurm").stdout
    sentence = "2 of the finished were made by code whose results differ (count 1 → 2: sums begin at 1)"
    assert sentence in text and "2 finished, 0 on their way, 0 to submit" in text


def test_runs_of_a_stage_that_is_not_installed_are_left_as_they_are(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "gone-a")
    write_json(run.plan, {"schema": 1, "stage": "gone", "entry": "gone_package.stages:gone", "inputs": {}})
    write_json(run.result, {"metrics": {}})
    assert outdated(run) == ""


def test_plans_that_lead_back_hide_no_other_run(tmp_path: Path) -> None:
    """A plan.json in the folder of another run: before, `status` ended with a RecursionError for all runs."""
    reads = {"count-a": "count-a", "tally-b": "tally-c", "tally-c": "tally-b", "tally-d": "tally-b", "count-e": ""}
    for name, ref in reads.items():
        run = RunDir(tmp_path / name)
        write_json(run.plan, {"name": name, "stage": "gone", "entry": "gone:x", "inputs": {"of": ref} if ref else {}})
        write_json(run.result, {"metrics": {}})
    states = {state.run: state for state in status.look_all(status.all_runs(tmp_path), Queue())}
    assert set(states) == set(reads) and all(state.word == "finished" for state in states.values())
    assert states["count-a"].text == "from count-a, which reads it in turn: the plan.json of one of them is damaged"
    assert "from tally-b, which reads it in turn" in states["tally-b"].text and states["count-e"].text == ""
    assert "from tally-b, made from tally-c, made from tally-b, which reads it in turn" in states["tally-d"].text


def test_a_newer_number_than_todays_is_said_too(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "evaluate-a")
    write_json(run.plan, {"stage": "evaluate", "entry": "eegdecode.stages:evaluate", "inputs": {}})
    write_json(run.result, {"meaning": 99})
    assert outdated(run).startswith("by code whose results differ (evaluate 99 → ")
    assert outdated(run).endswith("by a later version than this)")


SOURCES = {
    "": {},
    "@with_meaning({2: 'sums, 9: begin at 1'})\n": {2: "sums, 9: begin at 1"},
    "@stages.with_meaning({\n    2: 'a',\n    3: 'b' 'c',\n})\n@other\n": {2: "a", 3: "bc"},
    "@raised({2: 'a'})\n": {2: "a"},
    "@with_meaning(RAISES)\n": {2: "a"},
}


@pytest.mark.parametrize("decorators", SOURCES)
def test_meanings_are_read_from_the_source_and_imported_where_it_does_not_tell(
    decorators: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"lab_{abs(hash(decorators))}"
    imports = "from hpc.config import stages\nfrom hpc.config.stages import with_meaning\n"
    imports += "from hpc.config.stages import with_meaning as raised\n" if "raised" in decorators else ""
    others = "def other(f): return f\nRAISES = {2: 'a'}\n@with_meaning({2: 'x'})\ndef another(cfg, ctx): ...\n"
    (tmp_path / f"{name}.py").write_text(
        f"{imports}\n{others if decorators else ''}\n{decorators}def stage(cfg, ctx): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.meanings(f"{name}:stage") == SOURCES[decorators]
    must_import = "raised" in decorators or "RAISES" in decorators
    assert (name in sys.modules) == must_import


def test_the_source_of_each_of_our_stages_tells_its_meaning() -> None:
    for name in stages.names():
        where = stages.entry(name)
        assert plugins.meanings(where) == getattr(stages.load(where), "meanings", {})
