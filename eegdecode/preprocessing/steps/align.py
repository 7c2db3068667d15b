"""Euclidean alignment of subjects (He & Wu 2020, doi:10.1109/TBME.2019.2913914)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from eegdecode.preprocessing import channels, statistics
from eegdecode.signals import Stream, Trial


@dataclass(frozen=True)
class Align:
    """Euclidean alignment: whiten by the mean covariance of the recording's trials, so that subjects become alike."""

    name: Literal["align"] = "align"
    needs_whole: ClassVar[bool] = True
    unitless: ClassVar[bool] = True


def apply(cfg: Align, stream: Stream, trials: Sequence[Trial]) -> Stream:
    """By the inverse root of the mean covariance."""
    strength, axes = np.linalg.eigh(statistics.covariance(stream, trials))
    nonzero = strength > 1e-7 * strength.max()  # a dimension that a reference removed stays removed
    root = (axes[:, nonzero] / np.sqrt(strength[nonzero])) @ axes[:, nonzero].T
    return channels.mapped(stream, root)
