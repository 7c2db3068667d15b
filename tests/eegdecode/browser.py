"""A page as Chromium has it: its errors and requests, its width on a phone, its sounds played, its contrasts.

Spoken to over two pipes by its DevTools protocol, https://chromedevtools.github.io/devtools-protocol.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tests.waiting import LONG_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

ASK = """(async () => {
const parts = colour => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map((part, index) =>
  index < 3 && colour.startsWith('color(') ? 255 * part : +part);
const over = (top, below) => [0, 1, 2].map(i => top[i] * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
const light = colour => colour.slice(0, 3).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = element => !element ? [255, 255, 255] :
  over(parts(getComputedStyle(element).backgroundColor), behind(element.parentElement));
const contrasts = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
  if (!own || element.closest('title, script')) continue;
  const style = getComputedStyle(element), halo = style.paintOrder.startsWith('stroke') && style.stroke !== 'none';
  const back = halo ? parts(style.stroke) : behind(element);
  const [one, other] = [light(over(parts(element.ownerSVGElement ? style.fill : style.color), back)), light(back)];
  contrasts.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), own.slice(0, 40)]);
}
const sounds = [];
for (const audio of document.querySelectorAll('audio')) {
  audio.muted = true;
  const problem = await audio.play().then(() => '', String);
  for (let turn = 0; !problem && turn < 9999 && !audio.currentTime; turn++) await new Promise(go => setTimeout(go, 20));
  sounds.push({ready: audio.readyState, seconds: audio.duration || 0, at: audio.currentTime, problem});
  audio.pause();
}
return {
  sounds, width: innerWidth, scrolls_to: document.documentElement.scrollWidth,
  background: getComputedStyle(document.body).backgroundColor,
  contrasts: contrasts.sort((a, b) => a[0] - b[0]).slice(0, 5),
  pictures: [...document.images].map(image => image.naturalWidth),
};
})()"""


# A page in a frame is a page of its own
AXE = """axe.run(document, {iframes: false, %s}).then(run => run.violations
  .filter(rule => ['serious', 'critical'].includes(rule.impact))
  .map(rule => [rule.id, rule.nodes[0].html.slice(0, 200)]))"""

PRINTED = """[getComputedStyle(document.body).backgroundColor, ...['.contents', '.scroll'].map((name, number) => {
  const element = document.querySelector(name), style = element && getComputedStyle(element);
  return !element ? ['none', 'visible'][number] : number ? style.overflowX : style.display;
})]"""


@dataclass(frozen=True)
class Seen:
    """What a page is when it has been loaded, and each of its sounds begun."""

    sounds: list[dict[str, Any]]
    width: int
    scrolls_to: int
    background: str
    contrasts: list[tuple[float, str]]
    """The worst, and of which text."""
    pictures: list[int]
    errors: list[str]
    requests: list[str]


def look(page: Path, width: int, dark: bool, profile: Path) -> Seen:
    """On a screen of that width, in that theme."""
    with Browser(profile) as chromium:
        chromium.say("Network.enable")
        chromium.say("Runtime.enable")
        chromium.say("Log.enable")
        chromium.say("Page.enable")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.say("Emulation.setDeviceMetricsOverride", **size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chromium.say("Emulation.setEmulatedMedia", features=[theme])
        chromium.say("Page.navigate", url=page.as_uri())
        chromium.until("Page.loadEventFired")
        said = chromium.say("Runtime.evaluate", expression=ASK, awaitPromise=True, returnByValue=True)
        heard = chromium.heard
    errors = [str(params) for method, params in heard if method in ("Runtime.exceptionThrown", "Log.entryAdded")]
    errors += [str(params) for method, params in heard if method == "Runtime.consoleAPICalled"]
    asked = [params["request"]["url"] for method, params in heard if method == "Network.requestWillBeSent"]
    return Seen(**said["result"]["value"], errors=errors, requests=[url for url in asked if url != page.as_uri()])


@dataclass(frozen=True)
class Audited:
    """The rules of axe-core that a page breaks, each with the first element that does, in light and dark; and how it is
    printed, if it is dark: the background, and whether contents are shown and wide tables cut off."""

    light: list[tuple[str, str]]
    dark: list[tuple[str, str]]
    printed: list[str]


def audited(addresses: Mapping[str, str], profile: Path) -> dict[str, Audited]:
    """Rules of a serious or critical impact, by the name of the page."""
    axe = (resources.files("axe_core_python") / "axe.min.js").read_text()
    found = {}
    with Browser(profile) as chromium:
        chromium.say("Page.enable")
        chromium.say("Runtime.enable")
        for name, address in addresses.items():
            chromium.heard.clear()
            chromium.say("Page.navigate", url="about:blank")  # another #… alone would load nothing
            chromium.until("Page.loadEventFired")
            chromium.heard.clear()
            chromium.say("Page.navigate", url=address)
            chromium.until("Page.loadEventFired")
            chromium.say("Runtime.evaluate", expression=axe)
            rules = []
            for theme, only in (("light", ""), ("dark", "runOnly: ['color-contrast']")):
                feature = {"name": "prefers-color-scheme", "value": theme}
                chromium.say("Emulation.setEmulatedMedia", media="screen", features=[feature])
                rules.append(_evaluated(chromium, AXE % only))
            chromium.say("Emulation.setEmulatedMedia", media="print", features=[feature])
            found[name] = Audited(*([tuple(each) for each in own] for own in rules), _evaluated(chromium, PRINTED))
    return found


def _evaluated(chromium: "Browser", expression: str) -> Any:
    said = chromium.say("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in said, said
    return said["result"]["value"]


class Browser:
    """One Chromium with one page, until its `with` ends. `heard`: the events that it has sent unasked."""

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._count, self._rest = 0, b""

    def __enter__(self) -> "Browser":
        assert CHROMIUM
        (theirs, self._to), (self._from, back) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs, back)]  # not the very 3 and 4 they are put on
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
                 "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={self.profile}"]  # fmt: skip
        script = f'exec "$0" "$@" 3<&{high[0]} 4>&{high[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *flags],
            pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in (theirs, back, *high):
            os.close(fd)
        self._session = ""
        target = self.say("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.say("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        self._session = ""
        self.say("Browser.close")
        self._process.wait(timeout=LONG_S)
        os.close(self._to)
        os.close(self._from)

    def say(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask for something, and wait for the answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._count:
                assert "error" not in found, found
                return found["result"]

    def until(self, method: str) -> None:
        while all(each != method for each, _ in self.heard):
            self._next()

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + LONG_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], until - time.monotonic())
            more = os.read(self._from, 1 << 20) if ready else b""
            assert more, f"Chromium has ended or says nothing, after {self.heard[-3:]}"
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(first)
        if "method" in found:
            self.heard.append((found["method"], found["params"]))
        return found
