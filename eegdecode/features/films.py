"""The features of films: one vector for each frame that is looked at, or for each clip of some."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from eegdecode.data.io.guard import Refused
from eegdecode.data.io.readers import decoded
from eegdecode.features import pictures
from eegdecode.features.config import Films
from eegdecode.features.network import Encoder, pooled
from eegdecode.features.sounds import Clock


class FilmFeatures:
    """The features of films by one network, and their clock: a clip stands for its middle."""

    def __init__(self, encoder: Encoder, cfg: Films) -> None:
        self.encoder, self.cfg = encoder, cfg
        self._how = pictures.preparation(cfg, encoder)
        self.clock = Clock(cfg.fps / cfg.step, (cfg.frames - 1) / 2 / cfg.fps)

    def blocks(self, path: Path, beat: Callable[[], None]) -> Iterator[np.ndarray]:
        """[clip, feature], a piece at a time. Raises Refused if the film cannot be read, or is too short."""
        clips: list[np.ndarray] = []
        n = 0
        for clip in self._clips(path):
            clips.append(clip)
            n += 1
            if len(clips) == self.encoder.cfg.batch:
                beat()
                yield self._vectors(clips)
                clips = []
        if clips:
            yield self._vectors(clips)
        if not n:
            raise Refused(
                f"{path} has fewer than {self.cfg.frames} frames at {self.cfg.fps:g} a second: leave it out with "
                "stimuli.files, or set stimuli.frames"
            )

    def _clips(self, path: Path) -> Iterator[np.ndarray]:
        """A picture, or [time, colour, height, width]: each `step` frames the next `frames`."""
        cfg = self.cfg
        held: list[np.ndarray] = []
        first = 0  # the number of the first frame that is held
        for number, frame in enumerate(decoded.frames_at(path, self._how.width, self._how.height, cfg.fps)):
            if number < first:  # between two clips
                continue
            held.append(self._how.colours(frame))
            if len(held) == cfg.frames:
                yield held[0] if cfg.frames == 1 else np.stack(held)
                held, first = held[cfg.step :], first + cfg.step

    def _vectors(self, clips: list[np.ndarray]) -> np.ndarray:
        batch = np.stack(clips)
        own = self.encoder.processors is None
        if self.cfg.frames > 1 and own and self.cfg.axes == "CTHW":
            batch = np.swapaxes(batch, 1, 2)
        given, named = pictures.given(self.encoder, torch.from_numpy(np.ascontiguousarray(batch)))
        what = f"{len(clips)} {'frames' if self.cfg.frames == 1 else 'clips'} of the shape {batch.shape[1:]}"
        return pooled(self.encoder, self.encoder(what, *given, **named), len(clips), "clips")
