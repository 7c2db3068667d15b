"""The energy that this machine uses while a job is on it, where the machine measures it.

    CPUs and memory    the counters of RAPL, /sys/class/powercap/intel-rapl:*/energy_uj (also AMD's): many sites let
                       only root read them
    GPUs               the power that nvidia-smi reports, times the time

Of a machine whose cores the job shares with others, the job's share of the counters is taken. The supervisor measures
the node that it is on, so only jobs of one node have a figure; of others Slurm has one (ConsumedEnergy), if the site
measures it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
EVERY_S = 20.0
"""How often the counters are read, and nvidia-smi is asked: a counter turns over after a few minutes at the soonest."""
DRAM = "dram"
"""The part of a package that its own counter does not include."""


class Meter:
    """Adds up the energy of a job of one node.

    Parameters
    ----------
    cpus
        The cores of the job, of those of the machine.
    gpus
        How many GPUs the job has; without any, nvidia-smi is not asked.
    """

    def __init__(self, cpus: int, gpus: int, environ: Mapping[str, str], powercap: Path = POWERCAP) -> None:
        self._share = min(1.0, cpus / (os.cpu_count() or 1))
        self._visible = environ.get("CUDA_VISIBLE_DEVICES", "") if gpus else None
        self._counters = {folder: uj for folder in _packages(powercap) if (uj := _microjoules(folder)) is not None}
        self._cpu_uj = 0.0
        self._gpu_j: float | None = None
        self._asking: subprocess.Popen[str] | None = None
        self._power_at = self._read_at = time.monotonic()

    def sample(self) -> None:
        """Read the counters, if it is time; called often."""
        now = time.monotonic()
        self._take_power(now)
        if now - self._read_at >= EVERY_S:
            self._read_counters(now)
            self._ask_power()

    def joules(self) -> float | None:
        """Return what was used since the start; None if nothing here measures it, or may be read."""
        self._read_counters(time.monotonic())
        self._take_power(time.monotonic(), wait=True)
        if not self._counters and self._gpu_j is None:
            return None
        return self._cpu_uj / 1e6 * self._share + (self._gpu_j or 0.0)

    def _read_counters(self, now: float) -> None:
        self._read_at = now
        for folder, before in self._counters.items():
            uj = _microjoules(folder)
            if uj is not None:
                turned = _whole(folder / "max_energy_range_uj") or 0
                self._cpu_uj += uj - before if uj >= before else uj + turned - before
                self._counters[folder] = uj

    def _ask_power(self) -> None:
        if self._visible is None or self._asking is not None:
            return
        which = [f"--id={self._visible}"] if self._visible else []
        command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", *which]
        try:
            self._asking = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:  # no nvidia-smi here: GPUs are not measured
            self._visible = None

    def _take_power(self, now: float, wait: bool = False) -> None:
        """Take the answer of nvidia-smi, if it is there. It may never answer, where a GPU has fallen off the bus."""
        if self._asking is None or (not wait and self._asking.poll() is None):
            return
        try:
            text = self._asking.communicate(timeout=2.0)[0]
        except subprocess.TimeoutExpired:
            self._asking.kill()
            self._visible, text = None, ""
        self._asking = None
        watts = [_number(line) for line in text.splitlines()]
        known = [each for each in watts if each is not None]
        if known:
            self._gpu_j = (self._gpu_j or 0.0) + sum(known) * (now - self._power_at)
            self._power_at = now


def _packages(powercap: Path) -> list[Path]:
    """Return the counters that together are the machine: one for each package, and its memory."""
    folders = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        is_package = folder.name.count(":") == 1
        if is_package or _text(folder / "name") == DRAM:
            folders.append(folder)
    return folders


def _microjoules(folder: Path) -> int | None:
    return _whole(folder / "energy_uj")


def _whole(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # not there, or for root only
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A]
        return None
