"""Send alerts: a line in alerts.jsonl, and a message to the receivers in the config. A failed sender stops nothing.

Addresses are secrets: they are read when an alert is sent, and reasons for a failure are told in our own words, because
those of libraries contain the address.
"""

import json
import logging
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from eegdecode.training.config import watch
from hpc.errors import ConfigError
from hpc.rank.context import Context
from hpc.runs.rundir import append_line, read_lines

log = logging.getLogger(__name__)

SENDING_S = 10
Line = dict[str, Any]


class NotSent(Exception):
    """An alert could not be sent; the message names no address."""


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
        line: Line = {"time": now, "title": title, "text": text, "run": self.ctx.run.name}
        tried = {to: _why_not(send, line) for to, send in self._senders().items()}
        not_sent = {to: reason for to, reason in tried.items() if reason}
        for to, reason in not_sent.items():
            log.warning("the alert %r could not be sent by %s: %s", title, to, reason)
        try:
            append_line(self.path, line | ({"not_sent": not_sent} if not_sent else {}))
        except (OSError, ValueError) as error:
            log.warning("the alert %r could not be written to %s: %s", title, self.path, error)

    def _senders(self) -> dict[str, Callable[[Line], None]]:
        cfg = self.cfg
        wanted = {"webhook": (cfg.webhook, self._post), "email": (cfg.email, self._mail), "wandb": (cfg.wandb, _wandb)}
        return {to: send for to, (asked, send) in wanted.items() if asked}

    def _post(self, line: Line) -> None:
        address = web_address(self.cfg.webhook.value(os.environ))
        body = json.dumps({"text": _text(line)}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        _within(SENDING_S, lambda: _open(request))

    def _mail(self, line: Line) -> None:
        message = EmailMessage()
        message["To"] = mail_address(self.cfg.email.value(os.environ))
        message["Subject"] = _one_line(f"{line['run']}: {line['title']}")
        message.set_content(str(line["text"]))
        command = ["sendmail", "-i", "-t"]  # -i: a line with a single dot does not end the message
        null = subprocess.DEVNULL
        try:
            subprocess.run(command, input=bytes(message), timeout=SENDING_S, check=True, stdout=null, stderr=null)
        except FileNotFoundError:
            raise NotSent("this node has no sendmail") from None
        except subprocess.CalledProcessError as error:
            raise NotSent(f"sendmail ended with {error.returncode}") from None


def web_address(text: str) -> str:
    """Return an address for a POST, or raise NotSent."""
    try:
        parts = urllib.parse.urlsplit(text)
        valid = parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not re.fullmatch(r"[\x21-\x7e]+", text) or not valid or parts.scheme not in ("http", "https"):
        raise NotSent("the secret must be an address that begins with http:// or https://")
    if "@" in parts.netloc:
        raise NotSent("the secret must be an address without user and password before its host")
    return text


def mail_address(text: str) -> str:
    """Return the one mail address that a text is, or raise NotSent."""
    if re.fullmatch(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(\.[\w-]+)*", text, re.ASCII) is None:
        raise NotSent("the secret must be one mail address, as name@example.org")
    return text


def _open(request: urllib.request.Request) -> None:
    """Send a request by http or https only. A redirect is not followed, and of the answer only the head is read."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    try:
        opener.open(request, timeout=SENDING_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        is_redirect = 300 <= error.code < 400
        raise NotSent(f"it answered {error.code}{', a redirect, which is not followed' * is_redirect}") from None


def _within(seconds: float, send: Callable[[], None]) -> None:
    """Do it, or give up: a time-out of a socket begins anew with each byte. A thread that is given up ends by itself
    or with the process."""
    ended: list[Exception | None] = []

    def run() -> None:
        try:
            send()
            ended.append(None)
        except Exception as error:  # noqa: BLE001  raised again below
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise TimeoutError
    if ended[0] is not None:
        raise ended[0]


def _why_not(send: Callable[[Line], None], line: Line) -> str:
    """Send an alert. Return the reason if it could not be sent, else an empty text."""
    try:
        send(line)
    except Exception as error:  # noqa: BLE001  whatever a library raises, training goes on
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    """The reason in our words. The text of an error of a library may contain the address, so it is not shown."""
    if isinstance(error, NotSent | ConfigError):
        return str(error)
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
        return f"no answer within {SENDING_S} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _text(line: Line) -> str:
    return f"{line['run']}: {line['title']}: {line['text']}"


def _one_line(text: str) -> str:
    """The text as a header of a mail: without line breaks and other control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _wandb(line: Line) -> None:
    try:
        import wandb  # an extra
    except ImportError:
        raise NotSent("wandb is not installed") from None
    if wandb.run is None:
        raise NotSent("no run of it is active: say watch.trackers=[wandb]")
    wandb.run.alert(title=str(line["title"]), text=_text(line))
