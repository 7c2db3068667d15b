"""Pretrained weights to start training from."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from hpc.rank.context import Input


@dataclass(frozen=True)
class Start:
    """Start from pretrained weights of a run or a file. Tensors that match by name and shape are loaded.

    Parameters
    ----------
    source
        A train run, or the path of a file of weights (.safetensors, .ckpt, .pt, .bin), of an index of several, or of a
        folder with one of these; no code in it is executed.
    prefix
        Load only the tensors whose names begin with this prefix, and drop it: `target_encoder.`
    need
        The share of the model that the source must have. some: one tensor. encoder: all but the head. all: everything.
    input
        Whether the signal has to be as that which the weights were trained on: rate, unit, channels. A difference is
        refused (check), or a warning (ignore).
    """

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("input",)

    source: Input
    prefix: str = ""
    need: Literal["some", "encoder", "all"] = "encoder"
    input: Literal["check", "ignore"] = "check"
