"""What a user gives to `predict`, recordings and windows of MNE and numpy, as the signal that a model reads."""

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eegdecode.decoder.recipe import PreprocessingRecipe
from eegdecode.evaluation.submitted import scaled
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.channels import select
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.preprocessing.steps import StepConfig
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.set_channels import SetChannels
from eegdecode.signals import BRAIN, Sensor, Signal, Stream, Trial
from hpc.errors import first_of

if TYPE_CHECKING:
    from eegdecode.exchange.mne_objects import Cut

log = logging.getLogger(__name__)
GIVER = "the windows"


@dataclass(frozen=True)
class Given:
    """What is known of numbers in memory that MNE would know.

    Parameters
    ----------
    sfreq, channels
        Rate in Hz and names of an array; by default those of the recipe.
    preprocessed
        Whether the signal is what the recipe's steps have made already.
    """

    sfreq: float | None = None
    channels: Sequence[str] | None = None
    preprocessed: bool = False


def is_mne(data: Any, kind: str) -> bool:
    """Whether it is of a class of MNE, which is not imported if nobody else has."""
    mne = sys.modules.get("mne")
    return mne is not None and isinstance(data, mne.io.BaseRaw if kind == "raw" else mne.BaseEpochs)


# ---- Recordings


def stream_of(data: Any, recipe: PreprocessingRecipe, given: Given) -> Stream:
    """A recording, mne.io.Raw or an array [channel, time], as a stream."""
    if not is_mne(data, "raw"):
        names, sfreq = _described(data, recipe, given)
        array = np.asarray(data)
        return Stream(names, sfreq, array.shape[1], lambda first, stop: array[:, first:stop].T.astype(np.float32))
    from eegdecode.data.io import raw
    from eegdecode.exchange.mne_objects import StoredRaw

    stream = raw.stream_of(data)
    if isinstance(data, StoredRaw) and not given.preprocessed:
        raise ValueError(
            "this recording is of a preprocess run, so the model's steps have been applied to it already: say "
            "preprocessed=True"
        )
    return stream


def preprocess(stream: Stream, recipe: PreprocessingRecipe, trials: Sequence[Trial], subject: str) -> Stream:
    """Apply the recipe's steps to a raw recording; what comes out has the model's channels at its rate."""
    steps = chains.with_pick(_known(recipe))
    if stream.sfreq < min(recipe.sfreq, recipe.raw_sfreq or recipe.sfreq):
        raise ValueError(
            f"the recording has {stream.sfreq:g} Hz, but the model reads {recipe.sfreq:g} Hz of recordings with "
            f"{recipe.raw_sfreq or recipe.sfreq:g} Hz or more: what it listens to may lie above {stream.sfreq / 2:g} Hz"
        )
    stream = replace(_as_in_training(stream, recipe, steps), subject=subject)
    whole = [Trial(0.0, stream.duration, "recording")]
    try:
        made = chains.apply(steps, stream, trials=trials or whole)
        if made.sfreq != recipe.sfreq:
            made = chains.apply([Resample(sfreq=recipe.sfreq)], made)
    except ValueError as error:
        raise ValueError(f"the steps of the model do not fit this recording: {error}") from None
    return matched(made, recipe)


def matched(stream: Stream, recipe: PreprocessingRecipe) -> Stream:
    """The model's channels in its order; refuses a signal that lacks one, and another rate."""
    _refuse_other_channels(stream.channels, recipe)
    if stream.sfreq != recipe.sfreq:
        raise ValueError(
            f"the model reads {recipe.sfreq:g} Hz, but the preprocessed signal has {stream.sfreq:g} Hz: resample it"
        )
    return stream if stream.channels == recipe.channels else select(stream, recipe.channels)


def _known(recipe: PreprocessingRecipe) -> tuple[StepConfig, ...]:
    if recipe.steps is not None:
        return recipe.steps
    raise ValueError(
        "how the training's recordings were preprocessed is not known, or not the same for all: preprocess this signal "
        "as they were, and say preprocessed=True"
    )


def _as_in_training(stream: Stream, recipe: PreprocessingRecipe, steps: Sequence[StepConfig]) -> Stream:
    """With the kinds that channels of these names had in training, and without channels of the brain that it did not
    have: an average reference would be another with them."""
    sensors = {
        name: replace(stream.sensor(name), kind=recipe.kinds.get(name, stream.sensor(name).kind))
        for name in stream.channels
    }
    stream = replace(stream, sensors=sensors)
    renamed = any(isinstance(step, SetChannels) or step.name == "aliases" for step in steps)
    if renamed or not recipe.kinds or not set(recipe.channels) <= set(stream.channels):
        return stream
    others = [name for name in stream.channels if name not in recipe.kinds and sensors[name].kind in BRAIN]
    if others:
        log.warning("left out are %s, which the training's recordings did not have", first_of(others))
    return select(stream, [name for name in stream.channels if name not in others])


def _refuse_other_channels(channels: Sequence[str], recipe: PreprocessingRecipe) -> None:
    if missing := [name for name in recipe.channels if name not in channels]:
        raise ValueError(
            f"the model reads {len(recipe.channels)} channels, but {first_of(missing)} cannot be had of this signal, "
            f"which has {first_of([*channels], 8)}: rename its channels as the model has them, or interpolate what it "
            "lacks"
        )


# ---- Windows


def windows_of(data: Any, recipe: PreprocessingRecipe, given: Given) -> tuple[np.ndarray, np.ndarray]:
    """Windows, mne.Epochs or an array [window, channel, time], as the model reads them: [window, time, channel], and
    where each starts in seconds."""
    cut = _cut(data, recipe, given)
    if given.preprocessed:
        _refuse_other_channels(cut.channels, recipe)
        if cut.sfreq != recipe.sfreq:
            raise ValueError(f"the model reads {recipe.sfreq:g} Hz, but the windows have {cut.sfreq:g} Hz: resample")
        order = [cut.channels.index(name) for name in recipe.channels]
        return np.ascontiguousarray(cut.data[:, order].transpose(0, 2, 1), np.float32), cut.start_s
    refuse_gaps(cut.data.transpose(0, 2, 1), cut.channels)  # references and projections spread them
    made = _on_windows(cut, recipe)
    signal = made.stream.signal()
    _refuse_other_channels(signal.channels, recipe)
    order = [signal.channels.index(name) for name in recipe.channels]
    data = _resampled(cut, recipe).transpose(0, 2, 1).astype(np.float32) @ signal.data[:, order]
    return scaled(torch.from_numpy(data), made.scale).clamp(-made.clip, made.clip).numpy(), cut.start_s


def refuse_gaps(windows: np.ndarray, channels: Sequence[str], n_before: int = 0) -> None:
    """Refuse windows [window, time, channel] with values that are not numbers: of NaN, the first class is decoded."""
    if np.isfinite(windows.sum()):
        return
    wrong = np.argwhere(~np.isfinite(windows))
    if len(wrong):
        row, _, column = wrong[0].tolist()
        raise ValueError(
            f"window {n_before + row} has values that are not numbers (NaN or infinite), the first in "
            f"{channels[column]}: interpolate or drop that channel, or leave out such windows"
        )


def _cut(data: Any, recipe: PreprocessingRecipe, given: Given) -> "Cut":
    from eegdecode.exchange.mne_objects import Cut, cut_of

    if is_mne(data, "epochs"):
        return cut_of(data)
    names, sfreq = _described(data, recipe, given)
    return Cut(np.asarray(data), names, sfreq, (0.0, sfreq / 2), {}, (), np.full(len(data), math.nan))


def _on_windows(cut: "Cut", recipe: PreprocessingRecipe) -> SingleWindows:
    """What the recipe's steps do to these windows; refuses filters that they have not had, as windows are too short."""
    steps = chains.with_pick(_known(recipe))
    kinds = {name: replace(cut.sensors.get(name, Sensor()), kind=kind) for name, kind in recipe.kinds.items()}
    sensors = {**cut.sensors, **{name: sensor for name, sensor in kinds.items() if name in cut.channels}}
    units = Signal(np.eye(len(cut.channels), dtype=np.float32), cut.sfreq, cut.channels, sensors).stream()
    units = _as_in_training(replace(units, bads=cut.bads), recipe, steps)
    try:
        return chains.on_windows(steps, SingleWindows(units, cut.band_hz, GIVER))
    except ValueError as error:
        why = str(error).partition(": preprocess")[0]
        raise ValueError(
            f"{why}: give the whole recording, with at=[…] for the times of its events; or preprocess it, cut windows "
            "of that, and say preprocessed=True"
        ) from None


def _resampled(cut: "Cut", recipe: PreprocessingRecipe) -> np.ndarray:
    """The windows at the model's rate, each for itself."""
    if cut.sfreq == recipe.sfreq:
        return cut.data
    if cut.sfreq < recipe.sfreq:
        raise ValueError(f"the model reads {recipe.sfreq:g} Hz, more than the {cut.sfreq:g} Hz of the windows")
    n_windows, n_channels, n_times = cut.data.shape
    flat = Signal(
        cut.data.transpose(2, 0, 1).reshape(n_times, -1).astype(np.float32),
        cut.sfreq,
        tuple(map(str, range(n_windows * n_channels))),
    )
    made = chains.apply([Resample(sfreq=recipe.sfreq)], flat.stream()).signal().data
    return made.reshape(len(made), n_windows, n_channels).transpose(1, 2, 0)


def _described(data: Any, recipe: PreprocessingRecipe, given: Given) -> tuple[tuple[str, ...], float]:
    """The channels and the rate of an array."""
    n_channels = np.shape(data)[-2]
    channels = tuple(given.channels or recipe.channels)
    if len(channels) != n_channels:
        whose = "you name" if given.channels else "the model reads"
        raise ValueError(
            f"the array has {n_channels} channels, but {whose} {len(channels)} ({first_of(channels, 8)}): say "
            "channels=[…], in the order of the array"
        )
    sfreq = given.sfreq or (recipe.sfreq if given.preprocessed else None)
    if sfreq is None:
        raise ValueError("an array of raw numbers needs its rate: say sfreq=…, or preprocessed=True if it is none")
    return channels, float(sfreq)
