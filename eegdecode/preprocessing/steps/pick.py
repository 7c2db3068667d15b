"""Keep some of the channels, in the order of the recording."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from eegdecode.preprocessing.channels import need_all, select
from eegdecode.preprocessing.single_windows import SingleWindows
from eegdecode.signals import BRAIN, Kind, Stream, Trial


@dataclass(frozen=True)
class Pick:
    """Keep the channels of these kinds, all or those that `names` lists or `regex` matches, without those in `drop`."""

    name: Literal["pick"] = "pick"
    kinds: tuple[Kind, ...] = BRAIN  # kinds of channel to keep; by default all that measure the brain
    names: tuple[str, ...] = ()
    """Names of channels to keep, besides those of `regex`; where both are empty, all of these kinds."""
    regex: str = ""  # regular expression for the names of channels to keep; a match anywhere in the name is enough
    drop: tuple[str, ...] = ()  # names of channels to leave out
    allow_nan: ClassVar[bool] = True
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("picks", "ch_names", "channels"), "names are those of the channels to keep, kinds their kinds")
    }

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in get_args(Kind)]:
            raise ValueError(f"pick takes kinds among {', '.join(get_args(Kind))}, but got {', '.join(unknown)}")
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"{self.regex!r} is not a regular expression: {error}") from None


def apply(cfg: Pick, stream: Stream, trials: Sequence[Trial]) -> Stream:
    channels = stream.channels
    need_all([*cfg.names, *cfg.drop], channels, "pick")
    chosen = [
        name
        for name in channels
        if stream.sensor(name).kind in cfg.kinds
        and (name in cfg.names or (cfg.regex and re.search(cfg.regex, name)) or not (cfg.names or cfg.regex))
        and name not in cfg.drop
    ]
    if not chosen and cfg == Pick() and all(stream.sensor(name).kind == "sound" for name in channels):
        return stream  # of a study of sound alone
    if not chosen:
        raise ValueError(f"pick leaves none of the channels {', '.join(channels)}: loosen kinds, names or regex")
    return select(stream, chosen)


def of_windows(cfg: Pick, windows: SingleWindows) -> SingleWindows:
    return windows.through(apply, cfg)
