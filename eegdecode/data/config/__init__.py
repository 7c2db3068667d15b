"""The configs of the data: how it is read, split into sets, cut into windows, and what is decoded."""

from eegdecode.data.config.drawing import (
    BucketedWindows,
    EpochWindows,
    GridWindows,
    RandomWindows,
    Split,
    StratifiedWindows,
    Windows,
)
from eegdecode.data.config.reading import (
    AnnotationEvents,
    BidsEvents,
    CodeEvents,
    Events,
    FilmEvents,
    FixedLengthEvents,
    Matlab,
    TriggerEvents,
)
from eegdecode.data.config.survey import Survey
from eegdecode.data.config.targets import Audio, Embedding, Envelope, Extra, Frame, Image, Label, Mel, Target

__all__ = [
    "AnnotationEvents",
    "Audio",
    "BidsEvents",
    "BucketedWindows",
    "CodeEvents",
    "Embedding",
    "Envelope",
    "EpochWindows",
    "Events",
    "Extra",
    "FilmEvents",
    "FixedLengthEvents",
    "Frame",
    "GridWindows",
    "Image",
    "Label",
    "Matlab",
    "Mel",
    "RandomWindows",
    "Split",
    "StratifiedWindows",
    "Survey",
    "Target",
    "TriggerEvents",
    "Windows",
]  # fmt: skip
