"""Average the parameters of several models (Wortsman 2022): `python -m hpc.launch soup models=[a,b,c]`

The runs share model and split. They differ in seed, rate or augmentation, or are snapshots of one training.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from eegdecode import models, objectives
from eegdecode.data.loading.draw import Draw
from eegdecode.data.loading.loader import Loader
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.training import model_file, optim, setup
from eegdecode.training.config import Soup, Train
from eegdecode.training.model_file import Trained
from eegdecode.training.validator import Validator
from hpc import config
from hpc.rank import ddp
from hpc.rank.context import Context, Preempted

log = logging.getLogger(__name__)

STATISTICS_BATCHES = 50
"""Training batches from which the batch norms of an averaged model estimate their statistics."""


def run(cfg: Soup, ctx: Context) -> dict[str, object]:
    """Write the mean, or the greedy mean, to model.pt."""
    device = ddp.start(ctx)
    ingredients = load_ingredients(cfg, ctx)
    first = ingredients[0]
    trained_as = first.train()
    data = setup.controlled(trained_as, store.open_store(*(ctx.input(name, often=True) for name in first.data)))
    sets = splits.split(trained_as.split, data.recordings, trained_as.windows)
    network = models.build(first.model, first.spec).to(device)
    objective = objectives.build(trained_as.objective, data.spec(first.target).knowing(first.spec))
    validator = Validator(trained_as, sets.val, data, first.spec, network)
    network.load_state_dict(first.parameters)
    names = validator.names(network, objective)

    def validate(parameters: dict[str, torch.Tensor], new_statistics: bool) -> dict[str, float]:
        network.load_state_dict(parameters)
        if new_statistics:
            learn_statistics(network, trained_as, data, sets.train, device)
        validation = validator(network, objective, names, ctx)
        if validation is None:
            raise Preempted
        return validation

    alone = [validate(trained.parameters, new_statistics=False) for trained in ingredients]
    bad = partial(badness, choose_by=cfg.choose_by)
    order = sorted(range(len(ingredients)), key=lambda index: (bad(alone[index]), index))
    for index in order:
        log.info("%s: validation %s %.4f", ingredients[index].run.name, cfg.choose_by, alone[index][cfg.choose_by])
    chosen, best = [order[0]], alone[order[0]]
    for count, index in enumerate(order[1:], 1):
        ctx.progress("soup", count, len(order))
        tried = [*chosen, index]
        if cfg.how == "uniform" and count < len(order) - 1:
            chosen = tried
            continue
        validation = validate(mean([ingredients[each].parameters for each in tried]), new_statistics=True)
        if cfg.how == "uniform" or bad(validation) <= bad(best):
            chosen, best = tried, validation
    averaged = ingredients[chosen[0]].parameters
    if len(chosen) > 1:
        validate(mean([ingredients[each].parameters for each in chosen]), new_statistics=True)
        averaged = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    if ctx.world.is_first:
        made = setup.preprocessing(data)
        contents = {"step": 0, "validation": best, "parameters": averaged, "preprocessing": made}
        ctx.until_there_is_room(lambda: model_file.save(ctx.out / "model.pt", trained_as, first.spec, contents))
    ddp.barrier()
    ddp.stop()
    figures = {f"val_{name}": value for name, value in best.items()}
    return {"models": len(ingredients), "taken": len(chosen), "best_alone": alone[order[0]][cfg.choose_by], **figures}


def badness(validation: Mapping[str, float], choose_by: str) -> float:
    """The figure of a validation by which models are chosen, the lower the better."""
    if choose_by not in validation:
        raise ValueError(f"choose_by is {choose_by}, but the validation of these models has {', '.join(validation)}")
    return validation[choose_by] if choose_by == "loss" else -validation[choose_by]


def load_ingredients(cfg: Soup, ctx: Context) -> list[Trained]:
    """Load the models, with the snapshots of their runs if `cfg.snapshots`. Refuses models that cannot be averaged."""
    ingredients: list[Trained] = []
    for name in cfg.models:
        folder = ctx.input(name)
        snapshots = sorted(path.name for path in folder.glob("snapshot-*.pt")) if cfg.snapshots else []
        ingredients += [model_file.load(folder, each) for each in (snapshots or ["model.pt"])]
    first = ingredients[0]
    for other in ingredients[1:]:
        for what, one, its in (
            ("model", config.plain(first.model), config.plain(other.model)),
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
    if len(ingredients) < 2:
        raise ValueError(
            f"a soup needs two models at least, got {len(ingredients)}: name several runs, or snapshots=true"
        )
    return ingredients


def _data(trained: Trained, ctx: Context) -> list[str]:
    return [str(ctx.input(name).resolve()) for name in trained.data]


def mean(several: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of each tensor; of integers, such as counts, the nearest integer to it."""
    averaged: dict[str, torch.Tensor] = {}
    for name, first in several[0].items():
        middle = torch.stack([parameters[name].double() for parameters in several]).mean(dim=0)
        averaged[name] = (middle if first.is_floating_point() else middle.round()).to(first.dtype)
    return averaged


def learn_statistics(network: nn.Module, cfg: Train, data: Store, part: Sequence[Any], device: torch.device) -> None:
    """Estimate the statistics of batch norms from training batches, the same on every rank; nothing else changes."""
    norms = optim.batch_norms(network)
    if not norms:
        return
    draw = Draw(cfg.windows, part, data.recordings, cfg.seed)
    loader = Loader(data, draw, cfg.target, device=device)
    n_batches = min(STATISTICS_BATCHES, math.ceil(len(draw) / draw.batch))

    def forward() -> None:
        for batch in loader.at(0, n_batches):
            network(batch.signal, batch.subject)

    optim.estimate_statistics(network, norms, forward)
    loader.close()
