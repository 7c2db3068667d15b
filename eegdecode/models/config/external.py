"""Models of other packages: those of braindecode, and known ones that are not provided."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Braindecode:
    """Any model of braindecode, where that is installed (pip install braindecode)."""

    name: Literal["braindecode"] = "braindecode"
    model: str = "EEGNet"  # name of the class in braindecode.models
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of that class, except those that describe the signal, as n_chans or sfreq."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        ours = {"n_chans", "n_outputs", "n_times", "sfreq", "chs_info", "input_window_seconds"}
        if taken := sorted(ours & set(self.settings)):
            raise ValueError(f"{', '.join(taken)} come from the data: leave them out of settings")


@dataclass(frozen=True)
class EEGPT2:
    """Another model called EEGPT: listed, so that nobody takes one for the other."""

    name: Literal["eegpt2"] = "eegpt2"
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        raise ValueError(
            "eegpt2 is not provided: the autoregressive EEGPT of Yue et al. (2024, arXiv 2410.19779; 138 electrodes, "
            "up to 1.1 billion parameters) has no public code that we know of. It shares but its name with the EEGPT "
            "of Wang et al. (NeurIPS 2024): take model=eegpt if you meant that"
        )


@dataclass(frozen=True)
class NeuroGPT:
    """Not provided: listed, so that its error message names an alternative."""

    name: Literal["neurogpt"] = "neurogpt"
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        raise ValueError(
            "neurogpt is not provided: the code of Neuro-GPT (Cui et al. 2023, arXiv 2311.03764) is under GPL-3, so it "
            "cannot be part of this package, and braindecode has no model of it. Its encoder is an EEG Conformer: take "
            "model=braindecode with model.model=EEGConformer. `python -m hpc.launch inspect FILE` tells what its "
            "checkpoint holds"
        )
