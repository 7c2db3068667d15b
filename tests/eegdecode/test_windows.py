"""Windows are pure in (seed, step): any step at once, the same batches on any number of ranks."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from eegdecode.data import Split
from eegdecode.data.splits import Parts, Segment, split
from eegdecode.data.stored import Store
from eegdecode.data.windows import gather, n_samples, train_windows
from eegdecode.signals import Trial


@pytest.fixture
def parts(tiny_store: Store) -> Parts:
    return split(Split(), tiny_store.recordings)


def draw(
    store: Store, parts: Parts, step: int, batch: int = 6, seed: int = 0, length_s: float = 2.0
) -> list[tuple[int, int]]:
    return train_windows(parts.train, store.recordings, length_s, batch, seed, step)


def test_a_far_step_needs_no_history(tiny_store: Store, parts: Parts) -> None:
    stepped = [draw(tiny_store, parts, step) for step in range(1001)]
    assert draw(tiny_store, parts, 1000) == stepped[1000]
    assert len({tuple(batch) for batch in stepped}) == 1001
    assert draw(tiny_store, parts, 1000, seed=1) != stepped[1000]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_ranks_share_out_the_global_batch(tiny_store: Store, parts: Parts, ranks: int) -> None:
    batch = draw(tiny_store, parts, 7, batch=8)
    shares = [draw(tiny_store, parts, 7, batch=8)[rank::ranks] for rank in range(ranks)]
    assert {len(share) for share in shares} == {8 // ranks}
    assert sorted(window for share in shares for window in share) == sorted(batch)


def segment_of(parts: Parts, store: Store, window: tuple[int, int], length: int) -> Segment:
    """The training trial a window lies in, from its first sample to its last."""
    index, start = window
    sfreq = store.recordings[index].sfreq
    (inside,) = [
        segment
        for segment in parts.train
        if segment.recording == index
        and segment.trial.start - 1e-9 <= start / sfreq
        and (start + length) / sfreq <= segment.trial.start + segment.trial.duration + 1e-9
    ]
    return inside


@pytest.mark.parametrize("length_s", [0.5, 2.0, 4.9])
def test_no_window_crosses_a_trial(tiny_store: Store, parts: Parts, length_s: float) -> None:
    for step in range(50):
        for window in draw(tiny_store, parts, step, length_s=length_s):
            segment_of(parts, tiny_store, window, n_samples(length_s, 64.0))


def test_every_trial_comes_once_an_epoch_in_a_new_order(tiny_store: Store, parts: Parts) -> None:
    drawn = [window for step in range(20) for window in draw(tiny_store, parts, step, batch=3)]
    trials = [segment_of(parts, tiny_store, window, 128) for window in drawn]
    n = len(parts.train)
    epochs = [trials[first : first + n] for first in range(0, len(trials) - n + 1, n)]
    assert len(epochs) >= 10 and all(Counter(epoch) == Counter(parts.train) for epoch in epochs)
    assert len({tuple(map(repr, epoch)) for epoch in epochs}) > 3


def test_starts_reach_both_ends_of_a_trial(tiny_store: Store) -> None:
    segment = Segment(0, Trial(1.0, 2.0, "a.wav"))
    starts = {
        start for step in range(60) for _, start in train_windows([segment], tiny_store.recordings, 1.9, 8, 0, step)
    }
    assert starts == set(range(64, 64 + 128 - 122 + 1))


def test_a_window_longer_than_a_trial_is_refused(tiny_store: Store, parts: Parts) -> None:
    with pytest.raises(
        ValueError, match=r"a window of 30 s does not fit into piece-.* of sub-.*, which lasts .*: shorten"
    ):
        draw(tiny_store, parts, 0, length_s=30)


def test_gather_copies_what_stands_in_the_store(tiny_store: Store, parts: Parts) -> None:
    index, starts = zip(*draw(tiny_store, parts, 3), strict=True)
    x, y, whose = gather(tiny_store, index, starts, 128, "envelope")
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((6, 128, 8), (6, 128, 1), np.float32, np.float32)
    for row, (which, start) in enumerate(zip(index, starts, strict=True)):
        stored = tiny_store.recordings[which]
        np.testing.assert_array_equal(x[row], stored.signal[start : start + 128])
        np.testing.assert_array_equal(y[row], stored.target("envelope")[start : start + 128])
        assert tiny_store.subjects[whose[row]] == stored.subject
    x[:] = 0  # ours to change


def test_unlike_rates_are_refused(tiny_store: Store) -> None:
    stored = tiny_store.recordings[0]
    slow = stored.blocks | {"targets/envelope": replace(stored.blocks["targets/envelope"], sfreq=32.0)}
    odd = Store((replace(stored, blocks=slow),))
    with pytest.raises(ValueError, match="signal at 64 Hz but envelope at 32 Hz: preprocess both to the same rate"):
        gather(odd, [0], [0], 10, "envelope")
