"""Statistics of batch norms, estimated anew from training windows with the parameters as they are.

Those that training leaves are running means over its steps: with a low momentum, as Keras's .01 in EEGNet, they lag so
far behind in a short training that all windows are given one class.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def all_of(network: nn.Module) -> list[_BatchNorm]:
    return [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]


def estimate(network: nn.Module, norms: Sequence[_BatchNorm], forward: Callable[[], object]) -> None:
    """Estimate the statistics of these norms: the mean over the batches that `forward` runs through the network, which
    is in eval mode otherwise and stays so. Nothing else changes."""
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    try:
        with torch.no_grad():
            forward()
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


@contextmanager
def estimated(network: nn.Module, forward: Callable[[], object]) -> Iterator[bool]:
    """Within the context, the norms that are in training mode have new statistics, so that training does not depend on
    how often it is validated; those that are frozen keep theirs. Yields whether there are any."""
    norms = [norm for norm in all_of(network) if norm.training]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    if norms:
        estimate(network, norms, forward)
    try:
        yield bool(norms)
    finally:
        for buffer, value in before:
            buffer.copy_(value)
