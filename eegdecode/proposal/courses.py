"""Courses in time that can be decoded: features next to the responses of the mTRF toolbox, the envelope of sounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from eegdecode.data import targets
from eegdecode.data.events import of_recording
from eegdecode.data.io.recordings import stimulus_file
from eegdecode.data.targets.stim import Stim
from eegdecode.proposal.folder import SOUNDS
from eegdecode.proposal.seen import EVENTS_TSV, Seen, Sight
from eegdecode.proposal.write import Guess
from hpc.media import many

HZ = 64.0
"""Enough for an envelope."""
LONGEST_S = 4.0


@dataclass(frozen=True)
class Course:
    events: Guess
    target: Guess
    name: str
    window_s: float


def choose(sight: Sight) -> Course | None:
    return _features(sight) or _sounds(sight)


def _features(sight: Sight) -> Course | None:
    """A cell array stim with a row for each sample of resp, in every recording that was opened."""
    if sight.seen[0].entry.path.suffix.lower() != ".mat" or not all(seen.opened.trial_edges for seen in sight.seen):
        return None
    stim = Stim(sfreq=min(HZ, sight.rates[0]))
    n_features = {_n_features(stim, seen, sight) for seen in sight.seen}
    if len(n_features) != 1 or 0 in n_features:
        return None
    lengths_s = [length_s for seen in sight.seen for length_s in _trials_s(seen)]
    n_trials = sorted({len(seen.opened.trial_edges) + 1 for seen in sight.seen})
    counted = f"{n_trials[0]}" if len(n_trials) == 1 else f"{n_trials[0]} to {n_trials[-1]}"
    return Course(
        Guess(None),
        Guess(
            {"name": "stim", "sfreq": stim.sfreq},
            f"The cell array stim, next to the responses: {many(n_features.pop(), 'feature')}, in {counted} cells a "
            f"recording, which are the trials; they last {min(lengths_s):.3g} to {max(lengths_s):.3g} s. Cell 1 of all "
            "recordings counts as one stimulus.",
        ),
        "stim",
        _window_s(lengths_s),
    )


def _n_features(stim: Stim, seen: Seen, sight: Sight) -> int:
    trials = of_recording.trials(None, seen.entry, seen.opened).trials
    try:
        made = targets.make(stim, trials, sight.folder.path, seen.stream.duration, (), seen.entry.words)
    except ValueError:  # no such cells, or not as many as trials
        return 0
    return int(made.read(0, 1).shape[1])  # type: ignore[union-attr]


def _trials_s(seen: Seen) -> list[float]:
    edges = (0, *seen.opened.trial_edges, seen.stream.n_times)
    return [(stop - start) / seen.stream.sfreq for start, stop in pairwise(edges)]


def _sounds(sight: Sight) -> Course | None:
    """Sounds that events.tsv names in stim_file, and that are in stimuli/."""
    marks = [mark for each in sight.marks(EVENTS_TSV).values() for mark in each]
    played = [mark for mark in marks if mark.columns.get("stim_file", "").lower().endswith(SOUNDS)]
    files = sorted({mark.columns["stim_file"] for mark in played})
    if not files or not all(stimulus_file(sight.folder.path, name).is_file() for name in files):
        return None
    lengths_s = [mark.duration_s for mark in played]
    if min(lengths_s) <= 0:
        return None
    return Course(
        Guess({"name": "bids"}, f"Trials are the {len(played)} rows of events.tsv with a stim_file."),
        Guess(
            {"name": "envelope", "sfreq": HZ},
            f"The envelope of the {len(files)} sounds that stim_file names, as {files[0]}; they are in stimuli/.",
            ("{name: mel}, a spectrogram", "{name: label, column: trial_type}, if there are conditions"),
        ),
        "envelope",
        _window_s(lengths_s),
    )


def _window_s(lengths_s: Sequence[float]) -> float:
    return min(LONGEST_S, math.floor(min(lengths_s) * 10) / 10)
