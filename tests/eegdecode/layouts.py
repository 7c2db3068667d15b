"""Seven ways in which people keep their recordings, each small and with something planted that a decoder must find.

A class is a rhythm: 10 Hz over the first electrodes, or 20 Hz over the last. There are few subjects and few seconds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import mne
import numpy as np
import scipy.io

from eegdecode.signals import Signal
from eegdecode.synth.formats import write_edf
from eegdecode.synth.tree import write_recording, write_tsv

CHANNELS = ("Fz", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz")
SFREQ, EVERY_S, N_TRIALS = 128.0, 1.5, 32
NOISE_UV, EFFECT_UV = 10.0, 16.0
SUBJECTS = range(1, 7)
HZ = (10.0, 20.0)


def trials(subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Onsets in seconds and classes of a subject's trials."""
    rng = np.random.default_rng([1, subject])
    return 1.0 + EVERY_S * np.arange(N_TRIALS), rng.permutation(np.arange(N_TRIALS) % 2)


def recorded(subject: int, onsets_s: np.ndarray, classes: np.ndarray, lasts_s: float = 1.2) -> np.ndarray:
    """[time, channel] in volt: noise, and the rhythm of each trial's class."""
    rng = np.random.default_rng([2, subject])
    n_times = int(np.ceil(onsets_s[-1] + EVERY_S + 1) * SFREQ)
    uv = NOISE_UV * rng.normal(size=(n_times, len(CHANNELS)))
    for onset_s, number in zip(onsets_s, classes, strict=True):
        first, n = int(onset_s * SFREQ), int(lasts_s * SFREQ)
        wave = np.sin(2 * np.pi * (HZ[number] * np.arange(n) / SFREQ + rng.uniform()))
        half = slice(0, 4) if number == 0 else slice(4, 8)
        uv[first : first + n, half] += EFFECT_UV * wave[:, None]
    return uv * 1e-6


def signal(subject: int) -> Signal:
    return Signal(recorded(subject, *trials(subject)).astype(np.float32), SFREQ, CHANNELS)


def bids(folder: Path) -> None:
    """As mne-bids writes it: durations of 0, trial_type and value, and the onsets in samples too."""
    for subject in SUBJECTS:
        onsets_s, classes = trials(subject)
        rows = [
            (f"{onset:g}", "0.0", ("left", "right")[number], str(number + 1), str(int(onset * SFREQ)))
            for onset, number in zip(onsets_s.tolist(), classes.tolist(), strict=True)
        ]
        path = folder / f"sub-{subject:02d}/eeg/sub-{subject:02d}_task-hands_eeg.vhdr"
        path.parent.mkdir(parents=True)
        columns = ("onset", "duration", "trial_type", "value", "sample")
        write_recording(path, signal(subject), {}, columns, rows, {"TaskName": "hands", "PowerLineFrequency": 50})
    people = [(f"sub-{subject:02d}", str(20 + subject)) for subject in SUBJECTS]
    write_tsv(folder / "participants.tsv", ("participant_id", "age"), people)


def file_a_condition(folder: Path) -> None:
    """One EDF for each patient and condition; the names say which."""
    folder.mkdir()
    for subject in SUBJECTS:
        for number, condition in enumerate(("eyes_closed", "task")):
            onsets_s = np.arange(20) * EVERY_S
            data = recorded(10 * subject + number, onsets_s, np.full(20, number), EVERY_S)
            path = folder / f"P{subject:02d}_{condition}.edf"
            write_edf(path, Signal(data.astype(np.float32), SFREQ, CHANNELS))


def mat_struct(folder: Path) -> None:
    """A struct a subject, with the signal in microvolt and its markers."""
    folder.mkdir()
    for subject in SUBJECTS:
        onsets_s, classes = trials(subject)
        eeg = {
            "data": 1e6 * recorded(subject, onsets_s, classes).T,
            "srate": SFREQ,
            "labels": np.array(CHANNELS, object),
            "stimpos": np.rint(onsets_s * SFREQ) + 1,
            "stimcode": classes + 1,
        }
        scipy.io.savemat(folder / f"subject{subject}.mat", {"EEG": eeg})


def csv(folder: Path) -> None:
    """A table a subject, with the time, the channels and a column of triggers, in microvolt."""
    folder.mkdir()
    for subject in SUBJECTS:
        onsets_s, classes = trials(subject)
        uv = 1e6 * recorded(subject, onsets_s, classes)
        trigger = np.zeros(len(uv), int)
        for onset_s, number in zip(onsets_s, classes, strict=True):
            first = int(onset_s * SFREQ)
            trigger[first : first + 4] = number + 1
        lines = [",".join(("time", *CHANNELS, "trigger"))]
        lines += [
            ",".join((f"{k / SFREQ:.6f}", *(f"{value:.3f}" for value in row), str(trigger[k])))
            for k, row in enumerate(uv.tolist())
        ]
        (folder / f"s{subject:02d}.csv").write_text("\n".join(lines) + "\n")


def fif_and_events(folder: Path) -> None:
    """A -raw.fif a subject, with its -eve.fif next to it."""
    folder.mkdir()
    for subject in SUBJECTS:
        onsets_s, classes = trials(subject)
        info = mne.create_info(list(CHANNELS), SFREQ, "eeg")
        raw = mne.io.RawArray(recorded(subject, onsets_s, classes).T, info, verbose="error")
        raw.save(folder / f"s{subject}-raw.fif", verbose="error")
        events = np.stack([np.rint(onsets_s * SFREQ), np.zeros(N_TRIALS), classes + 1], axis=1).astype(int)
        mne.write_events(folder / f"s{subject}-eve.fif", events, verbose="error")


def edf_annotations(folder: Path) -> None:
    """An EDF+ a subject, in a folder of its own, whose annotations say what was imagined."""
    for subject in SUBJECTS:
        onsets_s, classes = trials(subject)
        marks = [(onset, ("left", "right")[number]) for onset, number in zip(onsets_s, classes, strict=True)]
        (folder / f"S{subject:03d}").mkdir(parents=True)
        path = folder / f"S{subject:03d}/S{subject:03d}R01.edf"
        write_edf_plus(path, recorded(subject, onsets_s, classes), [(0.0, "recording starts"), *marks])


def mtrf(folder: Path) -> None:
    """Cells of the mTRF toolbox: stim, resp and fs, a cell a trial; the envelope drives the first electrodes."""
    folder.mkdir()
    for subject in SUBJECTS[:3]:
        rng = np.random.default_rng([3, subject])
        stim, resp = np.empty((1, 10), object), np.empty((1, 10), object)
        for k in range(10):
            n = int((8 + k % 3) * 64)
            own = np.random.default_rng([4, k]).normal(size=n + 16)  # everybody hears the same
            envelope = np.abs(np.convolve(own, np.hanning(16) / 4, "same"))[:n]
            late = np.concatenate([np.zeros(6), envelope[:-6]])
            eeg = 4.0 * rng.normal(size=(n, len(CHANNELS)))
            eeg[:, :4] += 12.0 * (late - late.mean())[:, None]
            stim[0, k], resp[0, k] = envelope[:, None], eeg
        scipy.io.savemat(folder / f"subject{subject}.mat", {"stim": stim, "resp": resp, "fs": 64.0})


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "bids": bids,
    "file_a_condition": file_a_condition,
    "mat_struct": mat_struct,
    "mtrf": mtrf,
    "csv": csv,
    "fif_and_events": fif_and_events,
    "edf_annotations": edf_annotations,
}


def write_edf_plus(path: Path, volt: np.ndarray, marks: Sequence[tuple[float, str]]) -> None:
    """EDF+ with annotations, https://www.edfplus.info/specs/edfplus.html: records of 1 s, 16 bits for ±1000 µV."""
    per_record, n_bytes = int(SFREQ), 120
    n_records = len(volt) // per_record
    digital = np.rint(volt[: n_records * per_record] * 1e6 * 32).clip(-32768, 32767).astype("<i2")
    names = [*CHANNELS, "EDF Annotations"]
    n = len(names)
    fields: list[tuple[int, object]] = [(8, "0"), (80, "X X X X"), (80, "Startdate 01-JAN-2025 X X X")]
    fields += [(8, "01.01.25"), (8, "00.00.00"), (8, 256 * (1 + n)), (44, "EDF+C"), (8, n_records), (8, 1), (4, n)]
    fields += [(16, name) for name in names] + [(80, "")] * n + [(8, "uV")] * (n - 1) + [(8, "")]
    fields += [(8, -1024)] * (n - 1) + [(8, -1)] + [(8, 1023.96875)] * (n - 1) + [(8, 1)]
    fields += [(8, -32768)] * n + [(8, 32767)] * n + [(80, "")] * n
    fields += [(8, per_record)] * (n - 1) + [(8, n_bytes // 2)] + [(32, "")] * n
    body = b"".join(str(value)[:width].ljust(width).encode() for width, value in fields)
    for record in range(n_records):
        here = [(onset, text) for onset, text in marks if record <= onset < record + 1]
        told = b"".join(f"+{onset:g}\x14{text}\x14\x00".encode() for onset, text in [(record, ""), *here])
        block = digital[record * per_record : (record + 1) * per_record]
        body += block.T.tobytes() + told.ljust(n_bytes, b"\0")
    path.write_bytes(body)
