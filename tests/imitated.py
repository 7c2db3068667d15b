"""A GPU for tests on a machine without one: bench/spy.py, or a reason why there is none."""

from collections.abc import Iterator

import pytest
import torch

from bench import spy
from bench.streams import Streams


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The GPU that is here, or an imitated one."""
    if torch.cuda.is_available():
        yield torch.device("cuda", 0)
        return
    try:
        with spy.imitated_cuda() as imitated:
            yield imitated
    except spy.NoCompiler as error:
        pytest.skip(str(error))


@pytest.fixture
def late() -> Iterator[tuple[torch.device, Streams]]:
    """An imitated GPU whose copies are done as late as they may be, and the record of what has no order."""
    if torch.cuda.is_available():
        pytest.skip("here is a GPU, which does copies when it likes: see tests/gpu")
    streams = Streams()
    try:
        with spy.imitated_cuda(streams) as imitated:
            yield imitated, streams
    except spy.NoCompiler as error:
        pytest.skip(str(error))
