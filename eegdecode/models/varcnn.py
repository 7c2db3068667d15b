"""VAR-CNN (Zubarev 2019, NeuroImage 197:425): as LF-CNN, but its filters in time go over all sources."""

from eegdecode.models.lfcnn import Network

__all__ = ["Network"]
