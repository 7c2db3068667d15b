"""The page of 1,000 runs: what it takes to write it, for the first time and again, and how long to open it in Chromium.

And `status` of them. A tenth of the runs go on, a few are damaged; each training has 200 lines of metrics.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.compare import Goal, PeerMissing, judged
from hpc.overview import page
from hpc.runs.rundir import RunDir, append_line, atomic_write, write_json

N_RUNS = 1000
T0 = 1.79e9
"""When the first of the runs began."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
OPENED = """addEventListener("load", () => {
  document.body.getBoundingClientRect();
  const seen = {ms: performance.now(), rows: document.querySelectorAll("tr.run").length, of: rows.length};
  document.body.append(Object.assign(document.createElement("pre"), {id: "opened", textContent: JSON.stringify(seen)}));
});"""
"""Says in the page how long it took until its first rows were laid out."""


def make_runs(folder: Path, n: int, n_lines: int = 200) -> None:
    """Make so many run folders, of two sweeps and single runs, as supervisors leave them."""
    template = folder / ".template"
    picture = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360f8cf500f0003860180"
        "5a347d6b0000000049454e44ae426082"
    )
    _put(template / "out/report.html", b"<!doctype html><title>report</title><p>A report.</p>")
    _put(template / "out/curve.png", picture)
    _put(template / "config.yaml", b"optim: {lr: 0.001}\n")
    for number in range(n):
        run = RunDir(folder / f"train-{number:08d}")
        shutil.copytree(template, run.path)
        began = T0 + 600 * number
        settings = f"optim.lr={10 ** -(2 + number % 3):g} seed={number // 3}" if number % 5 else f"seed={number}"
        plan: dict[str, Any] = {
            "schema": 3, "name": run.name, "label": "pilot" if number % 7 == 0 else "", "settings": settings,
            "stage": "train", "entry": "eegdecode.stages:train", "inputs": {"data": "preprocess-aaaaaaaa"},
            "sources": ["configs/demo.yaml", settings], "site": {"name": "cluster", "kind": "slurm"},
            "resources": {"nodes": 2, "ranks_per_node": 4, "gpus_per_node": 4, "cpus_per_rank": 8},
            "meaning": 3, "cwd": "/",
        }  # fmt: skip
        write_json(run.plan, plan, durable=False)
        _put(run.metrics, _lines(number, n_lines))
        _put(run.attempt(1).log(0), b"step 200: loss 0.4\n")
        attempt = {
            "attempt": 1, "started": began, "ended": began + 500, "outcome": "finished", "codes": [0], "ranks": 8,
            "nodes": 2, "from_step": 0,
        }  # fmt: skip
        state: dict[str, Any] = {
            "time": began + 500, "state": "finished", "code": 0, "attempt": 1, "job": None, "label": plan["label"],
            "settings": settings, "nodes": 2, "text": "", "host": os.uname().nodename, "pid": 1,
            "pulse": {"time": began + 500, "attempt": 1, "began": began, "done": n_lines, "total": n_lines, "what": ""},
        }  # fmt: skip
        submitted = {"job": "1", "label": plan["label"], "settings": settings, "kind": "slurm", "time": began - 5}
        if number % 10 == 3:  # it goes on, as far as its folder says
            append_line(run.submissions, submitted)
            run.supervisor.parent.mkdir()
            write_json(
                run.supervisor, state | {"state": "failed", "code": 1, "text": "rank 3: CUDA error"}, durable=False
            )
            continue
        lines = [{"time": began + 500, "text": "finished"}, {"of": "attempts.jsonl"} | attempt]
        lines += [{"of": "jobs/submitted.jsonl"} | submitted, {"of": "heartbeat/supervisor.json"} | state]
        append_line(run.events, *lines)
        value = 0.5 + 0.4 * math.sin(number) ** 2
        metrics = {"steps": n_lines, "val_loss": 1 - value, "val_accuracy": {"value": value, "chance": 0.5}}
        write_json(
            run.result, {"metrics": metrics, "attempts": 1, "seconds": 500.0, "ended": began + 500, "meaning": 3},
            durable=False,
        )  # fmt: skip
        if number % 100 == 50:
            _put(run.plan, b'{"schema": 3, "stage": 7}')
    shutil.rmtree(template)


def _lines(number: int, n: int) -> bytes:
    lines = []
    for step in range(1, n + 1):
        loss = 0.4 + math.exp(-step * (1 + number % 4) / n) + 0.02 * math.sin(7 * step + number)
        line = {"step": step, "loss": loss, "accuracy": 1 - loss / 2, "lr": 1e-3, "seconds": 0.01}
        lines.append(line | ({"val_loss": loss + 0.1, "val_accuracy": 0.9 - loss / 2} if step % 10 == 0 else {}))
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _put(path: Path, content: bytes) -> None:
    atomic_write(path, lambda file: file.write(content), durable=False)


def run(quick: bool) -> bool:
    if not CHROMIUM:
        raise PeerMissing("no Chromium is installed here (apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="page-") as name:
        runs = Path(name, "runs")
        runs.mkdir()
        make_runs(runs, N_RUNS)
        first, again, status = (_seconds(act) for act in (_write(runs), _write(runs), _status(runs)))
        n_bytes = (runs / page.PAGE).stat().st_size
        opened = [_opened(runs) for _ in range(1 if quick else 3)]
    best = min(opened, key=lambda seen: seen["ms"])
    print(f"\n{N_RUNS} runs: {first:.2f} s of a core to write the page, {again:.2f} s again, {n_bytes / 1e6:.2f} MB")
    print(f"  opened in Chromium after {best['ms']:.0f} ms, with {best['rows']} rows of {best['of']} drawn")
    print(f"  `status` of them: {status:.2f} s of a core")
    return judged(
        {
            "seconds_to_open": Goal(best["ms"] / 1000, 1.0),
            "core_s_to_write": Goal(first, 10.0),
            "core_s_to_write_again": Goal(again, 3.0),
            "core_s_of_status": Goal(status, 2.0),
        }
    )


def _write(runs: Path) -> Callable[[], object]:
    return lambda: _hpc(runs, "page")


def _status(runs: Path) -> Callable[[], object]:
    return lambda: _hpc(runs, "status")


def _hpc(runs: Path, *words: str) -> None:
    command = [sys.executable, "-m", "hpc.launch", *words, "--runs", str(runs)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _seconds(act: Callable[[], object]) -> float:
    """Return the time of a processor that a line of ours takes, which other work on the machine hardly changes."""
    before = os.times()
    act()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _opened(runs: Path) -> dict[str, Any]:
    """Open a copy of the page that says itself when its first rows are laid out."""
    copy = runs / "opened.html"
    text = (runs / page.PAGE).read_text()
    copy.write_text(text.replace('"use strict";', f'"use strict";\n{OPENED}', 1))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={runs / '.profile'}"]
    done = subprocess.run([CHROMIUM, *flags, copy.as_uri()], check=True, capture_output=True, text=True)
    seen: dict[str, Any] = json.loads(done.stdout.rpartition('<pre id="opened">')[2].partition("<")[0])
    return seen
