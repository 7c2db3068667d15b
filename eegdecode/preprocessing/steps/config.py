"""The steps by name, and what their configs share. Each config is in its step's file."""

from dataclasses import Field
from typing import Annotated, Any, ClassVar, Literal, Protocol

from hpc.config.choices import Choices

Method = Literal["fir", "iir"]
"""Both have zero phase: a centred linear-phase filter, as mne's; or an IIR filter run forward and backward."""


class StepConfig(Protocol):
    """The config of a step: a frozen dataclass in the file of its code."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str: ...


_BANDPASS = "a filter is bandpass, with low_hz and high_hz; null leaves that side open"
OTHER_WORDS = {
    **dict.fromkeys(("filter", "highpass", "lowpass", "bandpass_filter"), _BANDPASS),
    "notch_filter": "it is notch, with hz",
    **dict.fromkeys(("set_eeg_reference", "rereference", "car"), "it is reference, of all channels by default"),
    **dict.fromkeys(("downsample", "decimate"), "it is resample, with sfreq"),
    **dict.fromkeys(("standardize", "zscore", "normalize"), "it is scale, with method=standard or robust"),
    **dict.fromkeys(("pick_channels", "drop_channels"), "it is pick, with names, or drop"),
    "interpolate_bads": "it is bad_channels, which finds them too",
    "rename_channels": "it is aliases, with a table {old: new}",
}
"""What MNE and others call a step, which an error translates."""
STEPS = Choices("eegdecode.steps", package="eegdecode.preprocessing.steps", not_provided=OTHER_WORDS)
Step = Annotated[StepConfig, STEPS]
