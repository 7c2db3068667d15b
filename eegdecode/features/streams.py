"""One stream a stimulus: features/STEM.npy, [time, feature], and features/STEM.json with its rate and its time.

The .json is written first, with a key made from the bytes of the stimulus and the network: a .npy whose key is that of
today is done, and a stopped run continues with the others.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from eegdecode.data.io import recordings
from eegdecode.data.io.guard import Refused
from eegdecode.features.config import Features, Films, Sounds, Words
from eegdecode.features.films import FilmFeatures
from eegdecode.features.find import Stimulus, stem_of
from eegdecode.features.network import Encoder
from eegdecode.features.sounds import Clock, SoundFeatures
from eegdecode.features.words import Transcripts
from hpc.rank.context import Context, Preempted
from hpc.runs.rundir import atomic_write, read_json, write_json

FOLDER = "features"


class Streams(Protocol):
    """The features of stimuli of one kind."""

    clock: Clock

    def blocks(self, path: Path, beat: Callable[[], None]) -> Iterator[np.ndarray]: ...


def make(
    cfg: Features, ctx: Context, found: Sequence[Stimulus], encoder: Encoder
) -> tuple[dict[str, str], dict[str, float]]:
    """Compute the streams of this rank's stimuli, the largest first. Returns why stimuli cannot be used, by name, and
    the clock of all: the same on all ranks."""
    mine = ctx.world.share(found, lambda stimulus: stimulus.path.stat().st_size)
    sizes = [stimulus.path.stat().st_size for stimulus in mine]
    streams = _streams(cfg, encoder, _beat(ctx, sizes, 0))
    clock = {"rate": streams.clock.rate, "start_s": streams.clock.start_s}
    failed: dict[str, str] = {}
    for number, stimulus in enumerate(mine):
        try:
            _one(ctx, stimulus, streams, encoder, _beat(ctx, sizes, number))
        except Refused as error:
            failed[stimulus.name] = str(error)
    _beat(ctx, sizes, len(mine))()
    everywhere = {name: why for of_rank in ctx.gather(failed) for name, why in of_rank.items()}
    if ctx.world.is_first and not everywhere:
        _sweep(ctx.out / FOLDER, found, encoder)
    return everywhere, clock


def _beat(ctx: Context, sizes: Sequence[int], done: int) -> Callable[[], None]:
    def beat() -> None:
        ctx.progress("features MB", round(sum(sizes[:done]) / 1e6), max(1, round(sum(sizes) / 1e6)), stimuli=done)
        if ctx.should_stop():
            raise Preempted

    return beat


def _streams(cfg: Features, encoder: Encoder, beat: Callable[[], None]) -> Streams:
    if isinstance(cfg.stimuli, Sounds):
        return SoundFeatures(encoder, cfg.stimuli, beat)
    if isinstance(cfg.stimuli, Films):
        return FilmFeatures(encoder, cfg.stimuli)
    assert isinstance(cfg.stimuli, Words)
    return Transcripts(encoder, cfg.stimuli)


def _one(ctx: Context, stimulus: Stimulus, streams: Streams, encoder: Encoder, beat: Callable[[], None]) -> None:
    path = ctx.out / FOLDER / f"{stem_of(stimulus.name)}.npy"
    clock = streams.clock
    content = recordings.content(stimulus.path, beat)
    key = hashlib.blake2b(f"{encoder.identity}\0{clock}\0{content}".encode(), digest_size=16).hexdigest()
    about = path.with_suffix(".json")
    if path.is_file() and (read_json(about) or {}).get("key") == key:
        return
    # The rows stay on the node until their number is known: a sound of hours is not held in memory
    with tempfile.TemporaryFile() as rows:
        n, n_features = 0, 0
        for block in streams.blocks(stimulus.path, beat):
            if not np.isfinite(block).all():
                raise ValueError(
                    f"{encoder.name} gives values that are not numbers (NaN or infinite) for {stimulus.name}, near "
                    f"{clock.start_s + n / clock.rate:.2f} s: choose another layer, or look at the network"
                )
            if n and block.shape[1] != n_features:
                raise ValueError(f"{encoder.name} gives {n_features} and {block.shape[1]} features for {stimulus.name}")
            rows.write(np.ascontiguousarray(block, "<f4").tobytes())
            n, n_features = n + len(block), block.shape[1]

        def fill(file: BinaryIO) -> None:
            rows.seek(0)
            header = {"descr": "<f4", "fortran_order": False, "shape": (n, n_features)}
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(rows, file, 1 << 20)

        described = {
            "stimulus": stimulus.name,
            "network": encoder.name,
            "rate": clock.rate,
            "start_s": clock.start_s,
            "shape": [n, n_features],
            "key": key,
        }
        ctx.fence()
        path.unlink(missing_ok=True)  # that of other bytes
        ctx.until_there_is_room(partial(write_json, about, described))
        ctx.until_there_is_room(lambda: atomic_write(path, fill))


def _sweep(folder: Path, found: Sequence[Stimulus], encoder: Encoder) -> None:
    """Remove what an earlier attempt made of stimuli that are gone, and refuse streams of different widths."""
    wanted = {folder / f"{stem_of(stimulus.name)}.npy" for stimulus in found}
    for path in sorted(folder.rglob("*.npy")):
        if path not in wanted:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
    widths: dict[int, str] = {}
    for stimulus in found:
        about = read_json(folder / f"{stem_of(stimulus.name)}.json") or {}
        widths.setdefault(int(about["shape"][1]), stimulus.name)
    if len(widths) > 1:
        (one, of_one), (other, of_other) = sorted(widths.items())[:2]
        raise ValueError(
            f"{encoder.name} gives {one} features for {of_one}, and {other} for {of_other}: set features.pool"
        )
