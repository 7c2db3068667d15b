"""`python -m bench gpu` runs, on an imitated GPU in a tiny size, and what it has measured is not lost."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import gpu, gpu_arms, gpu_exact, gpu_sections, spy
from bench.compare import Peers
from bench.gpu_arms import ARMS, TINY, Arm, Steps
from bench.gpu_report import Report
from hpc.runs.rundir import RunDir, read_lines
from tests.conftest import ROOT
from tests.waiting import wait_for

needs_an_imitated_gpu = pytest.mark.skipif(
    torch.cuda.is_available() or spy.compiler() is None, reason="a GPU is here, or no C++ compiler to imitate one"
)
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


@needs_an_imitated_gpu
def test_all_of_it_runs_on_an_imitated_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(gpu_arms, "ARMS", {**ARMS, "ours, later": Arm({"no_such_setting": True})})
    monkeypatch.setattr(gpu_sections, "ARMS", gpu_arms.ARMS)
    assert gpu.run(quick=False, out=str(tmp_path / "figures.json"), imitated=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {name: how["state"] for name, how in figures["sections"].items()} == dict.fromkeys(gpu.SECTIONS, "done")
    rows = {(row["section"], row["what"]): row["value"] for row in figures["rows"]}
    for what in (
        "ours / a bare loop",
        "ours, bf16 / a bare loop, bf16",
        f"ours / {gpu_arms.LIGHTNING}",
        "ours: windows",
        "ours: tokens",
        "ours: of the bf16 matrix product",
        "ours, data from the host: wait for the loader, share of a step",
        "ours: share of a step in which the GPU is idle",
        "ours: memory at the most",
    ):
        assert rows["EEGPT", what] >= 0, what
    assert rows["EEGPT", "ours, later"].startswith("cannot run: TypeError")
    assert rows["EEGPT", "ours, compiled, bf16"] == "not on an imitated GPU"
    what = "EEGNet: compute.exact=true, stopped and restarted: the same bits"
    assert rows["exact", what] == rows["faults", "asked for GPUs, none visible: known"] == 1
    assert [value for (section, _), value in rows.items() if section == "waits"] == [0] * 16
    assert ("EEGNet", f"ours / {gpu_arms.BRAINDECODE}") in rows
    printed = capsys.readouterr().out
    assert printed.count("Figures on an imitated GPU mean nothing") == 2, "first and last"
    assert not torch.are_deterministic_algorithms_enabled() and not torch.cuda.is_available()


@needs_an_imitated_gpu
def test_it_runs_where_only_the_packages_are_that_it_names(tmp_path: Path) -> None:
    others = ("mne", "omegaconf", "submitit", "scipy", "sklearn", "pyriemann", "matplotlib", "rich", "soundfile")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({(*others, 'torchaudio', 'braindecode')}))\n"
        "from pathlib import Path; from bench import gpu, gpu_sections, spy; from bench.gpu_arms import TINY\n"
        "from bench.gpu_report import Report\n"
        "report = Report.begin(Path(sys.argv[1]))\n"
        "with spy.imitated_cuda() as device:\n"
        "    for name in ('where', 'EEGNet', 'exact'): gpu_sections.run(name, report, TINY, device, '')\n"
        "print([row['value'] for row in report.contents['rows'] if row['what'].startswith('braindecode')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "figures.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is not measured, as it cannot be imported here" in done.stdout and "--peers-python PATH" in done.stdout


@needs_no_gpu
def test_without_a_gpu_it_says_what_it_would_measure_and_ends_with_3() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and not done.stdout
    assert "no GPU here that torch can use: torch 2." in done.stderr and "env/setup.sh cuda" in done.stderr
    for name, section in gpu.SECTIONS.items():
        assert name in done.stderr and section.sentence in done.stderr


def test_a_python_that_lacks_something_is_told_what(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.missing() == ""
    monkeypatch.setattr(gpu, "NEEDS", ("torch", "no_such_package"))
    assert "has no no_such_package: `env/setup.sh cuda`" in gpu.missing()


def test_options_of_gpu_are_refused_elsewhere() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "loop", "--imitated"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--out and --imitated are for gpu" in done.stderr


HANGS = (
    "import os, sys, time\nchild = os.fork()\nif child: open(sys.argv[1], 'w').write(str(child))\ntime.sleep(3600)\n"
)


@pytest.mark.ranks
def test_a_section_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    state = gpu.apart([sys.executable, "-c", HANGS, str(tmp_path / "pid")], limit_s=3.0)
    assert state == "not ended after 3 s"
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    wait_for(lambda: _has_ended(stat), "the child of the section has ended")


def _has_ended(stat: Path) -> bool:
    """Whether a process is gone, or dead and not yet waited for: a SIGKILL is carried out a while after it."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@needs_no_gpu
@pytest.mark.ranks
def test_a_section_that_fails_takes_nothing_from_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here there is no GPU, so each fails as where a GPU has fallen off the bus."""
    monkeypatch.setattr(gpu, "SECTIONS", {name: gpu.SECTIONS[name] for name in ("where", "save")})
    report = Report.begin(tmp_path / "figures.json", imitated=False)
    report.add("before", 1.0, bar=2)
    gpu._measured(report, quick=True, peers_python="")
    assert not gpu._told(report, "")
    figures = json.loads((tmp_path / "figures.json").read_text())
    state = "exit code 1, its error stands above"
    assert {name: how["state"] for name, how in figures["sections"].items()} == {"where": state, "save": state}
    assert figures["rows"][0]["what"] == "before" and report.shortfalls == [f"where: {state}", f"save: {state}"]


@needs_no_gpu
@pytest.mark.ranks
def test_what_is_stopped_goes_on_in_another_process(tmp_path: Path) -> None:
    size = replace(TINY, imitated=False)
    gpu_exact.run_part(gpu_exact.PARTS[0], size, tmp_path)
    parts = RunDir(tmp_path / "EEGNet" / "parts")
    n_done = len(read_lines(parts.metrics))
    assert 0 < n_done < size.exact_steps and not (parts.out / "model.pt").exists()
    gpu_exact.run_part(gpu_exact.PARTS[1], size, tmp_path)
    assert len(read_lines(parts.metrics)) == size.exact_steps and not gpu_exact.failure(tmp_path / "EEGNet")
    assert gpu_exact.same(tmp_path / "EEGNet" / "whole", parts.path)


def test_a_case_that_cannot_be_exact_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(name: str, *others: object, **named: object) -> None:
        (tmp_path / name).mkdir()
        raise RuntimeError("max_pool2d does not have a deterministic implementation")

    monkeypatch.setattr(gpu_exact, "_train", refuses)
    gpu_exact.do_part(gpu_exact.PARTS[0], TINY, tmp_path)
    assert gpu_exact.failure(tmp_path / "EEGNet").startswith("whole and half: max_pool2d does not have")


@needs_no_gpu
@pytest.mark.ranks
def test_braindecode_runs_in_a_python_of_its_own() -> None:
    pytest.importorskip("braindecode")
    told = {"name": "EEGNet", "shape": (22, 256), "batch": 2, "n": 1, "n_workers": 0, "device": "cpu"}
    peers = Peers(sys.executable, "bench.gpu_peers", told, "braindecode")
    try:
        assert peers.names == ["braindecode"]
        peers.method("braindecode")()
        peers._process.kill()
        with pytest.raises((RuntimeError, BrokenPipeError)):
            peers.method("braindecode")()
    finally:
        peers.close()


def test_a_figure_that_falls_short_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report = Report.begin(tmp_path / "figures.json", imitated=False)
    report.section = "EEGNet"
    report.add("ours / a bare loop", 1.5, bar=1.03)
    report.add("windows", 100.0, "a second")
    assert "SHORT ours / a bare loop: 1.5 (<= 1.03)\n      windows: 100 a second\n" in capsys.readouterr().out
    assert Report.go_on(report.path, "").shortfalls == ["EEGNet, ours / a bare loop: 1.5"]
    assert Report.go_on(report.path, "").value("windows") == 100


def test_only_a_file_is_written_to(tmp_path: Path) -> None:
    """A file is renamed into its place: as root, in place of /dev/null. Here a pipe stands for it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match=f"--out is a file, new or old, but {path} is something else"):
            Report.begin(path)
        command = [sys.executable, "-m", "bench", "gpu", "--out", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "is something else: name another one" in done.stderr
    assert (tmp_path / "pipe").is_fifo()


@needs_no_gpu
def test_a_peer_that_fails_takes_nothing_from_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    report = Report.begin(tmp_path / "figures.json")
    steps = Steps(TINY.cases["EEGNet"], {"ours": lambda: None, gpu_arms.LIGHTNING: fails})
    assert [*gpu_arms.seconds_of(steps, 2, report)] == ["ours"]
    (row,) = report.contents["rows"]
    assert row["what"] == gpu_arms.LIGHTNING and row["value"] == "failed: RuntimeError: CUDA out of memory"
    steps.n["ours"] = fails
    with pytest.raises(RuntimeError, match="out of memory"):
        gpu_arms.seconds_of(steps, 2, report)


def test_kernels_that_overlap_count_once() -> None:
    assert gpu_arms.union([(5, 6), (0, 2), (1, 3), (1.5, 2)]) == 4 and gpu_arms.union([]) == 0
