"""What a supervision does when its own bookkeeping cannot be written."""

import errno
from pathlib import Path

import pytest

from hpc import STOPPED
from hpc.rundir import RunDir, read_json, read_lines
from hpc.supervision import Supervision
from tests.conftest import Launch


@pytest.fixture
def supervision(launch: Launch) -> Supervision:
    launch("count", "n=3", "--prepare")
    (folder,) = launch.runs()
    (folder / "heartbeat").mkdir(exist_ok=True)
    return Supervision(RunDir(folder), {}, [])


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_waited_for_until_somebody_makes_room(supervision: Supervision) -> None:
    left = [full, full]
    assert supervision._until_there_is_room(lambda: left.pop()() if left else None)


def test_asked_to_stop_it_does_not_wait_for_room_but_ends_as_it_should(supervision: Supervision) -> None:
    supervision.asked = "clock"
    assert not supervision._until_there_is_room(full)
    assert supervision._stop() == STOPPED
    assert "stopped with nothing to save yet" in (read_json(supervision.dir.supervisor) or {})["text"]


def test_attempts_that_nobody_noted_are_counted_once(supervision: Supervision, tmp_path: Path) -> None:
    run = supervision.dir
    for number in (1, 2):
        run.attempt(number).path.mkdir(parents=True)
        run.attempt(number).start.write_text(f'{{"attempt": {number}, "started": {number}.0, "from_step": 0}}')
    supervision.attempt = 2
    supervision._count_the_lost()
    supervision._count_the_lost()
    assert [(line["attempt"], line["outcome"]) for line in read_lines(run.attempts)] == [(1, "lost"), (2, "lost")]
