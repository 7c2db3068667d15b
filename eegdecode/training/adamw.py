"""AdamW by torch's fused kernel, with less of Python around it.

torch's own class imports torch._dynamo, which reads 37,000 files at the start of a rank, and sorts its parameters anew
at each step. The kernel, the numbers and the state_dict are the same.
"""

from collections.abc import Callable, Mapping
from inspect import unwrap
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer


class _Moments(NamedTuple):
    """What one call of the kernel changes, but for the gradients."""

    parameters: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]


class AdamW(torch.optim.AdamW):
    """`found_inf`, a scalar on the device, keeps a step from changing anything where it is 1."""

    found_inf: Tensor | None = None

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        self._moments: dict[tuple[int, ...], list[_Moments]] = {}
        super().__init__(groups, lr=lr, betas=betas, fused=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        unwrap(Optimizer.add_param_group)(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        return dict(unwrap(Optimizer.state_dict)(self))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        unwrap(Optimizer.load_state_dict)(self, state_dict)
        self._moments.clear()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            for moments in self._of(trained):
                torch._foreach_add_(moments.steps, 1)
                torch._fused_adamw_(
                    moments.parameters,
                    [parameter.grad for parameter in moments.parameters],  # type: ignore[misc]
                    moments.exp_avgs,
                    moments.exp_avg_sqs,
                    [],
                    moments.steps,
                    amsgrad=False,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                    grad_scale=getattr(self, "grad_scale", None),  # GradScaler sets it, and deletes it
                    found_inf=self.found_inf,
                )
                if self.found_inf is not None:
                    torch._foreach_sub_(moments.steps, [self.found_inf] * len(moments.steps))

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it for the profiler and for its schedulers

    def _of(self, trained: list[Tensor]) -> list[_Moments]:
        """Return the moments of these parameters, by device and dtype; they begin at zero."""
        key = tuple(map(id, trained))
        if key in self._moments:
            return self._moments[key]
        alike: dict[tuple[torch.device, torch.dtype], _Moments] = {}
        for parameter in trained:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            moments = alike.setdefault((parameter.device, parameter.dtype), _Moments([], [], [], []))
            each = (parameter, state["exp_avg"], state["exp_avg_sq"], state["step"])
            for column, tensor in zip(moments, each, strict=True):
                column.append(tensor)
        self._moments[key] = list(alike.values())
        return self._moments[key]
