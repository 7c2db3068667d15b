"""A stored recording as memory-mapped arrays, and the recordings of one or several runs as a dataset. Numpy only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eegdecode.signals import Sensor, SignalSpec, Trial
from hpc.runs import products

HDF5 = b"\x89HDF\r\n\x1a\n"
"""With which each file begins."""


@dataclass(frozen=True)
class Block:
    """The position of one array in a file, and its rate; 0 Hz for one row a trial."""

    offset: int
    shape: tuple[int, int]
    sfreq: float
    dtype: str = "<f4"

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape)
        if len(numbers) != 3 or not all(isinstance(number, int | np.integer) and number >= 0 for number in numbers):
            raise ValueError(f"an array of the shape {self.shape} at byte {self.offset} is impossible")
        if self.dtype not in ("<f4", "<i2"):
            raise ValueError(f"an array is float32 or int16, not {self.dtype!r}")

    @property
    def n_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Stored:
    """One recording of a store. Arrays are mapped at first access; a pickled copy maps them again."""

    path: Path
    name: str
    subject: str
    session: str
    run: str
    channels: tuple[str, ...]
    trials: tuple[Trial, ...]
    blocks: dict[str, Block] = field(repr=False)  # "signal", "targets/NAME" and "values/NAME"
    sensors: tuple[Sensor, ...] = field(default=(), repr=False)
    scale: tuple[float, ...] | None = None  # for an int16 signal: the step of each channel
    checksum: str = ""  # of the signal: equal for recordings with the same samples
    key: str = ""
    size: int = 0  # of the file, in bytes
    made: Mapping[str, Any] = field(default_factory=dict, repr=False)
    verified: bool = field(default=True, repr=False)
    """Whether the file is verified before it is read."""

    @property
    def sfreq(self) -> float:
        return self.blocks["signal"].sfreq

    @property
    def n_times(self) -> int:
        return self.blocks["signal"].shape[0]

    @cached_property
    def in_order(self) -> tuple[Trial, ...]:
        """The trials in order of their start."""
        return tuple(sorted(self.trials, key=lambda trial: trial.start))

    @property
    def bad_spans(self) -> tuple[tuple[float, float], ...]:
        """Start and stop in seconds of what no window may read."""
        return tuple((float(start), float(stop)) for start, stop in self.made.get("spans", ()))

    @property
    def signal(self) -> np.ndarray:
        """The signal [time, channel], read-only: float32, or int16 in steps of `scale`."""
        return self._maps["signal"]

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read these samples as float32, [time, channel]."""
        samples = self.signal[first:stop]
        return np.array(samples, np.float32) if self.scale is None else samples * np.array(self.scale, np.float32)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that are streams over time."""
        return self._named("targets")

    def target(self, name: str) -> np.ndarray:
        """[time, feature], read-only."""
        self._target_block(name)
        return self._maps[f"targets/{name}"]

    def target_sfreq(self, name: str) -> float:
        return self._target_block(name).sfreq

    def n_outputs(self, target: str) -> int:
        return self._target_block(target).shape[1]

    def shape_of(self, target: str) -> tuple[int, float]:
        """Return the number of features of a target and its rate in Hz; 0 Hz for one row a trial, no features for no
        target."""
        if not target:
            return 0, 0.0
        block = self.blocks.get(f"values/{target}") or self.blocks.get(f"targets/{target}")
        if block is None:
            known = (*self.targets, *self._named("values"))
            raise ValueError(_no_such("target", known, target, self.name))
        return block.shape[1], block.sfreq

    def values(self, name: str) -> np.ndarray:
        """Return [trial, feature], read-only, for a target with one row a trial."""
        if f"values/{name}" not in self.blocks:
            raise ValueError(_no_such("a value of the trials", self._named("values"), name, self.name))
        return self._maps[f"values/{name}"]

    def verify(self) -> None:
        """Raise ValueError unless the file is the one that was written; at once from the second time on."""
        if not self.path.is_file():
            raise ValueError(f"{self.path} is not there any more: run preprocess again")
        if self.verified:
            products.verify(self.path)
        elif self.size not in (0, size := self.path.stat().st_size):
            raise ValueError(
                f"{self.path} has {size} bytes, but had {self.size} when it was written: run preprocess again"
            )

    def _named(self, group: str) -> tuple[str, ...]:
        return tuple(name.removeprefix(f"{group}/") for name in self.blocks if name.startswith(f"{group}/"))

    def _target_block(self, name: str) -> Block:
        block = self.blocks.get(f"targets/{name}")
        if block is None:
            raise ValueError(_no_such("target", self.targets, name, self.name))
        return block

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        """Map each file once, as a process may have 65,530 maps."""
        self.verify()
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            if file.read(len(HDF5)) != HDF5:
                raise ValueError(f"{self.path} does not begin as HDF5 does, so it is damaged: run preprocess again")
        for name, block in self.blocks.items():
            if block.offset + block.n_bytes > size:
                raise ValueError(
                    f"{self.path} has {size} bytes, too few for {name} as it or index.json has it: run preprocess again"
                )
        whole = np.memmap(self.path, np.uint8, "r")
        return {
            name: whole[block.offset : block.offset + block.n_bytes].view(block.dtype).reshape(block.shape)
            for name, block in self.blocks.items()
        }

    def __getstate__(self) -> dict[str, object]:
        # A pickled map would contain the data
        return {name: value for name, value in self.__dict__.items() if name not in ("_maps", "in_order")}


def _no_such(what: str, there: Sequence[str], name: str, recording: str) -> str:
    return (
        f"{what} must be one of {', '.join(there) or 'none'}, which {recording} has, but got {name!r}: "
        "choose another, or add it to preprocess"
    )


@dataclass(frozen=True)
class Store:
    """The recordings of one or several preprocess runs, in the order of their manifests."""

    recordings: tuple[Stored, ...]

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted({stored.subject for stored in self.recordings}))

    def spec(self, target: str) -> SignalSpec:
        """Return the input and output shapes of a model, which all recordings must share. `target`: "" for none."""
        shapes = [(stored.channels, stored.sfreq, *stored.shape_of(target)) for stored in self.recordings]
        ((most, _), *others) = Counter(shapes).most_common()
        if others:
            odd = self.recordings[shapes.index(others[0][0])].name
            raise ValueError(
                f"all recordings must agree, but {odd} has {_describe(*others[0][0])}, "
                f"and most have {_describe(*most)}: leave it out or preprocess it like the others"
            )
        channels, sfreq, n_outputs, target_sfreq = most
        values, names = self._classes(target) if n_outputs == 1 and not target_sfreq else ((), ())
        return SignalSpec(
            channels,
            sfreq,
            n_outputs,
            self.subjects,
            target_sfreq,
            kinds=tuple(sensor.kind for sensor in self.recordings[0].sensors),
            positions=self._positions(),
            class_values=values,
            classes=names,
        )

    def _classes(self, target: str) -> tuple[tuple[float, ...], tuple[str, ...]]:
        """Return the numbers of classes, and their names; empty if values are not whole numbers, or too many."""
        names = {tuple(stored.made.get("classes", {}).get(target, ())) for stored in self.recordings}
        if len(names) > 1:
            raise ValueError(
                f"{target} has different classes in two stores, {' and '.join(map(str, sorted(names)))}: "
                "preprocess the studies as one, or choose one of them"
            )
        (known,) = names
        if known:
            return tuple(map(float, range(len(known)))), known
        values = np.unique(np.concatenate([stored.values(target)[:, 0] for stored in self.recordings]))
        if len(values) > MOST_CLASSES or (values != np.round(values)).any():
            return (), ()
        return tuple(values.tolist()), tuple(f"{value:g}" for value in values)

    def _positions(self) -> tuple[tuple[float, float, float] | None, ...]:
        """Return the positions of the channels to 0.1 mm: the mean over the recordings that have all positions."""
        known = [[sensor.position for sensor in stored.sensors] for stored in self.recordings]
        whole = [places for places in known if places and None not in places]
        if not whole:
            return tuple(known[0])
        return tuple((x, y, z) for x, y, z in np.mean(np.array(whole, float), axis=0).round(4).tolist())


MOST_CLASSES = 1000
"""With more distinct values than this, whole numbers are a measure and not classes."""


def _describe(channels: tuple[str, ...], sfreq: float, n_outputs: int, target_sfreq: float) -> str:
    rate = f" at {target_sfreq:g} Hz" if target_sfreq else ""
    return f"{len(channels)} channels ({' '.join(channels)}) at {sfreq:g} Hz, {n_outputs} output(s){rate}"


def to_json(stored: Stored) -> dict[str, Any]:
    plain = asdict(stored)
    del plain["path"], plain["verified"]
    plain["trials"] = [[trial.start, trial.duration, trial.stimulus, dict(trial.labels)] for trial in stored.trials]
    plain["blocks"] = {
        name: [block.offset, block.shape, block.sfreq, block.dtype] for name, block in stored.blocks.items()
    }
    plain["sensors"] = [[sensor.kind, sensor.position] for sensor in stored.sensors]
    return plain


def from_json(path: Path, plain: Mapping[str, Any]) -> Stored:
    trials = tuple(Trial(*trial) for trial in plain["trials"])
    blocks = {
        name: Block(offset, tuple(shape), sfreq, dtype)
        for name, (offset, shape, sfreq, dtype) in plain["blocks"].items()
    }
    sensors = tuple(Sensor(kind, place and tuple(place)) for kind, place in plain["sensors"])
    known = {"trials": trials, "blocks": blocks, "sensors": sensors, "channels": tuple(plain["channels"])}
    scale = None if plain["scale"] is None else tuple(map(float, plain["scale"]))
    if scale is not None and len(scale) != len(plain["channels"]):
        raise ValueError(f"{len(scale)} scales for {len(plain['channels'])} channels")
    return Stored(path=path, **(dict(plain) | known | {"scale": scale}))
