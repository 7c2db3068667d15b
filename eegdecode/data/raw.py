"""Read a recording in any format that mne reads. Only mne import."""

import warnings
from pathlib import Path

import mne
import numpy as np

from eegdecode.data.recordings import read_tsv, sidecar
from eegdecode.signals import Signal

mne.set_log_level("warning")


def read(path: Path) -> Signal:
    """The EEG channels of a recording, in volt. What is what says channels.tsv, or the file where there is none."""
    try:
        with warnings.catch_warnings():
            # mne only warns where an EDF is shorter than its header says; a cut-off file must not pass for a whole one
            warnings.filterwarnings("error", message="(?s).*[Nn]umber of records.*")
            raw = mne.io.read_raw(path, preload=True)
    except Exception as error:  # noqa: BLE001  mne raises whatever its parsers trip over; all of it means: this file is no good
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read ({cause}): fetch it again, with the files beside it") from None
    types = sidecar(path, "channels.tsv")
    if types.is_file():
        eeg = {row["name"] for row in read_tsv(types) if row["type"].upper() == "EEG"}
        wanted = [name for name in raw.ch_names if name in eeg]
    else:
        wanted = [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "eeg"]
    if not wanted:
        names = ", ".join(raw.ch_names)
        raise ValueError(f"{path} has no EEG channel among {names}: look at the types in {types.name}")
    data = raw.get_data(picks=wanted).T
    return Signal(np.ascontiguousarray(data, dtype=np.float32), float(raw.info["sfreq"]), tuple(wanted))
