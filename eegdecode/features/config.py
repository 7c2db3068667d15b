"""The config of features: which stimuli, through which network, from which of its layers. It imports nothing heavy."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from hpc.config.input_file import NO_FILE, InputFile
from hpc.rank.context import Input


@dataclass(frozen=True)
class TorchScript:
    """A network in a file of torch.jit.save. It runs as one piece, so that its layers cannot be chosen."""

    file: InputFile  # path of the .pt
    name: Literal["torchscript"] = "torchscript"


@dataclass(frozen=True)
class Module:
    """A torch module of your own or of any installed package, with weights from a file.

    Pictures come as [batch, 3, height, width], sounds as [batch, time], words as a list of texts, and the frames of
    films as pictures or clips.
    """

    module: str  # where it is, as mylab.nets:Encoder: a class, or a function that returns the network
    name: Literal["module"] = "module"
    settings: dict[str, Any] = field(default_factory=dict)  # what it is called with, as {depth: 12}
    weights: InputFile = NO_FILE  # a state_dict, by torch.save or .safetensors; empty: it brings its own

    def __post_init__(self) -> None:
        if not all(self.module.partition(":")):
            raise ValueError(f"module is package.module:Class, as mylab.nets:Encoder, but got {self.module!r}")


@dataclass(frozen=True)
class Hub:
    """A network of transformers, from the local cache of the Hugging Face hub; nothing is downloaded. Needs the package
    transformers: the extra `hub`. Its own processor prepares pictures, sounds and words."""

    model: str  # its name, as openai/clip-vit-base-patch32, or a folder of save_pretrained
    name: Literal["transformers"] = "transformers"
    revision: str = ""  # a commit or a tag of the hub; empty: the one in the cache
    of: str = "AutoModel"  # the class of transformers, as CLIPVisionModelWithProjection


Network = Module | TorchScript | Hub


@dataclass(frozen=True)
class Pictures:
    """Pictures, one vector each.

    Parameters
    ----------
    mean, std
        What is subtracted from red, green and blue between 0 and 1, and what they are divided by. By default those of
        ImageNet; CLIP has others. A network of transformers knows its own, and its size.
    """

    name: Literal["pictures"] = "pictures"
    files: str = ""  # pattern of their names below the folder, as things/**/*.jpg; empty: all pictures
    height: int = 224  # pixels
    width: int = 224  # pixels
    crop: bool = True  # the shorter side is resized and the middle taken; false: width and height are resized
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        _check_pixels(self.height, self.width, self.std)


@dataclass(frozen=True)
class Sounds:
    """Sounds, or the sound of films: a stream at the rate of the network.

    Rows that grow with the sound have their rate and their time measured: from the lengths at which the network gives
    one row more. A network that gives one vector, however long the sound, looks at windows: set window_s and hop_s.

    Parameters
    ----------
    chunk_s, context_s
        Sounds are computed in pieces of chunk_s seconds, with context_s more on both sides, which is cut off again.
    rate
        Rows a second of a network whose output is equally long for any sound, as Whisper's encoder (50 for 30 s).
    start_s
        The time in seconds that its first row stands for, where symmetric filters are not what it has.
    """

    name: Literal["sounds"] = "sounds"
    files: str = ""  # pattern of their names below the folder; empty: all sounds and films
    sfreq: float = 16000.0  # rate in Hz that the network takes; sounds are resampled to it
    normalize: bool = False  # each piece to mean 0 and standard deviation 1, as wav2vec 2.0 wants it
    mono_axis: bool = False  # the network takes [batch, 1, time] in place of [batch, time]
    chunk_s: float = 20.0
    context_s: float = 2.0
    window_s: float = 0.0  # one vector for each window of so many seconds; 0: rows that grow with the sound
    hop_s: float = 0.5  # seconds from one window to the next
    rate: float = 0.0
    start_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sfreq < math.inf or self.rate < 0:
            raise ValueError(f"sounds need a rate above 0 Hz, got sfreq {self.sfreq:g} and rate {self.rate:g}")
        if self.chunk_s <= 0 or self.context_s < 0 or self.window_s < 0 or self.hop_s <= 0:
            raise ValueError(
                f"sounds need chunk_s and hop_s above 0 s, got {self.chunk_s:g} and {self.hop_s:g}, and no context_s "
                f"or window_s below it, got {self.context_s:g} and {self.window_s:g}"
            )
        if self.window_s and self.rate:
            raise ValueError("sounds have either windows (window_s) or rows at a rate, but got both: leave one out")


@dataclass(frozen=True)
class Words:
    """Words or sentences of tables: one vector each, or with onsets a stream in which each lasts until it ends.

    A table with the columns stimulus and word gives a vector for each stimulus. Tables with onset (seconds from the
    start of the stimulus), word and, if known, duration are transcripts: story.tsv is that of story.wav.
    """

    name: Literal["words"] = "words"
    files: str = "*.tsv"  # pattern of the tables below the folder
    column: str = "word"  # the column with the text
    context: int = 0  # so many words before it in the table are given along, as language models need them
    sfreq: float = 100.0  # rate in Hz of the stream of a transcript

    def __post_init__(self) -> None:
        if self.context < 0 or not 0 < self.sfreq < math.inf:
            raise ValueError(f"words need context >= 0 and sfreq > 0, got {self.context} and {self.sfreq:g}")


@dataclass(frozen=True)
class Films:
    """The frames of films: a stream with a vector for each frame or clip. Needs the package av: the extra `film`."""

    name: Literal["films"] = "films"
    files: str = ""  # pattern of their names below the folder; empty: all films
    fps: float = 4.0  # frames that are looked at a second: each is what was on the screen at that time
    frames: int = 1  # of a clip, for networks of videos; 1: each frame is a picture
    step: int = 1  # frames from one clip to the next
    axes: Literal["CTHW", "TCHW"] = "CTHW"  # of a clip: colour, time, height, width
    height: int = 224  # pixels; frames are resized to it
    width: int = 224  # pixels
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # as in pictures
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)  # as in pictures

    def __post_init__(self) -> None:
        _check_pixels(self.height, self.width, self.std)
        if not 0 < self.fps <= 1000 or self.frames < 1 or self.step < 1:
            raise ValueError(
                f"films need fps above 0, and a frame and a step at least, got {self.fps:g}, {self.frames} and "
                f"{self.step}"
            )


Stimuli = Pictures | Sounds | Words | Films


@dataclass(frozen=True)
class Features:
    """Embeddings of stimuli by a network, as a target that preprocess reads: preprocess.features names this run."""

    study: Input  # the folder with the stimuli, or a study, which has them in its folder stimuli
    network: Network  # what computes them
    stimuli: Stimuli = field(default_factory=Pictures)  # pictures, sounds, words or films
    layer: str = ""  # the name of a module in the network, as encoder.layers.5; empty: its output
    call: str = ""  # a part or a method of the network that is called, as vision_model or encode_image
    output: str = ""  # which of several outputs, by its key, as image_embeds; empty: the first that fits
    pool: Literal["mean", "max", "first", "last", "flatten"] = "mean"
    """How one vector is made of many, of tokens or places in a picture: first is the class token of a transformer."""
    batch: int = 32  # stimuli, frames or pieces of a sound that the network gets at once
    title: str = "features"  # the name of the target, by which a training selects it
    sfreq: float = 0.0  # rate in Hz at which preprocess stores a stream; 0: that of the features

    def __post_init__(self) -> None:
        if self.batch < 1 or self.sfreq < 0:
            raise ValueError(f"features need batch >= 1 and sfreq >= 0, got {self.batch} and {self.sfreq:g}")
        if not self.title or "/" in self.title:
            raise ValueError(f"title is the name of a target, without a slash, but got {self.title!r}")


def _check_pixels(height: int, width: int, std: tuple[float, float, float]) -> None:
    if not (1 <= height <= 4096 and 1 <= width <= 4096) or min(std) <= 0:
        raise ValueError(f"1 to 4096 pixels a side and std above 0 are needed, got {height} x {width} and {std}")
