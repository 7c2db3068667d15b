"""Input recipes: what published weights were trained on. A number that differs makes their features meaningless.

    model=braindecode model.model=CBraMod model.input=cbramod

Each is from the authors' code, and from how NeuralBench and Open EEG Bench feed the same weights (see `source`).
Channels, unit and scaling are made by the network itself (eegdecode/models/pretrained/input.py); rate and length of
windows are refused where they differ, with the steps to set.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hpc.errors import did_you_mean

Montage = Literal["any", "names", "positions", "order", "pairs"]
"""How a network knows its channels: not at all, by names, by positions, or by their place in `channels`, which may be
differences of two (pairs)."""


@dataclass(frozen=True)
class InputRecipe:
    """The signal that weights were trained on.

    Parameters
    ----------
    model
        The class of braindecode.
    sfreq
        In Hz.
    per_volt
        What a volt is in the numbers that the network reads; 0 where each window is scaled anyway.
    scaling
        Of each window: by the standard deviation or the 95th percentile of each channel, or all to -1 … 1.
    montage, channels
        How channels are known, and their names in order.
    missing
        What stands for a channel that a study lacks: a spline of the others, or zeros.
    patch, overlap
        A window has so many samples, and more by whole steps of patch - overlap.
    low_hz, high_hz, reference
        How the authors filtered and referenced; the network cannot check it.
    settings
        Arguments of the class with which the weights fit.
    """

    name: str
    model: str
    sfreq: float
    montage: Montage
    source: str
    per_volt: float = 0.0
    scaling: Literal["none", "z_score", "percentile", "min_max"] = "none"
    clip: float = math.inf
    channels: tuple[str, ...] = ()
    missing: Literal["interpolate", "zero"] = "interpolate"
    scale_channel: bool = False
    """Whether the loudness of the window is a channel of its own, the last."""
    patch: int = 1
    overlap: int = 0
    low_hz: float | None = None
    high_hz: float | None = None
    reference: str = "any"
    settings: tuple[tuple[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value != math.inf}

    def steps(self) -> str:
        """The steps of preprocess that make such a signal, but for what the network does."""
        band = [f"{{name: bandpass, low_hz: {_yaml(self.low_hz)}, high_hz: {_yaml(self.high_hz)}}}"]
        reference = ["{name: reference}"] if self.reference == "average" else []
        filters = band if self.low_hz or self.high_hz else []
        return f"preprocess.steps=[{', '.join([*reference, *filters, f'{{name: resample, sfreq: {self.sfreq:g}}}'])}]"


def _yaml(value: float | None) -> str:
    return "null" if value is None else f"{value:g}"


TEN_TWENTY = (
    "FP1", "FP2", "F7", "F3", "FZ", "F4", "F8", "T7", "C3", "CZ", "C4", "T8", "P7", "P3", "PZ", "P4", "P8", "O1", "O2",
)  # fmt: skip
PAIRS = (
    "FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP2-F8", "F8-T8", "T8-P8", "P8-O2",
    "FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2",
)  # fmt: skip
BENDR_RANGE = (3276.7 + 1583.9258304722666) * 1e-6
"""In volt: the range of the pretraining data, against which the loudness of a window is told."""

_ALL = (
    InputRecipe(
        "eegpt", "EEGPT", 256.0, "names", per_volt=1e3, patch=64, high_hz=38.0, reference="average",
        settings=(("chan_proj_type", "none"), ("patch_stride", 64)),
        source="BINE022/EEGPT (NeurIPS 2024): downstream/Modules/models/EEGPT_mcae.py, in millivolt",
    ),
    InputRecipe(
        "labram", "Labram", 200.0, "names", per_volt=1e4, patch=200, low_hz=0.1, high_hz=75.0,
        source="935963004/LaBraM: engine_for_finetuning.py divides microvolt by 100; issue #39 has the rate",
    ),
    InputRecipe(
        "cbramod", "CBraMod", 200.0, "any", per_volt=1e4, patch=200, low_hz=0.3, high_hz=75.0,
        source="wjq-learning/CBraMod: datasets divide microvolt by 100; issue #7: any channels",
    ),
    InputRecipe(
        "biot", "BIOT", 200.0, "pairs", scaling="percentile", channels=(*PAIRS, "C3-A2", "C4-A1"), patch=200,
        overlap=100, source="ycq091044/BIOT: utils.py divides each channel by its 95th percentile; six-datasets-18chs",
    ),
    InputRecipe(
        "biot16", "BIOT", 200.0, "pairs", scaling="percentile", channels=PAIRS, patch=200, overlap=100,
        source="as biot; prest-16chs",
    ),
    InputRecipe(
        "bendr", "BENDR", 256.0, "order", scaling="min_max", channels=TEN_TWENTY, missing="zero", scale_channel=True,
        patch=96, source="SPOClab-ca/BENDR: configs/pretraining.yml, and dn3's MappingDeep1010 and To1020",
    ),
    InputRecipe(
        "reve", "REVE", 200.0, "positions", scaling="z_score", clip=15.0, patch=200, overlap=20, low_hz=0.5,
        high_hz=99.5, source="arXiv 2510.21585: z-scores, clipped at 15; the authors' are of a whole recording",
    ),
    InputRecipe(
        "luna", "LUNA", 256.0, "positions", scaling="z_score", patch=40, low_hz=0.1, high_hz=75.0,
        source="pulp-bio/BioFoundation, arXiv 2510.22257; pretrained on pairs of electrodes, at their midpoints",
    ),
)  # fmt: skip
RECIPES = {recipe.name: recipe for recipe in _ALL}
EPSILON = 1e-8


def recipe(name: str) -> InputRecipe:
    if name not in RECIPES:
        raise ValueError(f"there is no input recipe {name!r}.{did_you_mean(name, RECIPES)}")
    return RECIPES[name]


def of_model(model: str) -> tuple[str, ...]:
    """The names of the recipes for this class of braindecode."""
    return tuple(each.name for each in _ALL if each.model == model)
