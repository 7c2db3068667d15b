"""An encoder and a generator as one network."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eegdecode.models.config.encoders import Encoder
from eegdecode.models.config.generators import DiffWave, Generator, UNet
from eegdecode.models.config.recurrent import BiLSTM


@dataclass(frozen=True)
class Joined:
    """An encoder of the signal conditions a generator: A -> B. Trained as one, or in part (Trainable)."""

    name: Literal["joined"] = "joined"
    encoder: Encoder = field(default_factory=BiLSTM)  # network that reads the signal and gives the condition
    generator: Generator = field(default_factory=UNet)  # diffusion model that generates the target under that condition
    features: int = 80
    """Features of the condition at a time; 80 for the vocoder of DiffWave, which is conditioned on 80 mel bands."""
    output_kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features must be at least 1, got {self.features}")
        if isinstance(self.generator, DiffWave) and not self.generator.conditional:
            raise ValueError("the generator of a joined model must be conditioned on the encoder: set conditional=true")
