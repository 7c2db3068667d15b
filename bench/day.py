"""The memory that a recording of a day takes: 64 channels at 1 kHz for 24 hours, from reader to store, in a process of
its own. 22 GB as float32, which mne's way holds at least once."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.compare import Goal, show
from eegdecode.data.store import store
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.notch import Notch
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.signals import Recording, Stream

N_CHANNELS, SFREQ = 64, 1000.0
CHAIN = (Reference(), Notch(), Bandpass(low_hz=0.5, high_hz=100.0), Resample(sfreq=256.0), Scale())
MINUTE = int(60 * SFREQ)


def run(quick: bool) -> bool:
    hours = 1 if quick else 24
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "bench.day", str(hours), folder]
        peak_mb = float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    whole_mb = hours * 3600 * SFREQ * N_CHANNELS * 4 / 1e6
    print(f"{hours} h: {peak_mb:.0f} MB at the most, where the samples alone are {whole_mb:.0f} MB")
    seconds = {"reader to store": [time.perf_counter() - began]}
    return show(f"{hours} h x {N_CHANNELS} channels x 1 kHz", seconds, "reader to store", {
        "peak_mb": Goal(peak_mb, 1500)
    }, "s")  # fmt: skip


def day(hours: float) -> Stream:
    """The same minute of noise over and over, so that making it costs nothing."""
    minute = np.random.default_rng(0).normal(0, 2e-5, (MINUTE, N_CHANNELS)).astype(np.float32)

    def read(first: int, stop: int) -> np.ndarray:
        return minute.take(np.arange(first, stop), axis=0, mode="wrap")

    return Stream(tuple(f"E{n}" for n in range(N_CHANNELS)), SFREQ, int(hours * 3600 * SFREQ), read)


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    signal = chains.apply(CHAIN, day(float(sys.argv[1])), scratch=folder)
    store.write(folder, Recording("day", "sub-01", signal, ()))
    print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
