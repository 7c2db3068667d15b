"""The layer that makes of a study's signal the one that published weights expect: channels, unit, scaling.

[window, time, channel] in volt -> [window, channel, time] of the recipe. It has no parameters and no state: what it
does follows from the recipe and the signal's spec.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from eegdecode import sphere
from eegdecode.models.pretrained.recipes import BENDR_RANGE, EPSILON, InputRecipe
from eegdecode.signals import SignalSpec
from hpc.errors import first_of

log = logging.getLogger(__name__)

ALIASES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8", "M1": "A1", "M2": "A2"}
"""The older names of the 10-20 system, and another of the ear lobes' neighbours."""
HEAD_M = 0.095
"""The radius of a head, where positions are known by name only."""


class Input(nn.Module):
    """The layer. `names` and `positions` are those of the channels that it gives."""

    mix: torch.Tensor

    def __init__(self, recipe: InputRecipe, spec: SignalSpec, known: Sequence[str] = ()) -> None:
        """`known`: the names that the network knows, where it goes by them."""
        super().__init__()
        self.recipe = recipe
        _refuse_other_signal(recipe, spec)
        mix, self.names = _montage(recipe, spec, known)
        self.positions = positions(spec) if recipe.montage == "positions" else []
        self.register_buffer("mix", torch.tensor(mix, dtype=torch.float32), persistent=False)
        if recipe.scale_channel:
            self.names = (*self.names, "SCALE")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            recipe = self.recipe
            out = torch.matmul(self.mix, x.mT)
            if recipe.per_volt:
                out = out * recipe.per_volt
            if recipe.scaling == "z_score":
                out = (out - out.mean(-1, keepdim=True)) / (out.std(-1, keepdim=True, unbiased=False) + EPSILON)
            elif recipe.scaling == "percentile":
                out = out / (_percentile(out.abs(), 0.95) + EPSILON)
            elif recipe.scaling == "min_max":
                out = _to_one(out, self.mix.any(dim=1))
            if recipe.clip < float("inf"):
                out = out.clamp(-recipe.clip, recipe.clip)
            if recipe.scale_channel:
                loudness = 2 * ((x.amax((1, 2)) - x.amin((1, 2))) / BENDR_RANGE).clamp(max=1.0) - 1
                out = torch.cat([out, loudness[:, None, None].expand(-1, 1, out.shape[2])], dim=1)
            return out


def _percentile(values: torch.Tensor, share: float) -> torch.Tensor:
    """As torch.quantile, which takes no more than 16 million values."""
    ordered = values.sort(dim=-1).values
    place = share * (values.shape[-1] - 1)
    low, part = int(place), place - int(place)
    high = min(low + 1, values.shape[-1] - 1)
    return torch.lerp(ordered[..., low : low + 1], ordered[..., high : high + 1], part)


def _to_one(x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """All channels of a window together to -1 … 1; channels that are not there stay 0, and are among the values."""
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return (2 * (x - low) / (high - low + 1e-12) - 1) * present[:, None]


def _refuse_other_signal(recipe: InputRecipe, spec: SignalSpec) -> None:
    """Refuse what this layer cannot change."""
    name = f"the weights of {recipe.model} (model.input={recipe.name})"
    if spec.sfreq != recipe.sfreq:
        raise ValueError(
            f"{name} were trained at {recipe.sfreq:g} Hz, but this signal has {spec.sfreq:g} Hz: {recipe.steps()}"
        )
    if recipe.per_volt and spec.unit not in ("V", ""):
        raise ValueError(
            f"{name} expect a signal whose unit is known, {1e3 / recipe.per_volt:g} mV for 1, but a step of preprocess "
            f"has scaled this one: leave out scale, align and gain, {recipe.steps()}"
        )
    if recipe.per_volt and not spec.unit:
        log.warning("it is not known whether the signal is in volt, as model.input=%s takes it to be", recipe.name)
    n_times, step = spec.n_times or 0, recipe.patch - recipe.overlap
    if n_times < recipe.patch or (n_times - recipe.patch) % step:
        below = recipe.patch + max(0, (n_times - recipe.patch) // step) * step
        lengths = " or ".join(f"{n / recipe.sfreq:g}" for n in (below, below + step) if n)
        raise ValueError(
            f"{name} read windows of {recipe.patch} samples, and {step} more at a time, but these have {n_times}: "
            f"take windows of {lengths} s"
        )


def standard(name: str) -> str:
    """An electrode's name as recipes write it."""
    bare = name.strip(" .").upper()
    return ALIASES.get(bare, bare)


def positions(spec: SignalSpec) -> list[np.ndarray]:
    """The positions of the channels in metres; by name where they are not known."""
    if spec.positions and None not in spec.positions:
        return [np.array(place, float) for place in spec.positions]
    by_name = {name.upper(): HEAD_M * place for name, place in sphere.ten_ten().items()}
    if unknown := [name for name in spec.channels if standard(name) not in by_name]:
        raise ValueError(
            f"the places of {first_of(unknown)} are not known, by which these weights know channels: rename them as in "
            "the 10-10 system (step aliases), leave them out (step set_channels), or bring an electrodes.tsv"
        )
    return [by_name[standard(name)] for name in spec.channels]


def _montage(recipe: InputRecipe, spec: SignalSpec, known: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """[channel of the recipe, channel of the study], and the names of the former."""
    every = np.eye(spec.n_channels)
    if recipe.montage in ("any", "positions"):
        return every, spec.channels
    rows = {standard(name): row for name, row in zip(spec.channels, every, strict=True)}
    if recipe.montage == "names":
        return _of_names(recipe, spec, known)
    wanted = list(dict.fromkeys(end for name in recipe.channels for end in name.split("-")))
    lacking = [name for name in wanted if name not in rows]
    if lacking and recipe.missing == "zero":
        rows |= dict.fromkeys(lacking, np.zeros(spec.n_channels))
    elif lacking:
        rows |= _interpolated(recipe, spec, lacking)
    if lacking:
        how = "are zeros" if recipe.missing == "zero" else "are interpolated"
        log.warning("model.input=%s: %s are not in the study, and %s", recipe.name, first_of(lacking), how)
    mixed = [rows[first] - rows[last[0]] if last else rows[first] for first, *last in map(_ends, recipe.channels)]
    if not np.any(mixed):
        raise ValueError(
            f"model.input={recipe.name} knows none of the channels {first_of(spec.channels)}: rename them as in the "
            "10-20 system (step aliases of preprocess)"
        )
    return np.array(mixed), recipe.channels


def _ends(name: str) -> list[str]:
    return name.split("-")


def _of_names(recipe: InputRecipe, spec: SignalSpec, known: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    by_name = {name.upper(): name for name in known}
    names = [by_name.get(name.strip(" .").upper()) or by_name.get(standard(name)) for name in spec.channels]
    unknown = [own for own, name in zip(spec.channels, names, strict=True) if name is None]
    if len(unknown) == spec.n_channels:
        raise ValueError(
            f"{recipe.model} knows none of the channels {first_of(unknown)}: rename them as in the 10-10 system (step "
            "aliases of preprocess)"
        )
    if unknown:
        log.warning("%s does not know %s: they are left out", recipe.model, first_of(unknown))
    kept = [index for index, name in enumerate(names) if name is not None]
    return np.eye(spec.n_channels)[kept], tuple(str(names[index]) for index in kept)


def _interpolated(recipe: InputRecipe, spec: SignalSpec, lacking: Sequence[str]) -> dict[str, np.ndarray]:
    """Rows of spherical splines for electrodes that the study lacks."""
    by_name = {name.upper(): place for name, place in sphere.ten_ten().items()}
    if odd := [name for name in lacking if name not in by_name]:
        hint = ", or choose model.input=biot16, which needs no ears" if recipe.name == "biot" else ""
        raise ValueError(
            f"model.input={recipe.name} needs {first_of(odd)}, which this study lacks, and which cannot be interpolated"
            f": rename the channels (step aliases of preprocess){hint}"
        )
    there = [index for index, name in enumerate(spec.channels) if standard(name) in by_name]
    if len(there) < 4:
        raise ValueError(
            f"model.input={recipe.name} needs {first_of(lacking)}, which this study lacks, and {len(there)} of its "
            "channels have names of the 10-10 system: too few to interpolate, rename them (step aliases of preprocess)"
        )
    weights = sphere.spline(
        [by_name[standard(spec.channels[index])] for index in there], [by_name[name] for name in lacking]
    )
    rows = np.zeros((len(lacking), spec.n_channels))
    rows[:, there] = weights
    return dict(zip(lacking, rows, strict=True))
