"""Subtract a reference from each sample."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from eegdecode.preprocessing.channels import need_all
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.signals import Kind, Stream, Trial


@dataclass(frozen=True)
class Reference:
    """Re-reference: subtract the average over `channels`, or over all of the same kind, from each sample.

    Channels without a reference electrode (MEG, EOG, …) stay as they are.
    """

    name: Literal["reference"] = "reference"
    channels: tuple[str, ...] = ()  # names of reference channels; where empty, all of the same kind
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            ("ref_channels", "ref"), "channels are the names of the reference channels; left out, the average of all"
        )
    }


REFERENCED: tuple[Kind, ...] = ("eeg", "ecog", "seeg")
"""The kinds that are measured against a reference electrode, which can be changed afterwards."""


def apply(cfg: Reference, stream: Stream, trials: Sequence[Trial]) -> Stream:
    kinds = [stream.sensor(name).kind for name in stream.channels]
    groups = [[index for index, kind in enumerate(kinds) if kind == one] for one in REFERENCED]
    groups = [group for group in groups if group]
    if not groups:
        raise ValueError(
            f"reference: none of {', '.join(stream.channels)} is {' or '.join(REFERENCED)}, and nothing else has a "
            "reference electrode: leave out this step"
        )
    need_all(cfg.channels, stream.channels, "reference")
    pairs = [(group, [stream.channels.index(name) for name in cfg.channels] or group) for group in groups]

    def read(first: int, stop: int) -> np.ndarray:
        data = stream.read(first, stop)
        if len(pairs) == 1 and len(pairs[0][1]) == stream.n_channels:
            return data - data.mean(axis=1, keepdims=True)
        out = data.copy()
        for group, over in pairs:
            out[:, group] -= data[:, over].mean(axis=1, keepdims=True)
        return out

    return replace(stream, read=read)


def of_windows(cfg: Reference, windows: SingleWindows) -> SingleWindows:
    return windows.through(apply, cfg)
