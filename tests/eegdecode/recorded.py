"""Writes the XDF and NWB that tests read, as LabRecorder and pynwb do."""

import struct
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np


def chunk(tag: int, content: bytes) -> bytes:
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


def stream_header(number: int, name: str, kind: str, n: int, rate: float, form: str, desc: str = "") -> bytes:
    xml = f"<info><name>{name}</name><type>{kind}</type><channel_count>{n}</channel_count>"
    xml += f"<nominal_srate>{rate}</nominal_srate><channel_format>{form}</channel_format><desc>{desc}</desc></info>"
    return chunk(2, struct.pack("<I", number) + xml.encode())


def write_xdf(path: Path, data: np.ndarray, names: Sequence[str], sfreq: float) -> None:
    """As LabRecorder does: signals whose first sample of a chunk has a time, and markers on a clock 100 s ahead."""
    labels = "".join(
        f"<channel><label>{name}</label><unit>microvolts</unit><type>EEG</type></channel>" for name in names
    )
    out = b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")
    out += stream_header(1, "amp", "EEG", len(names), sfreq, "double64", f"<channels>{labels}</channels>")
    out += stream_header(2, "task", "Markers", 1, 0.0, "string")
    for first in range(0, len(data), 50):
        values = b"".join(
            (b"\x08" + struct.pack("<d", 10 + (first + k) / sfreq) if k == 0 else b"\x00")
            + data[first + k].astype(float).tobytes()
            for k in range(50)
        )
        out += chunk(3, struct.pack("<I", 1) + b"\x01" + bytes([50]) + values)
    for at_s, word in ((0.4, "left"), (0.8, "right")):
        stamp = struct.pack("<d", 110 + at_s)
        out += chunk(3, struct.pack("<I", 2) + b"\x01\x01\x08" + stamp + b"\x01" + bytes([len(word)]) + word.encode())
    for at in (100.0, 105.0, 112.0):
        out += chunk(4, struct.pack("<Idd", 2, at, -100.0))
    path.write_bytes(out)


def write_nwb(path: Path, values: np.ndarray, names: Sequence[str], sfreq: float) -> None:
    """An ElectricalSeries of integers in nV, whose electrodes stand in the table from the last to the first."""
    with h5py.File(path, "w") as file:
        series = file.create_group("acquisition/ElectricalSeries")
        series.attrs["neurodata_type"], series.attrs["description"] = "ElectricalSeries", "EEG of the scalp"
        data = series.create_dataset("data", data=np.rint(values * 1e3).astype("i4"))
        data.attrs["conversion"], data.attrs["unit"] = 1e-9, "volts"
        series.create_dataset("starting_time", data=2.0).attrs["rate"] = sfreq
        series.create_dataset("electrodes", data=np.arange(len(names))[::-1])
        table = file.create_group("general/extracellular_ephys/electrodes")
        table.create_dataset("label", data=list(names[::-1]), dtype=h5py.string_dtype())
        table.create_dataset("group_name", data=["cap"] * len(names), dtype=h5py.string_dtype())
        trials = file.create_group("intervals/trials")
        trials.create_dataset("start_time", data=[2.4, 2.8])
        trials.create_dataset("stop_time", data=[2.6, 3.2])
        trials.create_dataset("condition", data=["left", "right"], dtype=h5py.string_dtype())
