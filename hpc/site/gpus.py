"""The GPUs of this machine, NVIDIA's and AMD's, without a GPU library: how many there are, which are visible, and their
driver. What a rank could use of them is known to torch alone (hpc/rank/ddp.py)."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

NVIDIA, AMD = "nvidia", "amd"
VISIBLE = {
    NVIDIA: ("CUDA_VISIBLE_DEVICES",),
    AMD: ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}
"""The variables that hide GPUs from a process. ROCm has three, which all apply: Slurm sets the first."""
ROOT = Path("/")
PATIENCE_S = 5.0
"""nvidia-smi may never answer where a GPU has fallen off the bus."""


def count(environ: Mapping[str, str], root: Path = ROOT) -> int:
    """Count the GPUs that this process sees."""
    amd, nvidia = _amd(root), _nvidia(root)
    names = VISIBLE[AMD] if amd and not nvidia else VISIBLE[NVIDIA]
    lists = [_listed(environ[name]) for name in names if name in environ]
    return min(lists, default=nvidia or amd)


def _listed(value: str) -> int:
    """Count the entries of a variable that hides GPUs; what follows an invalid one, as -1, does not count."""
    entries = [entry.strip() for entry in value.split(",")]
    valid = next((place for place, entry in enumerate(entries) if entry in ("", "-1")), len(entries))
    return valid


def _nvidia(root: Path) -> int:
    return len([path for path in (root / "dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])


def _amd(root: Path) -> int:
    """Count AMD's: the nodes of the driver's topology that are no CPUs, where a process may open its device."""
    if not (root / "dev/kfd").exists():
        return 0
    return sum(_read(path).strip() not in ("", "0") for path in root.glob("sys/class/kfd/kfd/topology/nodes/*/gpu_id"))


def driver(root: Path = ROOT) -> str:
    """Return the name and version of the driver that this machine has loaded, or `no driver of a GPU`."""
    if match := re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", _read(root / "proc/driver/nvidia/version")):
        return f"driver {match[1]} of NVIDIA"
    if (root / "sys/module/amdgpu").exists():
        return f"driver amdgpu {_read(root / 'sys/module/amdgpu/version').strip()}".rstrip()
    return "no driver of a GPU"


def hidden_by(environ: Mapping[str, str]) -> str:
    """Return `CUDA_VISIBLE_DEVICES='0,1'` for the variables that hide GPUs, or that none does."""
    names = dict.fromkeys([*VISIBLE[NVIDIA], *VISIBLE[AMD]])
    given = [f"{name}={environ[name]!r}" for name in names if name in environ]
    return ", ".join(given) or "no variable hides GPUs"


def notes_on(error: str) -> list[str]:
    """Return what this machine says of its GPUs, if an error is one of a GPU: the words of the driver in the kernel's
    log, and memory errors. Empty where a user may not read them."""
    if not re.search(r"CUDA|NCCL|cuDNN|cuBLAS|HIP |RCCL|MIOpen", error):
        return []
    return [*kernel_notes(), *ecc_notes()]


def kernel_notes(most: int = 3) -> list[str]:
    """Return the last lines of the kernel's log about faults of GPUs, if a user may read it."""
    lines = _answer("dmesg")
    faults = [line for line in lines if "NVRM: Xid" in line or re.search(r"amdgpu.*(GPU reset|uncorrectable)", line)]
    return [re.sub(r"^\[[^\]]*\]\s*", "", line) for line in faults[-most:]]


def ecc_notes() -> list[str]:
    """Return a note for each NVIDIA GPU with memory errors that could not be corrected since its last reset."""
    query = "--query-gpu=index,ecc.errors.uncorrected.volatile.total"
    rows = [line.split(",") for line in _answer("nvidia-smi", query, "--format=csv,noheader,nounits")]
    broken = [(row[0].strip(), row[1].strip()) for row in rows if len(row) == 2 and row[1].strip().isdigit()]
    return [
        f"GPU {index}: {number} uncorrected ECC errors since its last reset"
        for index, number in broken
        if number != "0"
    ]


def _answer(*command: str) -> list[str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE_S
        )
    except (OSError, subprocess.TimeoutExpired):  # not there, or it hangs with the GPU
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
