"""Cut windows of any length into patches, and map patches back to the times of the target."""

import torch
from torch.nn import functional

from eegdecode.models.parts import shapes
from eegdecode.signals import SignalSpec


def cut(x: torch.Tensor, samples: int) -> torch.Tensor:
    """Cut [window, time, channel] into [window, patch, sample, channel]; zeros fill the last patch."""
    return functional.pad(x, (0, 0, 0, -x.shape[1] % samples)).unflatten(1, (-1, samples))


def at_steps(x: torch.Tensor, spec: SignalSpec, samples: int, n_times: int) -> torch.Tensor:
    """Map [window, patch, feature] to the times of the target, or to the mean over patches. The last patch may go
    beyond the window, and its steps there are cut."""
    out = shapes.at_steps(x, spec, x.shape[1] * samples)
    return out[:, : spec.n_steps(n_times)] if spec.is_sequence else out
