"""Stored recordings as objects of MNE. Imports mne."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mne
import numpy as np
from mne.io.constants import FIFF

from eegdecode.data.io.raw import sensors_of
from eegdecode.data.split.segments import first_sample
from eegdecode.data.store.dataset import Stored
from eegdecode.preprocessing import record
from eegdecode.signals import Kind, Sensor
from hpc.errors import first_of

TYPES: dict[Kind, str] = {"ref": "misc", "sound": "misc", "source": "misc"}
"""MNE's type for each of our kinds that it has no type for; else it is the same word."""
MEG: tuple[Kind, ...] = ("mag", "grad")


class StoredRaw(mne.io.BaseRaw):  # type: ignore[misc]
    """A stored recording that reads from its file what is asked for; first of all the file is verified."""

    def __init__(self, stored: Stored, info: mne.Info) -> None:
        # In MNE a reader keeps what it needs in _raw_extras, which copies and pickles carry along
        super().__init__(
            info,
            preload=False,
            filenames=[stored.path],
            last_samps=[stored.n_times - 1],
            raw_extras=[{"stored": stored}],
            orig_format="single",
            verbose="error",
        )

    def _read_segment_file(
        self, data: np.ndarray, idx: Any, fi: int, start: int, stop: int, cals: np.ndarray, mult: np.ndarray | None
    ) -> None:
        samples = self._raw_extras[fi]["stored"].read(start, stop).T
        data[:] = samples[idx] if mult is None else mult @ samples[idx].astype(float)


class Cut(NamedTuple):
    """Windows that a user has cut with MNE."""

    data: np.ndarray
    """[window, channel, time], in volt and tesla."""
    channels: tuple[str, ...]
    sfreq: float
    band_hz: tuple[float, float]
    """What the filters of the recording have left, as far as MNE knows."""
    sensors: dict[str, Sensor]
    bads: tuple[str, ...]
    start_s: np.ndarray
    """The first sample of each, in seconds from the start of its recording."""


def cut_of(epochs: mne.BaseEpochs) -> Cut:
    info = epochs.info
    starts = (epochs.events[:, 0] + round(epochs.tmin * info["sfreq"])) / info["sfreq"]
    return Cut(
        epochs.get_data(copy=False),
        tuple(epochs.ch_names),
        float(info["sfreq"]),
        (float(info["highpass"]), float(info["lowpass"])),
        sensors_of(epochs)[0],
        tuple(info["bads"]),
        starts,
    )


def raw(stored: Stored, folder: Path) -> mne.io.BaseRaw:
    """A recording of the store in this folder."""
    made = StoredRaw(stored, info(stored))
    made.set_annotations(annotations(stored, folder))
    return made


def info(stored: Stored) -> mne.Info:
    """Names, kinds and positions of the channels. Those of MEG have no orientation, which the store does not know."""
    types = [TYPES.get(sensor.kind, sensor.kind) for sensor in stored.sensors]
    made = mne.create_info(list(stored.channels), stored.sfreq, types, verbose="error")
    pairs = list(zip(stored.channels, stored.sensors, strict=True))
    places = {name: np.array(each.position) for name, each in pairs if each.position and each.kind not in MEG}
    if places:
        montage = mne.channels.make_dig_montage(places, coord_frame="head")
        made.set_montage(montage, on_missing="ignore", verbose="error")
    for channel, (_, sensor) in zip(made["chs"], pairs, strict=True):
        if sensor.position and sensor.kind in MEG:
            channel["loc"][:3] = sensor.position
            channel["coord_frame"] = FIFF.FIFFV_COORD_HEAD
    made["subject_info"] = {"his_id": stored.subject}
    made["description"] = stored.name
    return made


def annotations(stored: Stored, folder: Path) -> mne.Annotations:
    """The trials, and the bad spans with their reasons, as BAD_ annotations."""
    rows = [(trial.start, trial.duration, trial.stimulus) for trial in stored.trials]
    rows += [
        (start, stop - start, reason) for start, stop, reason in record.bad_spans(stored.bad_spans, folder, stored.name)
    ]
    onsets, durations, texts = zip(*rows, strict=True) if rows else ((), (), ())
    return mne.Annotations(onsets, durations, texts)


def save_fif(made: mne.io.BaseRaw, path: Path) -> None:
    """Write FIF in 32-bit floats, piece by piece; BIDS names the parts of what is larger than 2 GB."""
    made.save(path, fmt="single", split_naming="bids", overwrite=True, verbose="error")


def epochs(stored: Stored, folder: Path, tmin: float, tmax: float, by: str, of_mne: dict[str, Any]) -> mne.Epochs:
    """The trials of a recording, in order of their start. `by` names their events."""
    # The rest of a trial behind a bad span begins with no event
    ends = [stop for _, stop in stored.bad_spans]
    trials = [trial for trial in stored.in_order if not any(abs(end - trial.start) < 1e-6 for end in ends)]
    if not trials:
        raise ValueError(f"{stored.name} has no trial: `raw` gives the recording")
    if by != "stimulus" and (lacking := [trial for trial in trials if by not in trial.labels]):
        known = first_of(["stimulus", *sorted({label for trial in trials for label in trial.labels})])
        raise ValueError(f"{lacking[0].stimulus} of {stored.name} has no label {by!r}: `by` is one of {known}")
    texts = [trial.stimulus if by == "stimulus" else _text(trial.labels[by]) for trial in trials]
    codes = {text: code for code, text in enumerate(sorted(set(texts)), 1)}
    events = np.array([[first_sample(trial, stored), 0, codes[text]] for trial, text in zip(trials, texts)], int)
    rows = [
        {
            "recording": stored.name,
            "subject": stored.subject,
            "session": stored.session,
            "run": stored.run,
            "stimulus": trial.stimulus,
            "duration_s": trial.duration,
            **trial.labels,
        }
        for trial in trials
    ]
    given: dict[str, Any] = {"baseline": None, "metadata": _table(rows), "verbose": "error", **of_mne}
    # MNE's last sample is included
    return mne.Epochs(
        raw(stored, folder), events, codes, tmin=tmin, tmax=tmax - 1 / stored.sfreq, preload=False, **given
    )


def _text(label: str | float) -> str:
    return label if isinstance(label, str) else f"{label:g}"


def _table(rows: Sequence[dict[str, Any]]) -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise ValueError(
            "the labels of mne.Epochs are a table of pandas, which is not installed: "
            'pip install "hpc-eegdecode[metadata]", or give metadata=None'
        ) from None
    return pd.DataFrame(rows)


def concatenated(each: Sequence[mne.Epochs]) -> mne.Epochs:
    """The epochs of several recordings, in memory. An event has the same number in all."""
    names = sorted({name for epochs in each for name in epochs.event_id})
    codes = {name: code for code, name in enumerate(names, 1)}
    for epochs in each:
        new = {code: codes[name] for name, code in epochs.event_id.items()}
        epochs.events[:, 2] = [new[code] for code in epochs.events[:, 2].tolist()]
        epochs.event_id = {name: codes[name] for name in epochs.event_id}
    return mne.concatenate_epochs(list(each), add_offset=True, verbose="error")
