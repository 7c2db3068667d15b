"""Files are whole or absent."""

import json
from pathlib import Path
from typing import BinaryIO

import pytest

from hpc.rundir import Damaged, RunDir, append_line, atomic_write, read_json, read_lines, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a file.json"
    write_json(path, {"n": 1})

    def half(file: BinaryIO) -> None:
        file.write(b'{"n":')
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, half)
    assert read_json(path) == {"n": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_not_there_reads_as_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None
    assert read_lines(tmp_path / "none.jsonl") == []


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_line(path, {"text": "żółw"})
    with open(path, "a") as file:
        file.write(json.dumps({"text": "cut"})[:-3])
    assert read_lines(path) == [{"text": "żółw"}]


def test_every_file_of_a_run_has_its_own_place(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    names = [name for name, member in vars(RunDir).items() if isinstance(member, property) and name != "name"]
    places = [getattr(run, name) for name in names]
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(tmp_path) for place in places)


def test_a_line_cut_off_by_a_power_cut_is_the_only_one_lost(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    append_line(path, {"attempt": 1})
    append_line(path, {"attempt": 2})
    path.write_bytes(path.read_bytes()[:-7])
    append_line(path, {"attempt": 3})
    append_line(path, {"attempt": 4})
    assert read_lines(path) == [{"attempt": 1}, {"attempt": 3}, {"attempt": 4}]


def test_a_damaged_heartbeat_is_none_and_a_damaged_plan_is_damaged(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for place in (run.supervisor, run.owner, run.pulse(0), run.plan):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"")
    assert read_json(run.supervisor) is read_json(run.owner) is read_json(run.pulse(0)) is None
    with pytest.raises(Damaged, match=r"plan.json is damaged: it is not JSON"):
        read_json(run.plan)
