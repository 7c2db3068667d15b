"""Encoders of EEG and MEG, or of one signal seen in several ways, give one output; a window may lack one of the two."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import nn

from eegdecode import models, objectives
from eegdecode.models import Model, fusion
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.brainmodule import BrainModule
from eegdecode.models.fusion import Fusion
from eegdecode.models.multipath import Multipath, Spectra
from eegdecode.models.parts import joining
from eegdecode.objectives import Batch
from eegdecode.objectives.regression import Regression
from eegdecode.signals import Kind, SignalSpec
from hpc import config

BRAIN = BrainModule(merger=False, virtual_channels=8, hidden=8, layers=2)
LSTM = BiLSTM(hidden=6)
WHOSE = torch.tensor([0, 1, 0])


def spec(n_eeg: int = 4, n_meg: int = 6, n_outputs: int = 6, target_sfreq: float = 0.0) -> SignalSpec:
    """EEG and MEG in turn, so that a place among all is none among the EEG."""
    kinds: list[Kind] = [*(["eeg"] * n_eeg), *(["mag", "grad"] * (n_meg // 2))]  # type: ignore[list-item]
    turn = sorted(range(len(kinds)), key=lambda at: (at * 7) % len(kinds))
    names = tuple(f"{kinds[at]}{at}" for at in turn)
    return SignalSpec(
        names,
        100.0,
        n_outputs,
        ("a", "b"),
        target_sfreq,
        60,
        tuple(kinds[at] for at in turn),  # type: ignore[misc]
    )


def without(x: torch.Tensor, kind: str, found: SignalSpec) -> torch.Tensor:
    """The windows without their EEG, or MEG."""
    lost = torch.tensor([kind_of in fusion.KINDS[kind] for kind_of in found.kinds])
    return torch.where(lost, 0, x)


@pytest.mark.parametrize("how", ["add", "concat", "gated"])
@pytest.mark.parametrize(
    "cfg",
    [Fusion(eeg=LSTM, meg=BRAIN), Multipath(waveform=BRAIN, spectrum=LSTM), Multipath(picture=0)],
    ids=["fusion", "three paths", "two paths"],
)
def test_every_way_to_fuse_gives_the_target_that_was_asked_for(cfg: Fusion | Multipath, how: Any) -> None:
    x = torch.randn(3, 60, 10)
    for target_sfreq, shape in ((0.0, (3, 6)), (100.0, (3, 60, 6)), (25.0, (3, 15, 6))):
        network = models.build(replace(cfg, fusion=how), spec(target_sfreq=target_sfreq))
        given = network(x, WHOSE)
        assert given.shape == shape
        given.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        again = models.build(
            config.build(Model, asdict(replace(cfg, fusion=how)), "model"), spec(target_sfreq=target_sfreq)
        )
        again.load_state_dict(network.state_dict())
        assert torch.equal(again.eval()(x, WHOSE), network.eval()(x, WHOSE))


def test_concat_takes_an_equal_share_from_each_encoder() -> None:
    network = models.build(Fusion(eeg=LSTM, meg=LSTM, fusion="concat"), spec(n_outputs=512))
    assert network.eeg.readout.out_features == network.meg.readout.out_features == 256
    with pytest.raises(ValueError, match="from each of 2 encoders, but there are 3 outputs: use model.fusion=add or"):
        models.build(Fusion(fusion="concat"), spec(n_outputs=3))


def test_each_encoder_reads_the_channels_of_its_kind() -> None:
    signal_spec = spec()
    network = models.build(Fusion(eeg=LSTM, meg=BRAIN, fusion="concat"), signal_spec).eval()
    x = torch.randn(3, 60, 10)
    both, no_meg = network(x, WHOSE), network(without(x, "meg", signal_spec), WHOSE)
    assert torch.equal(both[:, :3], no_meg[:, :3])
    assert torch.equal(no_meg[:, 3:], torch.zeros(3, 3))
    assert torch.equal(both[:, :3], network.eeg(x[:, :, [kind == "eeg" for kind in signal_spec.kinds]], WHOSE))


@pytest.mark.parametrize("how", ["add", "concat", "gated"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("lost", ["eeg", "meg"])
def test_a_window_without_one_of_the_two_teaches_that_encoder_nothing(how: Any, normalise: bool, lost: str) -> None:
    signal_spec = spec()
    torch.manual_seed(0)
    network = models.build(Fusion(eeg=BRAIN, meg=BRAIN, fusion=how, normalise=normalise), signal_spec)
    x = torch.randn(3, 60, 10)
    x[1] = without(x[1], lost, signal_spec)
    given = network(x, WHOSE)
    assert given.isfinite().all()
    (given[1] * torch.arange(6)).sum().backward()
    encoders = {"eeg": network.eeg, "meg": network.meg}
    assert all(p.grad.abs().max() == 0 for p in encoders.pop(lost).parameters())
    assert any(p.grad.abs().max() > 0 for p in encoders.popitem()[1].parameters())


@pytest.mark.parametrize("how", ["add", "concat", "gated"])
def test_a_window_is_decoded_as_if_it_were_alone(how: Any) -> None:
    signal_spec = spec()
    network = models.build(Fusion(eeg=BRAIN, meg=LSTM, fusion=how), signal_spec).eval()
    x = torch.randn(3, 60, 10)
    x[1], x[2] = without(x[1], "eeg", signal_spec), without(x[2], "meg", signal_spec)
    together = network(x, WHOSE)
    alone = torch.cat([network(x[at : at + 1], WHOSE[at : at + 1]) for at in range(3)])
    assert (together - alone).abs().max() < 1e-5
    if how == "add":  # what is there counts whole
        assert torch.allclose(together[1], network.meg(x[1:2, :, network.meg_at], WHOSE[1:2])[0], atol=1e-5)


class Scaled(nn.Module):
    """An encoder that divides by the spread of its window, as many do: of zeros it has no gradient."""

    n_times = None

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.readout = nn.Linear(n_channels, 6)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.readout(x)
        return (out / out.std(dim=1, keepdim=True))[:, 0]


@pytest.mark.parametrize("how", ["add", "gated"])
@pytest.mark.parametrize("nothing", ["in a window", "at all"])
def test_nothing_is_never_not_a_number(how: Any, nothing: str) -> None:
    network = models.build(Fusion(eeg=LSTM, meg=LSTM, fusion=how, normalise=True), spec())
    network.eeg, network.meg = Scaled(4), Scaled(6)
    x = torch.randn(3, 60, 10)
    x[1 if nothing == "in a window" else slice(None)] = 0
    given = network(x, WHOSE)
    given.sum().backward()
    assert torch.equal(given[1], torch.zeros(6))
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_what_each_encoder_gives_can_have_one_length() -> None:
    network = models.build(Fusion(eeg=LSTM, meg=BRAIN, fusion="concat", normalise=True), spec(n_outputs=512))
    given = network(torch.randn(3, 60, 10), WHOSE).unflatten(1, (2, 256))
    assert torch.allclose(given.norm(dim=2), torch.ones(3, 2))


def test_the_gate_learns_which_of_the_two_to_trust() -> None:
    """For the first of two targets the EEG is noise, for the second the MEG."""
    torch.manual_seed(0)
    gate = joining.Join("gated", 2, 2)
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    for _ in range(100):
        truth = torch.randn(64, 2)
        eeg, meg = truth.clone(), truth.clone()
        eeg[:, 0], meg[:, 1] = torch.randn(64), torch.randn(64)
        loss = nn.functional.mse_loss(gate([eeg, meg]), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2  # the mean of the two has 0.5


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ((), "got 0 channels of EEG, 0 of MEG: pick these two kinds"),
        (("eeg",) * 10, "got 10 channels of EEG, 0 of MEG"),
        (("eeg",) * 4 + ("mag",) * 4 + ("eog", "ecg"), r"4 channels of EEG, 4 of MEG and others \(ecg, eog\)"),
    ],
)
def test_other_channels_than_eeg_and_meg_are_named(kinds: tuple[Kind, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(Fusion(), replace(spec(), kinds=kinds))


@pytest.mark.parametrize("cfg", [Fusion(), Multipath()], ids=lambda cfg: cfg.name)
def test_windows_of_other_channels_are_refused(cfg: Model) -> None:
    with pytest.raises(ValueError, match="got 22 channels x 60 samples; this model was built for 10 channels"):
        models.build(cfg, spec())(torch.zeros(3, 60, 22), WHOSE)


def test_encoders_of_one_window_take_one_length() -> None:
    class Fixed(nn.Module):
        def __init__(self, n_times: int | None) -> None:
            super().__init__()
            self.n_times = n_times

    assert joining.one_length(Fixed(None), Fixed(None)) is None
    assert joining.one_length(Fixed(None), Fixed(60)) == 60
    with pytest.raises(ValueError, match="one takes 60 samples and another 64"):
        joining.one_length(Fixed(64), Fixed(60))


@pytest.mark.parametrize(
    "cfg",
    [Fusion(eeg=BRAIN, meg=BRAIN, fusion="gated", normalise=True), Multipath(waveform=BRAIN, spectrum=BRAIN)],
    ids=lambda cfg: cfg.name,
)
def test_it_compiles_and_autocasts(cfg: Model) -> None:
    signal_spec = spec(target_sfreq=100.0)
    network = models.build(cfg, signal_spec).eval()
    x = torch.randn(3, 60, 10)
    x[1] = without(x[1], "meg", signal_spec)
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(x, WHOSE)
    assert (compiled - network(x, WHOSE)).abs().max() < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert (network(x, WHOSE).float() - compiled).abs().max() < 0.1


def test_a_rhythm_stands_in_its_band_at_its_time() -> None:
    signal_spec = SignalSpec(("E1", "E2"), 100.0, 1, n_times=400)
    spectra = Spectra(signal_spec, frame_s=0.5, hop_s=0.1).eval()
    time_s = torch.arange(400) / 100
    x = torch.stack([torch.zeros(400), torch.sin(2 * torch.pi * 10 * time_s) * (time_s >= 2)], dim=1)[None]
    levels = spectra(x)[0]
    assert levels.shape == (40, 2, 26)
    bands = [name.partition(":")[2] for name in spectra.spec(1).channels]
    assert bands[:3] == ["0Hz", "2Hz", "4Hz"]
    assert (levels[25:38, 1].argmax(dim=1) == bands.index("10Hz")).all()
    assert levels[5:17].max() < levels[25:38, 1, 5].min() - 5  # before it begins, and on the other channel
    assert levels[:, 0].max() < levels[25:38, 1, 5].min() - 5


def test_frames_that_reach_beyond_the_window_say_nothing_of_later_times() -> None:
    """17 samples a hop do not divide 100: the sixth frame has two that are not there."""
    cfg = Multipath(waveform=LSTM, spectrum=LSTM, frame_s=0.2, hop_s=0.17)
    network = models.build(cfg, spec(target_sfreq=100.0))
    for n_times in (100, 102, 16, 1):
        assert network(torch.randn(3, n_times, 10), WHOSE).shape == (3, n_times, 6)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"hop_s": 1.0}, r"hop_s must lie in \(0, frame_s\], got 1.0 s, with frames of 0.5 s"),
        ({"picture": -1}, "picture must be 0 or above, got -1"),
    ],
)
def test_nonsense_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Multipath(**knobs)


def test_a_frame_without_bands_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a frame of 0.05 s has 5 samples at 100 Hz; needs at least 8"):
        models.build(Multipath(frame_s=0.05, hop_s=0.05), spec())


def test_power_that_no_linear_read_out_sees_is_learnt() -> None:
    """The target is how strong a rhythm is, whose phase is chance: its samples have mean 0 whatever it is."""
    torch.manual_seed(0)
    signal_spec = SignalSpec(("E1", "E2"), 100.0, 1, ("a",), 0.0, 100)
    network = models.build(Multipath(waveform=BiLSTM(hidden=2, layers=1), spectrum=LSTM, picture=4), signal_spec)
    objective = objectives.build(Regression(loss="mse"), signal_spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)

    def heard(n: int) -> Batch:
        strength, phase = torch.rand(n, 1), 6.28 * torch.rand(n, 1)
        wave = strength * torch.sin(6.28 * 12 * torch.arange(100) / 100 + phase)
        signal = torch.stack([wave, torch.zeros_like(wave)], dim=2) + 0.1 * torch.randn(n, 100, 2)
        return Batch(signal, strength, torch.zeros(n).long(), torch.arange(n))

    for _ in range(60):
        loss, _watched = objective(network, heard(64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert objective(network.eval(), heard(200))[0] < 0.02  # the mean of all would be off by 0.083
