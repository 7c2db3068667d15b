"""The trials that a file has by itself, where nothing else says them: the epochs in it, or the whole of a sound."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from eegdecode.data.io import audio
from eegdecode.data.io.readers.opened import Opened
from eegdecode.signals import Trial


def trials(opened: Opened, path: Path, study: Path) -> tuple[Trial, ...]:
    """The epochs, with their conditions and metadata as labels; a sound, with its genre. Otherwise none."""
    stream = opened.stream
    if opened.trial_edges:
        edges = [edge / stream.sfreq for edge in (0, *opened.trial_edges, stream.n_times)]
        labels: tuple[Mapping[str, str | float], ...] = opened.trial_labels or ({},) * (len(edges) - 1)
        return tuple(
            Trial(start, end - start, f"trial-{n:04d}", row)
            for n, ((start, end), row) in enumerate(zip(pairwise(edges), labels, strict=True), 1)
        )
    if stream.channels and all(stream.sensor(name).kind == "sound" for name in stream.channels):
        name = path.relative_to(study).as_posix() if path.is_relative_to(study) else path.name
        return (Trial(0.0, stream.duration, name, {"genre": audio.genre(path)}),)
    return ()
