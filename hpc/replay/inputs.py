"""Finds what a run has read: by its hash, wherever it is now."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc import config
from hpc.config.input_file import MARK, file_digest
from hpc.media import many
from hpc.runs import products, provenance, records, status
from hpc.runs.rundir import LIST, RunDir, write_json


@dataclass
class Inputs:
    """Where the inputs of a run are, and what is wrong with the others."""

    links: dict[str, Path] = field(default_factory=dict)
    """Runs that it reads, by name: the folder of a run, or one that holds only its products."""
    moved: dict[str, str] = field(default_factory=dict)
    """Paths in its config, and where these files and folders are, if that is not where a rank would look."""
    other: list[str] = field(default_factory=list)
    """A sentence for each input that is there and is not what was read."""
    missing: dict[str, str] = field(default_factory=dict)
    """The same for each that is not there, by its name: at which path, with which hash."""
    notes: list[str] = field(default_factory=list)


def find(was: RunDir, runs: Sequence[Path], data: Sequence[Path]) -> Inputs:
    """Look for all that a run has read: next to it, in folders of runs, where its config says, and in `data`."""
    inputs = Inputs()
    runs = list(dict.fromkeys([was.path.parent, *runs]))
    about = provenance.read(was)
    read: Mapping[str, str] = about.get("runs") or dict.fromkeys(provenance.upstream_runs(was), "")
    for ref, digest in read.items():
        _find_run(ref, digest, runs, data, inputs)
    paths: Mapping[str, Any] = about.get("paths", {})
    for ref, entry in paths.items():
        _find_path(ref, entry, was, data, inputs)
    for text in dict.fromkeys(text for _, text in config.texts(config.load([was.config]), "") if MARK in text):
        name, _, digest = text.partition(MARK)
        _find_file(name, digest, was, data, inputs)
    return inputs


def _find_run(ref: str, digest: str, runs: Sequence[Path], data: Sequence[Path], inputs: Inputs) -> None:
    """Find the products of a run that this one reads. `digest`: that of their list; empty: nobody has noted it."""
    own = [run for folder in runs if is_whole(run := RunDir(folder / ref))]
    if not digest and own:
        inputs.links[ref] = own[0].path
        return
    others = (run for folder in runs for run in status.all_runs(folder) if run.name != ref)
    for run in (*own, *others):
        if products.digest(run.out) == digest and is_whole(run):
            inputs.links[ref] = run.path
            if run.name != ref:
                inputs.notes.append(f"{ref} is read from {run.path}, which has made the same")
            return
    for folder in _below(data):
        if (folder / LIST).is_file() and products.digest(folder) == digest:
            inputs.links[ref] = folder
            inputs.notes.append(f"{ref} is read from {folder}")
            return
    if own:
        now = products.digest(own[0].out)
        inputs.links[ref] = own[0].path
        inputs.other.append(
            f"the products of {own[0].path} have the hash {now[:12]}…, and {digest[:12]}… was read: it was made anew, "
            "or its list was changed"
        )
        return
    inputs.missing[ref] = f"the products of {ref}, with the hash {digest[:12]}… (its folder `out` with {LIST} in it)"


def is_whole(run: RunDir) -> bool:
    """Whether a run has finished, and all that it lists is there; of those of a capsule there is only the list."""
    return run.result.exists() and all((run.out / name).is_file() for name in products.listed(run.out) or {})


def _find_path(ref: str, entry: Mapping[str, Any], was: RunDir, data: Sequence[Path], inputs: Inputs) -> None:
    places = _places(ref, was, data)
    faults = {place: provenance.first_difference(place, entry, was.path.parent) for place in places if place.exists()}
    _choose(ref, places[0], faults, inputs, described(ref, entry))


def _find_file(name: str, digest: str, was: RunDir, data: Sequence[Path], inputs: Inputs) -> None:
    faults = {}
    for place in _places(name, was, data):
        if place.is_file():
            now = file_digest(place)
            faults[place] = "" if now == digest else f"{place} has the SHA-256 {now}…, and {digest}… was read"
    _choose(name, _places(name, was, data)[0], faults, inputs, f"{name}: a file with the SHA-256 {digest}…")


def _choose(ref: str, usual: Path, faults: Mapping[Path, str], inputs: Inputs, lacking: str) -> None:
    """Take the first place where all is as it was, or else the first that is there."""
    if not faults:
        inputs.missing[ref] = lacking
        return
    place = next((each for each, fault in faults.items() if not fault), next(iter(faults)))
    if faults[place]:
        inputs.other.append(faults[place])
    if place != Path(os.path.abspath(os.path.expanduser(ref))):
        inputs.moved[ref] = str(place)
    if place != usual and not faults[place]:
        inputs.notes.append(f"{ref} is read from {place}")


def _places(ref: str, was: RunDir, data: Sequence[Path]) -> list[Path]:
    """Return where a path of a config may be: where it was, from here, and in `data`."""
    path = Path(ref).expanduser()
    places = [Path(os.path.abspath(os.path.join(folder, path))) for folder in (records.plan(was).get("cwd", ""), "")]
    return list(dict.fromkeys([*places, *(each for folder in data for each in (folder, folder / path.name))]))


def _below(data: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders of `data` in which the products of a run may be."""
    for folder in (each for top in data for each in (top, *sorted(top.glob("*/")))):
        yield folder / "out"
        yield folder


def described(ref: str, entry: Mapping[str, Any]) -> str:
    """Describe what a run has read at a path. `entry`: that of its provenance."""
    files = entry.get("files")
    what = "products of a run"
    if files is not None:
        what = f"{many(len(files), 'file')} of {sum(n_bytes for n_bytes, _ in files.values()) / 1e6:,.1f} MB"
    return f"{ref}: {what}, with the hash {entry['digest'][:12]}…"


def lay(inputs: Inputs, place: Path, records_of: Mapping[str, RunDir]) -> Path | None:
    """Put the runs that are read next to a run in `place`; return the table of paths that are elsewhere, if any are.
    `records_of`: what is known of runs of which only the products are there."""
    place.mkdir(parents=True, exist_ok=True)
    for ref, folder in inputs.links.items():
        link = place / ref
        if folder == link:  # it was computed here
            continue
        if link.is_symlink():
            link.unlink()
        elif (link / "out").is_symlink():  # of an attempt that had found only its products
            shutil.rmtree(link)
        if (folder / "plan.json").is_file():
            link.symlink_to(os.path.relpath(folder, place))
            continue
        link.mkdir()
        (link / "out").symlink_to(os.path.abspath(folder))
        own = records_of.get(ref)
        for name, content in (("plan.json", {"name": ref}), ("result.json", {"metrics": None})):
            copied = (own.path / name).read_text() if own and (own.path / name).is_file() else None
            if copied is None:
                write_json(link / name, content)
            else:
                (link / name).write_text(copied)
    if not inputs.moved:
        return None
    write_json(place / MOVED, inputs.moved)
    return place / MOVED


MOVED = "inputs.json"
"""The table of paths, next to a run that is computed again: see hpc.config.input_file.place_of."""
