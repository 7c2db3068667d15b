"""Computes a finished run again, from its own folder, in a new one, and compares the two.

runs/.replay/train-k3f9x2ab-1/train-k3f9x2ab   the run computed again, next to links to the runs that it reads
runs/.replay/train-k3f9x2ab-1/.code            the copies of the code, those of the runs
runs/.replay/train-k3f9x2ab-1/inputs.json      where paths of its config are now, if not where they were
runs/.replay/train-k3f9x2ab-1/of.json          which run it is of
runs/.replay/train-k3f9x2ab-1/verdict.json     written last: what came of it
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from hpc import config
from hpc.codes import DONE, STOPPED
from hpc.config import plugins, stages
from hpc.config.input_file import MOVED
from hpc.errors import ConfigError
from hpc.plan import plan as plans
from hpc.plan import snapshot
from hpc.plan.plan import Plan
from hpc.plan.snapshot import Code
from hpc.replay import causes, inputs, verdict
from hpc.replay.inputs import Inputs
from hpc.replay.verdict import Verdict
from hpc.runs import products, provenance, records, seal, status
from hpc.runs.rundir import RunDir, read_json, write_json
from hpc.runs.unpack import ARCHIVE
from hpc.submit import start

FOLDER = ".replay"
VERDICT, OF = "verdict.json", "of.json"


def refuse(was: RunDir, todays_code: bool) -> None:
    """Refuse a run that cannot be computed again: one that is not finished, or whose config or code is not what ran."""
    if not was.result.exists():
        state = status.look(was)
        raise ConfigError(f"{was.name} is {state.word}, and only a finished run can be compared: hpc resume {was.name}")
    if records.plan(was).get("schema", 0) < records.WITH_LISTS:
        raise ConfigError(
            f"{was.name} is of an earlier version, which did not list what a run has written: make it anew"
        )
    if fault := config_fault(was):
        raise ConfigError(fault)
    if not todays_code and (fault := code_fault(was)):
        raise ConfigError(
            f"code: {fault}. --todays-code computes with the code that is here now, and names what differs"
        )


def config_fault(was: RunDir) -> str:
    """Describe what is another in the config of a run than when it ran; empty if nothing is."""
    science = plans.of_run(was)
    if science.name == was.name:
        return ""
    then = provenance.read(was).get("settings", {})
    now = config.load([was.config])
    other = causes.settings(then, now) if then else []
    what = f": {other[0].removeprefix('config: ')}" if other else ""
    return (
        f"config: {was.config} is not what ran{what}. By its settings it is {science.name}: give it its settings back, "
        "or its folder its name"
    )


def code_fault(was: RunDir) -> str:
    """Describe what is another in the copy of the code of a run; empty if nothing is."""
    expected = records.plan(was).get("snapshot", "")
    if not expected:
        return f"{was.plan} names no copy of the code"
    if fault := seal.difference(was.code, expected):
        return fault
    return "" if (was.code / ARCHIVE).exists() else f"{was.code} is a copy as older versions made it, file by file"


def product_fault(was: RunDir) -> str:
    """Describe a product of a run that is here and not what it has written; empty if there is none. The comparison goes
    by the list, and says nothing of such a file."""
    for name, product in (products.listed(was.out) or {}).items():
        path = was.out / name
        if path.is_file() and not products.is_intact(path, product):
            return products.why_damaged(path, product, was.out)
    return ""


def planned(was: RunDir, place: Path, todays_code: bool) -> Plan:
    """Return the plan that computes a run in another folder, with its own code or today's. Its site and resources are
    those that it had: the command line may ask for others."""
    last, record = plans.of_folder(was), records.whole_plan(was)
    code, meaning = _own_code(record), records.meaning(was)
    if todays_code:
        packages = ["hpc", last.science.entry.partition(".")[0], *plugins.packages()]
        code = tuple(snapshot.look(list(dict.fromkeys(packages))))
        meaning = stages.meaning(stages.load(last.science.entry))
    asked = dict(last.asked)
    if isinstance(asked.get("nodes"), str):  # it was malleable: as many as it had last
        asked["nodes"] = last.resources.nodes
    last = replace(last, runs=str(place), cwd=os.getcwd(), python=sys.executable)
    return replace(last, code=code, meaning=meaning, asked=asked, label="")


def todays_code(runs: Iterable[RunDir]) -> set[str]:
    """Return the SHA-256 of the files of code that are installed here, of the packages that these runs would use."""
    entries = {records.plan(run).get("entry", "").partition(".")[0] for run in runs}
    packages = ["hpc", *sorted(entries - {""}), *plugins.packages()]
    return snapshot.digests(snapshot.look(list(dict.fromkeys(packages))))


def _own_code(record: "records.PlanRecord") -> tuple[Code, ...]:
    """Return the code of a run as one that was sent here: it is not copied from where it was, but taken as it is."""
    first, *others = record["code"]
    own = Code(
        first["root"], tuple(record["python_path"]), first["commit"], tuple(first["modified"]), (),
        version=first.get("version", ""), packages=tuple(record["packages"].items()), folder_name=".",
        sent=record["snapshot"],
    )  # fmt: skip
    return (own, *(Code(code["root"], (), code["commit"], tuple(code["modified"]), ()) for code in others))


def new_place(name: str, runs: Path, of: Mapping[str, object]) -> Path:
    """Return the folder of this replay: that of the last one if it has no verdict yet, so that the same line goes on,
    or a new one. `of`: what it is a replay of."""
    folder = runs / FOLDER
    numbers = [int(path.name.rpartition("-")[2]) for path in folder.glob(f"{name}-*") if _is_number(path.name)]
    last = max(numbers, default=0)
    goes_on = last and not (folder / f"{name}-{last}" / VERDICT).exists()
    if goes_on and read_json(folder / f"{name}-{last}" / OF) == of:
        return folder / f"{name}-{last}"
    return folder / f"{name}-{last + 1}"


def _is_number(name: str) -> bool:
    return name.rpartition("-")[2].isdecimal()


def note(place: Path, of: Mapping[str, object]) -> None:
    """Note in the folder of a replay what it is of, so that the same line finds it."""
    write_json(place / OF, of)


def lay_out(was: RunDir, place: Path, found: Inputs, upstream: Mapping[str, RunDir]) -> dict[str, str]:
    """Make what a run needs in the folder of a replay: links to what it reads, and to the code. Returns the variables
    that a rank needs to find the rest."""
    codes = place / ".code"
    own = was.code.resolve()
    codes.mkdir(exist_ok=True)
    if own.is_dir() and not (codes / own.name).exists():
        (codes / own.name).symlink_to(os.path.relpath(own, codes))
    table = inputs.lay(found, place, upstream)
    return {MOVED: str(table)} if table else {}


def compute(plan: Plan, moved: Mapping[str, str]) -> int:
    """Compute a run to its end, unless that was done before."""
    if plan.run.result.exists():
        print(f"\n{plan.science.name} was computed before, in {plan.run.path}", flush=True)
        return DONE
    os.environ.update(moved)
    plan = replace(plan, site=replace(plan.site, env={**plan.site.env, **moved}))
    code = start.here([plan]) if plan.site.kind != "slurm" else start.chain([plan], True, None)
    return code if code or plan.run.result.exists() else STOPPED


def judge(was: RunDir, plan: Plan, place: Path, last: bool) -> Verdict:
    """Compare, and write down what came of it. `last`: with it, the replay is over."""
    came = verdict.of(was, plan.run)
    write_json(place / (VERDICT if last else f"{was.name}.verdict.json"), came.to_json())
    return came
