"""Find the EEG recordings of a BIDS study and the trials that its events tell of."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eegdecode.signals import Recording, Stream, Trial

EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set", ".fif")


@dataclass(frozen=True)
class Entry:
    """One recording of a study, not read yet. `name` is that of its file, without `_eeg` and extension."""

    name: str
    path: Path
    subject: str
    session: str
    run: str
    trials: tuple[Trial, ...]

    def recording(self, signal: Stream, targets: Mapping[str, Stream]) -> Recording:
        return Recording(self.name, self.subject, signal, self.trials, self.session, self.run, dict(targets))


def find(study: Path) -> list[Entry]:
    """All EEG recordings below a BIDS root, sorted by name."""
    if not study.is_dir():
        raise ValueError(f"there is no study at {study}: name a folder, or a run of synthesize that has finished")
    files = [
        path
        for pattern in ("sub-*/eeg/*_eeg.*", "sub-*/ses-*/eeg/*_eeg.*")
        for path in study.glob(pattern)
        if path.suffix in EXTENSIONS
    ]
    if not files:
        raise ValueError(
            f"no EEG recording in {study}: BIDS has them as sub-01/eeg/sub-01_task-music_eeg.EXT, "
            f"where EXT is one of {' '.join(EXTENSIONS)}"
        )
    return [_entry(study, path) for path in sorted(files, key=lambda path: path.name)]


def stimulus_file(study: Path, stimulus: str) -> Path:
    """Where BIDS has what events call `stim_file`."""
    return study / "stimuli" / stimulus


def sidecar(path: Path, what: str) -> Path:
    """The file beside a recording that tells of it: `…_events.tsv` beside `…_eeg.edf`."""
    return path.with_name(f"{path.stem.removesuffix('_eeg')}_{what}")


def read_tsv(path: Path) -> list[dict[str, str]]:
    return _table(path)[1]


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Its columns, and its rows by column."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t")
        return list(reader.fieldnames or ()), list(reader)


def _entry(study: Path, path: Path) -> Entry:
    entities = dict(re.findall(r"(sub|ses|run)-([A-Za-z0-9]+)", path.stem))
    return Entry(
        name=path.stem.removesuffix("_eeg"),
        path=path,
        subject=f"sub-{entities['sub']}",
        session=entities.get("ses", ""),
        run=entities.get("run", ""),
        trials=_trials(study, sidecar(path, "events.tsv")),
    )


def _trials(study: Path, events: Path) -> tuple[Trial, ...]:
    if not events.is_file():
        raise ValueError(f"{events} is missing: it says when which stimulus was played (onset, duration, stim_file)")
    columns, rows = _table(events)
    lacking = {"onset", "duration", "stim_file"} - set(columns)
    if lacking:
        names = ", ".join(sorted(lacking))
        raise ValueError(f"{events} has no column {names}: trials need onset, duration and stim_file")
    trials = []
    for row in rows:
        stimulus = row["stim_file"]
        if stimulus in ("", "n/a"):
            continue
        file = stimulus_file(study, stimulus)
        if not file.is_file():
            raise ValueError(f"{events} names {stimulus}, but {file} is missing: put it there")
        try:
            trials.append(Trial(float(row["onset"]), float(row["duration"]), stimulus))
        except ValueError as error:
            raise ValueError(f"{events}, stimulus {stimulus}: {error}: correct its onset and duration") from None
    return tuple(trials)
