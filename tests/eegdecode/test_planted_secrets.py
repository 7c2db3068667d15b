"""No file that a run leaves, and no line that it prints, holds a secret: planted ones are looked for in all of them."""

import io
import os
import secrets
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from hpc import config
from hpc.cli import planner
from hpc.cli.options import read
from hpc.plan.plan import Plan
from hpc.runs import products
from hpc.runs.rundir import RunDir, read_json, read_lines, write_json
from hpc.submit import executors
from tests.conftest import Launch

PLANTED = tuple(f"planted-{name}-{secrets.token_hex(8)}" for name in ("hook", "mail", "other", "env"))
"""New ones each time: the copy of the code that a run makes holds this file too."""
STUDY = """
synthesize: {n_subjects: 2, n_pieces: 6, piece_s: [6, 8]}
survey: {study: synthesize}
preprocess:
  study: synthesize
  steps: [{name: resample, sfreq: 64}, {name: scale}]
  targets: [{name: envelope, sfreq: 64}]
audit: {data: preprocess, target: envelope}
train:
  data: preprocess
  model: {name: bilstm, hidden: 4, layers: 1}
  optim: {steps: 8, validate_every: 4, warmup_steps: 0}
  windows: {length_s: 2.0, batch: 4}
  split: {by: stimulus}
  watch: {examples: 1, histograms: true, alerts: {budget_gpu_h: 1e-9}}
evaluate: {model: train}
"""


class Receiver(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if "bad" in self.path else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the test's output."""


@pytest.fixture
def address() -> Iterator[str]:
    Receiver.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def lab(launch: Launch, address: str) -> Launch:
    """A user with a webhook in the environment, and with mail and another webhook in the file of secrets."""
    sendmail = launch.folder / "bin/sendmail"
    sendmail.parent.mkdir()
    sendmail.write_text('#!/bin/sh\ncat > "$LETTER"\necho "$LETTER: cannot send to:" >&2\ncat "$LETTER" >&2\nexit 75\n')
    sendmail.chmod(0o755)
    letter = launch.folder / "not-a-product/letter"
    letter.parent.mkdir()
    file = launch.folder / "not-a-product/secrets"
    file.write_text(f"LAB_MAIL={PLANTED[1]}@example.org\nBAD_HOOK={address}/bad/{PLANTED[2]}\n")
    file.chmod(0o600)
    (launch.folder / "study.yaml").write_text(STUDY)
    launch.environ |= {
        "LAB_HOOK": f"{address}/good/{PLANTED[0]}", "OTHER_HOOK": f"ftp://{PLANTED[3]}/", "HPC_SECRETS": str(file),
        "LETTER": str(letter), "PATH": f"{sendmail.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    return launch


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of a file, and of each part of it if it is a zip, as model.pt is."""
    whole = path.read_bytes()
    yield str(path), whole
    if zipfile.is_zipfile(io.BytesIO(whole)):
        with zipfile.ZipFile(io.BytesIO(whole)) as parts:
            for name in parts.namelist():
                yield f"{path}:{name}", parts.read(name)


def leaks(folder: Path, texts: str = "") -> list[str]:
    """The places below a folder, and the texts, in which a secret is."""
    files = [path for path in folder.rglob("*") if path.is_file() and "not-a-product" not in path.parts]
    parts = [*((name, part) for path in files for name, part in contents(path)), ("printed", texts.encode())]
    found = [name for name, part in parts if any(planted.encode() in part for planted in PLANTED)]
    return found + [str(path) for path in folder.rglob("*") if any(planted in path.name for planted in PLANTED)]


def alerts(run: RunDir) -> Any:
    (line,) = read_lines(run.out / "alerts.jsonl")
    return line


def run_of(launch: Launch, stage: str) -> RunDir:
    (path,) = (path for path in launch.runs() if path.name.startswith(f"{stage}-"))
    return RunDir(path)


def test_a_planted_secret_is_in_no_product_of_a_pipeline(lab: Launch) -> None:
    words = ["pipeline", "study.yaml", "train.watch.alerts.webhook=LAB_HOOK", "train.watch.alerts.email=LAB_MAIL"]
    done = lab(*words, "--name", "all")
    printed = done.stdout + done.stderr
    train = run_of(lab, "train")
    assert Receiver.asked == [f"/good/{PLANTED[0]}"]  # it was sent, so the run has read it
    assert f"To: {PLANTED[1]}@example.org" in (lab.folder / "not-a-product/letter").read_text()
    assert alerts(train)["not_sent"] == {"email": "sendmail ended with 75"}
    for verb in (["status"], ["status", "--json"], ["resume", train.name], ["export", train.name, "--on", "bed"]):
        again = lab(*verb)
        printed += again.stdout + again.stderr
    # For Slurm: with job.sbatch and env.sh
    lab(*words, "train.seed=1", "--prepare", "--on", "bed", "--runs", "prepared")
    assert len(list((lab.folder / "prepared").glob("*/job.sbatch"))) == 6
    names = {path.name for path in lab.folder.rglob("*")}
    assert {
        "plan.json", "config.yaml", "env.sh", "job.sbatch", "rank-0000.log", "events.jsonl", "model.pt", "COMMIT",
        "report.html", "report.md", "survey.html", "audit.html", "alerts.jsonl", "metrics.jsonl",
    } <= names and any(name.startswith("events.out.tfevents") for name in names)  # fmt: skip
    assert leaks(lab.folder, printed) == []
    assert (train.path / "config.yaml").read_text().count("LAB_") == 2  # only the names
    report = (run_of(lab, "evaluate").out / "report.html").read_text()
    assert "train.watch.alerts.wait_s=3600.0" in report and "train.watch.alerts.webhook=\n" in report


FAILS = {
    "BAD_HOOK": "it answered 500",
    "OTHER_HOOK": "the secret must be an address that begins with http:// or https://",
    "NO_HOOK": "there is no secret NO_HOOK: set NO_HOOK in the environment, or write",
}


def test_a_secret_that_fails_is_in_no_product_either_and_names_no_run(lab: Launch) -> None:
    lab("preprocess", "study.yaml")
    printed = ""
    for seed, (hook, reason) in enumerate(FAILS.items()):
        before = lab.runs()
        words = ["train", "study.yaml", f"seed={seed}"]
        done = lab(*words, f"watch.alerts.webhook={hook}")
        (path,) = set(lab.runs()) - set(before)
        run = RunDir(path)
        assert alerts(run)["not_sent"]["webhook"].startswith(reason)
        assert f"could not be sent by webhook: {reason}" in run.attempt(1).log(0).read_text()
        assert ("note    train.watch.alerts.webhook: there is no secret" in done.stdout) == (hook == "NO_HOOK")
        printed += done.stdout + done.stderr
        assert f"{run.name} finished before" in lab(*words, "watch.alerts.webhook=LAB_HOOK", "--dry-run").stdout
        assert f"{run.name} finished before" in lab(*words, "--dry-run").stdout
    assert leaks(lab.folder, printed) == []


def test_a_run_of_an_earlier_version_goes_on_with_its_literal_and_shows_it_no_more(
    lab: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab("preprocess", "study.yaml")
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("HPC_SITE", "local")
    literal = lab.environ["LAB_HOOK"]
    run = prepared_as_formerly(literal, {})
    assert literal in run.config.read_text() and literal in run.plan.read_text()
    done = lab("resume", run.name)
    assert f"train: {run.name}" in done.stdout and Receiver.asked == [f"/good/{PLANTED[0]}"]
    assert "webhook is no name of a secret but the secret itself, as earlier versions stored it" in done.stdout
    assert alerts(run)["title"] == "budget" and "not_sent" not in alerts(run)
    # Its model as it was stored then
    path = run.out / "model.pt"
    model = torch.load(path, weights_only=True)
    assert model["config"]["watch"]["alerts"]["webhook"] == ""
    model["config"]["watch"]["alerts"]["webhook"] = literal
    torch.save(model, path)
    products.enter(path)
    evaluated = lab("evaluate", f"model={run.name}")
    status = lab("status").stdout + lab("status", "--json").stdout
    assert "watch.alerts.webhook=http://… optim.lr=0.1" in status
    assert {Path(name.partition(":")[0]) for name in leaks(lab.folder, done.stdout + evaluated.stdout + status)} == {
        run.config, path,
    }  # fmt: skip


def prepared_as_formerly(literal: str, environ: dict[str, str]) -> RunDir:
    """The run folder that an earlier version made of a webhook that was typed."""
    (plan,) = planner.make(read(["train", "study.yaml", "optim.lr=0.1", "--runs", "runs"]), environ)
    values: dict[str, Any] = plan.science.config
    values["watch"]["alerts"]["webhook"] = literal
    typed = f"watch.alerts.webhook={literal} optim.lr=0.1"
    old: Plan = replace(
        plan, science=replace(plan.science, config=values), sources=("study.yaml", typed), settings=typed
    )
    assert old.science.name != plan.science.name
    run = executors.write_run(old)
    record = read_json(run.plan)
    assert record is not None
    write_json(run.plan, {key: value for key, value in record.items() if key != "secrets"})
    assert config.load([run.config]) == values
    return run
