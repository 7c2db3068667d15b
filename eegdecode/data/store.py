"""The store: one immutable HDF5 file a recording, read as memory maps of the file's own bytes. Only h5py import.

sub-01_run-01.h5   signal [time, channel] float32 contiguous, targets/NAME [time, feature], trials/…, attributes
manifest.json      the names of all recordings that belong here; written first, so that a gap can be named
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from eegdecode.signals import Recording, SignalSpec, Trial
from hpc.rundir import atomic_write, read_json, write_json

BLOCK_VALUES = 1 << 22
"""Written at a time: 16 MiB."""


def write(folder: Path, recording: Recording) -> Path:
    """Put a recording into the store, whole or not at all."""
    path = _file(folder, recording.name)
    # By name, on top of the file that atomic_write holds open: its fsync and rename then cover what h5py wrote
    atomic_write(path, lambda file: _write(file.name, recording))
    return path


def exists(folder: Path, name: str) -> bool:
    return _file(folder, name).is_file()


def write_manifest(folder: Path, names: Sequence[str]) -> None:
    write_json(_manifest(folder), {"recordings": list(names)})


def open_store(folder: Path) -> "Store":
    """The store of a folder, once every recording of its manifest is there."""
    manifest = read_json(_manifest(folder))
    if manifest is None:
        raise ValueError(f"{folder} is no store, it has no manifest.json: run preprocess first and name its run here")
    missing = [name for name in manifest["recordings"] if not exists(folder, name)]
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(manifest['recordings'])} recordings "
            f"({', '.join(missing)}): run preprocess again, it goes on where it stopped"
        )
    return Store(folder, tuple(_read(_file(folder, name)) for name in manifest["recordings"]))


@dataclass(frozen=True)
class Block:
    """Where in a file the bytes of one float32 array stand, and its rate."""

    offset: int
    shape: tuple[int, int]
    sfreq: float


@dataclass(frozen=True)
class Stored:
    """One recording of a store. Its arrays are mapped at first touch; a copy sent to another process maps anew."""

    path: Path
    name: str
    subject: str
    session: str
    run: str
    channels: tuple[str, ...]
    trials: tuple[Trial, ...]
    blocks: dict[str, Block] = field(repr=False)  # "signal", and "targets/NAME" for each target

    @property
    def sfreq(self) -> float:
        return self.blocks["signal"].sfreq

    @property
    def n_times(self) -> int:
        return self.blocks["signal"].shape[0]

    @property
    def signal(self) -> np.ndarray:
        """[time, channel], read-only."""
        return self._maps["signal"]

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(name.removeprefix("targets/") for name in self.blocks if name != "signal")

    def target(self, name: str) -> np.ndarray:
        """[time, feature], read-only."""
        self._target_block(name)
        return self._maps[f"targets/{name}"]

    def target_sfreq(self, name: str) -> float:
        return self._target_block(name).sfreq

    def n_outputs(self, target: str) -> int:
        return self._target_block(target).shape[1]

    def _target_block(self, name: str) -> Block:
        block = self.blocks.get(f"targets/{name}")
        if block is None:
            raise ValueError(
                f"target must be one of {', '.join(self.targets)}, which {self.name} has, but got {name!r}: "
                "choose another, or add it to preprocess"
            )
        return block

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        return {
            name: np.memmap(self.path, np.float32, "r", block.offset, block.shape)
            for name, block in self.blocks.items()
        }

    def __getstate__(self) -> dict[str, object]:
        # A pickled map would carry the data with it
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}


@dataclass(frozen=True)
class Store:
    """The recordings of one preprocess run, in the manifest's order."""

    folder: Path
    recordings: tuple[Stored, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted({stored.subject for stored in self.recordings}))

    def spec(self, target: str) -> SignalSpec:
        """The shape a model has to fit, which all recordings must share."""
        shapes = {stored.name: (stored.channels, stored.sfreq, stored.n_outputs(target)) for stored in self.recordings}
        ((channels, sfreq, n_outputs), _), *others = Counter(shapes.values()).most_common()
        if others:
            odd = next(name for name, shape in shapes.items() if shape == others[0][0])
            raise ValueError(
                f"all recordings must agree, but {odd} has {_describe(*shapes[odd])}, "
                f"where most have {_describe(channels, sfreq, n_outputs)}: leave it out or preprocess it alike"
            )
        return SignalSpec(channels, sfreq, n_outputs, self.subjects)


def _describe(channels: tuple[str, ...], sfreq: float, n_outputs: int) -> str:
    return f"{len(channels)} channels ({' '.join(channels)}) at {sfreq:g} Hz, {n_outputs} output(s)"


def _write(path: str, recording: Recording) -> None:
    with h5py.File(path, "w") as file:
        for name in ("name", "subject", "session", "run"):
            file.attrs[name] = getattr(recording, name)
        file.attrs["channels"] = json.dumps(recording.signal.channels)
        for name, stream in [("signal", recording.signal)] + [
            (f"targets/{name}", target) for name, target in recording.targets.items()
        ]:
            block = file.create_dataset(name, (stream.n_times, stream.n_channels), "<f4")
            block.attrs["sfreq"] = stream.sfreq
            for first in range(0, stream.n_times, stretch := max(1, BLOCK_VALUES // stream.n_channels)):
                stop = min(first + stretch, stream.n_times)
                block[first:stop] = stream.read(first, stop)
        file["trials/start"] = np.array([trial.start for trial in recording.trials], float)
        file["trials/duration"] = np.array([trial.duration for trial in recording.trials], float)
        names = [trial.stimulus for trial in recording.trials]
        file.create_dataset("trials/stimulus", data=names, shape=(len(names),), dtype=h5py.string_dtype())


def _read(path: Path) -> Stored:
    try:
        return _read_whole(path)
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and run preprocess again") from None


def _read_whole(path: Path) -> Stored:
    with h5py.File(path, "r") as file:
        trials = file["trials"]
        return Stored(
            path=path,
            **{name: file.attrs[name] for name in ("name", "subject", "session", "run")},
            channels=tuple(json.loads(file.attrs["channels"])),
            trials=tuple(
                Trial(float(start), float(duration), stimulus)
                for start, duration, stimulus in zip(
                    trials["start"][:], trials["duration"][:], trials["stimulus"].asstr()[:], strict=True
                )
            ),
            blocks={
                name: Block(file[name].id.get_offset(), file[name].shape, float(file[name].attrs["sfreq"]))
                for name in ["signal", *(f"targets/{target}" for target in file.get("targets", ()))]
            },
        )


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.h5"


def _manifest(folder: Path) -> Path:
    return folder / "manifest.json"
