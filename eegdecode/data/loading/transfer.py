"""Copies from the host to a GPU that nobody waits for: from pinned memory, on a stream of their own, into buffers.

By streams and events of torch.accelerator, which are the same for CUDA and ROCm.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
import torch

N_BUFFERS = 2
"""Batches on the GPU: one that it computes with, and one that is being copied."""


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array on the device. Nobody waits for the copy to a GPU; it is used in the stream that is current."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else pinned(tensor).to(device, non_blocking=True)


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy in pinned memory, from torch's own pool: it is used again once the GPU has copied it."""
    return tensor if tensor.is_pinned() else tensor.pin_memory()


def pinned_array(n_bytes: int) -> np.ndarray:
    """Allocate pinned memory, which a GPU reads at the full speed of the bus and without the host."""
    array: np.ndarray = torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True).numpy()
    return array


class Sent(NamedTuple):
    """Arrays on their way into a buffer."""

    buffer: int
    tensors: tuple[torch.Tensor, ...]


class Transfer:
    """Copies batches into N_BUFFERS buffers in turn.

    A copy begins once the GPU has done what was asked of it before the buffer was released, and the GPU goes on with a
    batch once its copy is done. The host waits for neither.
    """

    def __init__(self, device: torch.device, n_bytes: int) -> None:
        self.device = device
        self._stream = torch.Stream(device)
        self._buffers = [torch.empty(n_bytes, dtype=torch.uint8, device=device) for _ in range(N_BUFFERS)]
        self._copied = [torch.Event(device) for _ in self._buffers]
        self._released = [torch.Event(device) for _ in self._buffers]
        self._turn = 0
        self._under_way: deque[int] = deque()
        self.release_all()  # the memory may have been used before, in the stream that is current

    def send(self, *arrays: np.ndarray) -> Sent:
        """Begin to copy arrays of host memory; it may be written to again after `wait`."""
        number, self._turn = self._turn, (self._turn + 1) % N_BUFFERS
        computing = torch.accelerator.current_stream(self.device)
        tensors, end = [], 0
        torch.accelerator.set_stream(self._stream)
        try:
            self._stream.wait_event(self._released[number])
            for array in arrays:
                tensor = self._buffers[number][end : end + array.nbytes].view(_TYPES[array.dtype.str]).view(array.shape)
                if array.size:
                    tensor.copy_(pinned(torch.from_numpy(array)), non_blocking=True)
                tensors.append(tensor)
                end = -(-(end + array.nbytes) // ALIGNED) * ALIGNED
            self._copied[number].record(self._stream)
        finally:
            torch.accelerator.set_stream(computing)
        self._under_way.append(number)
        return Sent(number, tuple(tensors))

    def arrived(self, sent: Sent) -> tuple[torch.Tensor, ...]:
        """Return the arrays on the GPU, valid until they are released: what is asked of it from here on comes after
        the copy."""
        torch.accelerator.current_stream(self.device).wait_event(self._copied[sent.buffer])
        return sent.tensors

    def release(self, sent: Sent) -> None:
        """Give the buffer back: all that reads it has been asked of the GPU."""
        self._released[sent.buffer].record(torch.accelerator.current_stream(self.device))

    def release_all(self) -> None:
        """Give all buffers back."""
        for event in self._released:
            event.record(torch.accelerator.current_stream(self.device))

    def wait(self, but: int = 0) -> None:
        """Wait until all copies are done, but for the last ones."""
        while len(self._under_way) > but:
            self._copied[self._under_way.popleft()].synchronize()


ALIGNED = 512
"""Bytes: as torch aligns tensors on a GPU."""
_TYPES = {"<f4": torch.float32, "<i2": torch.int16}
