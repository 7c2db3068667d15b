"""What recipes and models claim of their authors is so, or is said not to be."""

from pathlib import Path

import pytest
import torch

from eegdecode import models, objectives
from eegdecode.models.tfc import Embedded
from eegdecode.models.tfc_pretrain import TFCPretrain
from eegdecode.models.tsconv import TSConv
from eegdecode.objectives import Batch, tfc
from eegdecode.objectives.tfc import TimeFrequency
from eegdecode.signals import SignalSpec
from eegdecode.training import soup
from hpc import config
from tests.conftest import ROOT

RECIPES, PROTOCOLS = ROOT / "configs/recipes", ROOT / "configs/protocols"


def values(path: Path) -> dict:  # type: ignore[type-arg]
    return config.load([path])


def head(name: str) -> str:
    """The opening comment of a recipe, as one line."""
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    return " ".join(line.lstrip("# ") for line in lines[: next(i for i, each in enumerate(lines) if each[0] != "#")])


def test_tsconv_has_the_size_of_nices_and_reads_time_then_space() -> None:
    spec = SignalSpec(tuple(f"E{n}" for n in range(63)), 250.0, 768, ("sub-01",), n_times=250)
    network = models.build(TSConv(), spec).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_802_496
    x = torch.randn(2, 250, 63)
    filtered = network.norm_time(torch.nn.functional.avg_pool2d(network.time(x.mT[:, None]), (1, 51), (1, 5)))
    spatial = network.norm_space(network.space(torch.nn.functional.elu(filtered)))
    flat = network.mix(torch.nn.functional.elu(spatial)).squeeze(2).mT.flatten(1)
    assert flat.shape == (2, 1440)
    projected = network.readout(flat)
    by_hand = network.norm(projected + network.residual(torch.nn.functional.gelu(projected)))
    assert torch.allclose(network(x, torch.zeros(2, dtype=torch.long)), by_hand, atol=1e-6)


def test_nices_recipe_and_protocol_take_its_own_network() -> None:
    assert values(RECIPES / "images-clip.yaml")["train"]["model"]["name"] == "tsconv"
    published = values(PROTOCOLS / "things-eeg2-nice.yaml")["leaderboard"]["published"]
    assert [row["model"] for row in published if row["name"] == "NICE"] == ["tsconv"]


def test_masked_pretraining_has_the_betas_of_mind_vis() -> None:
    assert values(RECIPES / "scmbm.yaml")["pretrain"]["optim"]["betas"] == [0.9, 0.95]


def test_the_probe_of_eegpt_is_that_of_its_authors_in_the_protocol_and_says_what_differs_in_the_recipe() -> None:
    file = values(PROTOCOLS / "bcic2a-eegpt.yaml")
    steps = {step["name"]: step for step in file["preprocess"]["steps"]}
    assert "reference" in steps and steps["gain"]["factor"] == pytest.approx(1000**-0.5)
    assert file["train"]["split"] == {"by": "subject", "folds": 0, "shared": ["stimulus"]}
    assert file["train"]["seed"] == 8 and file["train"]["optim"]["lr"] == 4e-4
    assert "bench protocol=bcic2a-eegpt" in head("eegpt-probe") and "no average reference" in head("eegpt-probe")


def test_conformers_authors_train_a_network_of_each_subject() -> None:
    file = values(PROTOCOLS / "bcic2a-conformer.yaml")
    assert file["protocol"]["each"] == {"train.split.only": "subjects"}
    assert file["train"]["optim"]["betas"] == [0.5, 0.999] and file["train"]["windows"]["batch"] == 72
    assert any("appended" in sentence for sentence in file["leaderboard"]["differs"])
    assert "bench protocol=bcic2a-conformer" in head("motor-conformer") and "appended" in head("motor-conformer")


def test_in_two_passes_batch_norms_see_windows_and_their_augmented_versions_alone() -> None:
    spec = SignalSpec(("C3", "Cz", "C4"), 100.0, 0, ("sub-01",), n_times=100)
    torch.manual_seed(0)
    network = models.build(TFCPretrain(), spec).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    x = torch.randn(4, 100, 3)
    batch = Batch(x, torch.zeros(4, 0), torch.zeros(4, dtype=torch.int64), torch.arange(4) * 7919)

    def loss(passes: int) -> float:
        cfg = TimeFrequency(form="released", passes=passes)  # type: ignore[arg-type]
        torch.manual_seed(1)
        return float(objectives.build(cfg, spec)(network, batch)[0])

    torch.manual_seed(1)
    spectrum = tfc.magnitudes(x)
    plain = network(x, batch.subject, spectrum)
    others = tfc.other_signal(x, batch.rng_key), tfc.other_spectrum(spectrum, batch.rng_key)
    other = network(others[0], batch.subject, others[1])
    by_hand, _ = tfc.combined(TimeFrequency(form="released"), Embedded(*plain), Embedded(*other))
    assert loss(2) == pytest.approx(float(by_hand), rel=1e-4)
    assert "objective.passes=2" in head("tfc")


def test_a_soup_may_go_by_another_held_out_figure_and_ties_are_taken() -> None:
    low, high = {"loss": 0.4, "accuracy": 0.7}, {"loss": 0.5, "accuracy": 0.8}
    assert soup.badness(low, "loss") < soup.badness(high, "loss")
    assert soup.badness(high, "accuracy") < soup.badness(low, "accuracy")
    with pytest.raises(ValueError, match="choose_by is kappa, but the validation of these models has loss, accuracy"):
        soup.badness(low, "kappa")
