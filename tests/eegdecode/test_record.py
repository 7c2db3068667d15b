"""metrics.jsonl has each step once, and what is missing from it is named."""

import logging
from pathlib import Path

import pytest

from eegdecode.training.record import Record
from hpc.context import Context, World
from hpc.rundir import RunDir, read_lines


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
