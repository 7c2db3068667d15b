"""What is done to windows does what it says, is a function of the window's key, and the same on any number of ranks."""

from typing import Any

import numpy as np
import pytest
import torch

from eegdecode import noise
from eegdecode.data.config import EpochWindows, RandomWindows
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.partners import Partners
from eegdecode.data.split.splits import Segment
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.models.shallow import Shallow
from eegdecode.objectives import Batch
from eegdecode.objectives.classification import Classification
from eegdecode.signals import Recording, Signal, SignalSpec, Trial
from eegdecode.training import augment
from eegdecode.training.config import (
    Augment,
    ChannelDropout,
    CutMix,
    FrequencyShift,
    Mixup,
    Noise,
    Recombine,
    SpecAugment,
    TimeShift,
    Train,
)
from hpc.rank.context import Input

SPEC = SignalSpec(("A", "B", "C"), 64.0, 1, target_sfreq=64.0, n_times=128)
CLASSES = SignalSpec(("A", "B", "C"), 64.0, 1, n_times=128, class_values=(3.0, 7.0), classes=("left", "right"))


def batch(n: int = 6, spec: SignalSpec = SPEC, first: int = 0) -> Batch:
    keys = torch.arange(first, first + n)
    x = noise.normal(keys, 90, 128, 3)
    y = noise.normal(keys, 91, 128, 1) if spec.is_sequence else torch.tensor([[3.0], [7.0]]).repeat(n // 2, 1)
    return Batch(x, y, torch.zeros(n, dtype=torch.int64), keys)


ALONE: list[Augment] = [
    TimeShift(most_s=0.2), ChannelDropout(p=0.5), Noise(std=0.3), FrequencyShift(most_hz=2.0), SpecAugment(),
]  # fmt: skip


@pytest.mark.parametrize("step", ALONE, ids=lambda step: step.name)
def test_it_changes_a_window_by_its_key_alone_and_leaves_the_target(step: Augment) -> None:
    done = augment.Augmentation([step], SPEC, soft=False)
    whole = done(batch())
    assert not torch.equal(whole.signal, batch().signal) and torch.equal(whole.target, batch().target)
    halves = [done(batch(3)), done(batch(3, first=3))]
    torch.testing.assert_close(torch.cat([half.signal for half in halves]), whole.signal, rtol=0, atol=1e-6)


def test_mixup_of_share_1_changes_nothing_and_of_others_mixes() -> None:
    one, other = batch(), batch(first=100)
    same = augment.mixup(one, other, torch.ones(6))
    assert torch.equal(same.signal, one.signal) and torch.equal(same.target, one.target)
    share = torch.linspace(0, 1, 6)
    mixed = augment.mixup(one, other, share)
    torch.testing.assert_close(mixed.signal[2], 0.4 * one.signal[2] + 0.6 * other.signal[2])
    torch.testing.assert_close(mixed.target[2], 0.4 * one.target[2] + 0.6 * other.target[2])


def test_cutmix_mixes_classes_by_what_was_kept() -> None:
    one, other = batch(spec=CLASSES), batch(spec=CLASSES, first=100)
    mixed = augment.cutmix(one, other, torch.full((6,), 0.75), torch.rand(6))
    theirs = (mixed.signal == other.signal).all(dim=2)
    assert (theirs.sum(dim=1) == 32).all() and torch.equal(mixed.signal[~theirs], one.signal[~theirs])
    assert (theirs.int().diff(dim=1).abs().sum(dim=1) <= 2).all(), "one stretch"
    torch.testing.assert_close(mixed.target, 0.75 * one.target + 0.25 * other.target)


def test_cutmix_cuts_a_target_that_follows_in_time() -> None:
    one, other = batch(), batch(first=100)
    mixed = augment.cutmix(one, other, torch.full((6,), 0.5), torch.rand(6))
    theirs = (mixed.signal == other.signal).all(dim=2)
    assert torch.equal(mixed.target[theirs], other.target[theirs])
    assert torch.equal(mixed.target[~theirs], one.target[~theirs])


def test_shares_are_drawn_from_beta() -> None:
    drawn = augment.beta(torch.arange(4000), 5, 0.4).numpy()
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    assert drawn.var() == pytest.approx(0.25 / (2 * 0.4 + 1), rel=0.05)


def test_recombined_windows_are_segments_in_their_places() -> None:
    one, others = batch(), [batch(first=100 * k) for k in range(1, 5)]
    mixed = augment.recombine(one, others, torch.tensor([True] * 3 + [False] * 3))
    assert torch.equal(mixed.signal[3:], one.signal[3:])
    for k, other in enumerate(others):
        assert torch.equal(mixed.signal[:3, 32 * k : 32 * k + 32], other.signal[:3, 32 * k : 32 * k + 32])


def test_classes_become_shares_of_classes() -> None:
    done = augment.Augmentation([Mixup(alpha=1.0)], CLASSES, soft=True)
    mixed = done(batch(spec=CLASSES), [batch(spec=CLASSES, first=1)])
    assert mixed.target.shape == (6, 2)
    torch.testing.assert_close(mixed.target.sum(dim=1), torch.ones(6))


def test_a_frequency_shift_moves_a_line() -> None:
    seconds = torch.arange(512) / 64
    x = torch.sin(2 * torch.pi * 10 * seconds)[None, :, None]
    moved = augment.frequency_shifted(x, torch.tensor([3.0]), 64.0)
    power = torch.fft.rfft(moved[0, :, 0]).abs()
    assert torch.fft.rfftfreq(512, 1 / 64)[power.argmax()] == pytest.approx(13.0, abs=0.13)


def test_a_shift_is_round_the_end() -> None:
    x = torch.arange(5.0)[None, :, None]
    assert augment.shifted(x, torch.tensor([2]))[0, :, 0].tolist() == [3, 4, 0, 1, 2]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="make soft labels, which only objective=classification"):
        augment.Augmentation([Mixup()], CLASSES, soft=False)
    with pytest.raises(ValueError, match="recombine puts windows of one class together, but the target follows"):
        augment.Augmentation([Recombine()], SPEC, soft=False)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """40 trials of 1 s, of 3 classes; each sample says its trial's number."""
    trials = tuple(Trial(float(k), 1.0, f"s{k}") for k in range(40))
    data = np.repeat(np.arange(40, dtype=np.float32), 64)[:, None]
    labels = (np.arange(40) % 3).astype(np.float32)[:, None]
    folder = tmp_path_factory.mktemp("labelled")
    recording = Recording("sub-01", "sub-01", Signal(data, 64.0, ("A",)).stream(), trials, values={"side": labels})
    store.write_manifest(folder, ["sub-01"])
    store.write(folder, recording)
    return store.open_store(folder)


def rows(partners: Partners, step: int) -> np.ndarray:
    return partners.at([step]).trial.reshape(len(partners.same), -1)


WRONG: list[list[Augment]] = [[Mixup(), Recombine()], [Noise(), CutMix(), Noise(), Recombine()]]


@pytest.mark.parametrize("steps", WRONG, ids=["mixup", "cutmix"])
def test_windows_are_not_put_together_under_a_target_that_is_mixed(steps: list[Augment]) -> None:
    usual: dict[str, Any] = {"data": (Input("preprocess"),), "objective": Classification(), "model": Shallow()}
    Train(augment=(Noise(), Recombine(), Mixup(), CutMix()), **usual)
    with pytest.raises(ValueError, match="list recombine before mixup and cutmix: after .*, got augment .*recombine"):
        Train(augment=tuple(steps), **usual)


def test_partners_are_the_same_in_any_order_and_of_the_same_step(labelled: Store) -> None:
    segments = [Segment(0, trial) for trial in labelled.recordings[0].trials]
    draw = Draw(RandomWindows(length_s=0.5, batch=10), segments, labelled.recordings, 0)
    partners = Partners(draw, [False, True], "side", labelled.recordings)
    for step in range(6):
        own = draw.at([step]).trial
        anyone, mates = rows(partners, step)
        assert sorted(anyone) == sorted(own), "each is partner to one"
        assert (mates % 3 == own % 3).all() and set(mates) <= set(own)
    several = partners.at([0, 1, 2, 3, 4, 5]).trial.reshape(6, 2, -1)
    assert all((several[step] == rows(partners, step)).all() for step in range(6))


def test_classes_are_asked_for_where_there_are_none(labelled: Store) -> None:
    segments = [Segment(0, trial) for trial in labelled.recordings[0].trials]
    draw = Draw(EpochWindows(batch=4), segments, labelled.recordings, 0)
    with pytest.raises(ValueError, match="but envelope has no classes: leave recombine out"):
        Partners(draw, [True], "envelope", labelled.recordings)


def test_each_partner_goes_to_who_asked_for_it() -> None:
    done = augment.Augmentation([Recombine(segments=3), Mixup(), CutMix()], CLASSES, soft=True)
    assert done.partners == (True, True, True, False, False)
