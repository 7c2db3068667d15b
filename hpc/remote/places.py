"""What this machine knows of runs elsewhere: a small file for each site in the folder of runs.

runs/.remote/lem-gpu.json   the folder there, the code that was last sent, and the states that were last seen

It is written before anything is submitted: if the connection breaks then, `status` asks there.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpc.errors import ConfigError, first_of
from hpc.remote.there import Code, Place
from hpc.runs.rundir import Damaged, read_json, write_json
from hpc.runs.status import ENDED, State
from hpc.site import profile

FOLDER = ".remote"


@dataclass(frozen=True)
class Known:
    """What is known of the runs of this folder on one site."""

    site: str
    project: str
    runs: str
    code: Code
    states: Mapping[str, Mapping[str, Any]]
    """By run, as `status --json` gives them."""
    seen: float = 0.0
    """When they were seen."""
    in_doubt: bool = False
    """Whether something was submitted since, whose answer has not come."""

    @property
    def place(self) -> Place:
        site = profile.load(self.site)
        login = profile.login(site, Path.home())
        if not login.host:
            raise ConfigError(f"the profile {self.site} has no `login:` any more, by which runs there were reached")
        return Place(self.site, login, self.project, self.runs)

    @property
    def may_change(self) -> bool:
        """Whether there is anything to ask there."""
        return self.in_doubt or any(state["word"] not in ENDED for state in self.states.values())

    def with_states(self, states: Iterable[State]) -> "Known":
        new = {state.run: {name: value for name, value in vars(state).items() if name != "site"} for state in states}
        return replace(self, states={**self.states, **new}, seen=time.time(), in_doubt=False)


def any_in(runs: str) -> bool:
    """Whether runs of this folder live elsewhere: one look at the disk, for verbs about runs that are here."""
    return os.path.isdir(os.path.join(runs, FOLDER))


def save(runs: str, known: Known) -> None:
    write_json(Path(runs, FOLDER, f"{known.site}.json"), asdict(known))


def of_site(runs: str, site: str) -> Known | None:
    path = Path(runs, FOLDER, f"{site}.json")
    record = read_json(path)
    if record is None:
        return None
    try:
        code = Code(record["code"]["name"])
        return Known(**(record | {"code": code}))
    except (TypeError, KeyError):
        raise Damaged(
            f"{path} is damaged, or of another version: remove it, and give a line with --on {site}"
        ) from None


def every(runs: str) -> list[Known]:
    names = sorted(path.stem for path in Path(runs, FOLDER).glob("[!.]*.json"))
    return [known for name in names if (known := of_site(runs, name))]


def of_run(word: str, runs: str) -> Known:
    """Return the site where a run is that is not here: the one where a run of that name was seen, else the only one."""
    places = every(runs)
    seen = [known for known in places if any(means(word, run, state) for run, state in known.states.items())]
    choice = seen or places
    if len(choice) != 1:
        sites = first_of([known.site for known in choice])
        raise ConfigError(f"{word!r} is no run here, and could be on {sites}: say its whole name")
    return choice[0]


def means(word: str, run: str, state: Mapping[str, Any]) -> bool:
    job = str(state.get("job", ""))
    return (
        word in (run, state.get("name"), job, job.partition("_")[0]) or run.startswith(word) or run.endswith(f"-{word}")
    )


def states_in(text: str, site: str) -> list[State]:
    """Read what `--json` printed over there; fields that this version does not know are left out."""
    states = []
    for record in json.loads(text):
        state = State(str(record["run"]))
        for name, value in record.items():
            if name in vars(state):
                setattr(state, name, value)
        state.site = site
        states.append(state)
    return states


def last_seen(known: Known, why: str = "") -> list[State]:
    """Return the states that were last seen; `why` they cannot be asked for now."""
    states = states_in(json.dumps(list(known.states.values())), known.site)
    if why:
        when = time.strftime("%a %H:%M", time.localtime(known.seen))
        for state in states:
            if not state.ended:
                state.text = "; ".join(filter(None, [state.text, f"as of {when}: {why}"]))
    return states
