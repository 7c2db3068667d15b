"""The windows of one rank: of each step every size-th, drawn for many steps together. Without torch."""

import numpy as np

from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.windows import Places

PLANNED = 64
"""Steps that are drawn together, as that takes no longer than drawing one."""


class Share:
    """This rank's windows of any step. The last two blocks of PLANNED steps are kept."""

    def __init__(self, draw: Draw | Partners, rank: int = 0, size: int = 1) -> None:
        if draw.batch % size:
            raise ValueError(f"{size} ranks cannot share a batch of {draw.batch} evenly: take a multiple of {size}")
        self.draw, self.rank, self.size = draw, rank, size
        self.n_windows = draw.batch // size
        """Windows of a step on this rank."""
        self._blocks: dict[int, Places] = {}

    def block(self, number: int) -> Places:
        """Return the windows of the steps number * PLANNED to (number + 1) * PLANNED, one step after the other."""
        if number not in self._blocks:
            steps = np.arange(number * PLANNED, (number + 1) * PLANNED)
            drawn = self.draw.at(steps)
            own = (
                np.arange(PLANNED)[:, None] * self.draw.batch + np.arange(self.rank, self.draw.batch, self.size)
            ).ravel()
            self._blocks = {past: self._blocks[past] for past in self._blocks if past == number - 1}
            self._blocks[number] = drawn.take(own)
        return self._blocks[number]

    def step(self, step: int) -> Places:
        """Return the windows of a step."""
        number, within = divmod(step, PLANNED)
        return self.block(number).take(slice(within * self.n_windows, (within + 1) * self.n_windows))

    def length(self, places: Places) -> int:
        """Return the number of samples of each window of a step."""
        return self.draw.length(places)
