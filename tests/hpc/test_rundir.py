"""Files are whole or absent."""

import json
import os
import subprocess
from pathlib import Path
from typing import BinaryIO

import pytest

from hpc.runs.rundir import (
    RunDir,
    append_line,
    atomic_write,
    damaged_lines,
    read_heartbeat,
    read_json,
    read_lines,
    write_json,
    write_output,
)


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
    append_line(path, {"text": "later"})
    assert read_lines(path) == [{"text": "żółw"}, {"text": "later"}]
    assert damaged_lines(path) == [2]


@pytest.mark.parametrize("content", [b"", bytes(40), b'{"time": 1', b"7"])
def test_a_heartbeat_that_a_power_cut_has_damaged_is_as_if_not_there(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rank-0000.json"
    path.write_bytes(content)
    assert read_heartbeat(path) == read_heartbeat(tmp_path / "none.json") == {}


def test_every_file_of_a_run_has_its_own_place(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    names = [name for name, member in vars(RunDir).items() if isinstance(member, property) and name != "name"]
    places = [getattr(run, name) for name in names]
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(tmp_path) for place in places)


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """Such as /dev/null, which a rename by root replaces for all programs."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        write_output(pipe, "a text\n")
        assert reader.communicate()[0] == "a text\n" and pipe.is_fifo()
    write_output(tmp_path / "page.md", "a text\n")
    assert (tmp_path / "page.md").read_text() == "a text\n"
