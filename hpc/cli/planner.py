"""Turns the parsed command line into plans: stage and settings, site, resources and code."""

import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc import config
from hpc.book import budget
from hpc.book.budget import Budget
from hpc.cli import preflight
from hpc.cli.options import GROUPS, OPTIONS, SBATCH_WORDS, SYNONYMS, Arguments
from hpc.cli.table import SWEEPS, VERBS
from hpc.config import plugins, recipes, secrets, stages
from hpc.config.choices import leaves
from hpc.config.schema import NoSetting
from hpc.errors import ConfigError, did_you_mean, first_of
from hpc.plan import meanings, plan, protocol, snapshot
from hpc.plan.plan import Plan, Science
from hpc.rank.context import input_run
from hpc.runs import records, sharing, status
from hpc.runs.rundir import RunDir
from hpc.site import allocation, gpus
from hpc.site.allocation import Resources, Site
from hpc.slurm import sbatch_words
from hpc.submit import budgets, costs, node_counts, test_only

FOR_SBATCH = ("as it is", "words")
DROPPED = "none"
"""What `resume` takes for an option of sbatch that the run had until now and is to have no more: --reservation none."""


def make(args: Arguments, environ: Mapping[str, str]) -> list[Plan]:
    runs = Path(args.runs).absolute()
    try:
        sciences, sources, settings = _sciences(args, runs)
    except NoSetting as error:
        raise _with_option(error, args) from None
    refuse_secrets(args, sciences)
    request = _asked(args, runs)
    _refuse_range(args, request)
    places = _places(request, runs, environ, args.dry_run)
    of_stages = [science.entry.split(".")[0] for science in sciences]
    packages = list(dict.fromkeys(["hpc", *of_stages, *plugins.packages()]))
    code = snapshot.sent(environ) or snapshot.look(packages)
    coming = [science.name for science in sciences]
    for science in sciences:
        preflight.check_inputs(science, runs, coming)
    read = {ref for science in sciences for ref in science.inputs.values()}
    reasons = [_reason(science, sciences, args, runs) for science in sciences]
    labels = [
        plan.label_of(RunDir(runs / science.name)) if reason else _label(args, runs, science.name, science.name in read)
        for science, reason in zip(sciences, reasons)
    ]
    plans = [
        Plan(
            science=science,
            sources=tuple(sources),
            site=places[0][0],
            resources=places[0][1],
            code=tuple(code),
            runs=str(runs),
            cwd=os.getcwd(),
            python=sys.executable,
            label=label,
            settings=own,
            asked=request,
            reason=reason,
            meaning=meanings.planned(science, runs),
            outdated=meanings.notes(science, runs),
        )
        for science, label, own, reason in zip(sciences, labels, settings, reasons, strict=True)
    ]
    choice = [dataclasses.replace(plans[0], site=site, resources=resources) for site, resources in places]
    chosen = test_only.soonest(choice, environ)
    request["on"] = chosen.site.name  # also if it was detected
    plans = [dataclasses.replace(plan, site=chosen.site, resources=chosen.resources) for plan in plans]
    plans = node_counts.chosen(plans, environ)
    if limit := _budget(args, plans[0]):
        plans = budgets.shared(plans, limit)
    return costs.noted(preflight.checked(plans, environ))


def _budget(args: Arguments, planned: Plan) -> Budget | None:
    """Return the budget of the runs of a line; a run that continues keeps the one that it had."""
    if args.budget is not None:
        return budget.parse(args.budget)
    return budget.of_record(records.plan(planned.run).get("budget")) if args.verb == "resume" else None


def refuse_secrets(args: Arguments, sciences: Sequence[Science] = ()) -> None:
    """Refuse an option or a setting that looks like a secret, without showing it: it would be stored with the run. A
    run of an earlier version keeps what it has."""
    given = {row.name: getattr(args, row.field) for row in [*GROUPS["resources"], OPTIONS["--name"]]}
    texts = [(name, value) for name, value in given.items() if isinstance(value, str)]
    if args.verb not in ("resume", "export"):
        leaves = (config.texts(science.config, science.section) for science in sciences)
        texts.append(("--runs", str(args.runs)))
        texts += dict.fromkeys(itertools.chain.from_iterable(leaves))
    for at, text in texts:
        if secrets.looks_like_one(text):
            raise ConfigError(
                f"{at} looks like a secret, which would be stored with the run: leave it out. Where a setting takes a "
                "secret, it takes its name, in capitals"
            )


def _reason(science: Science, sciences: Sequence[Science], args: Arguments, runs: Path) -> str:
    """Explain why a run is made that the line does not name, and what could be read instead; empty for the others."""
    verb = args.words[0] if args.verb == "sweep" else args.verb
    if verb in ("pipeline", "bench", "resume", "export") or science.section == verb:
        return ""
    stage = science.stage
    others = sorted(path.parent.name for path in runs.glob(f"{stage}-*/result.json"))
    reader, field = next(
        (each, field) for each in sciences for field, ref in each.inputs.items() if ref == science.name
    )
    key = field if reader.section == verb else f"{reader.section}.{field}"
    instead = f". To read a finished one say {key}={first_of(others, 3)}" if others else ""
    return f"{reader.section} reads it, and it is not there yet; --only refuses instead{instead}"


def _sciences(args: Arguments, runs: Path) -> tuple[list[Science], list[str], list[str]]:
    """Return what is to be computed, the files and words it comes from, and the settings that differ between runs."""
    if args.verb in ("resume", "export"):
        if settings := [word for word in args.words if "=" in word]:
            raise ConfigError(
                f"{args.verb} keeps the settings of its run: {settings[0]} would be another run, of its stage and a "
                "config file; what may change are options, as --time or --nodes"
            )
        if len(args.words) != 1:
            raise ConfigError(f"{args.verb} which run? Say one name; see `python -m hpc.launch status`")
        run = status.find(args.words[0], runs)
        last = plan.of_folder(run)
        if last.science.name != run.name:
            raise ConfigError(
                f"{run.path} is a copy, or was renamed, or its config.yaml was changed: by its settings it is "
                f"{last.science.name}. Give it that name, or its settings back; other settings are another run"
            )
        return [last.science], [str(run.config)], [last.settings]
    if args.verb == "bench":
        line = protocol.parse(args.words)
        pairs = protocol.sciences(line, _named(runs), list(VERBS))
        return [science for science, _ in pairs], [str(line.file), *args.words], [own for _, own in pairs]
    if args.verb == "sweep" and (not args.words or "=" in args.words[0]):
        raise ConfigError("sweep what? Say a stage or `pipeline` first: sweep train seed=0..4")
    verb, *rest = args.words if args.verb == "sweep" else [args.verb, *args.words]
    if verb in SYNONYMS and verb not in stages.names():
        raise ConfigError(f"there is no stage or verb {verb!r}: say {SYNONYMS[verb]}")
    if args.verb == "sweep" and args.again:
        raise ConfigError("a sweep runs what is missing; for other runs of the same, sweep over a seed")
    _check_verb(verb, rest)
    words = [word for word in rest if "=" in word]
    if args.verb == "sweep" and not words and (verb == "pipeline" or verb in stages.names()):
        raise ConfigError(
            f"sweep over what? Say several values of a setting: sweep {verb} seed=0..4 optim.lr=1e-3,1e-4"
        )
    files = _files(verb, rest)
    values = config.choose(config.load(files), args.preset)
    named = _named(runs)
    lacks = None if args.only or args.verb == "drill" else (lambda name: not RunDir(runs / name).result.exists())
    if args.verb == "sweep":
        try:
            pairs = plan.sweep(verb, values, words, args.draws, named, lacks, list(VERBS))
        except ConfigError as error:
            raise _without_brackets(error, words) from None
        return [science for science, _ in pairs], [*map(str, files), *words], [own for _, own in pairs]
    anew = (lambda name: plan.next_again(name, runs)) if args.again else None
    sciences = plan.sciences(verb, values, words, anew, named, lacks, list(VERBS))
    return sciences, [*map(str, files), *words], [" ".join(words)] * len(sciences)


def science_of(args: Arguments, runs: Path) -> Science:
    """Return what the line of a stage asks for, without what is to be computed before it."""
    try:
        science = _sciences(args, runs)[0][-1]
    except NoSetting as error:
        raise _with_option(error, args) from None
    refuse_secrets(args, [science])
    return science


def words_of_pipeline(args: Arguments) -> list[str]:
    """Return the words of the line of a section with which `pipeline` gives it the same settings; none if the file has
    no such section, and so none that could read it."""
    files = _files(args.verb, args.words)
    _, sections = plan.sections_of(config.choose(config.load(files), args.preset))
    words = [word for word in args.words if "=" in word]
    full = [word if word.split(".")[0] in sections else f"{args.verb}.{word}" for word in words]
    return [*map(str, files), *full] if args.verb in sections else []


def _files(verb: str, rest: Sequence[str]) -> list[Path]:
    """Return the config files of a line; `rest`: the words after the stage."""
    words = [word for word in rest if "=" in word]
    return [_config_file(word, rest, verb) for word in rest if "=" not in word] or _default_file(verb, words)


def to_send(args: Arguments, environ: Mapping[str, str]) -> tuple[list[Science], list[Path]]:
    """Return what a line asks for, and its config files: the line is carried out elsewhere. What can be refused here is
    refused: settings, and resources that the site does not have. An account may be known there only."""
    runs = Path(args.runs).absolute()
    try:
        sciences, _, _ = _sciences(args, runs)
    except NoSetting as error:
        raise _with_option(error, args) from None
    refuse_secrets(args, sciences)
    request = _asked(args, runs)
    _refuse_range(args, request)
    _places(request, runs, environ, dry=True)
    verb, *rest = args.words if args.verb == "sweep" else [args.verb, *args.words]
    given = [protocol.parse(rest).file] if verb == "bench" else _files(verb, rest)
    files = config.with_includes(given)
    return sciences, [path for path in files if _is_below_here(path) or not recipes.is_of_package(path)]


def _is_below_here(path: Path) -> bool:
    return not os.path.relpath(path).startswith("..")


def words_elsewhere(args: Arguments) -> list[str]:
    """Return the verb and the words of a line for another machine, where config files are at the same place below the
    folder."""
    words = [args.verb, *args.words]
    return [os.path.relpath(word) if word.endswith((".yaml", ".yml")) and "=" not in word else word for word in words]


def _with_option(error: NoSetting, args: Arguments) -> ConfigError:
    """Rewrite the error for `nodes=2` to name the option --nodes, and that for sbatch's `cpus_per_task: 4` in a file to
    name --cpus."""
    given = f"--{error.key.replace('_', '-')}"
    names = (name for name in (SBATCH_WORDS.get(given, given), f"{given}s") if name in OPTIONS)
    row = next((OPTIONS[name] for name in names if OPTIONS[name].fits(args.verb)), None)
    if row is None or (error.known and "." in error.where):
        return error
    values = [word.partition("=")[2] for word in args.words if word.partition("=")[0].rpartition(".")[2] == error.key]
    value = values[-1] if values and given not in SBATCH_WORDS and "," not in values[-1] else row.metavar
    return ConfigError(f"{error.where} has no setting {error.key!r}: it is the option {row.name} {value}".rstrip())


def _without_brackets(error: ConfigError, words: Sequence[str]) -> ConfigError:
    """Say how a sweep is given several values, if one got a list instead."""
    for word in words:
        key, _, value = word.partition("=")
        if value.startswith("[") and error.at and f".{error.at}".endswith(f".{key}"):
            return ConfigError(f"{error}. In a sweep, several values stand without brackets: {key}={value.strip('[]')}")
    return error


def _check_verb(verb: str, rest: Sequence[str]) -> None:
    """Refuse a word that is neither a stage nor a verb, before a file is missed; in a file that is there, it may be a
    section."""
    there = [Path(word).exists() or word in recipes.every() for word in rest if "=" not in word]
    known = [*VERBS, *stages.names()]
    if there and not any(there) and stages.names() and verb not in known:
        raise ConfigError(f"there is no stage or verb {verb!r}.{did_you_mean(verb, known)}")


def _config_file(word: str, rest: Sequence[str], verb: str) -> Path:
    """Return the file of that name, or the recipe. `rest`: all words of the line, for `lr = 1e-3` in place of
    `lr=1e-3`."""
    path = Path(word)
    if path.suffix not in (".yaml", ".yml"):
        try:
            return recipes.find(word)
        except ConfigError:
            after = [each for each in rest[rest.index(word) + 1 :] if each != "="][:1]
            if _is_setting(word, verb) and after:
                raise ConfigError(
                    f"{word!r} is a setting: write it without spaces, {word}={after[0].removeprefix('=')}"
                ) from None
            raise
    if not path.exists() and path.stem in recipes.every():
        raise ConfigError(f"there is no config file {word}; the recipe {path.stem} has that name: say {path.stem}")
    return path


def _is_setting(word: str, verb: str) -> bool:
    if verb not in stages.names():
        return False
    path = word.removeprefix(f"{verb}.")
    paths = leaves(stages.schema(stages.load(stages.entry(verb))), path.rpartition(".")[2])
    return any(f".{each}".endswith(f".{path}") for each in paths)


def _default_file(verb: str, words: Sequence[str]) -> list[Path]:
    """Return the config file to use if none is named: `configs/default.yaml` here, or, unless the words name the
    inputs, the default recipe of the stage's package."""
    if path := recipes.default_here():
        return [path]
    packages = [stages.entry(name).partition(".")[0] for name in stages.names() if name == verb or verb == "pipeline"]
    if verb in stages.names():
        schema = stages.schema(stages.load(stages.entry(verb)))
        given = {word.removeprefix(f"{verb}.").partition("=")[0].partition(".")[0] for word in words}
        if set(config.required(schema)) <= given:
            return []
    defaults = [path for package in dict.fromkeys(packages) if (path := recipes.default_of(package))]
    return defaults[:1]


def _named(runs: Path) -> Callable[[str], list[RunDir]]:
    """Return a function that finds the existing runs that an input means, as `status` does; it looks each up once."""

    @functools.cache
    def look(ref: str) -> list[RunDir]:
        run = input_run(ref, runs)
        return status.meant(ref, runs) if ref and run and not run.path.exists() else []

    return look


def _asked(args: Arguments, runs: Path) -> dict[str, Any]:
    """Return the requested site and resources; a run that continues keeps the requests of its last submission."""
    if args.verb not in ("resume", "export"):
        return _asked_now(args)
    return _continued(args, plan.of_folder(status.find(args.words[0], runs)).asked)


def _asked_now(args: Arguments) -> dict[str, Any]:
    given = {row.field: getattr(args, row.field) for row in GROUPS["resources"]}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _continued(args: Arguments, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was requested before, with what is requested now."""
    now = _asked_now(args)
    if now.get("on", before.get("on")) != before.get("on"):  # on another site, only its layout makes sense
        before = {name: value for name, value in before.items() if name in ("nodes", "ranks")}
    dropped = [row.field for row in GROUPS["resources"] if row.slurm in FOR_SBATCH and now.get(row.field) == DROPPED]
    return {name: value for name, value in {**before, **now}.items() if name not in dropped}


def placed(args: Arguments, planned: Plan, environ: Mapping[str, str]) -> Plan:
    """Return the plan of a run that is to be computed once more, with the site and the resources that are requested
    now, and besides those that it had, as its `asked` says."""
    before = planned.asked
    if "on" not in _asked_now(args) and not allocation.is_known(before.get("on") or ""):
        before = {name: value for name, value in before.items() if name in ("nodes", "ranks")}
    request = _continued(args, before)
    _refuse_range(args, request)
    site, resources = _places(request, Path(planned.runs), environ, args.dry_run)[0]
    request["on"] = site.name
    return dataclasses.replace(planned, site=site, resources=resources, asked=request)


def _refuse_range(args: Arguments, asked: Mapping[str, Any]) -> None:
    """Refuse a range of nodes where the number cannot change."""
    nodes = asked.get("nodes")
    if not isinstance(nodes, str):
        return
    one = f"say one number, as --nodes {nodes.partition('-')[2]}"
    if args.verb in SWEEPS:
        raise ConfigError(f"--nodes {nodes}: a sweep is an array, whose jobs have one number of nodes: {one}")
    if "," in asked.get("on", ""):
        raise ConfigError(f"--nodes {nodes} and --on {asked['on']} are two choices: name one site, or {one}")


def _places(
    asked: Mapping[str, Any], runs: Path, environ: Mapping[str, str], dry: bool
) -> list[tuple[Site, Resources]]:
    """Return the sites and clusters that the run could go to, each with what it grants to the request: one, unless
    --on or SLURM_CLUSTERS names several."""
    names = (asked.get("on") or allocation.detect(environ)).split(",")
    sites = [allocation.load(name.strip()) for name in names]
    if len(sites) > 1 and (other := next((site for site in sites if site.kind != "slurm"), None)):
        raise ConfigError(f"--on takes several Slurm sites, of which one is chosen, but {other.name} is none")
    wanted = environ.get("SBATCH_CLUSTERS") or environ.get("SLURM_CLUSTERS") or ""
    places: list[tuple[Site, Resources]] = []
    refused: list[ConfigError] = []
    for site in sites:
        clusters = [] if site.kind != "slurm" or site.cluster else wanted.split(",")
        for cluster in clusters or [site.cluster]:
            try:
                places.append((site, _granted(asked, site, cluster, runs, environ, dry)))
            except ConfigError as error:
                refused.append(error)
    if not places:
        raise refused[0]
    notes = tuple(f"not taken into account: {error}" for error in refused)
    return [(site, dataclasses.replace(resources, notes=(*resources.notes, *notes))) for site, resources in places]


def _granted(
    asked: Mapping[str, Any], site: Site, cluster: str, runs: Path, environ: Mapping[str, str], dry: bool
) -> Resources:
    """Return the resources that a site grants to the request."""
    ours = GROUPS["resources"]
    options = {row.field: str(asked[row.field]) for row in ours if row.field in asked and row.slurm == "as it is"}
    options |= sbatch_words.parse(asked["sbatch"], _with_own_option()) if "sbatch" in asked else {}
    options |= {"mail-user": asked["mail"], "mail-type": "END,FAIL,REQUEUE"} if "mail" in asked else {}
    nodes = asked.get("nodes")
    request = allocation.Request(
        nodes=nodes if isinstance(nodes, int) else None,
        gpus=asked.get("gpus"),
        ranks=asked.get("ranks"),
        cpus=asked.get("cpus"),
        mem_gb=asked.get("mem"),
        time=asked.get("time"),
        partition=asked.get("partition"),
        account=allocation.find_account(site, asked.get("account"), environ, Path.home()),
        scratch_gb=asked.get("scratch"),
        options=options,
        hang=asked.get("hang"),
        stage=asked.get("stage"),
        mpi=asked.get("mpi", False),
        share=asked.get("share"),
        cluster=cluster,
        container=site.container.chosen(asked.get("container"), os.getcwd()),
    )
    if isinstance(nodes, str):
        low, _, high = nodes.partition("-")
        resources = allocation.fit_range(site, request, int(low), int(high), gpus.count(environ), dry=dry)
    else:
        resources = allocation.fit(site, request, gpus.count(environ), dry=dry)
    notes = allocation.look_at_folder(site, resources, runs, environ)
    if site.kind != "slurm" and (idle := [row.name for row in ours if row.field in asked and row.slurm]):
        notes += (f"{', '.join(idle)}: for Slurm, without effect on {site.name}",)
    if site.kind == "slurm" and (theirs := sorted(filter(_is_dropped, environ))):
        notes += (f"{', '.join(theirs)}: not taken over from your environment; say --qos and the like, or --sbatch",)
    if resources.share == "group":
        notes += (f"the group {sharing.group_of(runs)} can read the run folder",)
    return dataclasses.replace(resources, notes=(*resources.notes, *notes))


def _is_dropped(name: str) -> bool:
    """Whether a variable means something to sbatch that it does not mean to us."""
    return name.startswith("SBATCH_") and name not in ("SBATCH_ACCOUNT", "SBATCH_CLUSTERS", "SBATCH_EXPORT")


def _with_own_option() -> dict[str, str]:
    """Return sbatch's names of what has an option of its own here, and that option with its value."""
    names = {row.field: row.name for row in GROUPS["resources"] if row.field != "sbatch"}
    names |= {theirs.removeprefix("--"): option for theirs, option in SBATCH_WORDS.items()} | {"mail-type": "--mail"}
    return {name: f"{option} {OPTIONS[option].metavar}" for name, option in names.items()}


def _label(args: Arguments, runs: Path, name: str, is_read: bool) -> str:
    """Return the label of the run: the one given now, or the one it had. An input of the plan may exist already under
    another label, for example a store that two sweeps share."""
    run = RunDir(runs / name)
    before = plan.label_of(run)
    if args.name is None:
        return before
    if (runs / args.name).exists():
        raise ConfigError(f"--name {args.name}: another run has that name already")
    if run.result.exists() and is_read:
        return before
    if run.result.exists() and args.name != before:
        raise ConfigError(f"{name} is finished, as {before or 'a run without --name'}; --again makes another")
    return args.name
