"""Whether the longest batch fits into the memory of the GPU: tried before the first step, and explained if not."""

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

from eegdecode.models.parts import trainable
from eegdecode.objectives import Batch
from eegdecode.training.config import Train
from eegdecode.training.step import Stepper
from hpc.media import many
from hpc.rank import ddp
from hpc.rank.context import Context

FIRST_STEPS = 3
"""Memory that does not suffice within these steps of a process would not suffice at the next start either."""
SMALLER = "take a smaller model, shorter windows, or compute.precision=bf16"


def try_longest(cfg: Train, ctx: Context, stepper: Stepper, batch: Batch, n_times: int, n_steps: int) -> None:
    """Do the forward and backward pass of the longest batch, and forget it: the network, its buffers and the state of
    random numbers are as before. Raises ValueError if it does not fit, with the setting that would, which is tried.

    Every rank must call it. It does nothing where it could not be undone, or would wait for other ranks: for a sharded
    model, and for one that is compiled inside DDP.

    Parameters
    ----------
    batch
        This rank's part of any batch; it is lengthened.
    n_times
        The samples of the longest windows.
    n_steps
        The samples of a target over time in them.
    """
    compute, n_windows = cfg.compute, len(batch.signal)
    if compute.shard or (compute.compile and ctx.world.size > 1):
        return
    longest = _lengthened(batch, n_times, n_steps)
    for n_portions in _divisors(n_windows, compute.accumulate):
        fits = not ddp.any_rank(not _fits(cfg, stepper, longest, n_windows // n_portions))
        if fits and n_portions == compute.accumulate:
            return
        if fits:
            raise ValueError(
                f"{_what(n_windows, n_times, compute.accumulate)} do not fit into {_gpu()}: with "
                f"compute.accumulate={n_portions} they do, {many(n_windows // n_portions, 'window')} at a time"
            )
    raise ValueError(
        f"not even one window of {many(n_times, 'sample')} fits into {_gpu()}: {SMALLER}, or compute.shard=true on "
        "several GPUs"
    )


def _divisors(n: int, least: int) -> list[int]:
    return [divisor for divisor in range(least, n + 1) if n % divisor == 0]


def _fits(cfg: Train, stepper: Stepper, batch: Batch, n_windows: int) -> bool:
    """Whether the first windows of the batch pass, next to what the optimizer will keep."""
    network, device = stepper.network, batch.signal.device
    portion = Batch(*(column[:n_windows] for column in batch))
    buffers = [buffer.clone() for buffer in network.buffers()]
    gradients = [parameter.grad for parameter in network.parameters()]
    modes = [(module, module.training) for module in network.modules()]
    trainable.train(network)
    try:
        with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
            _reserve = torch.empty(_later_bytes(cfg, stepper), dtype=torch.uint8, device=device)
            with stepper.precision:
                loss, _ = stepper.objective(network, portion)
            loss.backward()
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        for module, was_training in modes:
            module.training = was_training
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(before)


def _later_bytes(cfg: Train, stepper: Stepper) -> int:
    """Return the bytes that training takes from the first step on, besides a pass: moments, averages, perturbations."""
    n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in stepper.trained)
    n_copies = 0 if stepper.optimizer.state else 2
    n_copies += (cfg.optim.average is not None) + (cfg.optim.sam is not None)
    return n_bytes * n_copies


def _lengthened(batch: Batch, n_times: int, n_steps: int) -> Batch:
    """Repeat the signal up to that many samples, and a target over time as far."""
    if n_times <= batch.signal.shape[1]:
        return batch
    target = _repeated(batch.target, n_steps) if batch.target.ndim == 3 else batch.target
    return batch._replace(signal=_repeated(batch.signal, n_times), target=target)


def _repeated(values: torch.Tensor, n: int) -> torch.Tensor:
    return values[:, torch.arange(n, device=values.device) % values.shape[1]]


def _what(n_windows: int, n_times: int, n_portions: int) -> str:
    portions = f" in {many(n_portions, 'portion')}" if n_portions > 1 else ""
    return f"{many(n_windows, 'window')} a rank of {many(n_times, 'sample')}{portions}"


def _gpu() -> str:
    """Return `the 79 GB of NVIDIA H100 80GB HBM3`."""
    if not torch.cuda.is_available():
        return "this device"
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"the {properties.total_memory / 2**30:.0f} GiB of {properties.name}"


Result = TypeVar("Result")


def explained(fit: Callable[[Train, Context], Result]) -> Callable[[Train, Context], Result]:
    """Explain it if the memory of the GPU does not suffice during training. At the first steps the error is final
    (ValueError); later another start may help, as other processes may have held memory."""

    @functools.wraps(fit)
    def with_explanation(cfg: Train, ctx: Context) -> Result:
        try:
            return fit(cfg, ctx)
        except torch.OutOfMemoryError as error:
            sentence = too_little(cfg, ctx)
            raise (ValueError if ctx.advanced < FIRST_STEPS else RuntimeError)(sentence) from error

    return with_explanation


def too_little(cfg: Train, ctx: Context) -> str:
    """Return a sentence for a step that did not fit. It is the same at each start, unlike torch's own."""
    n_windows = cfg.windows.batch // ctx.world.size
    larger = _divisors(n_windows, cfg.compute.accumulate + 1)
    advice = SMALLER
    if larger:
        advice = f"say compute.accumulate={larger[0]}, {many(n_windows // larger[0], 'window')} at a time"
    portions = f"{many(n_windows, 'window')} a rank in {many(cfg.compute.accumulate, 'portion')}"
    when = f" after step {ctx.reached}" if ctx.reached else ""
    return f"training does not fit into {_gpu()}{when}, with {portions}: {advice}"
