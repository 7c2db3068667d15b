"""An LSTM that computes in float32 if this CPU does not support the requested half precision.

torch passes LSTMs on CPUs to oneDNN, which supports bf16 only with AVX-512, and fp16 only on the newest processors; it
raises on others. For other layers without a half-precision kernel, such as a GRU, torch falls back to float32 itself.
"""

import functools
import logging
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)


class LSTM(nn.LSTM):
    """torch's LSTM, with parameters of the same names and initial values."""

    def forward(self, input: Any, hx: tuple[torch.Tensor, torch.Tensor] | None = None) -> Any:
        device = next(self.parameters()).device.type
        autocast = device == "cpu" and torch.is_autocast_enabled(device)
        if not autocast or has_kernel(torch.get_autocast_dtype(device)):
            return super().forward(input, hx)
        with torch.autocast(device, enabled=False):
            return super().forward(input.float(), hx and (hx[0].float(), hx[1].float()))


def adopt(network: nn.Module) -> None:
    """Replace the class of each LSTM in another library's network by ours; its parameters stay as they are."""
    for part in network.modules():
        if type(part) is nn.LSTM:
            part.__class__ = LSTM


@functools.cache
def has_kernel(dtype: torch.dtype) -> bool:
    """Whether this CPU supports an LSTM of this dtype, forward and backward: a tiny one is tried, once a process."""
    with torch.inference_mode(False), torch.enable_grad():
        weights = [torch.zeros(4, 1, requires_grad=True), torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)]
        x, state = torch.zeros(1, 1, 1), (torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
        try:
            with torch.autocast("cpu", dtype):
                out = torch.lstm(x, state, weights, True, 1, 0.0, True, False, False)[0]
            torch.autograd.grad(out.sum(), weights[:1])
        except RuntimeError as error:
            name, why = str(dtype).removeprefix("torch."), str(error).split(". ")[0]
            log.info("this CPU has no LSTM in %s (%s): LSTMs are computed in float32, the rest as requested", name, why)
            return False
    return True
