"""Compare a study's signal with the one that weights were trained on: rate, unit, channels.

Weights of our own runs have it in the spec of their model. Those of others have an input recipe beside them, if
`convert` wrote it, or one by the name of the model (eegdecode/models/pretrained/recipes.py).
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from eegdecode import models
from eegdecode.models import ModelConfig
from eegdecode.models.pretrained import recipes
from eegdecode.signals import SignalSpec
from eegdecode.weights.files import WeightsFile
from hpc.errors import first_of


def why_other(file: WeightsFile, model: ModelConfig, spec: SignalSpec, loaded: Collection[str]) -> str:
    """What of this signal is not as in the training of the weights, and what to do; empty if nothing is known to be.

    `loaded`: the tensors that the model takes.
    """
    mine = getattr(model, "input", "")
    if file.input is not None:
        theirs = str(file.input.get("name", ""))
        if model.name == theirs:  # ours of that name, which takes the samples as they are
            sfreq = file.input.get("sfreq")
            return "" if sfreq == spec.sfreq else f"these weights {_another_rate(sfreq, spec)}"
        return "" if mine == theirs else _another_recipe(theirs, mine, model)
    if file.spec is not None:
        was = str(_model_of(file.config).get("input", ""))
        if mine != was:
            return _another_recipe(was, mine, model)
        return _another_signal(file.spec, model, spec, loaded)
    known = recipes.of_model(getattr(model, "model", ""))
    if known and not mine:
        recipe = recipes.recipe(known[0])
        return (
            f"the weights of {recipe.model} were trained on a signal of their own ({_about(recipe)}), which "
            f"model.input={' or model.input='.join(known)} makes of yours"
        )
    return ""


def _another_rate(sfreq: Any, spec: SignalSpec) -> str:
    hz = f"{sfreq:g}" if isinstance(sfreq, int | float) else str(sfreq)
    return (
        f"were trained at {hz} Hz, but this signal has {spec.sfreq:g} Hz: resample it in preprocess "
        f"({{name: resample, sfreq: {hz}}})"
    )


def _model_of(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    model = (config or {}).get("model")
    return model if isinstance(model, Mapping) else {}


def _another_recipe(theirs: str, mine: str, model: ModelConfig) -> str:
    if not theirs:
        return f"these weights were trained on the signal as it is, but model.input={mine} makes another: leave it out"
    if not hasattr(model, "input"):
        return f"these weights expect the signal of the input recipe {theirs}, which model={model.name} does not make"
    how = mine or "not set"
    return f"these weights were trained with model.input={theirs}, but it is {how}: set model.input={theirs}"


def _about(recipe: recipes.InputRecipe) -> str:
    parts = [f"{recipe.sfreq:g} Hz"]
    if recipe.per_volt:
        parts.append(f"in {1e3 / recipe.per_volt:g} mV")
    if recipe.scaling != "none":
        parts.append(f"scaled by {recipe.scaling}")
    return ", ".join(parts)


def _another_signal(was: Mapping[str, Any], model: ModelConfig, spec: SignalSpec, loaded: Collection[str]) -> str:
    """`was`: the spec of the weights' own training."""
    reasons = []
    sfreq, unit = was.get("sfreq"), str(was.get("unit", ""))
    if isinstance(sfreq, int | float) and sfreq != spec.sfreq:
        reasons.append(_another_rate(sfreq, spec))
    if unit and spec.unit and unit != spec.unit:
        words = {"1": "what a step has scaled"}
        theirs, ours = (words.get(each, f"a signal in {each}") for each in (unit, spec.unit))
        reasons.append(
            f"were trained on {theirs}, but this is {ours}: give both the same steps in preprocess, as scale"
        )
    channels = tuple(map(str, was.get("channels", ())))
    if channels and channels != spec.channels and (_of_channels(model, spec) & set(loaded)):
        how = "in another order" if set(channels) == set(spec.channels) else "others"
        reasons.append(
            f"know channels by their place, {first_of(channels, 4)}, but this signal has {how}, "
            f"{first_of(spec.channels, 4)}: bring them into that order in preprocess (step set_channels)"
        )
    return f"these weights {'; and '.join(reasons)}" if reasons else ""


def _of_channels(model: ModelConfig, spec: SignalSpec) -> set[str]:
    """The tensors of a model whose shape goes by the number of channels: with others, their numbers mean another."""
    if spec.n_channels < 2 or hasattr(model, "input"):  # those of braindecode are large, and are built with values
        return set()
    import torch

    fewer = replace(spec, channels=spec.channels[:-1], kinds=spec.kinds[:-1], positions=spec.positions[:-1])
    try:
        with torch.device("meta"):
            shapes = [
                {name: tuple(value.shape) for name, value in models.build(model, each).state_dict().items()}
                for each in (spec, fewer)
            ]
    except ValueError:  # this model is for these channels alone
        return set()
    return {name for name, shape in shapes[0].items() if shapes[1].get(name) != shape}
