"""A GPU for tests on a machine without one: bench/spy.py, or a reason why there is none."""

from collections.abc import Iterator

import pytest
import torch

from bench import spy


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
