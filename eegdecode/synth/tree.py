"""The plan of a synthetic study, and the BIDS files around its recordings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eegdecode.signals import Signal
from eegdecode.synth.formats import write_brainvision, write_edf
from hpc import media
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
class StudyPlan:
    """The parts of a study.

    Parameters
    ----------
    describe
        Writes the files of the whole study: description, participants, stimuli. Called with the study's folder.
    recordings
        Maps a path below that folder to the function that writes the recording there, after its sidecars. So a
        recording that exists is complete.
    counts
        The result of the stage.
    """

    describe: Callable[[Path], None]
    recordings: Mapping[str, Callable[[Path], None]]
    counts: Mapping[str, object]


def write_description(study: Path, name: str, planted: str, cfg: object, participants: Rows) -> None:
    """Write the files at the root of a study; the first row of `participants` has the columns."""
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
    """Write a recording and its sidecars.

    Parameters
    ----------
    types
        The type in channels.tsv of channels whose type is not that of their sensor's kind.
    columns, events
        The content of events.tsv.
    about
        The content of its .json.
    """
    write_sidecars(path, signal, types, columns, events, about)
    if path.suffix == ".fif":
        from eegdecode.synth.fif import write_fif  # mne is slow to import

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
    """Write the sidecars of a recording; of the signal, only its channels are used."""
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
        prefix = stem.partition("_task-")[0]  # positions of electrodes do not depend on the task
        places = [(name, *(f"{metre:.5f}" for metre in place)) for name, place in placed.items() if place is not None]
        write_tsv(path.with_name(f"{prefix}_electrodes.tsv"), ("name", "x", "y", "z"), places)
        write_json(path.with_name(f"{prefix}_coordsystem.json"), COORDINATES)


def write_tsv(path: Path, columns: Sequence[str], rows: Rows) -> None:
    atomic_write(path, lambda file: file.write(media.tsv([columns, *rows]).encode()))
