"""Taking noise off a target."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Diffusion:
    """Tell the noise in a target that has been mixed with it (Ho 2020).

    The schedule is that of DiffWave's vocoder. It leaves 28 % of the target's variance, which is next to nothing of a
    sound; of a spectrogram, whose variance is that of the noise, less should be left: steps 1000 and last 0.02, or
    steps 100 and last 0.1, leave nothing.
    """

    name: Literal["diffusion"] = "diffusion"
    steps: int = 50
    first: float = 1e-4  # of the variance is noise that the first step adds, rising in a line
    last: float = 0.05
    loss: Literal["l1", "mse"] = "l1"
    standardize: bool = False  # by mean and spread of each feature in training; what is made has the target's units
    input_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if not 0 < self.first <= self.last < 1:
            raise ValueError(f"needs 0 < first <= last < 1, got first {self.first} and last {self.last}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """What the model has to fit, given the data as they are."""
        if not spec.n_outputs or not spec.is_sequence:
            raise ValueError("diffusion makes a target in time out of noise: name one (target=mel, target=audio)")
        return spec
