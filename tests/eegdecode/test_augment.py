"""Augmentations do what they claim, are functions of the window's key, and the same on any number of ranks."""

from dataclasses import dataclass, replace
from typing import Any, Literal

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
from eegdecode.training.augment import Augmentation, DrawNumber
from eegdecode.training.augmentations.config import AUGMENTATIONS, Augment, mixes_targets, partners_of
from eegdecode.training.augmentations.cutmix import CutMix, cutmix
from eegdecode.training.augmentations.frequency_shift import frequency_shifted
from eegdecode.training.augmentations.mixup import Mixup, beta, mixup
from eegdecode.training.augmentations.noise import Noise
from eegdecode.training.augmentations.recombine import Recombine, recombine
from eegdecode.training.augmentations.time_shift import shifted
from eegdecode.training.config import Train
from hpc.rank.context import Input

SPEC = SignalSpec(("A", "B", "C"), 64.0, 1, target_sfreq=64.0, n_times=128)
CLASSES = SignalSpec(("A", "B", "C"), 64.0, 1, n_times=128, class_values=(3.0, 7.0), classes=("left", "right"))


def batch(n: int = 6, spec: SignalSpec = SPEC, first: int = 0) -> Batch:
    keys = torch.arange(first, first + n)
    x = noise.normal(keys, 90, 128, 3)
    y = noise.normal(keys, 91, 128, 1) if spec.is_sequence else torch.tensor([[3.0], [7.0]])[keys % 2]
    return Batch(x, y, torch.zeros(n, dtype=torch.int64), keys)


def partner_batches(step: Augment, n: int, spec: SignalSpec, first: int = 0) -> list[Batch]:
    """Return windows of other keys, of the other class if the class does not matter."""
    wanted = enumerate(partners_of(step), 1)
    return [batch(n, spec, 1000 * number + first + (partner == "any")) for number, partner in wanted]


EVERY = [
    pytest.param(step, spec, id=f"{step.name} of {'a course in time' if spec.is_sequence else 'classes'}")
    for step in [kind() for kind in AUGMENTATIONS.values()]
    for spec in (SPEC, CLASSES)
    if not (spec.is_sequence and "same class" in partners_of(step))
]


@pytest.mark.parametrize(("step", "spec"), EVERY)
def test_it_changes_windows_by_their_keys_and_partners_alone(step: Augment, spec: SignalSpec) -> None:
    done = Augmentation([step], spec, soft=bool(spec.class_values))
    before = batch(spec=spec)
    whole = done(before, partner_batches(step, 6, spec))
    assert whole.signal.shape == before.signal.shape and not torch.equal(whole.signal, before.signal)
    assert torch.equal(whole.rng_key, before.rng_key) and torch.equal(whole.subject, before.subject)
    halves = [done(batch(3, spec, first), partner_batches(step, 3, spec, first)) for first in (0, 3)]
    for column in ("signal", "target"):
        together = torch.cat([getattr(half, column) for half in halves])
        torch.testing.assert_close(together, getattr(whole, column), rtol=0, atol=1e-6)
    if mixes_targets(step) and spec.class_values:
        assert whole.target.shape == (6, 2) and (whole.target.amax(dim=1) < 1).any()
    else:
        assert mixes_targets(step) != torch.equal(whole.target, before.target)


def test_mixup_of_share_1_changes_nothing_and_of_others_mixes() -> None:
    one, other = batch(), batch(first=100)
    same = mixup(one, other, torch.ones(6))
    assert torch.equal(same.signal, one.signal) and torch.equal(same.target, one.target)
    share = torch.linspace(0, 1, 6)
    mixed = mixup(one, other, share)
    torch.testing.assert_close(mixed.signal[2], 0.4 * one.signal[2] + 0.6 * other.signal[2])
    torch.testing.assert_close(mixed.target[2], 0.4 * one.target[2] + 0.6 * other.target[2])


def test_cutmix_mixes_classes_by_what_was_kept() -> None:
    one, other = batch(spec=CLASSES), batch(spec=CLASSES, first=100)
    mixed = cutmix(one, other, torch.full((6,), 0.75), torch.rand(6))
    theirs = (mixed.signal == other.signal).all(dim=2)
    assert (theirs.sum(dim=1) == 32).all() and torch.equal(mixed.signal[~theirs], one.signal[~theirs])
    assert (theirs.int().diff(dim=1).abs().sum(dim=1) <= 2).all(), "one stretch"
    torch.testing.assert_close(mixed.target, 0.75 * one.target + 0.25 * other.target)


def test_cutmix_cuts_a_target_that_follows_in_time() -> None:
    one, other = batch(), batch(first=100)
    mixed = cutmix(one, other, torch.full((6,), 0.5), torch.rand(6))
    theirs = (mixed.signal == other.signal).all(dim=2)
    assert torch.equal(mixed.target[theirs], other.target[theirs])
    assert torch.equal(mixed.target[~theirs], one.target[~theirs])


def test_shares_are_drawn_from_beta() -> None:
    drawn = beta(torch.arange(4000), 5, 0.4).numpy()
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    assert drawn.var() == pytest.approx(0.25 / (2 * 0.4 + 1), rel=0.05)


def test_recombined_windows_are_segments_in_their_places() -> None:
    one, others = batch(), [batch(first=100 * k) for k in range(1, 5)]
    mixed = recombine(one, others, torch.tensor([True] * 3 + [False] * 3))
    assert torch.equal(mixed.signal[3:], one.signal[3:])
    for k, other in enumerate(others):
        assert torch.equal(mixed.signal[:3, 32 * k : 32 * k + 32], other.signal[:3, 32 * k : 32 * k + 32])


def test_classes_become_shares_of_classes() -> None:
    done = Augmentation([Mixup(alpha=1.0)], CLASSES, soft=True)
    mixed = done(batch(spec=CLASSES), [batch(spec=CLASSES, first=1)])
    assert mixed.target.shape == (6, 2)
    torch.testing.assert_close(mixed.target.sum(dim=1), torch.ones(6))


def test_a_frequency_shift_moves_a_line() -> None:
    seconds = torch.arange(512) / 64
    x = torch.sin(2 * torch.pi * 10 * seconds)[None, :, None]
    moved = frequency_shifted(x, torch.tensor([3.0]), 64.0)
    power = torch.fft.rfft(moved[0, :, 0]).abs()
    assert torch.fft.rfftfreq(512, 1 / 64)[power.argmax()] == pytest.approx(13.0, abs=0.13)


def test_a_shift_is_round_the_end() -> None:
    x = torch.arange(5.0)[None, :, None]
    assert shifted(x, torch.tensor([2]))[0, :, 0].tolist() == [3, 4, 0, 1, 2]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="make soft labels, which only objective=classification"):
        Augmentation([Mixup()], CLASSES, soft=False)
    with pytest.raises(ValueError, match="recombine combines windows of one class, but the target follows"):
        Augmentation([Recombine()], SPEC, soft=False)
    with pytest.raises(ValueError, match="recombine combines windows of one class, but there is no target"):
        Augmentation([Recombine()], replace(SPEC, n_outputs=0, target_sfreq=0.0), soft=False)


@dataclass(frozen=True)
class Greedy:
    """An augmentation as in a package of a user's own, whose code is `apply` in its file."""

    name: Literal["greedy"] = "greedy"
    draws: int = 9
    fails: bool = False


def apply(cfg: Greedy, batch: Batch, what: int, spec: SignalSpec) -> Batch:
    if cfg.fails:
        raise RuntimeError("shapes")
    drawn = sum(noise.uniform(batch.rng_key, what + number, spec.n_channels) for number in range(cfg.draws))
    return batch._replace(signal=batch.signal * drawn[:, None])  # type: ignore[index]


@pytest.mark.parametrize("n_times", [128, None])
def test_a_ninth_draw_is_refused_before_a_job_is_submitted(n_times: int | None) -> None:
    Augmentation([Noise(), Greedy(draws=8)], SPEC, soft=False).try_out(n_times)
    with pytest.raises(
        ValueError, match=r"augmentation greedy draws with what \+ 8: it has 8 draws, what to what \+ 7;"
    ):
        Augmentation([Noise(), Greedy()], SPEC, soft=False).try_out(n_times)
    with pytest.raises(ValueError, match="augment greedy fails for windows of .* 3 channels: RuntimeError: shapes"):
        Augmentation([Greedy(fails=True)], CLASSES, soft=False).try_out(n_times)


def test_each_draw_has_its_number_however_it_is_added_up() -> None:
    what = DrawNumber.of(16, 16, "mine")
    assert [what + 0, what + 3 + 4, 2 + what] == [16, 23, 18]
    for wrong in (lambda: what + 4 + 4, lambda: what + -1):
        with pytest.raises(ValueError, match="augmentation mine draws with what"):
            wrong()


def test_all_of_ours_are_tried_out() -> None:
    for kind in AUGMENTATIONS.values():
        for spec in (SPEC, CLASSES):
            if not (spec is SPEC and "same class" in partners_of(kind())):
                Augmentation([kind()], spec, soft=bool(spec.class_values)).try_out(None)


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
    mixed = {step.name for step in steps if mixes_targets(step)}
    with pytest.raises(ValueError, match=f"list recombine before {mixed.pop()}: after, .* got augment .*recombine"):
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
    with pytest.raises(ValueError, match="but envelope has no classes: leave out the augmentation .* as recombine"):
        Partners(draw, [True], "envelope", labelled.recordings)


def test_each_partner_goes_to_who_asked_for_it() -> None:
    done = Augmentation([Recombine(segments=3), Mixup(), CutMix()], CLASSES, soft=True)
    assert done.partners == (True, True, True, False, False)
