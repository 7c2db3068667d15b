"""Files from outside: pipes, bombs, promises, other files' bytes, rates that nothing has. The others go on."""

import io
import os
import pickle
import resource
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import soundfile
import torch

from eegdecode.data import targets
from eegdecode.data.config import BidsEvents
from eegdecode.data.events import events
from eegdecode.data.io import audio, guard, mat5, matlab, raw, recordings
from eegdecode.data.io.guard import Refused
from eegdecode.data.targets.embedding import Embedding
from eegdecode.data.targets.envelope import Envelope
from eegdecode.data.targets.extra import Extra
from eegdecode.data.targets.image import Image
from eegdecode.data.targets.label import Label
from eegdecode.signals import Signal, Trial
from eegdecode.synth.fif import write_fif
from eegdecode.synth.formats import write_brainvision
from eegdecode.training import model_file, transfer
from eegdecode.weights import files as weights
from eegdecode.weights import tensors
from hpc.runs.rundir import RunDir
from tests.conftest import Launch
from tests.fuzz import corpus

Write = Callable[..., None]
EXTENSIONS = (".edf", ".bdf", ".vhdr", ".fif", ".set", ".mat", ".con", ".gdf", ".cnt")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_pipe_is_no_recording(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"sub-01_eeg{extension}"
    os.mkfifo(path)
    with pytest.raises(Refused, match=rf"{path.name} is a pipe \(FIFO\), no file with data: remove it"):
        raw.open(path)


def test_a_pipe_next_to_a_recording_and_in_its_folder_is_not_waited_for(tmp_path: Path) -> None:
    corpus._vhdr(tmp_path / "a.vhdr")
    (tmp_path / "a.vmrk").unlink()
    os.mkfifo(tmp_path / "a.vmrk")
    with pytest.raises(Refused, match=r"a\.vhdr names a\.vmrk, which is no file"):
        raw.open(tmp_path / "a.vhdr")
    (tmp_path / "b.ds").mkdir()
    os.mkfifo(tmp_path / "b.ds/b.meg4")
    with pytest.raises(Refused, match=r"b\.meg4 is a pipe"):
        raw.open(tmp_path / "b.ds")


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return tensors.read(transfer.read(path))


def test_other_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    for read in (audio.header, weights.look, guard.text, guard.json_object, recordings.read_tsv, tensors_of):
        with pytest.raises(ValueError, match=r"x\.npy is a pipe"):
            read(tmp_path / "x.npy")
    with pytest.raises(Refused, match=r"x\.npy is a pipe"):
        targets.make(Extra("x.npy", 10.0), (), tmp_path, 5.0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "a.edf"))
    with pytest.raises(Refused, match=r"a\.edf is a socket"):
        raw.open(tmp_path / "a.edf")
    listener.close()
    (tmp_path / "b.edf").symlink_to("/dev/zero")
    with pytest.raises(Refused, match=r"b\.edf is a device"):
        raw.open(tmp_path / "b.edf")


# ---- Rates


@pytest.mark.parametrize("sfreq", [np.inf, 1e300, 0.0, -5.0, np.nan])
@pytest.mark.parametrize("write", [scipy.io.savemat, None])
def test_a_rate_that_no_recording_has_is_refused(
    tmp_path: Path, write: Callable[..., None] | None, sfreq: float
) -> None:
    content = {"X": corpus.signal().data.T.astype(float), "fs": sfreq}
    if write:
        write(tmp_path / "a.mat", content)
    else:
        corpus.matlab_7_3(tmp_path / "a.mat")
        with h5py.File(tmp_path / "a.mat", "r+") as file:
            file["fs"][...] = sfreq
    with pytest.raises(Refused, match=r"a\.mat .*sampling rate.*matlab\.sfreq"):
        raw.open(tmp_path / "a.mat")


def test_a_rate_in_the_header_of_edf_and_brainvision(tmp_path: Path) -> None:
    corpus._edf(tmp_path / "a.edf")
    content = (tmp_path / "a.edf").read_bytes()
    for record_s in (b"1e-300  ", b"1e300   ", b"inf     ", b"nan     ", b"0       ", b"-1      "):
        (tmp_path / "a.edf").write_bytes(content[:244] + record_s + content[252:])
        with pytest.raises(Refused, match=r"a\.edf (has|is)"):
            raw.open(tmp_path / "a.edf")
    corpus._vhdr(tmp_path / "b.vhdr")
    header = (tmp_path / "b.vhdr").read_text()
    for interval in ("0", "-1", "inf", "nan", "1e-300", "1e300"):
        (tmp_path / "b.vhdr").write_text(header.replace("SamplingInterval=10000", f"SamplingInterval={interval}"))
        with pytest.raises(Refused, match=r"b\.vhdr says SamplingInterval"):
            raw.open(tmp_path / "b.vhdr")


@pytest.mark.parametrize("hz", [0.25, 1000.0, 192e3])
def test_a_rate_that_is_one_stays(hz: float) -> None:
    assert guard.rate(Path("x"), hz) == hz


# ---- Promises and bombs


@pytest.fixture
def little_memory() -> object:
    """No more than 200 MB beyond what the process has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 200_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


MAT_5 = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def mat_of(dims: tuple[int, int], kind: int = 6, n_bytes: int = 16) -> bytes:
    """A .mat of version 5 whose variable says it is so large."""
    body = struct.pack("<IIII", 6, 8, kind, 0) + struct.pack("<IIii", 5, 8, *dims) + struct.pack("<II4s4x", 1, 1, b"X")
    body += struct.pack("<II", 9, n_bytes) + bytes(16)
    return (
        b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + struct.pack("<II", 14, len(body)) + body
    )


@pytest.mark.parametrize("kind", [6, 1])
def test_a_mat_that_promises_more_than_it_has(tmp_path: Path, kind: int, little_memory: object) -> None:
    """A matrix, and cells, of 2^40 values in 200 bytes."""
    (tmp_path / "a.mat").write_bytes(mat_of((2**20, 2**20), kind))
    for read in (mat5.check, raw.open, matlab.array):
        with pytest.raises(Refused, match=r"a\.mat is (cut off or )?damaged"):
            read(tmp_path / "a.mat")


def test_a_compressed_mat_that_is_a_bomb(tmp_path: Path, little_memory: object) -> None:
    """A gigabyte of zeros in a megabyte, which deflate can do."""
    n_bytes = 1 << 30
    head = mat_of((1 << 27, 1), n_bytes=n_bytes)[128:-16]
    packer = zlib.compressobj()
    packed = packer.compress(struct.pack("<II", 14, len(head) - 8 + n_bytes) + head[8:])
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 10)) + packer.flush()
    (tmp_path / "a.mat").write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124)
        + struct.pack("<H", 0x0100)
        + b"IM"
        + struct.pack("<II", 15, len(packed))
        + packed
    )
    with pytest.raises(Refused, match=r"a\.mat would unpack \d+ bytes of a variable to 10737\d+, as no recording does"):
        raw.open(tmp_path / "a.mat")


def test_an_hdf5_array_that_was_promised_and_not_written(tmp_path: Path, little_memory: object) -> None:
    for name, how in (
        ("a.mat", {}),
        ("b.mat", {"chunks": (1000, 4)}),
        ("c.mat", {"chunks": (1000, 4), "compression": "gzip"}),
    ):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("X", (2**38, 4), "f8", **how)
            file["fs"] = [[100.0]]
        with pytest.raises(Refused, match=rf"{name} (is cut off or damaged: it promises|would unpack)"):
            raw.open(tmp_path / name)


def test_a_zip_that_is_a_bomb(tmp_path: Path, little_memory: object) -> None:
    with (
        zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x/data.pkl", "w") as part,
    ):
        for _ in range(600):
            part.write(bytes(1 << 20))
    for read in (weights.look, tensors_of, lambda path: model_file.load(path.parent)):
        with pytest.raises(ValueError, match=r"model\.pt .*would unpack \d+ bytes of x/data\.pkl to 629145600"):
            read(tmp_path / "model.pt")


def test_sounds_and_arrays_that_promise_more_than_they_have(tmp_path: Path, little_memory: object) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(1000), 8000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] & 0xF0 | 0xF, 255, 255, 255, 255])  # 36 bits: the number of samples
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(Refused, match=r"a\.flac"):
        audio.header(tmp_path / "a.flac")
    for shape in ("(1099511627776, 3)", "(2, 3)"):  # too many, and too few: the rest would be left out
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": eval(shape)})
        (tmp_path / "x.npy").write_bytes(file.getvalue() + bytes(240))
        with pytest.raises(Refused, match=r"x\.npy is (no \.npy of numbers|damaged: its header tells of \(2, 3\))"):
            targets.make(Extra("x.npy", 10.0), (), tmp_path, 5.0)


def test_objects_in_an_npy_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(Refused, match=r"x\.npy is no \.npy of numbers") as refused:
        targets.make(Extra("x.npy", 10.0), (), tmp_path, 5.0)
    assert "allow_pickle" not in str(refused.value) and "trust" not in str(refused.value)


def test_samples_under_another_name_count_as_its_own(tmp_path: Path) -> None:
    """However small the header that names them."""
    signal = Signal(np.random.default_rng(0).normal(size=(300_000, 4)).astype(np.float32) * 1e-5, 100.0, corpus.NAMES)
    write_brainvision(tmp_path / "a.vhdr", signal)
    (tmp_path / "a.eeg").rename(tmp_path / "other.eeg")
    header = (tmp_path / "a.vhdr").read_text()
    (tmp_path / "a.vhdr").write_text(header.replace("DataFile=a.eeg", "DataFile=other.eeg"))
    assert raw.open(tmp_path / "a.vhdr").stream.n_times == 300_000


def test_a_chain_of_blocks_that_leads_back_ends(tmp_path: Path) -> None:
    """And one of samples that is called something else is not left out."""
    write_fif(tmp_path / "a.fif", corpus.signal())
    content, at, buffers = bytearray((tmp_path / "a.fif").read_bytes()), 0, []
    while at >= 0:
        kind, _, size, following = struct.unpack_from(">iIii", content, at)
        buffers += [at] if kind == 300 else []
        at = at + 16 + size if following == 0 else following
    assert len(buffers) > 3
    for place, number, message in ((12, 96, "in a circle"), (0, 299, "has the size of samples, and is of kind 299")):
        changed = bytearray(content)
        struct.pack_into(">i", changed, buffers[2] + place, number)
        if place == 12:
            struct.pack_into(">i", changed, 52, -1)  # no table of blocks
        (tmp_path / "a.fif").write_bytes(changed)
        with pytest.raises(Refused, match=rf"a\.fif is damaged: .*{message}"):
            raw.open(tmp_path / "a.fif")


# ---- Other files' bytes


def test_hdf5_takes_no_bytes_from_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(np.arange(4000.0)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = np.ones((1000, 4))
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("X", (1000, 4), "f8", external=[(str(secret), 0, 32000)])
        file["fs"] = [[100.0]]
    with h5py.File(tmp_path / "b.mat", "w") as file:
        layout = h5py.VirtualLayout((1000, 4), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "X", (1000, 4))
        file.create_virtual_dataset("X", layout)
        file["fs"] = [[100.0]]
    with h5py.File(tmp_path / "c.mat", "w") as file:
        file["X"] = h5py.ExternalLink("other.h5", "X")
        file["fs"] = [[100.0]]
    for name, what in (
        ("a", "takes X from other files"),
        ("b", "takes X from other files"),
        ("c", r"links to another file \(X\)"),
    ):
        with pytest.raises(Refused, match=rf"{name}\.mat {what}"):
            raw.open(tmp_path / f"{name}.mat")


@pytest.mark.parametrize("away", ["/etc/passwd", "../other.eeg", "..\\other.eeg"])
def test_a_header_names_no_samples_elsewhere(tmp_path: Path, away: str) -> None:
    corpus._vhdr(tmp_path / "a.vhdr")
    header = (tmp_path / "a.vhdr").read_text()
    (tmp_path / "a.vhdr").write_text(header.replace("DataFile=a.eeg", f"DataFile={away}"))
    with pytest.raises(Refused, match=r"a\.vhdr names .* not in its folder"):
        raw.open(tmp_path / "a.vhdr")


def test_a_set_names_no_samples_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    corpus.eeglab(tmp_path / "study/a.set")
    content = scipy.io.loadmat(tmp_path / "study/a.set", simplify_cells=True)["EEG"]
    (tmp_path / "other.fdt").write_bytes(content["data"].astype("<f4").tobytes())
    content["data"] = str(tmp_path / "other.fdt")
    scipy.io.savemat(tmp_path / "study/a.set", {"EEG": content}, appendmat=False, oned_as="row")
    with pytest.raises(Refused, match=r"a\.set takes its samples from .*other\.fdt, which is not next to it"):
        raw.open(tmp_path / "study/a.set")


@pytest.mark.parametrize("away", ["/etc/hostname", "../../other.wav", "a/../../../other.wav"])
def test_a_table_names_no_stimulus_elsewhere(tmp_path: Path, away: str) -> None:
    """As `stim_file` of events.tsv, or as a name that is a part of a target's path: what is there is not even looked
    for."""
    rows = [{"onset": "0.5", "duration": "1", "stim_file": away}]
    stream = corpus.signal().stream()
    with pytest.raises(Refused, match=r"stimuli: a table or a marker of the study names '\S+', which leads out of it"):
        events.trials(BidsEvents(), rows, stream, (), tmp_path / "study")
    trials = (Trial(0.5, 1.0, away, {}),)
    for target in (Extra("stimuli/{stimulus}", 10.0), Embedding("{stem}.npy"), Image("{stimulus}"), Envelope(64.0)):
        with pytest.raises(Refused, match="which leads out of it: put"):
            targets.files(target, trials, tmp_path / "study", {})


# ---- Tables


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"onset\tduration\n1\t2\n\0\0\0\0\n", r"NUL bytes, the first in line 3"),
        (b"onset\tduration\n1\t2\n3", r"line 3 of .* has 1 cells.*may be cut off"),
        (b"onset\tduration\n1\n3\t4\n", r"line 2 of .* has 1 cells, but the table has 2 columns: write n/a"),
        (b"onset\tonset\n1\t2\n", r"has the column 'onset' twice"),
        (b"onset\tduration\n1\t\"2\n", r"line 2 of .* is no row of a table"),
        (b"onset\tduration\n1\t\xff\n", r"is not UTF-8 \(byte 0xff in line 2\)"),
        (b"", r"is empty, without even the names of columns"),
    ],
)  # fmt: skip
def test_a_table_that_is_damaged_is_not_half_read(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "events.tsv").write_bytes(content)
    with pytest.raises(Refused, match=rf"events\.tsv.*{message}|{message}") as refused:
        recordings.read_tsv(tmp_path / "events.tsv")
    assert "events.tsv" in str(refused.value)


@pytest.mark.parametrize(
    "content", ["[1, 2]", "[[1, 2]]", '"text"', "3", "NaN", '{"a": NaN}', "[" * 100_000, '{"a": 1']
)
def test_a_sidecar_is_an_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "eeg.json").write_text(content)
    with pytest.raises(Refused, match=r"eeg\.json"):
        guard.json_object(tmp_path / "eeg.json")


def test_a_label_with_a_slash_is_one_array(tmp_path: Path) -> None:
    assert targets.stored_name(Label(column="speed/rate")) == "speed-rate"
    assert targets.stored_name(Extra("a/b.npy", 10.0, title="x/y")) == "x-y"


# ---- Weights


class Bad:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "contents",
    [
        lambda trace: {"parameters": Bad(trace)}, Bad, lambda trace: {"config": {}, "spec": {}, "x": Bad(trace)},
        lambda trace: [1], lambda trace: "text", lambda trace: {"config": 1},
    ],
)  # fmt: skip
def test_a_hostile_model_is_a_sentence_without_the_librarys_advice(
    tmp_path: Path, contents: Callable[[Path], object]
) -> None:
    """And nothing in it is run: not by a reader of models, nor by one of weights, nor by inspect."""
    made = contents(trace := tmp_path / "was-run")
    torch.save(made, tmp_path / "model.pt")
    with pytest.raises(Refused, match=r"model\.pt is (damaged|no model of a train run)") as refused:
        model_file.load(tmp_path)
    assert "weights_only" not in str(refused.value) and len(str(refused.value).splitlines()) == 1
    for content in ((tmp_path / "model.pt").read_bytes(), pickle.dumps(made, 2)):
        (tmp_path / "model.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.pt") as refused:
            model_file.load(tmp_path)
        assert "weights_only" not in str(refused.value)
        for read in (weights.look, tensors_of, lambda path: tensors_of(path.parent)):
            with suppress(ValueError):  # what it does not know, it passes over: it runs nothing
                read(tmp_path / "model.pt")
    assert not trace.exists()
    pickle.loads(pickle.dumps(made))
    assert trace.exists() == (not isinstance(made, list | str) and made != {"config": 1}), "there was something to run"


# ---- The others go on


def test_survey_and_preprocess_name_what_is_wrong_and_do_the_others(launch: Launch, tmp_path: Path) -> None:
    """One compressed .mat with a damaged block, a pipe, a bomb: before, the first of them ended all."""
    study = tmp_path / "study"
    corpus.study(study, lambda path: corpus.matlab(path, do_compression=True), ".mat")
    for number in ("02", "03", "04"):
        corpus.study(study / number, lambda path: corpus.matlab(path, do_compression=True), ".mat")
        (study / number / "sub-01").rename(study / f"sub-{number}")
        for path in sorted((study / f"sub-{number}").rglob("sub-01*")):
            path.rename(path.with_name(path.name.replace("sub-01", f"sub-{number}")))
    whole = study / "sub-02/eeg/sub-02_task-x_eeg.mat"
    content = bytearray(whole.read_bytes())
    content[5000:5100] = bytes(100)
    whole.write_bytes(content)
    pipe = study / "sub-03/eeg/sub-03_task-x_eeg.mat"
    pipe.unlink()
    os.mkfifo(pipe)
    done = launch("survey", f"study={study}", "--on", "local")
    assert "sub-02_task-x_eeg.mat is cut off or damaged" in done.stdout + (log := log_of(launch, "survey"))
    assert "sub-03_task-x_eeg.mat is a pipe (FIFO)" in log and "4 recordings of 4 subjects" in log
    words = [
        f"study={study}",
        "steps=[]",
        "targets=[{name: label, column: rating}]",
        "skip_failed=true",
        "--on",
        "local",
    ]
    launch("preprocess", *words)
    (run,) = launch.folder.glob("runs/preprocess-*")
    assert sorted(path.stem for path in run.glob("out/*.h5")) == ["sub-01_task-x", "sub-04_task-x"]


def log_of(launch: Launch, stage: str) -> str:
    (run,) = launch.folder.glob(f"runs/{stage}-*")
    return RunDir(run).attempt(1).log(0).read_text()
