"""Check the inputs of models, and map features to outputs: the same for all models."""

import torch
from torch import nn
from torch.nn import functional

from eegdecode.models.parts import deterministic
from eegdecode.signals import SignalSpec


def check(x: torch.Tensor, n_channels: int, n_times: int | None = None, at_least: int = 1) -> None:
    """Refuse a batch that is not [window, time, channel] with n_channels channels and n_times samples."""
    if x.ndim != 3:
        raise ValueError(f"a model reads [window, time, channel], got a tensor of shape {tuple(x.shape)}")
    # `n_times in (None, x.shape[1])` would be False in torch.compile, after windows of two lengths
    if x.shape[2] == n_channels and x.shape[1] >= at_least and (n_times is None or x.shape[1] == n_times):
        return
    wrong = []
    if x.shape[2] != n_channels:
        wrong.append(f"this model was built for {n_channels} channels")
    if n_times is not None and x.shape[1] != n_times:
        wrong.append(f"this model was built for {n_times} samples")
    elif x.shape[1] < at_least:
        wrong.append(f"needs at least {at_least} samples")
    raise ValueError(f"got {x.shape[2]} channels x {x.shape[1]} samples; {' and '.join(wrong)}")


def need_length(spec: SignalSpec, name: str, at_least: int = 1) -> int:
    """Return the number of samples of a window, for a model whose size depends on it."""
    if spec.n_times is None:
        raise ValueError(f"{name} takes windows of one length only: choose other windows than buckets or whole trials")
    if spec.n_times < at_least:
        raise ValueError(
            f"{name}: got {spec.n_channels} channels x {spec.n_times} samples; needs at least {at_least} samples"
        )
    return spec.n_times


class Readout(nn.Module):
    """[window, feature] -> the shape that the target needs: [window, output], or [window, step, output] all at once.

    Parameters
    ----------
    linear
        Maps the features to `size` numbers; each model has its own.
    """

    def __init__(self, linear: nn.Module, spec: SignalSpec) -> None:
        super().__init__()
        self.linear = linear
        self.shape = _shape(spec)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(features).unflatten(1, self.shape)
        return out


def size(spec: SignalSpec) -> int:
    """Return the number of values in a window's output."""
    n = 1
    for length in _shape(spec):
        n *= length
    return n


def _shape(spec: SignalSpec) -> tuple[int, ...]:
    if not spec.is_sequence:
        return (spec.n_outputs,)
    return (spec.n_steps(need_length(spec, "a model that gives a window at once")), spec.n_outputs)


def at_steps(x: torch.Tensor, spec: SignalSpec, n_times: int) -> torch.Tensor:
    """Map [window, any time, feature] to the times of the target, [window, step, feature]; without a time course, to
    the mean over time, [window, feature]. `n_times`: the samples of the window that x was made from."""
    if not spec.is_sequence:
        return x.mean(dim=1)
    n_steps = spec.n_steps(n_times)
    if n_steps == x.shape[1]:
        return x
    return deterministic.interpolated(x.mT, n_steps).mT


def cut_patches(x: torch.Tensor, samples: int) -> torch.Tensor:
    """Cut [window, time, channel] into [window, patch, sample, channel]; zeros fill the last patch."""
    return functional.pad(x, (0, 0, 0, -x.shape[1] % samples)).unflatten(1, (-1, samples))


def patches_at_steps(x: torch.Tensor, spec: SignalSpec, samples: int, n_times: int) -> torch.Tensor:
    """Map [window, patch, feature] to the times of the target, or to the mean over patches. The last patch may go
    beyond the window, and its steps there are cut."""
    out = at_steps(x, spec, x.shape[1] * samples)
    return out[:, : spec.n_steps(n_times)] if spec.is_sequence else out


def rows(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the rows `at` [window, n] of [window, row, feature], for any number of windows: torch.export fixes it in
    take_along_dim."""
    return x.gather(1, at[:, :, None].expand(-1, -1, x.shape[2]))
