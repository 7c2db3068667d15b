"""What the spy counts, on imitated CUDA tensors or on those of a GPU, and how true the imitation is."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import spy
from tests.imitated import device

__all__ = ["device"]

READS: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x.sum()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "numpy": lambda x: x.cpu().numpy(),
    "if": lambda x: bool(x[0] > 0),
    "nonzero": lambda x: (x > 0).nonzero(),
    "a mask": lambda x: x[x > 0],
    "put by a mask": lambda x: x.masked_fill(x > 0, 1.0).index_put_((x > 0,), torch.zeros((), device=x.device)),
    "equal": lambda x: torch.equal(x, x + 1),
    "unique": lambda x: x.unique(),
    "into pageable memory": lambda x: torch.empty(4).copy_(x),
}
COPIES: dict[str, Callable[[torch.Tensor], object]] = {
    "to": lambda x: torch.ones(4).to(x.device),
    "to, without waiting, from pageable memory": lambda x: torch.ones(4).to(x.device, non_blocking=True),
    "from pinned memory, waiting": lambda x: torch.ones(4).pin_memory().to(x.device),
    "copy_": lambda x: x.copy_(torch.ones(4)),
    "tensor": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "new_tensor": lambda x: x.new_tensor((1.0, 2.0)),
    "indices of the host": lambda x: x[torch.tensor([0, 2])],
}
SILENT: dict[str, Callable[[torch.Tensor], object]] = {
    "numbers of Python": lambda x: 2 * x + 1,
    "a number of the host": lambda x: x * torch.tensor(2.0),
    "made there": lambda x: torch.arange(4, device=x.device) + torch.full((4,), 2.0, device=x.device),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "indices of the device": lambda x: x[torch.arange(2, device=x.device)],
    "pinned memory, without waiting": lambda x: torch.ones(4).pin_memory().to(x.device, non_blocking=True),
    "into pinned memory, without waiting": lambda x: torch.empty(4, pin_memory=True).copy_(x, non_blocking=True),
}


@pytest.mark.parametrize("what", READS)
def test_a_value_that_the_host_needs_is_one_read(what: str, device: torch.device) -> None:
    x = torch.arange(4.0, device=device)
    with spy.counting() as counts:
        READS[what](x)
    assert (counts.host_reads, counts.blocking_copies, counts.silent) == (1, 0, False), counts.where
    assert f"{__name__.rpartition('.')[2]}.py:" in counts.where[0]


@pytest.mark.parametrize("what", COPIES)
def test_a_copy_from_pageable_memory_or_waited_for_blocks(what: str, device: torch.device) -> None:
    x = torch.arange(4.0, device=device)
    with spy.counting() as counts:
        COPIES[what](x)
    assert (counts.host_reads, counts.blocking_copies, counts.silent) == (0, 1, False), counts.where


@pytest.mark.parametrize("what", SILENT)
def test_what_needs_no_value_is_silent(what: str, device: torch.device) -> None:
    x = torch.arange(4.0, device=device)
    with spy.counting() as counts:
        SILENT[what](x)
    assert counts.silent and counts.n_ops, counts.where


def test_nothing_waits_on_the_cpu() -> None:
    x = torch.arange(4.0)
    with spy.counting() as counts:
        for act in (*READS.values(), COPIES["new_tensor"], SILENT["where"]):
            act(x)
    assert counts.silent and counts.n_ops


def test_a_tensor_of_the_host_may_not_meet_one_of_the_device(device: torch.device) -> None:
    with pytest.raises(RuntimeError, match=r"found at least two.*cpu"):
        torch.ones(4, device=device) + torch.ones(4)


def learned(device: torch.device) -> list[float]:
    torch.manual_seed(0)
    x = torch.randn(6, 20, 3)
    network = nn.Sequential(nn.Conv1d(20, 8, 2), nn.BatchNorm1d(8), nn.ELU(), nn.LSTM(2, 4, batch_first=True))
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        out, _ = network(x.to(device))
        loss = out.square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_network_learns_there_as_on_the_cpu(device: torch.device) -> None:
    assert learned(device) == pytest.approx(learned(torch.device("cpu")), abs=1e-5)


def test_torch_is_as_before_once_the_imitation_ends() -> None:
    before = torch.cuda.is_available(), torch.accelerator.current_accelerator()
    try:
        with spy.imitated_cuda():
            assert torch.cuda.is_available() and str(torch.accelerator.current_accelerator()) == "cuda"
    except spy.NoCompiler as error:
        pytest.skip(str(error))
    assert (torch.cuda.is_available(), torch.accelerator.current_accelerator()) == before
    assert learned(torch.device("cpu"))


def test_a_compiler_that_cannot_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pytest, which has replaced the streams of this process: its words come in the exception."""
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'no such standard: c++20' >&2\nexit 4\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spy, "_loaded", [])
    sentence = r"cannot compile imitated CUDA \(4\): no such standard: c\+\+20"
    with pytest.raises(spy.NoCompiler, match=sentence), spy.imitated_cuda():
        pass
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["g++"], "nothing half made is left"
