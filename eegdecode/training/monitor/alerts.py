"""Send alerts: a line in alerts.jsonl, and a message to the receivers in the config. A failed sender stops nothing."""

import json
import logging
import subprocess
import time
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage

from eegdecode.training.config import watch
from hpc.rank.context import Context
from hpc.runs.rundir import append_line, read_lines

log = logging.getLogger(__name__)

SENDING_S = 10


class Alerts:
    """The alerts of one run. A title is not sent again within the wait, not by a later attempt either. Rank 0 sends."""

    def __init__(self, cfg: watch.Alerts, ctx: Context) -> None:
        self.cfg, self.ctx = cfg, ctx
        self.path = ctx.out / "alerts.jsonl"
        self._last_sent: dict[str, float] = {}
        for line in read_lines(self.path) if ctx.world.is_first else ():
            if isinstance(line.get("title"), str) and isinstance(line.get("time"), int | float):
                self._last_sent[line["title"]] = line["time"]

    def say(self, title: str, text: str) -> None:
        now = time.time()
        if not self.ctx.world.is_first or now - self._last_sent.get(title, -self.cfg.wait_s) < self.cfg.wait_s:
            return
        self._last_sent[title] = now
        log.warning("ALERT %s: %s", title, text)
        line = {"time": now, "title": title, "text": text, "run": self.ctx.run.name}
        for to, send in {"file": self._write, **self._senders()}.items():
            try:
                send(line)
            except (OSError, ValueError, ImportError, subprocess.SubprocessError) as error:
                log.warning("the alert %r could not be sent by %s: %s", title, to, error)

    def _senders(self) -> dict[str, Callable[[dict[str, object]], None]]:
        cfg = self.cfg
        wanted = {"webhook": (cfg.webhook, self._post), "email": (cfg.email, self._mail), "wandb": (cfg.wandb, _wandb)}
        return {to: send for to, (asked, send) in wanted.items() if asked}

    def _write(self, line: dict[str, object]) -> None:
        append_line(self.path, line)

    def _post(self, line: dict[str, object]) -> None:
        body = json.dumps({"text": _text(line)}).encode()
        request = urllib.request.Request(self.cfg.webhook, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SENDING_S):
            pass

    def _mail(self, line: dict[str, object]) -> None:
        message = EmailMessage()
        message["To"], message["Subject"] = self.cfg.email, f"{line['run']}: {line['title']}"
        message.set_content(str(line["text"]))
        subprocess.run(["sendmail", "-t"], input=message.as_bytes(), timeout=SENDING_S, check=True, capture_output=True)


def _text(line: dict[str, object]) -> str:
    return f"{line['run']}: {line['title']}: {line['text']}"


def _wandb(line: dict[str, object]) -> None:
    import wandb  # an extra

    if wandb.run is None:
        raise ValueError("no run of it is active: call wandb.init in your own stage")
    wandb.alert(title=str(line["title"]), text=_text(line))
