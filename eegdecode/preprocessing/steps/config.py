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


STEPS = Choices("eegdecode.steps", package="eegdecode.preprocessing.steps")
Step = Annotated[StepConfig, STEPS]
