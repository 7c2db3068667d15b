"""Consistency of time and frequency, TF-C (Zhang et al., NeurIPS 2022)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from eegdecode import noise
from eegdecode.models.tfc import Embedded, magnitudes
from eegdecode.objectives import Batch, Objective
from eegdecode.objectives.simclr import alike, nt_xent
from eegdecode.signals import SignalSpec
from hpc.rank import ddp


@dataclass(frozen=True)
class TimeFrequency:
    """TF-C (Zhang 2022): make the embeddings of a window, its spectrum and augmented versions of both similar."""

    name: Literal["tfc"] = "tfc"
    form: Literal["paper", "released"] = "paper"
    """`paper`: balance * (time + frequency) + (1 - balance) * consistency; `released`, as in the published code:
    balance * (time + frequency) + the distance of a window from its spectrum, by NT-Xent with a polynomial term."""
    temperature: float = 0.2
    """Divisor of the cosines of NT-Xent; smaller: the most similar other windows have more weight."""
    balance: float = 0.2
    """Weight of the two losses of windows against their augmented versions, in time and in frequency; the paper's
    lambda."""
    margin: float = 1.0
    """For the form `paper`: added to each of the three differences of distances, the paper's delta; as a constant it
    has no gradient."""
    anchor: float = 1.0
    """Ours, for the form `paper`: weight of the distance of a window from its spectrum, which is added to the
    differences of distances. These are small already if all four are equally far apart; 0: exactly as in the paper, see
    docs/LOG.md."""
    passes: Literal[1, 2] = 1
    """Forward passes of a step: windows and their augmented versions together, or, as in the published code, one after
    the other, so that batch norms see either alone."""
    ADDED_LATER: ClassVar[tuple[str, ...]] = ("passes",)
    input_kind: ClassVar[str] = "tfc"
    compares_windows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.balance <= 1 or min(self.margin, self.anchor) < 0:
            raise ValueError(
                "temperature must be above 0, balance in [0, 1], margin and anchor at least 0, "
                f"got {self.temperature}, {self.balance}, {self.margin} and {self.anchor}"
            )

    def asks(self, spec: SignalSpec) -> SignalSpec:
        return spec


BANK, SPECTRUM = 50, 56  # the first numbers of the draws of the two augmentations
SEGMENTS = 5  # segments whose order is shuffled
JITTER, SCALING = 0.1, 0.2  # shares of a channel's standard deviation; of its amplitude
REMOVED, ADDED = 0.1, 0.1  # share of the frequencies; the largest added one, as a share of the strongest


def objective(cfg: TimeFrequency, spec: SignalSpec) -> Objective:
    def loss_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x, spectrum = batch.signal, magnitudes(batch.signal)
        others = other_signal(x, batch.rng_key), other_spectrum(spectrum, batch.rng_key)
        halves: list[tuple[torch.Tensor, ...]]
        if cfg.passes == 2:
            passed = (model(x, batch.subject, spectrum), model(others[0], batch.subject, others[1]))
            halves = [(plain.float(), other.float()) for plain, other in zip(*passed, strict=True)]
        else:
            embedded = model(torch.cat([x, others[0]]), batch.subject.repeat(2), torch.cat([spectrum, others[1]]))
            halves = [tensor.float().chunk(2) for tensor in embedded]
        if model.training:  # so that every rank knows the whole loss
            halves = [(ddp.gather(plain), ddp.gather(other)) for plain, other in halves]
        return combined(cfg, Embedded(*(plain for plain, _ in halves)), Embedded(*(other for _, other in halves)))

    return loss_of


def combined(cfg: TimeFrequency, plain: Embedded, other: Embedded) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss of windows and their augmented versions."""

    def apart(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        distance = nt_xent(one, two, cfg.temperature)
        return distance if cfg.form == "paper" else distance + _polynomial(one, two, cfg.temperature)

    time, frequency = apart(plain.h_t, other.h_t), apart(plain.h_f, other.h_f)
    across = apart(plain.z_t, plain.z_f)
    watched = {"time": time.detach(), "frequency": frequency.detach(), "across": across.detach()}
    if cfg.form == "released":
        return cfg.balance * (time + frequency) + across, watched
    # A triplet: a window and its spectrum lie nearer to each other than any pair with an augmented version
    pairs = ((plain.z_t, other.z_f), (other.z_t, plain.z_f), (other.z_t, other.z_f))
    consistency = torch.stack([across - apart(*pair) + cfg.margin for pair in pairs]).sum() + cfg.anchor * across
    return cfg.balance * (time + frequency) + (1 - cfg.balance) * consistency, watched


def _polynomial(one: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the term that the released code adds to NT-Xent: 1 - N * the mean of (the softmax of the right, 0 of each
    wrong)."""
    n_windows = len(one)
    chance = (alike(one, other) / temperature).softmax(dim=1)
    right = chance.diagonal(n_windows).sum() + chance.diagonal(-n_windows).sum()
    return 1 - n_windows * right / (2 * n_windows * (2 * n_windows - 1))


def other_signal(x: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Augment by one of four at random: jitter, another amplitude, a shift in time, segments in another order."""
    n_windows, n_times, n_channels = x.shape
    jittered = x + JITTER * x.std(dim=1, keepdim=True) * noise.normal(key, BANK, n_times, n_channels)
    scaled = x * (1 + SCALING * noise.normal(key, BANK + 1, 1, n_channels))
    at = torch.arange(n_times, device=x.device).expand(n_windows, -1)
    shifted = (at + (noise.uniform(key, BANK + 2, 1) * n_times).long()) % n_times
    # Each sample moves with its segment: it is sorted by the order of the segments, then by its own
    segment = at * SEGMENTS // n_times
    place = noise.permutation(key, BANK + 3, SEGMENTS).gather(1, segment)
    cut = (place * n_times + at).argsort(dim=1)
    choices = torch.stack(
        [jittered, scaled, *(x.take_along_dim(one[:, :, None], dim=1) for one in (shifted, cut))], dim=1
    )
    which = (noise.uniform(key, BANK + 4, 1) * choices.shape[1]).long()
    return choices.take_along_dim(which[:, :, None, None], dim=1)[:, 0]


def other_spectrum(spectrum: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Remove some frequencies and raise some weak ones; the two entries of one frequency are treated alike."""
    n_times = spectrum.shape[1]
    at = torch.arange(n_times, device=spectrum.device)
    mirrored = torch.minimum(at, (n_times - at) % n_times)  # its index in the first half
    n_half = n_times // 2 + 1
    gone = noise.uniform(key, SPECTRUM, n_half, spectrum.shape[2])[:, mirrored] < REMOVED
    raised = noise.uniform(key, SPECTRUM + 1, n_half, spectrum.shape[2])[:, mirrored] < REMOVED
    most = ADDED * spectrum.amax(dim=1, keepdim=True)
    height = most * noise.uniform(key, SPECTRUM + 2, n_half, spectrum.shape[2])[:, mirrored]
    return torch.where(raised, torch.maximum(spectrum, height), spectrum.masked_fill(gone, 0.0))
