"""Log points: the steps after which the figures of all steps since the last one are read, together.

Between two of them, a step reads nothing from the device, exchanges nothing but gradients, and touches no file.
"""

import torch

from hpc.rank import ddp

AT_MOST_S = 1.0
"""The time between two log points, at the pace of the slowest step since the last."""


class LogPoints:
    """The figures of the steps since the last log point. Every rank adds the same steps and reads at the same ones.

    Parameters
    ----------
    every
        Steps from one log point to the next, at most.
    step
        The number of steps that are done.
    """

    def __init__(self, every: int, step: int) -> None:
        self.every, self._next = every, step + 1
        self._names: list[list[str]] = []
        self._values: list[torch.Tensor] = []
        self._lines: list[dict[str, float]] = []

    def add(self, step: int, figures: dict[str, torch.Tensor], norm: torch.Tensor, **known: float) -> None:
        """Add a step: this rank's means, the norm of the gradient, and what is known without the device."""
        self._names.append(list(figures))
        self._values += [torch.stack([value.float() for value in figures.values()]), norm.detach().reshape(1).float()]
        self._lines.append({"step": step, **known})

    def due(self, step: int) -> bool:
        return step >= self._next

    def read(self) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """Return the line of each step since the last log point, with the means over all ranks; and the figures of this
        rank alone."""
        own = torch.tensor(ddp.read(torch.cat(self._values)))
        slowest_s = max(line["seconds"] for line in self._lines)
        shares = ddp.of_all_ranks(torch.cat([own, own.new_tensor([slowest_s])]))
        total = shares[0]
        for share in shares[1:]:  # in the order of ranks, so that the sum is the same at every log point
            total = total + share
        means, owned = (total / len(shares)).tolist(), own.tolist()
        lines, alone, place = [], [], 0
        for names, known in zip(self._names, self._lines, strict=True):
            step, *times = known.items()
            norm = {"grad_norm": owned[place + len(names)]}  # the same on every rank
            of_ranks = dict(zip(names, means[place:], strict=False))
            lines.append({**dict([step]), **of_ranks, **norm, **dict(times)})
            alone.append(dict(zip(names, owned[place:], strict=False)) | norm)
            place += len(names) + 1
        slowest_s = max(float(share[-1]) for share in shares)
        self._next = int(lines[-1]["step"]) + max(1, min(self.every, int(AT_MOST_S / max(slowest_s, 1e-9))))
        self._names, self._values, self._lines = [], [], []
        return lines, alone
