"""What a protocol of `bench` reads from the data to make runs of: the subjects of a study, by names of files alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eegdecode.data.io import recordings
from eegdecode.data.io.recordings import Entry
from eegdecode.preprocessing.check import included
from eegdecode.preprocessing.config import Preprocess
from hpc import config


def subjects(sections: Mapping[str, Any]) -> list[str]:
    """Return each subject of the section preprocess as a list of one, for `train.split.only`."""
    return [f'["{name}"]' for name in _names(sections)]


def sessions(sections: Mapping[str, Any]) -> list[str]:
    """Return each session of each subject as a list of one, for `train.split.only`."""
    names = {f"{entry.subject} session {entry.session or '(only)'}" for entry in _entries(sections)}
    return [f'["{name}"]' for name in sorted(names)]


def subject_numbers(sections: Mapping[str, Any]) -> list[str]:
    """Return the numbers of the folds that leave out one subject each, for `train.split.fold`."""
    return [str(number) for number, _ in enumerate(_names(sections))]


def _names(sections: Mapping[str, Any]) -> list[str]:
    return sorted({entry.subject for entry in _entries(sections)})


def _entries(sections: Mapping[str, Any]) -> list[Entry]:
    cfg = config.build(Preprocess, sections["preprocess"], "preprocess")
    if "/" not in cfg.study:
        raise ValueError(f"the subjects are read from the folder of the study, and {cfg.study} is no folder")
    return included(recordings.find(Path(cfg.study), cfg.files), cfg.exclude)
