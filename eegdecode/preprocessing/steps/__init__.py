"""The steps of preprocessing, one file each: its config, a frozen dataclass whose `name` is that of the file, and what
it does, in one of two forms.

    apply(cfg, stream, trials) -> Stream                  any step; lazy, unless it needs the whole recording
    as_filter(cfg, sfreq) -> Filter | Resampling          a filter instead: neighbours run in one pass

Zero phase, no shift in time, bounded memory. Three attributes of a config count as false where they are missing:
`needs_whole`, whether it reads the whole recording before it gives its first sample; `allow_nan`, whether a channel
with NaN may pass, because it can still be dropped or interpolated; and `unitless`, whether samples are in no physical
unit after it. A step that decides about channels, components or spans of time adds to the stream's `decisions`. In
addition there may be

    of_windows(cfg, windows) -> SingleWindows             if it works on single windows too (single_windows.py)
    files(cfg, subject) -> list[Path]                     files that it reads, which a recording is then made from
"""

# Before any step, so that each is imported for its config alone
from eegdecode.preprocessing.steps.config import STEPS, Step, StepConfig

__all__ = ["STEPS", "Step", "StepConfig"]
