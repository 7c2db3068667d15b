"""The configs of the data: how it is read, split into sets, cut into windows, and what is decoded."""

from eegdecode.data.config.drawing import (
    BucketedWindows,
    GridWindows,
    LockedWindows,
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
    Matlab,
    Segments,
    TriggerEvents,
)
from eegdecode.data.config.survey import Survey
from eegdecode.data.config.targets import Audio, Embedding, Envelope, Extra, Frame, Image, Label, Mel, Target

__all__ = [
    "AnnotationEvents", "Audio", "BidsEvents", "BucketedWindows", "CodeEvents", "Embedding", "Envelope",
    "Events", "Extra", "FilmEvents", "Frame", "GridWindows", "Image", "Label", "LockedWindows", "Matlab",
    "Mel", "RandomWindows", "Segments", "Split",
    "StratifiedWindows", "Survey", "Target", "TriggerEvents", "Windows",
]  # fmt: skip
