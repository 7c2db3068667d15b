"""Read a recording in any format that mne reads. Only mne import."""

import struct
import tempfile
import warnings
from pathlib import Path

import mne
import numpy as np

from eegdecode.data.recordings import read_tsv, sidecar
from eegdecode.signals import Sensor, Signal
from hpc.rundir import atomic_write

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


def write_fif(path: Path, signal: Signal) -> None:
    """FIF with the kinds and places of the sensors, in float32; the same samples make the same bytes everywhere."""
    sensors = [signal.sensors.get(name, Sensor()) for name in signal.channels]
    info = mne.create_info(list(signal.channels), signal.sfreq, [sensor.kind for sensor in sensors])
    for channel, sensor in zip(info["chs"], sensors, strict=True):
        if sensor.position is not None:
            outward = np.array(sensor.position) / np.linalg.norm(sensor.position)
            across = np.cross(outward, np.eye(3)[np.abs(outward).argmin()])
            across /= np.linalg.norm(across)
            channel["loc"][:12] = [*sensor.position, *across, *np.cross(outward, across), *outward]
    with tempfile.TemporaryDirectory() as folder:  # mne writes to a name that ends as it likes, not to an open file
        beside = Path(folder) / "signal_meg.fif"
        mne.io.RawArray(signal.data.T, info).save(beside, fmt="single")
        content = bytearray(beside.read_bytes())
    at = 0
    while at >= 0:  # from tag to tag: kind, type, size, where the next one is (0: right behind)
        _, kind, size, following = struct.unpack_from(">iIii", content, at)
        if kind == FIFF_ID:  # a version, then this machine's network address: nobody's business, and never the same
            content[at + 20 : at + 28] = bytes(8)
        at = at + 16 + size if following == 0 else following
    atomic_write(path, lambda file: file.write(content))


FIFF_ID = 31  # the type of a tag that tells which machine wrote a file
