"""One model of several: the mean of their parameters (Wortsman 2022). `python -m hpc.launch soup models=[a,b,c]`

The runs must be of one model and one split; they differ in seed, rate, augmentation, or are snapshots of one training.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from eegdecode import models, objectives
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.loader import Loader
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.training import model_file
from eegdecode.training.config import Soup, Train
from eegdecode.training.model_file import Trained
from eegdecode.training.validator import Judge
from hpc.rank import ddp
from hpc.rank.context import Context, Preempted

log = logging.getLogger(__name__)

STATISTICS_BATCHES = 50
"""Of the training, from which batch norms learn anew what a mean of models sees."""


def run(cfg: Soup, ctx: Context) -> dict[str, object]:
    """Leave the mean, or the greedy mean, in model.pt."""
    where = ddp.start(ctx)
    ingredients = gathered(cfg, ctx)
    first = ingredients[0]
    trained_as = first.train()
    data = store.open_store(*(ctx.input(name, often=True) for name in first.data))
    parts = splits.split(trained_as.split, data.recordings, trained_as.windows)
    network = models.build(first.model, first.spec).to(where)
    objective = objectives.build(trained_as.objective, data.spec(first.target).knowing(first.spec))
    judge = Judge(trained_as, parts.val, data, first.spec, network)
    network.load_state_dict(first.parameters)
    names = judge.names(network, objective)

    def judged(parameters: dict[str, torch.Tensor], anew: bool) -> dict[str, float]:
        network.load_state_dict(parameters)
        if anew:
            learn_statistics(network, trained_as, data, parts.train, where)
        found = judge(network, objective, names, ctx)
        if found is None:
            raise Preempted
        return found

    alone = [judged(trained.parameters, anew=False) for trained in ingredients]
    order = sorted(range(len(ingredients)), key=lambda index: (alone[index]["loss"], index))
    for index in order:
        log.info("%s: validation loss %.4f", ingredients[index].run.name, alone[index]["loss"])
    taken, best = [order[0]], alone[order[0]]
    for count, index in enumerate(order[1:], 1):
        ctx.progress("soup", count, len(order))
        tried = [*taken, index]
        if cfg.how == "uniform" and count < len(order) - 1:
            taken = tried
            continue
        found = judged(mean([ingredients[each].parameters for each in tried]), anew=True)
        if cfg.how == "uniform" or found["loss"] <= best["loss"]:
            taken, best = tried, found
    kept = ingredients[taken[0]].parameters
    if len(taken) > 1:
        judged(mean([ingredients[each].parameters for each in taken]), anew=True)
        kept = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    if ctx.world.is_first:
        made = {"step": 0, "validation": best, "parameters": kept}
        ctx.until_there_is_room(lambda: model_file.save(ctx.out / "model.pt", trained_as, first.spec, made))
    ddp.barrier()
    ddp.stop()
    figures = {f"val_{name}": value for name, value in best.items()}
    return {"models": len(ingredients), "taken": len(taken), "best_alone": alone[order[0]]["loss"], **figures}


def gathered(cfg: Soup, ctx: Context) -> list[Trained]:
    """The models, with the snapshots of their runs where they are asked for. Refuses what cannot be averaged."""
    found: list[Trained] = []
    for name in cfg.models:
        folder = ctx.input(name)
        snapshots = sorted(path.name for path in folder.glob("snapshot-*.pt")) if cfg.snapshots else []
        found += [model_file.load(folder, each) for each in (snapshots or ["model.pt"])]
    first = found[0]
    for other in found[1:]:
        for what, one, its in (
            ("model", asdict(first.model), asdict(other.model)),
            ("signal", first.spec, other.spec),
            ("data", _data(first, ctx), _data(other, ctx)),
            ("target", first.target, other.target),
            ("split", first.split, other.split),
            ("objective", first.config["objective"], other.config["objective"]),
        ):
            if one != its:
                raise ValueError(
                    f"models of one soup need one {what}, but {first.run.name} has {one} and {other.run.name} has {its}"
                )
    if len(found) < 2:
        raise ValueError(f"a soup needs two models at least, got {len(found)}: name several runs, or snapshots=true")
    return found


def _data(trained: Trained, ctx: Context) -> list[str]:
    return [str(ctx.input(name).resolve()) for name in trained.data]


def mean(several: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Of each tensor; of whole numbers, as counts are, the nearest one."""
    found: dict[str, torch.Tensor] = {}
    for name, first in several[0].items():
        middle = torch.stack([parameters[name].double() for parameters in several]).mean(dim=0)
        found[name] = (middle if first.is_floating_point() else middle.round()).to(first.dtype)
    return found


def learn_statistics(network: nn.Module, cfg: Train, data: Store, part: Sequence[Any], where: torch.device) -> None:
    """Let batch norms see batches of the training, the same on every rank; nothing else of the network changes."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean of all that comes
        norm.train()
    draw = Draw(cfg.windows, part, data.recordings, cfg.seed)
    loader = Loader(data, draw, cfg.target, device=where)
    n_batches = min(STATISTICS_BATCHES, math.ceil(len(draw) / draw.batch))
    with torch.no_grad():
        for batch in loader.at(0, n_batches):
            network(batch.signal, batch.subject)
    loader.close()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
