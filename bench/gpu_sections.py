"""The sections of `python -m bench gpu`, in the order in which they run. Each adds its figures to the report."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch

from bench import gpu_arms, gpu_exact, gpu_faults, loop, spy
from bench.checkpoint import durable_torch_save
from bench.compare import processor, ratio
from bench.gpu_arms import ARMS, BRAINDECODE, LIGHTNING, ROOF, Size
from bench.gpu_report import Report
from eegdecode.models.bilstm import BiLSTM
from eegdecode.training.config import Compute
from eegdecode.training.loop import Training
from hpc.site import gpus

SAVES = 5
STEPS_A_SAVE = 20


def run(name: str, report: Report, size: Size, device: torch.device, peers_python: str) -> None:
    """Run one section."""
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        if name in size.cases:
            step(name, report, size, device, Path(folder), peers_python)
        else:
            OTHERS[name](report, size, device, Path(folder))


def where(report: Report, size: Size, device: torch.device, folder: Path) -> None:
    """What this machine is, and what its GPU gives at the most."""
    properties = torch.cuda.get_device_properties(device)
    report.add("GPU", properties.name)
    report.add("memory", properties.total_memory / 2**30, "GiB")
    report.add("memory that is free", torch.cuda.mem_get_info(device)[0] / 2**30, "GiB")
    report.add("driver", gpus.driver())
    built = torch.version.cuda or getattr(torch.version, "hip", None) or "CPUs only"
    report.add("torch", f"{torch.__version__}, built for {built}")
    if torch.__version__.partition("+")[0] != (pinned := _pinned_torch()):
        report.add("torch of env/constraints-cuda.txt, which the tests run", pinned)
    report.add("host", f"{os.cpu_count()} cores of {processor()}, Python {platform.python_version()}")
    half, single = (torch.randn(size.side, size.side, device=device, dtype=kind) for kind in TYPES)
    flop = 2.0 * size.side**3
    report.add(ROOF, flop / _best_s(lambda: half @ half, device) / 1e12, "TFLOP/s")
    report.add("fp32 matrix product", flop / _best_s(lambda: single @ single, device) / 1e12, "TFLOP/s")
    other, n_bytes = torch.empty_like(single), single.numel() * 4
    report.add(
        "copy on the GPU, read and written", 2 * n_bytes / _best_s(lambda: other.copy_(single), device) / 1e9, "GB/s"
    )
    host = torch.empty(size.side, size.side)
    for what, source in (("pinned", host.pin_memory()), ("pageable", host)):
        seconds = _best_s(lambda source=source: other.copy_(source, non_blocking=True), device)  # type: ignore[misc]
        report.add(f"copy from {what} memory", n_bytes / seconds / 1e9, "GB/s")


def _pinned_torch() -> str:
    pins = (Path(__file__).parent.parent / "env/constraints-cuda.txt").read_text().splitlines()
    return next(line.removeprefix("torch==") for line in pins if line.startswith("torch=="))


TYPES = (torch.bfloat16, torch.float32)


def _best_s(act: Callable[[], object], device: torch.device) -> float:
    act()
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        act()
        torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def waits(report: Report, size: Size, device: torch.device, folder: Path) -> None:
    """What a step makes the host wait for, between log points: by the spy, and by CUDA's own look-out."""
    for name, case in size.cases.items():
        for how, on_device in (("on the GPU", True), ("from the host", False)):
            compute = Compute(data_on_device=on_device)
            training = loop.begin(case, folder / name, device, compute, run=f"run-{on_device}")
            with patch.object(training.log_points, "due", return_value=False):
                with spy.counting() as counts:
                    for _ in range(loop.COUNTED_STEPS):
                        training.advance()
                lines = [line for line in counts.where if not line.startswith("waits")]
                report.add(f"{name}, data {how}: host reads and blocking copies", len(lines), bar=0)
                for line in sorted(set(lines)):
                    report.add(f"{name}, data {how}", line)
                if stopped := _looked_out(training, 1 if size.imitated else 20):
                    report.add(f"{name}, data {how}: CUDA's look-out", stopped)
                report.add(f"{name}, data {how}: steps that CUDA saw waiting", float(bool(stopped)), bar=0)
            training.close()


def _looked_out(training: Training, n: int) -> str:
    """Do steps while torch refuses whatever waits for the GPU; return what it refused."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(n):
            training.advance()
    except RuntimeError as error:
        return str(error)[:300]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return ""


def step(name: str, report: Report, size: Size, device: torch.device, folder: Path, peers_python: str) -> None:
    """The time of a step in all arms, and what the GPU does in it."""
    case = size.cases[name]
    with ExitStack() as undo:
        steps = gpu_arms.build(name, size, folder, device, report, peers_python, undo)
        work = gpu_arms.work_of(steps.trainings["ours"], case)
        for what, n_bytes in steps.bytes_of.items():
            report.add(f"{what}: memory at the most", n_bytes / 2**20, "MiB")
        seconds = gpu_arms.seconds_of(steps, size.n_rounds, report)
        medians = {arm: statistics.median(values) for arm, values in seconds.items()}
        for arm, median in medians.items():
            report.add(f"{arm}: a step", median * 1e3, "ms")
        for arm in steps.trainings:
            compute, bar = ARMS[arm]
            loop_of = gpu_arms.bare(compute.get("precision", "fp32"))
            report.add(f"{arm} / {loop_of}", ratio(seconds, arm, loop_of), bar=bar)
        for peer in (LIGHTNING, BRAINDECODE):
            if peer in seconds:
                report.add(f"ours / {peer}", ratio(seconds, "ours", peer), bar=1.0)
        for arm in steps.trainings:
            median, wait_s = medians[arm], statistics.fmean(steps.wait_s[arm])
            report.add(f"{arm}: windows", case.batch / median, "a second")
            if work.tokens:
                report.add(f"{arm}: tokens", case.batch * work.tokens / median, "a second")
            roof = report.value(ROOF)
            if roof and not isinstance(case.model, BiLSTM):  # whose kernel nobody counts
                report.add(f"{arm}: of the {ROOF}", 100 * work.flops / median / 1e12 / roof, "%")
            report.add(f"{arm}: wait for the loader, share of a step", wait_s / median, bar=0.01)
        for arm in steps.trainings:
            busy = gpu_arms.busy_s(steps.n[arm], case.n, size.imitated)
            what = f"{arm}: share of a step in which the GPU is idle"
            if busy is None:
                report.add(what, "the profiler saw no kernel")
            else:
                report.add(what, max(0.0, 1 - busy / medians[arm]), bar=IDLE.get((name, arm)))


IDLE = {("EEGPT", "ours"): 0.05, ("EEGPT", "ours, bf16"): 0.05}
"""At most, where a step is long enough for launches to be ahead of the GPU."""


def exact(report: Report, size: Size, device: torch.device, folder: Path) -> None:
    """Whether a stop and a restart change a bit."""
    for part in gpu_exact.PARTS:
        gpu_exact.run_part(part, size, folder)
    for name in size.exact:
        what = f"{name}: compute.exact=true, stopped and restarted: the same bits"
        if why := gpu_exact.failure(folder / name):
            report.add(name, f"failed: {why}")
            report.add(what, 0.0, bar=1, least=True)
            continue
        runs = {run: folder / name / run for run in ("whole", "parts", "loose", "loose-again")}
        report.add(what, float(gpu_exact.same(runs["whole"], runs["parts"])), bar=1, least=True)
        again = gpu_exact.same(runs["loose"], runs["loose-again"])
        report.add(f"{name}: without, twice the same run", "the same bits" if again else "other bits")
        spent = {run: gpu_exact.step_s(runs[run]) for run in ("whole", "loose")}
        report.add(f"{name}: a step with compute.exact=true / without", spent["whole"] / spent["loose"])


def save(report: Report, size: Size, device: torch.device, folder: Path) -> None:
    """What a checkpoint costs training."""
    training = loop.begin(size.cases["EEGPT"], folder, device)
    state, saver = training.state, training.saver
    n = 2 if size.imitated else STEPS_A_SAVE
    blocked: dict[str, list[float]] = {"ours": [], "torch.save + fsync": []}
    cycles: dict[str, list[float]] = {"a save": [], "none": []}

    def steps() -> None:
        for _ in range(n):
            training.advance()
        torch.cuda.synchronize()

    for number in range(2 if size.imitated else SAVES + 1):  # the first allocates memory, and does not count
        for what in cycles:
            torch.cuda.synchronize()
            began = time.perf_counter()
            if what == "a save":
                saver.save(state.step, state.state_dict(), later=("optimizer", "average", "best"))
            steps()
            took = time.perf_counter() - began
            saver.close()
            if number:
                cycles[what].append(took)
        began = time.perf_counter()
        durable_torch_save(state.state_dict(), folder / f"torch-{number}")
        if number:
            blocked["torch.save + fsync"].append(time.perf_counter() - began)
            blocked["ours"].append(saver.blocked_s)
        (folder / f"torch-{number}").unlink()
    training.close()
    report.add("a checkpoint", saver._staging.n_bytes / 1e6, "MB")
    for what, values in blocked.items():
        report.add(f"{what}: training waits", statistics.median(values) * 1e3, "ms")
    report.add("ours / torch.save + fsync", ratio(blocked, "ours", "torch.save + fsync"), bar=0.05)
    report.add(f"{n} steps with a save / without", ratio(cycles, "a save", "none"), bar=1.02)


def faults(report: Report, size: Size, device: torch.device, folder: Path) -> None:
    """Whether faults are known. Those of an imitated GPU are made on the CPU."""
    rows = gpu_faults.cases("cpu" if size.imitated else "cuda", size.n_faults)
    for what, known, text in rows:
        report.add(what, text[:500])
        if known is not None:
            report.add(f"{what}: known", float(known), bar=1, least=True)


OTHERS: dict[str, Callable[[Report, Size, torch.device, Path], None]] = {
    "where": where,
    "waits": waits,
    "exact": exact,
    "save": save,
    "faults": faults,
}
