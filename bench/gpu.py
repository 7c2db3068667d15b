"""What training costs on a GPU, in one command of some five minutes: `python -m bench gpu [--quick] [--out FILE]`.

It needs a GPU, and a Python with a torch for it and little else (NEEDS): `env/setup.sh cuda` makes one. Each section is
a process of its own, so that a fault of one takes nothing from the others, and each figure is in FILE as soon as it is
there. `--imitated` does the same in a tiny size on an imitated GPU (bench/spy.py): it shows that this runs, and no
figure of it means anything. Exit codes: 0 every goal reached, 1 one falls short or a section failed, 3 no GPU here.
"""

import argparse
import contextlib
import importlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.compare import PeerMissing
from bench.gpu_report import Report

ROOT = Path(__file__).parent.parent
NEEDS = ("torch", "h5py", "numpy", "threadpoolctl", "tensorboard")
LONGEST_S = 560.0
"""All sections together: less than ten minutes, for which such machines are lent."""


class Section(NamedTuple):
    sentence: str
    limit_s: float
    """After it, the section is ended."""


SECTIONS: Mapping[str, Section] = {
    "where": Section("the GPU, its driver, torch; what its memory, its bus and its matrix units give at the most", 40),
    "waits": Section("host reads and blocking copies of a step, by the spy and by CUDA's own: 0", 60),
    "EEGNet": Section("its step: see below", 100),
    "EEGPT": Section("its step: see below", 150),
    "exact": Section("the same bits over a stop and a restart with compute.exact=true, and what that costs", 150),
    "save": Section("how long training waits for a checkpoint, beside torch.save", 60),
    "Conformer": Section("its step: see below", 100),
    "biLSTM": Section("its step: see below", 100),
    "faults": Section("faults of GPUs, made on purpose: what a user reads (bench/gpu_faults.py)", 150),
}
"""What would be missed most comes first. Faults are last, as they may leave a GPU that is not itself."""
OF_A_STEP = (
    "of a step: its time over that of a bare loop, of a loop with Lightning's settings and of braindecode in it; "
    "windows and tokens a second; the wait for the loader; the share of the time in which the GPU is idle; memory"
)
MEANINGLESS = "on an imitated GPU: this shows that everything runs. Figures on an imitated GPU mean nothing"


def run(quick: bool, out: str = "", imitated: bool = False, peers_python: str = "") -> bool:
    """Measure all. Raises PeerMissing where it cannot."""
    if lacking := missing():
        raise PeerMissing(f"{lacking}\n\n{would_measure()}")
    if not imitated and (lacking := no_gpu()):
        raise PeerMissing(f"{lacking}\n\n{would_measure()}")
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        path = Path(out or Path(folder) / "report.json").absolute()
        report = Report.begin(path, imitated=imitated, quick=quick, argv=sys.argv[1:])
        if imitated:
            print(MEANINGLESS, flush=True)
            _imitated(report)
        else:
            _measured(report, quick, peers_python)
        return _told(report, out)


def missing() -> str:
    """Return a sentence on the packages that are not here."""
    names = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    return (
        f"{sys.executable} has no {', '.join(names)}: `env/setup.sh cuda` makes an environment that has all "
        "(.venv/bin/python -m bench gpu), or take a Python whose torch sees the GPU and `pip install` these in it"
        if names
        else ""
    )


def no_gpu() -> str:
    """Return a sentence on why torch sees no GPU here; empty if it does."""
    import torch

    from hpc.site import gpus

    if torch.cuda.is_available():
        return ""
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else getattr(torch.version, "hip", None) or "CPUs only"
    return (
        f"no GPU here that torch can use: torch {torch.__version__} was built for {built}, {gpus.driver()}, "
        f"{gpus.hidden_by(os.environ)}. On a machine with a GPU: `env/setup.sh cuda`, then `.venv/bin/python -m bench "
        "gpu`. Without one, `python -m bench gpu --imitated` shows that it runs"
    )


def would_measure() -> str:
    """Return what is measured where there is a GPU."""
    lines = [f"  {name:<10}{section.sentence}" for name, section in SECTIONS.items()]
    return "\n".join(["on a GPU this would measure, in some five minutes:", *lines, f"  {OF_A_STEP}"])


def _imitated(report: Report) -> None:
    """Run all sections in this process."""
    if importlib.util.find_spec("braindecode") is not None:  # it asks torch for CUDA when it is imported
        importlib.import_module("braindecode.models")
    from bench import gpu_sections, spy
    from bench.gpu_arms import TINY

    for name in SECTIONS:
        report.section, began = name, time.monotonic()
        print(f"\n{name}", flush=True)
        try:
            with spy.imitated_cuda() as device:
                gpu_sections.run(name, report, TINY, device, "")
        except spy.NoCompiler as error:
            raise PeerMissing(str(error)) from None
        report.end_section(name, "done", time.monotonic() - began)


def _measured(report: Report, quick: bool, peers_python: str) -> None:
    """Run each section in a process of its own, as long as there is time."""
    deadline = time.monotonic() + LONGEST_S
    for name, section in SECTIONS.items():
        print(f"\n{name}", flush=True)
        began = time.monotonic()
        limit_s = min(section.limit_s, deadline - began)
        words = [name, str(report.path), *(["--quick"] if quick else []), "--peers-python", peers_python]
        state = apart([sys.executable, "-m", "bench.gpu", *words], limit_s) if limit_s > 5 else "no time was left"
        report.reread()
        report.end_section(name, state, time.monotonic() - began)
        if state != "done":
            print(f"FAILED {name}: {state}", flush=True)


def apart(command: Sequence[str], limit_s: float) -> str:
    """Run a command with all its children; return `done`, or in words how it ended."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"not ended after {limit_s:.0f} s"
    finally:
        _end(process)
    return "done" if code == 0 else f"exit code {code}, its error stands above"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children, which are in a session of their own."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _told(report: Report, out: str) -> bool:
    """Print what falls short; whether nothing does."""
    report.reread()
    shortfalls, imitated = report.shortfalls, report.contents["imitated"]
    print(f"\n{len(report.contents['rows'])} figures{f' in {out}' if out else ''}")
    if imitated:
        print(MEANINGLESS)
        return all(how["state"] == "done" for how in report.contents["sections"].values())
    for shortfall in shortfalls:
        print(f"SHORT {shortfall}")
    print("every goal is reached" if not shortfalls else f"{len(shortfalls)} of them fall short", flush=True)
    return not shortfalls


def main(words: Sequence[str]) -> None:
    """Run one section, in this process."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="One section of `python -m bench gpu`.")
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("report", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers-python", default="")
    options = parser.parse_args(words)
    import torch

    from bench import gpu_sections
    from bench.gpu_arms import FULL, QUICK

    logging.getLogger("eegdecode").setLevel(logging.ERROR)  # of data that are noise there is nothing to say
    report = Report.go_on(options.report, options.section)
    size = QUICK if options.quick else FULL
    gpu_sections.run(options.section, report, size, torch.device("cuda", 0), options.peers_python)


if __name__ == "__main__":
    main(sys.argv[1:])
