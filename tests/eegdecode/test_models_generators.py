"""Generators are as large and as exact as those they are named after, learn to tell noise, and make the same of the
same keys."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eegdecode import models, noise, objectives, stages
from eegdecode.data.config import RandomWindows
from eegdecode.data.store.dataset import Store
from eegdecode.models import Model, dit
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.diffwave import DiffWave
from eegdecode.models.dit import DiT
from eegdecode.models.joined import Joined
from eegdecode.models.unet import UNet
from eegdecode.objectives import Batch
from eegdecode.objectives.diffusion import FAST, Diffusion, Schedule, sample, schedule_of
from eegdecode.signals import SignalSpec
from eegdecode.training import model_file
from eegdecode.training.config import Optim, Train
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir

WHOSE = torch.tensor([0, 1])
SCHEDULE = Schedule.line(50, 1e-4, 0.05)


def mel(n_mels: int) -> SignalSpec:
    """A spectrogram is the signal, sound the target."""
    return SignalSpec(tuple(f"mel{index}" for index in range(n_mels)), 22050 / 256, 1, ("sub-01",), 22050.0)


EEG = SignalSpec(tuple(f"E{index}" for index in range(8)), 64.0, 16, ("sub-01", "sub-02"), 32.0)
SMALL: dict[str, Model] = {
    "diffwave": DiffWave(channels=8, layers=4, cycle=2, conditional=False),
    "unet": UNet(widths=(16, 32), blocks=1),
    "dit": DiT(width=32, layers=2, heads=2),
    "joined": Joined(encoder=BiLSTM(hidden=4), generator=UNet(widths=(16, 32), blocks=1), features=5),
    "joined with a transformer": Joined(
        encoder=BiLSTM(hidden=4), generator=DiT(width=32, layers=2, heads=2, checkpoint=True), features=5
    ),
}


def rough(n: int, start: int) -> torch.Tensor:
    """n numbers in [-1, 1) without a pattern, the same on every machine."""
    waves = torch.sin(torch.arange(start, start + n, dtype=torch.float64) * 12.9898) * 43758.5453
    return (waves % 1.0 * 2 - 1).float()


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Parameters by a formula, in the order of their names."""
    at = 0
    for _, parameter in sorted(network.named_parameters()):
        n = parameter.numel()
        parameter.copy_((1.7 / (n / len(parameter)) ** 0.5 * rough(n, at)).view_as(parameter))
        at += n


def moved(network: nn.Module, seed: int = 0) -> nn.Module:
    """With small random numbers added, as layers that start at 0 give nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


def alive(cfg: Model, spec: SignalSpec = EEG) -> nn.Module:
    torch.manual_seed(1)
    return moved(models.build(cfg, spec))


EEG_X = rough(2 * 64 * 8, 1).view(2, 64, 8)


# ---- DiffWave


@pytest.mark.parametrize(("conditional", "n_parameters"), [(True, 2_619_971), (False, 2_308_737)])
def test_diffwave_is_as_large_as_the_public_vocoder(conditional: bool, n_parameters: int) -> None:
    with torch.device("meta"):
        network = models.build(DiffWave(conditional=conditional), mel(80))
    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters


# Of lmnt-com/diffwave with 8 channels, 4 layers, cycle 3, 5 mels: two windows, samples 0, 100, 500 and 767 of each
AT = [0, 100, 500, 767]
GOLDEN = {
    (True, 0.0, 49.0): [1.65543, 1.76192, 1.737835, 1.599377, 1.512317, 1.531871, 1.568091, 1.595085],
    (False, 0.0, 49.0): [-0.823372, -0.877603, -0.853397, -0.757625, -0.826919, -0.852451, -0.928233, -0.779423],
    (True, 7.25, 42.9): [1.599027, 1.673796, 1.639962, 1.576072, 1.626711, 1.575901, 1.597838, 1.566788],
    (False, 7.25, 42.9): [-0.775793, -0.896116, -0.870482, -0.810916, -0.834078, -0.889404, -0.966721, -0.772131],
}


@pytest.mark.parametrize(("conditional", "first", "second"), GOLDEN)
def test_diffwave_gives_what_the_public_vocoder_gives(conditional: bool, first: float, second: float) -> None:
    network = models.build(DiffWave(channels=8, layers=4, cycle=3, conditional=conditional), mel(5))
    fill(network)
    x, noisy = rough(30, 7).view(2, 3, 5), rough(2 * 768, 99).view(2, 768, 1)
    with torch.no_grad():
        predicted = network(x, torch.zeros(2, dtype=torch.int64), noisy, torch.tensor([first, second]))
    np.testing.assert_allclose(predicted[:, AT, 0].flatten(), GOLDEN[conditional, first, second], atol=1e-5)


def test_its_names_are_those_of_the_public_checkpoint() -> None:
    names = set(models.build(DiffWave(layers=1), mel(80)).state_dict())
    layer = {
        f"residual_layers.0.{part}_{kind}.{value}"
        for part, kind in [
            ("dilated", "conv"),
            *((part, "projection") for part in ("diffusion", "conditioner", "output")),
        ]
        for value in ("weight", "bias")
    }
    assert layer < names
    assert {name.split(".")[0] for name in names} == {
        "input_projection", "diffusion_embedding", "spectrogram_upsampler", "residual_layers", "skip_projection",
        "output_projection",
    }  # fmt: skip


def test_a_frame_is_256_samples_of_sound() -> None:
    with pytest.raises(ValueError, match=r"256 = 16 x 16 samples .* 22050 Hz over 64 Hz is 344.531: use frames at 86"):
        models.build(DiffWave(), replace(mel(80), sfreq=64.0))
    network = models.build(DiffWave(channels=8, layers=1), mel(5))
    some = torch.zeros(1, dtype=torch.int64)
    assert network(torch.zeros(1, 4, 5), some, torch.zeros(1, 1000, 1), some.float()).shape == (1, 1000, 1)
    with pytest.raises(ValueError, match="got 4 frames of 256 samples for a target of 2000 samples"):
        network(torch.zeros(1, 4, 5), some, torch.zeros(1, 2000, 1), some.float())


# ---- The schedule and sampling


def test_the_schedule_is_the_vocoders() -> None:
    assert schedule_of(Diffusion()) == SCHEDULE
    assert SCHEDULE.alphas_cumprod[0] == pytest.approx(0.9999) and SCHEDULE.alphas_cumprod[49] == pytest.approx(
        0.279673, abs=5e-7
    )
    six = [0.0, 0.89413, 4.08665, 10.45182, 22.99249, 42.91864]  # what the vocoder makes of its own six steps
    np.testing.assert_allclose(SCHEDULE.matching_steps(Schedule(FAST)), six, atol=1e-5)
    np.testing.assert_allclose(SCHEDULE.matching_steps(SCHEDULE), np.arange(50), atol=1e-9)


def test_fewer_steps_leave_as_much_as_those_they_stand_for() -> None:
    few = SCHEDULE.fewer(8)
    np.testing.assert_allclose(SCHEDULE.matching_steps(few), [0, 7, 14, 21, 28, 35, 42, 49], atol=1e-9)
    with pytest.raises(ValueError, match="of 50 steps 2 to 50 can be taken, got 51"):
        SCHEDULE.fewer(51)


def test_steps_that_were_not_learned_are_refused() -> None:
    with pytest.raises(ValueError, match="with 0.2797 to 0.9999 of the target left, but these steps leave"):
        SCHEDULE.matching_steps(Schedule((0.9, 0.9)))


def test_who_knows_the_noise_finds_the_target_again() -> None:
    """With the true noise told at each step, all schedules end at the target itself."""
    target = torch.sin(torch.arange(200.0))[None, :, None].repeat(2, 1, 1)

    def knows(x: torch.Tensor, subject: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alphas = torch.tensor(
            np.interp(t.numpy() + 1, np.arange(51), np.sqrt([1.0, *SCHEDULE.alphas_cumprod])) ** 2
        ).float()
        alphas = alphas[:, None, None]
        return (noisy - alphas.sqrt() * target) / (1 - alphas).sqrt()

    for taken in (None, Schedule(FAST), SCHEDULE.fewer(10)):
        sampled = sample(knows, target, WHOSE, torch.tensor([3, 4]), (200, 1), SCHEDULE, taken)
        assert (sampled - target).abs().max() < 2e-3


@pytest.mark.parametrize("name", SMALL)
def test_the_same_keys_make_the_same_sound_whoever_else_is_in_the_batch(name: str) -> None:
    network = alive(SMALL[name]).eval()
    x, keys = rough(2 * 64 * 8, 1).view(2, 64, 8), torch.tensor([5, 6])

    def made(places: list[int]) -> torch.Tensor:
        torch.manual_seed(len(places))  # of no account
        return sample(network, x[places], WHOSE[places], keys[places], (32, 16), SCHEDULE, Schedule(FAST))

    both = made([0, 1])
    assert both.shape == (2, 32, 16)
    torch.testing.assert_close(made([1])[0], both[1], atol=1e-4, rtol=1e-4)
    assert torch.equal(made([0, 1]), both)
    assert not torch.allclose(both[0], both[1], atol=0.1)


def test_a_limit_holds() -> None:
    sampled = sample(lambda *_: torch.zeros(2, 50, 1), EEG_X, WHOSE, WHOSE, (50, 1), SCHEDULE, limit=1.0)
    assert sampled.abs().max() == 1


# ---- The objective


def diffusion(network: nn.Module, spec: SignalSpec, batch: Batch, cfg: Diffusion | None = None) -> torch.Tensor:
    loss, _ = objectives.build(cfg or Diffusion(), spec)(network, batch)
    return loss


class Seen(nn.Module):
    """A network that predicts no noise, and keeps its inputs."""

    def forward(self, x: torch.Tensor, subject: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.noisy, self.t = noisy, t
        return torch.zeros_like(noisy)


def test_the_loss_of_no_answer_is_the_size_of_the_noise() -> None:
    keys = torch.arange(4000)
    batch = Batch(torch.zeros(4000, 1, 8), torch.full((4000, 8, 4), 3.0), keys % 2, keys)
    seen = Seen()
    assert diffusion(seen, EEG, batch).item() == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)
    assert diffusion(seen, EEG, batch, Diffusion(loss="mse")).item() == pytest.approx(1, abs=0.02)
    assert (seen.t.min(), seen.t.max(), seen.t.unique().numel()) == (0, 49, 50)
    for step in (0, 20, 49):
        at = seen.noisy[seen.t == step]
        assert at.mean().item() == pytest.approx(3 * SCHEDULE.alphas_cumprod[step] ** 0.5, abs=0.1)
        assert at.var().item() == pytest.approx(1 - SCHEDULE.alphas_cumprod[step], abs=0.1)


def test_what_a_window_sees_is_of_its_key_alone() -> None:
    batch = Batch(EEG_X, rough(2 * 32 * 16, 5).view(2, 32, 16), WHOSE, torch.tensor([8, 9]))
    both, second = Seen(), Seen()
    diffusion(both, EEG, batch)
    diffusion(second, EEG, Batch(*(value[1:] for value in batch)))
    assert torch.equal(both.noisy[1:], second.noisy) and torch.equal(both.t[1:], second.t)


def test_a_target_that_is_not_in_time_is_refused() -> None:
    classes = replace(EEG, target_sfreq=0.0, n_outputs=4)
    with pytest.raises(ValueError, match="diffusion needs a target that is a time course: name one"):
        Diffusion().asks(classes)
    for cfg in SMALL.values():
        with pytest.raises(ValueError, match=f"{cfg.name} needs a target that is a time course"):
            models.build(cfg, classes)


@pytest.mark.parametrize("name", SMALL)
def test_generators_run_backward_in_half_precision_and_compile_without_a_break(name: str) -> None:
    network = alive(SMALL[name])
    noisy, t = rough(2 * 32 * 16, 5).view(2, 32, 16), torch.tensor([3.0, 40.0])
    plain = network(EEG_X, WHOSE, noisy, t)
    assert plain.shape == noisy.shape
    plain.abs().mean().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    with torch.autocast("cpu", torch.bfloat16):
        assert (network(EEG_X, WHOSE, noisy, t) - plain).abs().max() < 0.1 * plain.abs().max()
    if "joined" not in name:  # their encoder is an LSTM, which torch compiles around
        compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")
        torch.testing.assert_close(compiled(EEG_X, WHOSE, noisy, t), plain)
    again = models.build(SMALL[name], EEG)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(EEG_X, WHOSE, noisy, t), plain)


@pytest.mark.parametrize("name", [name for name, cfg in SMALL.items() if name != "diffwave"])
def test_generators_hear_the_signal_and_take_any_length(name: str) -> None:
    network = alive(SMALL[name])
    for n_steps in (32, 45):
        noisy = rough(2 * n_steps * 16, 5).view(2, n_steps, 16)
        x = rough(2 * n_steps * 16, 3).view(2, 2 * n_steps, 8).requires_grad_()
        predicted = network(x, WHOSE, noisy, torch.zeros(2))
        assert predicted.shape == noisy.shape
        predicted[0].sum().backward()
        assert x.grad is not None
        assert x.grad[0].abs().sum(1).count_nonzero() > n_steps  # all but samples of a last, half hop
        assert x.grad[1].abs().max() == 0
    with pytest.raises(ValueError, match="got 9 channels x 64 samples; this model was built for 8 channels"):
        network(torch.zeros(2, 64, 9), WHOSE, noisy, torch.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(2, 32, 4\); needs \[window, step, 16 features\]"):
        network(EEG_X, WHOSE, torch.zeros(2, 32, 4), torch.zeros(2))
    with pytest.raises(ValueError, match=r"steps of shape \(1,\) for 2 windows; needs one each"):
        network(EEG_X, WHOSE, noisy, torch.zeros(1))


@pytest.mark.parametrize(("cfg", "spec"), [(SMALL["dit"], EEG), (DiffWave(channels=8, layers=3), mel(8))])
def test_checkpointing_changes_no_gradient(cfg: DiT | DiffWave, spec: SignalSpec) -> None:
    x, noisy = EEG_X[:, :4], rough(2 * 1024 * spec.n_outputs, 3).view(2, 1024, -1)
    gradients = []
    for checkpoint in (False, True):
        network = alive(replace(cfg, checkpoint=checkpoint), spec)
        network(x, WHOSE, noisy, torch.zeros(2)).abs().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_small_diffwave_learns_to_tell_the_noise() -> None:
    """6 layers of 16 channels, told which of two tones it is: from 0.80, the mean of |noise|, to below 0.45."""
    torch.manual_seed(0)
    spec = mel(2)
    network = models.build(DiffWave(channels=16, layers=6, cycle=6), spec)
    objective = objectives.build(Diffusion(), spec)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    losses = []
    for step in range(140):
        keys = torch.arange(8) + 8 * step
        tone = (keys % 2)[:, None]
        start = noise.uniform(keys, 1)
        sound = 0.9 * torch.sin(2 * math.pi * (torch.arange(512) * (0.02 + 0.03 * tone) + start))
        condition = nn.functional.one_hot(keys % 2, 2).float()[:, None].repeat(1, 2, 1)
        loss = objective(network, Batch(condition, sound[:, :, None], torch.zeros(8, dtype=torch.int64), keys))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[:2]) > 0.7
    assert np.mean(losses[-15:]) < 0.45


# ---- The transformer over patches


def test_a_spectrogram_of_800_x_80_is_1000_patches() -> None:
    x = rough(2 * 800 * 80, 4).view(2, 800, 80)
    patches = dit.patchify(x, (8, 8))
    assert patches.shape == (2, 100, 10, 64)
    assert torch.equal(dit.unpatchify(patches, (8, 8)), x)
    assert torch.equal(patches[1, 3, 2].view(8, 8), x[1, 24:32, 16:24])


def test_a_block_starts_as_if_it_were_not_there() -> None:
    block = dit.Block(32, 4)
    y, condition = rough(2 * 5 * 3 * 32, 1).view(2, 5, 3, 32), rough(2 * 5 * 32, 9).view(2, 5, 32)
    assert torch.equal(block(y, condition), y)
    moved(block)
    assert not torch.allclose(block(y, condition), y)


def test_every_patch_sees_every_other_and_has_a_place() -> None:
    network = alive(SMALL["dit"])
    noisy = torch.zeros(2, 32, 16, requires_grad=True)
    network(EEG_X, WHOSE, noisy, torch.zeros(2))[0, 0, 0].backward()
    assert noisy.grad is not None
    assert (noisy.grad[0] != 0).all()
    assert len(dit.places(10, 7, 32, torch.device("cpu")).flatten(0, 1).unique(dim=0)) == 70


# ---- Two that are joined


def test_the_joined_model_is_told_one_thing_a_hop_and_hears_the_subject() -> None:
    sound = replace(EEG, n_outputs=1, target_sfreq=16384.0, n_times=64)
    cfg = Joined(encoder=BiLSTM(hidden=4, subject_layer=True), generator=DiffWave(channels=8, layers=2), features=80)
    network = models.build(cfg, sound)
    assert network.encoder(EEG_X, WHOSE).shape == (2, 64, 80)  # 16384 Hz / 256
    moved(network)(EEG_X, WHOSE, torch.zeros(2, 16384, 1), torch.zeros(2)).sum().backward()
    assert network.encoder.of_subject.grad[1].abs().max() > 0
    assert network.generator.spectrogram_upsampler.conv1.weight.grad.abs().max() > 0
    with pytest.raises(
        ValueError, match=r"one condition for 256 samples of the target \(8.00 s\), but a window lasts 1.00 s"
    ):
        models.build(cfg, replace(EEG, n_times=64))


def test_a_vocoder_that_was_trained_alone_loads_into_the_joined_model() -> None:
    alone = models.build(DiffWave(channels=8, layers=2), mel(80))
    joined = models.build(
        Joined(generator=DiffWave(channels=8, layers=2), features=80), replace(EEG, n_outputs=1, target_sfreq=22050.0)
    )
    joined.generator.load_state_dict(alone.state_dict())


def test_a_joined_model_listens_to_its_signal() -> None:
    """Trained as one, it predicts the noise of a spectrogram worse if it is given the EEG of another window."""
    spec = replace(EEG, n_outputs=4)

    def planted(first: int, n: int) -> Batch:
        keys = torch.arange(first, first + n)
        loud = nn.functional.one_hot(keys % 4, 4).float()  # one of four bands, and of four channels
        x = 2 * nn.functional.pad(loud, (0, 4))[:, None] + 0.5 * noise.normal(keys, 2, 64, 8)
        target = 3 * loud[:, None] * torch.sin(math.pi * torch.arange(32) / 32)[:, None] - 0.5
        return Batch(x, target, keys % 2, keys)

    torch.manual_seed(0)
    cfg = Joined(encoder=BiLSTM(hidden=8, layers=1), generator=UNet(widths=(16, 32), blocks=1), features=8)
    network = models.build(cfg, spec)
    objective = objectives.build(Diffusion(steps=100, last=0.1, loss="mse"), spec)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(120):
        loss, _ = objective(network, planted(16 * step, 16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    asked = planted(10**6, 64)
    with torch.no_grad():
        right = objective(network, asked)[0]
        wrong = objective(network, asked._replace(signal=asked.signal.roll(1, 0)))[0]
    assert right < 0.9 * wrong


def test_a_run_trains_a_joined_model_and_its_model_makes_spectrograms(tiny_store: Store, tmp_path: Path) -> None:
    cfg = Train(
        data=(Input(str(tiny_store.recordings[0].path.parent)),),
        model=Joined(encoder=BiLSTM(hidden=4), generator=UNet(widths=(16, 32), blocks=1), features=4),
        objective=Diffusion(),
        windows=RandomWindows(length_s=1.0, batch=4),
        optim=Optim(steps=4, warmup_steps=1, validate_every=4),
    )
    ctx = Context(World(), RunDir(tmp_path / "run"))
    assert stages.train(cfg, ctx)["steps"] == 4
    network = model_file.load(ctx.out).network()
    learned = schedule_of(Diffusion())
    x = torch.zeros(2, 64, 8)
    sampled = sample(network, x, WHOSE, torch.tensor([1, 2]), (64, 1), learned, learned.fewer(5))
    assert sampled.shape == (2, 64, 1) and sampled.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiffWave(layers=0), "at least 1, got 64, 0 and 10"),
        (lambda: UNet(widths=(12,)), r"multiples of 8, at least one of them, got \[12\]"),
        (lambda: UNet(factor=3), "factor must be an even number, got 3"),
        (lambda: UNet(blocks=0), "blocks must be at least 1, got 0"),
        (lambda: DiT(heads=5), r"width \(384\) must be a multiple of heads, got 5 heads"),
        (lambda: DiT(width=30, heads=2), "multiple of 4 and layers at least 1, got 30 and 12"),
        (lambda: DiT(patch=(0, 8)), "at least 1 x 1 values, got 0 x 8"),
        (lambda: Joined(features=0), "features must be at least 1, got 0"),
        (lambda: Joined(generator=DiffWave(conditional=False)), "must be conditioned on the encoder"),
        (lambda: Diffusion(steps=1), "steps must be at least 2, got 1"),
        (lambda: Diffusion(first=0.1), "0 < first <= last < 1, got first 0.1 and last 0.05"),
    ],
)
def test_nonsense_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
