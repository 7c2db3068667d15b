"""One small valid file of each format, and the real way in which it is read.

What a foreign format says cannot be checked: a sample with a flipped bit is a sample. So a mutated foreign file may be
refused, or read as what it says; `says` reads its structure a second time, by a few lines that follow the format's
specification and share nothing with the readers. Where there is no `says`, the number of channels, samples and trials
must stay. Of what we write ourselves, every difference has to be found.
"""

import dataclasses
import hashlib
import io
import json
import re
import struct
import wave
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import mne
import numpy as np
import scipy.io
import soundfile
import torch

from eegdecode import models
from eegdecode.data import targets
from eegdecode.data.config import Survey, Table
from eegdecode.data.events import of_recording
from eegdecode.data.io import audio, recordings
from eegdecode.data.store import store
from eegdecode.data.survey import survey
from eegdecode.data.targets.extra import Extra
from eegdecode.evaluation.decode import predict, predictions
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.report import sections
from eegdecode.models.bilstm import BiLSTM
from eegdecode.preprocessing.config import Preprocess
from eegdecode.signals import Recording, Signal, SignalSpec, Trial
from eegdecode.synth.fif import write_fif
from eegdecode.synth.formats import write_brainvision, write_edf, write_npy, write_wav
from eegdecode.synth.tree import COORDINATES, write_tsv
from eegdecode.training import model_file, transfer
from eegdecode.training.config import Train
from eegdecode.training.monitor import logger
from eegdecode.weights import files as weights
from eegdecode.weights import inspect, tensors
from hpc import config
from hpc.checkpoint import checkpoint
from hpc.checkpoint.saver import Saver
from hpc.overview import table as status_table
from hpc.rank.context import Context, Input, World
from hpc.runs import heartbeats, products, records, seal, status
from hpc.runs.rundir import LIST, RunDir, append_line, write_json
from hpc.slurm.squeue import Queue
from hpc.submit import watch
from hpc.supervise import diagnosis
from tests import archives
from tests.eegdecode.recorded import write_nwb, write_xdf
from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation

mne.set_log_level("ERROR")  # of what writes FIF here
SFREQ, NAMES, N_S = 100, ("Fz", "Cz", "Pz", "Oz"), 6


class Reading(NamedTuple):
    """What was read: its structure, and a digest of all of it. `notes` is what the user is told."""

    structure: Hashable
    content: str
    notes: tuple[str, ...] = ()


class Sentence(Exception):
    """What the reader said instead: a row of survey has it as text."""


@dataclass(frozen=True)
class Format:
    """A format: how its file is made, which file is mutated and how, and how it is read."""

    name: str
    make: Callable[[Path], object]
    victim: str
    read: Callable[[Path], Reading]
    kinds: tuple[Mutation, ...] = mutations.BINARY
    ours: bool = False
    """Written by us, with a checksum: every difference has to be found."""
    says: Callable[[bytes], Hashable] | None = None


def digest(*values: Any) -> str:
    """Of arrays and of anything with a faithful repr."""
    made = hashlib.sha256()
    for value in values:
        made.update(
            f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
            if isinstance(value, np.ndarray)
            else repr(value).encode()
        )
    return made.hexdigest()


# ---- Recordings, with their tables


def signal() -> Signal:
    rng = np.random.default_rng(0)
    return Signal((rng.normal(size=(SFREQ * N_S, len(NAMES))) * 2e-5).astype(np.float32), float(SFREQ), NAMES)


def study(folder: Path, write: Callable[[Path], object], extension: str) -> None:
    """A BIDS study of one recording."""
    place = folder / "sub-01/eeg"
    place.mkdir(parents=True)
    write(place / f"sub-01_task-x_eeg{extension}")
    rows = [(f"{k}.5", "0.5", "face" if k % 2 else "house", str(k)) for k in range(5)]
    write_tsv(place / "sub-01_task-x_events.tsv", ("onset", "duration", "trial_type", "rating"), rows)
    write_tsv(place / "sub-01_task-x_channels.tsv", ("name", "type", "units"), [(name, "EEG", "µV") for name in NAMES])
    write_tsv(
        place / "sub-01_electrodes.tsv", ("name", "x", "y", "z"),
        [(name, "0.01", f"{0.02 * k:.3f}", "0.08") for k, name in enumerate(NAMES)],
    )  # fmt: skip
    write_json(place / "sub-01_coordsystem.json", COORDINATES)
    write_json(
        place / "sub-01_task-x_eeg.json", {"SamplingFrequency": SFREQ, "PowerLineFrequency": 50, "EEGReference": "Cz"}
    )
    write_tsv(folder / "participants.tsv", ("participant_id", "age"), [("sub-01", "30"), ("sub-02", "40")])


def read_study(folder: Path) -> Reading:
    """As survey does, and after it as preprocess does."""
    (entry,) = recordings.find(folder)
    row, _ = survey.describe(Survey((Input("x"),)), folder, entry, lambda: None)
    if row.failed:
        raise Sentence(row.failed)
    if said := [note for note in row.notes if note.startswith("no trials:")]:
        raise Sentence(said[0])
    opened = recordings.open_entry(entry)
    stream = opened.stream
    trials = of_recording.trials(None, entry, opened).trials
    whole = stream.read(0, stream.n_times)
    sensors = [stream.sensor(name) for name in stream.channels]
    return Reading(
        (stream.n_channels, stream.n_times, len(trials)),
        digest(
            whole, stream.channels, stream.sfreq, trials, sensors, opened.bads, opened.annotations, entry.participant
        ),
        opened.notes,
    )


def eeglab(path: Path) -> None:
    each = signal()
    scipy.io.savemat(
        path,
        {
            "EEG": {
                "setname": "a", "filename": path.name, "filepath": "", "nbchan": len(NAMES), "trials": 1,
                "pnts": each.n_times, "srate": float(SFREQ), "xmin": 0.0, "xmax": (each.n_times - 1) / SFREQ,
                "times": np.arange(each.n_times) * 10.0, "data": each.data.T * 1e6,
                "chanlocs": np.array([(name,) for name in NAMES], dtype=[("labels", object)]),
                "event": np.array([("go", 1.0, 0.0, 1)], [(n, "O") for n in ("type", "latency", "duration", "epoch")]),
                "epoch": np.empty((0, 0)),
            }
        },
        appendmat=False, oned_as="row",
    )  # fmt: skip


def matlab(path: Path, **how: Any) -> None:
    content: dict[str, Any] = {"X": signal().data.T.astype(float) * 1e6, "fs": float(SFREQ)}
    if how.get("format") != "4":
        content |= {"labels": np.array(NAMES, object).reshape(-1, 1), "info": {"a": 1.0, "b": {"c": "text"}}}
    scipy.io.savemat(path, content, **how)


def matlab_7_3(path: Path) -> None:
    """As MATLAB does: 512 bytes of text, then HDF5 with all axes turned round and text as references to numbers."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in (("X", signal().data.astype(float) * 1e6), ("fs", np.array([[float(SFREQ)]]))):
            file.create_dataset(name, data=value, compression="gzip" if name == "X" else None)
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
        cells = np.empty((1, len(NAMES)), h5py.ref_dtype)
        for k, text in enumerate(NAMES):
            letters = file.create_dataset(f"#refs#/{k}", data=np.array([[ord(c)] for c in text], "u2"))
            letters.attrs["MATLAB_class"] = np.bytes_("char")
            cells[0, k] = letters.ref
        file.create_dataset("labels", data=cells).attrs["MATLAB_class"] = np.bytes_("cell")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .")


def says_edf(width: int, content: bytes) -> Hashable:
    """https://www.edfplus.info/specs/edf.html; a recording that was not ended says -1, or is longer."""
    n_records, n = int(content[236:244]), int(content[252:256])
    samples = [int(content[256 + 216 * n + 8 * k :][:8]) for k in range(n)]
    there = (len(content) - 256 * (n + 1)) // (width * sum(samples))
    labels = [content[256 + 16 * k :][:16].decode("latin-1").strip() for k in range(n)]
    signals = [size for size, label in zip(samples, labels, strict=True) if "Annotations" not in label]
    return len(signals), max(signals) * (there if n_records < 0 else min(there, max(n_records, there))), 5


def says_vhdr(n_bytes: int, content: bytes) -> Hashable:
    text = content.decode("latin-1").split("[Comment]")[0]
    (n,) = re.findall(r"^NumberOfChannels=(\d+)", text, re.MULTILINE)
    (width,) = [
        {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}[w] for w in re.findall(r"BinaryFormat=(\w+)", text)
    ]
    return int(n), n_bytes // width // int(n), 5


def says_samples(content: bytes) -> Hashable:
    return len(NAMES), len(content) // 4 // len(NAMES), 5


def says_events(content: bytes) -> Hashable:
    """A row with an onset and a type is a trial."""
    lines = [line.split("\t") for line in re.split(r"\r\n|\r|\n", content.decode("utf-8-sig")) if line.strip()]
    rows = [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
    kind = next((word for word in ("stim_file", "trial_type", "value") if word in lines[0]), "stim_file")
    return len(NAMES), SFREQ * N_S, sum(row[kind].strip().lower() not in ("", "n/a", "nan") for row in rows)


def recording(name: str, write: Callable[[Path], object], extension: str, end: str = "", **more: Any) -> Format:
    victim = f"sub-01/eeg/sub-01_task-x_eeg{end or extension}"
    return Format(name, lambda folder: study(folder, write, extension), victim, read_study, **more)


def alone(name: str, write: Callable[[Path], object], file: str, **more: Any) -> Format:
    """A recording in a folder that is not BIDS, as tables and arrays are named by `files`."""
    return Format(name, lambda folder: write(folder / file), file, partial(read_alone, file), **more)


def read_alone(file: str, folder: Path) -> Reading:
    (entry,) = recordings.find(folder, "{subject}" + Path(file).suffix)
    how = Survey((Input("x"),), table=Table(sfreq=float(SFREQ) if file.endswith((".npy", ".npz")) else 0.0))
    row, _ = survey.describe(how, folder, entry, lambda: None)
    if row.failed:
        raise Sentence(row.failed)
    opened = recordings.open_entry(entry, how.reading)
    whole = opened.stream.read(0, opened.stream.n_times)
    facts = (opened.stream.channels, opened.stream.sfreq, opened.annotations, opened.trial_edges, opened.decided)
    return Reading((opened.stream.n_channels, opened.stream.n_times), digest(whole, *facts), opened.notes)


def csv_table(path: Path) -> None:
    rows = [f"{k / SFREQ:.2f},{','.join(f'{x * 1e6:.4f}' for x in row)}" for k, row in enumerate(signal().data)]
    path.write_text("\n".join(["time," + ",".join(f"{name} [uV]" for name in NAMES), *rows]) + "\n")


def says_csv(content: bytes) -> Hashable:
    lines = [line.split(",") for line in re.split(r"\r\n|\r|\n", content.decode("utf-8-sig")) if line.strip()]
    return len(lines[0]) - 1, len(lines) - 1


def cells(path: Path) -> None:
    trials = np.empty((1, 3), object)
    for k in range(3):
        trials[0, k] = signal().data[200 * k : 200 * (k + 1)].astype(float) * 1e6
    scipy.io.savemat(path, {"resp": trials, "stim": trials, "fs": float(SFREQ)}, do_compression=True)


def says_npy_recording(content: bytes) -> Hashable:
    columns, rows = says_npy(content)  # type: ignore[misc]
    return min(columns, rows), max(columns, rows)


def sidecar(name: str, kinds: tuple[Mutation, ...], **more: Any) -> Format:
    make = partial(study, write=lambda path: write_edf(path, signal()), extension=".edf")
    place = name if name.startswith("participants") else f"sub-01/eeg/sub-01_{name}"
    return Format(name.removeprefix("task-x_"), make, place, read_study, kinds, **more)


# ---- Targets and sounds


def read_extra(file: str, folder: Path) -> Reading:
    stream = targets.make(Extra(file, 10.0), (), folder, 5.0)
    assert not isinstance(stream, np.ndarray)
    path = folder / file
    rows = (
        len(np.load(path))
        if path.suffix == ".npy"
        else len([x for x in re.split(r"\r\n|\r|\n", path.read_text("utf-8-sig")) if x.strip()]) - 1
    )
    return Reading((stream.n_channels, rows), digest(stream.read(0, stream.n_times)))


def says_npy(content: bytes) -> Hashable:
    """https://numpy.org/neps/nep-0001-npy-format.html"""
    (length,) = struct.unpack("<H", content[8:10]) if content[6] == 1 else struct.unpack("<I", content[8:12])
    start = (10 if content[6] == 1 else 12) + length
    header = content[start - length : start].decode("latin-1")
    (shape,) = re.findall(r"'shape':\s*\(([\d, ]+)\)", header)
    sizes = tuple(int(word) for word in shape.split(",") if word.strip())
    return sizes[1] if len(sizes) > 1 else 1, sizes[0]


def says_table(content: bytes) -> Hashable:
    lines = [line.split("\t") for line in re.split(r"\r\n|\r|\n", content.decode("utf-8-sig")) if line.strip()]
    return len(lines[0]), len(lines) - 1


def read_sound(file: str, folder: Path) -> Reading:
    samples, sfreq = audio.read(folder / file)
    return Reading((len(samples), sfreq), digest(samples))


def says_wav(content: bytes) -> Hashable:
    with wave.open(io.BytesIO(content)) as file:
        n_bytes = file.getnframes() * file.getnchannels() * file.getsampwidth()
        at = content.index(b"data") + 8
        whole = n_bytes or len(content) - at
        return min(whole, len(content) - at) // (file.getnchannels() * file.getsampwidth()), float(file.getframerate())


def says_flac(content: bytes) -> Hashable:
    """https://www.rfc-editor.org/rfc/rfc9639: 20 bits of rate and 36 of length in the first block."""
    return int.from_bytes(content[21:26], "big") & (1 << 36) - 1, float(int.from_bytes(content[18:21], "big") >> 4)


def sound() -> np.ndarray:
    return np.sin(np.arange(4000) / 7.0) * 0.5


# ---- What we write


def stored(folder: Path) -> None:
    loud = Signal(np.arange(600, dtype=np.float32)[:, None], 100.0, ("envelope",))
    trials = (Trial(0.5, 2.25, "żółw.wav", {"rating": 3.0}), Trial(4.0, 1.0, "b.wav", {"rating": 1.0}))
    each = Recording(
        "sub-01",
        "sub-01",
        signal().stream(),
        trials,
        "late",
        "01",
        {"envelope": loud.stream()},
        {"rating": np.array([[3.0], [1.0]])},
    )
    store.write_manifest(folder, ["sub-01"])
    store.write(folder, each, {"raw": {"channels": 4, "sfreq": 100.0}}, "key")
    store.write_index(folder)


def read_store(folder: Path) -> Reading:
    data = store.open_store(folder)
    arrays = [
        array
        for each in data.recordings
        for array in (each.read(0, each.n_times), *(each.target(n) for n in each.targets), each.values("rating"))
    ]
    (each,) = data.recordings
    facts = (
        each.name,
        each.subject,
        each.session,
        each.run,
        each.channels,
        each.trials,
        each.sensors,
        each.sfreq,
        each.made,
    )
    return Reading(
        (each.n_channels if hasattr(each, "n_channels") else len(each.channels), each.n_times), digest(*arrays, facts)
    )


def without_index(folder: Path) -> None:
    stored(folder)
    (folder / "index.json").unlink()


def listed(folder: Path) -> None:
    stored(folder)
    products.close(folder, run="preprocess-1")


def read_listed(folder: Path) -> Reading:
    """As a process that has just started: a list is read once."""
    products.MEMORY._lists.clear()
    return read_store(folder)


def study_of_a_run(folder: Path) -> None:
    study(folder, _edf, ".edf")
    products.close(folder, run="synthesize-1")


def read_study_of_a_run(folder: Path) -> Reading:
    memory = products.Memory()
    for path in memory.tree(folder):
        memory.verify(path)
    return read_study(folder)


def sealed(folder: Path) -> None:
    files = {"lib/pack/__init__.py": (b"SIZE = 1\n", False), "lib/tool": (b"#!/bin/sh\n", True)}
    (folder / "code").mkdir(parents=True)
    archives.write(folder / "code" / seal.ARCHIVE, {name: content for name, (content, _) in files.items()})
    (folder / "code" / seal.MANIFEST).write_bytes(text := seal.manifest(files))
    write_json(folder / "plan.json", {"snapshot": hashlib.sha256(text).hexdigest()})


def read_sealed(folder: Path) -> Reading:
    run = RunDir(folder)
    seal.verify(run, records.plan(run))
    return Reading(
        "code", digest(*(content for _, content in sorted(archives.files_of(run.code / seal.ARCHIVE).items())))
    )


def predicted(folder: Path) -> None:
    rng = np.random.default_rng(1)
    windows = tuple(
        DecodedTrial("sub-01", "a.wav", rng.normal(size=(8, 2)), rng.normal(size=(8, 2)), "sub-01", k, k / 2)
        for k in range(5)
    )
    predictions.write(
        folder / "predictions.h5",
        Decoded(10.0, windows, ("a sentence",), "sequence", "envelope", (), {"ridge": rng.normal(size=(40, 2))}),
    )


def read_predictions(folder: Path) -> Reading:
    read = predictions.read(folder / "predictions.h5")
    rows = [(w.subject, w.stimulus, w.recording, w.trial, w.start_s) for w in read.trials]
    about = (read.sfreq, read.audit, read.kind, read.target, read.classes, rows)
    return Reading((len(read.trials),), digest(read.truth, read.output, *read.baselines.items(), about))


SPEC = SignalSpec(NAMES, float(SFREQ), 1, ("sub-01",), 10.0, n_times=SFREQ)
MODEL = BiLSTM(hidden=4)


def parameters() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return models.build(MODEL, SPEC).state_dict()


def model(folder: Path) -> None:
    best = {"parameters": parameters(), "step": 7, "validation": {"loss": 0.5}}
    model_file.save(folder / "out/model.pt", Train((Input("preprocess-1"),), model=MODEL), SPEC, best)


def of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    return digest(*((name, value.numpy()) for name, value in tensors.items()), list(tensors))


def read_model(folder: Path) -> Reading:
    read = model_file.load(folder / "out")
    read.network()
    return Reading(
        len(read.parameters),
        digest(of_tensors(read.parameters), read.spec, read.step, read.validation, read.train(), read.data),
    )


def read_weights(folder: Path) -> Reading:
    """As `start.source` does, and as inspect does."""
    (path,) = folder.iterdir()
    file = weights.look(path)
    values = tensors.read(transfer.read(path))
    assert len(values) == len(file.shapes)
    return Reading("tensors", of_tensors(values))  # a name that became another's takes its place, as in any dict


def read_inspect(folder: Path) -> Reading:
    """Inspect reads what cannot be loaded, and says what code would have run."""
    text = inspect.run(inspect.Inspect(), [folder / "out/model.pt"], False)
    return Reading("text", text.replace(str(folder), ""))


def inspected(folder: Path) -> Reading:
    (path,) = folder.iterdir()
    file = weights.look(path)
    return Reading(len(file.shapes), digest(file.shapes))


def safetensors(folder: Path) -> None:
    header, at, body = {}, 0, b""
    for name, value in parameters().items():
        raw = value.float().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + len(raw)]}
        at, body = at + len(raw), body + raw
    text = json.dumps(header).encode()
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)


def saved(folder: Path) -> None:
    saver = Saver(Context(World(), RunDir(folder)), None)
    saver.save(12, {"model": parameters(), "best": {"step": 3, "words": ["a", "b"]}})
    saver.close()


def read_checkpoint(folder: Path) -> Reading:
    state = checkpoint.load(RunDir(folder).checkpoints, 12)
    return Reading(12, checkpoint.fingerprint(state))


def gathered(folder: Path) -> None:
    np.savez(folder / "decoded-0000.npz", np.arange(40.0).reshape(8, 5), np.ones((3, 2), np.float32))


def read_gathered(folder: Path) -> Reading:
    arrays = predict._part(folder / "decoded-0000.npz")
    return Reading(len(arrays), digest(*arrays))


# ---- Configs and run folders

CONFIG = """# a config
study: data/ds1
steps:
  - {name: resample, sfreq: 50.0}
  - reference
targets: [label]
"""


def read_config(folder: Path) -> Reading:
    values = config.load([folder / "a.yaml"])
    built = config.build(Preprocess, values, "preprocess")
    return Reading("config", digest(dataclasses.asdict(built)))


def runs(folder: Path) -> None:
    """Two runs that have ended: `good`, and `bad`, of which a file is mutated."""
    now = 1_750_000_000.0
    for name in ("train-good", "train-bad"):
        run = RunDir(folder / name)
        plan = {
            "schema": 1, "name": name, "again": 0, "label": "mine", "settings": "train.seed=1", "asked": {},
            "stage": "train", "entry": "eegdecode.stages:train", "inputs": {"data": "preprocess-1"}, "sources": [],
            "site": {"name": "local", "kind": "local"},
            "resources": {"nodes": 1, "ranks_per_node": 2, "gpus_per_node": 0},
            "code": [{"root": "/x", "imports": "x", "commit": "a" * 40, "modified": []}], "python": "/usr/bin/python",
            "python_path": [], "cwd": "/",
        }  # fmt: skip
        pulse = {
            "time": now, "attempt": 1, "host": "n1", "pid": 3, "what": "steps", "began": now - 9, "from": 0, "done": 3,
            "total": 3, "figures": {"loss": 0.3},
        }  # fmt: skip
        ended = {
            "time": now, "state": "stopped", "code": 3, "attempt": 1, "job": None, "label": "mine", "settings": "s",
            "nodes": 1, "text": "stopped at step 3", "host": "n1", "pid": 3, "keeper": 2, "pulse": pulse,
        }  # fmt: skip
        write_json(run.plan, plan)
        run.jobs.mkdir()
        append_line(run.submissions, {"job": "3", "name": "mine", "label": "mine", "settings": "", "site": "local",
                                      "kind": "local", "nodes": 1, "after": [], "log": "x", "time": now - 10,
                                      "successor": False})  # fmt: skip
        for number in (1, 2):
            append_line(run.attempts, {"attempt": number, "started": now - 9, "job": None, "from_step": 0, "ranks": 2,
                                       "threads": 1, "ended": now, "outcome": "crashed", "codes": [1, None],
                                       "why": "KeyError: 'x'", "node": "", "at": None, "got_on": True,
                                       "walltime": False})  # fmt: skip
            append_line(run.events, {"time": now, "text": "attempt 1 starts"})
        for step in range(1, 5):
            append_line(run.metrics, {"step": step, "loss": 1.0 / step, "val_loss": 0.5, "lr": 1e-3})
        write_json(run.supervisor, ended)
        heartbeats.write(run, 0, {0: heartbeats.slot_of({**pulse, "rank": 0})})
        write_json(run.owner, {"host": "n1", "pid": 3, "job": None, "since": now, "restarts": 0})
    write_json(
        RunDir(folder / "train-bad").result, {"metrics": {"loss": 0.3}, "attempts": 1, "seconds": 9.0, "ended": now}
    )


def running(folder: Path) -> None:
    runs(folder)
    RunDir(folder / "train-bad").result.unlink()


def read_runs(folder: Path) -> Reading:
    """As status, watch, the supervisor and the report do. What is said of the good run may not change."""
    states = {state.run: state for state in status.look_all(status.all_runs(folder), Queue())}
    text = status_table.text(list(states.values()))
    json.dumps([vars(state) for state in states.values()])
    good = dict(vars(states["train-good"]))
    run = RunDir(folder / "train-bad")
    if "train-bad" not in states or "train-bad" not in text:
        raise AssertionError("the damaged run is not in status")
    status.meant("mine", folder)
    diagnosis.account_for_lost(run)
    if attempts := diagnosis.since_submission(run):
        diagnosis.hopeless(attempts)
        diagnosis.bad_nodes(attempts)
        diagnosis.too_short(attempts)
    records.owner(run), records.supervisor(run), records.heartbeat(run, 0), records.events(run)
    sentences = records.damaged(run)
    if not all(sentence.partition(":")[0] in text for sentence in sentences):
        raise AssertionError(f"status does not say {sentences}")
    # Last what is about this run alone, and may refuse its file in a sentence
    sections._cost(run)
    sections._code(run)
    watch.result(run)
    return Reading(digest(good), "")


def read_metrics(folder: Path) -> Reading:
    """As a training that goes on does."""
    run = RunDir(folder / "train-bad")
    record = logger.Record(Context(World(), run), 4)
    record.close()
    return Reading("metrics", "")


def run_file(name: str, finished: bool = True, read: Callable[[Path], Reading] = read_runs) -> Format:
    return Format(
        f"run {name.rpartition('/')[2]}", runs if finished else running, f"train-bad/{name}", read, mutations.JSON
    )


STEP = "checkpoints/step-00000012"


def _edf(path: Path) -> None:
    write_edf(path, signal())


def _vhdr(path: Path) -> None:
    write_brainvision(path, signal())


def _npy(folder: Path) -> None:
    write_npy(folder / "x.npy", np.arange(150.0).reshape(50, 3))


def _tsv(folder: Path) -> None:
    write_tsv(folder / "x.tsv", ("a", "b"), [(f"{k}.5", str(k)) for k in range(50)])


def _weights(folder: Path, zipped: bool) -> None:
    torch.save(parameters(), folder / "x.pt", _use_new_zipfile_serialization=zipped)


SIZE = 4 * SFREQ * N_S * len(NAMES)
FORMATS: tuple[Format, ...] = (
    recording("edf", _edf, ".edf", says=partial(says_edf, 2)),
    recording("bdf", _edf, ".bdf", says=partial(says_edf, 3)),
    recording("brainvision .vhdr", _vhdr, ".vhdr", kinds=mutations.TEXT, says=partial(says_vhdr, SIZE)),
    recording("brainvision .vmrk", _vhdr, ".vhdr", ".vmrk", kinds=mutations.TEXT),
    recording("brainvision .eeg", _vhdr, ".vhdr", ".eeg", says=says_samples),
    recording("fif", lambda path: write_fif(path, signal()), ".fif"),
    recording("set", eeglab, ".set"),
    recording("mat 4", partial(matlab, format="4"), ".mat"),
    recording("mat 5", matlab, ".mat"),
    recording("mat 7", partial(matlab, do_compression=True), ".mat"),
    recording("mat 7.3", matlab_7_3, ".mat"),
    alone("csv", csv_table, "s1.csv", kinds=mutations.TEXT, says=says_csv),
    alone("npy recording", lambda path: np.save(path, signal().data * 1e6), "s1.npy", says=says_npy_recording),
    alone("npz recording", lambda path: np.savez_compressed(path, eeg=signal().data * 1e6, fs=float(SFREQ)), "s1.npz",
          kinds=(*mutations.BINARY, mutations.bombs)),
    alone("xdf", lambda path: write_xdf(path, signal().data * 1e6, NAMES, float(SFREQ)), "s1.xdf"),
    alone("nwb", lambda path: write_nwb(path, signal().data * 1e6, NAMES, float(SFREQ)), "s1.nwb"),
    alone("cells in .mat", cells, "s1.mat"),
    alone("ogg", lambda path: soundfile.write(path, sound(), 8000), "s1.ogg"),
    sidecar("task-x_events.tsv", mutations.TEXT, says=says_events),
    sidecar("task-x_channels.tsv", mutations.TEXT),
    sidecar("electrodes.tsv", mutations.TEXT),
    sidecar("participants.tsv", mutations.TEXT),
    sidecar("task-x_eeg.json", mutations.JSON),
    sidecar("coordsystem.json", mutations.JSON),
    Format("npy", _npy, "x.npy", partial(read_extra, "x.npy"), says=says_npy),
    Format("target .tsv", _tsv, "x.tsv", partial(read_extra, "x.tsv"), mutations.TEXT, says=says_table),
    Format(
        "wav", lambda f: write_wav(f / "x.wav", sound(), 8000), "x.wav", partial(read_sound, "x.wav"), says=says_wav
    ),
    Format("flac", lambda f: soundfile.write(f / "x.flac", sound(), 8000), "x.flac", partial(read_sound, "x.flac"),
           says=says_flac),
    Format("npz", gathered, "decoded-0000.npz", read_gathered, (*mutations.BINARY, mutations.bombs), ours=True),
    Format("yaml config", lambda f: (f / "a.yaml").write_text(CONFIG), "a.yaml", read_config, mutations.YAML),
    Format("store .h5", stored, "sub-01.h5", read_store, ours=True),
    Format("store .h5 without index", without_index, "sub-01.h5", read_store, ours=True),
    Format("store index.json", stored, "index.json", read_store, mutations.JSON, ours=True),
    Format("store manifest.json", stored, "manifest.json", read_store, mutations.JSON, ours=True),
    Format("store products.jsonl", listed, LIST, read_listed, mutations.JSON, ours=True),
    Format("edf of a run", study_of_a_run, "sub-01/eeg/sub-01_task-x_eeg.edf", read_study_of_a_run, ours=True),
    Format("events.tsv of a run", study_of_a_run, "sub-01/eeg/sub-01_task-x_events.tsv", read_study_of_a_run,
           mutations.TEXT, ours=True),
    Format("code manifest.json", sealed, "code/manifest.json", read_sealed, mutations.JSON, ours=True),
    Format("code", sealed, "code/code.zip", read_sealed, ours=True),
    Format("predictions.h5", predicted, "predictions.h5", read_predictions, ours=True),
    Format("model.pt", model, "out/model.pt", read_model, mutations.WEIGHTS, ours=True),
    Format("model.pt, inspected", model, "out/model.pt", read_inspect, mutations.WEIGHTS),
    Format("weights .pt", partial(_weights, zipped=True), "x.pt", read_weights, mutations.WEIGHTS),
    Format("weights before 1.6", partial(_weights, zipped=False), "x.pt", read_weights, mutations.WEIGHTS),
    Format("safetensors", safetensors, "x.safetensors", inspected),
    Format("checkpoint part", saved, f"{STEP}/state-0000-of-0001.bin", read_checkpoint, ours=True),
    Format("checkpoint COMMIT", saved, f"{STEP}/COMMIT", read_checkpoint, mutations.JSON, ours=True),
    run_file("plan.json"),
    run_file("jobs/submitted.jsonl", finished=False),
    run_file("attempts.jsonl"),
    run_file("events.jsonl"),
    run_file("result.json"),
    run_file("heartbeat/supervisor.json", finished=False),
    run_file("heartbeat/node-0000", finished=False),
    run_file("heartbeat/owner.json", finished=False),
    run_file("metrics.jsonl", read=read_metrics),
)  # fmt: skip
BY_NAME = {each.name: each for each in FORMATS}
