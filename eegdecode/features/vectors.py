"""One vector a stimulus: all in features.npy, in the order of features.tsv.

Stimuli are computed in blocks of 256, on whatever rank, in `.blocks/KEY.npy`, whose key is made from their names, their
bytes and the network: a block that is there is done, and a stopped run continues with the others.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from eegdecode.data.io import recordings
from eegdecode.data.io.guard import Refused
from eegdecode.features import pictures
from eegdecode.features.config import Features, Pictures
from eegdecode.features.find import Stimulus
from eegdecode.features.network import Encoder, pooled
from eegdecode.features.words import Texts
from hpc import media
from hpc.rank.context import Context, Preempted
from hpc.runs import products
from hpc.runs.rundir import atomic_write

BLOCK = 256


def make(cfg: Features, ctx: Context, found: Sequence[Stimulus], encoder: Encoder) -> dict[str, str]:
    """Compute the blocks of this rank. Returns why stimuli cannot be used, by name, on all ranks."""
    blocks = [found[at : at + BLOCK] for at in range(0, len(found), BLOCK)]
    mine = ctx.world.share(list(enumerate(blocks)))
    n_mine = sum(len(block) for _, block in mine)
    encode = _encoder(cfg, encoder)
    keys: dict[str, str] = {}
    failed: dict[str, str] = {}
    done = 0
    for number, block in mine:
        beat = partial(_beat, ctx, done, n_mine)
        key, lacking = _key(block, encoder, beat)
        path = ctx.out / ".blocks" / f"{key}.npy"
        if not lacking and not _is_there(path, len(block)):
            values, lacking = encode(block, beat)
            if not lacking:
                _refuse_nan(values, block, encoder)
                ctx.fence()
                ctx.until_there_is_room(lambda: atomic_write(path, lambda file: np.save(file, values)))  # noqa: B023
        failed |= lacking
        keys[str(number)] = key
        done += len(block)
    _beat(ctx, n_mine, n_mine)
    gathered = ctx.gather([keys, failed])
    everywhere = {name: why for _, of_rank in gathered for name, why in of_rank.items()}
    if ctx.world.is_first and not everywhere:
        every = {int(number): key for of_rank, _ in gathered for number, key in of_rank.items()}
        parts = [ctx.out / ".blocks" / f"{every[number]}.npy" for number in range(len(blocks))]
        _join(ctx, parts, found, encoder)
    return everywhere


def _beat(ctx: Context, done: int, total: int) -> None:
    ctx.progress("features", done, total)
    if ctx.should_stop():
        raise Preempted


Encode = Callable[[Sequence[Stimulus], Callable[[], None]], tuple[np.ndarray, dict[str, str]]]


def _encoder(cfg: Features, encoder: Encoder) -> Encode:
    if not isinstance(cfg.stimuli, Pictures):
        texts = Texts(encoder)

        def of_texts(block: Sequence[Stimulus], beat: Callable[[], None]) -> tuple[np.ndarray, dict[str, str]]:
            rows = []
            for at in range(0, len(block), cfg.batch):
                beat()
                rows.append(texts.vectors([stimulus.text for stimulus in block[at : at + cfg.batch]]))
            return np.concatenate(rows), {}

        return of_texts

    how = pictures.preparation(cfg.stimuli, encoder)

    def of_pictures(block: Sequence[Stimulus], beat: Callable[[], None]) -> tuple[np.ndarray, dict[str, str]]:
        rows, lacking = [], {}
        for at in range(0, len(block), cfg.batch):
            beat()
            batch = []
            for stimulus in block[at : at + cfg.batch]:
                try:
                    batch.append(pictures.read(stimulus.path, how))
                except (Refused, OSError) as error:
                    lacking[stimulus.name] = str(error)
            if lacking:  # the block is not written, but what else is unreadable is worth knowing
                continue
            given, named = pictures.given(encoder, torch.from_numpy(np.stack(batch)))
            what = f"{len(batch)} pictures of the shape {batch[0].shape}"
            rows.append(pooled(encoder, encoder(what, *given, **named), len(batch), "pictures"))
        return (np.concatenate(rows) if rows else np.empty((0, 0))), lacking

    return of_pictures


def _key(block: Sequence[Stimulus], encoder: Encoder, beat: Callable[[], None]) -> tuple[str, dict[str, str]]:
    digest, lacking = hashlib.blake2b(encoder.identity.encode(), digest_size=16), {}
    for stimulus in block:
        try:
            content = stimulus.text or recordings.content(stimulus.path, beat)
            digest.update(f"{stimulus.name}\0{content}\0".encode())
        except (Refused, OSError) as error:
            lacking[stimulus.name] = str(error)
    return digest.hexdigest(), lacking


def _is_there(path: Path, n: int) -> bool:
    return path.is_file() and len(np.load(path, mmap_mode="r")) == n


def _refuse_nan(values: np.ndarray, block: Sequence[Stimulus], encoder: Encoder) -> None:
    if not np.isfinite(values).all():
        first = block[int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])]
        raise ValueError(
            f"{encoder.name} gives values that are not numbers (NaN or infinite) for {first.name}: choose another "
            "layer, or look at the network"
        )


def _join(ctx: Context, parts: Sequence[Path], found: Sequence[Stimulus], encoder: Encoder) -> None:
    """Write the table of all, a block at a time."""
    lengths = {int(np.load(part, mmap_mode="r").shape[1]) for part in parts}
    if len(lengths) > 1:
        raise ValueError(
            f"{encoder.name} gives vectors of {min(lengths)} to {max(lengths)} features: with pool=flatten all stimuli "
            "need one length; set features.pool=mean"
        )

    def fill(file: BinaryIO) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(found), *lengths)}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            ctx.beat()
            file.write(np.ascontiguousarray(np.load(part), "<f4").tobytes())

    ctx.fence()
    ctx.until_there_is_room(lambda: products.write(ctx.out / "features.npy", fill))
    rows = [("row", "stimulus"), *((str(row), stimulus.name) for row, stimulus in enumerate(found))]
    ctx.until_there_is_room(lambda: products.write_text(ctx.out / "features.tsv", media.tsv(rows)))
    shutil.rmtree(ctx.out / ".blocks")
