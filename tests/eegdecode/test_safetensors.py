"""Our reader and writer of safetensors against the package; foreign checkpoints are read without running anything."""

import argparse
import json
import pathlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegdecode import models
from eegdecode.data.io.readers import safetensors as ours
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.eegpt import EEGPT
from eegdecode.signals import SignalSpec
from eegdecode.training import transfer
from eegdecode.training.config import Start
from eegdecode.weights import convert, inspect, tensors
from eegdecode.weights.files import look
from hpc.cli import options, verbs
from hpc.errors import ConfigError
from hpc.rank.context import Input
from tests.conftest import Launch
from tests.eegdecode.test_weights import WRITERS, Net

TENSORS = {
    "w": torch.arange(6.0).reshape(2, 3),
    "half": torch.arange(3).to(torch.bfloat16),
    "flag": torch.tensor([True, False, True]),
    "turned": torch.arange(6).reshape(2, 3).T,
    "one": torch.tensor(7, dtype=torch.int16),
    "none": torch.empty(0, 4),
    "small": torch.tensor([1.5]).to(torch.float8_e4m3fn),
}


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.float(), other.float())


def test_the_package_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    theirs = pytest.importorskip("safetensors.torch")
    with open(tmp_path / "ours.safetensors", "wb") as file:
        ours.write(file, TENSORS, {"format": "pt", "note": "µV"})
    read = theirs.load_file(tmp_path / "ours.safetensors")
    assert read.keys() == TENSORS.keys() and all(alike(read[name], value) for name, value in TENSORS.items())

    theirs.save_file({name: value.contiguous() for name, value in TENSORS.items()}, tmp_path / "theirs.safetensors")
    for path in (tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"):
        read, _ = ours.read(path)
        assert all(alike(read[name], value) for name, value in TENSORS.items())
        read = tensors.read(look(path))
        assert read.keys() == TENSORS.keys() and all(alike(read[name], value) for name, value in TENSORS.items())
    assert ours.read(tmp_path / "ours.safetensors")[1] == {"format": "pt", "note": "µV"}


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},  # fewer bytes than values
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]},  # more bytes than values
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},  # bytes of no tensor before it
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
    ],
)
def test_a_header_that_lies_is_refused(entry: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps({"x": entry}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match="x.safetensors has a damaged header"):
        look(tmp_path / "x.safetensors")


def test_tensors_that_overlap_and_bytes_of_no_tensor_are_refused(tmp_path: Path) -> None:
    for name, places, n_bytes, message in (
        ("overlap", ((0, 8), (4, 12)), 12, "has a damaged header"),
        ("hole", ((0, 8), (12, 20)), 20, "has a damaged header"),
        ("more", ((0, 8), (8, 16)), 20, "so some are of no tensor"),
    ):
        entries = {str(k): {"dtype": "F32", "shape": [2], "data_offsets": place} for k, place in enumerate(places)}
        text = json.dumps(entries).encode()
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(n_bytes))
        with pytest.raises(ValueError, match=message):
            look(path)


@pytest.mark.parametrize("form", WRITERS)
def test_values_of_every_form_are_those_that_were_written(form: str, tmp_path: Path) -> None:
    net = Net()
    WRITERS[form](net, tmp_path / "file")
    read = tensors.read(look(tmp_path / "file"))
    assert read.keys() == net.state_dict().keys()
    assert all(alike(read[name], value) for name, value in net.state_dict().items())


def test_views_of_one_storage_keep_their_place_and_order(tmp_path: Path) -> None:
    whole = torch.arange(24.0)
    views = {"tail": whole[6:], "turned": whole[:6].reshape(2, 3).T, "every": whole[::5], "again": whole[:1].expand(4)}
    for name, old in (("new.pt", True), ("old.pt", False)):
        torch.save(views, tmp_path / name, _use_new_zipfile_serialization=old)
        read = tensors.read(look(tmp_path / name))
        assert all(torch.equal(read[each], value) for each, value in views.items())


def test_one_changed_byte_of_a_zip_is_found(tmp_path: Path) -> None:
    torch.save({"x": torch.arange(999.0)}, tmp_path / "x.pt")
    content = bytearray((tmp_path / "x.pt").read_bytes())
    place = content.index(torch.arange(500.0, 510.0).numpy().tobytes())
    content[place] ^= 1
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.pt is damaged \(Bad CRC-32"):
        tensors.read(look(tmp_path / "x.pt"))


class OfTorch20:
    """How torch 2.0 pickled the state of a OneCycleLR: its annealing is a function."""

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, (torch.optim.lr_scheduler.OneCycleLR, "get_lr")


def lightning(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A checkpoint as that of EEGPT's authors, with all that keeps torch from reading it."""
    return {
        "epoch": 199,
        "global_step": 4000,
        "pytorch-lightning_version": "2.0.2",
        "state_dict": state,
        "callbacks": {
            "ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": pathlib.PurePosixPath("/a")}
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": np.float64(1e-4)}]}],
        "lr_schedulers": [{"total_steps": 4000, "anneal_func": OfTorch20(), "_schedule_phases": [{"end_step": 1.5}]}],
        "hyper_parameters": argparse.Namespace(lr=5e-4, variant="large"),
        "best": np.float64(0.25),
    }


def test_a_checkpoint_as_eegpts_authors_wrote_it_starts_a_training(launch: Launch, tmp_path: Path) -> None:
    """field.md: 'the released EEGPT checkpoint is probably refused', while inspect says that it would load."""
    spec = SignalSpec(("Fz", "Cz", "Pz"), 256.0, 2, n_times=1024, class_values=(0.0, 1.0), classes=("a", "b"))
    theirs, mine = (models.build(EEGPT(variant="tiny1"), spec) for _ in range(2))
    with torch.no_grad():
        for parameter in theirs.encoder.parameters():  # type: ignore[union-attr]
            parameter.normal_()
    state = {f"target_{name}": value for name, value in theirs.state_dict().items() if name.startswith("encoder.")}
    state |= {f"encoder.{name.removeprefix('target_encoder.')}": torch.zeros_like(v) for name, v in state.items()}
    torch.save(lightning(state), tmp_path / "eegpt.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "eegpt.ckpt", weights_only=True)

    start = Start(source=Input(str(tmp_path / "eegpt.ckpt")))
    loaded = transfer.load_pretrained(mine, start, tmp_path / "eegpt.ckpt")
    assert all(torch.equal(mine.state_dict()[name], theirs.state_dict()[name]) for name in loaded.loaded)
    words = ["model=eegpt", "model.variant=tiny1", "channels=[Fz,Cz,Pz]", "n_outputs=2", "--json"]
    (promised,) = json.loads(launch("inspect", "eegpt.ckpt", *words).stdout)["loads"]
    assert sorted(promised["loaded"]) == sorted(loaded.loaded) and len(loaded.loaded) > 20
    file = look(tmp_path / "eegpt.ckpt")
    assert file.metadata["best"] == 0.25 and "argparse.Namespace" in file.code

    words = ["prefix=target_encoder.", "input=eegpt", "-o", "eegpt.safetensors"]
    assert "with the input recipe" in launch("convert", "eegpt.ckpt", *words).stdout
    read = tensors.read(look(tmp_path / "eegpt.safetensors"))
    assert all(torch.equal(value, theirs.encoder.state_dict()[name]) for name, value in read.items())  # type: ignore[union-attr]


def test_a_converted_run_is_still_known_as_what_it_is(tmp_path: Path) -> None:
    from tests.eegdecode.test_weights import SPEC
    from tests.eegdecode.test_weights import ours as written

    written(tmp_path / "run" / "out", BiLSTM(hidden=4))
    cfg = convert.Convert(output=str(tmp_path / "run.safetensors"))
    assert "with the config and the spec of the signal" in convert.run(cfg, [tmp_path / "run"], False)
    file = look(tmp_path / "run.safetensors")
    assert file.spec is not None and file.spec["sfreq"] == SPEC.sfreq
    text = inspect.run(inspect.Inspect(), [tmp_path / "run.safetensors"], False)
    assert "bilstm would load 18 of its 18 tensors" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.pt"], "say which file to write, -o NAME.safetensors"),
        (["x.pt", "-o", "x.bin"], "say which file to write, -o NAME.safetensors, but got x.bin"),
        (["x.pt", "-o", "y.safetensors", "input=labran"], "there is no input recipe 'labran'. Did you mean 'labram'"),
        (["x.pt", "-o", "y.safetensors", "prefix=model."], "begins with 'model.': hpc inspect lists them"),
        (["x.pt", "x.pt", "-o", "y.safetensors"], "convert gets one file, but got 2"),
    ],
)
def test_what_cannot_be_converted_is_told(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": torch.zeros(1)}, "x.pt")
    with pytest.raises(ConfigError, match=re.escape(message)):
        verbs.run(options.read(["convert", *words]))
    assert not (tmp_path / "y.safetensors").exists()


@pytest.mark.parametrize("write", [lambda value: torch.save(value, "x.pt")])
def test_a_view_that_repeats_a_value_a_billion_times_fills_no_memory(
    write: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write({"x": torch.zeros(1).expand(1 << 36)})
    with pytest.raises(ValueError, match="would unpack 4 bytes of x"):
        tensors.read(look(tmp_path / "x.pt"))
    with pytest.raises(ValueError, match="convert|unpack"):
        convert.run(convert.Convert(output=str(tmp_path / "y.safetensors")), [tmp_path / "x.pt"], False)


def in_two_files(folder: Path, form: str = "safetensors") -> dict[str, torch.Tensor]:
    """A network as the hub has large ones: in two files, with an index."""
    state = models.build(BiLSTM(hidden=4), SignalSpec(("Fz", "Cz"), 64.0, 1)).state_dict()
    half, base = len(state) // 2, {"safetensors": "model", "bin": "pytorch_model"}[form]
    places = {}
    folder.mkdir()
    for number, names in enumerate((list(state)[:half], list(state)[half:]), 1):
        part = folder / f"{base}-{number:05d}-of-00002.{form}"
        own = {name: state[name] for name in names} | {"alone": torch.ones(number)}
        if form == "bin":
            torch.save(own, part)
        else:
            with open(part, "wb") as file:
                ours.write(file, own, {"format": "pt"})
        places |= dict.fromkeys(names, part.name)
    index = {"metadata": {"total_size": 4}, "weight_map": places}
    (folder / f"{base}.{form}.index.json").write_text(json.dumps(index))
    return state


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_in_several_files_are_one(form: str, tmp_path: Path) -> None:
    state = in_two_files(tmp_path / "net", form)
    file = look(tmp_path / "net")
    assert file.form.endswith("in 2 files") and list(file.shapes) == list(state)
    read = tensors.read(file)
    assert list(read) == list(state) and all(alike(read[name], value) for name, value in state.items())
    last = list(state)[-1:]
    assert list(tensors.read(file, last)) == last
    (index,) = (tmp_path / "net").glob("*.index.json")
    assert "in 2 files" in inspect.run(inspect.Inspect(), [index], as_json=False)
    network = models.build(BiLSTM(hidden=4), SignalSpec(("Fz", "Cz"), 64.0, 1))
    transfer.load_pretrained(network, Start(source=Input(str(tmp_path / "net")), need="all"), tmp_path / "net")
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": "../net.safetensors"}, "names ../net.safetensors, but weights are in files beside it"),
        ({"x": "model.safetensors.index.json"}, "names model.safetensors.index.json, but weights are in files beside"),
        ({"x": "model-3.safetensors"}, "names model-3.safetensors, which is not there: fetch it again"),
        ({"x": "model-00001-of-00002.safetensors"}, "says that x is in model-00001-of-00002.safetensors, which has no"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(change: dict[str, str], message: str, tmp_path: Path) -> None:
    in_two_files(tmp_path / "net")
    path = tmp_path / "net/model.safetensors.index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"weight_map": {**index["weight_map"], **change}}))
    with pytest.raises(ValueError, match=re.escape(message)):
        look(path)
    path.write_text(json.dumps({"weight_map": {"x": 3}}))
    with pytest.raises(ValueError, match="has no weight_map"):
        look(path)
