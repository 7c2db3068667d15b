"""LoRA, DoRA, IA3 and the ridge probe: each starts from the weights, changes what it says, and is merged or solved."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eegdecode.models.config import Trainable
from eegdecode.models.parts import lora, trainable
from eegdecode.training.probes import ridge


class Net(nn.Module):
    heads = ("head",)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4, bias=False))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


ADDED = {"lora": {"lora_a", "lora_b"}, "dora": {"lora_a", "lora_b", "dora"}, "ia3": {"ia3"}}


def made(how: Any, **settings: Any) -> tuple[Net, Net, list[str]]:
    """A network, and the same with what is added."""
    torch.manual_seed(0)
    plain, network = Net(), Net()
    network.load_state_dict(plain.state_dict())
    return plain, network, list(trainable.choose(network, Trainable(how, rank=2, alpha=3.0, **settings)))


@pytest.mark.parametrize("how", ADDED)
def test_it_starts_as_if_it_were_not_there_and_is_merged_after_training(how: str) -> None:
    plain, network, names = made(how)
    x = torch.randn(16, 6)
    assert torch.allclose(network(x), plain(x), atol=1e-6)
    own = {name.rpartition(".")[2] for name in names if not name.startswith("head")}
    assert own == ADDED[how] and {"head.weight", "head.bias"} <= set(names)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([each for each in network.parameters() if each.requires_grad], lr=0.3)
    for _ in range(5):
        network(x).square().sum(dim=1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = network.state_dict()
    assert sorted(name for name in after if not torch.equal(before[name], after[name])) == sorted(names)
    merged = Net()
    merged.load_state_dict(lora.merged(after, 3.0))
    assert torch.allclose(merged(x), network(x), atol=1e-5) and not torch.allclose(merged(x), plain(x), atol=1e-2)


def test_dora_trains_length_and_direction_apart() -> None:
    """As the paper's equation 5: m (W + s B A) / |W + s B A|, and the norm is a constant for the gradient."""
    _, network, _ = made("dora", layers=("body.0",))
    layer = network.body[0]
    with torch.no_grad():
        layer.lora_b.normal_()
        layer.dora.mul_(2)
    changed = layer.weight + 1.5 * layer.lora_b @ layer.lora_a
    expected = layer.dora[:, None] * changed / changed.norm(dim=1, keepdim=True)
    x = torch.randn(3, 6)
    assert torch.allclose(layer(x), x @ expected.T + layer.bias, atol=1e-5)
    (gradient,) = torch.autograd.grad(layer(x).sum(), layer.lora_b)
    (constant,) = torch.autograd.grad(
        ((x @ changed.T) * (layer.dora / changed.norm(dim=1).detach())).sum(), layer.lora_b
    )
    assert torch.allclose(gradient, constant, atol=1e-5)


@pytest.mark.parametrize("how", ADDED)
def test_torchs_fast_way_through_a_transformer_does_not_go_round_it(how: str) -> None:
    """In eval mode without gradients, nn.TransformerEncoderLayer reads the weights of its linear layers itself."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu").eval()
    network = nn.ModuleDict({"layer": layer})
    x = torch.randn(2, 3, 8)
    trainable.choose(network, Trainable(how, layers=("linear",)))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.rpartition(".")[2] in ADDED[how]:
                parameter += 0.5
        inferred = layer(x)
    assert torch.allclose(inferred, layer(x), atol=1e-5)


# ---- The ridge probe


def windows(n: int, width: int, seed: int, classes: int = 3) -> ridge.Windows:
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, n, p=[0.6, 0.3, 0.1][:classes])
    features = torch.tensor(rng.normal(size=(n, width)) * np.arange(1, width + 1) + 5)
    features[:, :5] += torch.tensor(6.0 * label)[:, None]
    target = torch.tensor(np.eye(classes)[label])
    return ridge.Windows(features, target, ridge._weights(target, True))


@pytest.mark.parametrize("width", [5, 200])
def test_it_is_the_ridge_regression_of_scikit_learn(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more features than windows, and with fewer."""
    from sklearn.linear_model import Ridge

    train, val = windows(60, width, 0), windows(40, width, 1)
    monkeypatch.setattr(ridge, "PENALTIES", torch.tensor([0.1], dtype=torch.float64))
    solved = ridge.solve(train, val, is_classes=False)
    weight = train.weight.numpy()
    mean = np.average(train.features, axis=0, weights=weight)
    spread = np.sqrt(np.average((train.features.numpy() - mean) ** 2, axis=0, weights=weight))
    x = (train.features.numpy() - mean) / spread
    gram = (x * np.sqrt(weight)[:, None]).T @ (x * np.sqrt(weight)[:, None])
    alpha = 0.1 * np.trace(gram) / min(60, width)
    theirs = Ridge(alpha=alpha).fit(x, train.target.numpy(), sample_weight=weight)
    ours = val.features.numpy() @ solved.weight.numpy().T + solved.bias.numpy()
    np.testing.assert_allclose(ours, theirs.predict((val.features.numpy() - mean) / spread), atol=1e-6)


def test_it_finds_classes_however_rare() -> None:
    train, val = windows(200, 40, 0), windows(200, 40, 1)
    found = ridge.solve(train, val, is_classes=True)
    outputs = val.features @ found.weight.T + found.bias
    told, truth = outputs.argmax(dim=1), val.target.argmax(dim=1)
    assert np.mean([(told[truth == each] == each).double().mean() for each in range(3)]) > 0.6
    uniform = -np.log(1 / 3)
    assert ridge._cross_entropy(outputs, val) < 0.8 * uniform


def test_a_head_without_a_linear_layer_is_refused() -> None:
    network = nn.ModuleDict({"body": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="needs a network whose head ends with a linear layer"):
        ridge.last_layer(network)
    with pytest.raises(ValueError, match="train=ridge is of the whole network's head: leave out part"):
        Trainable("ridge", part="encoder")
