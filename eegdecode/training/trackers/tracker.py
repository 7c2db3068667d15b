"""What a tracker is, and what it is told of a run. The names of figures are the same in all of them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from hpc.runs.rundir import RunDir, read_json

Scalar = bool | int | float | str
MAIN = (
    "data", "target", "model", "objective.name", "optim.lr", "optim.steps", "optim.weight_decay", "optim.schedule",
    "windows.name", "windows.batch", "windows.length_s", "trainable.train", "split.fold", "split.seed", "seed",
)  # fmt: skip
"""The settings by which people compare runs; of a section, all that are numbers or texts."""
TIMES = ("seconds", "data_wait_s", "validation_s")


class Histogram(NamedTuple):
    """`edges` has one more than `counts`."""

    counts: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class Tracked:
    """A run, as trackers know it.

    Parameters
    ----------
    id
        The same at each attempt, and another for each run folder: a replay is no part of what it repeats.
    title
        What people call it: `eegnet envelope seed 0 · train-k3f9x2ab`.
    settings
        All of them, by dotted names.
    main
        Those by which people compare runs.
    """

    run: RunDir
    id: str
    title: str
    settings: Mapping[str, Scalar]
    main: Mapping[str, Scalar]


class Tracker(Protocol):
    """A place where people look at curves. Each call may raise whatever its library raises: see feed.py."""

    name: str
    title: str
    """Its name in sentences."""
    waits: bool
    """Whether a call may wait for somebody, as a server: it is then made by a thread."""

    def begin(self, safe: int) -> int:
        """Begin, or go on where an earlier attempt or a failure ended. Returns the last step that it has; `safe`: the
        last one that an earlier attempt had written for certain."""

    def scalars(self, step: int, figures: Mapping[str, float]) -> None: ...

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Show a picture: rows, columns, 3 colours, of uint8."""

    def sound(self, step: int, name: str, samples: np.ndarray, sfreq: int) -> None:
        """Play samples from -1 to 1."""

    def histogram(self, step: int, name: str, histogram: Histogram) -> None: ...

    def summary(self, step: int, figures: Mapping[str, float]) -> None:
        """Show final figures beside the settings of the run."""

    def flush(self) -> None:
        """Write what would be lost with this process, if that takes no time."""

    def close(self, finished: bool) -> None: ...


def tracked(run: RunDir, config: Mapping[str, Any]) -> Tracked:
    """`config`: of the training, as plain values."""
    settings = dict(_flat(config))
    main = {name: value for name, value in settings.items() if name.startswith(tuple(f"{part}." for part in MAIN))}
    main |= {name: settings[name] for name in MAIN if name in settings}
    what = settings.get("target") or settings.get("objective.name", "")
    title = f"{settings.get('model.name', 'model')} {what} seed {settings.get('seed', 0)} · {run.name}"
    return Tracked(run, _id(run), title, settings, main)


def _id(run: RunDir) -> str:
    """By the identity of the run folder, which plan.json names; where no launcher has made it, by its path."""
    plan = read_json(run.plan)
    own = str(plan.get("identity") or "") if isinstance(plan, dict) else ""
    own = own or hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', run.name)[:48]}-{own[:8]}"


def _flat(value: Any, at: str = "") -> "list[tuple[str, Scalar]]":
    if isinstance(value, Mapping):
        return [pair for key, each in value.items() for pair in _flat(each, f"{at}.{key}" if at else str(key))]
    if isinstance(value, list | tuple):
        return [(at, ", ".join(str(dict(_flat(each)) if isinstance(each, Mapping) else each) for each in value))]
    return [(at, value if isinstance(value, Scalar) else str(value).lower())]


def named(line: Mapping[str, float]) -> dict[str, float]:
    """The figures of a line of metrics.jsonl by the names under which they are shown, the loss last: who has that of a
    step has all of it."""
    names = {_name(name): value for name, value in line.items() if name != "step"}
    return {name: names[name] for name in sorted(names, key=lambda name: (name == LOSS, name))}


LOSS = "train/loss"


def _name(name: str) -> str:
    if name in TIMES:
        return f"time/{'step_s' if name == 'seconds' else name}"
    return f"validation/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}"


def pixels(figure: Any) -> np.ndarray:
    """Of a figure of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
