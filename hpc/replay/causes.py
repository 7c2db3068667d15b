"""Why a run computed again may give other results: code, config, data, packages, processor, ranks."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.config import build, load, stages
from hpc.errors import ConfigError, first_of
from hpc.media import many
from hpc.replay.values import flat
from hpc.runs import provenance, records
from hpc.runs.rundir import RunDir, read_json
from hpc.runs.unpack import ARCHIVE, MANIFEST

FIRST = ("torch", "numpy", "scipy", "scikit-learn", "mne", "h5py")
"""Packages that compute are named first."""
MOST_NAMED = 6


def all_of(was: RunDir, now: RunDir) -> list[str]:
    """Return everything that is known to be another in a run computed again, what explains most first."""
    before, after = provenance.read(was), provenance.read(now)
    if not before:
        unknown = f"{was.name} is of a version that did not note its packages, its processor and its data"
        return [*code(was, now), unknown, *_ranks(was, now, before, after)]
    return [
        *code(was, now),
        *config(before, after),
        *data(before, after),
        *packages(before, after),
        *processor(before, after),
        *_ranks(was, now, before, after),
    ]


def code(was: RunDir, now: RunDir) -> list[str]:
    """Name the files of code that are others."""
    before, after = (read_json(run.code / MANIFEST) or {} for run in (was, now))
    # Of a capsule, the manifest is there without its archive
    other = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    other = [name for name in other if name != "code.diff"]
    if not other:
        return []
    text = f"code: {many(len(other), 'file')} not as then: {first_of(other)}"
    return [f"{text}; line {number} first" if (number := _first_line(was, now, other[0])) else text]


def _first_line(was: RunDir, now: RunDir, name: str) -> int:
    """Return the number of the first line in which a file differs; 0 if it is not in both."""
    texts = []
    for run in (was, now):
        archive: Path = run.code / ARCHIVE
        if not archive.is_file():
            return 0
        with zipfile.ZipFile(archive) as packed:
            if name not in packed.namelist():
                return 0
            texts.append(packed.read(name).splitlines())
    pairs = enumerate(zip(*texts, strict=False), start=1)
    return next((number for number, (a, b) in pairs if a != b), min(map(len, texts)) + 1)


def config(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the settings that are others."""
    return settings(before.get("settings", {}), after.get("settings", {}))


def settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    was, now = ({at: str(value) for at, value in flat(values)} for values in (before, after))
    other = [at for at in (*was, *(at for at in now if at not in was)) if was.get(at) != now.get(at)]
    texts = [
        f"{at.replace('/', '.')} is {now.get(at, 'not there')}, and was {was.get(at, 'not there')}" for at in other
    ]
    return [f"config: {first_of(texts)}"] if texts else []


def data(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the inputs that were others."""
    texts = []
    for ref, digest in before["runs"].items():
        if after["runs"].get(ref, digest) != digest:
            texts.append(f"the products of {ref} are not those that were read")
    for ref, entry in before["paths"].items():
        now = after["paths"].get(ref, entry)
        if now["digest"] != entry["digest"]:
            texts.append(f"{ref}{_first_file(entry.get('files', {}), now.get('files', {}))} is not what was read")
    return [f"data: {first_of(texts)}"] if texts else []


def _first_file(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    other = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return f"/{other[0]}" if other and other[0] else ""


def packages(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name Python and the packages whose versions are others."""
    was, now = before["environment"], after["environment"]
    other = [f"Python {now['python']}, was {was['python']}"] if now["python"] != was["python"] else []
    names = was["packages"].keys() | now["packages"].keys()
    for name in sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        versions = [each["packages"].get(name, "not installed") for each in (was, now)]
        if versions[0] != versions[1]:
            other.append(f"{name} {versions[1]}, was {versions[0]}")
    return [f"package: {first_of(other, MOST_NAMED)}"] if other else []


def processor(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name in what the processors, the GPUs and their instructions are others."""
    was, now = before["environment"], after["environment"]
    other = [
        f"{now.get(key, 'none')}, was {was.get(key, 'none')}" + (f" ({key})" if key != "processor" else "")
        for key in ("processor", "system", "instructions", "gpu")
        if was.get(key) != now.get(key)
    ]
    names = sorted(was["variables"].keys() | now["variables"].keys())
    values = [(name, *(each["variables"].get(name, "not set") for each in (now, was))) for name in names]
    other += [f"{name} {a}, was {b}" for name, a, b in values if a != b]
    return [f"processor: {'; '.join(other)}"] if other else []


def _ranks(was: RunDir, now: RunDir, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    numbers = [_numbers_of_ranks(run, about) for run, about in ((was, before), (now, after))]
    texts = [f"ranks: {numbers[1]}, was {numbers[0]}"] if numbers[0] != numbers[1] else []
    threads = [about.get("environment", {}).get("threads") for about in (before, after)]
    if None not in threads and threads[0] != threads[1]:
        texts.append(f"threads: {threads[1]} a rank, was {threads[0]}")
    return texts


def _numbers_of_ranks(run: RunDir, about: Mapping[str, Any]) -> str:
    """Return with how many ranks a run was computed, `2`; `4, then 2` if the number has changed."""
    numbers = [line["ranks"] for line in records.attempts(run) if "ranks" in line]
    numbers = numbers or [about.get("ranks", "not known")]
    return ", then ".join(str(n) for place, n in enumerate(numbers) if place == 0 or n != numbers[place - 1])


def promise(was: RunDir, n_ranks: Sequence[int]) -> str:
    """Return what the stage says of other numbers of ranks; empty if nothing."""
    record = records.plan(was)
    try:
        stage = stages.load(record["entry"])
        cfg = build(stages.schema(stage), load([was.config]), record["stage"])
        return stages.why_not_exact(stage, cfg, n_ranks) or ""
    except ConfigError:  # by today's code there is no such stage, or setting
        return ""
