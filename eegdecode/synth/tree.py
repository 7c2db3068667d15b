"""The plan of a made-up study, and the files around its recordings: a BIDS tree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eegdecode.signals import Signal
from eegdecode.synth.formats import write_brainvision, write_edf
from hpc.runs.rundir import atomic_write, write_json

Rows = Sequence[Sequence[str]]

BIDS_TYPES = {"mag": "MEGMAG", "stim": "TRIG", "misc": "MISC", "eeg": "EEG", "eog": "EOG", "ecg": "ECG"}
COORDINATES = {
    "EEGCoordinateSystem": "Other",
    "EEGCoordinateUnits": "m",
    "EEGCoordinateSystemDescription": "From the centre of the head: x to the right, y to the front, z up",
}
UNITS = {"mag": "T", "stim": "V", "misc": "V"}


@dataclass(frozen=True)
class Plan:
    """What a study is made of.

    Parameters
    ----------
    describe
        Writes what is there once: the description, the participants, the stimuli. Called with the study's folder.
    recordings
        By path below that folder, what writes the recording there, the files beside it first: where a recording
        stands, all of it does.
    counts
        What the stage returns.
    """

    describe: Callable[[Path], None]
    recordings: Mapping[str, Callable[[Path], None]]
    counts: Mapping[str, object]


def write_description(study: Path, name: str, planted: str, cfg: object, participants: Rows) -> None:
    """Those files at the root of a study; the first row of `participants` has the columns."""
    maker = {"Name": "eegdecode.synth", "Description": f"Made up, {planted}: {cfg}"}
    description = {"Name": name, "BIDSVersion": "1.9.0", "DatasetType": "raw", "License": "CC0", "GeneratedBy": [maker]}
    write_json(study / "dataset_description.json", description)
    write_tsv(study / "participants.tsv", participants[0], participants[1:])
    write_json(study / "participants.json", {"participant_id": {"Description": "a subject that never was"}})


def write_readme(study: Path, text: str) -> None:
    atomic_write(study / "README", lambda file: file.write(text.encode()))


def write_recording(
    path: Path,
    signal: Signal,
    types: Mapping[str, str],
    columns: Sequence[str],
    events: Rows,
    about: Mapping[str, object],
) -> None:
    """A recording and the files beside it.

    Parameters
    ----------
    types
        What channels.tsv says of a channel, where it is not what its sensor's kind says.
    columns, events
        Of events.tsv.
    about
        What the .json beside it says.
    """
    write_sidecars(path, signal, types, columns, events, about)
    if path.suffix == ".fif":
        from eegdecode.synth.fif import write_fif  # mne takes a while to import

        write_fif(path, signal)
    else:
        (write_brainvision if path.suffix == ".vhdr" else write_edf)(path, signal)


def write_sidecars(
    path: Path,
    signal: Signal,
    types: Mapping[str, str],
    columns: Sequence[str],
    events: Rows,
    about: Mapping[str, object],
) -> None:
    """What stands beside a recording; of the signal only what its channels are."""
    kinds = {name: signal.sensors[name].kind if name in signal.sensors else "eeg" for name in signal.channels}
    stem, _, what = path.stem.rpartition("_")
    write_json(path.with_name(f"{stem}_{what}.json"), {**about, "SamplingFrequency": signal.sfreq})
    rows = [
        (name, types.get(name, BIDS_TYPES[kind]), UNITS.get(kind, "µV"), f"{signal.sfreq:g}")
        for name, kind in kinds.items()
    ]
    write_tsv(path.with_name(f"{stem}_channels.tsv"), ("name", "type", "units", "sampling_frequency"), rows)
    write_tsv(path.with_name(f"{stem}_events.tsv"), columns, events)
    placed = {name: sensor.position for name, sensor in signal.sensors.items() if sensor.kind == "eeg"}
    if placed:
        prefix = stem.partition("_task-")[0]  # where electrodes sit does not change with the task
        places = [(name, *(f"{metre:.5f}" for metre in place)) for name, place in placed.items() if place is not None]
        write_tsv(path.with_name(f"{prefix}_electrodes.tsv"), ("name", "x", "y", "z"), places)
        write_json(path.with_name(f"{prefix}_coordsystem.json"), COORDINATES)


def write_tsv(path: Path, columns: Sequence[str], rows: Rows) -> None:
    text = "".join("\t".join(row) + "\n" for row in [columns, *rows])
    atomic_write(path, lambda file: file.write(text.encode()))
