"""`eegdecode.predict(model, raw)`: what a trained model makes of recordings and windows that it has never seen.

A recording is read piece by piece, through the steps of the model's preprocessing recipe, so that hours of it need no
more memory than minutes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from eegdecode.data.config import EpochWindows
from eegdecode.data.loading.windows import n_baseline
from eegdecode.data.split.segments import n_samples
from eegdecode.decoder import signals
from eegdecode.decoder.decoder import Decoder, load_model
from eegdecode.decoder.signals import Given
from eegdecode.signals import Stream, Trial

PIECE_VALUES = 1 << 22
"""Values of a recording that are read at a time: 16 MiB."""


@dataclass(frozen=True)
class Predictions:
    """What a model makes of windows.

    Parameters
    ----------
    values
        Probabilities [window, class]; or numbers in the target's unit: [window, output], [window, step, output], or
        [step, output] of a whole recording.
    start_s
        Of each window, or of each step of a whole recording: its time in seconds from the first sample; NaN if not
        known.
    classes
        The names of the classes; empty if these are none.
    """

    values: np.ndarray
    start_s: np.ndarray
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labels(self) -> np.ndarray:
        """Of each window the name of its likeliest class."""
        if not self.classes:
            raise ValueError("this model decodes no classes: its predictions are `values`")
        return np.array(self.classes)[self.values.argmax(axis=1)]


def predict(
    model: Decoder | str | Path,
    data: Any,
    *,
    at: Sequence[float] | np.ndarray | None = None,
    stride_s: float | None = None,
    length_s: float | None = None,
    sfreq: float | None = None,
    channels: Sequence[str] | None = None,
    subject: str = "",
    preprocessed: bool = False,
    batch: int = 64,
) -> Predictions:
    """Apply a model's preprocessing recipe, and decode.

    Parameters
    ----------
    model
        What `load_model` returns, or a run or file that it takes.
    data
        A recording: mne.io.Raw, or an array [channel, time] in volt. Or windows: mne.Epochs, or an array [window,
        channel, time]. Filters need a recording, or epochs of a recording that was filtered so.
    at
        For a recording: the times of events in seconds from its first sample. Each gets a window, as in training. By
        default windows follow one another, and a target that follows the signal in time is decoded as one course.
    stride_s
        Seconds from window to window, without `at`; by default the length of a window.
    length_s
        Length of a window in seconds, for models that were trained on whole trials.
    sfreq, channels
        Of an array: its rate in Hz and the names of its channels, by default those that the model reads.
    subject
        Whose signal it is, for models with layers of their own for each subject.
    preprocessed
        The steps of the recipe were applied already, as to what `eegdecode.open` gives.
    batch
        Windows that are decoded at once.

    Raises
    ------
    ValueError
        In a sentence: if channels or rate are others and cannot be matched, if the steps cannot be applied, or if a
        window has values that are not numbers.
    """
    decoder = model if isinstance(model, Decoder) else load_model(model)
    given = Given(sfreq, channels, preprocessed)
    n_axes = 2 if signals.is_mne(data, "raw") else 3 if signals.is_mne(data, "epochs") else np.ndim(data)
    if n_axes == 2:
        times = None if at is None else [float(time) for time in at]
        stream = signals.stream_of(data, decoder.recipe, given)
        return _of_recording(decoder, stream, Cut(times, stride_s, length_s, batch), subject, preprocessed)
    if n_axes != 3:
        raise ValueError(
            "predict takes mne.io.Raw, mne.Epochs, or an array [channel, time] or [window, channel, time], but got "
            f"{type(data).__name__}{f' with shape {np.shape(data)}' if np.ndim(data) else ''}"
        )
    if at is not None or stride_s is not None:
        raise ValueError("at and stride_s cut a recording, but these are windows already: leave them out")
    windows, start_s = signals.windows_of(data, decoder.recipe, given)
    windows, index = _fitting(decoder, windows), decoder.index_of(subject)
    parts = (windows[first : first + batch] for first in range(0, len(windows), batch))
    values = _all_decoded(decoder, parts, index)
    if not values:
        raise ValueError("there is no window to decode")
    return Predictions(np.concatenate(values), start_s, decoder.classes)


class Cut(NamedTuple):
    """How a recording is cut into windows."""

    at: list[float] | None
    stride_s: float | None
    length_s: float | None
    batch: int


def _of_recording(decoder: Decoder, stream: Stream, cut: Cut, subject: str, preprocessed: bool) -> Predictions:
    recipe, windows, times = decoder.recipe, decoder.recipe.windows, cut.at
    length = recipe.length(cut.length_s)
    lasts_s = length / recipe.sfreq
    trials = [Trial(time, lasts_s, "window") for time in times or () if 0 <= time <= stream.duration - lasts_s]
    if preprocessed:
        made = signals.matched(stream, recipe)
    else:
        made = signals.preprocess(stream, recipe, trials, subject)
    tmin_s = windows.tmin_s if isinstance(windows, EpochWindows) else 0.0
    if times is None:
        starts = _grid(made, length, cut.stride_s, until_the_end=decoder.kind == "sequence")
    else:
        first = [math.ceil(time * made.sfreq - 1e-6) for time in times]
        starts = np.array([one + n_samples(tmin_s, made.sfreq) for one in first], np.int64)
        _refuse_outside(starts, length, made, times)
    index = decoder.index_of(subject)
    values = _all_decoded(decoder, _windows(decoder, made, starts, length, cut.batch), index)
    if not values:
        raise ValueError("there is no event to decode: `at` is empty")
    together = np.concatenate(values)
    if decoder.kind == "sequence" and times is None:
        return _joined(decoder, together, starts, made)
    return Predictions(together, starts / made.sfreq, decoder.classes)


def _grid(made: Stream, length: int, stride_s: float | None, until_the_end: bool) -> np.ndarray:
    """The first samples of windows that follow one another; a last one ends where the recording does, if asked."""
    if made.n_times < length:
        raise ValueError(f"the recording lasts {made.duration:.2f} s, less than a window of {length / made.sfreq:g} s")
    stride = length if stride_s is None else n_samples(stride_s, made.sfreq)
    if stride < 1:
        raise ValueError(f"stride_s is {stride_s} s, less than a sample at {made.sfreq:g} Hz: lengthen it")
    starts = np.arange(0, made.n_times - length + 1, stride)
    last = made.n_times - length
    return np.append(starts, last) if until_the_end and starts[-1] != last else starts


def _refuse_outside(starts: np.ndarray, length: int, made: Stream, times: Sequence[float]) -> None:
    outside = (starts < 0) | (starts + length > made.n_times)
    if outside.any():
        time = times[int(outside.argmax())]
        raise ValueError(
            f"the window of the event at {time:g} s leaves the recording, which lasts {made.duration:.2f} s: leave "
            f"out such events, of which there {'is 1' if outside.sum() == 1 else f'are {outside.sum()}'}"
        )


def _windows(decoder: Decoder, made: Stream, starts: np.ndarray, length: int, batch: int) -> Iterator[np.ndarray]:
    """Yield the windows in the order of `starts`, a batch at a time; what is near is read at once."""
    most = max(length, PIECE_VALUES // made.n_channels)
    for first in range(0, len(starts), batch):
        chosen = starts[first : first + batch]
        windows = np.empty((len(chosen), length, made.n_channels), np.float32)
        order = np.argsort(chosen, kind="stable")
        left = 0
        while left < len(order):
            begin = int(chosen[order[left]])
            right = left
            while right < len(order) and chosen[order[right]] + length - begin <= most:
                right += 1
            piece = made.read(begin, int(chosen[order[right - 1]]) + length)
            for row in order[left:right]:
                windows[row] = piece[chosen[row] - begin : chosen[row] - begin + length]
            left = right
        yield _fitting(decoder, windows)


def _fitting(decoder: Decoder, windows: np.ndarray) -> np.ndarray:
    """[window, time, channel] as in training: filled up to whole patches by its start, without its baseline."""
    recipe = decoder.recipe
    wanted = recipe.n_times or recipe.filled(windows.shape[1])
    length = windows.shape[1]
    if length < wanted == recipe.filled(length):
        windows = np.concatenate([windows, windows[:, : wanted - length]], axis=1)
    elif length != wanted:
        raise ValueError(
            f"the windows have {length} samples at {recipe.sfreq:g} Hz, but the model reads {wanted} "
            f"({wanted / recipe.sfreq:g} s): cut them so"
        )
    if baseline := n_baseline(recipe.windows, recipe.sfreq):
        windows = windows - windows[:, :baseline].mean(axis=1, keepdims=True)
    return windows


def _all_decoded(decoder: Decoder, batches: Iterable[np.ndarray], index: int) -> list[np.ndarray]:
    """Decode batches of [window, time, channel] on the model's device; `index`: of the subject."""
    device, done = next(decoder.parameters()).device, 0
    values: list[np.ndarray] = []
    for windows in batches:
        signals.refuse_gaps(windows, decoder.recipe.channels, done)
        x = torch.from_numpy(np.ascontiguousarray(windows)).to(device).mT
        subject = torch.full((len(x),), index, dtype=torch.int64, device=device)
        keys = torch.arange(done, done + len(x), device=device)
        with torch.inference_mode():
            out = decoder(x, subject, keys).float()
            out = out.softmax(dim=1) if decoder.kind == "classes" else out
        values.append(out.cpu().numpy())
        done += len(x)
    return values


def _joined(decoder: Decoder, values: np.ndarray, starts: np.ndarray, made: Stream) -> Predictions:
    """The courses of windows that follow one another as one; where they overlap the first is taken, as in reports."""
    ratio = decoder.spec.target_sfreq / made.sfreq
    n_steps = decoder.spec.n_steps(made.n_times)
    course = np.full((n_steps, values.shape[2]), np.nan, np.float32)
    filled = 0
    for start, window in zip(starts, values, strict=True):
        row = round(start * ratio)
        new = window[max(0, filled - row) :][: n_steps - max(filled, row)]
        course[max(filled, row) : max(filled, row) + len(new)] = new
        filled = max(filled, row) + len(new)
    return Predictions(course, np.arange(n_steps) / decoder.spec.target_sfreq, decoder.classes)
