"""A study that lies on the device gives the same batches as the ring, bit for bit, in training and in validation."""

import contextlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import spy
from bench.streams import Streams
from eegdecode import stages
from eegdecode.data.config import (
    BucketedWindows,
    EpochWindows,
    GridWindows,
    RandomWindows,
    Split,
    StratifiedWindows,
    Windows,
)
from eegdecode.data.loading import resident
from eegdecode.data.loading.loader import Loader
from eegdecode.data.loading.partners import Partners
from eegdecode.data.loading.resident import Resident, ResidentLoader
from eegdecode.data.loading.share import PLANNED
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.tcn import TCN
from eegdecode.objectives.classification import Classification
from eegdecode.objectives.regression import Regression
from eegdecode.signals import Recording, Signal, Trial
from eegdecode.training import model_file
from eegdecode.training.augmentations.cutmix import CutMix
from eegdecode.training.augmentations.mixup import Mixup
from eegdecode.training.augmentations.recombine import Recombine
from eegdecode.training.config import Compute, Optim, Train
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir, read_lines
from tests.eegdecode.test_windows import draw
from tests.imitated import device, late

__all__ = ["device", "late"]
CPU = torch.device("cpu")
TRIALS = tuple(Trial(1.0 + 21 * number, 19.0 + number, f"{number}.wav") for number in range(3))


def made(folder: Path, int16: tuple[bool, ...]) -> Store:
    """Four recordings of three channels with a time course at another rate, and a label for each trial."""
    names = [f"sub-{number:02d}" for number in range(len(int16))]
    store.write_manifest(folder, names)
    for number, (name, small) in enumerate(zip(names, int16, strict=True)):
        rng = np.random.default_rng(number)
        streams = {"course": Signal(rng.normal(size=(70 * 160, 2)).astype(np.float32), 160.0, ("a", "b")).stream()}
        values = {"label": np.array([[number % 2], [1.0], [0.0]], np.float32)}
        signal = Signal(rng.normal(2, size=(7000, 3)).astype(np.float32), 100.0, ("Cz", "Pz", "Oz")).stream()
        recording = Recording(name, name[:5] + "3"[: number % 2], signal, TRIALS, targets=streams, values=values)
        store.write(folder, recording, int16=small)
    return store.open_store(folder)


STORES = {"float32": (False,) * 4, "int16": (True,) * 4, "both types": (True, False, True, False)}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    return {name: made(tmp_path_factory.mktemp("store"), int16) for name, int16 in STORES.items()}


WINDOWS: dict[str, Windows] = {
    "random": RandomWindows(length_s=4, batch=8),
    "random, wrapped": RandomWindows(length_s=4.1, batch=4, patch=16, wrap=True),
    "random, a baseline": RandomWindows(length_s=4, batch=8, baseline_s=0.5),
    "stratified": StratifiedWindows(length_s=4, batch=8),
    "grid": GridWindows(length_s=3, batch=4),
    "epochs": EpochWindows(tmin_s=-0.5, tmax_s=2.5, baseline_s=0.5, batch=4),
    "buckets": BucketedWindows(batch=4, patch=16),
}
AROUND = range(PLANNED - 2, PLANNED + 3)
"""Steps before and after others are planned."""


def taken(loader: Loader | ResidentLoader, steps: range = AROUND) -> list[list[torch.Tensor]]:
    with contextlib.closing(loader):
        return [[column.cpu().clone() for column in batch] for batch in loader.at(steps.start, steps.stop)]


def assert_same(some: list[list[torch.Tensor]], others: list[list[torch.Tensor]]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine.dtype == theirs.dtype and torch.equal(mine, theirs)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("which", WINDOWS)
@pytest.mark.parametrize("target", ["course", "label", ""])
def test_its_batches_are_those_of_the_ring(stores: dict[str, Store], which: str, kind: str, target: str) -> None:
    opened, drawn = stores[kind], draw(WINDOWS[which], stores[kind])
    lying = Resident(opened, target, range(4), CPU)
    assert (lying.scale is None) == (kind != "int16")
    for rank, size in ((0, 1), (1, 2)):
        ring = taken(Loader(opened, drawn, target, rank=rank, size=size))
        assert len({str(batch[0]) for batch in ring}) >= len(AROUND) - 2  # there are three batches of epochs
        assert_same(taken(ResidentLoader(lying, drawn, rank=rank, size=size)), ring)


def test_partners_and_channels_first_too(stores: dict[str, Store]) -> None:
    opened, drawn = stores["int16"], draw(WINDOWS["random"], stores["int16"])
    partners = Partners(drawn, (False, True), "label", opened.recordings)
    lying = Resident(opened, "label", range(4), CPU)
    assert_same(
        taken(ResidentLoader(lying, partners, rank=1, size=2)), taken(Loader(opened, partners, "label", rank=1, size=2))
    )
    first = taken(ResidentLoader(lying, drawn, channels_first=True))
    assert_same(first, taken(Loader(opened, drawn, "label", channels_first=True)))
    assert first[0][0].shape == (8, 3, 400) and first[0][0].is_contiguous()


def test_only_the_recordings_that_are_used_are_read(stores: dict[str, Store]) -> None:
    opened, drawn = stores["float32"], draw(WINDOWS["random"], stores["float32"])
    lying = Resident(opened, "course", [0, 2], CPU)
    assert lying.signal.shape == (14000, 3) and resident.n_bytes(opened, "course", [0, 2]) == 4 * (
        lying.signal.numel() + 2 * 2 * 70 * 160
    )
    places = drawn.at([0])
    here = places.take(np.isin(places.recording, [0, 2]))
    signal, *_ = lying.windows(lying.plan(here), 400)
    for row, (recording, start) in enumerate(zip(here.recording, here.start, strict=True)):
        np.testing.assert_array_equal(signal[row], opened.recordings[recording].signal[start : start + 400])
    with pytest.raises(ValueError, match="a window is of a recording that does not lie on the device"):
        lying.plan(places)


@pytest.mark.parametrize("kind", STORES)
def test_bytes_are_known_before_they_are_read(stores: dict[str, Store], kind: str) -> None:
    lying = Resident(stores[kind], "course", range(4), CPU)
    assert lying.target is not None
    held = lying.signal.nbytes + lying.target.nbytes
    assert resident.n_bytes(stores[kind], "course", range(4)) == held


def test_auto_takes_the_gpu_if_there_is_room(
    stores: dict[str, Store], monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    opened = stores["int16"]
    size = resident.n_bytes(opened, "", range(4))

    def chosen(wanted: Any, free: float, where: torch.device = device) -> bool:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), int(free)))
        return resident.resident(wanted, opened, "", range(4), where) is not None

    assert chosen("auto", size / 0.29) and not chosen("auto", size / 0.31)
    assert chosen(True, size / 0.9) and not chosen(False, 1e12)
    assert chosen(True, 0, CPU) and not chosen("auto", 1e12, CPU)
    with pytest.raises(ValueError, match=r"data_on_device=true, but the data take 0.00 GB, and of the GPU's memory"):
        chosen(True, size - 1)


LOADERS = ["ring", "ring, processes", "resident"]


def on_gpu(how: str, opened: Store, cfg: Windows, device: torch.device) -> Loader | ResidentLoader:
    if how == "resident":
        return ResidentLoader(Resident(opened, "course", range(4), device), draw(cfg, opened))
    processes = {"processes": 1} if "processes" in how else {}
    return Loader(opened, draw(cfg, opened), "course", device=device, **processes)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["float32", "int16"])
@pytest.mark.parametrize("how", LOADERS)
@pytest.mark.parametrize("which", ["random, a baseline", "buckets"])
def test_a_gpu_gets_the_batches_of_the_cpu_and_waits_for_none(
    stores: dict[str, Store], which: str, how: str, kind: str, late: tuple[torch.device, Streams]
) -> None:
    device, streams = late
    cfg, opened = WINDOWS[which], stores[kind]
    steps = range(0, 9)
    wanted = taken(Loader(opened, draw(cfg, opened), "course"), steps)
    with contextlib.closing(on_gpu(how, opened, cfg, device)) as loader:
        for counted in (False, True):
            batches = loader.at(steps.start, steps.stop)
            for number in steps:
                with spy.counting() as counts:
                    batch = next(batches)
                    batch.signal.square().sum()  # as a network reads it
                if counted:
                    assert counts.silent, counts.where
                assert all(column.is_cuda for column in batch)
                assert_same([[column.cpu() for column in batch]], wanted[number : number + 1])
            assert next(batches, None) is None
    assert streams.unordered == []


def test_a_copy_overlaps_with_the_batch_before(stores: dict[str, Store], late: tuple[torch.device, Streams]) -> None:
    device, _ = late
    opened = stores["float32"]
    with contextlib.closing(Loader(opened, draw(WINDOWS["random"], opened), device=device)) as loader:
        batches = loader.at(0)
        addresses = [next(batches).signal.on_host.data_ptr() for _ in range(4)]  # type: ignore[attr-defined]
    assert all(one != next_one for one, next_one in pairwise(addresses)) and len(set(addresses)) == 2


def test_it_begins_anew_while_copies_are_under_way(
    stores: dict[str, Store], late: tuple[torch.device, Streams]
) -> None:
    device, streams = late
    opened = stores["float32"]
    wanted = taken(Loader(opened, draw(WINDOWS["random"], opened)), range(0, 3))
    with contextlib.closing(Loader(opened, draw(WINDOWS["random"], opened), device=device)) as loader:
        next(loader.at(100))
        batches = loader.at(0, 3)
        again = [[column.cpu() for column in batch] for batch in batches]
    assert_same(again, wanted)
    assert streams.unordered == []


SPLIT = Split(by="run", shared=("stimulus", "subject"))
OPTIM = Optim(steps=7, warmup_steps=1, validate_every=3, checkpoint_every=2)
LABELS: dict[str, Any] = {"target": "label", "model": EEGNet(dropout=0.0), "objective": Classification()}
COURSE: dict[str, Any] = {"target": "course", "model": TCN(width=4, blocks=2, dropout=0.0)}
TRAININGS: dict[str, dict[str, Any]] = {
    "time courses": {**COURSE, "windows": RandomWindows(length_s=1, batch=4)},
    "a standardised target": {
        **COURSE,
        "windows": StratifiedWindows(length_s=1, batch=4),
        "objective": Regression(loss="mse", standardize=True),
    },
    "mixed classes": {
        **LABELS,
        "windows": RandomWindows(length_s=1, batch=4),
        "augment": (Recombine(), Mixup(), CutMix()),
    },
    "epochs": {**LABELS, "windows": EpochWindows(tmin_s=-0.5, tmax_s=2.5, baseline_s=0.5, batch=4)},
    "buckets": {**COURSE, "windows": BucketedWindows(batch=2, patch=16, padding=0.5)},
}


def trained(opened: Store, which: str, folder: Path, **compute: Any) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Train on three of the recordings; return the lines of metrics.jsonl but for the times, and the parameters."""
    data = (Input(str(opened.recordings[0].path.parent)),)
    cfg = Train(data=data, optim=OPTIM, compute=Compute(**compute), split=SPLIT, **TRAININGS[which])
    stages.train(cfg, Context(World(), RunDir(folder)))
    times = ("seconds", "data_wait_s", "validation_s")
    lines = read_lines(RunDir(folder).metrics)
    figures = [{name: value for name, value in line.items() if name not in times} for line in lines]
    return figures, model_file.load(RunDir(folder).out).parameters


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("which", TRAININGS)
def test_training_and_validation_are_the_same_bit_for_bit(
    stores: dict[str, Store], which: str, kind: str, tmp_path: Path
) -> None:
    figures, parameters = trained(stores[kind], which, tmp_path / "ring", data_on_device=False)
    figures_there, parameters_there = trained(stores[kind], which, tmp_path / "there", data_on_device=True)
    assert figures_there == figures and any("val_loss" in line for line in figures)
    assert parameters_there.keys() == parameters.keys()
    assert all(torch.equal(parameters_there[name], parameters[name]) for name in parameters)


DATA = ("loading/", "training/batches.py", "training/augment.py", "augmentations/", "objectives/", "checkpoint/")
"""Where nothing may wait for the data once they are there: validation reads its sums, and the loop its figures."""


@pytest.mark.skipif(torch.cuda.is_available(), reason="for an imitated GPU")
@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("which", TRAININGS)
def test_a_gpu_learns_the_same_and_its_data_never_hold_it_up(
    stores: dict[str, Store], which: str, on_device: bool, tmp_path: Path
) -> None:
    here, _ = trained(stores["int16"], which, tmp_path / "cpu")
    streams = Streams()
    try:
        with spy.imitated_cuda(streams), spy.counting() as counts:
            there, _ = trained(stores["int16"], which, tmp_path / "gpu", data_on_device=on_device)
    except spy.NoCompiler as error:
        pytest.skip(str(error))
    assert counts.n_ops and any("training/" in where for where in counts.where)  # it was computed there
    for mine, theirs in zip(here, there, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-4)
    assert streams.unordered == []
    reads = [where for where in counts.where if where.startswith("host_reads") and any(part in where for part in DATA)]
    assert reads == []
