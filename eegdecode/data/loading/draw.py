"""The windows that each training step draws: a stateless function of (seed, step), for any step."""

import math
from collections.abc import Sequence

import numpy as np

from eegdecode.data.config import BucketedWindows, RandomWindows, StratifiedWindows, Windows
from eegdecode.data.loading.order import Order, key, permuted, subset, uniform
from eegdecode.data.loading.windows import Places, cut, in_patches
from eegdecode.data.split.segments import Segment, n_samples
from eegdecode.data.store.dataset import Stored

_START, _PART, _BUCKET, _BATCH = (
    8,
    9,
    10,
    11,
)  # separate the draws of one seed from each other, and from those of order.py


class Draw:
    """The endless sequence of training windows: step k takes the places from k * batch on.

    Parameters
    ----------
    cfg, seed
        How windows are cut and drawn.
    segments, recordings
        The trials to draw from, and the recordings that their `recording` is an index into.
    """

    def __init__(self, cfg: Windows, segments: Sequence[Segment], recordings: Sequence[Stored], seed: int) -> None:
        self.cfg, self.batch, self.seed = cfg, cfg.batch, seed
        chosen = [segments[index] for index in subset(len(segments), cfg.subset, seed)]
        self.places, origin = cut(cfg, chosen, recordings)
        """One epoch: windows, or whole trials if windows start at random."""
        lengths = self.places.n_times
        sfreq = recordings[chosen[0].recording].sfreq
        if isinstance(cfg, BucketedWindows):
            self._turns: _Buckets | Order = _Buckets(lengths, cfg, seed)
            self.longest = in_patches(int(lengths.max()), cfg, sfreq)
            return
        classes = None
        if cfg.balance:
            labels = [_label(cfg.balance, segment, recordings) for segment in chosen]
            number = {label: index for index, label in enumerate(sorted(set(labels)))}
            classes = [number[labels[index]] for index in origin]
        by_length = isinstance(cfg, RandomWindows) and cfg.per == "second"
        self._turns = Order(len(self), seed, classes, lengths.tolist() if by_length else None)
        self.n_times = int(lengths[0])
        if isinstance(cfg, RandomWindows | StratifiedWindows):
            self.n_times = n_samples(cfg.length_s, sfreq)
        self.longest = in_patches(self.n_times, cfg, sfreq)
        """The number of samples of a window in whole patches; of the longest window, if they differ."""

    @property
    def one_length(self) -> int | None:
        """The number of samples of every window; None if batches differ."""
        return None if isinstance(self.cfg, BucketedWindows) else self.longest

    def __len__(self) -> int:
        """Return the number of places in an epoch."""
        return len(self.places.start)

    def length(self, batch: Places) -> int:
        """Return the number of samples of each window in this batch."""
        if isinstance(self.cfg, BucketedWindows):
            return in_patches(int(batch.n_times.max()), self.cfg, 1.0)
        return self.longest

    def at(self, steps: Sequence[int] | np.ndarray) -> Places:
        """Return the global batches of these steps, concatenated. A rank takes `[rank::size]` of each."""
        places = (np.asarray(steps, np.int64)[:, None] * self.batch + np.arange(self.batch)).ravel()
        item, visit = self._turns.turns(places)
        drawn = self.places.take(item)
        if not isinstance(self.cfg, RandomWindows | StratifiedWindows):
            return drawn
        n_starts = drawn.n_times - self.n_times + 1
        low, high = np.zeros_like(n_starts), n_starts
        if isinstance(self.cfg, StratifiedWindows):
            n_parts = drawn.n_times // self.n_times
            cycle, place = np.divmod(visit, n_parts)
            part = permuted(n_parts, place, key(self.seed, _PART, item, cycle))
            low, high = part * n_starts // n_parts, (part + 1) * n_starts // n_parts
        offset = low + (uniform(places, self.seed, _START) * (high - low)).astype(np.int64)
        return drawn._replace(start=drawn.start + offset, n_times=np.full_like(offset, self.n_times))


def _label(what: str, segment: Segment, recordings: Sequence[Stored]) -> str:
    """Return the value by which a trial is balanced."""
    stored = recordings[segment.recording]
    labels = {"subject": stored.subject, "stimulus": segment.trial.stimulus} | dict(segment.trial.labels)
    if what not in labels:
        raise ValueError(
            f"windows.balance must be one of {', '.join(labels)}, which {segment.trial.stimulus} of {stored.name} has, "
            f"but got {what!r}"
        )
    return str(labels[what])


class _Buckets:
    """Trials of different lengths, each once an epoch, with similar lengths in a batch; all batches are full.

    One epoch runs from short to long and the next from long to short, so that the batch on the border between them fits
    too. The other batches of an epoch are shuffled.
    """

    def __init__(self, lengths: np.ndarray, cfg: BucketedWindows, seed: int) -> None:
        self.n, self.batch, self.seed = len(lengths), cfg.batch, seed
        # A bucket uses half of the allowed padding, as batches across its edge need more
        bucket = (np.log(lengths / lengths.min()) / math.log1p(cfg.padding / 2) + 1e-9).astype(np.int64)
        self._members = np.argsort(bucket, kind="stable")
        _, self._firsts, self._counts = np.unique(bucket[self._members], return_index=True, return_counts=True)
        n_steps = -(-2 * self.n // self.batch)  # two epochs, one up and one down
        read = lengths[self.turns(np.arange(n_steps * self.batch))[0]].reshape(n_steps, self.batch)
        padding = 1 - read.sum() / (read.max(axis=1).sum() * self.batch)
        if padding > cfg.padding:
            raise ValueError(
                f"{padding:.1%} of a batch would be padding, but windows.padding allows {cfg.padding:.1%}: "
                f"trials last {lengths.min()} to {lengths.max()} samples. Take a batch below {self.batch} or allow more"
            )

    def turns(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = np.divmod(self._shuffled(places), self.n)
        place = np.where(epoch % 2, self.n - 1 - place, place)
        bucket = np.searchsorted(self._firsts, place, side="right") - 1
        first, count = self._firsts[bucket], self._counts[bucket]
        within = permuted(count, place - first, key(self.seed, _BUCKET, epoch, bucket))
        return self._members[first + within], epoch

    def _shuffled(self, places: np.ndarray) -> np.ndarray:
        """Shuffle the batches that lie within one epoch."""
        step, row = np.divmod(places, self.batch)
        epoch, last = step * self.batch // self.n, ((step + 1) * self.batch - 1) // self.n
        first = -(-epoch * self.n // self.batch)
        n_whole = np.maximum((epoch + 1) * self.n // self.batch - first, 1)
        moved = first + permuted(n_whole, np.where(epoch == last, step - first, 0), key(self.seed, _BATCH, epoch))
        return np.where(epoch == last, moved, step) * self.batch + row
