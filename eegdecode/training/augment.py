"""Augment the windows of a training step on the device: a pure function of each window's key, on whichever rank.

augment = Augmentation(cfg.augment, spec, soft=…)
batch = augment(batch, partners)
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy import special

from eegdecode import noise
from eegdecode.objectives import Batch
from eegdecode.signals import SignalSpec
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
)

DRAWS = 8
"""Independent draws that one augmentation may have."""


class Augmentation:
    """The augmentations `steps`, applied in their order.

    Parameters
    ----------
    spec
        Of the data.
    soft
        The target is a class, and the objective takes soft labels, which mixing makes of it.
    """

    def __init__(self, steps: Sequence[Augment], spec: SignalSpec, soft: bool) -> None:
        mixes = any(isinstance(step, Mixup | CutMix) for step in steps)
        if mixes and spec.class_values and not soft:
            raise ValueError("mixup and cutmix make soft labels, which only objective=classification can learn")
        if spec.is_sequence and any(isinstance(step, Recombine) for step in steps):
            raise ValueError("recombine puts windows of one class together, but the target follows the signal in time")
        self.steps, self.spec = tuple(steps), spec
        self.class_values = torch.tensor(spec.class_values) if mixes and soft else None

    @property
    def partners(self) -> tuple[bool, ...]:
        """For each partner window that a window needs: whether it must be of the same class."""
        wants = {Mixup: lambda step: [False], CutMix: lambda step: [False], Recombine: lambda s: [True] * s.segments}
        return tuple(same for step in self.steps if type(step) in wants for same in wants[type(step)](step))

    def __call__(self, batch: Batch, partners: Sequence[Batch] = ()) -> Batch:
        """`partners`: as many as the property of that name, with windows in the order of the batch."""
        others = iter([self._shares(partner) for partner in partners])
        batch = self._shares(batch)
        for place, step in enumerate(self.steps):
            batch = _augmented(step, batch, others, self.spec.sfreq, place * DRAWS)
        return batch

    def _shares(self, batch: Batch) -> Batch:
        """Classes as soft labels: one-hot."""
        if self.class_values is None:
            return batch
        values = self.class_values.to(batch.target)
        return batch._replace(target=(batch.target == values).to(torch.float32))


def _augmented(step: Augment, batch: Batch, others: Iterator[Batch], sfreq: float, what: int) -> Batch:
    match step:
        case Mixup():
            return mixup(batch, next(others), beta(batch.rng_key, what, step.alpha))
        case CutMix():
            share = beta(batch.rng_key, what, step.alpha)
            return cutmix(batch, next(others), share, noise.uniform(batch.rng_key, what + 1)[:, 0])
        case Recombine():
            segments = [next(others) for _ in range(step.segments)]
            return recombine(batch, segments, noise.uniform(batch.rng_key, what)[:, 0] < step.p)
    return batch._replace(signal=_changed(step, batch, sfreq, what))


def _changed(step: Augment, batch: Batch, sfreq: float, what: int) -> torch.Tensor:
    x, key = batch.signal, batch.rng_key
    match step:
        case TimeShift():
            most = max(1, round(step.most_s * sfreq))
            return shifted(x, (noise.uniform(key, what)[:, 0] * (2 * most + 1)).long() - most)
        case ChannelDropout():
            stays = noise.uniform(key, what, x.shape[2]) >= step.p
            return x * (stays / (1 - step.p))[:, None]
        case Noise():
            return x + step.std * x.std(dim=1, keepdim=True) * noise.normal(key, what, *x.shape[1:])
        case FrequencyShift():
            by_hz = (2 * noise.uniform(key, what)[:, 0] - 1) * step.most_hz
            return frequency_shifted(x, by_hz, sfreq)
        case SpecAugment():
            for number in range(step.times):
                x = x * _outside(key, what + number, x.shape[1], round(step.longest_s * sfreq))[:, :, None]
            for number in range(step.bands):
                x = x * _outside(key, what + 4 + number, x.shape[2], step.widest)[:, None]
            return x
    raise AssertionError(step)


def mixup(batch: Batch, other: Batch, share: torch.Tensor) -> Batch:
    """`share` [window] of each window, the rest of the other."""
    return batch._replace(
        signal=_mixed(batch.signal, other.signal, share), target=_mixed(batch.target, other.target, share)
    )


def cutmix(batch: Batch, other: Batch, share: torch.Tensor, at: torch.Tensor) -> Batch:
    """Replace a stretch of each window by the other's, so that about `share` of the window is kept; `at`, from 0 to 1,
    is its position. A target that is a time course is cut alike, any other mixed by the share that was kept."""
    n_times = batch.signal.shape[1]
    length = ((1 - share) * n_times).round()
    first = (at * (n_times - length + 1)).floor()

    def cut(own: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        n = own.shape[1]
        times = (torch.arange(n, device=own.device) + 0.5) * (n_times / n)
        inside = (times > first[:, None]) & (times < (first + length)[:, None])
        return torch.where(inside[:, :, None], theirs, own)

    signal = cut(batch.signal, other.signal)
    if batch.target.ndim == 3:
        return batch._replace(signal=signal, target=cut(batch.target, other.target))
    return batch._replace(signal=signal, target=_mixed(batch.target, other.target, 1 - length / n_times))


def recombine(batch: Batch, others: Sequence[Batch], which: torch.Tensor) -> Batch:
    """Assemble the windows of `which` from equal segments, each of another window."""
    n_times = batch.signal.shape[1]
    segment = torch.arange(n_times, device=batch.signal.device) * len(others) // n_times
    bounds = torch.searchsorted(segment, torch.arange(len(others) + 1, device=segment.device)).tolist()
    parts = [other.signal[:, first:stop] for other, first, stop in zip(others, bounds[:-1], bounds[1:], strict=True)]
    return batch._replace(signal=torch.where(which[:, None, None], torch.cat(parts, dim=1), batch.signal))


def shifted(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Shift each window by so many samples, circularly."""
    places = (torch.arange(x.shape[1], device=x.device) - by[:, None]) % x.shape[1]
    return x.gather(1, places[:, :, None].expand_as(x))


def frequency_shifted(x: torch.Tensor, by_hz: torch.Tensor, sfreq: float) -> torch.Tensor:
    """Shift the spectrum: the real part of the modulated analytic signal."""
    n_times = x.shape[1]
    n = 1 << (n_times - 1).bit_length()
    spectrum = torch.fft.fft(x, n, dim=1)
    spectrum[:, 1 : n // 2] *= 2
    spectrum[:, n // 2 + 1 :] = 0
    seconds = torch.arange(n_times, device=x.device) / sfreq
    turn = torch.exp(2j * torch.pi * by_hz[:, None] * seconds)
    return (torch.fft.ifft(spectrum, dim=1)[:, :n_times] * turn[:, :, None]).real


def beta(keys: torch.Tensor, what: int, alpha: float) -> torch.Tensor:
    """A share for each window from Beta(alpha, alpha), by the inverse of its distribution; computed on the CPU."""
    drawn = special.betaincinv(alpha, alpha, noise.uniform(keys, what)[:, 0].double().cpu().numpy())
    return torch.from_numpy(np.asarray(drawn, np.float32)).to(keys.device)


def _mixed(own: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    share = share.reshape(-1, *[1] * (own.ndim - 1))
    return share * own + (1 - share) * other


def _outside(keys: torch.Tensor, what: int, n: int, most: int) -> torch.Tensor:
    """[window, n]: 0 in a stretch of up to `most` places, 1 elsewhere."""
    drawn = noise.uniform(keys, what, 2)
    length = (drawn[:, 0] * (min(most, n) + 1)).floor()
    first = (drawn[:, 1] * (n - length + 1)).floor()
    places = torch.arange(n, device=keys.device)
    return ((places < first[:, None]) | (places >= (first + length)[:, None])).to(torch.float32)
