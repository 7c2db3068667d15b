"""Whose fault an error is, by its words: a machine's, the user's, or only the complaint of a rank about its neighbour.

The words are those of CUDA and HIP, the drivers, NCCL and RCCL, gloo and torch, in an exception or in a rank's log.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Fault = Literal["node", "user", "program", "neighbour"]
"""node: other machines would do. user: it would be the same everywhere. neighbour: the cause is on another rank."""


class Verdict(NamedTuple):
    """Whose fault it is, and what to know about it or to do, in a phrase."""

    fault: Fault
    advice: str = ""


_NODE = {
    "uncorrectable ECC error": "memory of that GPU is broken",
    "uncorrectable NVLink error": "a link between GPUs of that node is broken",
    "nvlink or a hardware error": "a link between GPUs of that node is broken",
    "fallen off the bus": "that GPU is gone until the node is restarted",
    "GPU is lost": "that GPU is gone until the node is restarted",
    "busy or unavailable": "another process holds that GPU, or it is in a mode for one process only",
    "no CUDA-capable device is detected": "the driver of that node shows no GPU",
    "no ROCm-capable device is detected": "the driver of that node shows no GPU",
    "the launch timed out and was terminated": "the driver has ended a kernel of that GPU",
    "unspecified launch failure": "the GPU failed in a kernel; if it comes on other nodes too, it is the program",
    "system not yet initialized": "the fabric manager of that node does not run",
    "unsupported display driver": "driver and libraries of that node do not fit together",
    "Driver/library version mismatch": "driver and libraries of that node do not fit together",
    "CUDA error: unknown error": "the driver of that node is in disorder",
    "CUDA unknown error": "the driver of that node is in disorder",
    "this rank's node has no GPU for it": "the ranks of other nodes have theirs",
}
_USER = {
    r"OutOfMemoryError|(CUDA|HIP)( error:)? out of memory|failure 2 'out of memory'": (
        "the GPU has too little memory: compute.accumulate of training divides the batch of a rank into portions"
    ),
    r"DefaultCPUAllocator: can't allocate memory|Unable to allocate [\d.]+ [GTP]iB|\[Errno 12\]": (
        "the machine does not have that much: a smaller model or batch; compute.accumulate of training divides a batch"
    ),
    "Duplicate GPU detected": "one GPU takes one rank: ask for as many --gpus as --ranks a node",
    "invalid device ordinal": "one GPU takes one rank: ask for as many --gpus as --ranks a node",
    "no kernel image is available": "this torch was not built for that GPU: take one that was, see env/README.md",
    "driver version is insufficient|driver on your system is too old": (
        "this torch wants a newer driver: take one built for an older CUDA, see env/README.md"
    ),
}
_NEIGHBOUR = (
    r"onnection|gloo/|gloo:|Gloo |Socket Timeout|Timed out waiting|ncclRemoteError|ncclSystemError|"
    r"remote process exited|communicator was aborted|Watchdog caught collective operation timeout|"
    r"NET/\w+ : Got completion|NET/OFI Request|has not come within|that rank's error says why"
)
_SHARED_MEMORY = r"shared memory segment|/dev/shm"
"""NCCL reports these as a system error too, and they are its own."""

_OTHERS = re.compile(r"Process \d+ has ([\d.]+) (MiB|GiB) memory in use")
_CAPACITY = re.compile(r"total capacity of ([\d.]+) (MiB|GiB)")
_GIB = {"MiB": 1 / 1024, "GiB": 1.0}

_PREFIX = re.compile(r"^(\[rank\d+\]:)?\[[EWF]\d{3,4} [^\]]*\] ?(\[PG ID [^\]]*\] )?")
"""What C++ puts before a line of its log: when, and where in its source. It differs where the error is the same."""
XID = re.compile(r"\bXid\s*\([^)]*\): (\d+)")
"""A line of NVIDIA's driver in the kernel's log; the number says what it was."""
XIDS_OF_NODE = {
    48: "memory of that GPU is broken", 62: "the GPU's controller has halted", 64: "memory of that GPU is broken",
    74: "a link between GPUs of that node is broken", 79: "that GPU is gone until the node is restarted",
    92: "memory of that GPU is broken", 94: "memory of that GPU is broken", 95: "memory of that GPU is broken",
    119: "the GPU's controller does not answer", 120: "the GPU's controller has failed",
    140: "memory of that GPU is broken", 154: "the GPU has to be reset",
}  # fmt: skip
"""Those after which NVIDIA resets or replaces the GPU. Others, as 13, 31 and 43, come of the program."""


def verdict(text: str) -> Verdict:
    """Return whose fault an error is. What names hardware counts more than what names memory, and that more than a
    complaint, as the report of one failure may hold all of them."""
    for number in map(int, XID.findall(text)):
        if number in XIDS_OF_NODE:
            return Verdict("node", f"Xid {number}: {XIDS_OF_NODE[number]}")
    for words, advice in _NODE.items():
        if words.lower() in text.lower():
            return Verdict("node", advice)
    if (held := _held_by_others_gib(text)) > 0:
        return Verdict("node", f"other processes hold {held:.3g} GiB of that GPU")
    for pattern, advice in _USER.items():
        if re.search(pattern, text, re.IGNORECASE):
            return Verdict("user", advice)
    if re.search(_NEIGHBOUR, text) and not re.search(_SHARED_MEMORY, text):
        return Verdict("neighbour")
    return Verdict("program")


def _held_by_others_gib(text: str) -> float:
    """Return how much memory of the GPU other processes hold, if torch says so and it is more than a tenth."""
    capacity = _CAPACITY.search(text)
    held = sum(float(number) * _GIB[unit] for number, unit in _OTHERS.findall(text))
    return held if capacity and held > 0.1 * float(capacity[1]) * _GIB[capacity[2]] else 0.0


def telling_line(lines: Iterable[str]) -> str:
    """Return the line of a log that says most about the cause; empty if none says anything. The first of equals: what
    follows is its consequence."""
    order: list[Fault] = ["node", "user", "neighbour"]
    best, found = len(order), ""
    for line in lines:
        fault = verdict(line).fault
        if fault in order[:best]:
            best, found = order.index(fault), line
    return _PREFIX.sub("", found.strip())
