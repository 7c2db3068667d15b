"""EEGPT has the sizes, the names and the numbers of its authors."""

import dataclasses
import io
import math
from typing import Any

import pytest
import torch

from eegdecode import models, objectives
from eegdecode.models.eegpt import EEGPT, patches
from eegdecode.models.eegpt_pretrain import EEGPTPretrain, Masks
from eegdecode.models.parts import codebook
from eegdecode.objectives import Batch
from eegdecode.objectives.eegpt import Alignment
from eegdecode.signals import SignalSpec

FIRST = torch.zeros(1, dtype=torch.int64)  # a batch of one window, of the first subject


def spec(channels: tuple[str, ...] = codebook.PRETRAINED, n_times: int = 1024, **more: Any) -> SignalSpec:
    return dataclasses.replace(SignalSpec(channels, 256.0, 4, ("sub-01",), n_times=n_times), **more)


def classes(channels: tuple[str, ...] = codebook.PRETRAINED, n_times: int = 1024) -> SignalSpec:
    return spec(channels, n_times, class_values=(0.0, 1.0, 2.0, 3.0))


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("variant", "encoder", "predictor", "reconstructor", "everything"),
    [
        ("tiny1", 108_288, 108_484, 212_420, 537_480),
        ("tiny2", 108_480, 108_676, 212_420, 538_056),
        ("tiny3", 408_384, 408_580, 412_356, 1_637_704),
        ("little", 1_603_200, 1_619_976, 1_619_272, 6_445_648),
        ("base1", 4_771_840, 4_870_928, 4_837_456, 19_252_064),
        ("base2", 6_352_128, 6_451_216, 6_416_976, 25_572_448),
        ("base3", 18_980_864, 19_441_168, 19_243_088, 76_645_984),
        ("large", 25_287_168, 25_747_472, 25_547_856, 101_869_664),
    ],
)
def test_each_variant_is_as_large_as_the_authors(
    variant: Any, encoder: int, predictor: int, reconstructor: int, everything: int
) -> None:
    with torch.device("meta"):
        network = models.build(EEGPTPretrain(variant=variant), spec())
    parts = [count(part) for part in (network.encoder, network.predictor, network.reconstructor, network)]
    assert parts == [encoder, predictor, reconstructor, everything]


def authors_checkpoint(width: int = 64, summaries: int = 1, depths: tuple[int, ...] = (2, 2, 4)) -> dict[str, Any]:
    """What a Lightning checkpoint of the authors' tiny1 holds: their names and shapes, written down by hand."""
    draw = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, n_in: int, n_out: int) -> None:
        shapes.update({f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)})

    def norm(name: str) -> None:
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    def blocks(name: str, depth: int) -> None:
        for block in (f"{name}.{index}" for index in range(depth)):
            norm(f"{block}.norm1")
            norm(f"{block}.norm2")
            linear(f"{block}.attn.qkv", width, 3 * width)
            linear(f"{block}.attn.proj", width, width)
            linear(f"{block}.mlp.fc1", width, 4 * width)
            linear(f"{block}.mlp.fc2", 4 * width, width)

    for name in ("encoder", "target_encoder"):
        shapes[f"{name}.summary_token"] = (1, summaries, width)
        shapes[f"{name}.patch_embed.proj.weight"] = (width, 1, 1, 64)
        shapes[f"{name}.patch_embed.proj.bias"] = (width,)
        shapes[f"{name}.chan_embed.weight"] = (62, width)
        blocks(f"{name}.blocks", depths[0])
        norm(f"{name}.norm")
    shapes["predictor.mask_token"] = (1, 1, summaries, width)
    shapes["reconstructor.mask_token"] = (1, 1, width)
    shapes["reconstructor.chan_embed.weight"] = (62, width)
    for name, depth, n_out in (("predictor", depths[1], width), ("reconstructor", depths[2], 64)):
        linear(f"{name}.{name}_embed", width, width)
        shapes[f"{name}.time_embed.freqs"] = (4,)
        blocks(f"{name}.{name}_blocks", depth)
        norm(f"{name}.{name}_norm")
        linear(f"{name}.{name}_proj", width, n_out)
    tensors = {name: 0.1 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    return {"epoch": 199, "global_step": 1, "state_dict": tensors, "hyper_parameters": {"USE_LN": True}}


def test_the_authors_checkpoint_loads_strictly_and_without_running_code() -> None:
    file = io.BytesIO()
    torch.save(authors_checkpoint(), file)
    file.seek(0)
    tensors = torch.load(file, weights_only=True)["state_dict"]
    network = models.build(EEGPTPretrain(variant="tiny1"), spec())
    network.load_state_dict(tensors, strict=True)
    assert torch.equal(network.predictor.time_embed.freqs, tensors["predictor.time_embed.freqs"])

    # To decode, the encoder that followed is taken; only what is ours is initialised
    decoder = models.build(EEGPT(variant="tiny1"), classes())
    keys = decoder.load_state_dict(decoder.translate(tensors), strict=False)
    assert not keys.unexpected_keys
    assert all(name.startswith(decoder.heads) for name in keys.missing_keys)
    assert torch.equal(decoder.encoder.norm.weight, tensors["target_encoder.norm.weight"])


def test_what_was_pretrained_here_goes_on_as_well() -> None:
    pretrained = models.build(EEGPTPretrain(variant="tiny1"), spec())
    decoder = models.build(EEGPT(variant="tiny1"), classes())
    keys = decoder.load_state_dict(decoder.translate(pretrained.state_dict()), strict=False)
    assert not keys.unexpected_keys and all(name.startswith(decoder.heads) for name in keys.missing_keys)
    plain = {name: value for name, value in pretrained.state_dict().items() if name.startswith("encoder.")}
    assert decoder.translate(plain) == plain


# A second way to the same numbers: a window at a time, attention spelled out, as the authors' code reads


def linear(tensors: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def normed(tensors: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def turned(x: torch.Tensor, times: list[int], freqs: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    for token, time in enumerate(times):
        for pair, frequency in enumerate(freqs.tolist()):
            a, b = x[token, 2 * pair].item(), x[token, 2 * pair + 1].item()
            angle = time / 2 * frequency
            x[token, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
            x[token, 2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
    return x


def through(
    tensors: dict[str, torch.Tensor], name: str, depth: int, x: torch.Tensor, times: list[int] | None = None
) -> torch.Tensor:
    """Tokens [token, feature] through blocks of four heads."""
    for block in (
        f"{name}_blocks.{index}" if times is not None else f"{name}.blocks.{index}" for index in range(depth)
    ):
        q, k, v = linear(tensors, f"{block}.attn.qkv", normed(tensors, f"{block}.norm1", x)).chunk(3, dim=1)
        heads = []
        for head in range(4):
            part = slice(head * x.shape[1] // 4, (head + 1) * x.shape[1] // 4)
            qh, kh = q[:, part], k[:, part]
            if times is not None:
                freqs = tensors[f"{name.split('.')[0]}.time_embed.freqs"]
                qh, kh = turned(qh, times, freqs), turned(kh, times, freqs)
            heads.append((qh @ kh.T / math.sqrt(qh.shape[1])).softmax(dim=1) @ v[:, part])
        x = x + linear(tensors, f"{block}.attn.proj", torch.cat(heads, dim=1))
        hidden = torch.nn.functional.gelu(linear(tensors, f"{block}.mlp.fc1", normed(tensors, f"{block}.norm2", x)))
        x = x + linear(tensors, f"{block}.mlp.fc2", hidden)
    return x


def test_the_pretraining_equals_a_plain_computation_for_a_given_mask() -> None:
    n_patches, n_channels, summaries, depths = 3, 5, 4, (2, 2, 4)
    channels = ("CZ", "FP1", "PO8", "C3", "O2")
    numbers = [codebook.NAMES.index(name) for name in channels]
    network = models.build(EEGPTPretrain(variant="tiny2", seen_channels=2), spec(channels, 64 * n_patches)).eval()
    checkpoint = authors_checkpoint(summaries=summaries)["state_dict"]
    for name in ("predictor", "reconstructor"):
        checkpoint[f"{name}.time_embed.freqs"] = 10000.0 ** (-torch.arange(4) / 4)
        assert torch.allclose(getattr(network, name).time_embed.freqs, checkpoint[f"{name}.time_embed.freqs"])
    network.load_state_dict(checkpoint)

    x = torch.randn(2, 64 * n_patches, n_channels, generator=torch.Generator().manual_seed(1))
    seen = {2: [4, 1], 0: [0, 3]}  # time: channels
    asked = [(1, channel) for channel in range(n_channels)] + [(2, 0), (0, 4)]
    masks = Masks(
        torch.tensor([list(seen)] * 2),
        torch.tensor([[[time * n_channels + channel for channel in seen[time]] for time in seen]] * 2),
        torch.tensor([[time * n_channels + channel for time, channel in asked]] * 2),
    )
    predicted, target, reconstructed, cut = network.aligned(patches(x), masks)

    def encoded(name: str, window: torch.Tensor, time: int, which: list[int]) -> torch.Tensor:
        weight = checkpoint[f"{name}.patch_embed.proj.weight"].flatten(1)
        tokens = [
            weight @ window[64 * time : 64 * (time + 1), channel]
            + checkpoint[f"{name}.patch_embed.proj.bias"]
            + checkpoint[f"{name}.chan_embed.weight"][numbers[channel]]
            for channel in which
        ]
        together = torch.cat([torch.stack(tokens), checkpoint[f"{name}.summary_token"][0]])
        return normed(checkpoint, f"{name}.norm", through(checkpoint, name, depths[0], together)[-summaries:])

    for index, window in enumerate(x):
        every = list(range(n_channels))
        for time in range(n_patches):
            assert torch.allclose(target[index, time], encoded("target_encoder", window, time, every), atol=1e-5)
        known = {time: encoded("encoder", window, time, which) for time, which in seen.items()}
        rows = [
            linear(checkpoint, "predictor.predictor_embed", known[time])
            if time in known
            else checkpoint["predictor.mask_token"][0, 0]
            for time in range(n_patches)
        ]
        times = [time for time in range(n_patches) for _ in range(summaries)]
        out = through(checkpoint, "predictor.predictor", depths[1], torch.cat(rows), times)
        out = linear(checkpoint, "predictor.predictor_proj", normed(checkpoint, "predictor.predictor_norm", out))
        assert torch.allclose(predicted[index].flatten(0, 1), out, atol=1e-5)

        combined = [known.get(time, out[summaries * time : summaries * (time + 1)]) for time in range(n_patches)]
        rows = [linear(checkpoint, "reconstructor.reconstructor_embed", one) for one in combined]
        queries = [
            checkpoint["reconstructor.mask_token"][0, 0]
            + checkpoint["reconstructor.chan_embed.weight"][numbers[channel]]
            for _, channel in asked
        ]
        together = torch.cat([*rows, torch.stack(queries)])
        times += [time for time, _ in asked]
        out = through(checkpoint, "reconstructor.reconstructor", depths[2], together, times)[-len(asked) :]
        out = normed(checkpoint, "reconstructor.reconstructor_norm", out)
        out = linear(checkpoint, "reconstructor.reconstructor_proj", out)
        assert torch.allclose(reconstructed[index], out, atol=1e-5)
        for place, (time, channel) in enumerate(asked):
            assert torch.equal(cut[index, place], window[64 * time : 64 * (time + 1), channel])


def test_the_loss_is_that_of_normed_targets_and_normed_patches() -> None:
    network = models.build(EEGPTPretrain(variant="tiny1", seen_channels=4), spec(codebook.TEN_TWENTY, 256))
    batch = Batch(torch.randn(3, 256, 19), torch.zeros(3, 0), FIRST.repeat(3), torch.arange(3))
    loss, watched = objectives.build(Alignment(), spec())(network, batch)
    predicted, target, reconstructed, cut = network(batch.signal, batch.subject, batch.rng_key)

    def plain(found: torch.Tensor, wanted: torch.Tensor) -> float:
        wanted = (wanted - wanted.mean(-1, keepdim=True)) / (wanted.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return ((found - wanted) ** 2).mean().item()

    aligned, rebuilt = plain(predicted, target), plain(reconstructed, cut)
    assert loss.item() == pytest.approx(aligned + rebuilt, abs=1e-5)
    assert watched["aligned"].item() == pytest.approx(aligned, abs=1e-5)
    without, _ = objectives.build(Alignment(align=0.0), spec())(network, batch)
    assert without.item() == pytest.approx(rebuilt, abs=1e-5)


def test_what_is_judged_is_the_rebuilding_as_the_other_target_moves() -> None:
    network = models.build(EEGPTPretrain(variant="tiny1", seen_channels=4), spec(codebook.TEN_TWENTY, 256)).eval()
    batch = Batch(torch.randn(3, 256, 19), torch.zeros(3, 0), FIRST.repeat(3), torch.arange(3))
    loss, watched = objectives.build(Alignment(), spec())(network, batch)
    assert loss == watched["rebuilt"] and watched["aligned"] > 0.1


def test_half_of_the_times_and_twelve_of_58_channels_are_seen() -> None:
    network = models.build(EEGPTPretrain(variant="tiny1"), spec())
    keys = torch.arange(50)
    masks = network.masks(keys)
    assert masks.times.shape == (50, 8) and masks.seen.shape == (50, 8, 12)
    assert masks.asked.shape == (50, 8 * 58 + round(0.2 * 8 * 46))
    for index in range(50):
        seen, asked = set(masks.seen[index].flatten().tolist()), set(masks.asked[index].tolist())
        assert len(seen) == 96 and len(asked) == masks.asked.shape[1] and not seen & asked
        dark = set(range(16)) - set(masks.times[index].tolist())
        assert {number for time in dark for number in range(58 * time, 58 * (time + 1))} <= asked
        assert {number // 58 for number in seen} == set(masks.times[index].tolist())
        alone = network.masks(keys[index : index + 1])
        assert all(torch.equal(one[0], together[index]) for one, together in zip(alone, masks, strict=True))
    often = torch.bincount(masks.times.flatten(), minlength=16)
    assert often.min() > 12 and often.max() < 38  # of 25 each


def test_what_is_not_seen_is_not_looked_at() -> None:
    network = models.build(EEGPTPretrain(variant="tiny1", seen_channels=4), spec(codebook.TEN_TWENTY, 256)).eval()
    x, key = torch.randn(1, 256, 19), FIRST
    seen = torch.zeros(4 * 19, dtype=torch.bool)
    seen[network.masks(key).seen.flatten()] = True
    other = torch.where(seen.view(4, 1, 19).expand(4, 64, 19).reshape(256, 19), x, torch.randn(1, 256, 19))
    before, after = network(x, FIRST, key), network(other, FIRST, key)
    assert torch.equal(before.predicted, after.predicted) and torch.equal(before.reconstructed, after.reconstructed)
    assert not torch.allclose(before.target, after.target)


def test_the_encoder_that_sees_everything_follows_ever_slower_and_is_not_trained() -> None:
    network = models.build(EEGPTPretrain(variant="tiny1", seen_channels=4), spec(codebook.TEN_TWENTY, 256))
    batch = Batch(torch.randn(2, 256, 19), torch.zeros(2, 0), FIRST.repeat(2), torch.arange(2))
    objectives.build(Alignment(), spec())(network, batch)[0].backward()
    assert all(parameter.grad is None for parameter in network.target_encoder.parameters())
    trained = [*network.encoder.named_parameters(), *network.predictor.named_parameters()]
    assert all(value.grad is not None for name, value in trained if not name.endswith("freqs"))
    torch.nn.init.ones_(network.encoder.norm.weight)
    for done, expected in ((0.0, 0.004), (0.5, 0.002), (1.0, 0.0)):
        torch.nn.init.zeros_(network.target_encoder.norm.weight)
        for act in models.after_steps(network):
            act(done)
        assert network.target_encoder.norm.weight[0].item() == pytest.approx(expected, abs=1e-7)


def test_older_names_and_any_case_are_known_and_strange_ones_are_listed(caplog: pytest.LogCaptureFixture) -> None:
    assert len(codebook.NAMES) == 62 and len(codebook.PRETRAINED) == 58 and len(codebook.TEN_TWENTY) == 19
    older = ("Fp1", "T3", "t4", "T5", "T6", "Fc5.")
    named = [codebook.NAMES[codebook.number(name)] for name in older]  # type: ignore[index]
    assert named == ["FP1", "T7", "T8", "P7", "P8", "FC5"]
    assert codebook.places(("Cz", "TP9", "FT10", "Pz"), "drop") == (
        [0, 3],
        [codebook.NAMES.index("CZ"), codebook.NAMES.index("PZ")],
    )
    assert "EEGPT does not know TP9, FT10, 2 of 4 channels: they are left out" in caplog.text
    with pytest.raises(ValueError, match="does not know TP9, 1 of 2 channels: .* unknown=drop"):
        models.build(EEGPT(variant="tiny1", spatial_filter=0, unknown="error"), spec(("Cz", "TP9")))
    with pytest.raises(ValueError, match="does not know E1, 1 of 1 channels: rename them"):
        models.build(EEGPT(variant="tiny1", spatial_filter=0), spec(("E1",)))


def test_the_order_of_channels_does_not_matter_as_they_have_names() -> None:
    names = (*codebook.TEN_TWENTY[:6], "TP9")
    order = [3, 6, 0, 5, 1, 4, 2]
    cfg = EEGPT(variant="tiny2", spatial_filter=0)
    one = models.build(cfg, classes(names, 256)).eval()
    other = models.build(cfg, classes(tuple(names[place] for place in order), 256)).eval()
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 256, 7)
    assert torch.allclose(one(x, FIRST), other(x[:, :, order], FIRST), atol=1e-5)
    assert not torch.allclose(one(x, FIRST), one(x[:, :, order], FIRST), atol=1e-3)


def test_the_linear_probe_is_the_authors() -> None:
    network = models.build(EEGPT(train="probe", variant="tiny1"), classes(tuple(f"E{index}" for index in range(22))))
    assert count(network.filter) == 22 * 19 + 19 == 437
    with torch.device("meta"):
        large = models.build(EEGPT(train="probe"), classes())
    assert (large.probe.in_features, large.probe.out_features) == (2048, 16)
    assert (large.readout.linear.in_features, large.readout.linear.out_features) == (256, 4)

    limits = [(network.filter, 1.0), (network.probe, 1.0), (network.readout.linear, 0.25)]
    optimizer = torch.optim.SGD(network.parameters(), lr=100.0)
    network(torch.randn(2, 1024, 22), FIRST).square().sum().backward()
    optimizer.step()
    assert all(layer.weight.norm(dim=1).max() > limit for layer, limit in limits)
    for act in models.after_steps(network):
        act(0.0)
    assert all(layer.weight.norm(dim=1).max() <= limit + 1e-6 for layer, limit in limits)


def test_a_shorter_stride_gives_more_patches() -> None:
    network = models.build(EEGPT(variant="tiny1", patch_stride=32), classes(n_times=512))
    assert network.readout.linear.in_features == 15 * 16 == 240
    assert network(torch.randn(1, 512, 58), FIRST).shape == (1, 4)


@pytest.mark.parametrize(
    ("cfg", "data", "said"),
    [
        (EEGPT(variant="tiny1"), spec(), []),
        (EEGPT(variant="tiny1", patch_stride=32), spec(n_times=544), []),
        (
            EEGPT(variant="tiny1"),
            spec(n_times=1000, sfreq=200.0),
            [
                "EEGPT was trained at 256 Hz, where this signal has 200: resample it in preprocess; it does not read "
                "the last 40 of 1000 samples: take windows of 960"
            ],
        ),
        (
            EEGPTPretrain(variant="tiny1"),
            spec(n_times=300),
            ["EEGPT does not read the last 44 of 300 samples: take windows of 256"],
        ),
    ],
)
def test_what_is_not_read_and_another_rate_are_said_in_a_line(
    cfg: Any, data: SignalSpec, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    models.build(cfg, data)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == said


@pytest.mark.parametrize("train", ["probe", "last", "all"])
def test_only_what_is_asked_for_learns(train: Any) -> None:
    network = models.build(EEGPT(variant="tiny3", train=train, spatial_filter=0), classes(codebook.TEN_TWENTY, 256))
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network.train()
    assert network.encoder.training == (train != "probe")
    network(torch.randn(2, 256, 19), FIRST).square().sum().backward()
    learns = {name for name, value in network.encoder.named_parameters() if value.grad is not None}
    expected = {
        "probe": set(),
        "last": {name for name in before if name.startswith(("blocks.7.", "norm."))},
        "all": set(before),
    }[train]
    assert learns == expected
    torch.optim.AdamW(network.parameters(), weight_decay=0.5).step()
    moved = {name for name, value in network.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == expected
    assert network.probe.weight.grad is not None


def test_a_planted_spectrogram_is_followed() -> None:
    torch.manual_seed(0)
    wanted = SignalSpec(codebook.TEN_TWENTY[:6], 256.0, 8, ("sub-01",), 32.0, n_times=256)
    network = models.build(EEGPT(variant="tiny1", dropout=0.0, probe=32), wanted)
    bands, target = torch.randn(3, 8), torch.randn(8, 6)

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mel bands that move slowly, and six channels that depend on them."""
        mel = torch.nn.functional.interpolate(torch.randn(n, 3, 6), 32, mode="linear").mT @ bands
        x = torch.nn.functional.interpolate((mel @ target).mT, 256, mode="linear").mT
        return x + torch.randn(n, 256, 6), mel

    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(180):
        x, mel = draw(16)
        loss = torch.nn.functional.mse_loss(network(x, FIRST), mel)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for act in models.after_steps(network):
            act(0.0)
    x, mel = draw(64)
    with torch.no_grad():
        out = network.eval()(x, FIRST)
    assert out.shape == (64, 32, 8)
    assert 1 - (out - mel).square().mean() / mel.var() > 0.5


@pytest.mark.parametrize(
    "cfg",
    [EEGPT(variant="tiny1", checkpoint=True), EEGPTPretrain(variant="tiny1", seen_channels=4)],
    ids=lambda c: c.name,
)
def test_it_compiles_whole_and_computes_in_bf16(cfg: Any) -> None:
    network = models.build(cfg, classes(codebook.TEN_TWENTY, 256))
    given = (torch.randn(2, 256, 19), FIRST.repeat(2), torch.arange(2))[: 2 if cfg.output_kind == "outputs" else 3]
    with torch.autocast("cpu", torch.bfloat16):
        out = network(*given)
        (out if cfg.output_kind == "outputs" else out.reconstructed + 0).float().square().sum().backward()
    plain = network.eval()(*given)
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(*given)
    for one, other in zip(plain, compiled, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_wrong_shapes_are_told() -> None:
    network = models.build(EEGPT(variant="tiny1"), classes(n_times=512))
    with pytest.raises(ValueError, match="got 22 channels x 512 samples; this model was built for 58 channels"):
        network(torch.zeros(1, 512, 22), FIRST)
    with pytest.raises(ValueError, match="eegpt: got 58 channels x 32 samples; needs at least 64 samples"):
        models.build(EEGPT(variant="tiny1"), classes(n_times=32))
    with pytest.raises(ValueError, match="seen_channels is 12 of each time, but there are 6 channels"):
        models.build(EEGPTPretrain(variant="tiny1"), spec(codebook.TEN_TWENTY[:6]))
    with pytest.raises(ValueError, match="seen_times must lie"):
        EEGPTPretrain(seen_times=1.0)


def test_the_encoder_equals_braindecodes() -> None:
    theirs_of = pytest.importorskip("braindecode.models").EEGPT
    channels = codebook.TEN_TWENTY
    theirs = theirs_of(
        n_outputs=4,
        n_chans=19,
        n_times=1024,
        sfreq=256,
        patch_stride=64,
        chan_proj_type="none",
        chs_info=[{"ch_name": name} for name in channels],
        return_encoder_output=True,
    ).eval()
    given = theirs.state_dict()
    ours = models.build(EEGPT(spatial_filter=0), classes(channels)).eval()
    names = set(ours.encoder.state_dict())
    prefix = next(key.removesuffix("summary_token") for key in given if key.endswith("summary_token"))
    ours.encoder.load_state_dict({name: given[prefix + name] for name in names})
    x = torch.randn(2, 1024, 19)
    with torch.no_grad():
        wanted = theirs(x.mT)
        encoded = ours.encoder(patches(x), ours.electrodes)
    assert (encoded.flatten() - wanted.flatten()).abs().max() <= 1e-5
