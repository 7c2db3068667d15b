"""compute.compile: blocks that are alike are compiled once, give the same numbers, and their gradients one by one."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.backends.debugging import aot_eager
from torch.distributed import HashStore  # type: ignore[attr-defined]

from eegdecode import models
from eegdecode.models import MODELS
from eegdecode.models.eegnet import EEGNet
from hpc.rank import gradients
from tests.eegdecode.test_models_all import flat, given, knobs, spec_of

MANY: dict[str, dict[str, Any]] = {
    "transformer": {"layers": 5, "dropout": 0.0},
    "conformer": {"layers": 5, "dropout": 0.0},
    "dit": {"width": 16, "layers": 5, "heads": 2},
    "eegpt": {"variant": "tiny3", "dropout": 0.0},
    "eegpt_pretrain": {"variant": "tiny2", "seen_channels": 2},
    "mae_pretrain": {
        "width": 16, "depth": 5, "heads": 2, "decoder_width": 16, "decoder_depth": 4, "decoder_heads": 2,
    },
    "stgate": {"dropout": 0.0},
}  # fmt: skip


@pytest.fixture
def compiles() -> Iterator[list[Any]]:
    """What has been compiled."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=True):
        yield []


def compile_(network: nn.Module, compiles: list[Any]) -> str:
    def backend(graph: Any, inputs: Any) -> Any:
        compiles.append(graph)
        return aot_eager(graph, inputs)

    return models.compile_network(network, backend=backend)


def built(name: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    network = models.build(MODELS[name](**{**MANY[name], **settings}), spec_of(name)).train()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return network


def passed(network: nn.Module, name: str) -> tuple[list[torch.Tensor], dict[str, torch.Tensor | None]]:
    torch.manual_seed(2)
    outputs = flat(network(*given(name, network)))
    sum(each.float().square().mean() for each in outputs if each.requires_grad).backward()  # type: ignore[union-attr]
    return [each.detach() for each in outputs], {key: one.grad for key, one in network.named_parameters()}


@pytest.mark.parametrize("name", sorted(MANY))
def test_compiled_blocks_compute_the_same(name: str, compiles: list[Any]) -> None:
    plain, fast = built(name), built(name)
    compile_(fast, compiles)
    for _ in range(2):
        (outputs, gradients_), (others, other_gradients) = passed(plain, name), passed(fast, name)
        torch.testing.assert_close(others, outputs)
        torch.testing.assert_close(other_gradients, gradients_, rtol=1e-4, atol=1e-6)
    assert 0 < len(compiles) < len(models.blocks(fast)), "blocks that are alike share what was compiled"
    plain.eval(), fast.eval()
    with torch.no_grad():
        torch.testing.assert_close(flat(fast(*given(name, fast))), flat(plain(*given(name, plain))))


def test_blocks_that_are_computed_again_in_the_backward_pass_are_compiled_too(compiles: list[Any]) -> None:
    plain, fast = built("transformer"), built("transformer", checkpoint=True)
    compile_(fast, compiles)
    torch.testing.assert_close(passed(fast, "transformer")[1], passed(plain, "transformer")[1], rtol=1e-4, atol=1e-6)
    assert 0 < len(compiles) < 5


def test_a_network_without_blocks_is_compiled_as_a_whole(compiles: list[Any]) -> None:
    torch.manual_seed(0)
    network = models.build(EEGNet(), spec_of("eegnet"))
    assert compile_(network, compiles) == "the network is compiled as a whole"
    network(*given("eegnet", network))
    assert len(compiles) == 1
    fast = built("transformer")
    assert compile_(fast, compiles) == "5 blocks of the network are compiled, each on its own"


def test_every_transformer_says_that_it_has_blocks() -> None:
    for name in set(MODELS) - {"braindecode"}:
        network = models.build(knobs(name), spec_of(name))
        lists = [part for part in network.modules() if isinstance(part, nn.ModuleList)]
        blocks = [block for each in lists for block in each if {"attn", "mlp"} <= set(dict(block.named_children()))]
        assert models.blocks(network) == blocks, name


def test_gradients_are_sent_while_the_backward_pass_goes_on(compiles: list[Any]) -> None:
    network, events = built("transformer"), list[str]()
    compile_(network, compiles)
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        model = gradients.Averaged(network, in_order=False, bucket_mb=1e-3)
        send = model._send
        model._send = lambda: (events.append("sent"), send())[1]  # type: ignore[method-assign, func-returns-value]
        network.embed.register_forward_hook(  # type: ignore[union-attr]
            lambda module, args, out: out.register_hook(lambda gradient: events.append("first block")) and None
        )
        model(*given("transformer", network)).square().mean().backward()
    finally:
        dist.destroy_process_group()
    assert events.index("first block") > 5, "sent before the backward pass came to the input of the first block"


@pytest.mark.parametrize(("of_blocks", "n_operations"), [(True, 5), (False, 1)])
def test_the_backward_pass_has_an_operation_for_each_block(
    of_blocks: bool, n_operations: int, compiles: list[Any]
) -> None:
    """Compiled as a whole, it is a single one, at whose end all gradients come at once."""
    network = built("transformer")
    if of_blocks:
        compile_(network, compiles)
    else:
        network.compile(dynamic=False, backend="aot_eager")
    nodes, new = set[Any](), [network(*given("transformer", network)).grad_fn]
    while new:
        node = new.pop()
        nodes.add(node)
        new += [each for each, _ in node.next_functions if each is not None and each not in nodes]
    assert sum("CompiledFunction" in node.name() for node in nodes) == n_operations
