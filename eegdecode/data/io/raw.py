"""Open a recording in any format: all that mne reads, ready-made epochs (-epo.fif, .set), and .mat. Imports mne."""

import glob
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import mne
import numpy as np
from mne.io.constants import FIFF

from eegdecode.data.config.files import Reading
from eegdecode.data.io import damage, formats, guard, headers, matlab
from eegdecode.data.io.bids import stem
from eegdecode.data.io.channels import kinds
from eegdecode.data.io.guard import Refused
from eegdecode.data.io.rates import between
from eegdecode.data.io.readers.opened import Annotation as Annotation
from eegdecode.data.io.readers.opened import Opened as Opened
from eegdecode.signals import BRAIN, Kind, Sensor, Stream

log = logging.getLogger(__name__)
_alone = threading.RLock()  # messages of mne are captured for the whole process

STRETCH_VALUES = 1 << 21
"""Values read at a time: mne returns float64, so 16 MiB."""

KINDS: dict[str, Kind] = {
    "eeg": "eeg", "mag": "mag", "grad": "grad", "ecog": "ecog", "seeg": "seeg", "dbs": "seeg", "eog": "eog",
    "ecg": "ecg", "emg": "emg", "stim": "stim",
}  # fmt: skip
"""Our kind for each channel type of mne; misc for the others."""

NOT_WORTH_SAYING = (
    "does not conform to MNE naming conventions",  # names are up to the user
    "Highpass cutoff frequency",  # a header's remark on filters, without consequences
    "Channels contain different",
    "Online software filter detected",
    "Not setting positions of",  # of channels that became misc, which has its own note
    "No info on DataPoints found",  # every BrainVision file before 2.0
)
ZEROS = ("could not be read", "acquisition error", "integer multiple", "Number of records")
"""Warnings of mne that mean missing samples; for the last, `damage` has a sentence of its own."""


def open(path: Path, cfg: Reading = Reading()) -> Opened:  # noqa: B008 (frozen)
    """Open a recording; only headers are read. A damaged or missing file is a ValueError of one sentence."""
    with guard.reading(path):
        return _checked(path, cfg)


def _checked(path: Path, cfg: Reading) -> Opened:
    guard.regular(path)
    defects = damage.of_file(path)
    for defect in defects:
        if defect.fatal:
            raise Refused(defect.sentence)
    own_notes = tuple(defect.sentence for defect in defects)
    if module := formats.OURS.get(path.suffix.lower()):
        own: Opened = import_module(module).read(path, cfg)
        guard.rate(path, own.stream.sfreq)
        if not own.stream.n_times:
            raise Refused(f"{path} holds no samples: the recording was never started, or not written")
        return _named(replace(own, notes=own_notes + own.notes))
    if path.suffix.lower() == ".set":
        matlab.check(path)
    with _captured_messages() as messages:
        try:
            opened = _opened(path)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001  mne raises whatever its parsers trip over; all of it means: no good
            raise Refused(damage.explain(path, error)) from None
    kinds = {defect.kind for defect in defects}
    for sentence in messages:
        if any(word in sentence for word in ZEROS) and "unfinished" not in kinds:
            raise Refused(f"{path} is cut off or damaged ({sentence}): fetch it again")
    mne_notes = [s for s in messages if not any(word in s for word in NOT_WORTH_SAYING + ZEROS)]
    if "markers" in kinds:
        mne_notes = [s for s in mne_notes if "MarkerFile" not in s]
    return Opened(**vars(opened) | {"notes": (*own_notes, *opened.notes, *dict.fromkeys(mne_notes))})


def _named(opened: Opened) -> Opened:
    """With the kinds that the names of channels say, where the reader knows of none."""
    stream = opened.stream
    plain = [name for name in stream.channels if stream.sensor(name).kind == "eeg" and name not in opened.kinds_by]
    named = kinds.by_name(plain)
    sensors = {**stream.sensors, **{name: Sensor(kind) for name, (kind, _) in named.items()}}
    by = {**opened.kinds_by, **{name: why for name, (_, why) in named.items()}}
    return replace(opened, stream=replace(stream, sensors=sensors), kinds_by=by)


def _opened(path: Path) -> Opened:
    if re.search(r"[-_]epo(-\d+)?\.fif(\.gz)?$", path.name.lower()):
        return _trials(path)
    try:
        return _continuous(path)
    except TypeError as error:
        if path.suffix.lower() == ".set" and "number of trials" in str(error):  # it was cut into epochs already
            return _trials(path)
        raise


def _continuous(path: Path) -> Opened:
    raw = mne.io.read_raw(path, preload=False)
    if raw.n_times == 0:
        raise Refused(f"{path} holds no samples: the recording was never started, or not written")
    _check_files(path, raw)
    n_bytes, samples = len(raw.ch_names) * raw.n_times * 4, Path(str(raw.filenames[0]))
    if samples.suffix == ".fdt" and (short := damage.too_short(path, samples, n_bytes)):
        raise Refused(short)
    sensors, notes, by = sensors_of(raw)
    names, sfreq = tuple(raw.ch_names), guard.rate(path, float(raw.info["sfreq"]))
    _check_length(path, len(names) * int(raw.n_times), (Path(name) for name in raw.filenames if name))
    if path.suffix.lower() in (".edf", ".bdf") and len({n for _, n in headers.edf_rates(path)}) > 1:
        get, more = _mixed_rates(path, raw, sensors)
        notes.append(more)
    else:
        get = _get(raw)
        get(raw.n_times - 1, raw.n_times)  # a file that ends too soon fails now, not an hour into the work
    stream = Stream(names, sfreq, int(raw.n_times), _stretches(path, get, len(names)), sensors, info=raw.info)
    if path.name.endswith(".gz") or raw.preload:
        # Reading a part of a compressed file means reading all of it
        stream = replace(stream, read=stream.signal().stream().read)
    first_s = raw.first_samp / sfreq
    annotations = tuple(
        Annotation(float(onset) - first_s, float(duration), str(text))
        for onset, duration, text in zip(
            raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
        )
    )
    bads = dict.fromkeys(raw.info["bads"], "marked bad in the file")
    units = {name: str(unit) for name, unit in getattr(raw, "_orig_units", {}).items()}
    return Opened(
        stream,
        annotations,
        tuple(notes),
        raw.info["line_freq"],
        bads=bads,
        units=units,
        kinds_by=by,
        first_sample=int(raw.first_samp),
    )


def _trials(path: Path) -> Opened:
    if path.suffix.lower() == ".set":
        epochs = mne.io.read_epochs_eeglab(path)
    else:
        epochs = mne.read_epochs(path, proj=False, preload=False)
    n, per_trial, sfreq = len(epochs.events), len(epochs.times), guard.rate(path, float(epochs.info["sfreq"]))
    _check_length(path, len(epochs.ch_names) * n * per_trial, path.parent.glob("*.fdt"))
    sensors, notes, by = sensors_of(epochs)

    def get(first: int, stop: int) -> np.ndarray:
        a, b = first // per_trial, -(-stop // per_trial)
        data = epochs.get_data(item=slice(a, b))
        flat = data.transpose(0, 2, 1).reshape(-1, data.shape[1])
        return flat[first - a * per_trial : stop - a * per_trial]

    names = {number: name for name, number in epochs.event_id.items()}
    annotations = tuple(
        Annotation(k * per_trial / sfreq - epochs.tmin, 0.0, names.get(code, str(code)))
        for k, code in enumerate(epochs.events[:, 2].tolist())
    )
    stream = Stream(tuple(epochs.ch_names), sfreq, n * per_trial, _stretches(path, get, len(sensors)), sensors)
    if epochs.preload:
        stream = stream.signal().stream()
    notes.append(f"it was already cut into {n} trials of {per_trial / sfreq:g} s; they follow one another")
    edges = tuple(per_trial * k for k in range(1, n))
    bads = dict.fromkeys(epochs.info["bads"], "marked bad in the file")
    labels = _trial_labels(epochs, names)
    return Opened(
        stream, annotations, tuple(notes), epochs.info["line_freq"], edges, bads, kinds_by=by, trial_labels=labels
    )


def _trial_labels(epochs: mne.BaseEpochs, names: Mapping[int, str]) -> tuple[dict[str, str | float], ...]:
    """The condition of each epoch, and the columns of its metadata."""
    rows = [{} for _ in epochs.events] if epochs.metadata is None else epochs.metadata.to_dict("records")
    return tuple(
        {
            **{
                str(key): value for key, value in row.items() if isinstance(value, str | int | float) and value == value
            },
            "trial_type": names.get(code, str(code)),
        }
        for row, code in zip(rows, epochs.events[:, 2].tolist(), strict=True)
    )


def _check_files(path: Path, raw: mne.io.BaseRaw) -> None:
    """A header may name any file of this machine as that of its samples: only those next to it, or in it, are read."""
    here = path if path.is_dir() else path.parent
    places = {here.absolute(), here.resolve(), path.resolve().parent}
    for name in filter(None, raw.filenames):
        if places.isdisjoint(Path(name).absolute().parents):
            raise Refused(f"{path} takes its samples from {name}, which is not next to it: put the file there")


def _check_length(path: Path, n_values: int, samples: Iterable[Path]) -> None:
    """A value has a byte; of what is compressed, a part of one. Channels of a lower rate have fewer values."""
    own = path.rglob("*") if path.is_dir() else path.parent.glob(f"{glob.escape(stem(path))}*")
    size = sum(file.stat().st_size for file in {path, *own, *samples} if file.is_file())
    guard.promise(path, "samples", n_values, guard.DEFLATED * size)


def stream_of(raw: mne.io.BaseRaw) -> Stream:
    """A recording that a user has opened with MNE: its kinds, units and bad channels are taken as they are there."""
    sensors, _, _ = sensors_of(raw)
    path, names = Path(str(raw.filenames[0] or "this recording")), tuple(raw.ch_names)
    read = _stretches(path, _get(raw), len(names))
    bads = tuple(raw.info["bads"])
    return Stream(names, float(raw.info["sfreq"]), int(raw.n_times), read, sensors, bads, info=raw.info)


def _get(raw: mne.io.BaseRaw) -> Callable[[int, int], np.ndarray]:
    return lambda first, stop: raw.get_data(start=first, stop=stop).T


def _stretches(path: Path, get: Callable[[int, int], np.ndarray], n_channels: int) -> Callable[[int, int], np.ndarray]:
    """Read float32 in pieces of a few MiB, as mne returns float64."""
    stretch = max(1, STRETCH_VALUES // n_channels)
    logged: set[str] = set()

    def read(first: int, stop: int) -> np.ndarray:
        out = np.empty((stop - first, n_channels), np.float32)
        with _captured_messages() as messages:
            try:
                for start in range(first, stop, stretch):
                    end = min(start + stretch, stop)
                    out[start - first : end - first] = get(start, end)
            except Exception as error:  # noqa: BLE001  as in open: whatever it is, these samples cannot be had
                raise Refused(damage.explain(path, error)) from None
        for sentence in messages:
            if any(word in sentence for word in ZEROS):
                raise Refused(f"{path} is cut off or damaged within samples {first} to {stop} ({sentence})")
            if sentence not in logged:
                log.warning("%s: %s", path.name, sentence)
                logged.add(sentence)
        return out

    return read


def _mixed_rates(
    path: Path, raw: mne.io.BaseRaw, sensors: Mapping[str, Sensor]
) -> tuple[Callable[[int, int], np.ndarray], str]:
    """Read EDF with several rates: each rate as it is, then brought to the highest.

    mne would resample each piece by FFT, so that a sample would depend on where the piece begins.
    """
    rates = headers.edf_rates(path)
    highest = max(n for _, n in rates)
    if len({label for label, _ in rates}) < len(rates) or len(rates) != len(raw.ch_names):
        raise Refused(f"{path} has channels of different rates, some with the same name: rename them")
    parts = []
    for n in sorted({n for _, n in rates}, reverse=True):
        columns = [k for k, (_, mine) in enumerate(rates) if mine == n]
        part = mne.io.read_raw(path, include=[rates[k][0] for k in columns])
        if part.ch_names != [raw.ch_names[k] for k in columns]:
            raise ValueError(
                f"its channels have different rates and names with a special meaning: {', '.join(part.ch_names)}"
            )
        steps = np.array([sensors[raw.ch_names[k]].kind == "stim" for k in columns])
        parts.append((columns, _get(part) if n == highest else between(_get(part), part.n_times, n / highest, steps)))

    def get(first: int, stop: int) -> np.ndarray:
        out = np.empty((stop - first, len(raw.ch_names)))
        for columns, read in parts:
            out[:, columns] = read(first, stop)
        return out

    slow = [raw.ch_names[k] for k, (_, n) in enumerate(rates) if n < highest]
    hz = raw.info["sfreq"]
    return get, f"{len(slow)} channels have a lower rate and were interpolated to {hz:g} Hz: {', '.join(slow[:8])}"


def sensors_of(of: mne.io.BaseRaw | mne.BaseEpochs) -> tuple[dict[str, Sensor], list[str], dict[str, str]]:
    sensors, unknown, in_helmet = {}, set(), False
    types = of.get_channel_types()
    named = kinds.by_name([name for name, each in zip(of.ch_names, types, strict=True) if each == "eeg"])
    to_head = of.info["dev_head_t"]
    has_head = to_head is not None and not np.allclose(to_head["trans"], np.eye(4))
    for channel, mne_type in zip(of.info["chs"], types, strict=True):
        kind = KINDS.get(mne_type, "misc")
        if kind == "misc" and mne_type != "misc":
            unknown.add(mne_type)
        if channel["ch_name"] in named:
            kind = named[channel["ch_name"]][0]
        xyz = np.asarray(channel["loc"][:3], float)
        frame = int(channel["coord_frame"])
        position = None
        if kind in BRAIN and np.isfinite(xyz).all() and xyz.any():
            if frame == FIFF.FIFFV_COORD_DEVICE:
                in_helmet = in_helmet or not has_head
                xyz = mne.transforms.apply_trans(to_head, xyz) if has_head else xyz
            if frame in (FIFF.FIFFV_COORD_DEVICE, FIFF.FIFFV_COORD_HEAD):
                position = (float(xyz[0]), float(xyz[1]), float(xyz[2]))
        sensors[channel["ch_name"]] = Sensor(kind, position)
    notes = []
    if unknown:
        notes.append(f"kept as misc: channels of type {', '.join(sorted(unknown))}")
    if in_helmet:
        notes.append("the position of the head is not in the file: MEG positions are those of the helmet")
    return sensors, notes, {name: why for name, (_, why) in named.items()}


@contextmanager
def _captured_messages() -> Iterator[list[str]]:
    """The warnings and log messages of mne, as sentences, instead of on the screen."""
    messages: list[str] = []
    logger, listener = logging.getLogger("mne"), _Listener(messages)
    with _alone, warnings.catch_warnings(record=True) as caught:
        before, level = logger.handlers, logger.level
        warnings.simplefilter("ignore")  # from numpy and others, called by mne
        warnings.simplefilter("always", RuntimeWarning)
        logger.handlers = [listener]
        logger.setLevel(logging.WARNING)
        try:
            yield messages
        finally:
            logger.handlers = before
            logger.setLevel(level)
            messages.extend(" ".join(str(warning.message).split()) for warning in caught)
            messages[:] = dict.fromkeys(messages)


class _Listener(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(" ".join(record.getMessage().split()))
