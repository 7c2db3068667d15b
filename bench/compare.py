"""Time methods against each other: in the same rounds, in random order, told as ratios. Machines are noisy."""

import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class PeerMissing(Exception):
    """A peer is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Goal:
    """A ratio or a figure that we claim; `at_least` says which side of the bar is good."""

    value: float
    bar: float
    at_least: bool = False

    @property
    def ok(self) -> bool:
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def rounds(
    methods: Mapping[str, Callable[[], object]], n: int, before: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each method in each of n rounds, after one that does not count. `before` each, untimed."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(n + 1):
        for name in order.sample(list(methods), len(methods)):
            before()
            began = time.perf_counter()
            methods[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """The median over rounds of one / other, each ratio within a round."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def show(
    title: str, seconds: Mapping[str, list[float]], limit: str, goals: Mapping[str, Goal], unit: str = "ms"
) -> bool:
    """Print the table and the line of JSON; gives whether every goal is reached."""
    n = len(next(iter(seconds.values())))
    print(
        f"\n{title}: medians of {n} interleaved rounds, {os.cpu_count()} cores of {processor()}, "
        f"Python {platform.python_version()}"
    )
    width = max(map(len, seconds))
    per_s = {"ms": 1e3, "s": 1}[unit]
    print(f"{'':<{width}}  {unit:>9}  {'/ ' + limit:>16}")
    for name, values in seconds.items():
        print(f"{name:<{width}}  {statistics.median(values) * per_s:>9.1f}  {ratio(seconds, name, limit):>16.2f}")
    return judged(goals)


def processor() -> str:
    """What this machine calls its processor."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def judged(goals: Mapping[str, Goal]) -> bool:
    """Print each goal and the line of JSON; gives whether every one is reached."""
    for name, goal in goals.items():
        sign = ">=" if goal.at_least else "<="
        print(f"{'ok   ' if goal.ok else 'SHORT'} {name}: {goal.value:.3g} ({sign} {goal.bar:g})")
    print(json.dumps({k: {"value": round(g.value, 4), "bar": g.bar, "ok": g.ok} for k, g in goals.items()}), flush=True)
    return all(goal.ok for goal in goals.values())


class Peers:
    """Methods that run in another python, in our rounds: those that `python -m module` says it has, by their names."""

    def __init__(self, python: str, module: str, told: object, what: str) -> None:
        self.what = what
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.names: list[str] = json.loads(self._answer() or "[]")
        if not self.names:
            raise PeerMissing(f"{python} cannot run {what}: its error stands above")

    def method(self, name: str) -> Callable[[], None]:
        def run() -> None:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{name}\n")
            self._process.stdin.flush()
            if not self._answer():
                raise RuntimeError(f"the python of {self.what} has ended in {name}: its error stands above")

        return run

    def close(self) -> None:
        self._process.kill()  # it would not see the end of its input: forks of this process hold it open
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()
