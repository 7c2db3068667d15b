"""What trackers are given, and what becomes of one that fails: a warning, and training goes on.

A tracker that waits for a server has a thread, so that no step waits for it. One that has failed is tried again later,
and then gets what it lacks from metrics.jsonl. Steps that it has, as an attempt before was killed after them, are not
sent again: a run has one curve, and no point twice.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from eegdecode.training.trackers.installed import how_to_install
from eegdecode.training.trackers.tracker import Histogram, Tracked, Tracker, named, pixels
from hpc.runs import records

log = logging.getLogger(__name__)

AGAIN_S, SELDOM_S = 30.0, 600.0
"""When one that has failed is tried again; twice as long after each failure, up to the second."""
FEW_S = 15.0
"""How long the end of an attempt waits for what is not sent yet."""
MANY = 1000
"""Lines that a tracker gets at once, at most, besides those of validations."""
WAITING = 1000
"""Calls that may wait for a thread."""
BINS = 64

Act = Callable[[Tracker], None]


class Feed:
    """The calls of one tracker."""

    def __init__(self, tracker: Tracker, tracked: Tracked) -> None:
        self.tracker, self.tracked = tracker, tracked
        self._safe = 0
        self._reached = 0
        """The step of the last line of metrics.jsonl."""
        self._last: int | None = None
        """The last step that it has; None: it is not open."""
        self._warned = False
        self._again_at, self._again_s = 0.0, AGAIN_S

    def begin(self, safe: int = 0, reached: int = 0) -> None:
        """Open it. `safe`: the last step that an earlier attempt had written for certain; `reached`: that of the last
        line of metrics.jsonl, of which it gets the lines that it lacks."""
        self._safe, self._reached = safe, reached
        self._open()

    def line(self, line: Mapping[str, float]) -> None:
        """The lines up to this one are in metrics.jsonl."""
        step = self._reached = int(line["step"])
        self.act(step, lambda tracker: tracker.scalars(step, named(line)))
        if self._last is not None:
            self._last = max(self._last, step)

    def act(self, step: int, act: Act) -> None:
        """Do what belongs to a step, unless the tracker has that step from an earlier attempt."""
        self._open()
        if self._last is not None and step > self._last:
            self.do(act)

    def do(self, act: Act) -> None:
        self._open()
        if self._last is None:
            return
        try:
            act(self.tracker)
        except Exception as error:  # noqa: BLE001
            self._failed(error)

    def flush(self, step: int) -> None:
        """After it, steps up to this one are safe."""
        self.do(lambda tracker: tracker.flush())
        if self._last is not None:
            self._safe = max(self._safe, min(step, self._last))

    def close(self, finished: bool) -> None:
        if self._again_at < math.inf:
            self._again_at = 0.0
        self.do(lambda tracker: tracker.close(finished))

    def _open(self) -> None:
        """Unless it is open, or has just failed."""
        if self._last is not None or time.monotonic() < self._again_at:
            return
        try:
            self._last = self.tracker.begin(self._safe)
            if self._last < self._reached:
                self.catch_up(self._reached)
        except Exception as error:  # noqa: BLE001  whatever a library raises, training goes on
            self._failed(error)

    def catch_up(self, reached: float = math.inf) -> None:
        """Give it the lines of metrics.jsonl that it lacks, up to a step: those after it come with their pictures. To
        parse them takes long after a million steps."""
        last = self._last or 0
        lines = [line for line in records.metrics(self.tracked.run) if last < line["step"] <= reached]
        for line in _thinned(lines):
            self.tracker.scalars(int(line["step"]), named(line))
            self._last = int(line["step"])

    def _failed(self, error: Exception) -> None:
        again = "it is tried again, and then gets what it lacks"
        if isinstance(error, ImportError):
            self._again_at, again = math.inf, how_to_install(self.tracker.name)
        else:
            self._again_at = time.monotonic() + self._again_s
            self._again_s = min(2 * self._again_s, SELDOM_S)
        if not self._warned:
            log.warning("%s cannot be written: %s. The run goes on; %s", self.tracker.title, reason(error), again)
        self._warned, self._last = True, None


class Threaded:
    """A feed whose calls are made by a thread, in their order."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._missed = False
        self._thread = threading.Thread(target=self._run, name=f"tracker {feed.tracker.title}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], None]) -> None:
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            if not self._missed:
                log.warning("%s is behind: of the steps from here on it gets a selection", self.feed.tracker.title)
            self._missed = True

    def close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        try:
            self._calls.put(None, timeout=seconds)
        except queue.Full:
            log.debug("%s takes nothing more", self.feed.tracker.title)
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            log.warning("%s has not got all within %.0f s: %s", self.feed.tracker.title, seconds, LATER)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            if self._missed and self._calls.qsize() < WAITING // 2:
                self._missed = False
                self.feed.do(lambda tracker: self.feed.catch_up())


LATER = "the next attempt goes on with it, or `hpc sync RUN` after the last"


class Trackers:
    """All trackers of a run; none on ranks but the first."""

    def __init__(self, feeds: Sequence[Feed] = ()) -> None:
        self.feeds: list[Feed | Threaded] = [Threaded(feed) if feed.tracker.waits else feed for feed in feeds]

    def begin(self, safe: int = 0, reached: int = 0) -> None:
        """See Feed.begin."""
        self._each(lambda feed: feed.begin(safe, reached))

    def __bool__(self) -> bool:
        return bool(self.feeds)

    def line(self, line: Mapping[str, float]) -> None:
        """Show the figures of a step, a line of metrics.jsonl."""
        self._each(lambda feed: feed.line(line))

    def picture(self, step: int, name: str, figure: Any) -> None:
        """Show a figure of matplotlib."""
        drawn = pixels(figure)
        self._each(lambda feed: feed.act(step, lambda tracker: tracker.picture(step, name, drawn)))

    def sound(self, step: int, name: str, samples: np.ndarray, sfreq: int) -> None:
        self._each(lambda feed: feed.act(step, lambda tracker: tracker.sound(step, name, samples, sfreq)))

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        finite = values[np.isfinite(values)]
        if finite.size:
            counted = Histogram(*np.histogram(finite, BINS))
            self._each(lambda feed: feed.act(step, lambda tracker: tracker.histogram(step, name, counted)))

    def summary(self, step: int, figures: Mapping[str, float]) -> None:
        self._each(lambda feed: feed.do(lambda tracker: tracker.summary(step, figures)))

    def flush(self, step: int) -> None:
        self._each(lambda feed: feed.flush(step))

    def close(self, finished: bool = False, seconds: float = FEW_S) -> None:
        self._each(lambda feed: feed.close(finished))
        for feed in self.feeds:
            if isinstance(feed, Threaded):
                feed.close(seconds)
        self.feeds = []

    def _each(self, call: Callable[[Feed], None]) -> None:
        for feed in self.feeds:
            if isinstance(feed, Threaded):
                feed.put(partial(call, feed.feed))
            else:
                call(feed)


def _thinned(lines: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    every = -(-len(lines) // MANY) or 1
    return [
        line
        for number, line in enumerate(lines)
        if number % every == 0 or "validation_s" in line or number == len(lines) - 1
    ]


def reason(error: Exception) -> str:
    """In our words: the text of a library's error may hold an address with its password."""
    if isinstance(error, NoTracker):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


class NoTracker(Exception):
    """A tracker cannot be used; the message holds no secret."""
