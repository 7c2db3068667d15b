"""What libraries and drivers print when something breaks, and whose fault we take it for."""

import pytest

from hpc.supervise import fault_texts

OOM = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB of "
    "which 5.25 MiB is free. {others}Including non-PyTorch memory, this process has 8.00 GiB memory in use."
)
NODE = {
    "memory of that GPU is broken": ["AcceleratorError: CUDA error: uncorrectable ECC error encountered"],
    "Xid 79: that GPU is gone until the node is restarted": [
        "NVRM: Xid (PCI:0000:06:00): 79, pid=1, GPU has fallen off the bus."
    ],
    "that GPU is gone until the node is restarted": ["Unable to determine the device handle: GPU is lost."],
    "another process holds that GPU, or it is in a mode for one process only": [
        "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    ],
    "the driver of that node shows no GPU": [
        "RuntimeError: CUDA error: no CUDA-capable device is detected",
        "RuntimeError: HIP error: no ROCm-capable device is detected",
    ],
    "the driver has ended a kernel of that GPU": ["CUDA error: the launch timed out and was terminated"],
    "the GPU failed in a kernel; if it comes on other nodes too, it is the program": [
        "CUDA error: unspecified launch failure",
        "HIP error: unspecified launch failure",
    ],
    "driver and libraries of that node do not fit together": [
        "Failed to initialize NVML: Driver/library version mismatch",
        "Error 803: system has unsupported display driver / cuda driver combination",
    ],
    "the fabric manager of that node does not run": ["Error 802: system not yet initialized"],
    "a link between GPUs of that node is broken": [
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error",
    ],
    "the driver of that node is in disorder": [
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment"
    ],
    "other processes hold 70 GiB of that GPU": [OOM.format(others="Process 77 has 70.00 GiB memory in use. ")],
}
USER = {
    "the GPU has too little memory: compute.accumulate of training divides the batch of a rank into portions": [
        OOM.format(others=""),
        OOM.format(others="Process 77 has 500.00 MiB memory in use. "),
        "RuntimeError: CUDA error: out of memory",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.",
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'",
    ],
    "the machine does not have that much: a smaller model or batch; compute.accumulate of training divides a batch": [
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 160000000000 bytes. Error code 12 (Cannot allocate memory)",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.46 TiB for an array with shape (2000,)",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
    "one GPU takes one rank: ask for as many --gpus as --ranks a node": [
        "ncclInvalidUsage\nLast error:\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000",
        "CUDA error: invalid device ordinal",
    ],
    "this torch was not built for that GPU: take one that was, see env/README.md": [
        "CUDA error: no kernel image is available for execution on the device"
    ],
    "this torch wants a newer driver: take one built for an older CUDA, see env/README.md": [
        "CUDA driver version is insufficient for CUDA runtime version",
        "The NVIDIA driver on your system is too old (found version 11040).",
    ],
}
NEIGHBOUR = [
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
    "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE) ran for 600081 milliseconds",
    "DistBackendError: NCCL communicator was aborted on rank 1.",
    "NET/IB : Got completion from peer 11.2.4.1<39138> with error 12, opcode 0, len 0, vendor err 129",
    "NET/OFI Request 0x7f completed with error. RC: 113. Error: 2 (UNDELIVERABLE). Completed length: 0",
    "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:1",
    "RuntimeError: Timed out waiting 1800000ms for recv operation to complete",
    "ConnectionError: the connection to rank 0 at 10.0.0.1:4 is lost: no answer",
    "TimeoutError: rank 3 of 4 has not come within 120 s: see its log, in runs/x",
]
PROGRAM = [
    "ncclSystemError\nLast error:\nError while creating shared memory segment /dev/shm/nccl-x (size 9637888)",
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "NVRM: Xid (PCI:0000:06:00): 31, pid=9, name=python, MMU Fault",
    "KeyError: 'x'",
]
CASES = [
    *(("node", advice, text) for advice, texts in NODE.items() for text in texts),
    *(("user", advice, text) for advice, texts in USER.items() for text in texts),
    *(("neighbour", "", text) for text in NEIGHBOUR),
    *(("program", "", text) for text in PROGRAM),
]


@pytest.mark.parametrize(("fault", "advice", "text"), CASES, ids=lambda text: text[:40])
def test_the_words_of_an_error_say_whose_it_is(fault: str, advice: str, text: str) -> None:
    assert fault_texts.verdict(text) == (fault, advice)


def test_of_a_log_the_line_that_names_hardware_counts_and_its_time_does_not() -> None:
    log = [
        "12:00:00 rank 0 step 7",
        "[rank0]:[E709 17:05:39.08 ProcessGroupNCCL.cpp:698] [Rank 0] Watchdog caught collective operation timeout: W",
        "[rank0]:[E709 17:05:39.09 ProcessGroupNCCL.cpp:1899] [PG ID 0 PG GUID 0(default_pg) Rank 0] CUDA error: "
        "uncorrectable ECC error encountered",
        "CUDA error: an illegal memory access was encountered",
    ]
    assert fault_texts.telling_line(log) == "CUDA error: uncorrectable ECC error encountered"
    assert fault_texts.telling_line(log[:2]) == "[Rank 0] Watchdog caught collective operation timeout: W"
    assert fault_texts.telling_line(log[:1]) == ""
