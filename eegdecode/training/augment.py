"""Augment the windows of a training step on the device: a pure function of each window's key, on whichever rank.

augment = Augmentation(cfg.augment, spec, soft=…)
batch = augment(batch, partners)
"""

from collections.abc import Sequence

import torch

from eegdecode import noise
from eegdecode.objectives import Batch, constant
from eegdecode.signals import SignalSpec
from eegdecode.training.augmentations.config import AugmentationConfig, mixes_targets, partners_of
from hpc.config.choices import code_of

DRAWS = 8
"""The number of independent draws that one augmentation may have."""
TRIED_S = 1.0
"""The length of the windows that augmentations are tried with, where windows differ in length."""


class DrawNumber(int):
    """The number of a draw of an augmentation. Those after its eighth are the next one's: both would have equal noise.

    `what + 7` is the last; `what + 8` raises ValueError.
    """

    first: int
    name: str

    @classmethod
    def of(cls, number: int, first: int, name: str) -> "DrawNumber":
        if not 0 <= number - first < DRAWS:
            raise ValueError(
                f"augmentation {name} draws with what + {number - first}: it has {DRAWS} draws, what to "
                f"what + {DRAWS - 1}; take several numbers from one draw, noise.uniform(batch.rng_key, what, n)"
            )
        draw = cls(number)
        draw.first, draw.name = first, name
        return draw

    def __add__(self, n: int) -> "DrawNumber":
        return DrawNumber.of(int(self) + n, self.first, self.name)

    __radd__ = __add__


class Augmentation:
    """The augmentations `steps`, applied in their order.

    Parameters
    ----------
    spec
        The spec of the data.
    soft
        Whether the target is a class and the objective takes soft labels, which mixing produces.
    """

    def __init__(self, steps: Sequence[AugmentationConfig], spec: SignalSpec, soft: bool) -> None:
        mixing = [step.name for step in steps if mixes_targets(step)]
        if mixing and spec.class_values and not soft:
            raise ValueError(
                f"{' and '.join(dict.fromkeys(mixing))} would make soft labels, which only objective=classification "
                "can learn, and one of your own that declares takes_soft_labels"
            )
        for step in steps:
            if "same class" in partners_of(step) and (spec.is_sequence or not spec.n_outputs):
                target = "the target follows the signal in time" if spec.is_sequence else "there is no target"
                raise ValueError(
                    f"{step.name} combines windows of one class, but {target}: leave it out, or decode a label"
                )
        self.steps, self.spec = tuple(steps), spec
        self.class_values = spec.class_values if mixing and soft else ()

    @property
    def partners(self) -> tuple[bool, ...]:
        """For each partner of a window, whether it must be of the same class."""
        return tuple(partner == "same class" for step in self.steps for partner in partners_of(step))

    def __call__(self, batch: Batch, partner_batches: Sequence[Batch] = ()) -> Batch:
        """`partner_batches`: as many as `partners`, with windows in the order of the batch."""
        others = iter([self._shares(each) for each in partner_batches])
        batch = self._shares(batch)
        for place, step in enumerate(self.steps):
            own = [next(others) for _ in partners_of(step)]
            what = DrawNumber.of(place * DRAWS, place * DRAWS, step.name)
            batch = code_of(step).apply(step, batch, what, self.spec, *own)
        return batch

    def try_out(self, n_times: int | None) -> None:
        """Augment two windows of the training's shape, so that one that cannot work is refused before it is queued."""
        spec = self.spec
        n_times = round(TRIED_S * spec.sfreq) if n_times is None else n_times
        keys = torch.arange(2)
        rows = (spec.n_steps(n_times),) if spec.is_sequence else ()
        target = torch.full((2, *rows, spec.n_outputs), spec.class_values[0] if spec.class_values else 0.0)
        batch = Batch(noise.normal(keys, 0, n_times, spec.n_channels), target, torch.zeros_like(keys), keys)
        try:
            self(batch, [batch] * len(self.partners))
        except ValueError:
            raise
        except Exception as error:
            names = ", ".join(step.name for step in self.steps)
            raise ValueError(
                f"augment {names} fails for windows of {n_times} samples and {spec.n_channels} channels: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _shares(self, batch: Batch) -> Batch:
        """Convert classes to soft labels: one-hot."""
        if not self.class_values:
            return batch
        return batch._replace(target=(batch.target == constant(self.class_values, batch.target)).to(torch.float32))
