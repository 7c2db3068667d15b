"""Wrap a model of braindecode: channels come first, and outputs have the shape that the target needs."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from eegdecode.models.parts import recurrent, shapes
from eegdecode.models.pretrained import recipes
from eegdecode.models.pretrained.input import Input
from eegdecode.signals import SignalSpec
from hpc.errors import first_of


@dataclass(frozen=True)
class Braindecode:
    """Any model of braindecode, if that is installed (pip install braindecode)."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("input",)
    name: Literal["braindecode"] = "braindecode"
    model: str = "EEGNet"  # name of the class in braindecode.models
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of that class, except those that describe the signal, as n_chans or sfreq."""
    input: str = ""
    """The input recipe of published weights, as `cbramod`, `labram`, `biot` or `reve`: the network makes channels, unit
    and scaling as in their training. Empty: it reads the signal as it is."""
    output_kind: ClassVar[str] = "outputs"

    def __post_init__(self) -> None:
        ours = {"n_chans", "n_outputs", "n_times", "sfreq", "chs_info", "input_window_seconds"}
        if taken := sorted(ours & set(self.settings)):
            raise ValueError(f"{', '.join(taken)} come from the data: leave them out of settings")
        if self.input and (of := recipes.recipe(self.input).model) != self.model:
            there = recipes.of_model(self.model)
            hint = f"set input={' or '.join(there)}" if there else "leave input out"
            raise ValueError(f"input={self.input} is the recipe of model={of}, but the model is {self.model}: {hint}")


class Network(nn.Module):
    """([window, time, channel], [window]) -> [window, output], or [window, step, output] all at once."""

    def __init__(self, cfg: Braindecode, spec: SignalSpec) -> None:
        super().__init__()
        self.n_times = shapes.need_length(spec, cfg.model)
        self.n_channels = spec.n_channels
        kind = _kind(cfg.model)
        recipe = recipes.recipe(cfg.input) if cfg.input else None
        self.input = None if recipe is None else Input(recipe, spec, known_channels(kind))
        known = inspect.signature(kind).parameters
        fixed = _signal(spec, self.input)
        settings = {**dict(recipe.settings if recipe else ()), **cfg.settings}
        if unknown := [name for name in cfg.settings if name not in known]:
            raise ValueError(
                f"braindecode's {cfg.model} has no setting {', '.join(unknown)}: "
                f"it takes {', '.join(name for name in known if name not in fixed)}"
            )
        names = self.input.names if self.input is not None else spec.channels
        # LaBraM is told the names with each batch, and BENDR has one order, which the recipe makes
        self.told_names = list(names) if "ch_names" in inspect.signature(kind.forward).parameters else None
        if self.told_names is not None or (recipe is not None and recipe.montage == "order"):
            del fixed["chs_info"]
        self.model = _built(kind, {name: value for name, value in fixed.items() if name in known} | settings, spec)
        if self.told_names is not None:
            _refuse_unknown(cfg.model, names, known_channels(kind))
        if "chans_id" in dict(self.model.named_buffers(recurse=False)):  # follows from the names, so no weights have it
            self.model.register_buffer("chans_id", self.model.get_buffer("chans_id"), persistent=False)
        recurrent.adopt(self.model)
        final = getattr(self.model, "final_layer", None)
        self.heads = ("model.final_layer",) if isinstance(final, nn.Module) and [*final.parameters()] else ()
        self.shortened = {"model.temporal_embedding": 1} if self.told_names is not None else {}
        self.name, self.n_numbers = cfg.model, shapes.size(spec)
        self.readout = shapes.Readout(nn.Identity(), spec)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        shapes.check(x, self.n_channels, self.n_times)
        x = x.mT.contiguous() if self.input is None else self.input(x)
        given: torch.Tensor = self.model(x) if self.told_names is None else self.model(x, ch_names=self.told_names)
        if given.shape[1:] != (self.n_numbers,):
            raise ValueError(
                f"braindecode's {self.name} gives {list(given.shape[1:])} for a window, but {self.n_numbers} numbers "
                "are needed: it does not give one output per window, use another model"
            )
        out: torch.Tensor = self.readout(given)
        return out

    def translate(self, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rename the tensors of braindecode's files and of the authors' to the names here."""
        own = self.state_dict().keys()
        theirs: Mapping[str, str] = getattr(self.model, "mapping", None) or {}
        renamed = {}
        for name, value in given.items():
            bare = theirs.get(name, name)
            for old, new in AUTHORS.get(self.name, ()):
                bare = re.sub(old, new, bare)
            renamed[name if name in own else f"model.{bare}" if f"model.{bare}" in own else name] = value
        return renamed


AUTHORS = {
    "Labram": (
        (r"^student\.", ""), (r"^pos_embed$", "position_embedding"), (r"^time_embed$", "temporal_embedding"),
        (r"^patch_embed\.(?=conv|norm)", "patch_embed.temporal_conv."), (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.2."),
    ),
    "BIOT": ((r"^(biot\.)?(?=patch_embedding|channel_tokens|transformer|positional_encoding|index)", "encoder."),),
}  # fmt: skip
"""Names in the authors' own files, and those of braindecode."""


def _signal(spec: SignalSpec, layer: Input | None) -> dict[str, Any]:
    """The arguments that describe what the model reads, behind the layer that makes it."""
    return {
        "n_chans": spec.n_channels if layer is None else len(layer.names),
        "n_outputs": shapes.size(spec),
        "n_times": spec.n_times,
        "sfreq": spec.sfreq,
        "chs_info": _electrodes(spec) if layer is None else _named(layer),
    }


def _built(kind: Any, given: Mapping[str, Any], spec: SignalSpec) -> nn.Module:
    try:
        with torch.device("cpu"), _places_of_reve(kind, given.get("chs_info")):  # some cannot be built on meta
            built: nn.Module = kind(**given)
            return built
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"braindecode's {kind.__name__} cannot be built for {spec.n_channels} channels x {spec.n_times} samples "
            f"at {spec.sfreq:g} Hz: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _places_of_reve(kind: Any, electrodes: Sequence[Mapping[str, Any]] | None) -> Iterator[None]:
    """While REVE is built, it takes the positions of the electrodes from here: by itself it downloads a table."""
    module = sys.modules[kind.__module__]
    if not hasattr(module, "RevePositionBank"):
        yield
        return
    if electrodes is None or any("loc" not in each for each in electrodes):
        raise ValueError(
            "it knows channels by their positions, which this study lacks: set model.input=reve, which knows those of "
            "the 10-10 system by name"
        )
    bank = _Bank([each["loc"][:3] for each in electrodes])
    theirs, module.RevePositionBank = module.RevePositionBank, lambda: bank  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.RevePositionBank = theirs  # type: ignore[attr-defined]


class _Bank(nn.Module):
    """The positions of the channels, in their order."""

    embedding: torch.Tensor

    def __init__(self, places: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.register_buffer("embedding", torch.tensor(np.array(places), dtype=torch.float32), persistent=False)

    def forward(self, channel_names: Sequence[str]) -> torch.Tensor:
        return self.embedding[: len(channel_names)]


def known_channels(kind: Any) -> tuple[str, ...]:
    """The names by which a model knows channels."""
    module = sys.modules[kind.__module__]
    for table in ("LABRAM_CHANNEL_ORDER", "EEGPT_CHANNELS"):
        if hasattr(module, table):
            return tuple(getattr(module, table))
    return ()


def _refuse_unknown(model: str, names: Sequence[str], known: Sequence[str]) -> None:
    upper = {name.upper() for name in known}
    if unknown := [name for name in names if name.upper() not in upper]:
        raise ValueError(
            f"braindecode's {model} knows channels by their names, and not {first_of(unknown)}: rename them as in the "
            f"10-10 system (step aliases), or set model.input={model.lower()}, which leaves them out"
        )


def _named(layer: Input) -> list[dict[str, Any]]:
    """The channels that the layer makes, in MNE's format."""
    if not layer.positions:
        return [{"ch_name": name} for name in layer.names]
    return [
        {"ch_name": name, "loc": np.array([*place, *[0.0] * 9])}
        for name, place in zip(layer.names, layer.positions, strict=True)
    ]


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
