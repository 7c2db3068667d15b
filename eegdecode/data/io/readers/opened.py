"""A recording that is open. Without mne, so that readers of our own are as light as they can be."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from eegdecode.data.io.channels.table import Channel
from eegdecode.signals import Stream


@dataclass(frozen=True)
class Annotation:
    """An annotation of the file; `onset_s` from the recording's first sample."""

    onset_s: float
    duration_s: float
    text: str


@dataclass(frozen=True)
class Opened:
    """A recording that is open; its samples are still in the file.

    Parameters
    ----------
    stream
        All channels, including triggers.
    notes
        What the user should know, a sentence each.
    line_hz
        The mains frequency, where the file has it.
    trial_edges
        Samples at which one trial ends and an unrelated one begins: nothing may cross them. Empty if continuous.
    bads
        Channels marked as bad, and why.
    units
        The units of the channels in the file (or else in channels.tsv), where known; the stream is in volt and tesla in
        any case.
    first_sample
        The number of its first sample, counted from the start of the acquisition, as in MNE's files of events.
    assumed
        The unit that was assumed of channels of which the file says none.
    kinds_by
        Why a channel has its kind, where it is not simply what the file says.
    trial_labels
        For each trial between the edges, its labels: the condition of an epoch, the columns of its metadata.
    decided
        What was decided about each channel, once the tables beside the file and the config were asked too.
    """

    stream: Stream
    annotations: tuple[Annotation, ...] = ()
    notes: tuple[str, ...] = ()
    line_hz: float | None = None
    trial_edges: tuple[int, ...] = ()
    bads: Mapping[str, str] = field(default_factory=dict, hash=False)
    units: Mapping[str, str] = field(default_factory=dict, hash=False)
    first_sample: int = 0
    assumed: str = ""
    kinds_by: Mapping[str, str] = field(default_factory=dict, hash=False)
    trial_labels: tuple[Mapping[str, str | float], ...] = field(default=(), hash=False)
    decided: tuple[Channel, ...] = ()
