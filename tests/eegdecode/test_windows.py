"""Windows cross no trial, and are drawn as their kind says: a pure function of (seed, step), on any ranks."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eegdecode.data.config import (
    BucketedWindows,
    EpochWindows,
    GridWindows,
    RandomWindows,
    Split,
    StratifiedWindows,
    Windows,
)
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.gather import gather
from eegdecode.data.loading.windows import Places, Views, cut
from eegdecode.data.split.splits import Segment, Splits, split
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.signals import Recording, Signal, Trial


def a_store(
    folder: Path, trials: list[tuple[Trial, ...]], sfreq: float = 100.0, duration_s: float = 70.0, **knobs: Any
) -> Store:
    """Noise of three channels, a recording for each tuple of trials, and a counter as target, at 50 times the rate."""
    names = [f"sub-{number:02d}" for number in range(len(trials))]
    store.write_manifest(folder, names)
    n_times = round(duration_s * sfreq)
    for number, (name, own) in enumerate(zip(names, trials, strict=True)):
        noise = np.random.default_rng(number).normal(size=(n_times, 3)).astype(np.float32)
        counter = np.arange(round(duration_s * 160), dtype=np.float32)[:, None]
        streams = {"counter": Signal(counter, 160.0, ("k",)).stream()}
        signal = Signal(noise, sfreq, ("Cz", "Pz", "Oz")).stream()
        store.write(folder, Recording(name, name, signal, own, targets=streams), **knobs)
    return store.open_store(folder)


def all_of(opened: Store) -> list[Segment]:
    return [Segment(index, trial) for index, stored in enumerate(opened.recordings) for trial in stored.trials]


def draw(cfg: Windows, opened: Store, seed: int = 0) -> Draw:
    return Draw(cfg, all_of(opened), opened.recordings, seed)


@pytest.fixture
def twenty(tmp_path: Path) -> Store:
    """Two recordings of three trials of 20 s each."""
    trials = tuple(Trial(1.0 + 22 * number, 20.0, f"{number}.wav", {"loud": number % 2}) for number in range(3))
    return a_store(tmp_path, [trials, trials])


@pytest.fixture
def sets(tiny_store: Store) -> Splits:
    return split(Split(), tiny_store.recordings)


KINDS: list[Windows] = [
    RandomWindows(length_s=4, batch=6),
    RandomWindows(length_s=4, batch=6, per="second"),
    StratifiedWindows(length_s=4, batch=6),
    GridWindows(length_s=4, stride_s=1, batch=6, balance="subject"),
    EpochWindows(tmin_s=-0.5, tmax_s=2, batch=6),
    BucketedWindows(batch=6),
]


@pytest.mark.parametrize("cfg", KINDS, ids=lambda cfg: cfg.name)
def test_a_far_step_needs_no_history_and_ranks_share_it_out(twenty: Store, cfg: Windows) -> None:
    stepped = np.stack(draw(cfg, twenty).at(range(1001)), axis=1).reshape(1001, 6, 4)
    alone = np.stack(draw(cfg, twenty).at([1000]), axis=1)
    np.testing.assert_array_equal(alone, stepped[1000])
    assert len({step.tobytes() for step in stepped}) > 500
    if cfg.name != "buckets":  # six whole trials are always the same six
        assert (np.stack(draw(cfg, twenty, seed=1).at([1000]), axis=1) != alone).any()


@pytest.mark.parametrize("cfg", KINDS, ids=lambda cfg: cfg.name)
def test_no_window_crosses_a_trial(twenty: Store, cfg: Windows) -> None:
    places = draw(cfg, twenty).at(range(200))
    first = 100 + 2200 * places.trial
    early = 50 if isinstance(cfg, EpochWindows) else 0
    assert (places.start >= first - early).all() and (places.start + places.n_times <= first + 2000).all()


def test_every_trial_comes_once_an_epoch_in_a_new_order(tiny_store: Store, sets: Splits) -> None:
    n = len(sets.train)
    places = Draw(RandomWindows(length_s=2, batch=n), sets.train, tiny_store.recordings, 0).at(range(12))
    epochs = np.stack([places.recording, places.trial], axis=1).reshape(12, n, 2)
    wanted = {(index, tiny_store.recordings[index].trials.index(trial)) for index, trial in map(_pair, sets.train)}
    assert all({tuple(each) for each in epoch.tolist()} == wanted for epoch in epochs)
    assert len({epoch.tobytes() for epoch in epochs}) > 3


def _pair(segment: Segment) -> tuple[int, Trial]:
    return segment.recording, segment.trial


def test_starts_reach_both_ends_of_a_trial(tmp_path: Path) -> None:
    opened = a_store(tmp_path, [(Trial(1.0, 2.0, "a"),)], sfreq=64.0)
    starts = draw(RandomWindows(length_s=1.9, batch=8), opened).at(range(60)).start
    assert set(starts.tolist()) == set(range(64, 64 + 128 - 122 + 1))


def second_of(places: Places, n_seconds: int = 20) -> np.ndarray:
    """How often each second of the trials was seen, in samples."""
    seen = np.zeros(n_seconds * 100 + 1)
    offset = places.start - (100 + 2200 * places.trial)
    np.add.at(seen, offset, 1)
    np.add.at(seen, offset + places.n_times, -1)
    return np.cumsum(seen)[:-1].reshape(n_seconds, 100).sum(axis=1)


def test_strata_of_every_trial_are_visited_equally_often_and_starts_are_uniform(twenty: Store) -> None:
    """D17: 4 s in 20 s; at any time, also in the middle of a round."""
    drawn = draw(StratifiedWindows(length_s=4, batch=6), twenty)
    for n_epochs in (1, 3, 5, 17, 2000):
        places = drawn.at(range(n_epochs))
        offset = places.start - (100 + 2200 * places.trial)
        stratum = np.searchsorted([320, 640, 960, 1280], offset, side="right")  # of 1601 starts
        visits = Counter(zip(places.recording.tolist(), places.trial.tolist(), stratum.tolist(), strict=True))
        for recording in range(2):
            for trial in range(3):
                each = [visits[recording, trial, part] for part in range(5)]
                assert sum(each) == n_epochs and max(each) - min(each) <= 1
        # a stratum of the trial is seen by each window that is drawn for it
        assert (offset < 400 * (stratum + 1)).all() and (offset + 400 > 400 * stratum).all()
    assert stats.chisquare(np.bincount(offset, minlength=1601)).pvalue > 0.01


def test_naive_starts_see_the_ends_of_a_trial_an_eighth_as_often_and_a_grid_sees_all_alike(twenty: Store) -> None:
    """D17: the first second of 4 s in 20 s is seen 12.5 % as often as the centre."""
    naive = second_of(draw(RandomWindows(length_s=4, batch=600), twenty).at(range(500)))
    assert naive[0] / naive[8:12].mean() == pytest.approx(0.125, abs=0.003)
    even = second_of(draw(GridWindows(length_s=4, batch=30), twenty).at(range(10)))
    assert (even == even[0]).all() and even[0] > 0


def test_a_grid_is_an_indexable_data_set_of_views(twenty: Store) -> None:
    """D13, also after it went to another process."""
    places, origin = cut(GridWindows(length_s=4, stride_s=2), all_of(twenty), twenty.recordings)
    views = Views(twenty, places)
    assert len(views) == 2 * 3 * 9 == len(origin)
    sent = pickle.dumps(views)
    assert len(sent) < 8000
    for index in (53, 0, 17, 30, 9):
        recording, trial, window = index // 27, index // 9 % 3, index % 9
        first = 100 + 2200 * trial + 200 * window
        raw = twenty.recordings[recording].signal
        assert np.shares_memory(views[index], raw)
        np.testing.assert_array_equal(views[index], raw[first : first + 400])
        np.testing.assert_array_equal(pickle.loads(sent)[index], raw[first : first + 400])
    with pytest.raises(IndexError):
        views[54]


def test_a_session_of_15_minutes_has_4500_windows_within_its_segments(tmp_path: Path) -> None:
    """D9: segments of 60 s, windows of 0.2 s."""
    minutes = tuple(Trial(60.0 * number, 60.0, f"minute {number}") for number in range(15))
    opened = a_store(tmp_path, [minutes], duration_s=900.0)
    places = draw(GridWindows(length_s=0.2, batch=4500), opened).at([0])
    assert len(set(places.start.tolist())) == 4500
    assert (places.start // 6000 == (places.start + places.n_times - 1) // 6000).all()
    assert (places.start // 6000 == places.trial).all()


OFF_GRID = [0.0, 0.001, 0.008, 0.012]  # seconds; a sample lasts 0.015625


@pytest.mark.parametrize("length_s", [4.0, 4.01])
@pytest.mark.parametrize("off_s", OFF_GRID)
def test_a_window_as_long_as_its_trial_fits_wherever_on_the_grid_that_begins(
    tmp_path: Path, off_s: float, length_s: float
) -> None:
    """The last one ends with the recording."""
    trials = tuple(Trial(start + off_s, length_s, f"{start}.wav") for start in (1.0, 10.0))
    opened = a_store(tmp_path, [trials], sfreq=64.0, duration_s=10 + off_s + length_s)
    kinds = [kind(length_s=length_s, batch=2) for kind in (RandomWindows, StratifiedWindows, GridWindows)]
    for cfg in (*kinds, EpochWindows(tmax_s=length_s, batch=2), BucketedWindows(batch=2)):
        places = draw(cfg, opened).at([0])
        assert places.n_times.tolist() == [round(length_s * 64)] * 2
        late_s = np.sort(places.start) / 64 - [trial.start for trial in trials]
        assert (np.abs(late_s) < 1 / 64).all()
        assert (places.start + places.n_times <= opened.recordings[0].n_times).all()


@pytest.mark.parametrize("length_s", [4.0, 4.01])
@pytest.mark.parametrize("off_s", OFF_GRID)
def test_trials_that_follow_each_other_share_no_sample_wherever_on_the_grid_they_begin(
    tmp_path: Path, off_s: float, length_s: float
) -> None:
    trials = tuple(Trial(off_s + length_s * number, length_s, f"{number}.wav") for number in range(6))
    opened = a_store(tmp_path, [trials], sfreq=64.0, duration_s=25.0)
    places = draw(BucketedWindows(batch=6), opened).at([0])
    order = np.argsort(places.start)
    start, end = places.start[order], (places.start + places.n_times)[order]
    assert (start[1:] == end[:-1]).all()
    assert length_s > 4 or (places.n_times == 256).all()
    cfg = EpochWindows(tmax_s=4.0)
    sets = split(Split(by="trial", shared=("subject", "stimulus")), opened.recordings, cfg)
    assert len(Draw(cfg, sets.train, opened.recordings, 0)) == len(sets.train)


@pytest.mark.parametrize(("length_s", "said", "padded"), [(0.2, "200 samples is 12.5", 208), (0.5, "500.* 31.25", 512)])
def test_a_window_that_is_no_whole_number_of_patches_is_refused_or_wrapped(
    tmp_path: Path, length_s: float, said: str, padded: int
) -> None:
    """D11. A window that fits already is left alone."""
    opened = a_store(tmp_path, [(Trial(1.0, 5.0, "a"),)], sfreq=1000.0, duration_s=7.0)
    with pytest.raises(ValueError, match=rf"{said} patches of 16: take .* or set windows.wrap=true"):
        draw(RandomWindows(length_s=length_s, patch=16), opened)
    assert draw(RandomWindows(length_s=length_s, patch=16, wrap=True), opened).longest == padded
    assert draw(RandomWindows(length_s=0.208, patch=16, wrap=True), opened).longest == 208


def test_locked_windows_stand_around_the_trials_and_reach_into_others_only_where_that_is_wanted(
    tmp_path: Path,
) -> None:
    close = tuple(Trial(1 + 0.1 * number, 0.1, f"{number}.png") for number in range(50))
    opened = a_store(tmp_path, [close])
    with pytest.raises(ValueError, match=r"window of 0.png at 1.00 s of sub-00 reaches into 1.png at 1.10 s: shorten"):
        draw(EpochWindows(tmin_s=-0.1, tmax_s=0.8), opened)
    with pytest.raises(ValueError, match=r"window of 1.png .* reaches into 0.png at 1.00 s"):
        Draw(EpochWindows(tmin_s=-0.1, tmax_s=0.1), all_of(opened)[1:2], opened.recordings, 0)
    places = draw(EpochWindows(tmin_s=-0.1, tmax_s=0.8, overlap=True, batch=50), opened).at([0])
    assert sorted(places.start.tolist()) == list(range(90, 590, 10)) and set(places.n_times.tolist()) == {90}
    with pytest.raises(ValueError, match="from -2 to 0.1 s after 0.png at 1.00 s of sub-00 leaves the recording"):
        draw(EpochWindows(tmin_s=-2, tmax_s=0.1, overlap=True), opened)


@pytest.mark.parametrize("batch", [8, 20])
def test_buckets_pad_little_and_have_every_trial_once_an_epoch(tmp_path: Path, batch: int) -> None:
    """D18: lengths of 19, 20 and 21 s."""
    lengths = np.random.default_rng(0).choice([19, 20, 21], 50)
    trials = [(Trial(1.0, float(length), "a"), Trial(30.0, float(length), "b")) for length in lengths]
    drawn = draw(BucketedWindows(batch=batch), a_store(tmp_path, trials, sfreq=10.0))
    n_epochs = 2 * batch
    places = drawn.at(range(n_epochs * 100 // batch))
    each = np.stack([places.recording, places.trial], axis=1).reshape(n_epochs, 100, 2)
    assert all(len({tuple(pair) for pair in epoch.tolist()}) == 100 for epoch in each)
    read = places.n_times.reshape(-1, batch)
    assert 1 - read.sum() / (read.max(axis=1).sum() * batch) <= 0.05
    assert len({step.tobytes() for step in read[: 100 // batch]}) > 1  # not in the order of lengths
    assert (np.diff(read.max(axis=1)) < 0).any() and (np.diff(read.max(axis=1)) > 0).any()


def test_buckets_that_would_mostly_pad_are_refused(tmp_path: Path) -> None:
    opened = a_store(tmp_path, [(Trial(1.0, 2.0, "a"), Trial(10.0, 40.0, "b"))], sfreq=10.0)
    with pytest.raises(ValueError, match=r"47.5% of a batch would be padding, .* allows 5.0%: trials last 20 to"):
        draw(BucketedWindows(batch=2), opened)


def test_classes_are_balanced_by_a_label_and_subsets_are_nested(twenty: Store) -> None:
    places = draw(GridWindows(length_s=4, batch=10, balance="loud"), twenty).at(range(100))
    assert Counter((places.trial % 2).tolist()) == {0: 500, 1: 500}
    with pytest.raises(ValueError, match="balance must be one of subject, stimulus, loud, which .* but got 'lound'"):
        draw(GridWindows(balance="lound"), twenty)

    def trials_of(fraction: float) -> set[tuple[int, int]]:
        part = draw(RandomWindows(length_s=4, batch=6, subset=fraction), twenty).at(range(20))
        return set(zip(part.recording.tolist(), part.trial.tolist(), strict=True))

    assert [len(trials_of(fraction)) for fraction in (0.01, 0.5, 1.0)] == [1, 3, 6]
    assert trials_of(0.01) < trials_of(0.5) < trials_of(1.0)


def test_trials_come_as_often_as_they_are_long_where_that_is_wanted(tmp_path: Path) -> None:
    opened = a_store(tmp_path, [(Trial(1.0, 5.0, "a"), Trial(10.0, 45.0, "b"))])
    places = draw(RandomWindows(length_s=1, per="second", batch=100), opened).at(range(100))
    assert stats.binomtest(int((places.trial == 0).sum()), 10_000, 0.1).pvalue > 0.001


def test_a_window_longer_than_a_trial_is_refused(tiny_store: Store, sets: Splits) -> None:
    for cfg in (RandomWindows(length_s=30), StratifiedWindows(length_s=30), GridWindows(length_s=30)):
        with pytest.raises(
            ValueError, match=r"a window of 30 s does not fit into piece-.* of sub-.*, which lasts .*: sh"
        ):
            Draw(cfg, sets.train, tiny_store.recordings, 0)
    with pytest.raises(ValueError, match=r"a window of 0.001 s has no sample at 64 Hz: lengthen it"):
        Draw(RandomWindows(length_s=0.001), sets.train, tiny_store.recordings, 0)


@pytest.mark.parametrize(
    ("cfg", "knobs", "message"),
    [
        (RandomWindows, {"length_s": 0}, "length above 0 s, got 0"),
        (RandomWindows, {"batch": 0}, "a batch and a patch of 1 at least, got 0 and 1"),
        (RandomWindows, {"subset": 0}, "above 0 and up to 1, got 0"),
        (RandomWindows, {"per": "second", "balance": "subject"}, "and balance subject: choose one"),
        (GridWindows, {"stride_s": 0.0}, "stride_s must be above 0 s, got 0"),
        (EpochWindows, {"tmin_s": 1.0}, "tmin_s must come before tmax_s, got 1.0 and 1.0 s"),
        (BucketedWindows, {"padding": 1.0}, "above 0 and below 1, got 1.0"),
        (BucketedWindows, {"wrap": False}, "leave wrap and balance at their defaults"),
    ],
)
def test_nonsense_is_refused(cfg: Any, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cfg(**knobs)


@pytest.mark.parametrize("int16", [False, True])
def test_gather_copies_what_stands_in_the_store(tmp_path: Path, int16: bool) -> None:
    opened = a_store(tmp_path, [(Trial(1.0, 20.0, "a"),), (Trial(3.0, 9.0, "b"),)], int16=int16)
    places = draw(RandomWindows(length_s=4, batch=6), opened).at([3])
    x, _, subjects = gather(opened, places, "counter")
    assert (x.shape, x.dtype, subjects.tolist()) == ((6, 400, 3), np.float32, places.recording.tolist())
    for row in range(6):
        start = int(places.start[row])
        wanted = opened.recordings[places.recording[row]].read(start, start + 400)
        np.testing.assert_array_equal(x[row], wanted)
        np.testing.assert_array_equal(Views(opened, places)[row], wanted)
    x[:] = 0  # ours to change


@pytest.mark.parametrize("sfreq", [100.0, 128.0, 1000.0, 29.97])
def test_a_target_of_another_rate_is_cut_at_the_windows_own_times(tmp_path: Path, sfreq: float) -> None:
    """Each value tells its own number: the first is the nearest in time to the window's first sample."""
    opened = a_store(tmp_path, [(Trial(0.0, 30.0, "a"),)], sfreq=sfreq, duration_s=30.0)
    places = draw(RandomWindows(length_s=2, batch=200), opened).at([0])
    values = gather(opened, places, "counter").target[:, :, 0]
    n_values = round(round(2 * sfreq) * 160 / sfreq)
    assert values.shape == (200, n_values)
    off_s = values[:, 0] / 160 - places.start / sfreq
    assert np.abs(off_s).max() <= 0.5 / 160 + 1e-6
    np.testing.assert_array_equal(np.diff(values, axis=1), 1)


def test_a_target_shorter_than_its_recording_is_refused_by_name(twenty: Store) -> None:
    (first, *_) = twenty.recordings
    block = first.blocks["targets/counter"]
    short = replace(first, blocks=first.blocks | {"targets/counter": replace(block, shape=(160, 1))})
    places = Places(*(np.array([value]) for value in (0, 0, 100, 400)))
    with pytest.raises(ValueError, match="counter of sub-00 ends after 160 samples, but a window needs it up to 800"):
        gather(Store((short,)), places, "counter")
