"""The features of stimuli: `python -m hpc.launch features study=things network.module=mylab.nets:Encoder`.

The ranks share the stimuli. What is done is kept, so a stopped run continues; a stimulus that cannot be read is named
at the end, and the others are done all the same. On a CPU a rank computes in one thread, so that the numbers depend
neither on the number of threads nor on that of the ranks.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from eegdecode.features import streams, vectors
from eegdecode.features.config import Features, Words
from eegdecode.features.find import Stimulus, find, is_stream, stem_of
from eegdecode.features.network import Encoder
from hpc.errors import first_of
from hpc.rank import ddp, threads
from hpc.rank.context import Context, Preempted
from hpc.rank.verification import verify_tree
from hpc.runs import products

log = logging.getLogger(__name__)


def run(cfg: Features, ctx: Context) -> dict[str, object]:
    """Fill ctx.out with the features and target.json, the target that reads them."""
    study = ctx.input(cfg.study)
    if not verify_tree(ctx, study):
        raise Preempted
    found = find(cfg, study)
    device = ddp.device(ctx)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _one_thread() if device.type == "cpu" else nullcontext():
        ctx.beat_until_progress()
        encoder = Encoder(cfg, device)
        clock: dict[str, float] = {}
        if is_stream(cfg, [stimulus.path for stimulus in found]):
            failed, clock = streams.make(cfg, ctx, found, encoder)
        else:
            failed = vectors.make(cfg, ctx, found, encoder)
    if failed:
        raise ValueError(_explain(failed, len(found)))
    if not ctx.world.is_first:
        return {}
    target = _target(cfg, clock)
    ctx.until_there_is_room(lambda: products.write_json(ctx.out / "target.json", target))
    n_features = _n_features(ctx, found, clock)
    _say(cfg, ctx, target, encoder, n_features, clock)
    times = {name: round(value, 6) for name, value in clock.items()}
    notes = {"notes": [encoder.note]} if encoder.note else {}
    return {"stimuli": len(found), "features": n_features, **times, **notes}


def _target(cfg: Features, clock: Mapping[str, float]) -> dict[str, object]:
    """The config of the target, with paths from the folder in which it is."""
    if not clock:
        return {"name": "embedding", "file": "features.npy", "index": "features.tsv", "title": cfg.title}
    return {
        "name": "extra",
        "file": f"{streams.FOLDER}/{{stem}}.npy",
        "sfreq": cfg.sfreq or clock["rate"],
        "file_sfreq": clock["rate"],
        "start_s": clock["start_s"],
        "hold": isinstance(cfg.stimuli, Words),
        "title": cfg.title,
    }


def _n_features(ctx: Context, found: Sequence[Stimulus], clock: Mapping[str, float]) -> int:
    first = ctx.out / streams.FOLDER / f"{stem_of(found[0].name)}.npy" if clock else ctx.out / "features.npy"
    return int(np.load(first, mmap_mode="r").shape[1])


def _say(
    cfg: Features,
    ctx: Context,
    target: Mapping[str, object],
    encoder: Encoder,
    n_features: int,
    clock: Mapping[str, float],
) -> None:
    here = {key: str(ctx.out / str(value)) if key in ("file", "index") else value for key, value in target.items()}
    when = (
        f", a row each {1e3 / clock['rate']:.4g} ms, the first at {1e3 * clock['start_s']:.4g} ms of the stimulus"
        if clock
        else ""
    )
    log.info(
        "%s: %d features%s. To decode them: preprocess.features=%s train.target=%s; or by hand, as one of "
        "preprocess.targets: %s",
        encoder.name,
        n_features,
        when,
        ctx.run.name,
        cfg.title,
        json.dumps(here),
    )


def _explain(failed: Mapping[str, str], n: int) -> str:
    names = sorted(failed)
    return (
        f"{len(failed)} of {n} stimuli cannot be used, the others are done: {failed[names[0]]}"
        f"{f' Also {first_of(names[1:])}.' if len(names) > 1 else ''} Put them right, or leave them out with "
        "features.stimuli.files, and give the same line again"
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Also torch, which keeps a number of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threads.one():
            yield
    finally:
        torch.set_num_threads(before)
