"""A search through the command line: its study is the run folders, and the same line again is the same search."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from hpc.launch import main
from hpc.runs import records
from hpc.runs.rundir import RunDir, read_json
from tests.conftest import Launch, users_environ
from tests.waiting import open_gate, said_first

FILE = "descent: {lr: 0.1}\ngrade: {of: descent}\n"
SPACE = ("lr=log:1e-4..1", "act=relu,elu")


@pytest.fixture
def here(tmp_path: Path, example: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config, where lines are given in this process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.yaml").write_text(FILE)
    return tmp_path


def given(*words: str, code: int = 0, on: str = "debug") -> None:
    assert main([*words, "--on", on], users_environ()) == code


def search(*words: str, code: int = 0) -> None:
    given("search", "descent", "d.yaml", *SPACE, *words, code=code)


def starts(here: Path, runs: str = "runs") -> dict[str, list[int]]:
    """Of each trial, the steps from which it was started."""
    return {
        path.parent.name: [int(line) for line in path.read_text().split()] for path in here.glob(f"{runs}/*/starts")
    }


def record(here: Path, runs: str = "runs") -> dict:
    (path,) = here.glob(f"{runs}/.searches/search-*.json")
    content = read_json(path)
    assert isinstance(content, dict)
    return content


def test_the_same_line_again_proposes_the_same_trials_and_starts_none(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    search("--trials", "12")
    before, was = starts(here), record(here)
    capsys.readouterr()
    search("--trials", "12")
    assert starts(here) == before and record(here) == was
    assert len(before) == 12 and all(steps == [0] for steps in before.values())
    assert "12 of 12 trials; best" in capsys.readouterr().out

    search("--trials", "14")
    jobs = record(here)["folds"][0]["jobs"]
    assert jobs[:12] == was["folds"][0]["jobs"] and len(starts(here)) == 14, "and more trials go on from there"

    for name in list(before)[:5]:  # nothing but the folders of the runs is needed
        (here / "runs" / name).rename(here / name)
    for path in (here / "runs").glob(".searches/*"):
        path.unlink()
    search("--trials", "14")
    assert record(here)["folds"][0]["jobs"] == jobs, "trials that are gone are run again, and are the same"


def test_a_trial_is_the_run_of_its_line(here: Path, capsys: pytest.CaptureFixture) -> None:
    search("--trials", "3")
    best = record(here)["folds"][0]["best"]
    capsys.readouterr()
    given("descent", "d.yaml", *best["settings"].split(), on="local")
    assert f"{best['run']}\nfinished before" in capsys.readouterr().out


def test_each_fold_is_searched_and_the_test_set_is_touched_once_by_each(here: Path) -> None:
    search("--trials", "5", "--each", "fold=0..2", "--name", "hunt")
    folds = record(here)["folds"]
    assert [fold["each"] for fold in folds] == ["fold=0", "fold=1", "fold=2"]
    assert len({job["run"] for fold in folds for job in fold["jobs"]}) == 15
    tested = (here / "runs" / "tests").read_text().split()
    assert tested == [fold["best"]["run"] for fold in folds], "by its chosen trial, and by no other"
    accuracy = record(here)["reported"]["grade.accuracy"]
    assert accuracy == {"value": pytest.approx(0.6), "of": 3, "chance": 0.5}, "the mean over the folds"
    labels = [records.plan(RunDir(path)).get("label") for path in (here / "runs").glob("*-*") if path.is_dir()]
    assert labels == ["hunt"] * 18, "so that what takes the --name of a sweep takes that of a search"
    search("--trials", "5", "--each", "fold=0..2", "--name", "hunt")
    assert (here / "runs" / "tests").read_text().split() == tested


def test_a_promoted_trial_goes_on_from_its_checkpoint(here: Path) -> None:
    search("--trials", "9", "--halving", "1")
    jobs = record(here)["folds"][0]["jobs"]
    last = {job["run"]: job["steps"] for job in jobs}
    from_steps = {1: [0], 3: [0, 1], 9: [0, 1, 3]}
    assert starts(here) == {run: from_steps[steps] for run, steps in last.items()}
    finished = {run for run in last if RunDir(here / "runs" / run).result.exists()}
    assert finished == {run for run, steps in last.items() if steps == 9}
    best = record(here)["folds"][0]["best"]["run"]
    assert (here / "runs" / "tests").read_text().split() == [best]

    whole = next(job for job in jobs if job["run"] == best)["settings"]
    given("descent", "d.yaml", *whole.split(), "--runs", "whole")
    assert records.metrics(RunDir(here / "runs" / best)) == records.metrics(RunDir(here / "whole" / best))


def test_a_score_at_a_rung_stays_what_it_was_when_the_trial_goes_on(here: Path) -> None:
    search("--trials", "9", "--halving", "1")
    was = record(here)
    for path in (here / "runs").glob("descent-*"):
        given("resume", path.name) if not RunDir(path).result.exists() else None
    assert all(RunDir(path).result.exists() for path in (here / "runs").glob("descent-*"))
    search("--trials", "9", "--halving", "1")
    assert record(here) == was, "promotions go by the steps of the rung"


@pytest.mark.ranks
def test_a_trial_that_fails_counts_and_is_not_started_again(launch: Launch) -> None:
    (launch.folder / "d.yaml").write_text(FILE)
    line = ("search", "descent", "d.yaml", SPACE[0], "fails_above=0.1", "--trials", "4", "--on", "local")
    assert "4 of 4 trials, 1 failed; best" in launch(*line).stdout
    before = starts(launch.folder)
    (failed,) = (path.parent.parent for path in launch.folder.glob("runs/*/jobs/no-score.json"))
    assert "diverges" in str(read_json(RunDir(failed).no_score))
    assert "4 of 4 trials, 1 failed" in launch(*line).stdout
    assert starts(launch.folder) == before
    assert "4 of 4 trials, best val_loss" in launch("status").stdout


@pytest.mark.ranks
def test_a_search_that_was_killed_goes_on_and_is_the_same(launch: Launch, here: Path) -> None:
    line = ("search", "descent", "d.yaml", SPACE[0], "held_above=0.1", "--trials", "4", "--on", "local")
    searching = launch.start(*line)
    launch.wait_for(lambda: list(launch.folder.glob("runs/*/starts")), "the first trial, with an lr of .165, is held")
    searching.send_signal(signal.SIGKILL)
    searching.communicate()
    (held,) = launch.folder.glob("runs/*/starts")
    again = launch.start(*line)
    said_first(again, "it is running already: watching it")
    open_gate(RunDir(held.parent))
    text, _ = again.communicate()
    assert again.returncode == 0, text
    jobs = record(launch.folder)["folds"][0]["jobs"]
    given("search", *(word for word in line[1:-2] if "held" not in word), "--runs", "undisturbed")
    assert [job["settings"] for job in record(launch.folder, "undisturbed")["folds"][0]["jobs"]] == [
        job["settings"] for job in jobs
    ]


def test_a_dry_run_says_what_would_be_next_and_does_nothing(here: Path, capsys: pytest.CaptureFixture) -> None:
    search("--trials", "9", "--dry-run")
    assert "next: 4 runs\n  trial 1 of 9: lr=0.165 act=relu" in capsys.readouterr().out
    assert not starts(here) and not (here / "runs").exists()


def test_a_search_in_json_is_its_record(here: Path, capsys: pytest.CaptureFixture) -> None:
    search("--trials", "2", "--json", "--by", "min:val_loss", "--sampler", "random")
    content = json.loads(capsys.readouterr().out)
    assert content == record(here) and content["folds"][0]["best"]["score"] > 0
    page = (here / "runs" / f"{content['name']}.html").read_text()
    assert content["folds"][0]["best"]["settings"] in page and "chance" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["descent", "d.yaml", "lr=0.1"], "search over what? Give ranges or values: search descent key=0.1..0.5"),
        ([], "search what? Say a stage first"),
        (["grade", "d.yaml", "descent.lr=1,2"], "grade cannot be searched: a search goes by a score in which no test"),
        (["descent", "d.yaml", "fold=0..2"], "fold cannot be searched, as fold says what trials are scored on"),
        (["descent", "d.yaml", *SPACE, "rival=x"], "rival cannot be used in a search, as the result would depend on"),
        (["descent", "d.yaml", *SPACE, "--by", "val_loss"], "--by needs a metric of the run with the direction"),
        (["descent", "d.yaml", *SPACE, "--sampler", "best"], "--sampler needs random, tpe, or optuna:NAME"),
        (["descent", "d.yaml", *SPACE, "--each", "fold=1"], "--each needs a setting with several values"),
        (["descent", "d.yaml", *SPACE, "steps=5,9", "--halving", "1"], "--halving counts steps, so steps cannot be"),
        (["descent", "d.yaml", *SPACE, "--nodes", "1-2"], "all trials of a search have one number of nodes: say one"),
        (["descent", "d.yaml", "lr=0.1..1", "lr=1..2"], "lr is given twice: several values are one word"),
        (
            ["descent", "d.yaml", *SPACE, "--trials", "1", "--by", "max:acc"],
            "has no number acc that could be its score",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_a_sentence(
    here: Path, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    given("search", *words, code=2)
    assert message in capsys.readouterr().err


def test_what_a_person_has_stopped_stays_so_when_a_job_gives_the_line(here: Path) -> None:
    search("--trials", "9", "--halving", "3")
    name = next(path.parent for path in here.glob("runs/*/starts") if not (path.parent / "result.json").exists())
    plan = json.loads((name / "plan.json").read_text())
    del plan["pause_at"]
    (name / "plan.json").write_text(json.dumps(plan))
    (name / "metrics.jsonl").unlink()  # as if it was stopped before its first step
    shutil.rmtree(name / "checkpoints")
    before = starts(here)
    environ = users_environ() | {"HPC_FOLLOW_UP": "descent-of-another"}
    line = ["search", "descent", "d.yaml", *SPACE, "--trials", "9", "--halving", "3", "--on", "debug"]
    assert main(line, environ) == 1 and starts(here) == before
    search("--trials", "9", "--halving", "3")
    assert starts(here)[name.name] == [0, 0], "a person who gives the line wants it to go on"
