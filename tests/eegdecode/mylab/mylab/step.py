"""A preprocessing step: its config, and a function Stream -> Stream."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class MySquare:
    """The power of each sample."""

    name: Literal["mylab_square"] = "mylab_square"
    factor: float = 2.0  # of the power


def apply(cfg: MySquare, stream: Stream, trials: Sequence[Trial]) -> Stream:
    return replace(stream, read=lambda first, stop: cfg.factor * stream.read(first, stop) ** 2)
