"""The data: from raw recordings to batches. Its knobs can be had from here, each from the file of what it turns."""

from eegdecode.data.knobs.drawing import (
    BucketedWindows,
    GridWindows,
    LockedWindows,
    RandomWindows,
    Split,
    StratifiedWindows,
    Windows,
)
from eegdecode.data.knobs.reading import (
    AnnotationEvents,
    BidsEvents,
    CodeEvents,
    Events,
    FilmEvents,
    Matlab,
    Segments,
    TriggerEvents,
)
from eegdecode.data.knobs.studies import Eeg2025, Images, MegMovie, Motor, Music, MusicRuns, Speech, Study
from eegdecode.data.knobs.targets import Audio, Embedding, Envelope, Extra, Frame, Image, Label, Mel, Target

__all__ = [
    "AnnotationEvents", "Audio", "BidsEvents", "BucketedWindows", "CodeEvents", "Eeg2025", "Embedding", "Envelope",
    "Events", "Extra", "FilmEvents", "Frame", "GridWindows", "Image", "Images", "Label", "LockedWindows", "Matlab",
    "MegMovie", "Mel", "Motor", "Music", "MusicRuns", "RandomWindows", "Segments", "Speech", "Split",
    "StratifiedWindows", "Study", "Target", "TriggerEvents", "Windows",
]  # fmt: skip
