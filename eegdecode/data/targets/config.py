"""The targets by name. Each config is in its target's file; its paths start at the study's folder."""

from typing import Annotated, Any, ClassVar, Protocol

from hpc.config.choices import Choices


class TargetConfig(Protocol):
    """The config of a target: a frozen dataclass in the file of its code."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...


TARGETS = Choices("eegdecode.targets", package="eegdecode.data.targets")
Target = Annotated[TargetConfig, TARGETS]
