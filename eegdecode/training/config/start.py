"""From which parameters training begins."""

from dataclasses import dataclass
from typing import Literal

from hpc.rank.context import Input


@dataclass(frozen=True)
class Start:
    """Parameters of another run, or of a file, instead of drawn ones. What fits by name and shape is taken.

    Parameters
    ----------
    source
        A train run, or the path of a checkpoint (.pt, .ckpt, .bin); nothing of it is executed.
    prefix
        Only what stands under that name in the file, which is dropped: `target_encoder.`
    need
        How much of the model must be found there. encoder: all but the head. all: everything.
    """

    source: Input
    prefix: str = ""
    need: Literal["some", "encoder", "all"] = "encoder"
