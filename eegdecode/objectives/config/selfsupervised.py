"""Self-supervised objectives, which need no target."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class MaskedPatches:
    """Reconstruct masked patches (He 2022): the mean squared error over masked patches only."""

    name: Literal["mae"] = "mae"
    input_kind: ClassVar[str] = "masked"

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return spec


@dataclass(frozen=True)
class Alignment:
    """EEGPT (Wang 2024): predict the embeddings of a momentum encoder that sees everything, and reconstruct the masked
    samples."""

    name: Literal["eegpt"] = "eegpt"
    align: float = 1.0  # weight of the loss of the embeddings, where that of the samples has 1; 0: the paper's ablation
    input_kind: ClassVar[str] = "eegpt"

    def __post_init__(self) -> None:
        if self.align < 0:
            raise ValueError(f"align must be at least 0, got {self.align}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return spec


@dataclass(frozen=True)
class SimCLR:
    """Make two views of a window more similar to each other than to all other windows (Chen 2020, NT-Xent)."""

    name: Literal["simclr"] = "simclr"
    size: int = 128
    """Features of the embedding; the model's last layer is the projection head, which is dropped afterwards."""
    temperature: float = 0.5  # what the cosines are divided by; smaller: the most similar other windows weigh more
    scale: float = 0.2  # most by which the amplitude of a view is raised or lowered, as a share of it
    shift: float = 0.1
    """Most by which a view is shifted either way, as a share of its length; what leaves at one end enters at the
    other."""
    silent: float = 0.2  # share of the channels that are set to 0
    noise: float = 0.1  # standard deviation of the added noise, in units of that of the channel
    input_kind: ClassVar[str] = "outputs"
    compares_windows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size < 1 or self.temperature <= 0:
            raise ValueError(f"size must be at least 1 and temperature above 0, got {self.size} and {self.temperature}")
        for name in ("scale", "shift", "silent"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.noise < 0:
            raise ValueError(f"noise must be at least 0, got {self.noise}")

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return replace(spec, n_outputs=self.size, target_sfreq=0.0, class_values=(), classes=())


@dataclass(frozen=True)
class TimeFrequency:
    """TF-C (Zhang 2022): embeddings of a window and its spectrum are similar, both to their augmented versions too."""

    name: Literal["tfc"] = "tfc"
    form: Literal["paper", "released"] = "paper"
    """`paper`: balance * (time + frequency) + (1 - balance) * consistency; `released`, as in the published code:
    balance * (time + frequency) + the distance of a window from its spectrum, by NT-Xent with a polynomial term."""
    temperature: float = 0.2
    """What the cosines of NT-Xent are divided by; smaller: the most similar other windows weigh more."""
    balance: float = 0.2
    """Weight of the two losses of windows against their augmented versions, in time and in frequency; lambda of the
    paper."""
    margin: float = 1.0
    """For the form `paper`: added to each of the three differences of distances, the paper's delta; as a constant it
    has no gradient."""
    anchor: float = 1.0
    """Ours, for the form `paper`: how much of the distance of a window from its spectrum the consistency holds beside
    the differences of distances, which are small already when all four are equally far apart; 0: the paper to the
    letter, see docs/LOG.md."""
    input_kind: ClassVar[str] = "tfc"
    compares_windows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.balance <= 1 or min(self.margin, self.anchor) < 0:
            raise ValueError(
                "temperature must be above 0, balance in [0, 1], margin and anchor at least 0, "
                f"got {self.temperature}, {self.balance}, {self.margin} and {self.anchor}"
            )

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return spec
