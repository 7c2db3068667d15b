"""Operators whose gradient torch cannot compute on a GPU with the same bits each time, in a form in which it can.

They are replaced only where deterministic algorithms are asked for (`compute.exact` on a GPU): they are slower, and
interpolation rounds otherwise.
"""

import torch
from torch.nn import functional


def interpolated(x: torch.Tensor, n_times: int) -> torch.Tensor:
    """Interpolate [window, feature, time] linearly to n_times samples."""
    if not torch.are_deterministic_algorithms_enabled():
        return functional.interpolate(x, n_times, mode="linear", align_corners=False)
    with torch.autocast(x.device.type, enabled=False):
        unit = torch.eye(x.shape[2], device=x.device, dtype=x.dtype)
        return x @ functional.interpolate(unit[None], n_times, mode="linear", align_corners=False)[0]


def max_pooled(x: torch.Tensor, size: int, ceil_mode: bool = False) -> torch.Tensor:
    """Pool the last dimension by the maximum of each `size` samples; what is left over is dropped, or with `ceil_mode`
    pooled too."""
    if not torch.are_deterministic_algorithms_enabled():
        return functional.max_pool1d(x, size, ceil_mode=ceil_mode)
    left_over = x.shape[-1] % size
    if left_over and ceil_mode:
        x = functional.pad(x, (0, size - left_over), value=float("-inf"))
    elif left_over:
        x = x[..., :-left_over]
    return x.unflatten(-1, (-1, size)).max(dim=-1).values
