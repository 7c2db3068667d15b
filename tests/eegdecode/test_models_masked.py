"""Masked autoencoders and TF-C have the sizes and numbers of their papers; others' checkpoints load."""

import dataclasses
import math
import sys
from typing import Any

import pytest
import torch

from eegdecode import models, noise
from eegdecode.models.braindecode import Braindecode
from eegdecode.models.mae import MAE
from eegdecode.models.mae_pretrain import MASKING, MAEPretrain
from eegdecode.models.tfc import TFC, magnitudes
from eegdecode.models.tfc_pretrain import TFCPretrain
from eegdecode.signals import SignalSpec
from hpc import config
from hpc.errors import ConfigError

FIRST = torch.zeros(1, dtype=torch.int64)  # a batch of one window, of the first subject
SMALL: Any = {"width": 32, "depth": 2, "heads": 4}
DECODER: Any = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


def spec(n_channels: int, n_times: int | None, n_outputs: int = 3, target_sfreq: float = 0.0) -> SignalSpec:
    names = tuple(f"E{index}" for index in range(n_channels))
    return SignalSpec(names, 128.0, n_outputs, ("sub-01",), target_sfreq, n_times)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("cfg", "n_channels", "n_times", "n_parameters"),
    [
        (MAEPretrain(preset="scmbm"), 1, 4496, 164_419_600),
        (MAEPretrain(preset="dreamdiffusion", mask_ratio=0.75), 128, 512, 165_181_952),
    ],
    ids=["scmbm", "dreamdiffusion"],
)
def test_autoencoders_are_as_large_as_the_authors(
    cfg: MAEPretrain, n_channels: int, n_times: int, n_parameters: int
) -> None:
    with torch.device("meta"):
        assert count(models.build(cfg, spec(n_channels, n_times))) == n_parameters


def test_how_much_is_hidden_is_to_be_said_where_code_and_config_disagree() -> None:
    with pytest.raises(ValueError, match=r"masks 0.75 of the patches, its config file 0.1: say which"):
        MAEPretrain(preset="dreamdiffusion")
    assert MAEPretrain().hidden == 0.75
    assert MAEPretrain(preset="dreamdiffusion", mask_ratio=0.1).hidden == 0.1
    assert (MAEPretrain().patch_samples, MAE(preset="dreamdiffusion").patch_samples) == (16, 4)


@pytest.mark.parametrize(("n_times", "n_patches"), [(200, 13), (500, 32), (208, 13), (512, 32), (16, 1), (10, 1)])
def test_a_window_is_wrapped_up_to_the_next_whole_patch_and_not_further(n_times: int, n_patches: int) -> None:
    network = models.build(MAE(**SMALL, wrap=True), spec(2, n_times))
    x = torch.randn(1, n_times, 2)
    cut = network.patches(x)
    assert cut.shape == (1, n_patches, 32)
    flat = cut.reshape(1, 16 * n_patches, 2)
    assert torch.equal(flat[:, :n_times], x)
    assert torch.equal(flat[:, n_times:], x[:, : 16 * n_patches - n_times])


def test_half_a_patch_is_refused_unless_wrapped() -> None:
    with pytest.raises(
        ValueError, match=r"200 samples is 12.5 patches of 16: take 192 or 208 samples, or set model.wrap"
    ):
        models.build(MAE(**SMALL), spec(2, 200))
    with pytest.raises(ValueError, match="mae_pretrain: got 2 channels x 8 samples; needs at least 16 samples"):
        models.build(MAEPretrain(**SMALL), spec(2, 8))
    with pytest.raises(ValueError, match="of 1 patches a mask_ratio of 0.75 leaves 0 to be seen"):
        models.build(MAEPretrain(**SMALL), spec(2, 16))
    with pytest.raises(ValueError, match="mae takes windows of one length only"):
        models.build(MAE(**SMALL), spec(2, None))


def test_the_autoencoder_equals_a_plain_computation() -> None:
    """A window at a time, attention spelled out, as He et al. describe it."""
    network = models.build(MAEPretrain(**SMALL, **DECODER, patch=4, mask_ratio=0.6), spec(3, 40)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    p = dict(network.named_parameters())
    x, key = torch.randn(2, 40, 3), torch.tensor([3, 8])
    decoded, patches, hidden = network(x, FIRST, key)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def normed(name: str, x: torch.Tensor) -> torch.Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return x * p[f"{name}.weight"] + p[f"{name}.bias"]

    def block(name: str, x: torch.Tensor, heads: int) -> torch.Tensor:
        q, k, v = (
            part.unflatten(1, (heads, -1))
            for part in linear(f"{name}.attn.qkv", normed(f"{name}.norm1", x)).chunk(3, 1)
        )
        weights = (torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[2])).softmax(dim=2)
        x = x + linear(f"{name}.attn.proj", torch.einsum("hij,jhd->ihd", weights, v).flatten(1))
        middle = torch.nn.functional.gelu(linear(f"{name}.mlp.fc1", normed(f"{name}.norm2", x)))
        return x + linear(f"{name}.mlp.fc2", middle)

    def place(index: int, width: int) -> torch.Tensor:
        angles = [index / 10000 ** (k / (width // 2)) for k in range(width // 2)]
        return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])

    order = noise.permutation(key, MASKING, 10)
    for index in range(2):
        seen = order[index, :4].tolist()
        assert hidden[index].tolist() == [0.0 if patch in seen else 1.0 for patch in range(10)]
        rows = [x[index, 4 * patch : 4 * patch + 4].flatten() for patch in range(10)]
        assert torch.equal(patches[index], torch.stack(rows))
        tokens = [p["encoder.cls_token"][0, 0]]
        tokens += [linear("encoder.patch_embed", rows[patch]) + place(patch, 32) for patch in seen]
        z = torch.stack(tokens)
        for depth in range(2):
            z = block(f"encoder.blocks.{depth}", z, 4)
        z = linear("decoder.embed", normed("encoder.norm", z))
        every = [z[1 + seen.index(patch)] if patch in seen else p["decoder.mask_token"][0, 0] for patch in range(10)]
        z = torch.stack([z[0], *(token + place(patch, 16) for patch, token in enumerate(every))])
        z = block("decoder.blocks.0", z, 2)
        assert torch.allclose(decoded[index], linear("decoder.pred", normed("decoder.norm", z))[1:], atol=1e-4)


@pytest.mark.parametrize("ratio", [0.75, 0.9, 0.1, 0.7])
def test_as_many_patches_are_seen_in_every_window_as_was_said(ratio: float) -> None:
    network = models.build(MAEPretrain(**SMALL, **DECODER, patch=4, mask_ratio=ratio), spec(2, 80))
    x, keys = torch.randn(6, 80, 2), torch.arange(6)
    hidden = network(x, FIRST, keys).hidden
    assert (hidden.sum(dim=1) == round(20 * ratio)).all()
    assert torch.equal(network(x[2:3], FIRST, keys[2:3]).hidden[0], hidden[2])
    assert len({tuple(row.tolist()) for row in hidden}) > 1


def test_what_is_hidden_is_not_looked_at() -> None:
    network = models.build(MAEPretrain(**SMALL, **DECODER, patch=4), spec(2, 80)).eval()
    x, key = torch.randn(1, 80, 2), FIRST
    hidden = network(x, FIRST, key).hidden.repeat_interleave(4, dim=1)[:, :, None].bool()
    other = torch.where(hidden, torch.randn_like(x), x)
    assert torch.equal(network(x, FIRST, key).decoded, network(other, FIRST, key).decoded)


def test_a_pretrained_encoder_is_taken_over_whole() -> None:
    pretrained = models.build(MAEPretrain(**SMALL, **DECODER), spec(2, 64))
    network = models.build(MAE(**SMALL), spec(2, 64))
    given = pretrained.state_dict()
    keys = network.load_state_dict({name: value for name, value in given.items() if name.startswith("encoder.")}, False)
    assert keys.missing_keys == ["readout.weight", "readout.bias"] and not keys.unexpected_keys
    tfc = models.build(TFC(), spec(2, 64)).load_state_dict(models.build(TFCPretrain(), spec(2, 64)).state_dict(), False)
    assert all(name.startswith("classifier.") for name in tfc.missing_keys) and not tfc.unexpected_keys


@pytest.mark.parametrize("form", ["paper", "released"])
def test_tfc_is_as_large_as_the_authors(form: Any) -> None:
    network = models.build(TFC(form=form), spec(1, 178, n_outputs=2))
    assert count(network.encoder) == 1_180_184
    assert count(network.classifier) == 16_578


def test_only_the_released_tfc_lets_windows_of_a_batch_see_each_other() -> None:
    x = torch.randn(4, 64, 2)
    other = torch.cat([x[:1], torch.randn(3, 64, 2)])
    for form, apart in (("paper", 0.0), ("released", 0.1)):
        torch.manual_seed(0)
        network = models.build(TFCPretrain(form=form), spec(2, 64)).eval()  # type: ignore[arg-type]
        one, two = network(x, FIRST, magnitudes(x)), network(other, FIRST, magnitudes(other))
        moved = max((a[0] - b[0]).abs().max().item() for a, b in zip(one, two, strict=True))
        assert (moved < 1e-6) if form == "paper" else (moved > apart)


def test_tfc_needs_a_width_that_its_heads_can_share() -> None:
    with pytest.raises(ValueError, match="got 65 samples, use 64 or 66"):
        models.build(TFC(), spec(2, 65))


@pytest.mark.parametrize(
    "cfg",
    [MAE(**SMALL, checkpoint=True), MAEPretrain(**SMALL, **DECODER), TFC(), TFCPretrain(form="released")],
    ids=lambda cfg: cfg.name,
)
def test_they_compile_whole_and_compute_in_bf16(cfg: Any) -> None:
    network = models.build(cfg, spec(3, 128))
    x = torch.randn(4, 128, 3)
    more: dict[str, Any] = {"masked": (torch.arange(4),), "tfc": (magnitudes(x),), "outputs": ()}
    given = (x, FIRST.repeat(4), *more[cfg.output_kind])
    with torch.autocast("cpu", torch.bfloat16):
        out = network(*given)
        (out if cfg.output_kind == "outputs" else out[0]).float().square().sum().backward()
    plain = network.eval()(*given)
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(*given)
    for one, other in zip(plain, compiled, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("cfg", [MAE(**SMALL), TFC()], ids=lambda cfg: cfg.name)
def test_they_give_classes_embeddings_and_sequences(cfg: Any) -> None:
    x = torch.randn(2, 128, 3)
    assert models.build(cfg, spec(3, 128))(x, FIRST).shape == (2, 3)
    assert models.build(cfg, spec(3, 128, 5, target_sfreq=64.0))(x, FIRST).shape == (2, 64, 5)
    with pytest.raises(ValueError, match="got 4 channels x 128 samples; this model was built for 3 channels"):
        models.build(cfg, spec(3, 128))(torch.zeros(1, 128, 4), FIRST)


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        (MAE, {"width": 30, "heads": 4}, "a multiple of its heads, got 30 for 4 heads"),
        (MAE, {"patch": 0}, "patch must be at least 1, got 0"),
        (MAEPretrain, {"mask_ratio": 1.0}, "mask_ratio must lie between 0 and 1, got 1.0"),
        (MAEPretrain, {"decoder_width": 10, "decoder_heads": 4}, "got 10 for 4 heads"),
        (Braindecode, {"settings": {"n_times": 3}}, "n_times come from the data: leave them out of settings"),
    ],
)
def test_nonsense_and_what_cannot_be_had_are_refused(kind: Any, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**knobs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eegpt2", "model: eegpt2 is not provided: .* use model=eegpt if you meant that"),
        ("neurogpt", "model: neurogpt is not provided: .* GPL-3"),
    ],
)
def test_a_known_model_that_is_not_provided_says_why_and_is_no_choice(name: str, message: str) -> None:
    assert name not in models.MODELS
    with pytest.raises(ConfigError, match=message):
        config.build(models.Model, {"name": name}, "model")  # type: ignore[type-abstract]


def test_without_braindecode_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "braindecode", None)
    with pytest.raises(ValueError, match="needs braindecode, which cannot be imported here .*pip install braindecode"):
        models.build(Braindecode(), spec(3, 128))


def test_a_model_of_braindecode_gives_what_the_target_asks_for() -> None:
    theirs = pytest.importorskip("braindecode.models")
    cfg = Braindecode(model="ShallowFBCSPNet", settings={"n_filters_time": 10})
    torch.manual_seed(0)
    network = models.build(cfg, spec(3, 200)).eval()
    torch.manual_seed(0)
    same = theirs.ShallowFBCSPNet(n_chans=3, n_outputs=3, n_times=200, sfreq=128.0, n_filters_time=10).eval()
    x = torch.randn(2, 200, 3)
    assert torch.equal(network(x, FIRST), same(x.mT))
    assert models.build(cfg, spec(3, 200, 5, target_sfreq=64.0))(x, FIRST).shape == (2, 100, 5)
    with pytest.raises(ValueError, match=r"TCN gives \[3, 144\] for a window, but 3 numbers are needed"):
        models.build(Braindecode(model="TCN"), spec(3, 200))(x, FIRST)
    with pytest.raises(ValueError, match="SignalJEPA_Contextual cannot be built .* KeyError: 'loc'"):
        models.build(Braindecode(model="SignalJEPA_Contextual"), spec(3, 200))
    around = tuple((0.05 * math.cos(angle), 0.05 * math.sin(angle), 0.08) for angle in range(3))
    placed = dataclasses.replace(spec(3, 200), positions=around)
    assert models.build(Braindecode(model="DGCNN"), placed)(x, FIRST).shape == (2, 3)
    with pytest.raises(ValueError, match="no model 'EEGNett'. Did you mean EEGNet"):
        models.build(Braindecode(model="EEGNett"), spec(3, 200))
    with pytest.raises(ValueError, match="ShallowFBCSPNet has no setting n_filter: it takes .*n_filters_time"):
        models.build(Braindecode(model="ShallowFBCSPNet", settings={"n_filter": 3}), spec(3, 200))
