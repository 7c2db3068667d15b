"""The verb verify: whether every byte that runs have written is still what was written."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpc.cli.options import Arguments
from hpc.codes import DONE, FAILED, STOPPED
from hpc.errors import ConfigError
from hpc.runs import products, records, seal, status
from hpc.runs.rundir import RunDir, committed_steps, damaged_lines, write_json

SET_ASIDE = "damaged"
"""The folder in a run folder that `--repair` moves damaged files to."""


def verify_runs(args: Arguments, environ: Mapping[str, str]) -> int:
    """Verify the products and checkpoints of these runs, or of all; with --repair, let them be made again."""
    runs = [run for word in args.words for run in status.find_all(word, args.runs)] or status.all_runs(args.runs)
    if (args.repair or args.accept) and not args.words:
        raise ConfigError(f"{'--repair' if args.repair else '--accept'} which run? Say its name: hpc verify RUN")
    if args.repair and args.accept:
        raise ConfigError("--repair or --accept: not both, as one distrusts the files and the other trusts them")
    return FAILED if sum(_verify(run, args) for run in runs) else DONE


def _verify(run: RunDir, args: Arguments) -> int:
    """Print what was found of one run; return the number of damaged files that are left as they are."""
    if args.repair or args.accept:
        _refuse_living(run)
    folder = run.out
    if not folder.is_dir() and not committed_steps(run.checkpoints):
        print(f"{run.name}: has written nothing yet")
        return 0
    if folder.is_dir() and products.listed(folder) is None:
        if not args.accept:
            print(
                f"{run.name}: has no list of its products, which earlier versions did not write; "
                f"hpc verify {run.name} --accept makes it from the files as they are now"
            )
            return 1
        products.close(folder)
        print(f"{run.name}: the {len(products.listed(folder) or {})} products that are there are accepted as they are")
        return 0
    if args.accept:
        raise ConfigError(
            f"{run.name} has a list of its products, so there is nothing to accept: hpc verify {run.name}"
        )
    damaged = [*_damaged_products(run), *_damaged_checkpoints(run)]
    for path, why in damaged:
        print(why if str(path) in why else f"{path}: {why}")
    snapshot = records.plan(run).get("snapshot")
    other_code = seal.difference(run.code, snapshot) if snapshot else ""
    if other_code:
        print(f"{run.name}: {other_code}")
    if not damaged and not other_code:
        names = products.listed(folder) or {} if folder.is_dir() else {}
        n_bytes = sum(product.n_bytes for product in names.values())
        print(f"{run.name}: {len(names)} products of {n_bytes / 1e6:,.1f} MB are what was written")
    if not damaged or not args.repair:
        return len(damaged) + bool(other_code)
    for path, _ in damaged:
        _set_aside(path, run)
    run.result.unlink(missing_ok=True)
    how_many = "a damaged file is" if len(damaged) == 1 else f"{len(damaged)} damaged files are"
    heartbeat = {**records.supervisor(run), "state": "stopped", "code": STOPPED, "text": f"{how_many} to be made again"}
    write_json(run.supervisor, heartbeat)
    print(f"{run.name}: {how_many} in {run.path / SET_ASIDE} now. To make what is missing again: hpc resume {run.name}")
    return 0


def _damaged_products(run: RunDir) -> Iterator[tuple[Path, str]]:
    """The products that are not what was written, each with a sentence, and those that are gone."""
    folder = run.out
    known = (products.listed(folder) if folder.is_dir() else None) or {}
    total = sum(product.n_bytes for product in known.values())
    show = _Progress(run.name, total)
    for name, product in sorted(known.items()):
        path = folder / name
        if not path.is_file() or not products.is_intact(path, product, show.count):
            yield path, products.why_damaged(path, product)
    show.end()
    for number in damaged_lines(folder / products.LIST):
        yield folder / products.LIST, f"line {number} is damaged"


def _damaged_checkpoints(run: RunDir) -> Iterator[tuple[Path, str]]:
    steps = committed_steps(run.checkpoints)
    if not steps:
        return
    from hpc.checkpoint import checkpoint
    from hpc.checkpoint.format import Damaged

    for step in steps:
        try:
            checkpoint.load(run.checkpoints, step)
        except Damaged as damage:
            yield checkpoint.at(run.checkpoints, step), str(damage)


def _refuse_living(run: RunDir) -> None:
    state = status.look(run)
    if not state.ended:
        raise ConfigError(f"{run.name} is {state.word}: stop it first, hpc stop {run.name}")


def _set_aside(path: Path, run: RunDir) -> None:
    """Move a damaged file or checkpoint out of the way; nothing is deleted."""
    if not path.exists() or path.name == products.LIST:
        return
    aside = run.path / SET_ASIDE / path.relative_to(run.path)
    number = 0
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{path.name}.{number}")
    aside.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, aside)


class _Progress:
    """A line on the terminal that says how far a long verification is."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.said = name, total, 0, 0

    def count(self, n_bytes: int) -> None:
        self.done += n_bytes
        percent = 100 * self.done // max(1, self.total)
        if percent > self.said and self.total > MANY_B and sys.stderr.isatty():
            self.said = percent
            print(f"\r{self.name}: {percent} % of {self.total / 1e9:.1f} GB", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.said:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


MANY_B = 200_000_000
"""A run with more bytes than this gets a progress line."""
