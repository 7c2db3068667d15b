"""A sound file as a recording: of a study of sound alone, for a vocoder or a classifier of genres."""

from pathlib import Path

from eegdecode.data.config.files import Reading
from eegdecode.data.io import audio
from eegdecode.data.io.readers.opened import Opened
from eegdecode.signals import Sensor, Stream


def read(path: Path, cfg: Reading) -> Opened:
    sound = audio.open_sound(path)
    stream = Stream(
        sound.channels, sound.sfreq, sound.n_times, sound.read, dict.fromkeys(sound.channels, Sensor("sound"))
    )
    return Opened(stream)
