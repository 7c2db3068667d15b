"""From a raw file to the HDF5 store: mne's two ways, in memory, and ours, in blocks. 20 channels, 1 kHz to 256 Hz.

All do the same: notch at the mains and its harmonics, FIR band-pass, 256 Hz, z-score. Recording-hours per minute, peak
memory of a process at one and two hours, two processes beside one; how far the numbers are from those of mne's filters
and scipy's resample_poly in float64, and by how much time is shifted. All in one thread a process, as the stage has it.
"""

import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from bench.compare import Goal, processor, ratio, rounds, show
from eegdecode.signals import Signal
from hpc.rank import threads

N_CHANNELS, SFREQ, TO_HZ = 20, 1000.0, 256.0
LOW_HZ, HIGH_HZ = 0.5, 100.0
MAINS = np.arange(50.0, SFREQ / 2, 50.0)
MINUTES = 10  # written once, and over and over for longer recordings
OURS, DEFAULT, POLYPHASE = "ours", "mne, default", "mne, polyphase"
ONE, TWO = "ours, 2 recordings, 1 process", "ours, 2 recordings, 2 processes"
INTERIOR_S = 20
BUSY = 0.3
"""Cores that others may want of those that two processes leave, and it still counts."""


def run(quick: bool) -> bool:
    with threads.one():
        return _run(quick)


def _run(quick: bool) -> bool:
    hours, n = (0.5, 3) if quick else (1.0, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder, hours)
        methods = (OURS, DEFAULT, POLYPHASE)
        cpu = {method: _Cpu() for method in methods}
        seconds = rounds({method: cpu[method].of(partial(process, method, path, folder)) for method in methods}, n)
        difference, shift_ms = exact(folder, OURS)
        memory = {method: peak_mb(method, write(folder, 1.0), folder) for method in methods}
        twice = peak_mb(OURS, write(folder, 2.0), folder)
        goals = {
            "mne_default_over_ours": Goal(ratio(seconds, DEFAULT, OURS), 5, at_least=True),
            "mne_polyphase_over_ours": Goal(ratio(seconds, POLYPHASE, OURS), 2, at_least=True),
            "largest_difference_in_std": Goal(difference, 1e-6),
            "shift_ms": Goal(shift_ms, 1e-3),
            "memory_of_twice_as_long": Goal(twice / memory[OURS], 1.15),
            "memory_over_mne_default": Goal(memory[OURS] / memory[DEFAULT], 0.25),
        }
        reached = show(f"{hours:g} h from file to store", seconds, OURS, goals, "s")
        for method, values in seconds.items():
            rate = 60 * hours / statistics.median(values)
            print(
                f"{method}: {rate:.0f} recording-hours per minute, {memory[method]:.0f} MiB for an hour; {cpu[method]}"
            )
        print(f"{OURS}: {twice:.0f} MiB for two hours")
        print(
            f"{DEFAULT}: shifted by {exact(folder, DEFAULT)[1]:.1f} ms where the length is no multiple of 125 samples"
        )
        print(_machine())
        return _two_processes(n) and reached


class _Cpu:
    """The CPU seconds of a method, round by round: its own, and the system's in its name."""

    def __init__(self) -> None:
        self.own: list[float] = []
        self.systems: list[float] = []

    def of(self, work: Callable[[], object]) -> Callable[[], None]:
        def measured() -> None:
            before = resource.getrusage(resource.RUSAGE_SELF)
            work()
            after = resource.getrusage(resource.RUSAGE_SELF)
            self.own.append(after.ru_utime - before.ru_utime)
            self.systems.append(after.ru_stime - before.ru_stime)

        return measured

    def __str__(self) -> str:
        own, systems = (statistics.median(values) for values in (self.own, self.systems))
        return f"{own:.2f} CPU seconds of its own, {systems:.2f} of the system"


def _machine() -> str:
    """What the ratios hang on beside our code: the kernels of BLAS, and what the system takes for handing out memory,
    which mne asks for much of."""
    kernels = {pool["architecture"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    huge = re.search(r"\[(\w+)\]", Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text())
    return f"{processor()}; BLAS for {', '.join(sorted(kernels))}; huge pages: {huge[1] if huge else 'unknown'}"


def _two_processes(n: int) -> bool:
    """In memory: it is about cores, not about the disk. Where others want the cores too, CPU seconds tell more."""
    others = os.getloadavg()[0] - 1
    spawn, cpu_s = multiprocessing.get_context("spawn"), defaultdict[str, list[float]](list)
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        ProcessPoolExecutor(2, spawn, initializer=threads.cap, initargs=(1,)) as pool,
    ):
        path = write(Path(name), 0.5)
        outs = [Path(name) / "first", Path(name) / "second"]
        methods = {
            ONE: lambda: cpu_s[ONE].extend(map(_cpu_s, [path, path], outs)),
            TWO: lambda: cpu_s[TWO].extend(pool.map(_cpu_s, [path, path], outs)),
        }
        seconds = rounds(methods, n)
    goals = {"one_process_over_two": Goal(ratio(seconds, ONE, TWO), 1.7, at_least=True)}
    reached = show("two processes", seconds, TWO, goals, "s")
    alone, beside = (statistics.median(cpu_s[method]) for method in (ONE, TWO))
    print(f"CPU seconds a recording: {alone:.2f} alone, {beside:.2f} side by side")
    if not reached and others > len(os.sched_getaffinity(0)) - 2 + BUSY:
        print(
            f"short on a busy machine: before it began, others wanted {others:.1f} cores; two processes want two alone"
        )
    return reached


def _cpu_s(path: Path, folder: Path) -> float:
    began = time.process_time()
    process(OURS, path, folder)
    return time.process_time() - began


def write(folder: Path, hours: float) -> Path:
    """A BrainVision file: noise on drifts and offsets, and mains."""
    from eegdecode.synth import formats

    path = folder / f"{hours:g}h.vhdr"
    if not path.exists():
        formats.write_brainvision(path, _signal(MINUTES * 60_000))
        data = path.with_suffix(".eeg").read_bytes()
        with open(path.with_suffix(".eeg"), "ab") as file:
            for _ in range(round(hours * 60 / MINUTES) - 1):
                file.write(data)
    return path


def process(method: str, path: Path, folder: Path) -> None:
    import h5py
    import mne

    folder.mkdir(exist_ok=True)
    if method == OURS:
        _ours(path, folder)
        return
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    raw.notch_filter(MAINS, verbose="error").filter(LOW_HZ, HIGH_HZ, verbose="error")
    raw.resample(TO_HZ, method="fft" if method == DEFAULT else "polyphase", verbose="error")
    data = raw.get_data()
    data = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, keepdims=True)
    with h5py.File(folder / "mne.h5", "w") as file:
        file["signal"] = data.T.astype(np.float32)


def _ours(path: Path, folder: Path) -> None:
    import mne

    from eegdecode.data.store import store
    from eegdecode.preprocessing import chains
    from eegdecode.preprocessing.steps.bandpass import Bandpass
    from eegdecode.preprocessing.steps.notch import Notch
    from eegdecode.preprocessing.steps.resample import Resample
    from eegdecode.preprocessing.steps.scale import Scale
    from eegdecode.signals import Recording, Stream

    raw = mne.io.read_raw(path, verbose="error")
    stream = Stream(tuple(raw.ch_names), SFREQ, raw.n_times, lambda first, stop: raw[:, first:stop][0].T)
    chain = (
        Notch(),
        Bandpass(low_hz=LOW_HZ, high_hz=HIGH_HZ),
        Resample(sfreq=TO_HZ),
        Scale(method="standard", clip=1e3),
    )
    store.write(folder, Recording("ours", "01", chains.apply(chain, stream, scratch=folder), ()))


def peak_mb(method: str, path: Path, folder: Path) -> float:
    words = [sys.executable, "-m", "bench.preprocess", method, str(path), str(folder)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def exact(folder: Path, method: str) -> tuple[float, float]:
    """The largest difference from float64 filters and resample_poly, in standard deviations, and shift, in ms."""
    import h5py
    import mne
    from scipy import signal as dsp

    from eegdecode.synth import formats

    path = folder / "odd.vhdr"
    formats.write_brainvision(path, _signal(300_002))
    process(method, path, folder)
    with h5py.File(folder / ("ours.h5" if method == OURS else "mne.h5")) as file:
        made = file["signal"][:].T.astype(np.float64)
    data = mne.io.read_raw(path, preload=True, verbose="error").get_data()
    data = mne.filter.notch_filter(data, SFREQ, MAINS, method="fir", verbose="error")
    data = mne.filter.filter_data(data, SFREQ, LOW_HZ, HIGH_HZ, verbose="error")
    up, down = Fraction(TO_HZ / SFREQ).limit_denominator(1000).as_integer_ratio()
    data = dsp.resample_poly(data, up, down, axis=1)
    middle = slice(round(INTERIOR_S * TO_HZ), -round(INTERIOR_S * TO_HZ))
    made, wanted = (x[:, middle] - x[:, middle].mean(axis=1, keepdims=True) for x in (made, data))
    made, wanted = (x / x.std(axis=1, keepdims=True) for x in (made, wanted))
    slope = np.gradient(wanted, axis=1) * TO_HZ / 1000  # per ms
    parts = zip(*(np.array_split(x, 4, axis=1) for x in (slope, wanted - made)), strict=True)  # a shift may grow
    shift_ms = max(abs(float((steep * away).sum() / (steep**2).sum())) for steep, away in parts)
    return float(np.abs(made - wanted).max()), shift_ms


def _signal(n: int) -> Signal:
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.normal(size=(n, N_CHANNELS)), axis=0) / np.sqrt(SFREQ)
    mains = np.sin(2 * np.pi * 50 * np.arange(n) / SFREQ)[:, None]
    data = 1e-5 * (rng.normal(size=(n, N_CHANNELS)) + drift + mains) + 1e-3
    return Signal(data.astype(np.float32), SFREQ, tuple(f"E{index + 1}" for index in range(N_CHANNELS)))


if __name__ == "__main__":
    threads.cap(1)
    process(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    # Not getrusage: that remembers what the parent had when it forked
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(int(peak) / 1024)
