"""The verbs replay and capsule: compute a finished run again, and pack what somebody else needs to do so."""

import json
import shlex
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hpc import media
from hpc.cli import planner, preflight
from hpc.cli.options import Arguments
from hpc.codes import DONE, FAILED
from hpc.errors import ConfigError
from hpc.remote import verbs
from hpc.replay import capsule, causes, inputs, replay
from hpc.replay.inputs import Inputs
from hpc.replay.verdict import Verdict
from hpc.runs import provenance, status
from hpc.runs.rundir import RunDir
from hpc.site import allocation


def replay_run(args: Arguments, environ: Mapping[str, str]) -> int:
    """Compute a finished run again, or that of a capsule, and say whether it is the same."""
    planner.refuse_secrets(args)
    if len(args.words) != 1:
        raise ConfigError("replay which run? Say one name, or the file of a capsule; see `python -m hpc.launch status`")
    if site := verbs.reached_by_ssh(args.on, environ):
        raise ConfigError(f"--on {site}: a replay runs where the run is: give the line on a login node of {site}")
    if args.data and not Path(args.data).is_dir():
        raise ConfigError(f"--data {args.data}: there is no such folder")
    runs = Path(args.runs).absolute()
    try:
        with redirect_stdout(sys.stderr) if args.json else nullcontext():
            verdicts = _of_capsule(args, runs, environ) if _is_file(args.words[0]) else _of_run(args, runs, environ)
    except NotComputed as end:
        return end.code
    if args.json:
        print(json.dumps([verdict.to_json() for verdict in verdicts], indent=1))
    return DONE if all(verdict.is_equal for verdict in verdicts) else FAILED


def _is_file(word: str) -> bool:
    return Path(word).is_file() or word.endswith(".zip")


def _of_run(args: Arguments, runs: Path, environ: Mapping[str, str]) -> list[Verdict]:
    was = status.find(args.words[0], runs)
    replay.refuse(was, args.todays_code)
    of = {"run": str(was.path.resolve()), "todays_code": args.todays_code}
    place = replay.new_place(was.name, runs, of)
    return _Replay(args, environ, place, of, [runs], _data(args)).of(was)


def _of_capsule(args: Arguments, runs: Path, environ: Mapping[str, str]) -> list[Verdict]:
    packed = capsule.opened(Path(args.words[0]))
    of = {"capsule": packed.sha256, "todays_code": args.todays_code}
    place = replay.new_place(packed.run, runs, of)
    passing: AbstractContextManager[str] = TemporaryDirectory() if args.dry_run else nullcontext(str(place))
    with passing as folder:
        unpacked = Path(folder) / ".capsule"
        known = capsule.unpack(packed, unpacked)
        if not args.dry_run:
            replay.note(place, of)
        replay.refuse(known[packed.run], args.todays_code)
        if not args.todays_code:
            _say_code(args, packed.path, list(known.values()))
        data = [*_data(args), unpacked / "data"]
        return _Replay(args, environ, place, of, [place, runs], data, known).of(known[packed.run])


def _say_code(args: Arguments, path: Path, runs: list[RunDir]) -> None:
    """Say which code of a capsule is not the code here; before it runs, somebody has to agree."""
    every = {name: sha256 for run in runs for name, sha256 in capsule.files_of_code(run).items()}
    foreign = capsule.foreign_code(runs, replay.todays_code(runs))
    if not foreign:
        print("code    all of its code is that which is installed here", flush=True)
        return
    archive = next(iter(foreign.values()))
    what = f"{len(foreign)} of its {media.many(len(every), 'file')} of code are not those that are installed here"
    print(f"code    {what}, and would run with your rights:")
    for name in [*foreign][:MOST_NAMED]:
        print(f"        {media.one_line(name)}")
    if len(foreign) > MOST_NAMED:
        print(f"        and {len(foreign) - MOST_NAMED} more")
    if args.dry_run or args.yes:
        return
    if sys.stdin.isatty() and preflight.sure("run this code?"):
        return
    raise ConfigError(
        f"{path}: {what}. Read them (unzip -p {shlex.quote(str(archive))} NAME), then say --yes, if you trust who gave "
        "you this file; --todays-code computes with the code that is here"
    )


MOST_NAMED = 8


def _data(args: Arguments) -> list[Path]:
    return [Path(args.data).absolute()] if args.data else []


@dataclass
class _Replay:
    """One line of the command line: computes a run in `place`, and before it those of a capsule that it reads and that
    are not here."""

    args: Arguments
    environ: Mapping[str, str]
    place: Path
    of_what: Mapping[str, object]
    runs: list[Path]
    """Where the runs may be that it reads."""
    data: list[Path]
    packed: Mapping[str, RunDir] = field(default_factory=dict)
    """The runs in the capsule, by name."""
    verdicts: list[Verdict] = field(default_factory=list)

    def of(self, was: RunDir) -> list[Verdict]:
        """Compute a run and compare it with what it was; return the verdicts, also of those before it."""
        found = inputs.find(was, self.runs, self.data)
        for ref in [ref for ref in found.missing if ref in self.packed and not self.args.dry_run]:
            if ref in found.missing:  # those that it reads were computed with it
                self.of(self.packed[ref])
                if not self.verdicts or not self.verdicts[-1].is_equal:
                    return self.verdicts
                found = inputs.find(was, self.runs, self.data)
        plan = planner.placed(self.args, replay.planned(was, self.place, self.args.todays_code), self.environ)
        if plan.site.kind == "inline":
            raise ConfigError(f"--on {plan.site.name}: a replay runs the run's own copy of the code: say --on local")
        print(f"\n{plan.render()}", flush=True)
        self._say(was, found)
        if self.args.dry_run:
            return []
        self._refuse(was, found)
        replay.note(self.place, self.of_what)
        allocation.check_usable(plan.site)
        code = replay.compute(plan, replay.lay_out(was, self.place, found, self.packed))
        if code != DONE:
            raise NotComputed(code)
        verdict = replay.judge(was, plan, self.place, last=was.name == self.place.name.rpartition("-")[0])
        self.verdicts.append(verdict)
        print(f"\n{verdict.text()}", flush=True)
        return self.verdicts

    def _say(self, was: RunDir, found: Inputs) -> None:
        """Print what is known to be another beforehand, and what is missing."""
        then = provenance.read(was)
        here = {"environment": provenance.environment()}
        for note in [*found.notes, *(causes.packages(then, here) if then else [])]:
            print(f"note    {media.one_line(note)}")
        for other in found.other:
            print(f"data    {media.one_line(other)}")
        for ref, missing in found.missing.items():
            made = ": it is computed first, from the capsule" if ref in self.packed else ""
            print(f"missing {media.one_line(missing)}{made}", flush=True)

    def _refuse(self, was: RunDir, found: Inputs) -> None:
        again = shlex.join(["hpc", "replay", self.args.words[0]])
        if not self.args.anyway and (fault := replay.product_fault(was)):
            raise ConfigError(
                f"product: {fault}. --anyway computes, and compares with what the run has listed, and not with "
                "this file"
            )
        computed = [verdict.run for verdict in self.verdicts]
        other = [text for text in found.other if not any(f"/{name} " in text for name in computed)]
        if found.missing:
            raise ConfigError(
                f"{media.many(len(found.missing), 'input')} not here, {next(iter(found.missing.values()))}: say where "
                f"they are, {again} --data PATH"
            )
        if other and not self.args.anyway:
            raise ConfigError(
                f"data: {other[0]}. Say where they are as they were, {again} --data PATH, or --anyway, which computes "
                "with these and names what differs"
            )


class NotComputed(Exception):
    """A run was not computed to its end; what there is to say was printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def pack_run(args: Arguments, environ: Mapping[str, str]) -> int:
    """Pack a run into a capsule."""
    if len(args.words) != 1:
        raise ConfigError("capsule of which run? Say one name; see `python -m hpc.launch status`")
    was = status.find(args.words[0], args.runs)
    path = Path(args.output or f"{was.name}.zip")
    if path.is_dir():
        raise ConfigError(f"--output {path} is a folder: say a file, as {path / was.name}.zip")
    names = capsule.pack(was, path, args.with_data, environ)
    read = f", with {media.many(len(names) - 1, 'run')} that it reads" if len(names) > 1 else ""
    print(f"wrote {path}, {path.stat().st_size / 1e6:,.1f} MB: {was.name}{read}")
    lacking = inputs_outside(was, args.with_data)
    print("".join(f"  not in it   {text}\n" for text in lacking) + f"  to replay   hpc replay {shlex.quote(str(path))}")
    return DONE


def inputs_outside(was: RunDir, with_data: bool) -> list[str]:
    """Return what is not in a capsule, and is needed."""
    return [] if with_data else [inputs.described(ref, entry) for ref, entry in provenance.read(was)["paths"].items()]
