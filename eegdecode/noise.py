"""Random numbers derived from a window's key alone: the same on any rank and after any restart.

    uniform(keys, MASKING, 64)      [window, 64], in [0, 1)
    normal(keys, DIFFUSION, 3, 80)  [window, 3, 80]

The training loop gives each window a key, made from (seed, step, index in the global batch). `what` separates the draws
of one window. All operations but the last are integer, so a GPU draws the same numbers as a CPU (normal: up to
rounding).
"""

import math

import torch

_GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # the constants of SplitMix64


def uniform(keys: torch.Tensor, what: int, *shape: int) -> torch.Tensor:
    """Return `[window, *shape]`, float32 in [0, 1), for `keys` [window] of int64."""
    bits = _bits(keys, what, math.prod(shape))
    return (_shifted(bits, 40).to(torch.float32) * 2.0**-24).unflatten(1, shape or (1,))


def normal(keys: torch.Tensor, what: int, *shape: int) -> torch.Tensor:
    """Return `[window, *shape]`, float32, with mean 0 and variance 1 (Box and Muller)."""
    n = math.prod(shape)
    half = -(-n // 2)
    both = uniform(keys, what, 2 * half)
    radius = torch.sqrt(-2.0 * torch.log1p(-both[:, :half]))
    angle = 2.0 * math.pi * both[:, half:]
    drawn = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return drawn[:, :n].unflatten(1, shape or (1,))


def permutation(keys: torch.Tensor, what: int, n: int) -> torch.Tensor:
    """Return [window, n]: a shuffle of range(n) for each window."""
    return _bits(keys, what, n).argsort(dim=1, stable=True)


def _bits(keys: torch.Tensor, what: int, n: int) -> torch.Tensor:
    """Return 64 bits for each of n places of each window."""
    apart = (what * _GOLDEN + 2**63) % 2**64 - 2**63
    of_window = _mixed(keys + apart)[:, None]
    return _mixed(of_window + (torch.arange(n, device=keys.device) + 1) * _GOLDEN)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """Mix the bits so that each depends on every other: the finaliser of SplitMix64. Products of int64 wrap."""
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """Shift logically to the right."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
