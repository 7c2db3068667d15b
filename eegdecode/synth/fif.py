"""Write FIF files with mne."""

import struct
import tempfile
from pathlib import Path

import mne
import numpy as np

from eegdecode.signals import Sensor, Signal
from hpc.runs.rundir import atomic_write


def write_fif(path: Path, signal: Signal) -> None:
    """Write FIF with kinds and positions of sensors, in float32; the same samples give the same bytes everywhere."""
    sensors = [signal.sensors.get(name, Sensor()) for name in signal.channels]
    info = mne.create_info(list(signal.channels), signal.sfreq, [sensor.kind for sensor in sensors])
    for channel, sensor in zip(info["chs"], sensors, strict=True):
        if sensor.position is not None:
            outward = np.array(sensor.position) / np.linalg.norm(sensor.position)
            across = np.cross(outward, np.eye(3)[np.abs(outward).argmin()])
            across /= np.linalg.norm(across)
            channel["loc"][:12] = [*sensor.position, *across, *np.cross(outward, across), *outward]
    with tempfile.TemporaryDirectory() as folder:  # mne writes to a path with its own ending, not to an open file
        temporary = Path(folder) / "signal_meg.fif"
        mne.io.RawArray(signal.data.T, info).save(temporary, fmt="single")
        content = bytearray(temporary.read_bytes())
    at = 0
    while at >= 0:  # from tag to tag: kind, type, size, position of the next one (0: directly behind)
        _, kind, size, following = struct.unpack_from(">iIii", content, at)
        if kind == FIFF_ID:  # a version, then this machine's network address: private, and different everywhere
            content[at + 20 : at + 28] = bytes(8)
        at = at + 16 + size if following == 0 else following
    atomic_write(path, lambda file: file.write(content))


FIFF_ID = 31  # the type of a tag that identifies the machine
