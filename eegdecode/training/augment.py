"""Augment the windows of a training step on the device: a pure function of each window's key, on whichever rank.

augment = Augmentation(cfg.augment, spec, soft=…)
batch = augment(batch, partners)
"""

from collections.abc import Sequence

import torch

from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec
from eegdecode.training.augmentations.config import AugmentationConfig, mixes_targets, partners_of
from hpc.config.choices import code_of

DRAWS = 8
"""The number of independent draws that one augmentation may have."""


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
        self.class_values = torch.tensor(spec.class_values) if mixing and soft else None

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
            batch = code_of(step).apply(step, batch, place * DRAWS, self.spec, *own)
        return batch

    def _shares(self, batch: Batch) -> Batch:
        """Convert classes to soft labels: one-hot."""
        if self.class_values is None:
            return batch
        values = self.class_values.to(batch.target)
        return batch._replace(target=(batch.target == values).to(torch.float32))
