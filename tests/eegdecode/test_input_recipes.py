"""What published weights expect of a signal is made of a study's, or refused in a sentence; nothing is downloaded."""

import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eegdecode import models, sphere
from eegdecode.models.bilstm import BiLSTM
from eegdecode.models.braindecode import Braindecode
from eegdecode.models.eegnet import EEGNet
from eegdecode.models.eegpt import EEGPT
from eegdecode.models.pretrained import recipes
from eegdecode.models.pretrained.input import Input
from eegdecode.models.pretrained.recipes import RECIPES, recipe
from eegdecode.signals import SignalSpec
from eegdecode.training import transfer
from eegdecode.training.config import Start
from eegdecode.weights import inputs
from eegdecode.weights.files import look
from tests.conftest import Launch

CHANNELS = (
    "Fp1",
    "Fp2",
    "F7",
    "F3",
    "Fz",
    "F4",
    "F8",
    "T3",
    "C3",
    "Cz",
    "C4",
    "T4",
    "T5",
    "P3",
    "Pz",
    "P4",
    "T6",
    "O1",
    "O2",
)
SMALL: dict[str, tuple[int, dict[str, Any]]] = {
    "eegpt": (256, {"depth": 1, "embed_dim": 64, "num_heads": 4}),
    "labram": (400, {"num_layers": 1}),
    "cbramod": (400, {"n_layer": 1}),
    "biot16": (400, {"num_layers": 1}),
    "biot": (400, {"num_layers": 1}),
    "bendr": (768, {"transformer_layers": 1, "contextualizer_hidden": 32, "encoder_h": 32}),
    "reve": (380, {"depth": 1}),
    "luna": (320, {"depth": 1}),
}
EARS = ("A1", "A2")


def signal(name: str, **other: Any) -> SignalSpec:
    channels = other.pop("channels", (*CHANNELS, *EARS) if name == "biot" else CHANNELS)
    spec = SignalSpec(channels, recipe(name).sfreq, 2, ("s",), n_times=SMALL[name][0], unit="V")
    return replace(spec, class_values=(0.0, 1.0), classes=("a", "b"), **other)


def config(name: str) -> Braindecode:
    return Braindecode(model=recipe(name).model, settings=SMALL[name][1], input=name)


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the net was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.filterwarnings("ignore")  # of what braindecode imports
@pytest.mark.parametrize("name", SMALL)
def test_each_is_built_without_the_net_and_decodes_a_study_of_the_10_20_system(name: str, no_net: None) -> None:
    pytest.importorskip("braindecode")
    torch.manual_seed(0)
    spec = signal(name)
    network = models.build(config(name), spec).eval()
    x = 2e-5 * torch.randn(2, SMALL[name][0], spec.n_channels)
    assert network(x, torch.tensor([0, 0])).shape == (2, 2)
    assert not [each for each in network.state_dict() if each.startswith("input")]
    assert network.heads == ("model.final_layer",)


def test_every_recipe_is_tested() -> None:
    assert {*SMALL} == {*RECIPES}
    assert all(each.source and each.sfreq in (200, 256) for each in RECIPES.values())


@pytest.mark.filterwarnings("ignore")
def test_labram_and_reve_work_without_a_recipe_too(no_net: None) -> None:
    """field.md: `model=braindecode` with Labram fails at the first forward (wants ch_names); REVE downloads."""
    pytest.importorskip("braindecode")
    x = torch.randn(2, 400, 19)
    labram = models.build(Braindecode(model="Labram", settings={"num_layers": 1}), signal("labram"))
    assert labram(x, torch.tensor([0, 0])).shape == (2, 2)
    strange = signal("labram", channels=(*CHANNELS[:-1], "E1"))
    with pytest.raises(ValueError, match="by their names, and not E1: rename them .* model.input=labram"):
        models.build(Braindecode(model="Labram", settings={"num_layers": 1}), strange)
    places = tuple((0.01 * index, 0.02, 0.03) for index in range(19))
    placed = signal("reve", positions=places)
    reve = models.build(Braindecode(model="REVE", settings={"depth": 1}), placed)
    assert torch.equal(reve.model.default_pos, torch.tensor(places))
    with pytest.raises(
        ValueError, match="knows channels by their positions, which this study lacks: set model.input=reve"
    ):
        models.build(Braindecode(model="REVE", settings={"depth": 1}), signal("reve"))


# ---- What the layer makes


def made(name: str, x: np.ndarray, **other: Any) -> np.ndarray:
    layer = Input(recipe(name), signal(name, **other), [each.upper() for each in CHANNELS])
    return layer(torch.tensor(x, dtype=torch.float32)).double().numpy()


def noise(n_times: int, n_channels: int = 19) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, n_times, n_channels)) * 2e-5


def test_the_unit_is_made() -> None:
    x = noise(400)
    np.testing.assert_allclose(made("cbramod", x), x.transpose(0, 2, 1) * 1e4, rtol=1e-5)
    np.testing.assert_allclose(made("labram", x), x.transpose(0, 2, 1) * 1e4, rtol=1e-5)
    np.testing.assert_allclose(made("eegpt", noise(256)), noise(256).transpose(0, 2, 1) * 1e3, rtol=1e-5)


def test_biot_gets_the_pairs_each_by_its_95th_percentile() -> None:
    x = noise(400, 21)
    out = made("biot", x)
    names = [{"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}.get(name, name.upper()) for name in (*CHANNELS, *EARS)]
    for row, pair in enumerate(recipe("biot").channels):
        first, last = (x[..., names.index(end)] for end in pair.split("-"))
        of_pair = first - last
        expected = of_pair / np.quantile(np.abs(of_pair), 0.95, axis=1, keepdims=True)
        np.testing.assert_allclose(out[:, row], expected, rtol=2e-3, atol=1e-4)


def test_z_scores_are_of_each_channel_of_a_window_and_clipped() -> None:
    x = noise(380)
    x[0, 7, 3] = 1.0
    out = made("reve", x)
    np.testing.assert_allclose(out[1].mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(out[1].std(axis=1), 1, rtol=1e-3)
    assert out.max() == 15


def test_bendr_gets_its_order_zeros_for_what_is_missing_and_the_loudness() -> None:
    x = noise(768, 18)
    out = made("bendr", x, channels=CHANNELS[1:])  # without Fp1
    assert out.shape == (2, 20, 768) and (out[:, 0] == 0).all()
    low, high = min(x[0].min(), 0), max(x[0].max(), 0)
    np.testing.assert_allclose(out[0, 1], 2 * (x[0, :, 0] - low) / (high - low) - 1, atol=1e-5)
    np.testing.assert_allclose(out[0, 19], 2 * (x[0].max() - x[0].min()) / recipes.BENDR_RANGE - 1, atol=1e-5)


def test_an_electrode_that_is_missing_is_interpolated_as_the_step_set_channels_does(caplog: Any) -> None:
    spec = signal("biot16", channels=tuple(name for name in CHANNELS if name != "Cz" and name != "C3"))
    layer = Input(recipe("biot16"), spec)
    assert "C3 are not in the study, and are interpolated" in caplog.text
    by_name = sphere.ten_ten()
    modern = [{"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}.get(name, name) for name in spec.channels]
    spline = sphere.spline([by_name[name] for name in modern], [by_name["C3"]])[0]
    row = recipe("biot16").channels.index("C3-P3")
    expected = spline - np.eye(len(modern))[modern.index("P3")]
    np.testing.assert_allclose(layer.mix[row].numpy(), expected, atol=1e-6)


REFUSED = [
    ("cbramod", {"sfreq": 128.0}, "trained at 200 Hz, but this signal has 128 Hz: preprocess.steps=[{name: bandpass"),
    ("cbramod", {"unit": "1"}, "whose unit is known, 0.1 mV for 1, but a step of preprocess has scaled"),
    ("labram", {"n_times": 500}, "of 200 samples, and 200 more at a time, but these have 500: take windows of 2 or"),
    ("reve", {"n_times": 400}, "and 180 more at a time, but these have 400: take windows of 1.9 or 2.8 s"),
    ("labram", {"channels": ("E1", "E2")}, "Labram knows none of the channels E1, E2: rename them"),
    ("biot", {"channels": CHANNELS}, "needs A2, A1, which this study lacks, and which cannot be .*biot16"),
    ("biot16", {"channels": ("E1", "E2")}, "0 of its channels have names of the 10-10 system: too few"),
    ("bendr", {"channels": ("E1", "E2")}, "model.input=bendr knows none of the channels E1, E2"),
    ("luna", {"channels": ("Fz", "E2")}, "the places of E2 are not known"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "other", "sentence"), REFUSED)
def test_what_cannot_be_made_is_refused(name: str, other: dict[str, Any], sentence: str) -> None:
    pattern = sentence if ".*" in sentence else re.escape(sentence)
    with pytest.raises(ValueError, match=pattern):
        Input(recipe(name), replace(signal(name), **other), [each.upper() for each in CHANNELS])


def test_what_is_already_scaled_will_do_where_windows_are_scaled_anyway() -> None:
    Input(recipe("reve"), replace(signal("reve"), unit="1"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"input": "cbramood"}, "there is no input recipe 'cbramood'. Did you mean 'cbramod'"),
        (
            {"model": "Labram", "input": "cbramod"},
            "is the recipe of model=CBraMod, but the model is Labram: set input=labram",
        ),
        ({"model": "EEGNet", "input": "cbramod"}, "but the model is EEGNet: leave input out"),
    ],
)
def test_a_wrong_recipe_is_refused_without_torch(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Braindecode(**settings)  # type: ignore[arg-type]


# ---- It travels with weights


@pytest.mark.filterwarnings("ignore")
def test_weights_that_braindecode_saved_start_a_training_of_shorter_windows(tmp_path: Path, launch: Launch) -> None:
    """LaBraM's embedding of time is of 16 s; the first seconds of it are taken. `inspect` says the same."""
    theirs = pytest.importorskip("braindecode.models").Labram
    torch.manual_seed(1)
    pretrained = theirs(n_times=3000, n_chans=128, n_outputs=4, num_layers=1)
    torch.save(pretrained.state_dict(), tmp_path / "labram.bin")
    network = models.build(config("labram"), signal("labram"))
    start = Start(source="labram.bin")  # type: ignore[arg-type]
    loaded = transfer.load_pretrained(network, start, tmp_path / "labram.bin", config("labram"), signal("labram"))
    assert "model.temporal_embedding" in loaded.loaded and not loaded.missing
    assert torch.equal(network.model.temporal_embedding, pretrained.temporal_embedding[:, :3])
    assert torch.equal(network.model.position_embedding, pretrained.position_embedding)
    authors = {f"student.{AUTHORS_OF.get(name, name)}": value for name, value in pretrained.state_dict().items()}
    torch.save({"model": authors, "epoch": 49}, tmp_path / "labram-base.pth")
    again = transfer.load(models.build(config("labram"), signal("labram")), look(tmp_path / "labram-base.pth"))
    assert sorted(again.loaded) == sorted(loaded.loaded)


AUTHORS_OF = {
    "position_embedding": "pos_embed", "temporal_embedding": "time_embed",
    "blocks.0.mlp.0.weight": "blocks.0.mlp.fc1.weight",
    "blocks.0.mlp.0.bias": "blocks.0.mlp.fc1.bias", "blocks.0.mlp.2.weight": "blocks.0.mlp.fc2.weight",
    "blocks.0.mlp.2.bias": "blocks.0.mlp.fc2.bias",
}  # fmt: skip


def saved(tmp_path: Path, **more: Any) -> Any:
    torch.save({"parameters": {"x": torch.zeros(1)}, **more}, tmp_path / "x.pt")
    return look(tmp_path / "x.pt")


def test_weights_of_a_model_with_a_recipe_are_refused_without_it(tmp_path: Path) -> None:
    file, spec = saved(tmp_path), signal("biot")
    why = inputs.why_other(file, Braindecode(model="BIOT"), spec, ())
    assert "200 Hz, scaled by percentile" in why and "model.input=biot or model.input=biot16" in why
    assert not inputs.why_other(file, config("biot"), spec, ())
    travels = saved(tmp_path, input=recipe("biot").to_json())
    assert not inputs.why_other(travels, config("biot"), spec, ())
    assert "were trained with model.input=biot, but it is biot16" in inputs.why_other(
        travels, config("biot16"), spec, ()
    )
    assert "expect the signal of the input recipe biot" in inputs.why_other(travels, BiLSTM(), spec, ())
    of_eegpt = saved(tmp_path, input=recipe("eegpt").to_json())
    assert not inputs.why_other(of_eegpt, EEGPT(), signal("eegpt"), ())
    assert "were trained at 256 Hz, but this signal has 200 Hz" in inputs.why_other(of_eegpt, EEGPT(), spec, ())


def test_own_weights_are_refused_for_another_rate_unit_or_order_of_channels(tmp_path: Path) -> None:
    spec = SignalSpec(("Fz", "Cz", "Pz"), 128.0, 2, n_times=256, unit="V", class_values=(0.0, 1.0), classes=("a", "b"))
    as_dict = {name: getattr(spec, name) for name in ("channels", "sfreq", "n_outputs", "unit")}
    file = saved(tmp_path, config={"model": {"name": "eegnet"}}, spec=as_dict)
    every = list(models.build(EEGNet(), spec).state_dict())
    assert not inputs.why_other(file, EEGNet(), spec, every)
    for other, sentence in (
        ({"sfreq": 250.0}, "were trained at 128 Hz, but this signal has 250 Hz: resample it in preprocess"),
        ({"unit": "1"}, "were trained on a signal in V, but this is what a step has scaled"),
        (
            {"channels": ("Cz", "Fz", "Pz")},
            "know channels by their place, Fz, Cz, Pz, but this signal has in another order",
        ),
        ({"channels": ("O1", "O2", "Oz")}, "but this signal has others, O1, O2, Oz: bring them into that order"),
    ):
        assert sentence in inputs.why_other(file, EEGNet(), replace(spec, **other), every)
    of_time = [name for name in every if name.startswith("time")]
    assert not inputs.why_other(file, EEGNet(), replace(spec, channels=("Cz", "Fz", "Pz")), of_time)
