"""A preprocess run in a notebook: `eegdecode.open("preprocess-x7m2")` gives objects of MNE, numpy and torch.

Every file is verified before its first sample is read, and samples are read where they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eegdecode.data.config import EpochWindows, GridWindows, Windows
from eegdecode.data.loading import windows
from eegdecode.data.loading.gather import gather
from eegdecode.data.loading.windows import Places
from eegdecode.data.split.segments import Segment, n_samples
from eegdecode.data.split.splits import is_bad
from eegdecode.data.store.dataset import Store, Stored
from eegdecode.data.store.store import open_store
from eegdecode.exchange import runs as of_runs
from hpc.errors import did_you_mean, first_of

if TYPE_CHECKING:
    import mne

    from eegdecode.exchange.dataset import WindowDataset


class Arrays(NamedTuple):
    """Windows in memory."""

    X: np.ndarray
    """[window, channel, time], float32."""
    y: np.ndarray | None
    """[window] of class numbers, [window, feature], or [window, feature, time]; None without a target."""
    metadata: list[dict[str, Any]]
    """Of each window its recording, subject, trial, start in seconds, stimulus and labels."""


def open_run(run: str | Path, runs: str | Path = "runs") -> Preprocessed:
    """Open a preprocess run, by its name or its folder; only its index is read.

    Parameters
    ----------
    run
        A run's name as on the command line, its folder, or a copy of its `out`.
    runs
        The folder that holds the run folders.
    """
    meant = of_runs.find(run, runs)
    return Preprocessed(meant.name, meant.store, open_store(meant.store))


@dataclass(frozen=True)
class Preprocessed:
    """The recordings of a preprocess run."""

    name: str
    folder: Path
    store: Store

    def __repr__(self) -> str:
        n_trials = sum(len(stored.trials) for stored in self.store.recordings)
        hours = sum(stored.n_times / stored.sfreq for stored in self.store.recordings) / 3600
        return (
            f"<{self.name}: {len(self)} recordings of {len(self.subjects)} subjects, {n_trials} trials, {hours:.2g} h; "
            f"targets: {', '.join(self.targets) or 'none'}>"
        )

    def __len__(self) -> int:
        return len(self.store.recordings)

    @property
    def recordings(self) -> tuple[str, ...]:
        """The names of the recordings."""
        return tuple(stored.name for stored in self.store.recordings)

    @property
    def subjects(self) -> tuple[str, ...]:
        return self.store.subjects

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what can be decoded: streams over time, and values of trials."""
        blocks = self.store.recordings[0].blocks if self.store.recordings else {}
        return tuple(name.partition("/")[2] for name in blocks if "/" in name)

    def select(self, *names: str, subjects: Sequence[str] = ()) -> Preprocessed:
        """Return only these recordings, by names or patterns of names, `sub-01*`, and of these subjects."""
        chosen = tuple(
            stored
            for stored in self.store.recordings
            if (not names or any(fnmatchcase(stored.name, name) for name in names))
            and (not subjects or stored.subject in subjects)
        )
        if not chosen:
            known = first_of([*self.recordings] if names else [*self.subjects])
            raise ValueError(f"no recording of {self.name} is {', '.join([*names, *subjects])}: there are {known}")
        return replace(self, store=Store(chosen))

    def stored(self, recording: str | None = None) -> Stored:
        """Return a recording as memory-mapped arrays; without a name the only one."""
        by_name = dict(zip(self.recordings, self.store.recordings, strict=True))
        if recording is None and len(by_name) == 1:
            return self.store.recordings[0]
        if recording is None:
            raise ValueError(f"{self.name} has {len(by_name)} recordings, {first_of([*by_name])}: say which")
        if recording not in by_name:
            raise ValueError(f"{self.name} has no recording {recording!r}.{did_you_mean(recording, by_name)}")
        return by_name[recording]

    # MNE

    def raw(self, recording: str | None = None) -> mne.io.BaseRaw:
        """Return a recording as mne.io.Raw that reads from the file what is asked for, with trials and bad spans as
        annotations and the positions of the channels."""
        from eegdecode.exchange import mne_objects

        return mne_objects.raw(self.stored(recording), self.folder)

    def raws(self) -> Iterator[mne.io.BaseRaw]:
        """Yield all recordings, one after the other."""
        return (self.raw(name) for name in self.recordings)

    def epochs(
        self,
        recording: str | None = None,
        *,
        tmin: float = 0.0,
        tmax: float | None = None,
        by: str = "stimulus",
        **of_mne: Any,
    ) -> mne.Epochs:
        """Return the trials of a recording as mne.Epochs, which read from the file what is asked for.

        Parameters
        ----------
        recording
            Its name; None: all recordings, whose epochs are then in memory.
        tmin, tmax
            Seconds from the start of a trial; without tmax up to its end, if all last equally long.
        by
            The label that names the events; all labels are metadata, whatever names the events.
        of_mne
            Arguments of mne.Epochs, as baseline, reject and detrend. `baseline` is None by default.
        """
        from eegdecode.exchange import mne_objects

        chosen = self.store.recordings if recording is None else (self.stored(recording),)
        tmax = self._tmax(chosen, tmin, tmax)
        each = [mne_objects.epochs(stored, self.folder, tmin, tmax, by, of_mne) for stored in chosen]
        return each[0] if len(each) == 1 else mne_objects.concatenated(each)

    # numpy and torch

    def numpy(
        self,
        target: str | None = None,
        *,
        tmin: float = 0.0,
        tmax: float | None = None,
        length: float | None = None,
        stride: float | None = None,
    ) -> Arrays:
        """Return windows in memory, `X, y, metadata`. For windows, see `dataset`."""
        places = self.places(tmin, tmax, length, stride)
        gathered = gather(self.store, places, target or "")
        return Arrays(
            np.ascontiguousarray(gathered.signal.transpose(0, 2, 1)),
            self._y(target, gathered.target),
            self.metadata(places),
        )

    def dataset(
        self,
        target: str | None = None,
        *,
        tmin: float = 0.0,
        tmax: float | None = None,
        length: float | None = None,
        stride: float | None = None,
    ) -> WindowDataset:
        """Return windows as a torch.utils.data.Dataset, which reads each from the file when it is asked for.

        Parameters
        ----------
        target
            One of `targets`; None: windows without a target.
        tmin, tmax
            One window a trial, in seconds from its start; without tmax up to its end, if all last equally long.
        length, stride
            Or windows of that length within each trial, `stride` apart (end to end by default), in seconds.
        """
        from eegdecode.exchange.dataset import WindowDataset

        places = self.places(tmin, tmax, length, stride)
        spec = self.store.spec(target or "")
        return WindowDataset(self.store, places, target or "", spec, self.metadata(places))

    def places(self, tmin: float, tmax: float | None, length: float | None, stride: float | None) -> Places:
        """Return where the windows are; those of `tmin` that reach into a bad span are left out."""
        recordings = self.store.recordings
        cfg: Windows
        if length is not None:
            if tmin or tmax is not None:
                raise ValueError("give tmin and tmax for one window a trial, or length for windows within it: not both")
            cfg = GridWindows(length_s=length, stride_s=stride)
        else:
            cfg = EpochWindows(tmin_s=tmin, tmax_s=self._tmax(recordings, tmin, tmax), overlap=True)
        segments = [Segment(k, trial) for k, stored in enumerate(recordings) for trial in stored.trials]
        if isinstance(cfg, EpochWindows):
            segments = [segment for segment in segments if not is_bad(cfg, segment, recordings)]
        return windows.cut(cfg, segments, recordings)[0]

    def _tmax(self, recordings: Sequence[Stored], tmin: float, tmax: float | None) -> float:
        if tmax is not None:
            return tmax
        lasting = sorted(
            {n_samples(trial.duration, stored.sfreq) / stored.sfreq for stored in recordings for trial in stored.trials}
        )
        if not lasting:
            raise ValueError(f"{self.name} has no trial: `raw` gives its recordings")
        if len(lasting) > 1:
            raise ValueError(
                f"the trials of {self.name} last from {lasting[0]:g} to {lasting[-1]:g} s: give tmax, at most "
                f"{lasting[0]:g}, or length for windows within them"
            )
        return lasting[0]

    def metadata(self, places: Places) -> list[dict[str, Any]]:
        """Return a row a window."""
        rows = []
        for number, trial_number, start, _ in zip(*(column.tolist() for column in places), strict=True):
            stored = self.store.recordings[number]
            rows.append(
                {
                    "recording": stored.name,
                    "subject": stored.subject,
                    "session": stored.session,
                    "run": stored.run,
                    "trial": trial_number,
                    "start_s": start / stored.sfreq,
                    "stimulus": (trial := stored.trials[trial_number]).stimulus,
                    **trial.labels,
                }
            )
        return rows

    def _y(self, target: str | None, values: np.ndarray) -> np.ndarray | None:
        if target is None:
            return None
        spec = self.store.spec(target)
        if spec.class_values:
            return np.searchsorted(spec.class_values, values[:, 0]).astype(np.int64)
        return values if values.ndim == 2 else np.ascontiguousarray(values.transpose(0, 2, 1))
