"""Alerts are sent once in a while, to every receiver, and a failed sender stops nothing."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eegdecode import stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.models.bilstm import BiLSTM
from eegdecode.training.config import Alerts, Compute, Optim, Train, Watch, check_ranks
from eegdecode.training.monitor import alerts
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir, read_lines


class Receiver(BaseHTTPRequestHandler):
    heard: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the test's output."""


@pytest.fixture
def webhook() -> Iterator[str]:
    Receiver.heard.clear()
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()


def context(tmp_path: Path) -> Context:
    return Context(World(), RunDir(tmp_path / "run"))


def test_an_alert_comes_once_in_its_time_and_over_restarts(webhook: str, tmp_path: Path) -> None:
    sender = alerts.Alerts(Alerts(webhook=webhook), context(tmp_path))
    sender.say("stalled", "no better since step 3")
    sender.say("stalled", "no better since step 3")
    sender.say("diverged", "9 after 1")
    alerts.Alerts(Alerts(webhook=webhook), context(tmp_path)).say("stalled", "no better since step 3")
    assert [line["title"] for line in read_lines(RunDir(tmp_path / "run").out / "alerts.jsonl")] == [
        "stalled",
        "diverged",
    ]
    assert Receiver.heard == [{"text": "run: stalled: no better since step 3"}, {"text": "run: diverged: 9 after 1"}]
    anew = alerts.Alerts(Alerts(webhook=webhook, wait_s=0), context(tmp_path))
    anew.say("stalled", "still")
    assert Receiver.heard[-1] == {"text": "run: stalled: still"}


def test_mail_goes_through_the_nodes_own_sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sendmail = tmp_path / "bin" / "sendmail"
    sendmail.parent.mkdir()
    sendmail.write_text(f"#!/bin/sh\ncat > {tmp_path}/letter\n")
    sendmail.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sendmail.parent}:/usr/bin:/bin")
    alerts.Alerts(Alerts(email="ala@example.org"), context(tmp_path)).say("budget", "5 GPU-hours spent")
    letter = (tmp_path / "letter").read_text()
    assert "To: ala@example.org" in letter and "Subject: run: budget" in letter and "5 GPU-hours spent" in letter


def test_what_cannot_be_sent_is_named_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    away = Alerts(webhook="http://127.0.0.1:9/", email="a@b.c", wandb=True)
    alerts.Alerts(away, context(tmp_path)).say("stalled", "no better")
    for way in ("webhook", "email", "wandb"):
        assert f"the alert 'stalled' could not be sent by {way}" in caplog.text
    assert len(read_lines(RunDir(tmp_path / "run").out / "alerts.jsonl")) == 1


@pytest.fixture
def cfg(tiny_store: Store) -> Train:
    return Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=BiLSTM(hidden=4),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=6, validate_every=2, warmup_steps=0),
    )


def trained(cfg: Train, tmp_path: Path) -> RunDir:
    stages.train(cfg, context(tmp_path))
    return RunDir(tmp_path / "run")


def test_a_run_that_gets_no_better_says_so(cfg: Train, tmp_path: Path) -> None:
    cfg = replace(cfg, optim=replace(cfg.optim, lr=1e-12, validate_every=1))
    run = trained(replace(cfg, watch=Watch(alerts=Alerts(stalled_steps=2, budget_gpu_h=1e-9))), tmp_path)
    texts = {line["title"]: line["text"] for line in read_lines(run.out / "alerts.jsonl")}
    assert set(texts) == {"stalled", "budget"} and "no better validation since step" in texts["stalled"]


def test_a_trace_of_the_steps_asked_for_is_kept(cfg: Train, tmp_path: Path) -> None:
    run = trained(replace(cfg, watch=Watch(profile=(2, 3))), tmp_path)
    trace = json.loads((run.out / "trace-000002-000003.json").read_text())
    assert any("lstm" in event.get("name", "") for event in trace["traceEvents"])
    assert "Self CPU" in (run.out / "trace-000002-000003.txt").read_text()


def test_a_trace_may_end_with_training_and_no_later(cfg: Train, tmp_path: Path) -> None:
    run = trained(replace(cfg, watch=Watch(profile=(4, 5))), tmp_path)
    assert (run.out / "trace-000004-000005.json").exists() and (run.out / "trace-000004-000005.txt").exists()
    with pytest.raises(ValueError, match="steps 4 to 6, but training has 6, counted from 0: the last .* is 5 at most"):
        replace(cfg, watch=Watch(profile=(4, 6)))


def test_a_run_that_stops_within_a_trace_keeps_both_parts_of_it(cfg: Train, tmp_path: Path) -> None:
    cfg, looked = replace(cfg, watch=Watch(profile=(1, 4))), iter([False, False, True])
    with pytest.raises(Preempted):
        stages.train(cfg, replace(context(tmp_path), should_stop=lambda: next(looked, True)))
    run = trained(cfg, tmp_path)
    spans = [tuple(map(int, path.stem.split("-")[1:])) for path in sorted(run.out.glob("trace-*.json"))]
    (first, stopped), (on, last) = spans
    assert (first, last) == (1, 4) and on == stopped + 1


def test_a_batch_that_one_rank_cannot_cut_names_what_would_help(cfg: Train) -> None:
    with pytest.raises(ValueError, match="4, which cannot be cut .* 3 portions: use 3 or 6, or another compute.accum"):
        check_ranks(replace(cfg, compute=Compute(accumulate=3)), 1)


def test_tensorboard_shows_examples_topographies_and_histograms(cfg: Train, tmp_path: Path) -> None:
    run = trained(replace(cfg, watch=Watch(examples=2, histograms=True)), tmp_path)
    shown = EventAccumulator(str(run.tensorboard), size_guidance={"images": 0, "histograms": 0})
    shown.Reload()
    tags = shown.Tags()
    assert {"example 0", "example 1"} <= set(tags["images"]), tags
    assert any(tag.startswith("parameters/") for tag in tags["histograms"])
    assert any(tag.startswith("gradients/") for tag in tags["histograms"])
    assert [event.step for event in shown.Images("example 0")] == [2, 4, 6]
