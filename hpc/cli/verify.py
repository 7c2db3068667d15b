"""The verb verify: whether every byte of runs, and of copies of what they have written, is still what was written."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpc import media
from hpc.cli.options import Arguments
from hpc.cli.runs import refuse_no_folder
from hpc.codes import DONE, FAILED, STOPPED
from hpc.errors import ConfigError
from hpc.runs import folding, products, records, seal, status
from hpc.runs.rundir import LIST, Damaged, RunDir, committed_steps, own_commit, write_json

SET_ASIDE = "damaged"
"""The folder in a run folder that `--repair` moves damaged files to."""


def verify_runs(args: Arguments, environ: Mapping[str, str]) -> int:
    """Verify the products and checkpoints of these runs, or of all; with --repair, let them be made again. A path may
    also be that of a copy of a run's `out`."""
    refuse_no_folder(args)
    folders = [Path(word) for word in args.words if "/" in word and Path(word).is_dir()]
    copies = [folder for folder in folders if not (folder / "plan.json").is_file()]
    runs = [RunDir(folder.absolute()) for folder in folders if folder not in copies]
    names = [word for word in args.words if Path(word) not in folders]
    runs += [run for word in names for run in status.find_all(word, args.runs)]
    runs = runs if args.words else status.all_runs(args.runs)
    if (args.repair or args.accept) and not args.words:
        raise ConfigError(f"{'--repair' if args.repair else '--accept'} which run? Say its name: hpc verify RUN")
    if args.repair and args.accept:
        raise ConfigError("--repair or --accept: not both, as one distrusts the files and the other trusts them")
    if args.repair and copies:
        raise ConfigError(f"--repair: {copies[0]} is no run, which could make its files again: copy it again")
    if not runs and not copies:
        print("no runs here yet")
    n_faults = sum(_verify(run, args) for run in runs) + sum(_verify_copy(folder, args) for folder in copies)
    return FAILED if n_faults else DONE


def _verify(run: RunDir, args: Arguments) -> int:
    """Print what was found of one run; return the number of faults that are left as they are."""
    if args.repair or args.accept:
        _refuse_living(run)
    folder = run.out
    finished = run.result.exists()
    if not finished and not committed_steps(run.checkpoints) and not any(products.files(folder)):
        print(f"{run.name}: has written nothing yet")
        return 0
    plan, of_plan = _plan(run)
    if of_plan:
        print(media.one_line(of_plan))
    old = plan.get("schema", 0) < records.WITH_LISTS
    if args.accept:
        return _accept(run, old)
    if old and any(products.files(folder)) and products.listed(folder) is None:
        print(f"{run.name}: {products.why_unlisted(run)}")
        return 1
    damaged = [*_damaged_products(run, finished), *_damaged_checkpoints(run)]
    for _, why in damaged:
        print(media.one_line(why))
    snapshot = plan.get("snapshot")
    other_code = seal.difference(run.code, snapshot) if snapshot else ""
    if other_code:
        print(f"{run.name}: {media.one_line(other_code)}")
    if not damaged and not other_code and not of_plan:
        print(f"{run.name}: {_all_right(folder, finished)}")
    if not damaged or not args.repair:
        return len(damaged) + bool(other_code) + bool(of_plan)
    aside = [path for path, _ in damaged if _set_aside(path, run)]
    folding.unfold(run)
    run.result.unlink(missing_ok=True)
    text = f"{media.many(len(damaged), 'file')} to be made again"
    write_json(run.supervisor, {**records.supervisor(run), "state": "stopped", "code": STOPPED, "text": text})
    where = f" ({media.many(len(aside), 'damaged one')} in {run.path / SET_ASIDE} now)" if aside else ""
    print(f"{run.name}: {text}{where}: hpc resume {products.option(run)}")
    return 0


def _plan(run: RunDir) -> "tuple[records.PlanRecord, str]":
    """The plan, or one that says nothing and why it cannot be read: the files of the run are verified all the same."""
    try:
        return records.plan(run), ""
    except Damaged as damage:
        return {"schema": records.SCHEMA}, str(damage)


def _verify_copy(folder: Path, args: Arguments) -> int:
    """The same of a copy of a run's products, in a folder of its own."""
    if args.accept:
        return _accept_copy(folder)
    if not (folder / LIST).is_file():
        trust = f"hpc verify {shlex.quote(str(folder))} --accept trusts the files as they are"
        print(f"{media.one_line(str(folder / LIST))} is not there, so nobody knows what was written: {trust}")
        return 1
    fault = products.faults(folder)
    damaged = [*([(folder / LIST, fault)] if fault else []), *_damaged_files(folder, str(folder))]
    for _, why in damaged:
        print(media.one_line(why))
    if not damaged:
        print(f"{media.one_line(str(folder))}: {_all_right(folder, finished=True)}")
    return len(damaged)


def _accept_copy(folder: Path) -> int:
    if products.is_of_run(folder) or products.listed(folder) is not None:
        raise ConfigError(f"{folder} is of a run, or has a list of its files: hpc verify it without --accept")
    return _list_as_they_are(folder, str(folder), "copy it again")


def _all_right(folder: Path, finished: bool) -> str:
    known = (products.listed(folder) or {}) if folder.is_dir() else {}
    n_bytes = sum(product.n_bytes for product in known.values())
    what = f"{media.many(len(known), 'product')} of {n_bytes / 1e6:,.1f} MB {'is' if len(known) == 1 else 'are'}"
    if when := products.accepted(folder):
        return f"{what} as found and accepted on {when}"
    return f"{what} what was written{'' if finished else '; it has not finished'}"


def _accept(run: RunDir, old: bool) -> int:
    """Make the list of a run of an earlier version from its files as they are."""
    if not old or products.listed(run.out) is not None:
        raise ConfigError(
            f"{run.name} {'is of this version' if not old else 'has a list of its products'}, so there is nothing to "
            f"accept: hpc verify {products.option(run)}"
        )
    return _list_as_they_are(run.out, run.name, f"make it again, hpc resume {products.option(run)}", run=run.name)


def _list_as_they_are(folder: Path, name: str, instead: str, run: str = "") -> int:
    files = list(products.files(folder))
    if empty := [path for path in files if not path.stat().st_size]:
        print(f"{empty[0]} is empty, which no product is: {instead}")
        return 1
    if not files:
        print(f"{name}: has no files that could be accepted")
        return 0
    products.close(folder, run=run, accepted=time.strftime("%Y-%m-%d"))
    print(f"{media.one_line(name)}: {media.many(len(products.listed(folder) or {}), 'product')} accepted as found")
    return 0


def _damaged_products(run: RunDir, finished: bool) -> Iterator[tuple[Path, str]]:
    """The products that are not what was written, each with a sentence, and those that are gone."""
    folder = run.out
    if finished and (fault := products.faults(folder)):
        yield folder / LIST, fault
    try:
        records.result(run)
    except Damaged as damage:
        yield run.result, str(damage)
    yield from _damaged_files(folder, run.name)


def _damaged_files(folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    known = (products.listed(folder) if folder.is_dir() else None) or {}
    show = _Progress(name, sum(product.n_bytes for product in known.values()))
    for file, product in sorted(known.items()):
        path = folder / file
        if not path.is_file() or not products.is_intact(path, product, show.count):
            yield path, products.why_damaged(path, product, folder)
    show.end()


def _damaged_checkpoints(run: RunDir) -> Iterator[tuple[Path, str]]:
    steps = [step for step in committed_steps(run.checkpoints) if own_commit(run.checkpoints, step) is None]
    if not steps:
        return
    from hpc.checkpoint import checkpoint

    for step in steps:
        try:
            checkpoint.load(run.checkpoints, step)
        except Damaged as damage:
            yield checkpoint.at(run.checkpoints, step), str(damage)


def _refuse_living(run: RunDir) -> None:
    state = status.look(run)
    if not state.ended:
        raise ConfigError(f"{run.name} is {state.word}: stop it first, hpc stop {run.name}")


def _set_aside(path: Path, run: RunDir) -> bool:
    """Move a damaged file or checkpoint out of the way; nothing is deleted. False if there is none."""
    if not os.path.lexists(path):
        return False
    aside = run.path / SET_ASIDE / path.relative_to(run.path)
    number = 0
    while os.path.lexists(aside):
        number += 1
        aside = aside.with_name(f"{path.name}.{number}")
    aside.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, aside)
    return True


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
