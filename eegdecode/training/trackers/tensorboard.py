"""TensorBoard: event files in the run folder. `tensorboard --logdir runs` shows them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from eegdecode.training.trackers.tracker import Histogram, Tracked


class TensorBoard:
    name, title = "tensorboard", "TensorBoard"
    waits = False

    def __init__(self, tracked: Tracked, suffix: str = "") -> None:
        self.tracked, self.suffix = tracked, suffix
        self._writer: Any = None

    def begin(self, safe: int) -> int:
        # Here, not at the top: it takes a second to import
        from torch.utils.tensorboard import SummaryWriter

        folder = self.tracked.run.tensorboard
        if self.suffix:  # of another run, which shows its figures here: those of a former attempt of it are replaced
            for former in folder.glob(f"*{self.suffix}"):
                former.unlink()
            self._writer = SummaryWriter(str(folder), filename_suffix=self.suffix)
            return 0
        self._writer = SummaryWriter(str(folder), purge_step=safe + 1)
        self._hparams(0)
        return safe

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        # One event for all of them: TensorBoard opens its file for each
        self._add(Summary(value=[Summary.Value(tag=name, simple_value=each) for name, each in figures.items()]), step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def sound(self, step: int, name: str, samples: np.ndarray, sfreq: int) -> None:
        self._writer.add_audio(name, samples, step, sfreq)

    def histogram(self, step: int, name: str, histogram: Histogram) -> None:
        counts, edges = histogram
        middles = (edges[:-1] + edges[1:]) / 2
        total, squares = float(counts @ middles), float(counts @ middles**2)
        self._writer.add_histogram_raw(
            name, float(edges[0]), float(edges[-1]), int(counts.sum()), total, squares, edges[1:].tolist(),
            counts.tolist(), step,
        )  # fmt: skip

    def summary(self, step: int, figures: Mapping[str, float]) -> None:
        """The tab HPARAMS has the figures of a run beside its settings, without a run of its own for them, as
        `SummaryWriter.add_hparams` makes: that would also fix the columns of all runs to those of the first."""
        self.scalars(step, figures)
        self._hparams(1)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, finished: bool) -> None:
        self._writer.close()

    def _hparams(self, number: int) -> None:
        """`number`: 0 for the beginning of the run, 1 for its end."""
        from torch.utils.tensorboard.summary import hparams

        _, *ends = hparams(dict(self.tracked.main), {})
        self._add(ends[number], 0)

    def _add(self, summary: Any, step: int) -> None:
        self._writer._get_file_writer().add_summary(summary, step)
