"""The loader gives the same batch of (seed, step) with any workers, reports errors, and leaves nothing behind."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from eegdecode.data.config import BucketedWindows, EpochWindows, RandomWindows, Windows
from eegdecode.data.loading.gather import Source, StoreFiles, gather
from eegdecode.data.loading.loader import Loader, cores
from eegdecode.data.loading.ring import Ring
from eegdecode.data.loading.windows import n_baseline
from eegdecode.data.store.dataset import Store
from eegdecode.signals import Trial
from tests.eegdecode.test_windows import a_store, draw
from tests.eegdecode.transforms import plus_place, unlucky
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Store:
    trials = tuple(Trial(1.0 + 21 * number, 19.0 + number, f"{number}.wav") for number in range(3))
    return a_store(tmp_path_factory.mktemp("store"), [trials] * 4)


CFG = RandomWindows(length_s=4, batch=8)


def taken(loader: Loader, step: int, n: int) -> list[list[np.ndarray]]:
    """Copies of the next batches: their memory is used again."""
    with contextlib.closing(loader):
        return [[tensor.numpy().copy() for tensor in batch] for batch in loader.at(step, step + n)]


@pytest.mark.parametrize("how", [{"threads": 3}, {"slots": 2}, {"slots": 6, "threads": 2}, {"processes": 2}])
def test_a_batch_is_the_same_however_it_is_filled(opened: Store, how: dict[str, int]) -> None:
    batches = taken(Loader(opened, draw(CFG, opened), "counter", **how), 130, 12)  # type: ignore[arg-type]
    assert len(batches) == 12
    for step, batch in enumerate(batches, 130):
        wanted = gather(opened, draw(CFG, opened).at([step]), "counter")
        for loaded, array in zip(batch, wanted, strict=True):
            np.testing.assert_array_equal(loaded, array)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_together_have_the_global_batch(opened: Store, size: int) -> None:
    shares = [taken(Loader(opened, draw(CFG, opened), "counter", rank=rank, size=size), 5, 3) for rank in range(size)]
    for number, step in enumerate((5, 6, 7)):
        wanted = gather(opened, draw(CFG, opened).at([step]), "counter")
        for rank in range(size):
            for loaded, array in zip(shares[rank][number], wanted, strict=True):
                np.testing.assert_array_equal(loaded, array[rank::size])


def test_ranks_that_cannot_share_a_batch_and_rings_too_small_are_refused(opened: Store) -> None:
    with pytest.raises(ValueError, match="3 ranks cannot share a batch of 8 evenly"):
        Ring(opened, draw(CFG, opened), size=3)
    with pytest.raises(ValueError, match="a ring needs 2 slots and a thread at least, got 1 slots, 1 threads"):
        Ring(opened, draw(CFG, opened), slots=1)


def test_it_begins_anew_anywhere_and_drops_what_it_had_in_hand(opened: Store) -> None:
    with contextlib.closing(Loader(opened, draw(CFG, opened), "counter", threads=2)) as loader:
        early = loader.at(0)
        first = next(early).signal.clone()
        far = next(loader.at(10**9)).signal.clone()
        again = next(loader.at(0)).signal.clone()
        with pytest.raises(AssertionError, match="started again"):
            next(early)
    assert torch.equal(first, again)
    np.testing.assert_array_equal(far, gather(opened, draw(CFG, opened).at([10**9]), "counter").signal)


def test_without_a_target_there_is_none(opened: Store) -> None:
    ((signal_, target, _),) = taken(Loader(opened, draw(CFG, opened)), 0, 1)
    assert signal_.shape == (8, 400, 3) and target.size == 0


def test_whole_numbers_are_scaled_where_they_arrive_and_channels_come_first(tmp_path: Path) -> None:
    small = a_store(tmp_path, [(Trial(1.0, 19.0, "a"),), (Trial(4.0, 19.0, "b"),)], int16=True)
    loader = Loader(small, draw(CFG, small), channels_first=True)
    assert loader.ring.dtype == np.int16
    ((signal, _, _),) = taken(loader, 3, 1)
    wanted = gather(small, draw(CFG, small).at([3]), "").signal
    assert signal.dtype == np.float32 and signal.flags.c_contiguous
    np.testing.assert_array_equal(signal, wanted.transpose(0, 2, 1))


@pytest.mark.parametrize("int16", [False, True])
def test_the_start_of_a_window_has_mean_0_in_training_and_where_it_is_judged(tmp_path: Path, int16: bool) -> None:
    opened = a_store(tmp_path, [(Trial(1.0, 19.0, "a"),), (Trial(4.0, 19.0, "b"),)], int16=int16)
    cfg = EpochWindows(tmin_s=-0.5, tmax_s=2.5, baseline_s=0.5, batch=2)
    plain = gather(opened, draw(cfg, opened).at([3]), "").signal
    wanted = plain - plain[:, :50].mean(axis=1, keepdims=True)
    ((trained, _, _),) = taken(Loader(opened, draw(cfg, opened)), 3, 1)
    judged = gather(opened, draw(cfg, opened).at([3]), "", baseline=n_baseline(cfg, 100.0)).signal
    np.testing.assert_allclose(trained, wanted, atol=1e-6)
    np.testing.assert_allclose(judged, wanted, atol=1e-6)
    assert abs(plain[:, :50].mean(axis=1)).max() > 0.1


def test_a_baseline_that_is_no_part_of_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="baseline_s cannot be longer than a window, which lasts 3 s, got 4 s"):
        EpochWindows(tmin_s=-0.5, tmax_s=2.5, baseline_s=4)
    with pytest.raises(ValueError, match="baseline_s must be above 0 s, or 0 for none, got -1"):
        RandomWindows(baseline_s=-1)


@pytest.mark.parametrize("cfg", [BucketedWindows(batch=4, patch=16), RandomWindows(length_s=4.1, patch=16, wrap=True)])
def test_what_is_too_short_goes_on_from_its_start(opened: Store, cfg: Windows) -> None:
    drawn = draw(cfg, opened)
    with contextlib.closing(Ring(opened, drawn, "counter")) as ring:
        for signal_, target, places in ring.at(0, 9):
            length = signal_.shape[1]
            assert length % 16 == 0 and length - places.n_times.max() < 16
            assert target.shape == (cfg.batch, round(length * 1.6), 1)
            for row in range(cfg.batch):
                start, n_times = int(places.start[row]), int(places.n_times[row])
                raw = opened.recordings[places.recording[row]].signal[start : start + n_times]
                np.testing.assert_array_equal(signal_[row], np.resize(raw, (length, 3)))
                n_values = round(n_times * 1.6)
                np.testing.assert_array_equal(target[row], np.resize(target[row, :n_values], target[row].shape))


@pytest.mark.parametrize("how", [{}, {"threads": 2}, {"processes": 2}])
def test_a_transform_knows_the_place_of_a_window_on_any_rank(opened: Store, how: dict[str, int]) -> None:
    for rank in (0, 1):
        loader = Loader(opened, draw(CFG, opened), rank=rank, size=2, transform=plus_place, **how)  # type: ignore[arg-type]
        ((signal, _, _),) = taken(loader, 2, 1)
        plain = gather(opened, draw(CFG, opened).at([2]), "").signal
        wanted = plain + np.arange(16, 24, dtype=np.float32)[:, None, None]
        np.testing.assert_array_equal(signal, wanted[rank::2])


@pytest.mark.parametrize("how", [{"threads": 2}, {"processes": 2}])
def test_an_error_reaches_the_caller_with_its_trace(opened: Store, how: dict[str, int]) -> None:
    loader = Loader(opened, draw(CFG, opened), transform=unlucky, **how)  # type: ignore[arg-type]
    with contextlib.closing(loader):
        batches = loader.at(0)
        next(batches), next(batches)
        with pytest.raises(ZeroDivisionError, match="window 21") as caught:
            next(batches)
        assert "in unlucky" in "".join(traceback.format_exception(caught.value))
        assert next(loader.at(3)).signal.shape == (8, 400, 3)  # and it can go on


def from_a_script(window: np.ndarray, place: int) -> None: ...


from_a_script.__module__ = "__main__"


def test_what_processes_cannot_have_is_refused(opened: Store) -> None:
    with pytest.raises(ValueError, match="cannot import .*from_a_script.* from a script: put it into a module"):
        Ring(opened, draw(CFG, opened), transform=from_a_script, processes=1)
    with pytest.raises(ValueError, match="processes cannot be sent .*lambda"):
        Ring(opened, draw(CFG, opened), transform=lambda window, place: None, processes=1)


def test_processes_are_started_once_and_heed_no_signal(opened: Store) -> None:
    loader = Loader(opened, draw(CFG, opened), processes=2)
    pids = loader.ring.pids
    assert len(set(pids)) == 2
    for epoch in range(3):
        for number, _ in enumerate(loader.at(epoch * 4, epoch * 4 + 4)):
            if number == 1:
                for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
                    [os.kill(pid, each) for pid in pids]
        assert loader.ring.pids == pids
    loader.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_was_killed_is_named(opened: Store) -> None:
    loader = Loader(opened, draw(CFG, opened), processes=2)
    with contextlib.closing(loader):
        batches = loader.at(0)
        next(batches)
        victim = loader.ring.pids[1]
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=rf"loader process {victim} ended with code -9 .* memory ran out"):
            list(islice(batches, 4))


PARENT = """
import os, pickle, sys, time
from eegdecode.data.loading.ring import Ring
store, draw = pickle.load(open(sys.argv[1], "rb"))
ring = Ring(store, draw, processes=2)
next(ring.at(0))
fork = os.fork()  # holds all that its parent has open
if fork:
    print(fork, *ring.pids, flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_rank_that_was_killed(opened: Store, tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(pickle.dumps((opened, draw(CFG, opened))))
    before = set(os.listdir("/dev/shm"))
    command = [sys.executable, "-c", PARENT, str(tmp_path / "ring")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as parent:
        assert parent.stdout is not None
        fork, *pids = (int(pid) for pid in parent.stdout.readline().split())
        parent.kill()
    assert len(pids) == 2
    wait_for(lambda: not any(_runs(pid) for pid in pids), f"{pids} end with their parent")
    os.kill(fork, signal.SIGKILL)
    assert not {name for name in set(os.listdir("/dev/shm")) - before if "ring" in name or name.startswith("psm_")}


def _runs(pid: int) -> bool:
    """Not so when it is dead and only waits for someone to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_threads_end_with_the_loader(opened: Store) -> None:
    before = threading.active_count()
    loader = Loader(opened, draw(CFG, opened), threads=3)
    next(loader.at(0))
    assert threading.active_count() == before + 3
    loader.close()
    assert threading.active_count() == before


def test_what_was_waited_for_is_told(opened: Store) -> None:
    def slow(window: np.ndarray, place: int) -> None:
        time.sleep(0.005)

    with contextlib.closing(Loader(opened, draw(CFG, opened), transform=slow)) as loader:
        next(loader.at(0))
        assert loader.wait_s >= 8 / 2 * 0.005  # by the thread and by who waits


def test_a_rank_uses_its_share_of_the_cores() -> None:
    n = len(os.sched_getaffinity(0))
    assert (cores(), cores(local_size=n), cores(local_size=4 * n)) == (n, 1, 1)


def test_storage_is_asked_ahead_for_what_is_not_in_memory(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of every window is asked for, and only if it is cold."""
    places = draw(CFG, opened).at(range(40))
    asked: list[int] = []
    looked: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, at, n, advice: asked.append(n))
    storage = StoreFiles(opened)
    with monkeypatch.context() as cold:
        cold.setattr(os, "preadv", _refuse)
        storage.ask(places)
    assert storage.is_cold and sum(asked) == 320 * 400 * 3 * 4

    asked.clear()
    monkeypatch.setattr(os, "preadv", lambda *what: not looked.append(1))
    storage.ask(places)  # all of it is looked at once
    assert not storage.is_cold and len(looked) == 2 * 320
    storage.ask(places)  # then one window of each batch
    assert (len(looked), asked) == (2 * 321, [])


def _refuse(*what: object) -> int:
    raise BlockingIOError


def test_what_is_read_cold_is_what_is_mapped(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eegdecode.data.loading.gather.OPEN_FILES", 2)
    places = draw(CFG, opened).at(range(10))
    storage, source = StoreFiles(opened), Source(opened, "")
    assert storage.is_cold
    signal_, none = np.empty((80, 400, 3), np.float32), np.empty((80, 0, 0), np.float32)
    source.fill(places, signal_, none, storage)
    np.testing.assert_array_equal(signal_, gather(opened, places, "").signal)
    with pytest.raises(ValueError, match="gave 0 of 4800 bytes .* cut off, preprocess again"):
        storage.read(0, 10**9, signal_[0])
