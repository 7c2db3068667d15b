"""The configs of the data: how it is read, split into sets and cut into windows. Those of targets are in their
files."""

from eegdecode.data.config.drawing import (
    BucketedWindows,
    EpochWindows,
    GridWindows,
    RandomWindows,
    Split,
    StratifiedWindows,
    Windows,
)
from eegdecode.data.config.files import Reading, Table
from eegdecode.data.config.reading import (
    AnnotationEvents,
    BidsEvents,
    CodeEvents,
    Events,
    EventsOrDefault,
    FileEvents,
    FilmEvents,
    FixedLengthEvents,
    Matlab,
    TriggerEvents,
)
from eegdecode.data.config.survey import Survey

__all__ = [
    "AnnotationEvents",
    "BidsEvents",
    "BucketedWindows",
    "CodeEvents",
    "EpochWindows",
    "Events",
    "EventsOrDefault",
    "FileEvents",
    "FilmEvents",
    "FixedLengthEvents",
    "GridWindows",
    "Matlab",
    "RandomWindows",
    "Reading",
    "Split",
    "StratifiedWindows",
    "Survey",
    "Table",
    "TriggerEvents",
    "Windows",
]  # fmt: skip
