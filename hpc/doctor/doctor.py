"""Probes a site, writes its profile, and says what works otherwise there.

    hpc doctor --account GRANT -o my-cluster.yaml

What Slurm tells is asked each time. What only a job can see is probed once, and kept in RUNS/.doctor.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Any

from hpc import config
from hpc.codes import DONE, FAILED, STOPPED
from hpc.doctor import PROBES, looks, profile_file, slurm_facts
from hpc.doctor.in_job import MARK_OF_SUBMISSION
from hpc.doctor.jobs import Jobs, Probe
from hpc.doctor.lines import Evidence, Line, disk_text, lines
from hpc.doctor.sentences import sentences
from hpc.doctor.slurm_facts import Facts, with_gpu
from hpc.errors import ConfigError, did_you_mean
from hpc.media import one_line
from hpc.site import allocation, profile
from hpc.site.allocation import Request
from hpc.site.profile import duration_s

WALLTIME_MIN = 5
"""Of a probe's job. All of them take seconds, but for the signal."""
SIGNAL_MIN, SIGNAL_S = 2, 30
"""The walltime of the probe of the signal, once it runs, and how long before its end the signal is asked for."""
USUAL_LOOK_S = 30


@dataclass(frozen=True)
class Asked:
    """What the command line says.

    Parameters
    ----------
    site
        A profile to start from; none: what Slurm says alone.
    options
        Options of sbatch for all jobs: account, qos, reservation and the like.
    output
        The file to write; empty: NAME.yaml here.
    probes
        The names of those to do; empty: all.
    """

    site: str | None
    partition: str | None
    options: dict[str, str]
    runs: Path
    output: str
    wait: str
    again: bool
    replace: bool
    probes: Sequence[str] = field(default_factory=list)


def examine(asked: Asked, environ: Mapping[str, str]) -> int:
    """Do it; return the exit code."""
    duration_s(asked.wait)
    if unknown := [name for name in asked.probes if name not in PROBES]:
        raise ConfigError(f"there is no probe {unknown[0]!r}.{did_you_mean(unknown[0], PROBES)}")
    site = profile.load(asked.site) if asked.site else None
    here = profile.has_slurm(environ)
    if site and site.kind == "slurm" and not (here and profile.is_here(site, environ)):
        at = f": give the line on its login node{site.login.host and f' {site.login.host}'}"
        raise ConfigError(f"the Slurm of {site.name} is not on this machine, and doctor starts jobs there{at}")
    if site and site.kind == "inline":
        raise ConfigError(f"{site.name} is this process: say --on local, or leave it out")
    if not here or (site and site.kind == "local"):
        return _examine_machine(asked, environ, here)
    base = config.load([profile.find(asked.site)]) if asked.site else {}
    known = profile.detect(environ)
    if not site and known not in (profile.ANY, "local"):
        print(f"note: this is the site {known}; --on {known} starts from its profile")
    return _examine_slurm(asked, site, base)


def _examine_slurm(asked: Asked, site: profile.Site | None, base: Mapping[str, Any]) -> int:
    options = {**(site.directives if site else {}), **asked.options}
    if site:  # as for a run: the suffix of an account, and a QOS of its name
        granted = allocation.fit(site, Request(account=asked.options.get("account"), partition=asked.partition))
        options |= {"account": granted.account} if granted.account else {}
        options = ({"qos": granted.qos} if granted.qos else {}) | options
    print("Asking Slurm", flush=True)
    facts = slurm_facts.ask(options, asked.partition or (site.partition if site else None))
    cluster = facts.setting("ClusterName") or "cluster"
    path = Path(asked.output or f"{profile_file.name_of(Path(asked.site)) if asked.site else cluster}.yaml")
    if not asked.replace and profile_file.is_corrected(path):
        raise ConfigError(f"{path} is there, and not as hpc doctor wrote it: give another -o FILE, or say --replace")
    folder = asked.runs.absolute() / ".doctor" / f"{cluster}-{facts.partition}"
    folder.mkdir(parents=True, exist_ok=True)
    options = _without({**options, "partition": facts.partition}, site.skip if site else ())
    jobs = Jobs(folder, options, site.prologue if site else (), facts.slurm)
    probes = [probe for probe in probes_of(facts, site, asked) if not asked.probes or probe.name in asked.probes]
    evidence, waits = _probed(jobs, probes, facts, asked)
    today = time.strftime("%Y-%m-%d")
    found = lines(evidence, today)
    if asked.site:
        found = profile_file.upon(base, profile_file.name_of(Path(asked.site)), found)
    said = sentences(evidence)
    profile_file.checked(profile_file.values(found), profile_file.name_of(path))
    profile_file.write(path, profile_file.text(found, said, today), replace=asked.replace)
    _show(said, path, account=bool(evidence.facts.account_required))
    return STOPPED if waits else FAILED if evidence.missing else DONE


def probes_of(facts: Facts, site: profile.Site | None, asked: Asked) -> list[Probe]:
    """Return the jobs for this site."""
    n_nodes = min(2, facts.n_nodes)
    scratch = list(site.storage.scratch_local) if site else []
    task = {
        "folder": str(asked.runs.absolute()), "scratch": scratch, "account": asked.options.get("account", ""),
        "nodes": n_nodes, "looks_every_s": _looks_every_s(facts),
    }  # fmt: skip
    small = {"nodes": "1", "ntasks-per-node": "1", "cpus-per-task": "1", "time": str(WALLTIME_MIN)}
    request = next((way for way, refusal in facts.gpu_refusals.items() if not refusal), facts.profile["gpu_request"])
    on_gpus = {**small, "ntasks-per-node": str(n_gpus := min(2, facts.gpus_per_node))}
    if facts.gpu_only:
        small = with_gpu(small, request.format(gpus=1))
    every = [
        Probe("nodes", "disks, network, memory and cores", {**small, "nodes": str(n_nodes)}, task),
        Probe("python", "Python and torch", small, {}),
        Probe("requeue", "whether a job can put itself back into the queue", {**small, "requeue": ""}, {}),
        Probe(
            "signal", "the signal before the end of the walltime", {**small, "signal": f"B:USR2@{SIGNAL_S}"},
            {"minutes": SIGNAL_MIN, "lead_s": SIGNAL_S},
        ),
    ]  # fmt: skip
    if facts.gpus_per_node:
        every.append(Probe("gpus", "GPUs", with_gpu(on_gpus, request.format(gpus=n_gpus)), {"gpus": n_gpus}))
    skip = site.skip if site else ()
    return [replace(probe, options=_without(probe.options, skip)) for probe in every]


def _without(options: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if name not in names}


def _looks_every_s(facts: Facts) -> float:
    """Return how long a task that takes too much memory has to live until Slurm looks at it."""
    if "OverMemoryKill" not in facts.setting("JobAcctGatherParams"):
        return 1.0
    every = facts.setting("JobAcctGatherFrequency").removeprefix("task=").partition(",")[0]
    return 1.5 * (int(every) if every.isdecimal() else USUAL_LOOK_S) + 1


def _probed(jobs: Jobs, probes: Sequence[Probe], facts: Facts, asked: Asked) -> tuple[Evidence, bool]:
    """Return what the probes have seen, of this call or of one before, and whether jobs wait still."""
    evidence = Evidence(facts, {}, {})
    if asked.again:
        for probe in probes:
            jobs.forget(probe.name)
    os.environ[MARK_OF_SUBMISSION] = "1"
    running = []
    for probe in probes:
        if (seen := jobs.seen(probe.name)) is not None:
            evidence.seen[probe.name] = seen
            print(f"  {probe.name}: probed before, by job {seen['job']} (--again probes anew)", flush=True)
        elif refusal := jobs.submit(probe):
            evidence.missing[probe.name] = f"sbatch does not take its job: {refusal}"
            print(f"  {probe.name}: {evidence.missing[probe.name]}", flush=True)
        else:
            running.append(probe)
            print(f"  {probe.name}: job {jobs.job(probe.name)} looks at {probe.what}", flush=True)
    try:
        outcomes = jobs.wait(running, asked.wait, lambda text: print(one_line(f"  {text}"), flush=True))
    except KeyboardInterrupt:
        waiting = " ".join(jobs.job(probe.name) for probe in running)
        print(f"\nStopped. The jobs go on; the same line takes them up again, and `scancel {waiting}` ends them.")
        raise
    for name, outcome in outcomes.items():
        if outcome.seen is not None:
            evidence.seen[name] = outcome.seen
        if outcome.why:
            evidence.missing[name] = outcome.why
    for name in PROBES:  # of an earlier call, where this one was to do some only
        if name not in evidence.seen and name not in evidence.missing and (seen := jobs.seen(name)) is not None:
            evidence.seen[name] = seen
    if not facts.gpus_per_node:
        evidence.missing.pop("gpus", None)
    return evidence, any(outcome.waits for outcome in outcomes.values())


def _examine_machine(asked: Asked, environ: Mapping[str, str], has_slurm: bool) -> int:
    """Look at this machine, where no Slurm is."""
    why = "--on local" if has_slurm else "There is no Slurm here (no sbatch, or no slurm.conf)"
    print(f"{why}: this is about the machine itself, {os.uname().nodename}", flush=True)
    runs = asked.runs.absolute()
    folder = next(place for place in (runs, *runs.parents) if place.is_dir())
    seen = looks.all_of(str(folder), [], environ)
    today = time.strftime("%Y-%m-%d")
    path = Path(asked.output or f"{os.uname().nodename.partition('.')[0]}.yaml")
    found = _lines_of_machine(seen, today)
    said = _sentences_of_machine(seen)
    profile_file.checked(profile_file.values(found), profile_file.name_of(path))
    profile_file.write(path, profile_file.text(found, said, today), replace=asked.replace)
    _show(said, path, account=False)
    return DONE


def _lines_of_machine(seen: Mapping[str, Any], today: str) -> list[Line]:
    cores, software, torch = seen["cores"], seen["software"], seen["software"]["torch"]
    memory = f"{seen['memory_gb']:g} GB of memory" if seen["memory_gb"] else "memory not known"
    how = f"Python {software['python']}, torch {torch.get('version') or torch['error']}"
    return [
        Line("kind", "local", "no Slurm was used"),
        Line("description", os.uname().nodename, f"{cores['machine']} cores, {memory}; {how}"),
        Line("status", "user-observed", "seen by hpc doctor"),
        Line("verified_on", today, "the day of the look"),
        Line("max_nodes", 64, "groups of processes of this machine; as the profile local"),
        Line("gpus_per_node", -1, f"as many as there are: {seen['gpus']['n']} now, {seen['gpus']['hidden_by']}"),
        *[Line("", None, disk_text(looks.Disk(**disk))) for disk in seen["disks"]],
    ]


def _sentences_of_machine(seen: Mapping[str, Any]) -> list[str]:
    torch, cores = seen["software"]["torch"], seen["cores"]
    said = []
    if "error" in torch:
        said.append(f"torch cannot be imported ({torch['error']}): a training fails at its start; see env/README.md.")
    elif seen["gpus"]["n"] and not torch["n_gpus"]:
        said.append(f"torch {torch['version']} sees none of the {seen['gpus']['n']} GPUs: it is a build for CPUs.")
    elif not seen["gpus"]["n"]:
        said.append("There is no GPU: ranks compute on CPUs.")
    if cores["usable"] < cores["machine"]:
        said.append(f"This process may use {cores['usable']} of {cores['machine']} cores.")
    return said


def _show(said: Sequence[str], path: Path, *, account: bool) -> None:
    if said:
        print("\nWhat will not work here, or works in another way, and what happens then:")
        width = min(120, get_terminal_size((120, 24)).columns)
        for sentence in said:
            print(fill(one_line(sentence), width, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False))
    grant = " --account NAME" if account else ""
    print(f"\nwrote {path}\n  use it         hpc train my-study.yaml --on {path}{grant}")
    print(f"  by its name    cp {path} ~/.config/hpc/site/, then --on {profile_file.name_of(path)}")
