"""The table of `status`: it fits the terminal, has dates and the headline figure; what finds no room is said below."""

import os
import time
from pathlib import Path

import pytest

from hpc import media
from hpc.config import plugins, stages
from hpc.overview import screen, table
from hpc.runs import status
from hpc.runs.rundir import write_json
from hpc.runs.status import State
from tests.conftest import Launch

NOW = 1.79e9


def state(run: str = "train-k3f9x2ab", **fields: object) -> State:
    one = State(run)
    for name, value in fields.items():
        assert name in vars(one)
        setattr(one, name, value)
    return one


LONG = {
    "word": "running", "time": NOW, "headline": "val_balanced_accuracy", "value": 0.8123, "done": 12000, "total": 40000,
    "left_s": 18180.0, "per_s": 4.25, "nodes": 3, "node_counts": [1, 4], "attempt": 7, "job": "1234567",
    "name": "a-pilot", "site": "helios",
    "settings": "train.optim.lr=0.001 train.model=eegnet seed=0 train.windows.batch=64",
    "text": "node n3 failed before, " * 9 + "/a/path/" + "x" * 200,
}  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80, 132, 400])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_no_line_is_wider_than_the_terminal(width: int, n: int) -> None:
    states = [state(f"preprocess-{'y' * 9}-{number}", **LONG) for number in range(n)]
    lines = table.text(states, width).splitlines()
    assert max(map(len, lines)) <= width
    assert all("running" in line for line in lines[1:] if line.startswith("preprocess"))


def test_at_80_columns_a_run_has_state_date_figure_and_settings() -> None:
    (head, *lines) = table.lines([state(**LONG | {"text": ""})], 80)
    assert head.split() == ["RUN", "STATE", "SINCE", "FIGURE", "SETTINGS"]
    assert lines[0].startswith("train-k3f9x2ab  running  ") and "0.812" in lines[0]
    said = " ".join(" ".join(lines[1:]).split())
    for cut in ("val_balanced_accuracy 0.812", LONG["settings"], "a-pilot", "job 1234567", "nodes 3 of 1-4",
                "12000/40000", "attempt 7", "left 5h03", "on helios"):  # fmt: skip
        assert str(cut) in said, "of a few runs, what finds no column is below"
    (head, line) = table.lines([state(**LONG | {"text": ""})], 300)
    assert head.split() == list(table.COLUMNS) and str(LONG["settings"]) in line


def test_why_a_run_is_in_its_state_is_said_whole() -> None:
    text = str(LONG["text"])
    lines = table.lines([state(text=text), state("other")], 80)[2:-1]
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_long_name_keeps_both_ends() -> None:
    assert media.cut("preprocess-lvm7qzll", 12) == "prepro…7qzll" and media.cut("abc", 3) == "abc"
    assert media.cut("abcdef", 1) == "…" and len(media.cut("abcdef", 2)) == 2
    settings = "train.optim.lr=0.001 seed=0"
    assert table._cell(settings, "SETTINGS", 16).rstrip() == "lr=0.001 seed=0"


def test_a_date_is_as_long_as_it_needs_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert table.date(NOW, NOW + 60) == "14:13"
        assert table.date(NOW, NOW + 30 * 86400) == "21 Sep 14:13"
        assert table.date(NOW, NOW + 400 * 86400) == "21 Sep 2026"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_width_is_what_columns_says_or_80() -> None:
    assert table.width_of({"COLUMNS": "100"}) == 100
    assert table.width_of({"COLUMNS": "x"}) > 0


def test_a_stage_declares_its_headline_which_is_read_without_an_import() -> None:
    assert plugins.shown("eegdecode.stages:train", "curves")[:2] == ("val_loss", "loss")
    for where in plugins.points("hpc.stages").values():
        stage = stages.load(where)
        for what in ("headline", "curves"):
            assert plugins.shown(where, what) == getattr(stage, what, ())
    assert plugins.shown("nowhere.at_all:stage", "headline") == ()


@pytest.mark.parametrize(
    ("metrics", "declared", "name"),
    [
        ({"steps": 9, "val_loss": 0.5, "val_accuracy": 0.7}, ("val_acc*", "val_loss"), "val_accuracy"),
        ({"steps": 9, "val_loss": 0.5}, ("val_acc*", "val_loss"), "val_loss"),
        ({"steps": 9, "r": {"value": 0.3, "chance": 0.0}}, (), "r"),
        ({"verdict": "above chance", "found": True, "steps": 9}, (), "steps"),
        ({"verdict": "above chance", "huge": 10**400}, (), ""),
    ],
)
def test_the_headline_is_what_is_declared_or_what_has_a_chance_level_or_the_first(
    metrics: dict[str, object], declared: tuple[str, ...], name: str
) -> None:
    one = State("a")
    status._headline(one, metrics, declared)
    assert one.headline == name and (one.value is None) == (not name)


def test_status_has_date_figure_and_fits(launch: Launch) -> None:
    launch.environ |= {"COLUMNS": "80"}
    launch("sweep", "count", "n=2,3", "--name", "pilot-of-a-long-name")
    text = launch("status").stdout
    assert text.splitlines()[0].split()[:4] == ["RUN", "STATE", "SINCE", "FIGURE"]
    assert max(map(len, text.splitlines())) <= 80 and "n=2" in text and "n=3" in text and "2 runs: 2 finished" in text


def test_watching_prints_no_codes_where_there_is_no_terminal(launch: Launch) -> None:
    launch("count", "n=1")
    watching = launch.start("status", "--watch")
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(3)]
    os.kill(watching.pid, 2)
    rest, _ = watching.communicate()
    assert "\x1b" not in "".join(lines) + rest and lines[1].startswith("RUN") and "finished" in lines[2]
    assert watching.returncode == 0 and "Traceback" not in rest


def test_a_screen_shows_the_runs_that_were_touched_last() -> None:
    lines = ["RUN", *(f"train-{number}" for number in range(100))]
    shown = screen.shortened(lines, "100 runs: 100 finished", 24)
    assert len(shown.splitlines()) <= 24 and "train-99" in shown and "train-3 " not in shown
    assert "lines above; `hpc page` shows all runs" in shown and "100 runs" in shown
    assert "above" not in screen.shortened(lines[:5], "", 24)


def test_a_running_run_shows_the_figure_of_its_training(tmp_path: Path) -> None:
    from bench.page import make_runs
    from hpc.runs.rundir import RunDir, read_json

    make_runs(tmp_path, 4, n_lines=2)
    run = RunDir(tmp_path / "train-00000003")
    beat = read_json(run.supervisor)
    assert beat is not None
    now = time.time()
    figures = {"loss": 0.7, "val_loss": 0.6}
    pulse = beat["pulse"] | {"figures": figures, "done": 10, "total": 40, "began": now - 10, "time": now}
    write_json(run.supervisor, beat | {"state": "running", "code": None, "time": now, "host": "n1", "pulse": pulse})
    one = status.look(run)
    assert (one.word, one.headline, one.value, one.time) == ("running", "val_loss", 0.6, now - 10)
