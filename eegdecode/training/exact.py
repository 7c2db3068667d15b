"""`compute.exact`: the same bits over a stop, on other nodes, and on other numbers of ranks.

With n ranks and `compute.accumulate` portions each, a batch has n x accumulate shares, or `compute.shares`. A share has
the same windows on whatever rank, and the gradients of all shares are added by one tree
(`hpc.rank.gradients.tree_sum`).
"""

import logging

import torch

from eegdecode.objectives import Batch
from eegdecode.training.config import Compute, Optim, Train, depends_on_ranks
from hpc.rank import ddp

log = logging.getLogger(__name__)

Gradients = list[torch.Tensor | None]


def begin(cfg: Train, n_ranks: int, device: torch.device) -> None:
    """Prepare this process, and log what is promised and what is not."""
    if cfg.compute.exact is True and device.type == "cuda":
        ddp.deterministic()
    if cfg.compute.tf32 != "auto" and device.type == "cuda":
        ddp.tf32(cfg.compute.tf32)
    log.info("%s", cfg.compute.numbers(device.type))
    for sentence in promises(cfg, n_ranks, device.type):
        log.info("%s", sentence)


def promises(cfg: Train, n_ranks: int, device: str) -> list[str]:
    """Return sentences about when the parameters end with the same bits, as far as a user may expect something else."""
    if cfg.compute.exact is not True:
        return [LOOSE] if device == "cuda" else []
    also, n_shares = "a stopped run ends with parameters of the same bits", n_ranks * cfg.compute.accumulate
    ranks = f"has {n_shares} as its product with compute.accumulate"
    ranks = f"divides compute.shares={cfg.compute.shares}" if cfg.compute.shares else ranks
    sentences = []
    if cfg.compute.shard:
        sentences.append("exact: with compute.shard=true, another number of ranks or other nodes change bits")
    elif reasons := depends_on_ranks(cfg):
        also += ", on other nodes too"
        sentences.append(f"exact: another number of ranks changes bits, because of {', '.join(reasons)}")
    else:
        also += f", on other nodes too, and on any number of ranks that {ranks} "
        also += "(logged figures may differ in the last digit)"
    same = "the same kind of GPU" if device == "cuda" else "the same kind of processor, as many threads a rank"
    sentences.insert(0, f"exact: {also}; on {same} and with the same versions of torch and its libraries")
    if cfg.compute.compile:
        sentences.append("exact: with compute.compile=true, another compilation may choose other kernels")
    if cfg.compute.graph is True and device == "cuda":
        sentences.append("exact: with compute.graph=true, a graph is used if two steps have the same bits without it")
    return sentences


LOOSE = (
    "on a GPU, a stopped run ends the same but for rounding, as kernels add in any order: compute.exact=true gives the "
    "same bits, more slowly"
)


def by_shares(optim: Optim, compute: Compute) -> bool:
    """Whether a rank computes its portions as that many ranks would."""
    return compute.exact is True and compute.accumulate > 1 and not compute.shard and optim.sam is None


def interleaved(batch: Batch, n: int) -> list[Batch]:
    """Divide a rank's batch into n shares: every n-th window, as ranks divide the batch of a step."""
    return [Batch(*(column[number::n].contiguous() for column in batch)) for number in range(n)]


def order(n: int) -> list[int]:
    """Return the shares in an order in which neighbours add up to the tree: 0 2 1 3 of four."""
    half = n // 2
    return [number for first in order(half) for number in (first, first + half)] if half else [0]


class TreeSum:
    """Adds the gradients of shares, given by `order`, as the tree does, and holds no more than one sum a level."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: list[Gradients] = []

    def add(self, share: Gradients) -> None:
        number, self.n = self.n, self.n + 1
        while number & 1:
            share = [sum_of(one, other) for one, other in zip(self.sums.pop(), share, strict=True)]
            number >>= 1
        self.sums.append(share)

    @property
    def value(self) -> Gradients:
        (total,) = self.sums
        return total


def sum_of(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    """Add two gradients; None if both are None."""
    if one is None or other is None:
        return one if other is None else other
    return one + other
