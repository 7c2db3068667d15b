"""`inspect` shows what a file holds and runs nothing of it; cut-off and foreign files are named."""

import argparse
import io
import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eegdecode import models
from eegdecode.data.io.guard import Refused
from eegdecode.models.bilstm import BiLSTM
from eegdecode.signals import SignalSpec
from eegdecode.training import transfer
from eegdecode.training.config import Start
from eegdecode.weights import inspect, tensors
from eegdecode.weights.files import WeightsFile, look
from eegdecode.weights.inspect import Inspect
from eegdecode.weights.matching import match
from eegdecode.weights.pickles import Reader, Shape
from hpc.checkpoint.saver import Saver
from hpc.cli.completion import candidates
from hpc.config import build
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir
from tests.conftest import Launch

SPEC = SignalSpec(("E0", "E1", "E2"), 64.0, 2, ("sub-01",), 64.0)
SAME = SignalSpec(("E0", "E1", "E2"), 64.0, 2, target_sfreq=64.0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(8), "mlp": nn.Linear(8, 8)}) for _ in range(3))
        self.norm = nn.BatchNorm1d(8)
        self.readout = nn.Linear(8, 2)


def shapes(network: nn.Module) -> dict[str, Shape]:
    return {
        name: Shape(tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in network.state_dict().items()
    }


WRITERS: dict[str, Callable[[nn.Module, Path], object]] = {
    "torch.save": lambda net, path: torch.save(net.state_dict(), path),
    "torch.save before 1.6": lambda net, path: torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False),
    "a whole module": torch.save,
    "a whole module before 1.6": lambda net, path: torch.save(net, path, _use_new_zipfile_serialization=False),
    "under a name": lambda net, path: torch.save({"model": net.state_dict(), "epoch": 3}, path),
    "tensors beside": lambda net, path: torch.save({"mean": torch.zeros(4), "state_dict": net.state_dict()}, path),
    "parameters": lambda net, path: torch.save(dict(net.named_parameters()) | dict(net.named_buffers()), path),
    "pickle of arrays": lambda net, path: path.write_bytes(
        pickle.dumps({name: value.numpy() for name, value in net.state_dict().items()})
    ),
    "pickle of tensors": lambda net, path: path.write_bytes(pickle.dumps(net.state_dict())),
    "safetensors": lambda net, path: path.write_bytes(safetensors(net.state_dict())),
}


def safetensors(parameters: dict[str, torch.Tensor]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    names, body = {torch.float32: "F32", torch.int64: "I64"}, b""
    for name, value in parameters.items():
        data = value.numpy().tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_says_the_same(form: str, tmp_path: Path) -> None:
    WRITERS[form](Net(), tmp_path / "file")
    assert look(tmp_path / "file").shapes == shapes(Net())


def test_a_file_before_1_6_whose_list_of_storages_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"x": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    key = re.findall(rb"\d{6,}", content)[-1]
    begin, _, end = content.rpartition(key)  # the last time it is named: in the list
    path.write_bytes(begin + b"9" * len(key) + end)
    with pytest.raises(Refused, match=r"old.pt is damaged: the values of a tensor that it names are not in it"):
        tensors.read(look(path))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_read_too(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(4, 8))), tmp_path / "script.pt")
    file = look(tmp_path / "script.pt")
    assert (file.form, file.shapes["0.weight"]) == ("TorchScript", Shape((8, 4), "float32"))


TYPES = (
    "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 complex64 complex128 "
    "int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
)


@pytest.mark.parametrize("name", TYPES.split())
def test_every_type_of_torch_keeps_its_name_and_size(name: str, tmp_path: Path) -> None:
    tensor = torch.zeros(3, dtype=getattr(torch, name))
    torch.save({"x": tensor}, tmp_path / "x.pt")
    assert look(tmp_path / "x.pt").shapes == {"x": Shape((3,), name)}
    assert Shape((3,), name).n_bytes == tensor.nbytes


@pytest.mark.parametrize(
    "name", [n for n in vars(torch) if n.endswith("Storage") and n not in ("Storage", "TypedStorage")]
)
def test_every_storage_has_a_type_of_torch(name: str) -> None:
    dtype = Reader(io.BytesIO(), 0).find_class("torch", name)
    assert isinstance(getattr(torch, dtype), torch.dtype)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantized_and_sparse_tensors_are_one_tensor_each(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.zeros(2, 3), 0.1, 0, torch.qint8)
    torch.save({"q": quantized, "s": torch.eye(4).to_sparse()}, tmp_path / "x.pt")
    assert look(tmp_path / "x.pt").shapes == {"q": Shape((2, 3), "qint8"), "s": Shape((4, 4), "float32")}


class Settings:
    """A class of the person who wrote the file."""


@pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning", "ignore:Detected pickle protocol", "ignore:'torch.load' received a zip"
)
@pytest.mark.parametrize("form", ["a class", "an array", "a module", "TorchScript", "protocol 4", "a plain pickle"])
def test_torch_itself_does_not_show_these(form: str, tmp_path: Path) -> None:
    """Why there is a reader of ours (decision 0034). Should torch learn to, this fails: then ours may go."""
    tensors, path = {"weight": torch.zeros(2)}, tmp_path / "x.pt"
    {
        "a class": lambda: torch.save(tensors | {"args": Settings()}, path),
        "an array": lambda: torch.save(tensors | {"mean": np.zeros(2)}, path),
        "a module": lambda: torch.save(nn.Linear(2, 2), path),
        "TorchScript": lambda: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path),
        "protocol 4": lambda: torch.save(tensors, path, pickle_protocol=4),
        "a plain pickle": lambda: path.write_bytes(pickle.dumps(tensors)),
    }[form]()
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        torch.load(path, map_location="meta", weights_only=True)
    assert "weight" in look(path).shapes


def test_a_lightning_checkpoint_is_told_apart(tmp_path: Path) -> None:
    net = Net()
    adam = torch.optim.Adam(net.parameters())
    net.readout(torch.ones(1, 8)).sum().backward()
    adam.step()
    saved = {"state_dict": net.state_dict(), "optimizer_states": [adam.state_dict()], "epoch": 3, "lr": 0.5}
    torch.save(saved | {"hyper_parameters": argparse.Namespace(lr=1)}, tmp_path / "a.ckpt")
    file = look(tmp_path / "a.ckpt")
    assert (file.place, file.metadata, file.code) == ("state_dict", {"epoch": 3, "lr": 0.5}, ("argparse.Namespace",))
    assert file.other_tensors == {"optimizer_states": (6, 2 * (16 + 2) + 2)}
    assert file.shapes == shapes(net)


# ---- No code runs


class Bad:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.trace}",)


def opcodes(trace: Path) -> dict[str, bytes]:
    """The other ways in which a pickle calls something."""
    path = str(trace).encode()
    return {
        "inst": b"(S'touch " + path + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'touch " + path + b"'\no.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\n(cos\nX\x06\x00\x00\x00systemtR(X"
        + struct.pack("<I", len(b"touch " + path))
        + b"touch "
        + path
        + b"tR.",
        "eval": b"\x80\x02cbuiltins\neval\n(X"
        + struct.pack("<I", len(b"open('" + path + b"', 'w')"))
        + b"open('"
        + path
        + b"', 'w')tR.",
        "extension": b"\x80\x02\x82\x01.",
    }


class BadStorage(Bad):
    def __reduce__(self) -> object:
        file = io.BytesIO()
        torch.save(Bad(self.trace), file, _use_new_zipfile_serialization=False)
        return torch.storage._load_from_bytes, (file.getvalue(),)


@pytest.mark.parametrize("form", ["zip", "old", "plain", "in a storage", "in a tensor", "as a dictionary"])
def test_a_malicious_pickle_runs_nothing(form: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "bad.pt"
    held = {"weight": torch.zeros(2), "x": Bad(trace)}
    if form in ("plain", "in a storage"):
        bad = Bad(trace) if form == "plain" else BadStorage(trace)
        path.write_bytes(pickle.dumps({"weight": np.zeros(2, np.float32), "x": bad}))
    elif form == "in a tensor":
        parameter = nn.Parameter(torch.zeros(2))
        parameter.bad = Bad(trace)  # type: ignore[attr-defined]
        torch.save({"weight": parameter}, path)
    else:
        torch.save([held] if form == "as a dictionary" else held, path, _use_new_zipfile_serialization=form != "old")
    file = look(path)
    assert any(name.endswith(".system") for name in file.code)
    assert {Shape((2,), "float32")} == set(file.shapes.values())
    assert not trace.exists()
    if form in ("plain", "in a storage"):  # a check that there was something to run
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("how", ["inst", "obj", "getattr", "eval", "extension"])
def test_no_opcode_runs_anything(how: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "bad.pkl"
    text = opcodes(trace)[how]
    path.write_bytes(text if text.startswith(b"\x80") else b"\x80\x02" + text)
    with pytest.raises(ValueError, match="bad.pkl"):
        look(path)
    assert not trace.exists()


def test_what_a_stranger_wrote_does_not_steer_the_terminal(tmp_path: Path) -> None:
    torch.save({"a\x1b[2J": torch.zeros(1), "b\nc": torch.zeros(2)}, tmp_path / "x.pt")
    text = inspect.run(Inspect(), [tmp_path / "x.pt"], False)
    assert "\x1b" not in text and "b c" in text


def test_a_value_that_holds_itself_ends(tmp_path: Path) -> None:
    endless: list[object] = [torch.zeros(1)]
    endless.append(endless)
    for _ in range(60):  # 2^60 ways to the same tensor
        endless = [endless, endless]
    torch.save(endless, tmp_path / "x.pt")
    assert len(look(tmp_path / "x.pt").shapes) == 1
    deep: list[object] = [torch.zeros(1)]
    for _ in range(400):
        deep = [deep]
    torch.save(deep, tmp_path / "deep.pt")
    with pytest.raises(ValueError, match="is nested more than 200 levels deep"):
        look(tmp_path / "deep.pt")


# ---- What cannot be read


@pytest.mark.parametrize("form", WRITERS)
def test_a_file_that_is_cut_off_says_so(form: str, tmp_path: Path) -> None:
    WRITERS[form](Net(), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for share in (0.02, 0.2, 0.5, 0.9, 0.99):
        (tmp_path / "cut").write_bytes(whole[: max(12, int(share * len(whole)))])
        with pytest.raises(ValueError, match="cut off|damaged"):
            look(tmp_path / "cut")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.pt is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "neither from torch.save nor safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer, not the file itself"),
        (b"hpcstate" + bytes(20), "one file of a checkpoint: give its folder"),
        (b"PK\x03\x04" + bytes(50), "its end is missing: it is cut off"),
        (struct.pack("<Q", 10**15) + b"{", "a header of 1000000000000000 bytes"),
        (struct.pack("<Q", 2) + b"{]", "damaged header"),
        (pickle.dumps({"epoch": 3}), r"\(pickle\) holds no tensors"),
    ],
)
def test_what_is_something_else_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        look(tmp_path / "x.pt")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a folder without a model.pt or a complete checkpoint"):
        look(tmp_path)
    with pytest.raises(ValueError, match="there is no file"):
        look(tmp_path / "nothing")


# ---- Ours


def ours(folder: Path, cfg: BiLSTM) -> WeightsFile:
    """As state.save writes it."""
    config = {"model": asdict(cfg), "target": "envelope"}
    best = {"parameters": models.build(cfg, SPEC).state_dict(), "step": 7, "validation": {"loss": 0.5}}
    folder.mkdir(parents=True)
    torch.save({"config": config, "spec": asdict(SPEC), **best}, folder / "model.pt")
    return look(folder)


def test_the_model_of_a_run_is_compared_with_what_it_is_a_model_of(tmp_path: Path) -> None:
    file = ours(tmp_path / "run" / "out", BiLSTM(hidden=4))
    assert file.place == "parameters" and file.metadata == {"step": 7}
    text = inspect.run(Inspect(), [tmp_path / "run"], False)
    assert "bilstm would load 18 of its 18 tensors, 754 of 754 values" in text
    assert "missing" not in text and "unexpected" not in text
    other = inspect.run(Inspect(model=BiLSTM(hidden=4), n_outputs=5), [tmp_path / "run"], False)
    assert "other shape     2  readout.weight: 5 x 8 here, 2 x 8 in the file" in other


def test_a_checkpoint_of_a_run_is_read_and_checked(tmp_path: Path) -> None:
    network = models.build(BiLSTM(hidden=4), SPEC)
    ctx = Context(World(), RunDir(tmp_path / "run"))
    saver = Saver(ctx, None)
    saver.save(12, {"model": network.state_dict(), "best": {"step": 3}})
    saver.close()
    file = look(tmp_path / "run")
    assert (file.path.name, file.place, file.shapes) == ("step-00000012", "model", shapes(network))
    (state,) = file.path.glob("state*")
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(ValueError, match="were written"):
        look(file.path)


# ---- What a model would load


@pytest.mark.parametrize(
    ("strip", "add"), [("", ""), ("module.", ""), ("model.target_encoder.", ""), ("", "encoder."), ("net.", "encoder.")]
)
def test_prefixes_are_found(strip: str, add: str) -> None:
    inner = shapes(Net())
    in_file = {strip + name: shape for name, shape in inner.items()} | {"predictor.token": Shape((1, 8), "float32")}
    wanted = {add + name: shape for name, shape in inner.items()} | {"probe.weight": Shape((2, 8), "float32")}
    matched = match(in_file, wanted)
    assert (matched.strip, matched.add) == (strip, add)
    assert matched.loaded == {add + name: strip + name for name in inner}
    assert (matched.missing, matched.unexpected) == (("probe.weight",), ("predictor.token",))


@pytest.mark.parametrize(
    ("before", "prefix"),
    [
        ("", ""), ("module.", ""), ("model.module.", ""), ("_orig_mod.", ""), ("net.", "net."),
        ("model.target_encoder.", "model.target_encoder."),
    ],
)  # fmt: skip
def test_inspect_promises_what_training_loads(before: str, prefix: str, tmp_path: Path) -> None:
    theirs, ours = (models.build(BiLSTM(hidden=4), SAME) for _ in range(2))
    state = {f"{before}{name}": value for name, value in theirs.state_dict().items()}
    extra = {f"{before.partition('target')[0] if prefix else before}predictor.token": torch.zeros(8)}
    torch.save(state | extra, tmp_path / "x.pt")
    knobs = {"model": {"name": "bilstm", "hidden": 4}, "n_channels": 3, "n_outputs": 2}
    cfg = build(Inspect, knobs, "inspect")
    (promised,) = json.loads(inspect.run(cfg, [tmp_path / "x.pt"], True))["loads"]
    text = inspect.run(cfg, [tmp_path / "x.pt"], False)
    assert ("with start.prefix=" in text) == bool(promised["prefix"]) == bool(prefix)
    loaded = transfer.load(ours, look(tmp_path / "x.pt"), promised["prefix"])
    assert set(loaded.loaded) == set(promised["loaded"]) == set(theirs.state_dict())
    assert list(loaded.missing) == promised["missing"] == []
    if prefix:  # and without it, nothing
        with pytest.raises(ValueError, match="lacks tensors that start.need"):
            transfer.load_pretrained(ours, Start(source=Input(str(tmp_path / "x.pt"))), tmp_path / "x.pt")


def test_what_training_would_not_load_is_not_promised(tmp_path: Path) -> None:
    """Training takes prefixes off, but puts none before."""
    theirs = models.build(BiLSTM(hidden=4), SAME).state_dict()
    part = {name.partition(".")[2]: value for name, value in theirs.items()}
    torch.save(part, tmp_path / "x.pt")
    knobs = {"model": {"name": "bilstm", "hidden": 4}, "n_channels": 3, "n_outputs": 2}
    (promised,) = json.loads(inspect.run(build(Inspect, knobs, "inspect"), [tmp_path / "x.pt"], True))["loads"]
    assert promised["loaded"] == {} and len(promised["missing"]) == len(theirs)


def test_a_prefix_that_no_name_has_is_refused(tmp_path: Path) -> None:
    network = models.build(BiLSTM(hidden=4), SAME)
    torch.save(network.state_dict(), tmp_path / "x.pt")
    start = Start(source=Input(str(tmp_path / "x.pt")), prefix="encoder.")
    with pytest.raises(ValueError, match="lacks tensors that start.need=encoder asks for: 0 of 18 tensors found"):
        transfer.load_pretrained(network, start, tmp_path / "x.pt")


def test_other_shapes_are_told_apart_from_other_names() -> None:
    wanted = {"a.weight": Shape((2, 3), "float32"), "b": Shape((4,), "float32"), "c": Shape((), "int64")}
    in_file = {"a.weight": Shape((3, 2), "float32"), "b": Shape((4,), "bfloat16"), "d": Shape((), "int64")}
    matched = match(in_file, wanted)
    assert matched.loaded == {"b": "b"}
    assert matched.differ == {"a.weight": (wanted["a.weight"], in_file["a.weight"])}
    assert (matched.missing, matched.unexpected) == (("c",), ("d",))


@pytest.mark.parametrize("name", ["bilstm", "diffwave", "joined", "tfc"])
def test_a_model_can_be_asked_for(name: str, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pt")
    knobs = {"model": {"name": name}, "n_channels": 8, "n_times": 2560, "target_sfreq": 65536.0, "n_outputs": 1}
    cfg = build(Inspect, knobs, "inspect")
    report = json.loads(inspect.run(cfg, [tmp_path / "x.pt"], True))
    assert report["loads"][0]["model"] == name
    assert len(report["loads"][0]["missing"]) > 3 and report["loads"][0]["unexpected"] == ["x"]


# ---- The command


def test_the_command_tells_counts_parts_and_blocks(launch: Launch, tmp_path: Path) -> None:
    torch.save({"state_dict": Net().state_dict()}, tmp_path / "epoch=3-step=4.ckpt")
    text = launch("inspect", "epoch=3-step=4.ckpt").stdout
    assert "torch.save, state_dict: 19 tensors, 298 parameters" in text
    assert [line.split() for line in text.splitlines() if line.startswith("blocks ")] == [
        ["blocks", "264"],
        ["blocks", "3", "x", "88", "width", "8"],
    ]
    assert "blocks.*.mlp.weight  (3 x)   8 x 8       float32" in text
    report = json.loads(launch("inspect", "epoch=3-step=4.ckpt", "--json").stdout)
    assert report["files"][0]["parameters"] == 298
    assert report["files"][0]["shapes"]["readout.weight"] == {"shape": [2, 8], "dtype": "float32"}


def test_two_files_stand_side_by_side(launch: Launch, tmp_path: Path) -> None:
    net = Net()
    torch.save(net.state_dict(), tmp_path / "a.pt")
    net.blocks.append(net.blocks[0])
    net.readout = nn.Linear(8, 5)
    wrapped = {f"module.{name}": value for name, value in net.state_dict().items()}
    torch.save(wrapped, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    lines = [line.split() for line in launch("inspect", "a.pt", "b.pt").stdout.splitlines()]
    assert ["form", "torch.save", "torch.save", "before", "1.6"] in lines
    assert ["parameters", "298", "413"] in lines
    assert ["blocks", "3", "x", "88,", "width", "8", "4", "x", "88,", "width", "8"] in lines
    assert ["readout", "18", "45"] in lines
    text = " ".join(word for line in lines for word in line)
    assert "17 tensors have the same name and shape in both ('module.' removed)" in text
    assert "readout.bias: 2 and 5" in text and "only in b.pt: 4 module.blocks.3.norm.weight" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "inspect which file or folder? Name one: inspect"),
        (["model=bilstm"], "inspect which file or folder? Name one: inspect"),
        (["nothing.pt"], "there is no file nothing.pt"),
        (["x.pt", "model=bilstmm"], "'bilstmm' is not one of the choices. Did you mean 'bilstm'"),
        (["x.pt", "x.pt", "x.pt"], "inspect one file, or two to compare them, but got 3"),
        (["x.pt", "n_channels=2", "channels=[a]"], "n_channels is 2, but 1 channels are named"),
        (["x.pt", "--nodes", "2"], "--nodes is for"),
    ],
)
def test_wrong_words_end_with_2_and_a_sentence(launch: Launch, tmp_path: Path, words: list[str], message: str) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pt")
    done = launch("inspect", *words, code=2)
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_look_at_a_file_is_had_without_torch(launch: Launch, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pt")
    launch.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    assert "| torch\n" not in launch("inspect", "x.pt").stderr


def test_the_tab_key_knows_models_and_leaves_files_to_the_shell() -> None:
    assert "model=" not in candidates(["inspect", ""])
    assert candidates(["inspect", "x.pt", "model.hid"]) == ["model.hidden="]
    assert "--json" in candidates(["inspect", "--js"])
