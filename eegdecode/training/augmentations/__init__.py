"""The augmentations of training windows by name. Cheap to import: the imports of an augmentation's function are done
only when it is used.

`eegdecode/training/augmentations/NAME.py` has the config of each name, a frozen dataclass, and its function

    apply(cfg, batch, what, spec, *partners) -> Batch

`what` is the first of the eight numbers that separate its draws: noise.uniform(batch.rng_key, what + 1); a ninth is
refused, as it would be the first of the next augmentation. `spec` is that of the data. `partners` are there if its
config asks for them: batches of the windows that it mixes with those of `batch`, row by row. All randomness is derived
from (seed, step, index in the global batch): the same on any number of ranks.
"""

from eegdecode.training.augmentations.config import AUGMENTATIONS, Augment, AugmentationConfig

__all__ = ["AUGMENTATIONS", "Augment", "AugmentationConfig"]
