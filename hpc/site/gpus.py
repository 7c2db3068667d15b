"""The GPUs of this machine, NVIDIA's and AMD's, without a GPU library: how many there are, which are visible, and their
driver. What a rank could use of them is known to torch alone (hpc/rank/ddp.py)."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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


class Health(NamedTuple):
    """faults: why GPUs of this machine cannot be worked with; None if nothing here could say. notes: what makes them
    slow."""

    faults: list[str] | None
    notes: list[str]


_QUERY = (
    "index",
    "ecc.errors.uncorrected.volatile.total",
    "remapped_rows.failure",
    "clocks_throttle_reasons.hw_slowdown",
)
_BROKEN = re.compile(
    r"GPU is lost|fallen off the bus|No devices were found|Unable to determine the device handle|"
    r"Failed to initialize NVML|couldn't communicate with the NVIDIA driver|GPU requires reset|Unknown Error|ERR!"
)
"""What nvidia-smi says of a GPU that is not there any more, in a message or in a cell."""


def health(n_asked: int, environ: Mapping[str, str], root: Path = ROOT) -> Health:
    """Look whether as many GPUs are here as were asked for, and what nvidia-smi, or ROCm's driver, says of them."""
    if (root / "dev/kfd").exists() and not _nvidia(root):
        return _amd_health(n_asked, environ, root)
    for query in (_QUERY, _QUERY[:2]):  # older drivers do not know all of it
        answer = _all_of("nvidia-smi", f"--query-gpu={','.join(query)}", "--format=csv,noheader,nounits")
        if answer is None:
            return Health(None, [])
        code, text = answer
        if "not a valid field" not in text:
            break
    if match := next((line for line in text.splitlines() if _BROKEN.search(line)), None):
        return Health([f"nvidia-smi says: {match.strip()}"], [])
    if code != 0:
        return Health(None, [])
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    faults = [f"{len(rows)} of {n_asked} GPUs are there"] if len(rows) < n_asked else []
    for row in rows:
        cells = dict(zip(query, row, strict=False))
        errors = cells.get(_QUERY[1], "")
        if errors.isdigit() and errors != "0":
            faults.append(f"GPU {row[0]} has {errors} uncorrected ECC errors since its last reset")
        if cells.get(_QUERY[2]) == "Yes":
            faults.append(f"GPU {row[0]} could not replace broken memory")
    slow = [row[0] for row in rows if dict(zip(query, row, strict=False)).get(_QUERY[3]) == "Active"]
    return Health(faults, [f"GPU {', '.join(slow)} is slowed down by its hardware: heat or power"] if slow else [])


def _amd_health(n_asked: int, environ: Mapping[str, str], root: Path) -> Health:
    n = count(environ, root)
    faults = [f"{n} of {n_asked} GPUs are there"] if n < n_asked else []
    for path in sorted(root.glob("sys/class/drm/card*/device/ras/*_err_count")):
        if (match := re.search(r"ue:\s*(\d+)", _read(path))) and match[1] != "0":
            part, card = path.name.removesuffix("_err_count"), path.parents[2].name
            faults.append(f"{card} has {match[1]} uncorrected errors in {part}")
    answer = _all_of("rocm-smi", "--showid")
    if answer is not None and answer[0] != 0:
        faults.append(f"rocm-smi fails: {next((line for line in answer[1].splitlines() if line.strip()), '')[:200]}")
    return Health(faults, [])


def _all_of(*command: str) -> tuple[int, str] | None:
    """Return the exit code and all that a program says; None if it is not there, or does not answer."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode, done.stdout
