"""What fits is taken from another run or file, what does not is said, and nothing in a file is executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from eegdecode.training import Start, transfer
from hpc.context import Context, Input, World
from hpc.rundir import RunDir


def network(n_outputs: int = 2, n_in: int = 3) -> nn.Module:
    parts = nn.ModuleDict({"encoder": nn.Linear(n_in, 4), "readout": nn.Linear(4, n_outputs)})
    return parts


def written(path: Path, content: object) -> Start:
    torch.save(content, path)
    return Start(source=Input(str(path)))


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(World(), RunDir(tmp_path / "runs" / "run"))


@pytest.mark.parametrize("wrap", ["", "module.", "model.module.", "_orig_mod."])
@pytest.mark.parametrize("key", ["", "state_dict", "model_state_dict", "parameters"])
def test_an_encoder_is_taken_whole_and_the_head_drawn_anew(wrap: str, key: str, ctx: Context, tmp_path: Path) -> None:
    theirs, ours = network(n_outputs=5), network(n_outputs=2)
    content: object = {f"{wrap}{name}": value for name, value in theirs.state_dict().items()}
    start = written(tmp_path / "there.ckpt", {key: content, "epoch": 3} if key else content)
    found = transfer.begin(ours, start, ctx)
    assert found.loaded == ("encoder.weight", "encoder.bias") and found.missing == ()
    assert [text.split()[0] for text in found.unlike] == ["readout.weight", "readout.bias"]
    assert torch.equal(ours.get_parameter("encoder.weight"), theirs.get_parameter("encoder.weight"))
    assert "2 of 4 tensors found" in found.sentences()[0]
    assert "readout.weight (5, 4) there, (2, 4) here" in found.sentences()[1]


def test_a_prefix_chooses_one_of_several_networks(ctx: Context, tmp_path: Path) -> None:
    one, other, ours = network(), network(), network()
    content = {f"target_encoder.{name}": value for name, value in one.state_dict().items()}
    content |= {f"predictor.{name}": value for name, value in other.state_dict().items()}
    start = written(tmp_path / "there.pt", content)
    transfer.begin(ours, Start(source=start.source, prefix="target_encoder.", need="all"), ctx)
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in ours.state_dict().items())


def test_an_encoder_that_is_not_there_is_refused(ctx: Context, tmp_path: Path) -> None:
    start = written(tmp_path / "there.pt", network(n_in=7).state_dict())
    with pytest.raises(ValueError, match=r"has not what start.need=encoder asks for.*encoder.weight \(4, 7\) there"):
        transfer.begin(network(), start, ctx)
    with pytest.raises(ValueError, match="0 of 4 tensors found"):
        transfer.begin(network(), written(tmp_path / "other.pt", {"a": torch.zeros(1)}), ctx)
    with pytest.raises(ValueError, match="is not there: name a train run, or a file of parameters"):
        transfer.begin(network(), Start(source=Input(str(tmp_path / "none.pt"))), ctx)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch trapped",)


def test_nothing_of_a_file_is_executed(ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = written(tmp_path / "trap.pt", {"state_dict": Trap()})
    with pytest.raises(ValueError, match="cannot be read without running code from it"):
        transfer.begin(network(), start, ctx)
    (tmp_path / "trap.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="cannot be read without running code from it"):
        transfer.begin(network(), Start(source=Input(str(tmp_path / "trap.bin"))), ctx)
    assert not (tmp_path / "trapped").exists()
