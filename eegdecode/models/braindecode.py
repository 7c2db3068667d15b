"""Wrap a model of braindecode: channels come first, and outputs have the shape that the target needs."""

import difflib
import inspect
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from eegdecode.models.parts import recurrent, shapes
from eegdecode.signals import SignalSpec


@dataclass(frozen=True)
class Braindecode:
    """Any model of braindecode, if that is installed (pip install braindecode)."""

    name: Literal["braindecode"] = "braindecode"
    model: str = "EEGNet"  # name of the class in braindecode.models
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of that class, except those that describe the signal, as n_chans or sfreq."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        ours = {"n_chans", "n_outputs", "n_times", "sfreq", "chs_info", "input_window_seconds"}
        if taken := sorted(ours & set(self.settings)):
            raise ValueError(f"{', '.join(taken)} come from the data: leave them out of settings")


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output] all at once."""

    def __init__(self, cfg: Braindecode, spec: SignalSpec) -> None:
        super().__init__()
        self.n_times = shapes.need_length(spec, cfg.model)
        self.n_channels = spec.n_channels
        kind = _kind(cfg.model)
        fixed: dict[str, Any] = {
            "n_chans": spec.n_channels,
            "n_outputs": shapes.size(spec),
            "n_times": self.n_times,
            "sfreq": spec.sfreq,
        }
        known = inspect.signature(kind).parameters
        if unknown := [name for name in cfg.settings if name not in known]:
            raise ValueError(
                f"braindecode's {cfg.model} has no setting {', '.join(unknown)}: "
                f"it takes {', '.join(name for name in known if name not in fixed)}"
            )
        if "chs_info" in known:
            fixed["chs_info"] = _electrodes(spec)
        try:
            with torch.device("cpu"):  # some of them read their parameters, and cannot be built on meta
                self.model = kind(**{name: value for name, value in fixed.items() if name in known}, **cfg.settings)
        except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"braindecode's {cfg.model} cannot be built for {spec.n_channels} channels x {self.n_times} samples "
                f"at {spec.sfreq:g} Hz: {type(error).__name__}: {error}"
            ) from error
        recurrent.adopt(self.model)
        final = getattr(self.model, "final_layer", None)
        self.heads = ("model.final_layer",) if isinstance(final, nn.Module) and [*final.parameters()] else ()
        self.name, self.n_numbers = cfg.model, shapes.size(spec)
        self.readout = shapes.Readout(nn.Identity(), spec)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        given: torch.Tensor = self.model(x.mT.contiguous())
        if given.shape[1:] != (self.n_numbers,):
            raise ValueError(
                f"braindecode's {self.name} gives {list(given.shape[1:])} for a window, but {self.n_numbers} numbers "
                "are needed: it does not give one output per window, use another model"
            )
        out: torch.Tensor = self.readout(given)
        return out


def _electrodes(spec: SignalSpec) -> list[dict[str, Any]]:
    """Return the channels in MNE's format: some models look for names, some for positions."""
    if None in spec.positions or not spec.positions:
        return [{"ch_name": channel} for channel in spec.channels]
    return [
        {"ch_name": channel, "loc": np.array([*(position or ()), *[0.0] * 9])}
        for channel, position in zip(spec.channels, spec.positions, strict=True)
    ]


def _kind(name: str) -> Any:
    """Return the class of that name."""
    try:
        from braindecode import models
    except (ImportError, OSError) as error:  # OSError: a torchaudio that was made for another torch
        raise ValueError(
            f"model=braindecode needs braindecode, which cannot be imported here ({error}): "
            "pip install braindecode, or use one of our models"
        ) from None
    kinds = {key: kind for key, kind in vars(models).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, n=3, cutoff=0.4)
        raise ValueError(
            f"braindecode has no model {name!r}."
            + (f" Did you mean {' or '.join(near)}?" if near else f" It has {', '.join(sorted(kinds))}")
        )
    return kinds[name]
