"""The verbs for runs on a cluster, from a machine elsewhere: each is the same verb, run over there by there.py."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpc import media
from hpc.codes import DONE, FAILED, STOPPED
from hpc.errors import ConfigError, Unreachable
from hpc.remote import places
from hpc.remote.places import Known
from hpc.remote.ssh import Answer
from hpc.remote.there import LOGIN_NODE, Place, There, is_loose_code, project_of
from hpc.runs.rundir import RunDir
from hpc.runs.status import State
from hpc.site import profile
from hpc.site.profile import Site
from hpc.submit import watch

FIRST_S, LONGEST_S = 2.0, 15.0
"""How often a run is looked at while it is followed; less often while nothing changes. Each look goes through the
connection that is there."""
LONGEST_WAIT_S = 60.0
"""How long to wait between two tries while the cluster cannot be reached."""


@dataclass(frozen=True)
class Line:
    """A line that makes a plan, as it is given again over there."""

    site: str
    words: Sequence[str]
    """All of its words but `--on`, `--json` and `--follow`."""
    files: Sequence[Path]
    """Its config files."""
    inputs: Sequence[str]
    """The folders that it reads."""
    runs: str
    repeats: bool
    """Whether giving it twice is the same as giving it once."""


def reached_by_ssh(name: str | None, environ: Mapping[str, str]) -> str:
    """Return the site if its runs are started over ssh: it is named, has a login node, and is not this machine's."""
    name = name or environ.get("HPC_SITE")
    if not name or environ.get(LOGIN_NODE):
        return ""
    remote = [each for each in name.split(",") if _is_remote(profile.load(each.strip()), environ)]
    if remote and remote != [name]:
        raise ConfigError(
            f"--on {name}: which site starts first can be asked only of a Slurm that is at hand, and {remote[0]} is "
            "reached by ssh: name one, or give the line on a login node of theirs"
        )
    if remote and profile.is_path(name):
        raise ConfigError(
            f"--on {name}: a site over ssh has a name: put that file into ~/.config/hpc/site, and say its name"
        )
    return name if remote else ""


def _is_remote(site: Site, environ: Mapping[str, str]) -> bool:
    return site.kind == "slurm" and not profile.is_here(site, environ) and bool(profile.login(site, Path.home()).host)


def start(line: Line, follow: bool) -> tuple[int, list[State]]:
    """Send what the line needs and give it over there. Returns its exit code and the states of its runs.

    It can be given again, as what it has submitted is not submitted again; so nothing is lost if the connection breaks.
    """
    known, there = _send(line)
    words = [*line.words, "--on", line.site, "--json"]
    try:
        answer = there.act(known.code, words, again=line.repeats)
    except Unreachable as lost:
        raise Unreachable(f"{lost}. {_MAYBE}") from None
    except KeyboardInterrupt:
        _note(f"\nit goes on there. {_MAYBE}")
        raise
    states = places.states_in(answer.out, line.site) if answer.out.strip() else []
    places.save(line.runs, known.with_states(states))
    _show(answer)
    if answer.code == 2:
        _show_missing(line, f"{known.place.login.host}:{there.folder}/")
    if answer.code == DONE:
        finished = [state.run for state in states if state.word == "finished"]
        if follow:
            names = [state.run for state in states]
            code = _follow(there, known, names, line.runs)
            seen = places.of_site(line.runs, line.site)
            return code, [state for state in places.last_seen(seen) if state.run in names] if seen else states
        for run in finished:
            _bring(there, line.site, run, line.runs)
    return answer.code, states


_MAYBE = "Whether it was submitted, `python -m hpc.launch status` will say"


def _send(line: Line) -> tuple[Known, There]:
    """Send code and config files, and note that runs of this folder are there."""
    runs = _below_here(line.runs)
    before = places.of_site(line.runs, line.site)
    login = profile.login(profile.load(line.site), Path.home())
    place = Place(line.site, login, before.project if before else project_of(Path.cwd()), runs)
    there = There(place, _note)
    code = there.send(line.files, profile.find(line.site), Path(line.runs).absolute())
    known = Known(line.site, place.project, runs, code, before.states if before else {}, in_doubt=True)
    places.save(line.runs, known)
    return known, there


def _below_here(runs: str) -> str:
    relative = os.path.relpath(runs)
    if relative.startswith(".."):
        raise ConfigError(f"--runs {runs} is outside of this folder, so it has no place on the cluster: leave it out")
    return relative


def _show(answer: Answer) -> None:
    """Print what was said over there to people; errors go where errors go."""
    text = media.lines(answer.error).rstrip()
    if text:
        print(text, file=sys.stderr if answer.code else sys.stdout, flush=True)


def _show_missing(line: Line, where: str) -> None:
    """Say how a folder gets there that is here, and may be what was missing."""
    for ref in line.inputs:
        if "/" in ref and os.path.isdir(ref) and not os.path.isabs(ref):
            print(f"  {ref} is here; to copy it there: {shlex.join(['rsync', '-aR', ref, where])}", file=sys.stderr)


def _note(text: str) -> None:
    print(media.lines(text), file=sys.stderr, flush=True)


def _asked(known: Known, words: Sequence[str], runs: str, act: bool = False) -> Answer:
    """Run a verb about runs over there, with the code that is there; if that is gone, it is sent again."""
    there = There(known.place, _note)
    run = (lambda code: there.act(code, words, again=False)) if act else (lambda code: there.look(code, words))
    answer = run(known.code)
    if is_loose_code(answer):
        _note(f"the code is gone from {known.site}: sending today's")
        code = there.send([], profile.find(known.site), Path(runs).absolute())
        places.save(runs, replace(known, code=code))
        answer = run(code)
    if answer.code:
        raise ConfigError(media.lines(answer.error).strip().removeprefix("error: "))
    return answer


def _ask_states(known: Known, words: Sequence[str], runs: str) -> list[State]:
    answer = _asked(known, ["status", *words, "--json", "--runs", known.runs], runs)
    states = places.states_in(answer.out, known.site)
    known = places.of_site(runs, known.site) or known
    places.save(runs, known.with_states(states))
    return states


def states(runs: str, words: Sequence[str]) -> list[State]:
    """Return the states of runs elsewhere: of these, or of all. A site is asked only if something may have changed; if
    it cannot be reached, what was last seen is returned, with its age."""
    known_states: list[State] = []
    if words:
        for word in words:
            known = places.of_run(word, runs)
            known_states += _states_of(known, [word], runs)
        return known_states
    for known in places.every(runs):
        known_states += _states_of(known, [], runs) if known.may_change else places.last_seen(known)
    return known_states


def _states_of(known: Known, words: Sequence[str], runs: str) -> list[State]:
    try:
        return _ask_states(known, words, runs)
    except Unreachable as lost:
        seen = places.last_seen(known, str(lost))
        if words:
            seen = [state for state in seen if places.means(words[0], state.run, vars(state))]
        if not seen:
            raise
        return seen


def explain(runs: str, word: str, as_json: bool, slow: bool = False) -> int:
    """Print why a run elsewhere is in its state, or is slow, as that cluster's Slurm and the run's folder there say."""
    known = places.of_run(word, runs)
    words = ["why", word, *(["--slow"] if slow else []), *(["--json"] if as_json else []), "--runs", known.runs]
    print(media.lines(_asked(known, words, runs).out), end="")
    return DONE


def entries_of_book(runs: str, words: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what the books of the clusters say of these runs, or of all that live there, and what could not be asked:
    by that cluster's sacct, job by job."""
    entries: list[dict[str, Any]] = []
    notes: list[str] = []
    asked = [(places.of_run(word, runs), [word]) for word in words] or [(known, []) for known in places.every(runs)]
    for known, of_these in asked:
        line = ["book", *of_these, "--by", "job", "--json", "--runs", known.runs]
        try:
            entries += json.loads(_asked(known, line, runs).out)
        except (ConfigError, Unreachable) as error:  # no connection, or code of a version without a book
            notes.append(f"without the runs on {known.site}: {error}")
    return entries, notes


def show_log(runs: str, word: str, options: Sequence[str], follow: bool) -> int:
    """Print the log of a rank; with `follow` until the run ends, over as many connections as that takes."""
    known = places.of_run(word, runs)
    words = ["logs", word, *options, "--runs", known.runs]
    if not follow:
        print(_asked(known, words, runs).out, end="")
        return DONE
    if "--attempt" not in options:  # of a later one, after the connection broke, the log would begin anew
        (state, *_) = _ask_states(known, [word], runs)
        words += ["--attempt", str(state.attempt)] if state.attempt else []
    there, log = There(known.place, _note), _Log()
    return _reconnecting(lambda: there.watch(known.code, [*words, "--follow"], log.connected()))


class _Log:
    """What has been printed of a log, so that a new connection, which gives all of it, goes on behind that."""

    def __init__(self) -> None:
        self.n_bytes = 0

    def connected(self) -> Callable[[bytes], None]:
        at = 0

        def show(block: bytes) -> None:
            nonlocal at
            new = block[max(0, self.n_bytes - at) :]
            at += len(block)
            sys.stdout.buffer.write(new)
            sys.stdout.flush()
            self.n_bytes = max(self.n_bytes, at)

        return show


def _reconnecting(work: Callable[[], int]) -> int:
    """Do it again each time the connection breaks, until it is done."""
    wait_s = 1.0
    while True:
        began = time.monotonic()
        try:
            return work()
        except Unreachable as lost:
            wait_s = 1.0 if time.monotonic() - began > LONGEST_WAIT_S else min(2 * wait_s, LONGEST_WAIT_S)
            _note(f"{lost}; it goes on there, and here when the connection is back: trying again in {wait_s:g} s")
            time.sleep(wait_s)


def stop(runs: str, words: Sequence[str], now: bool) -> list[State]:
    """Stop runs elsewhere, and wait until they have ended. A connection that breaks is no reason to ask twice: what was
    asked goes on, and whether it has ended is looked up."""
    ended: list[State] = []
    for word in words:
        known = places.of_run(word, runs)
        _note(f"asking {known.site} to stop {word}")
        line = ["stop", word, *(["--now"] if now else []), "--yes", "--json", "--runs", known.runs]
        try:
            answer = _asked(known, line, runs, act=True)
            print(media.lines(answer.error).rstrip(), file=sys.stderr)
        except Unreachable as lost:
            _note(f"{lost}; looking whether it was asked")
            if any(not state.ended for state in _ask_states(known, [word], runs)):
                _asked(known, line, runs, act=True)
        ended += _ask_states(known, [word], runs)
    return ended


def _follow(there: There, known: Known, names: Sequence[str], runs: str) -> int:
    """Watch runs one after the other, as a line with --follow does on the cluster, and bring what they have made."""
    try:
        for name in names:
            state = _watch(known, name, runs)
            if state.word != "finished":
                return _report_end(state)
            _bring(there, known.site, name, runs)
    except KeyboardInterrupt:
        print(f"\nit continues without you on {known.site}: python -m hpc.launch status")
    return DONE


def _watch(known: Known, name: str, runs: str) -> State:
    """Look at a run until it has ended."""
    before: tuple[object, ...] = ()
    wait_s, lost_s = FIRST_S, 1.0
    with watch.bars(name) as show:
        while True:
            try:
                (state,) = _ask_states(known, [name], runs)
            except Unreachable as lost:
                lost_s = min(2 * lost_s, LONGEST_WAIT_S)
                show(f"{lost}; the run goes on there: looking again in {lost_s:g} s", None)
                time.sleep(lost_s)
                continue
            lost_s = 1.0
            now = (state.word, state.attempt, state.text)
            if now != before[:3]:
                begun = f" (attempt {state.attempt})" if state.word == "running" and state.attempt else ""
                show(f"{state.word}{begun}{f': {state.text}' if state.text else ''}", None)
            show(None, state)
            if state.ended:
                return state
            wait_s = min(1.5 * wait_s, LONGEST_S) if (*now, state.done) == before else FIRST_S
            before = (*now, state.done)
            time.sleep(wait_s)


def _report_end(state: State) -> int:
    if state.word == "stopped":
        return STOPPED
    print(
        f"error: {state.run} {state.word}: {state.text}\n  log: python -m hpc.launch logs {state.run}", file=sys.stderr
    )
    return state.code or FAILED


def fetch(runs: str, words: Sequence[str], everything: bool) -> int:
    """Bring the files of runs here, to runs/SITE/RUN."""
    for word in words:
        known = places.of_run(word, runs)
        there = There(known.place, _note)
        for state in _ask_states(known, [word], runs):
            print(f"\n{state.run}")
            _bring(there, known.site, state.run, runs, everything)
    return DONE


def _bring(there: There, site: str, run: str, runs: str, everything: bool = False) -> None:
    """Bring the files of a run, print its results, and say what stayed there."""
    target = Path(runs, site, run)
    try:
        left = there.fetch(run, target.absolute(), everything)
    except Unreachable as lost:
        print(f"{lost}: `python -m hpc.launch fetch {run}` brings its files later", file=sys.stderr)
        return
    print(watch.result(RunDir(target)), flush=True)
    more = f"; {media.many(len(left), 'large file')} stayed there (fetch {run} --all)" if left else ""
    print(f"  {'files':<18}{os.path.relpath(target)}{more}", flush=True)
