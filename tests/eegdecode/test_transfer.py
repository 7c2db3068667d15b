"""Matching tensors are loaded from another run or file, others are reported, and nothing in a file is executed."""

import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from eegdecode.training import transfer
from eegdecode.training.config import Start
from hpc.rank.context import Input


def network(n_outputs: int = 2, n_in: int = 3) -> nn.Module:
    parts = nn.ModuleDict({"encoder": nn.Linear(n_in, 4), "readout": nn.Linear(4, n_outputs)})
    parts.heads = ("readout",)  # type: ignore[assignment]
    return parts


def written(path: Path, content: object) -> Start:
    torch.save(content, path)
    return Start(source=Input(str(path)))


def begin(ours: nn.Module, start: Start) -> transfer.Transfer:
    return transfer.load_pretrained(ours, start, Path(start.source))


@pytest.mark.parametrize("wrap", ["", "module.", "model.module.", "_orig_mod."])
@pytest.mark.parametrize("key", ["", "state_dict", "model_state_dict", "parameters"])
def test_an_encoder_is_taken_whole_and_the_head_drawn_anew(wrap: str, key: str, tmp_path: Path) -> None:
    theirs, ours = network(n_outputs=5), network(n_outputs=2)
    content: object = {f"{wrap}{name}": value for name, value in theirs.state_dict().items()}
    start = written(tmp_path / "there.ckpt", {key: content, "epoch": 3} if key else content)
    loaded = begin(ours, start)
    assert loaded.loaded == ("encoder.weight", "encoder.bias") and loaded.missing == ()
    assert [text.split()[0] for text in loaded.unlike] == ["readout.weight", "readout.bias"]
    assert torch.equal(ours.get_parameter("encoder.weight"), theirs.get_parameter("encoder.weight"))
    assert "2 of 4 tensors found" in loaded.sentences()[0]
    assert "readout.weight (5, 4) there, (2, 4) here" in loaded.sentences()[1]


def test_a_prefix_chooses_one_of_several_networks(tmp_path: Path) -> None:
    one, other, ours = network(), network(), network()
    content = {f"target_encoder.{name}": value for name, value in one.state_dict().items()}
    content |= {f"predictor.{name}": value for name, value in other.state_dict().items()}
    start = written(tmp_path / "there.pt", content)
    begin(ours, Start(source=start.source, prefix="target_encoder.", need="all"))
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in ours.state_dict().items())


def test_an_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    start = written(tmp_path / "there.pt", network(n_in=7).state_dict())
    with pytest.raises(
        ValueError, match=r"lacks tensors that start.need=encoder asks for.*encoder.weight \(4, 7\) there"
    ):
        begin(network(), start)
    with pytest.raises(ValueError, match="0 of 4 tensors found"):
        begin(network(), written(tmp_path / "other.pt", {"a": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"start.source: there is no file .*none.pt"):
        begin(network(), Start(source=Input(str(tmp_path / "none.pt"))))


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch trapped",)


def test_nothing_of_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors are read all the same."""
    monkeypatch.chdir(tmp_path)
    theirs, ours = network(), network()
    start = written(tmp_path / "trap.pt", {"state_dict": theirs.state_dict(), "more": Trap()})
    assert len(begin(ours, start).loaded) == 4
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())
    (tmp_path / "trap.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"trap.bin \(pickle\) holds no tensors"):
        begin(network(), Start(source=Input(str(tmp_path / "trap.bin"))))
    assert not (tmp_path / "trapped").exists()


def test_a_file_that_torch_wrote_before_1_6_is_read(tmp_path: Path) -> None:
    theirs = network()
    torch.save(theirs.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert len(begin(network(), Start(source=Input(str(tmp_path / "old.pth")))).loaded) == 4


def saved(content: object, **how: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


WRONG = {
    "a table": (b"a,b\n1,2\n", r"wrong.pt \(8 bytes\) is neither from torch.save nor safetensors"),
    "nothing": (b"", "wrong.pt is empty"),
    "cut off": (saved({"a": torch.zeros(9999)})[:20000], "wrong.pt begins like .* its end is missing: it is cut off"),
    "cut off, of old": (
        saved({"a": torch.zeros(9)}, _use_new_zipfile_serialization=False)[:-6],
        r"wrong.pt \(\d+ bytes\) is cut off or damaged",
    ),
    "one tensor": (saved(torch.zeros(2)), r"wrong.pt \(torch.save\) holds a tensor without a name"),
    "figures": (saved({"epoch": 3}), r"wrong.pt \(torch.save\) holds no tensors"),
}


@pytest.mark.parametrize("which", WRONG)
def test_a_wrong_file_is_told_in_a_sentence_of_ours(which: str, tmp_path: Path) -> None:
    """And not in torch's words, which advise to execute the code in the file."""
    content, message = WRONG[which]
    (tmp_path / "wrong.pt").write_bytes(content)
    with pytest.raises(ValueError, match=f"^start.source: .*{message}") as error:
        begin(network(), Start(source=Input(str(tmp_path / "wrong.pt"))))
    assert "weights_only" not in str(error.value)


def test_a_folder_without_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder without a model.pt or a complete checkpoint: give a file in it"):
        begin(network(), Start(source=Input(str(tmp_path))))
