"""What a file of a checkpoint holds comes back bit for bit, and a byte that changed is seen."""

import errno
import fcntl
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpc.checkpoint import format
from hpc.checkpoint.format import HostBuffer
from hpc.runs.rundir import Damaged


def through_a_file(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    staging = HostBuffer()
    staging.take(state, is_first=True)
    written = staging.write(folder / "state.bin")
    return format.join([format.read(folder / "state.bin", written["bytes"], written["sha256"])])


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "plain": {"none": None, "yes": True, "lr": 1e-3, "name": "é", "pair": (1, [2, 3]), 7: b"raw"},
        "types": [torch.randn(3).to(kind) for kind in (torch.float64, torch.bfloat16, torch.int8, torch.bool)],
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(5),
        "transposed": torch.randn(3, 1000, 200).transpose(0, 2),
    }
    found = through_a_file(state, tmp_path)
    assert found.keys() == state.keys()
    assert found["plain"] == state["plain"]
    for name in ("types", "empty", "scalar", "transposed", "model"):
        torch.testing.assert_close(found[name], dict(state)[name], rtol=0, atol=0)
    optimizer.load_state_dict(found["optimizer"])
    again = optimizer.state_dict()
    assert again["param_groups"] == state["optimizer"]["param_groups"]
    torch.testing.assert_close(again["state"], state["optimizer"]["state"], rtol=0, atol=0)


def test_the_memory_is_kept_and_holds_a_larger_state_too(tmp_path: Path) -> None:
    staging = HostBuffer()
    for number, size in enumerate((10, 100_000, 1000)):
        tensor = torch.randn(size)
        staging.take({"tensor": tensor}, is_first=True)
        written = staging.write(tmp_path / f"{number}")
        found = format.join([format.read(tmp_path / f"{number}", written["bytes"], written["sha256"])])
        assert torch.equal(found["tensor"], tensor)


class Disk:
    """A file whose driver refuses to write past the cache from this memory, as some do from memory pinned for a GPU."""

    def __init__(self, path: Path, refusal: int) -> None:
        self.file, self.refusal = open(path, "wb", buffering=0), refusal  # noqa: SIM115  closed with the test

    def fileno(self) -> int:
        return self.file.fileno()

    def write(self, view: memoryview) -> int:
        if fcntl.fcntl(self.file, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(self.refusal, os.strerror(self.refusal))
        return self.file.write(view)


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EFAULT, errno.EIO])
def test_memory_that_the_disk_may_not_read_is_written_through_the_cache(tmp_path: Path, refusal: int) -> None:
    with open(tmp_path / "probe", "wb") as probe:
        if not format._past_the_cache(probe, True):
            pytest.skip("this file system keeps files in memory: it has no O_DIRECT")
    disk = Disk(tmp_path / "state.bin", refusal)
    if refusal == errno.EIO:  # a broken disk is no matter of memory
        with pytest.raises(OSError, match="Input/output error"):
            format._write_through(disk, memoryview(b"x" * 1000))  # type: ignore[arg-type]
        return
    format._write_through(disk, memoryview(b"x" * 1000))  # type: ignore[arg-type]
    assert (tmp_path / "state.bin").read_bytes() == b"x" * 1000


@pytest.mark.parametrize("value", [np.float64(0.5), Path("x"), {1, 2}, {np.int64(3): 1}])
def test_what_could_not_be_read_back_is_refused_when_saved(value: object) -> None:
    with pytest.raises(TypeError, match=r"state\['best'\].* is a .*: a checkpoint holds tensors, numbers"):
        HostBuffer().take({"best": value}, is_first=True)


@pytest.mark.parametrize("at", ["magic", "outline", "first byte", "last part"])
def test_a_changed_byte_is_seen(tmp_path: Path, at: str) -> None:
    staging = HostBuffer()
    staging.take({"tensor": torch.ones(9_000_000)}, is_first=True)  # three parts
    written = staging.write(tmp_path / "state.bin")
    content = bytearray((tmp_path / "state.bin").read_bytes())
    begin = len(content) - staging.n_bytes
    content[{"magic": 0, "outline": 100, "first byte": begin, "last part": begin + 35_999_999}[at]] ^= 1
    (tmp_path / "state.bin").write_bytes(content)
    with pytest.raises(Damaged, match=r"state.bin (has checksum|does not begin)"):
        format.read(tmp_path / "state.bin", written["bytes"], written["sha256"])


def test_a_file_from_a_stranger_runs_no_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return print, ("boom",)

    text = io.BytesIO()
    torch.save({"tree": Bomb(), "pieces": {}}, text)
    content = (format.MAGIC + text.tell().to_bytes(8, "little") + text.getvalue()).ljust(format.PAGE, b"\0")
    (tmp_path / "state.bin").write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        format.read(tmp_path / "state.bin", len(content), format._checksum(content, []))
