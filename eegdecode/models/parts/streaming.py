"""Stream a signal through a causal network: chunk by chunk gives the same outputs as the whole window at once.

    stream = Stream(network.eval())
    for chunk in chunks:          # [window, time, channel], of any length, also none
        out = stream.feed(chunk)  # [window, step, output]: the steps that are known now

The state that is kept between chunks does not grow.
"""

from typing import Any, Protocol

import torch

from eegdecode.models.parts import shapes
from eegdecode.signals import SignalSpec


class Causal(Protocol):
    """The interface of a network that can stream."""

    spec: SignalSpec
    samples: int  # of a token
    causal: bool
    training: bool

    def follow(self, x: torch.Tensor, memory: Any) -> tuple[torch.Tensor, Any]:
        """Return the outputs [window, token, output] of the tokens that are complete after [window, time, channel], and
        the new state. `memory` is the state before, None at the start."""


class Stream:
    """The state of one stream; a batch of windows streams in parallel."""

    def __init__(self, network: Causal) -> None:
        if not network.causal:
            raise ValueError("this network reads later samples, so it cannot stream: train one with causal=true")
        if network.training:
            raise ValueError("a network in training mode cannot stream: call its eval() first")
        self.network = network
        self.memory: Any = None
        self.n_times = 0
        self.n_tokens = 0
        self.held: torch.Tensor | None = None

    @torch.no_grad()
    def feed(self, x: torch.Tensor) -> torch.Tensor:
        """Take [window, time, channel] and return [window, step, output], all new steps that are known. If the target
        has one row a window, return their mean from the beginning up to now, [window, output]; 0 until a token is
        complete."""
        spec = self.network.spec
        shapes.check(x, spec.n_channels, at_least=0)
        if not x.shape[1]:  # nothing has come since the last chunk
            held = x.new_zeros(x.shape[0], 1, spec.n_outputs) if self.held is None else self.held
            return held[:, :0] if spec.is_sequence else held[:, 0]
        tokens, self.memory = self.network.follow(x, self.memory)
        held = nothing_yet(tokens) if self.held is None else self.held
        first, self.n_times = self.n_times, self.n_times + x.shape[1]
        before, self.n_tokens = self.n_tokens, self.n_tokens + tokens.shape[1]
        if not spec.is_sequence:
            if tokens.shape[1]:
                held = held + (tokens - held).sum(dim=1, keepdim=True) / self.n_tokens
            self.held = held
            return held[:, 0]
        known = torch.cat([held, tokens], dim=1)
        self.held = known[:, -1:]
        return at_steps(known, spec, self.network.samples, steps(spec, first), steps(spec, self.n_times), before)


def at_steps(known: torch.Tensor, spec: SignalSpec, samples: int, first: int, stop: int, before: int) -> torch.Tensor:
    """Return [window, step, output]: at each step the output that was known then.

    `known` [window, token, output] begins with the outputs after `before` tokens: held until the next token is whole.
    """
    ratio = spec.sfreq / spec.target_sfreq
    step = torch.arange(first, stop, dtype=torch.float64, device=known.device)
    token = ((step * ratio + TOLERANCE).floor().long() + 1) // samples
    return known[:, token - before]


TOLERANCE = 1e-6
"""In samples: a step at the time of a sample reads that sample, despite rounding."""


def steps(spec: SignalSpec, n_times: int) -> int:
    """Return the number of steps that are known after n_times samples. A step needs the samples up to its own time."""
    ratio = spec.sfreq / spec.target_sfreq
    n = int(n_times / ratio)
    while int(n * ratio + TOLERANCE) < n_times:
        n += 1
    while n and int((n - 1) * ratio + TOLERANCE) >= n_times:
        n -= 1
    return n


def nothing_yet(tokens: torch.Tensor) -> torch.Tensor:
    """Return [window, 1, output], the output before there is a token."""
    return tokens.new_zeros(tokens.shape[0], 1, tokens.shape[2])
