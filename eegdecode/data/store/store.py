"""The store: one immutable HDF5 file a recording, read as memory maps of the file's own bytes.

sub-01_run-01.h5   signal [time, channel], targets/NAME [time, feature], values/NAME [trial, feature], channels/…,
                   trials/…; attributes have rate, unit, checksum and provenance. Any HDF5 tool can read it
manifest.json      the names of all recordings that belong here; written first, so that missing ones can be named
index.json         all that opening needs, so that 10,000 recordings are one small file; written last
"""

import errno
import hashlib
import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from eegdecode.data.io import guard
from eegdecode.data.io.hdf5 import opened
from eegdecode.data.store import hdf5
from eegdecode.data.store.dataset import Block, Store, Stored, from_json, to_json
from eegdecode.data.store.hdf5 import Draft
from eegdecode.signals import Recording, Stream
from hpc.runs import products
from hpc.runs.rundir import LIST

SCHEMA = 2
BLOCK_VALUES = 1 << 22
"""Values that are written and checked at a time: 16 MiB."""
AGAIN = "remove it and run preprocess again"
HIGHEST = 32767  # the largest int16
BROKEN = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError, OverflowError)
"""The exceptions of h5py and json for damaged bytes."""


class OtherVersion(ValueError):
    """An intact file of another schema version."""


def write(
    folder: Path,
    recording: Recording,
    made: Mapping[str, object] | None = None,
    key: str = "",
    int16: bool = False,
    beat: Callable[[float], None] = lambda part: None,
) -> Path:
    """Write a recording into the store, atomically.

    Parameters
    ----------
    made
        Its provenance; stored in the file as it is.
    key
        Identifies the config and the source content: with another key it is another recording.
    int16
        Store the signal as int16 with a scale for each channel: half the bytes. The file states the error.
    beat
        Called now and then with the fraction written, 0–1; if it raises, writing ends and the file is removed.
    """
    path = _file(folder, recording.name)

    def fill(draft: Draft) -> None:
        _refuse_full_disk(path, recording, int16)
        _write(draft, recording, made or {}, key, int16, beat)

    hdf5.write(path, fill)
    return path


def _refuse_full_disk(path: Path, recording: Recording, int16: bool) -> None:
    """Refuse a recording that will not fit, before any work."""
    signal = recording.signal
    arrays = [(signal.n_times, signal.n_channels, 2 if int16 else 4)]
    arrays += [(stream.n_times, stream.n_channels, 4) for stream in recording.targets.values()]
    needed = sum(n_rows * n_columns * width for n_rows, n_columns, width in arrays) + hdf5.BESIDE
    if (free := shutil.disk_usage(path.parent).free) < needed:
        why = f"{os.strerror(errno.ENOSPC)}, {free / 1e6:.0f} MB are free and {needed / 1e6:.0f} MB needed"
        raise OSError(errno.ENOSPC, why, str(path))


def exists(folder: Path, name: str) -> bool:
    return _file(folder, name).is_file()


def holds(folder: Path, name: str, key: str) -> bool:
    """Whether the recording is there, with this key and undamaged bytes."""
    path = _file(folder, name)
    if not path.is_file():
        return False
    try:
        if path.name in (products.listed(folder) or {}):
            return _read(path).key == key
        stored = _read_whole(path)
        if stored.key != key or damaged(stored):
            return False
        products.enter(path)  # it was killed before it could, or is of a release without a list
        return True
    except BROKEN:
        return False


def damaged(stored: Stored) -> list[str]:
    """Return the names of a recording's arrays whose bytes are not those that were written."""
    arrays = []
    with opened(stored.path, AGAIN) as file:
        for name in stored.blocks:
            digest = _Digest()
            for block in _stretches(file[name]):
                digest.add(block)
            if digest.text != file[name].attrs["checksum"]:
                arrays.append(name)
        if _of_bytes(file["about"][:]) != file["about"].attrs.get("checksum"):
            arrays.append("about")
    return arrays


def broken(data: Store, recordings: Iterable[int]) -> list[str]:
    """Return a sentence for each of these recordings whose file is damaged; call it when a loss is NaN."""
    sentences = []
    for stored in (data.recordings[number] for number in sorted(set(recordings))):
        try:
            arrays = ", ".join(damaged(stored))
        except BROKEN as error:
            arrays = f"all of it ({error})"
        if arrays:
            sentences.append(
                f"{stored.path} is damaged, its bytes are not those that were written ({arrays}): remove it and run "
                "preprocess again"
            )
    return sentences


def write_manifest(folder: Path, names: Sequence[str]) -> None:
    """Write the names of the recordings that belong here, and remove the index, which is outdated."""
    if len(set(names)) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"recordings need names that differ, but these occur twice: {', '.join(twice)}")
    _index(folder).unlink(missing_ok=True)
    products.write_json(_manifest(folder), {"recordings": list(names)})


def write_index(folder: Path) -> tuple[Stored, ...]:
    """Write the index, once all recordings are there."""
    recordings = tuple(_read(_file(folder, name)) for name in _names(folder))
    contents = {"schema": SCHEMA, "recordings": [to_json(stored) for stored in recordings]}
    products.write_json(_index(folder), contents)
    return recordings


def sweep(folder: Path) -> None:
    """Remove half-written files of killed processes. Call it only when nobody writes."""
    for left in folder.glob(".*.tmp"):
        left.unlink()


def there(folder: Path) -> tuple[Stored, ...]:
    """Return the recordings of the manifest that exist."""
    return tuple(_read(_file(folder, name)) for name in _names(folder) if exists(folder, name))


def written(folder: Path, name: str) -> Stored:
    """Return a recording that this process has just written; it is not verified."""
    return replace(_read_whole(_file(folder, name)), verified=False)


def open_store(*folders: Path, verified: bool = True) -> Store:
    """Open the store of a folder, once every recording of its manifest is there; of several folders, as one.

    `verified`: the file of a recording is verified before its first sample is read. A plan does without, as the ranks
    will do it.
    """
    for folder in folders:
        _refuse_unlisted(folder)
    recordings = (stored for folder in folders for stored in _open(folder))
    return Store(tuple(stored if verified else replace(stored, verified=False) for stored in recordings))


def _refuse_unlisted(folder: Path) -> None:
    """Refuse a copy that came without the list of its files: nobody could tell that a byte of it is another."""
    if _manifest(folder).is_file() and products.listed(folder) is None and not products.is_of_run(folder):
        raise ValueError(
            f"{folder} has no {LIST}, the list of what was written, so that its files cannot be verified: copy it from "
            f"its run again, or trust it as it is, `hpc verify {shlex.quote(str(folder))} --accept`"
        )


def _open(folder: Path) -> tuple[Stored, ...]:
    if (indexed := _indexed(folder)) is not None:
        return indexed
    names = _names(folder)
    missing = [name for name in names if not exists(folder, name)]
    if missing:
        some = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(names)} recordings ({some}): run preprocess again, "
            "it continues where it stopped; leave out unreadable ones with preprocess.exclude"
        )
    return tuple(_read(_file(folder, name)) for name in names)


def _indexed(folder: Path) -> tuple[Stored, ...] | None:
    """The recordings of the index; None where there is none of this version."""
    if not _index(folder).is_file():
        return None
    index = products.read(_index(folder))
    names = _names(folder)
    try:
        if index["schema"] != SCHEMA:
            return None
        indexed = tuple(from_json(_file(folder, plain["name"]), plain) for plain in index["recordings"])
        if [stored.name for stored in indexed] != names:
            raise ValueError("it lists other recordings than manifest.json")
        return indexed
    except BROKEN as error:
        raise ValueError(
            f"{_index(folder)} is damaged ({guard.reason(error)}): remove it, the recordings themselves have all of it"
        ) from None


def _names(folder: Path) -> list[str]:
    manifest = products.read(_manifest(folder))
    if manifest is None:
        raise ValueError(
            f"{folder} is not a store, as it has no manifest.json: run preprocess first and name its run here"
        )
    names = manifest.get("recordings") if isinstance(manifest, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and "/" not in name for name in names):
        raise ValueError(f"{_manifest(folder)} is damaged: it does not list the recordings; run preprocess again")
    return names


def _write(
    draft: Draft,
    recording: Recording,
    made: Mapping[str, object],
    key: str,
    int16: bool,
    beat: Callable[[float], None],
) -> None:
    signal, file = recording.signal, draft.file
    file.attrs["schema"] = SCHEMA
    for name in ("name", "subject", "session", "run"):
        file.attrs[name] = getattr(recording, name)
    file.attrs["key"] = key
    _write_channels(file, signal)
    _write_signal(draft, recording.name, signal, int16, beat)
    for name, stream in sorted(recording.targets.items()):
        target = draft.room(f"targets/{name}", (stream.n_times, stream.n_channels), "<f4")
        target.attrs["sfreq"] = stream.sfreq
        _fill(draft, target, _numbers(stream.read, target, f"{name} of {recording.name}"), beat)
    for name, rows in sorted(recording.values.items()):
        value = draft.room(f"values/{name}", rows.shape, "<f4")
        value.attrs["sfreq"] = 0.0
        of_rows = partial(_rows, rows)
        _fill(draft, value, _numbers(of_rows, value, f"{name} of {recording.name}"), beat)
    trials = recording.trials
    file["trials/start"] = np.array([trial.start for trial in trials], float)
    file["trials/duration"] = np.array([trial.duration for trial in trials], float)
    _write_texts(file, "trials/stimulus", [trial.stimulus for trial in trials])
    _write_texts(file, "trials/labels", [json.dumps(dict(t.labels), ensure_ascii=False) for t in trials])
    # All that opening needs in one place: reading the texts one by one takes four times longer. No attribute, as
    # those are at most 64 KB
    about = json.dumps(to_json(_look(draft, recording, made)), ensure_ascii=False, sort_keys=True)
    file["about"] = np.frombuffer(about.encode(), np.uint8)
    file["about"].attrs["checksum"] = _of_bytes(file["about"][:])


def _look(draft: Draft, recording: Recording, made: Mapping[str, object]) -> Stored:
    """Return the description of a file that has just been filled."""
    signal, file = recording.signal, draft.file
    arrays = ["signal"] + [f"{group}/{name}" for group in ("targets", "values") for name in file.get(group, ())]
    return Stored(
        path=draft.path,
        **{name: getattr(recording, name) for name in ("name", "subject", "session", "run", "trials")},
        channels=signal.channels,
        blocks={
            name: Block(
                file[name].id.get_offset() or 0,
                file[name].shape,
                float(file[name].attrs["sfreq"]),
                file[name].dtype.str,
            )
            for name in arrays
        },
        sensors=tuple(signal.sensor(channel) for channel in signal.channels),
        scale=tuple(file["signal"].attrs["scale"].tolist()) if "scale" in file["signal"].attrs else None,
        checksum=file["signal"].attrs["checksum"],
        key=file.attrs["key"],
        made=made,
    )


def _write_channels(file: h5py.File, signal: Stream) -> None:
    sensors = [signal.sensor(channel) for channel in signal.channels]
    _write_texts(file, "channels/name", list(signal.channels))
    _write_texts(file, "channels/kind", [sensor.kind for sensor in sensors])
    _write_texts(file, "channels/unit", [sensor.unit for sensor in sensors])
    places = [sensor.position or (np.nan,) * 3 for sensor in sensors]
    file.create_dataset("channels/position", data=np.array(places, float).reshape(-1, 3)).attrs["unit"] = "m"


def _write_texts(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    file.create_dataset(name, data=list(texts), shape=(len(texts),), dtype=h5py.string_dtype())


def _write_signal(draft: Draft, name: str, signal: Stream, int16: bool, beat: Callable[[float], None]) -> None:
    shape = (signal.n_times, signal.n_channels)
    dataset = draft.room("signal", shape, "<i2" if int16 else "<f4")
    dataset.attrs["sfreq"] = signal.sfreq
    blocks = (_finite(signal.read(*stretch), name, signal) for stretch in _grid(*shape))
    if not int16:
        _fill(draft, dataset, blocks, beat)
        return
    highest = np.zeros(signal.n_channels)
    for first, stop in _grid(*shape):
        beat(0.0)
        highest = np.maximum(highest, np.abs(_finite(signal.read(first, stop), name, signal)).max(axis=0, initial=0))
    step = np.where(highest > 0, highest / HIGHEST, 1.0).astype(np.float32)
    squares = np.zeros((2, signal.n_channels))  # of the values, and of the rounding errors

    def rounded() -> Iterator[np.ndarray]:
        for block in blocks:
            whole = np.rint(block / step)
            squares[:] += np.square(block, dtype=float).sum(axis=0), np.square(block - whole * step).sum(axis=0)
            yield whole

    _fill(draft, dataset, rounded(), beat)
    dataset.attrs["scale"] = step
    powers = squares[:, squares[0] > 0]
    error = float(np.sqrt(powers[1] / powers[0]).max()) if powers.size else 0.0
    dataset.attrs["rounding_error"] = float(f"{error:.2g}")  # RMS error over RMS signal, in the worst channel


def _finite(block: np.ndarray, name: str, signal: Stream) -> np.ndarray:
    if not np.isfinite(block).all():
        broken = [channel for channel, good in zip(signal.channels, np.isfinite(block).all(axis=0)) if not good]
        raise ValueError(
            f"{name} has values that are not numbers (NaN or infinite) in {', '.join(broken[:10])}: "
            "leave these channels out, or interpolate them"
        )
    return block


def _rows(rows: np.ndarray, first: int, stop: int) -> np.ndarray:
    return rows[first:stop]


def _numbers(read: Callable[[int, int], np.ndarray], dataset: h5py.Dataset, what: str) -> Iterator[np.ndarray]:
    """Yield the blocks of a target, in the dataset's type."""
    for first, stop in _grid(*dataset.shape):
        with np.errstate(over="ignore"):
            block = np.asarray(read(first, stop), dataset.dtype)
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0].tolist()
            raise ValueError(
                f"{what} has values that are not numbers (NaN or infinite), the first in row {first + row}, column "
                f"{column}, counted from 0: check its source"
            )
        yield block


def _fill(draft: Draft, dataset: h5py.Dataset, blocks: Iterator[np.ndarray], beat: Callable[[float], None]) -> None:
    """Write all rows of a dataset, and the checksum of their bytes."""
    digest, first = _Digest(), 0
    for block in blocks:
        bytes_as_kept = np.ascontiguousarray(block, dtype=dataset.dtype)
        draft.put(dataset, first, bytes_as_kept)
        digest.add(bytes_as_kept)
        first += len(block)
        beat(first / len(dataset))
    dataset.attrs["checksum"] = digest.text


class _Digest:
    """The checksum of an array's bytes, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, block: np.ndarray) -> None:
        self._hash.update(block.data if block.size else b"")

    @property
    def text(self) -> str:
        return f"blake2b:{self._hash.hexdigest()}"


def _of_bytes(array: np.ndarray) -> str:
    digest = _Digest()
    digest.add(array)
    return digest.text


def _stretches(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    return (dataset[first:stop] for first, stop in _grid(*dataset.shape))


def _grid(n_rows: int, n_columns: int) -> Iterator[tuple[int, int]]:
    stretch = max(1, BLOCK_VALUES // max(1, n_columns))
    return ((first, min(first + stretch, n_rows)) for first in range(0, n_rows, stretch))


def _read(path: Path) -> Stored:
    products.verify(path)
    try:
        return _read_whole(path)
    except OtherVersion:
        raise
    except BROKEN as error:
        raise ValueError(f"{path} is damaged ({guard.reason(error)}): {AGAIN}") from None


def _read_whole(path: Path) -> Stored:
    with opened(path, AGAIN) as file:
        if file.attrs.get("schema", 1) != SCHEMA:
            raise OtherVersion(
                f"{path} was written by another version of this program (schema {file.attrs.get('schema', 1)}, "
                f"this one reads {SCHEMA}): remove it and run preprocess again"
            )
        if _of_bytes(file["about"][:]) != file["about"].attrs.get("checksum"):
            raise ValueError("its description is not the one that was written")
        about = json.loads(file["about"][:].tobytes())
    return from_json(path, about | {"size": path.stat().st_size})


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.h5"


def _manifest(folder: Path) -> Path:
    return folder / "manifest.json"


def _index(folder: Path) -> Path:
    return folder / "index.json"
