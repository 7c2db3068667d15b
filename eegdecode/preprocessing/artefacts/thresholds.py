"""Largest peak-to-peak amplitudes of good trials, by autoreject's cross-validation (Jas et al. 2017)."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from eegdecode.signals import Kind, Stream

log = logging.getLogger(__name__)

MOST_TRIALS = 200
AROUND_HZ = 100.0
MOST_VALUES = 1 << 24
"""Of the trials that are looked at together: 128 MiB in float64."""
FEWEST_TRIALS = 10
KINDS: tuple[Kind, ...] = ("eeg", "mag", "grad", "eog")
"""What autoreject knows."""


def chosen(
    stream: Stream, parts: Sequence[tuple[float, float]], kinds: Mapping[str, Kind], seed: int
) -> dict[Kind, float]:
    """The threshold of each kind, from at most MOST_TRIALS parts, evenly spread, cut to the length of the shortest."""
    try:
        import autoreject
    except ImportError:
        raise ValueError(
            "reject.autoreject needs the package autoreject, which is not installed: pip install autoreject, or set "
            "autoreject=false and give the thresholds in reject"
        ) from None
    import mne

    names = [name for name, kind in kinds.items() if kind in KINDS]
    if len(parts) < FEWEST_TRIALS or not names:
        raise ValueError(
            f"autoreject needs {FEWEST_TRIALS} trials of EEG, EOG or MEG, got {len(parts)} trials of {len(names)} such "
            "channels: give the thresholds in reject, or set block_s"
        )
    decim = max(1, int(stream.sfreq // AROUND_HZ))
    n_times = max(2, int(min(stop - start for start, stop in parts) * stream.sfreq))
    most = max(FEWEST_TRIALS, min(MOST_TRIALS, MOST_VALUES * decim // (n_times * len(names))))
    rows = np.unique(np.linspace(0, len(parts) - 1, min(len(parts), most)).round().astype(int)).tolist()
    columns = [stream.channels.index(name) for name in names]
    firsts = [min(round(parts[row][0] * stream.sfreq), stream.n_times - n_times) for row in rows]
    data = [stream.read(first, first + n_times)[::decim, columns].T.astype(np.float64) for first in firsts]
    info = mne.create_info(names, stream.sfreq / decim, [kinds[name] for name in names])
    epochs = mne.EpochsArray(np.stack(data), info, verbose="error")
    types = [kind for kind in KINDS if kind in set(kinds.values())]
    log.info("reject: autoreject looks at %d of %d trials", len(rows), len(parts))
    limits = autoreject.get_rejection_threshold(epochs, random_state=seed, ch_types=types, verbose=False)
    return {kind: float(limits[kind]) for kind in types}
