"""Networks that fuse the outputs of several encoders."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eegdecode.models.config.encoders import Encoder
from eegdecode.models.config.recurrent import BiLSTM

How = Literal["add", "concat", "gated"]
"""How the outputs of several encoders become one."""


@dataclass(frozen=True)
class Fusion:
    """One encoder of the EEG and one of the MEG. A window without one of the two, whose samples are all 0, is decoded
    from the other."""

    name: Literal["fusion"] = "fusion"
    eeg: Encoder = field(default_factory=BiLSTM)  # encoder of the EEG channels
    meg: Encoder = field(default_factory=BiLSTM)  # encoder of the MEG channels, magnetometers and gradiometers
    fusion: How = "add"
    """How the outputs of the encoders become one: `add`, the mean; `concat`, each gives an equal share of the outputs;
    `gated`, a mean weighted by learnt gates."""
    normalise: bool = False  # scale the output of each encoder to length 1, so that none dominates
    output_kind: ClassVar[str] = "outputs"


@dataclass(frozen=True)
class Multipath:
    """Several networks on the same signal: on its samples, on its spectra over time, and on spectrograms as images.

    After PANNs for sound (Kong 2020, arXiv 1912.10211). Bands are evenly spaced: for EEG and MEG, whose power is below
    1 kHz, mel bands would be so too.
    """

    name: Literal["multipath"] = "multipath"
    waveform: Encoder = field(default_factory=BiLSTM)  # encoder of the samples
    spectrum: Encoder = field(default_factory=BiLSTM)
    """Encoder of the spectra over time; each band of each channel is an input channel."""
    picture: int = 16
    """Feature maps of the convolutions over time and band, twice as many in the second block; 0: no such path."""
    frame_s: float = 0.5  # length of the frame of a spectrum; a longer one has finer bands, 1 / frame_s apart
    hop_s: float = 0.125  # time from one frame to the next, at most frame_s
    fusion: How = "add"
    """How the outputs of the encoders become one: `add`, the mean; `concat`, each gives an equal share of the outputs;
    `gated`, a mean weighted by learnt gates."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.frame_s:
            raise ValueError(f"hop_s must lie in (0, frame_s], got {self.hop_s} s, with frames of {self.frame_s} s")
        if self.picture < 0:
            raise ValueError(f"picture must be 0 or above, got {self.picture}")
