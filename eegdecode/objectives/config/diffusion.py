"""The config of denoising diffusion."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Diffusion:
    """Predict the noise that was added to a target (Ho 2020).

    The schedule is that of DiffWave's vocoder. It leaves 28 % of the target's variance, which is little for a sound. A
    spectrogram has the variance of the noise, so less should be left: steps 1000 and last 0.02, or steps 100 and last
    0.1, leave nothing.
    """

    name: Literal["diffusion"] = "diffusion"
    steps: int = 50  # diffusion steps from the target to noise; 50 in DiffWave's vocoder, 1000 in Ho 2020
    first: float = 1e-4
    """Share of the variance that the first step adds as noise; it rises linearly to that of the last."""
    last: float = 0.05  # share of the variance that the last step adds as noise; a larger one leaves less of the target
    loss: Literal["l1", "mse"] = "l1"
    """Distance of the predicted noise from that added: `l1` as in DiffWave's public code, `mse` as in Ho 2020."""
    standardize: bool = False
    """Standardise the target by mean and standard deviation of each feature in the training set; samples have the
    target's units."""
    input_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if not 0 < self.first <= self.last < 1:
            raise ValueError(f"needs 0 < first <= last < 1, got first {self.first} and last {self.last}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        """The spec of the model, from that of the data."""
        if not spec.n_outputs or not spec.is_sequence:
            raise ValueError("diffusion needs a target that is a time course: name one (target=mel, target=audio)")
        return spec
