"""Open a recording in any format: what mne reads, trials cut by others (-epo.fif, .set), and .mat. Only mne import."""

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mne
import numpy as np
from mne.io.constants import FIFF

from eegdecode.data.config import Matlab
from eegdecode.data.io import damage, headers, matlab
from eegdecode.data.io.rates import between
from eegdecode.signals import BRAIN, Kind, Sensor, Stream

log = logging.getLogger(__name__)
_alone = threading.RLock()  # what mne says is caught for the whole process

STRETCH_VALUES = 1 << 21
"""Read at a time: mne hands out float64, so 16 MiB of it."""

KINDS: dict[str, Kind] = {
    "eeg": "eeg", "mag": "mag", "grad": "grad", "ecog": "ecog", "seeg": "seeg", "dbs": "seeg", "eog": "eog",
    "ecg": "ecg", "emg": "emg", "stim": "stim",
}  # fmt: skip
"""Ours for mne's; misc for what is not named."""

BY_NAME: tuple[tuple[str, Kind], ...] = (
    (r"(?<![a-z])[hvlr]{0,2}[_-]?eog", "eog"),
    (r"(?<![a-z])(ecg|ekg)", "ecg"),
    (r"(?<![a-z])emg", "emg"),
    (r"^(status|trig(ger)?s?|sti ?\d+|din ?\d*)$", "stim"),
    (r"^(gsr|eda|resp\w*|belt|temp|sound|audio|photo\w*|pleth|spo2|acc\w*)\b", "misc"),
)
"""Many formats do not say what is no EEG, but people name it so."""

NOT_WORTH_SAYING = (
    "does not conform to MNE naming conventions",  # the name is the user's
    "Highpass cutoff frequency",  # a header's remark on filters, of which nothing follows
    "Channels contain different",
    "Online software filter detected",
    "Not setting positions of",  # of channels that were made misc, which is said
    "No info on DataPoints found",  # every BrainVision file before 2.0
)
ZEROS = ("could not be read", "acquisition error", "integer multiple", "Number of records")
"""What mne only warns of though samples are missing; the last is told by damage in our own words."""


@dataclass(frozen=True)
class Annotation:
    """Something the file says of a time; `onset_s` from the recording's first sample."""

    onset_s: float
    duration_s: float
    text: str


@dataclass(frozen=True)
class Opened:
    """A recording whose samples are still in its file.

    Parameters
    ----------
    stream
        All channels, triggers too.
    notes
        What a reader should know, a sentence each.
    line_hz
        The mains, where the file says it.
    trial_edges
        Samples at which one trial ends and an unrelated one begins: nothing may cross them. None in a continuous one.
    bads
        Channels that somebody marked, and why.
    units
        What the file (or else channels.tsv) says its numbers are in, where it says so by channel; the stream is in volt
        and tesla in any case.
    """

    stream: Stream
    annotations: tuple[Annotation, ...] = ()
    notes: tuple[str, ...] = ()
    line_hz: float | None = None
    trial_edges: tuple[int, ...] = ()
    bads: Mapping[str, str] = field(default_factory=dict, hash=False)
    units: Mapping[str, str] = field(default_factory=dict, hash=False)


def open(path: Path, knobs: Matlab = Matlab()) -> Opened:  # noqa: B008 (frozen)
    """Nothing but headers is read here. A file that is damaged, or is none, is a ValueError of one sentence."""
    defects = damage.of_file(path)
    for defect in defects:
        if defect.fatal:
            raise ValueError(defect.sentence)
    own_notes = tuple(defect.sentence for defect in defects)
    if path.suffix.lower() == ".mat":
        stream, edges, notes = matlab.read(path, knobs)
        return Opened(stream, notes=own_notes + notes, trial_edges=edges)
    with _captured_messages() as messages:
        try:
            opened = _opened(path)
        except damage.DamagedRecording:
            raise
        except Exception as error:  # noqa: BLE001  mne raises whatever its parsers trip over; all of it means: no good
            raise ValueError(damage.explain(path, error)) from None
    kinds = {defect.kind for defect in defects}
    for sentence in messages:
        if any(word in sentence for word in ZEROS) and "unfinished" not in kinds:
            raise ValueError(f"{path} is cut off or damaged ({sentence}): fetch it again")
    mne_notes = [s for s in messages if not any(word in s for word in NOT_WORTH_SAYING + ZEROS)]
    if "markers" in kinds:
        mne_notes = [s for s in mne_notes if "MarkerFile" not in s]
    return Opened(**vars(opened) | {"notes": (*own_notes, *opened.notes, *dict.fromkeys(mne_notes))})


def _opened(path: Path) -> Opened:
    if re.search(r"[-_]epo(-\d+)?\.fif(\.gz)?$", path.name.lower()):
        return _trials(path)
    try:
        return _continuous(path)
    except TypeError as error:
        if path.suffix.lower() == ".set" and "number of trials" in str(error):  # somebody cut it already
            return _trials(path)
        raise


def _continuous(path: Path) -> Opened:
    raw = mne.io.read_raw(path, preload=False)
    if raw.n_times == 0:
        raise damage.DamagedRecording(f"{path} holds no samples: the recording was never started, or not written")
    n_bytes, samples = len(raw.ch_names) * raw.n_times * 4, Path(str(raw.filenames[0]))
    if samples.suffix == ".fdt" and (short := damage.too_short(path, samples, n_bytes)):
        raise damage.DamagedRecording(short)
    sensors, notes = _sensors(raw)
    names, sfreq = tuple(raw.ch_names), float(raw.info["sfreq"])
    if path.suffix.lower() in (".edf", ".bdf") and len({n for _, n in headers.edf_rates(path)}) > 1:
        get, more = _mixed_rates(path, raw, sensors)
        notes.append(more)
    else:
        get = _get(raw)
        get(raw.n_times - 1, raw.n_times)  # a file that ends too soon is found now, not an hour into the work
    stream = Stream(names, sfreq, int(raw.n_times), _stretches(path, get, len(names)), sensors)
    if path.name.endswith(".gz") or raw.preload:
        # To read a part of what is packed is to read all of it
        stream = stream.signal().stream()
    first_s = raw.first_samp / sfreq
    annotations = tuple(
        Annotation(float(onset) - first_s, float(duration), str(text))
        for onset, duration, text in zip(
            raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
        )
    )
    bads = dict.fromkeys(raw.info["bads"], "marked bad in the file")
    units = {name: str(unit) for name, unit in getattr(raw, "_orig_units", {}).items()}
    return Opened(stream, annotations, tuple(notes), raw.info["line_freq"], bads=bads, units=units)


def _trials(path: Path) -> Opened:
    if path.suffix.lower() == ".set":
        epochs = mne.io.read_epochs_eeglab(path)
    else:
        epochs = mne.read_epochs(path, proj=False, preload=False)
    n, per_trial, sfreq = len(epochs.events), len(epochs.times), float(epochs.info["sfreq"])
    sensors, notes = _sensors(epochs)

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
    notes.append(f"it was cut into {n} trials of {per_trial / sfreq:g} s already; they stand one after the other")
    edges = tuple(per_trial * k for k in range(1, n))
    bads = dict.fromkeys(epochs.info["bads"], "marked bad in the file")
    return Opened(stream, annotations, tuple(notes), epochs.info["line_freq"], edges, bads)


def _get(raw: mne.io.BaseRaw) -> Callable[[int, int], np.ndarray]:
    return lambda first, stop: raw.get_data(start=first, stop=stop).T


def _stretches(path: Path, get: Callable[[int, int], np.ndarray], n_channels: int) -> Callable[[int, int], np.ndarray]:
    """float32 a few MiB at a time, as mne only has float64."""
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
                raise ValueError(damage.explain(path, error)) from None
        for sentence in messages:
            if any(word in sentence for word in ZEROS):
                raise ValueError(f"{path} is cut off or damaged within samples {first} to {stop} ({sentence})")
            if sentence not in logged:
                log.warning("%s: %s", path.name, sentence)
                logged.add(sentence)
        return out

    return read


def _mixed_rates(
    path: Path, raw: mne.io.BaseRaw, sensors: Mapping[str, Sensor]
) -> tuple[Callable[[int, int], np.ndarray], str]:
    """EDF whose channels have unlike rates: each rate read as it is, then brought to the highest.

    mne resamples whatever stretch is asked for by FFT, so that the same sample differs with where the stretch began.
    """
    rates = headers.edf_rates(path)
    highest = max(n for _, n in rates)
    if len({label for label, _ in rates}) < len(rates) or len(rates) != len(raw.ch_names):
        raise damage.DamagedRecording(f"{path} has channels of unlike rates, and some of the same name: rename them")
    parts = []
    for n in sorted({n for _, n in rates}, reverse=True):
        columns = [k for k, (_, mine) in enumerate(rates) if mine == n]
        part = mne.io.read_raw(path, include=[rates[k][0] for k in columns])
        if part.ch_names != [raw.ch_names[k] for k in columns]:
            raise ValueError(
                f"its channels have unlike rates and names that mean something: {', '.join(part.ch_names)}"
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


def _sensors(of: mne.io.BaseRaw | mne.BaseEpochs) -> tuple[dict[str, Sensor], list[str]]:
    sensors, renamed, unknown, in_helmet = {}, [], set(), False
    to_head = of.info["dev_head_t"]
    has_head = to_head is not None and not np.allclose(to_head["trans"], np.eye(4))
    for channel, theirs in zip(of.info["chs"], of.get_channel_types(), strict=True):
        kind = KINDS.get(theirs, "misc")
        if kind == "misc" and theirs != "misc":
            unknown.add(theirs)
        if theirs == "eeg":
            for pattern, meant in BY_NAME:
                if re.search(pattern, channel["ch_name"], re.IGNORECASE):
                    kind = meant
                    renamed.append(f"{channel['ch_name']} as {meant}")
                    break
        place = np.asarray(channel["loc"][:3], float)
        frame = int(channel["coord_frame"])
        position = None
        if kind in BRAIN and np.isfinite(place).all() and place.any():
            if frame == FIFF.FIFFV_COORD_DEVICE:
                in_helmet = in_helmet or not has_head
                place = mne.transforms.apply_trans(to_head, place) if has_head else place
            if frame in (FIFF.FIFFV_COORD_DEVICE, FIFF.FIFFV_COORD_HEAD):
                position = (float(place[0]), float(place[1]), float(place[2]))
        sensors[channel["ch_name"]] = Sensor(kind, position)
    notes = []
    if renamed:
        notes.append(f"the file calls them EEG, but by their names these were taken otherwise: {', '.join(renamed)}")
    if unknown:
        notes.append(f"kept as misc: channels of type {', '.join(sorted(unknown))}")
    if in_helmet:
        notes.append("where the head lay is not in the file: MEG positions are those of the helmet")
    return sensors, notes


@contextmanager
def _captured_messages() -> Iterator[list[str]]:
    """What mne warns of or logs, as sentences, instead of on the screen."""
    messages: list[str] = []
    logger, listener = logging.getLogger("mne"), _Listener(messages)
    with _alone, warnings.catch_warnings(record=True) as caught:
        before, level = logger.handlers, logger.level
        warnings.simplefilter("ignore")  # of numpy and others on mne's way there
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
