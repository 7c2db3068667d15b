"""What a protocol of `bench` reads from the data to make runs of: the subjects of a study, by names of files alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eegdecode.data.io import recordings
from eegdecode.preprocessing.check import included
from eegdecode.preprocessing.config import Preprocess
from hpc import config


def subjects(sections: Mapping[str, Any]) -> list[str]:
    """Return each subject of the section preprocess as a list of one, for `train.split.only`."""
    return [f'["{name}"]' for name in _names(sections)]


def subject_numbers(sections: Mapping[str, Any]) -> list[str]:
    """Return the numbers of the folds that leave out one subject each, for `train.split.fold`."""
    return [str(number) for number, _ in enumerate(_names(sections))]


def _names(sections: Mapping[str, Any]) -> list[str]:
    cfg = config.build(Preprocess, sections["preprocess"], "preprocess")
    if "/" not in cfg.study:
        raise ValueError(f"the subjects are read from the folder of the study, and {cfg.study} is no folder")
    found = included(recordings.find(Path(cfg.study), cfg.files), cfg.exclude)
    return sorted({entry.subject for entry in found})
