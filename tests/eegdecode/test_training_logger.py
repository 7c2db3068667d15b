"""metrics.jsonl has each step once, and what is missing from it is named."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eegdecode.training.monitor import logger
from eegdecode.training.monitor.logger import Record
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir, read_lines


def test_a_step_that_a_power_cut_took_is_named_and_those_after_it_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = Context(World(), RunDir(tmp_path))
    first = Record(ctx, 0)
    for step in range(1, 7):
        first.write(step, {"loss": 1 / step})
        first.flush()
    first.close()
    *lines, _, last = ctx.run.metrics.read_text().splitlines()
    ctx.run.metrics.write_text("\n".join([*lines[:2], last[:9], lines[3], last[:9]]))
    second = Record(ctx, 5)
    assert "has no line of step 3, 5:" in caplog.text
    second.write(6, {"loss": 0.0})
    second.close()
    assert [line["step"] for line in read_lines(ctx.run.metrics)] == [1, 2, 4, 6]
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        Record(Context(World(), RunDir(tmp_path / "new")), 0).close()
    assert caplog.text == ""


@pytest.mark.parametrize("damage", ["", "\0", "cut"])
def test_the_next_attempt_goes_on_in_the_same_file_and_reads_it_anew_only_if_it_is_damaged(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A long run's file has a million lines, and a rank that died is to be back in a second."""
    run = RunDir(tmp_path)
    first = Record(Context(World(), run), 0)
    for step in range(1, 7):
        first.write(step, {"loss": 1 / step})
    first.close()
    text, inode = run.metrics.read_text(), run.metrics.stat().st_ino
    lines = text.splitlines(keepends=True)
    changed = {"": lines[1], "\0": lines[1][:14] + "\0" * 3 + lines[1][17:], "cut": lines[1][:14] + "\n"}[damage]
    run.metrics.write_text("".join([lines[0], changed, *lines[2:]]))
    Record(Context(World(), run), 4).close()
    assert run.metrics.read_text() == "".join([lines[0], *([] if damage else lines[1:2]), *lines[2:4]])
    assert (run.metrics.stat().st_ino == inode) == (not damage)
    assert ("has no line of step 2:" in caplog.text) == bool(damage)


def fill(path: Path) -> Callable[[], object]:
    """Nothing can be written there, as on a full disk, until the function given is called."""
    aside = path.rename(path.with_suffix(".aside"))
    path.symlink_to("/dev/full")
    return lambda: aside.replace(path)


def test_on_a_full_disk_steps_wait_in_memory_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "FULL_S", 0.2)
    ours = Record(Context(World(), RunDir(tmp_path)), 0)
    ours.write(1, {"loss": 1.0})
    make_room = fill(ours.path)
    with caplog.at_level(logging.ERROR):
        for step in (2, 3):
            ours.write(step, {"loss": 1 / step})
            ours.flush()
    assert caplog.text.count("ALERT") == 1 and "No space left on device. Training goes on" in caplog.text
    make_room()
    ours.write(4, {"loss": 0.25})
    assert [line["step"] for line in read_lines(ours.path)] == [1, 2, 3, 4]
    make_room = fill(ours.path)
    ours.write(5, {"loss": 0.2})
    threading.Timer(0.5, make_room).start()
    ours.close()
    assert [line["step"] for line in read_lines(ours.path)] == [1, 2, 3, 4, 5], "at the end it waits for room"


def test_what_a_full_disk_did_not_take_before_a_stop_is_written_by_the_next_attempt(tmp_path: Path) -> None:
    stopped = Record(Context(World(), RunDir(tmp_path), should_stop=lambda: True), 0)
    stopped.write(1, {"loss": 1.0})
    make_room = fill(stopped.path)
    for step in (2, 3):
        stopped.write(step, {"loss": 1 / step})
    stopped.flush()
    kept = stopped.unwritten
    stopped.close()  # a stop is asked for: it does not wait
    assert [line["step"] for line in kept] == [2, 3]
    make_room()
    second = Record(Context(World(), RunDir(tmp_path)), 3, kept)
    second.write(4, {"loss": 0.25})
    second.close()
    assert [line["step"] for line in read_lines(second.path)] == [1, 2, 3, 4]


def test_no_more_steps_wait_than_memory_is_meant_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logger, "KEPT_LINES", 2)
    ours = Record(Context(World(), RunDir(tmp_path)), 0)
    make_room = fill(ours.path)
    for step in (1, 2, 3):
        ours.write(step, {"loss": 1 / step})
    make_room()
    ours.close()
    assert [line["step"] for line in read_lines(ours.path)] == [2, 3]


def test_a_file_that_cannot_be_written_for_good_is_not_waited_for(tmp_path: Path) -> None:
    ours = Record(Context(World(), RunDir(tmp_path)), 0)
    ours.path.unlink()
    ours.path.mkdir()
    ours.write(1, {"loss": 1.0})
    ours.close()
    assert ours.path.is_dir()
