"""Write one recording into a BIDS folder: samples, channels, events, positions, and what is known of them.

EEG is written as BrainVision in 32-bit floats and volt, so that the bytes of the samples are those of the store; MEG as
FIF. Both are read and written piece by piece.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eegdecode.exchange.bids_study import name_of
from eegdecode.signals import UNITS, Kind, Sensor, Stream
from hpc import media
from hpc.runs.rundir import atomic_write, write_json

PIECE_VALUES = 1 << 21
TYPES: dict[Kind, str] = {
    "eeg": "EEG", "mag": "MEGMAG", "grad": "MEGGRADPLANAR", "ecog": "ECOG", "seeg": "SEEG", "eog": "EOG", "ecg": "ECG",
    "emg": "EMG", "ref": "REF", "sound": "AUDIO", "stim": "TRIG",
}  # fmt: skip
"""The type in channels.tsv for each kind; MISC for the others."""
COUNTS = {
    "EEG": "EEGChannelCount", "ECOG": "ECOGChannelCount", "SEEG": "SEEGChannelCount", "EOG": "EOGChannelCount",
    "ECG": "ECGChannelCount", "EMG": "EMGChannelCount", "MISC": "MiscChannelCount", "TRIG": "TriggerChannelCount",
}  # fmt: skip


@dataclass(frozen=True)
class BidsRecording:
    """What is written of a recording.

    Parameters
    ----------
    entities
        Of its name: sub, ses, task, run, desc.
    stream
        The samples, in volt; tesla for MEG.
    events
        Rows of events.tsv: onset, duration and trial_type, then others.
    sidecar
        What the JSON beside it says besides.
    unit
        That of all channels, where their samples are no voltage any more; n/a after scaling.
    bads
        Channels that are bad, and why.
    save_fif
        Writes a FIF file to a path; for MEG.
    """

    entities: Mapping[str, str]
    stream: Stream
    events: Sequence[Mapping[str, Any]]
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    bads: Mapping[str, str] = field(default_factory=dict)
    save_fif: Callable[[Path], None] | None = None

    @property
    def suffix(self) -> str:
        kinds = {self.stream.sensor(name).kind for name in self.stream.channels}
        if kinds & {"mag", "grad"}:
            return "meg"
        return "ieeg" if kinds & {"ecog", "seeg"} and "eeg" not in kinds else "eeg"

    @property
    def name(self) -> str:
        return name_of(self.entities)


def write(recording: BidsRecording, study: Path, beat: Callable[[float], None] = lambda part: None) -> list[Path]:
    """Write all files of a recording, that of the samples last; returns them."""
    session = [f"ses-{recording.entities['ses']}"] if recording.entities.get("ses") else []
    folder = study.joinpath(f"sub-{recording.entities['sub']}", *session, recording.suffix)
    folder.mkdir(parents=True, exist_ok=True)
    bare = folder / recording.name
    files = [*_channels(recording, bare), *_events(recording, bare), *_electrodes(recording, folder)]
    sidecar = Path(f"{bare}_{recording.suffix}.json")
    write_json(sidecar, {**_counted(recording), **recording.sidecar})
    files.append(sidecar)
    if recording.suffix == "meg":
        assert recording.save_fif is not None
        samples = Path(f"{bare}_meg.fif")
        recording.save_fif(samples)
        return [*files, *(path for path in folder.glob(f"{recording.name}*_meg.fif"))]
    return [*files, *write_brainvision(Path(f"{bare}_{recording.suffix}.vhdr"), recording.stream, beat)]


def _type(sensor: Sensor) -> str:
    return TYPES.get(sensor.kind, "MISC")


def _channels(recording: BidsRecording, bare: Path) -> Iterator[Path]:
    rows = [["name", "type", "units", "sampling_frequency", "status", "status_description"]]
    for name in recording.stream.channels:
        sensor, why = recording.stream.sensor(name), recording.bads.get(name)
        unit = recording.unit or sensor.unit or UNITS.get(sensor.kind, "V") or "n/a"
        status = "good" if why is None else "bad"
        rows.append([name, _type(sensor), unit, f"{recording.stream.sfreq:g}", status, why or "n/a"])
    yield _text(Path(f"{bare}_channels.tsv"), media.tsv(rows))


def _events(recording: BidsRecording, bare: Path) -> Iterator[Path]:
    if not recording.events:
        return
    columns = list(
        dict.fromkeys(["onset", "duration", "trial_type", *(key for row in recording.events for key in row)])
    )
    ordered = sorted(recording.events, key=lambda row: float(row["onset"]))
    cells = [[_cell(row.get(column)) for column in columns] for row in ordered]
    yield _text(Path(f"{bare}_events.tsv"), media.tsv([columns, *cells]))
    about = {
        "onset": {"Description": "Start in seconds from the first sample.", "Units": "s"},
        "duration": {"Description": "Duration in seconds.", "Units": "s"},
        "trial_type": {"Description": "What was presented or done; BAD_… marks what must not be used, and why."},
        **{column: {"Description": f"The label {column} of the trial."} for column in columns[3:]},
    }
    path = Path(f"{bare}_events.json")
    write_json(path, about)
    yield path


def _electrodes(recording: BidsRecording, folder: Path) -> Iterator[Path]:
    """Positions, of the recordings of one subject and session in a file for each, as they may have other channels."""
    if recording.suffix != "eeg":
        return
    stream = recording.stream
    places = [(name, place) for name in stream.channels if (place := stream.sensor(name).position)]
    if not places:
        return
    entities = {key: recording.entities.get(key, "") for key in ("sub", "ses", "task", "acq", "run")}
    name = name_of({**entities, "space": "CapTrak"})
    rows = [[channel, *(f"{value:.6f}" for value in place)] for channel, place in places]
    yield _text(folder / f"{name}_electrodes.tsv", media.tsv([["name", "x", "y", "z"], *rows]))
    path = folder / f"{name}_coordsystem.json"
    write_json(path, {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"})
    yield path


def _counted(recording: BidsRecording) -> dict[str, Any]:
    stream = recording.stream
    types = [_type(stream.sensor(name)) for name in stream.channels]
    known: dict[str, Any] = {
        "TaskName": recording.entities.get("task", ""),
        "SamplingFrequency": stream.sfreq,
        "PowerLineFrequency": "n/a",
        "SoftwareFilters": "n/a",
        "RecordingDuration": round(stream.duration, 6),
        "RecordingType": "continuous",
    }
    if recording.suffix == "meg":
        known |= {"DewarPosition": "n/a", "DigitizedLandmarks": False, "DigitizedHeadPoints": False}
        known |= {"MEGChannelCount": sum(each.startswith("MEG") for each in types)}
    known |= {"EEGReference": "n/a"} if recording.suffix == "eeg" else {}
    known |= {"iEEGReference": "n/a"} if recording.suffix == "ieeg" else {}
    return known | {count: types.count(each) for each, count in COUNTS.items() if each in types}


def _text(path: Path, text: str) -> Path:
    atomic_write(path, lambda file: file.write(text.encode()))
    return path


def _cell(value: object) -> str:
    if value is None or value == "":
        return "n/a"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


# BrainVision, https://www.brainproducts.com/support-resources/brainvision-core-data-format-1-0


def write_brainvision(header: Path, stream: Stream, beat: Callable[[float], None]) -> list[Path]:
    """Write samples as they are, in 32-bit floats and volt; the header last. Returns the three files."""
    data, markers = header.with_suffix(".eeg"), header.with_suffix(".vmrk")
    step = max(1, PIECE_VALUES // max(1, stream.n_channels))

    def fill(file: BinaryIO) -> None:
        for first in range(0, stream.n_times, step):
            stop = min(first + step, stream.n_times)
            file.write(np.ascontiguousarray(stream.read(first, stop), "<f4").tobytes())
            beat(stop / stream.n_times)

    atomic_write(data, fill)
    _text(markers, _MARKERS.format(data=data.name))
    channels = "".join(
        f"Ch{number}={name.replace(',', chr(92) + '1')},,1,{_volt(stream.sensor(name))}\n"
        for number, name in enumerate(stream.channels, 1)
    )
    about = {"data": data.name, "markers": markers.name, "n_channels": stream.n_channels, "channels": channels}
    _text(header, _HEADER.format(interval_us=repr(1e6 / stream.sfreq), **about))
    return [data, markers, header]


def _volt(sensor: Sensor) -> str:
    return sensor.unit or "n/a"


_HEADER = """Brain Vision Data Exchange Header File Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={data}
MarkerFile={markers}
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={n_channels}
SamplingInterval={interval_us}

[Binary Infos]
BinaryFormat=IEEE_FLOAT_32

[Channel Infos]
{channels}"""

_MARKERS = """Brain Vision Data Exchange Marker File, Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={data}

[Marker Infos]
Mk1=New Segment,,1,1,0
"""
