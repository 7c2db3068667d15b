"""Alerts are sent once in a while, to every receiver, and a failed sender stops nothing."""

import json
import resource
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
from hpc.config import Secret
from hpc.rank.context import Context, Input, Preempted, World
from hpc.runs.rundir import RunDir, read_lines
from tests.waiting import wait_for


class Receiver(BaseHTTPRequestHandler):
    """A server of webhooks, as good or bad as the path says."""

    heard: ClassVar[list[Any]] = []
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(f"POST {self.path}")
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        word = self.path.split("/")[1].partition("-")[0]
        if word.isdigit():
            self.send_response(int(word))
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere-{TOKEN}")  # type: ignore[attr-defined]
            self.end_headers()
        elif word == "hangs":
            RELEASED.wait(60)
        elif word == "drips":
            self.wfile.write(b"HTTP/1.0 200 OK\r\n")
            while not RELEASED.wait(0.1):
                self.wfile.write(b"A")
        elif word == "nonsense":
            self.wfile.write(f"{TOKEN} is no answer\r\n\r\n".encode())
        elif word == "huge":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                for _ in range(4096):
                    self.wfile.write(bytes(1 << 20))
            self.asked.append("cut")
        else:
            self.send_response(200)
            self.end_headers()

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.path}")
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the test's output."""


RELEASED = threading.Event()
TOKEN = "planted7f3a"
HOOK, MAIL = Secret("LAB_HOOK"), Secret("LAB_MAIL")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server. The secret LAB_HOOK is one of its paths."""
    Receiver.heard.clear()
    Receiver.asked.clear()
    RELEASED.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("LAB_HOOK", f"{address}/good-{TOKEN}")
    yield address
    RELEASED.set()
    server.shutdown()
    server.server_close()
    thread.join()


def context(tmp_path: Path, name: str = "run") -> Context:
    return Context(World(), RunDir(tmp_path / name))


def lines(tmp_path: Path) -> list[Any]:
    return read_lines(RunDir(tmp_path / "run").out / "alerts.jsonl")


def test_an_alert_comes_once_in_its_time_and_over_restarts(webhook: str, tmp_path: Path) -> None:
    sender = alerts.Alerts(Alerts(webhook=HOOK), context(tmp_path))
    sender.say("stalled", "no better since step 3")
    sender.say("stalled", "no better since step 3")
    sender.say("diverged", "9 after 1")
    alerts.Alerts(Alerts(webhook=HOOK), context(tmp_path)).say("stalled", "no better since step 3")
    assert [(line["title"], "not_sent" in line) for line in lines(tmp_path)] == [
        ("stalled", False),
        ("diverged", False),
    ]
    assert Receiver.heard == [{"text": "run: stalled: no better since step 3"}, {"text": "run: diverged: 9 after 1"}]
    anew = alerts.Alerts(Alerts(webhook=HOOK, wait_s=0), context(tmp_path))
    anew.say("stalled", "still")
    assert Receiver.heard[-1] == {"text": "run: stalled: still"}


@pytest.fixture
def sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "sendmail"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/letter\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


@pytest.mark.parametrize("address", ["ala@example.org", "o'neil+lab/x@mail.example.org"])
def test_mail_goes_through_the_nodes_own_sendmail(
    sendmail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("LAB_MAIL", address)
    alerts.Alerts(Alerts(email=MAIL), context(tmp_path)).say("budget", "5 GPU-hours spent")
    letter = (tmp_path / "letter").read_text()
    assert f"To: {address}" in letter and "Subject: run: budget" in letter and "5 GPU-hours spent" in letter
    assert "example.org" not in (tmp_path / "words").read_text()


@pytest.mark.parametrize(
    "address",
    [f"{TOKEN}@x.org\nBcc: eve@x.org", f"{TOKEN}@x.org, eve@x.org", f"{TOKEN}", f"-{TOKEN}@", f"Ala <{TOKEN}@x.org>"],
)
def test_what_is_not_one_mail_address_gets_no_mail(
    sendmail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    monkeypatch.setenv("LAB_MAIL", address)
    alerts.Alerts(Alerts(email=MAIL), context(tmp_path)).say("budget", "spent")
    assert not (tmp_path / "letter").exists()
    assert lines(tmp_path)[0]["not_sent"] == {"email": "the secret must be one mail address, as name@example.org"}
    assert TOKEN not in caplog.text


NAME = 'run\r\nBcc: eve@example.org\n\n\x1b[31m\u202e"|,'


def test_the_name_of_a_run_breaks_neither_header_nor_message(
    webhook: str, sendmail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_MAIL", "ala@example.org")
    alerts.Alerts(Alerts(webhook=HOOK, email=MAIL), context(tmp_path, NAME)).say("budget\nCc: eve@x.org", ".\nspent")
    letter = message_from_bytes((tmp_path / "letter").read_bytes(), policy=policy.default)
    assert sorted(letter) == ["Content-Transfer-Encoding", "Content-Type", "MIME-Version", "Subject", "To"]
    assert letter["Subject"] == 'run Bcc: eve@example.org [31m "|,: budget Cc: eve@x.org'
    assert letter.get_payload() == ".\nspent\n"
    assert Receiver.heard == [{"text": f"{NAME}: budget\nCc: eve@x.org: .\nspent"}]
    (line,) = read_lines(RunDir(tmp_path / NAME).out / "alerts.jsonl")
    assert line["run"] == NAME and "not_sent" not in line


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("500", "it answered 500"), ("404", "it answered 404"),
        ("301", "it answered 301, a redirect, which is not followed"),
        ("302", "it answered 302, a redirect, which is not followed"),
        ("303", "it answered 303, a redirect, which is not followed"),
        ("307", "it answered 307, a redirect, which is not followed"),
        ("308", "it answered 308, a redirect, which is not followed"),
        ("hangs", "no answer within 1 s"), ("drips", "no answer within 1 s"), ("nonsense", "BadStatusLine"),
    ],
)  # fmt: skip
def test_a_bad_server_of_webhooks_is_named_by_what_it_did_and_stops_nothing(
    webhook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str,
    reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(alerts, "SENDING_S", 1)
    monkeypatch.setenv("LAB_HOOK", f"{webhook}/{path}-{TOKEN}")
    alerts.Alerts(Alerts(webhook=HOOK), context(tmp_path)).say("stalled", "no better")
    assert lines(tmp_path)[0]["not_sent"] == {"webhook": reason}
    assert f"the alert 'stalled' could not be sent by webhook: {reason}" in caplog.text
    assert Receiver.asked == [f"POST /{path}-{TOKEN}"]  # and nothing elsewhere
    assert TOKEN not in caplog.text + json.dumps(lines(tmp_path))


def test_of_a_huge_answer_nothing_is_read(webhook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_HOOK", f"{webhook}/huge-{TOKEN}")
    alerts.Alerts(Alerts(webhook=HOOK), context(tmp_path)).say("stalled", "no better")
    wait_for(lambda: "cut" in Receiver.asked)
    assert "not_sent" not in lines(tmp_path)[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20  # in kB: less than the server would send


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/{}", "ftp://127.0.0.1/{}", "data:,{}", "gopher://127.0.0.1/{}", "javascript:{}", "{}", "http:{}",
        "http:///{}", "http://127.0.0.1:99999/{}", "http://127.0.0.1:x/{}", "http://[::{}", "http://127.0.0.1/ {}",
        "http://127.0.0.1/\r\nHost: x\r\n{}", "http://127.0.0.1/\x00{}", "http://127.0.0.1/\u202e{}",
        "http://user:{}@127.0.0.1/", " http://127.0.0.1/{}", "HTTPX://127.0.0.1/{}",
    ],
)  # fmt: skip
def test_a_webhook_is_an_address_of_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    monkeypatch.setattr(Secret, "value", lambda self, environ: address.format(TOKEN))  # no variable holds a NUL
    alerts.Alerts(Alerts(webhook=HOOK), context(tmp_path)).say("stalled", "no better")
    reason = lines(tmp_path)[0]["not_sent"]["webhook"]
    assert reason.startswith("the secret must be an address"), reason
    assert TOKEN not in caplog.text + json.dumps(lines(tmp_path))


def test_what_cannot_be_sent_is_named_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LAB_HOOK", f"http://127.0.0.1:9/{TOKEN}")
    monkeypatch.setenv("LAB_MAIL", "a@b.c")
    away = Alerts(webhook=HOOK, email=MAIL, wandb=True)
    alerts.Alerts(away, context(tmp_path)).say("stalled", "no better")
    for way in ("webhook", "email", "wandb"):
        assert f"the alert 'stalled' could not be sent by {way}" in caplog.text
    (line,) = lines(tmp_path)
    assert line["not_sent"]["webhook"] == "Connection refused"
    assert line["not_sent"]["email"] == "this node has no sendmail" and TOKEN not in caplog.text


def test_a_secret_that_is_not_there_or_not_safe_is_told_in_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secrets"
    monkeypatch.setenv("HPC_SECRETS", str(file))
    file.write_text(f"LAB_MAIL={TOKEN}@example.org\n")
    file.chmod(0o600)
    sender = alerts.Alerts(Alerts(webhook=HOOK, wait_s=0), context(tmp_path))
    sender.say("stalled", "no better")
    file.chmod(0o644)
    sender.say("stalled", "no better")
    missing, unsafe = (line["not_sent"]["webhook"] for line in lines(tmp_path))
    assert missing.startswith("there is no secret LAB_HOOK: set LAB_HOOK in the environment, or write the line")
    assert unsafe == f"{file} is open to others (mode 0644): chmod 600 {file}"


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
    cfg, looked = replace(cfg, watch=Watch(every=1, profile=(1, 4))), iter([False, False, True])
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
