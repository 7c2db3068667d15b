"""Our AdamW is torch's, to the bit, and starts without torch._dynamo."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from eegdecode.training.optim import AdamW

Make = Callable[[nn.Module], torch.optim.AdamW]
BETAS = 0.9, 0.99


def groups(network: nn.Module) -> list[dict[str, object]]:
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def ours(network: nn.Module) -> torch.optim.AdamW:
    return AdamW(groups(network), 0.01, BETAS)


def theirs(network: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups(network), lr=0.01, betas=BETAS, fused=True)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 5), nn.Linear(5, 3).double())


def train(net: nn.Module, optimizer: torch.optim.AdamW, steps: range, scaled: bool = False) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2, enabled=scaled)
    for step in steps:
        x = torch.randn(4, 7, generator=torch.Generator().manual_seed(step))
        net[2].requires_grad_(step > 1)  # trained only later, so it has fewer steps
        optimizer.zero_grad()
        hidden = net[2](net[1](net[0](x)))
        scaler.scale(net[3](hidden.double()).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()


def assert_equal(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict) and one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple) and len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_equal(first, second)
    else:
        assert one == other


@pytest.mark.parametrize("scaled", [False, True])
def test_parameters_and_state_are_those_of_torch(scaled: bool) -> None:
    mine, torchs = network(), network()
    my_optimizer, torch_optimizer = ours(mine), theirs(torchs)
    train(mine, my_optimizer, range(6), scaled)
    train(torchs, torch_optimizer, range(6), scaled)
    assert_equal(mine.state_dict(), torchs.state_dict())
    assert_equal(my_optimizer.state_dict(), torch_optimizer.state_dict())


@pytest.mark.parametrize(("first", "second"), [(ours, theirs), (theirs, ours), (ours, ours)])
def test_each_goes_on_from_the_state_of_the_other(first: Make, second: Make) -> None:
    whole = network()
    train(whole, theirs(whole), range(6))
    net = network()
    before = first(net)
    train(net, before, range(3))
    after = second(net)
    train(net, after, range(1))  # a state of its own, which is replaced
    parts = network()
    train(parts, first(parts), range(3))
    net.load_state_dict(parts.state_dict())
    after.load_state_dict(before.state_dict())
    train(net, after, range(3, 6))
    assert_equal(net.state_dict(), whole.state_dict())


def test_no_step_changes_anything_once_a_gradient_was_not_finite() -> None:
    net = network()
    optimizer = ours(net)
    assert isinstance(optimizer, AdamW)
    optimizer.found_inf = torch.zeros(())
    train(net, optimizer, range(3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    steps = [state["step"].clone() for state in optimizer.state.values()]
    optimizer.found_inf.fill_(1.0)
    train(net, optimizer, range(3, 5))
    assert_equal(net.state_dict(), before)
    assert_equal([state["step"] for state in optimizer.state.values()], steps)


def test_it_starts_and_steps_without_torch_dynamo() -> None:
    code = (
        "import sys; from tests.eegdecode.test_adamw import *; net = network(); optimizer = ours(net); "
        "train(net, optimizer, range(3)); optimizer.load_state_dict(optimizer.state_dict()); "
        "print('torch._dynamo' in sys.modules)"
    )
    assert printed_by(code) == "False\n"


def test_what_a_training_imports_before_its_ranks_are_forked_is_without_torch_dynamo() -> None:
    code = (
        "import sys; from eegdecode import stages; from hpc.config.stages import import_ahead; "
        "import_ahead(stages.train); "
        "print(*[name in sys.modules for name in ('eegdecode.training.loop', 'torch._dynamo')])"
    )
    assert printed_by(code) == "True False\n"


def printed_by(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
