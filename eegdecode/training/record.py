"""What training says of itself: metrics.jsonl, a line a step, and the same for TensorBoard.

Rank 0 writes, the others have a Record that does nothing.
"""

import json
from typing import TYPE_CHECKING

from hpc.context import Context
from hpc.rundir import append_line, atomic_write, read_lines

if TYPE_CHECKING:
    from torch.utils import tensorboard


class Record:
    """Go on after `step`: what an earlier attempt wrote of later steps is dropped, as they will be done again."""

    def __init__(self, ctx: Context, step: int) -> None:
        self.path = ctx.run.metrics
        self.writer: tensorboard.SummaryWriter | None = None
        if not ctx.world.is_first:
            return
        # Here, not at the top: it takes a second to import
        from torch.utils.tensorboard import SummaryWriter

        kept = [json.dumps(line) + "\n" for line in read_lines(self.path) if line["step"] <= step]
        atomic_write(self.path, lambda file: file.write("".join(kept).encode()))
        self.writer = SummaryWriter(str(ctx.run.tensorboard), purge_step=step + 1)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """One line: what is known after that many steps."""
        if self.writer is None:
            return
        append_line(self.path, {"step": step, **figures})
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Before a checkpoint: what the next attempt builds on must be on disk."""
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
