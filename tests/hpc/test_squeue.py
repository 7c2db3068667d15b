"""Slurm's controller is asked seldom, and for no more than is needed."""

import os
import time
from pathlib import Path

import pytest

from hpc.slurm.squeue import Queue
from hpc.supervise.requeue import SELDOM_S, SOON_S, EndOfWalltime
from tests.waiting import wait_for


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A squeue that notes what it is asked, and answers with what is in `answer`, or fails with what is in `error`."""
    text = (
        f'#!/bin/sh\ncd {tmp_path}\necho "$@" >> asked\n'
        'case "$*" in *--me*) test ! -e error || { cat error >&2; exit 1; };; esac\ncat answer 2>/dev/null; true\n'
    )
    (tmp_path / "squeue").write_text(text)
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def asked(slurm: Path) -> list[str]:
    return (slurm / "asked").read_text().splitlines()


def test_one_job_is_asked_for_alone_and_many_by_their_user(slurm: Path) -> None:
    (slurm / "answer").write_text("7|RUNNING|None|N/A|a\n8|PENDING|Priority|N/A|b\n99|RUNNING|None|N/A|of-no-run\n")
    assert Queue().look(["7"]).keys() == {"7"}
    assert Queue().look(["7", "8_1", "8_2"]).keys() == {"7", "8"}
    one, many = asked(slurm)
    assert one.endswith("-j 7") and many.endswith("--me") and "-j" not in many.split()


def test_jobs_of_others_in_a_shared_folder_are_asked_for_by_their_user(slurm: Path) -> None:
    Queue().look(["7", "8", "9", "10"], {"9": 4711, "10": 4711})
    assert sorted(line.split("%j ")[1] for line in asked(slurm)) == ["--me", "-u 4711"]


def test_a_squeue_without_me_is_asked_by_number_of_the_user(slurm: Path) -> None:
    (slurm / "error").write_text("squeue: unrecognized option '--me'\nTry \"squeue --help\" for more information\n")
    (slurm / "answer").write_text("7|RUNNING|None|N/A|a\n")
    queue = Queue()
    assert queue.look(["7", "8"]).keys() == {"7"} and not queue.silence
    assert asked(slurm)[-1].endswith(f"-u {os.getuid()}")


def test_the_end_of_a_job_that_slurm_has_told_is_not_asked_for(slurm: Path) -> None:
    end = EndOfWalltime("7", {"SLURM_JOB_END_TIME": str(int(time.time()) + 24 * 3600)})
    left_s = end.left_s()
    assert left_s is not None and 24 * 3600 - 5 < left_s <= 24 * 3600
    assert not (slurm / "asked").exists() and end._interval_s() == SELDOM_S


def test_the_nearer_its_end_the_more_often_it_is_asked_for(slurm: Path) -> None:
    """An administrator may give a job more time."""
    end = EndOfWalltime("7", {"SLURM_JOB_END_TIME": str(int(time.time()) + 1000)})
    assert SOON_S < end._interval_s() <= 500
    end.at = time.time() + 100
    assert end._interval_s() == SOON_S
    (slurm / "answer").write_text("2099-01-01T00:00:00\n")
    end._next = 0.0
    wait_for(lambda: (end.left_s() or 0) > 1e6, "its new end is known")


@pytest.mark.parametrize("text", ["", "NONE", "4294967294"])
def test_a_job_whose_end_is_not_told_is_asked_for_at_once(slurm: Path, text: str) -> None:
    (slurm / "answer").write_text("2099-01-01T00:00:00\n")
    end = EndOfWalltime("7", {"SLURM_JOB_END_TIME": text})
    wait_for(lambda: end.left_s() is not None, "Slurm has said so")
    assert end._next > time.monotonic() + SOON_S
