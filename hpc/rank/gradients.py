"""Gradients averaged over the ranks, added in an order that no restart changes.

torch's DistributedDataParallel moves gradients to other buckets after the first backward pass of a process. The bucket
of a gradient decides in which order the shares of three ranks or more are added, so a run that was stopped would end
with other bits. Here the buckets follow from the parameters alone. `in_order`, shares are added by a tree over the
ranks, whatever the buckets, the nodes and the network between them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import Variable

from hpc.runs.speed import phases

MB = 2**20
FIRST_BUCKET_MB, BUCKET_MB = 1.0, 25.0
"""The first is small, so that sending begins early."""
AT_ONCE_MB = 1.0
"""Up to this size, over all ranks together, each rank gets the shares of all others: one message instead of two."""


class Averaged(nn.Module):
    """The model. After a backward pass, each gradient is its mean over the ranks; None if no rank has one.

    Buckets are sent while the backward pass goes on, in the reverse of the order in which parameters are registered.
    Parameters may get no gradient, on some ranks or on all, and may become trainable later.
    """

    def __init__(self, module: nn.Module, in_order: bool, bucket_mb: float = BUCKET_MB) -> None:
        super().__init__()
        refuse_unlike(module)
        self.module, self.in_order, self.bucket_mb = module, in_order, bucket_mb
        self.together = True
        """False: gradients stay on their rank, and are added to those of the next backward pass."""
        self.followed = list(_buffers_of_the_model(module))
        self.trained: list[bool] = []
        self.buckets: list[_Bucket] = []
        self.n_sent = 0
        self.expects = self.began = False
        self.parameters_in_order = [one for one in module.parameters() if one.requires_grad]
        self.bucket_of: list[_Bucket | None] = []
        """That of each of the parameters in order; None for a frozen one."""
        for number, parameter in enumerate(self.parameters_in_order):
            parameter.register_post_accumulate_grad_hook(partial(self._arrived, number))
        broadcast([*module.parameters(), *module.buffers()])

    def forward(self, *inputs: object, **named: object) -> object:
        if torch.is_grad_enabled() and self.together:
            broadcast(self.followed)
            self._expect()
        return self.module(*inputs, **named)

    def _expect(self) -> None:
        """Make ready for a backward pass."""
        trained = [parameter.requires_grad for parameter in self.parameters_in_order]
        if trained != self.trained:
            parameters = [one for one in self.parameters_in_order if one.requires_grad]
            self.trained, self.buckets = trained, list(_buckets(parameters, self.bucket_mb, self.in_order))
            of_parameter = {id(parameter): bucket for bucket in self.buckets for parameter in bucket.parameters}
            self.bucket_of = [of_parameter.get(id(parameter)) for parameter in self.parameters_in_order]
        for bucket in self.buckets:
            bucket.n_missing = len(bucket.parameters)
        self.n_sent, self.expects, self.began = 0, True, False

    def _arrived(self, number: int, _: torch.Tensor) -> None:
        if not (self.expects and self.together):
            return
        if not self.began:
            self.began = True
            Variable._execution_engine.queue_callback(self._finish)
        bucket = self.bucket_of[number]
        assert bucket is not None, "a parameter was unfrozen between the forward and the backward pass"
        bucket.n_missing -= 1
        if not bucket.n_missing:
            while self.n_sent < len(self.buckets) and not self.buckets[self.n_sent].n_missing:
                self._send()

    def _send(self) -> None:
        """Send the next bucket, on every rank in the same order."""
        if self.n_sent:
            self.buckets[self.n_sent - 1].add()
        self.buckets[self.n_sent].send()
        self.n_sent += 1

    def average(self) -> None:
        """Average what `.grad` holds now, after backward passes whose gradients stayed on their rank."""
        self._expect()
        self._finish()

    def _finish(self) -> None:
        """End of the backward pass: what has got no gradient on this rank may have got one on another."""
        while self.n_sent < len(self.buckets):
            self._send()
        self.buckets[-1].add()
        for bucket in self.buckets:
            bucket.receive()
        self.expects = False


class _Bucket:
    """Gradients that are sent together, one after the other in `flat`, and then for each whether the rank has it."""

    def __init__(self, parameters: Sequence[nn.Parameter], in_order: bool) -> None:
        first, n = parameters[0], dist.get_world_size()
        self.parameters, self.n_ranks, self.n_missing = parameters, n, 0
        starts = [0]
        for parameter in parameters:
            starts.append(starts[-1] + parameter.numel())
        size = -(-(starts[-1] + len(parameters)) // n) * n
        self.flat = torch.zeros(size, dtype=first.dtype, device=first.device)
        self.views = [_as(one, self.flat, at) for one, at in zip(parameters, starts, strict=False)]
        self.there = self.flat[starts[-1] : starts[-1] + len(parameters)]
        self.absent: list[int] = []
        # Two shares add to the same sum in any order
        self.in_order = in_order and n > 2
        self.at_once = size * first.element_size() * n <= AT_ONCE_MB * MB
        self.shares = self.flat.new_empty((n * size if self.at_once else size) if self.in_order else 0)
        self.work: dist.Work | None = None
        self.aside = torch.cuda.Stream(first.device) if self.in_order and first.is_cuda else None

    def send(self) -> None:
        self.absent = [at for at, parameter in enumerate(self.parameters) if parameter.grad is None]
        self.there.fill_(1.0)
        for at in self.absent:
            self.views[at].zero_()
            self.there[at].zero_()
        pairs = [
            (view, one.grad) for view, one in zip(self.views, self.parameters, strict=True) if one.grad is not None
        ]
        if pairs:
            torch._foreach_copy_([view for view, _ in pairs], [gradient for _, gradient in pairs])
        for view, parameter in zip(self.views, self.parameters, strict=True):
            parameter.grad = view
        if self.aside is not None:
            self.aside.wait_stream(torch.cuda.current_stream(self.flat.device))
        with self._aside():
            if not self.in_order:
                self.work = dist.all_reduce(self.flat, async_op=True)
            elif self.at_once:
                self.work = dist.all_gather_into_tensor(self.shares, self.flat, async_op=True)
            else:
                self.work = dist.all_to_all_single(self.shares, self.flat, async_op=True)

    def add(self) -> None:
        """Add the shares that this rank has got. On the CPU, the rank waits for them here, and no longer."""
        if not self.in_order:
            return
        assert self.work is not None
        with self._aside():
            _wait(self.work)
            mean = tree_sum(self.shares.view(self.n_ranks, -1).unbind()).div_(self.n_ranks)
            if self.at_once:
                self.flat.copy_(mean)
                self.work = None
            else:
                self.work = dist.all_gather_into_tensor(self.flat, mean, async_op=True)

    def receive(self) -> None:
        if self.work is not None:
            with self._aside():
                _wait(self.work)
        if self.aside is not None:
            torch.cuda.current_stream(self.flat.device).wait_stream(self.aside)
        if not self.in_order:
            self.flat.div_(self.n_ranks)
        if self.absent:  # reads the device, on this rank alone
            anywhere = self.there.tolist()
            for at in self.absent:
                if not anywhere[at]:
                    self.parameters[at].grad = None

    def _aside(self) -> AbstractContextManager[object]:
        return nullcontext() if self.aside is None else torch.cuda.stream(self.aside)


@phases.waiting
def _wait(work: dist.Work) -> None:
    """Wait for the other ranks, on the CPU; a GPU is only asked to."""
    work.wait()


def tree_sum(shares: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of the shares, into the first of them; each half is added to the other, then their halves.

    Of 2n shares, n ranks can add those that are n apart on their own, and the sum has the same bits.
    """
    while len(shares) > 1:
        half = len(shares) // 2
        shares = [*(shares[at].add_(shares[at + half]) for at in range(half)), *shares[2 * half :]]
    return shares[0]


def size_mb(module: nn.Module) -> float:
    """Return the size of the gradients."""
    return sum(one.numel() * one.element_size() for one in module.parameters() if one.requires_grad) / MB


def _buckets(parameters: Sequence[nn.Parameter], bucket_mb: float, in_order: bool) -> Iterator[_Bucket]:
    for kind in dict.fromkeys((one.device, one.dtype) for one in parameters):
        bucket: list[nn.Parameter] = []
        room = min(FIRST_BUCKET_MB, bucket_mb) * MB
        for parameter in reversed(parameters):
            if (parameter.device, parameter.dtype) != kind:
                continue
            bucket.append(parameter)
            room -= parameter.numel() * parameter.element_size()
            if room <= 0:
                yield _Bucket(bucket, in_order)
                bucket, room = [], bucket_mb * MB
        if bucket:
            yield _Bucket(bucket, in_order)


def _as(parameter: nn.Parameter, flat: torch.Tensor, at: int) -> torch.Tensor:
    """Return the place of a parameter's gradient, with the strides of the parameter, which fused optimizers rely on."""
    strides = torch.empty_like(parameter, device="meta").stride()
    return flat.as_strided(parameter.shape, strides, at)


@phases.waiting
def broadcast(tensors: Iterable[torch.Tensor]) -> None:
    """Give all ranks the values of rank 0."""
    alike: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
    for tensor in tensors:
        alike.setdefault((tensor.device, tensor.dtype), []).append(tensor.detach())
    for group in alike.values():
        flat = torch.cat([tensor.flatten() for tensor in group])
        dist.broadcast(flat, 0)
        for tensor, piece in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(piece.view_as(tensor))


def statistics(module: nn.Module) -> list[torch.Tensor]:
    """Return the running statistics of batch norms, which training writes and does not read."""
    norms = (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase))
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


def _buffers_of_the_model(module: nn.Module) -> Iterator[torch.Tensor]:
    """Return the buffers that a forward pass may change and read: those that are saved and are not statistics."""
    known = set(map(id, statistics(module)))
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name not in part._non_persistent_buffers_set and id(buffer) not in known:
                yield buffer


def refuse_unlike(module: nn.Module) -> None:
    """Refuse ranks whose models have other parameters: they would wait for each other, or add what does not belong
    together."""
    shapes = [(name, tuple(one.shape), str(one.dtype), one.requires_grad) for name, one in module.named_parameters()]
    digest = hashlib.sha256(repr(shapes).encode()).digest()
    mine = torch.tensor([int.from_bytes(digest[:7], "big")])
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(every, mine)
    unlike = [str(rank) for rank, one in enumerate(every) if not torch.equal(one, every[0])]
    if unlike:
        raise ValueError(
            f"the model of rank {', '.join(unlike)} has other parameters than that of rank 0 (here {len(shapes)} "
            f"tensors of {sum(one.numel() for one in module.parameters())} numbers): all ranks must build the same "
            "model, so check that it depends on nothing that differs between nodes"
        )
