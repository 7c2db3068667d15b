"""What it costs to open a store of 10,000 recordings: ours, from its one index, and every file opened by h5py."""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.compare import Goal, rounds, show
from eegdecode.data.store import store
from eegdecode.signals import Recording, Signal, Trial

OURS, H5PY, RANDOM = "open the store, draw from 64 recordings", "h5py, every file", "no index, every file by us"

PROGRAM = {
    OURS: """
from eegdecode.data.store import store
opened = store.open_store(folder)
opened.spec("envelope")
for stored in opened.recordings[:: len(opened.recordings) // 64]:
    stored.read(0, 16)
""",
    RANDOM: """
from eegdecode.data.store import store
(folder / "index.json").unlink()
opened = store.open_store(folder)
store.write_index(folder)
""",
    H5PY: """
import h5py
for path in folder.glob("*.h5"):
    with h5py.File(path) as file:
        shape, sfreq = file["signal"].shape, file["signal"].attrs["sfreq"]
        names, trials = file["channels/name"][:], file["trials/start"][:]
""",
}


def run(quick: bool) -> bool:
    n = 1000 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), n)
        peak_mb: dict[str, list[float]] = {name: [] for name in PROGRAM}

        def one(name: str) -> None:
            peak_mb[name].append(_peak_mb(PROGRAM[name], folder))

        seconds = rounds({name: lambda name=name: one(name) for name in PROGRAM}, n=3)  # type: ignore[misc]
    for name, peaks in peak_mb.items():
        print(f"{name}: {statistics.median(peaks):.0f} MB at the most")
    goals = {
        f"seconds_to_open_{n}": Goal(statistics.median(seconds[OURS]), 10),
        "peak_mb": Goal(max(peak_mb[OURS]), 500),
    }
    return show(f"index of {n} recordings", seconds, H5PY, goals)


def _fill(folder: Path, n: int) -> None:
    """Short recordings; what opening costs does not depend on their length."""
    data = np.random.default_rng(0).normal(size=(640, 8)).astype(np.float32)
    signal = Signal(data, 64.0, tuple(f"E{number}" for number in range(8))).stream()
    envelope = {"envelope": Signal(data[:, :1], 64.0, ("envelope",)).stream()}
    trials = tuple(Trial(at / 2, 0.5, f"piece-{at:02d}.wav", {"valence": at / 2}) for at in range(18))
    names = [f"sub-{number // 10:04d}_run-{number % 10:02d}" for number in range(n)]
    store.write_manifest(folder, names)
    for name in names:
        store.write(folder, Recording(name, name.split("_")[0], signal, trials, targets=envelope))
    store.write_index(folder)


def _peak_mb(program: str, folder: str) -> float:
    # Not getrusage: it counts what this process had when it started the other
    text = f"from pathlib import Path\nfolder = Path({folder!r})\n{program}"
    text += "\nprint(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024
