"""What it costs to verify what a training reads: an epoch of EEGNet over a store, with and without.

`first attempt` verifies every file, `next attempt` finds that it has been done, `unverified` believes everything, as
before 0.2. `hash alone` is the limit: SHA-256 of the same bytes. Epochs differ by more than a later attempt pays, so
the time of its verification is taken by itself: that of all calls, of all threads together.
"""

import hashlib
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bench.compare import Goal, ratio, rounds, show
from eegdecode import stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store import store
from eegdecode.models.eegnet import EEGNet
from eegdecode.objectives.classification import Classification
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training.config import Optim, Train
from hpc.rank import verification
from hpc.rank.context import Context, Input, World
from hpc.runs import products
from hpc.runs.products import Memory
from hpc.runs.rundir import RunDir

FIRST, NEXT, WITHOUT, HASH = "first attempt", "next attempt", "unverified", "hash alone"
SFREQ, N_CHANNELS, TRIAL_S, BATCH = 250.0, 64, 2.0, 64


def run(quick: bool) -> bool:
    n_recordings, minutes = (4, 2.0) if quick else (8, 10.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_trials = _fill(folder / "store", n_recordings, minutes)
        n_bytes = sum(path.stat().st_size for path in (folder / "store").glob("*.h5"))
        cfg = Train(
            data=(Input(str(folder / "store")),),
            target="side",
            model=EEGNet(),
            objective=Classification(),
            windows=RandomWindows(length_s=TRIAL_S, batch=BATCH),
            optim=Optim(steps=n_trials * n_recordings // BATCH, warmup_steps=0, checkpoint_every=10**6),
        )
        kept = folder / "kept"

        def train(memory: Memory) -> None:
            shutil.rmtree(folder / "run", ignore_errors=True)
            with patch.object(products, "MEMORY", memory), patch.object(verification, "MEMORY", memory):
                stages.train(cfg, Context(World(), RunDir(folder / "run")))

        def remembering() -> _Timed:
            memory = _Timed()
            memory.keep_in(kept, "rank-0000")
            return memory

        def next_attempt() -> None:
            memory = remembering()
            train(memory)
            verifying_s.append(memory.seconds)

        verifying_s: list[float] = []
        train(remembering())
        methods: dict[str, Callable[[], object]] = {
            FIRST: lambda: train(Memory()),
            NEXT: next_attempt,
            WITHOUT: lambda: train(_Believing()),
            HASH: lambda: [_hash(path) for path in (folder / "store").glob("*.h5")],
        }
        seconds = rounds(methods, n=2 if quick else 5)
    later = 1 + statistics.median(verifying_s) / statistics.median(seconds[WITHOUT])
    goals = {
        "first_epoch": Goal(ratio(seconds, FIRST, WITHOUT), 1.03),
        "later_epochs": Goal(later, 1.001),
    }
    print(f"verification of a next attempt: {1e3 * statistics.median(verifying_s):.1f} ms")
    return show(f"an epoch of EEGNet over {n_bytes / 1e6:.0f} MB", seconds, WITHOUT, goals, unit="s")


class _Timed(Memory):
    """Adds up how long it has verified and looked."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._adding = threading.Lock()

    def learn(self) -> bool:
        with self._timed():
            return super().learn()

    def knows(self, path: Path) -> bool:
        with self._timed():
            return super().knows(path)

    def verify(self, path: Path, count: Callable[[int], object] | None = None) -> None:
        with self._timed():
            super().verify(path, count)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._adding:
                self.seconds += time.perf_counter() - began


class _Believing(Memory):
    """Takes every file as it is."""

    def verify(self, path: Path, count: Callable[[int], object] | None = None) -> None: ...

    def knows(self, path: Path) -> bool:
        return True


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fill(folder: Path, n: int, minutes: float) -> int:
    """Write recordings of noise; return the number of trials in each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"sub-{number:02d}" for number in range(1, n + 1)]
    n_trials = int(minutes * 60 / TRIAL_S)
    trials = tuple(
        Trial(number * TRIAL_S, TRIAL_S, f"trial-{number:04d}", {"side": number % 2}) for number in range(n_trials)
    )
    store.write_manifest(folder, names)
    for name in names:
        data = rng.normal(size=(int(minutes * 60 * SFREQ), N_CHANNELS)).astype(np.float32)
        signal = Signal(data, SFREQ, tuple(f"E{number}" for number in range(N_CHANNELS))).stream()
        sides = np.array([[number % 2] for number in range(n_trials)], np.float32)
        store.write(folder, Recording(name, name, signal, trials, values={"side": sides}))
    store.write_index(folder)
    return n_trials
