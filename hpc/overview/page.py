"""The page of all runs: one self-contained file in the folder of runs, which opens from a disk, over sshfs or ssh.

    runs/page.html        written by `hpc page`; as long as it is there, the supervisors of runs keep it fresh
    runs/.page/rows.json  what was read of each run, so that the next page reads those that have changed
    runs/.page/lock       held by the one who writes

Who deletes page.html has no page any more: a supervisor makes none.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from hpc import media
from hpc.overview import groups, row
from hpc.runs import status
from hpc.runs.rundir import RESULT, SUPERVISOR, Damaged, RunDir, atomic_write, encoded, read_json
from hpc.runs.status import State
from hpc.slurm.squeue import Queue

PAGE, CACHE = "page.html", ".page"
FORM = 2
"""Raised when what is cached of a run changes its form."""
AT_END_S, WHILE_S = 60.0, 600.0
"""How old the page is at least when the end of a run, or one that goes on, has it written anew."""
PATIENCE_S, POLL_S = 10.0, 0.1
"""How long to wait for another who writes the page: if it hangs, it is written all the same."""
SEEN_S = 2 * status.SILENT_S
"""A run whose supervisor has written within this time will have the page written later."""


class Page(NamedTuple):
    """A page that has been made, and of what."""

    text: str
    n_runs: int
    n_damaged: int
    mode: int
    """Who may read it."""


def path(runs: str) -> str:
    return os.path.join(runs, PAGE)


def is_due(runs: str, of: str = "", *, at_end: bool) -> bool:
    """Whether a supervisor should have the page written: there is one, and it is old. `of`: its run; `at_end`: that run
    has ended, and nobody else who lives would have it written later."""
    try:
        age_s = time.time() - os.stat(path(runs)).st_mtime
    except OSError:
        return False
    if not 0 <= age_s < (AT_END_S if at_end else WHILE_S):
        return True
    return at_end and not any(_goes_on(f"{runs}/{name}") for name in _cached(runs).get("going", []) if name != of)


def _goes_on(folder: str) -> bool:
    try:
        seen_at = os.stat(f"{folder}/{SUPERVISOR}").st_mtime
    except OSError:
        return False
    return time.time() - seen_at < SEEN_S and not os.path.exists(f"{folder}/{RESULT}")


def write(runs: str, elsewhere: Sequence[State] = ()) -> Page:
    """Write the page of a folder of runs. `elsewhere`: runs on clusters that ssh leads to."""
    if not os.path.isdir(runs):
        raise FileNotFoundError(f"there is no folder {runs}")
    os.makedirs(f"{runs}/{CACHE}", exist_ok=True)
    with _alone(runs):
        page = make(runs, elsewhere, caches=True)

        def put(file: Any) -> None:
            os.fchmod(file.fileno(), page.mode)
            file.write(page.text.encode())

        atomic_write(Path(path(runs)), put, durable=False)
    return page


def make(runs: str, elsewhere: Sequence[State] = (), *, caches: bool = False) -> Page:
    """Make the page. `caches`: note what was read of each run, for the next one."""
    cached, now = _cached(runs), time.time()
    before = cached.get("rows", {})
    folders = status.all_runs(runs)
    here = [(state, run) for state, run in zip(status.look_all(folders, Queue()), folders)]
    there = [(state, RunDir(f"{runs}/{state.site}/{state.run}")) for state in elsewhere]
    rows, cache = [], {}
    for state, run in (*here, *there):
        name = os.path.relpath(run.folder, runs)
        shown, cache[name] = row.of(state, run, runs, before.get(name))
        rows.append(shown)
    groups.put(rows, runs)
    if caches:
        going = [state.run for state, _ in here if state.word == "running"]
        content = {"form": FORM, "going": going, "rows": cache}
        data = encoded(json.dumps(content, ensure_ascii=False, separators=(",", ":")))
        with suppress(PermissionError):  # as another one's, in a shared folder: the next page reads all again
            atomic_write(Path(runs, CACHE, "rows.json"), lambda file: file.write(data), durable=False, private=True)
    n_damaged = sum("damage" in shown["text"] for shown in rows)
    return Page(_text(runs, rows, now), len(rows), n_damaged, _mode(folders))


def _cached(runs: str) -> Mapping[str, Any]:
    """Return what was noted with the last page; empty if there is nothing, or it is damaged or of another form."""
    try:
        content = read_json(f"{runs}/{CACHE}/rows.json")
    except (Damaged, OSError):  # then it is read again
        return {}
    is_ours = isinstance(content, dict) and content.get("form") == FORM and isinstance(content.get("rows"), dict)
    return content if is_ours and content is not None else {}


def _mode(runs: Sequence[RunDir]) -> int:
    """Return who may read the page: who may enter the folder of each run that is on it."""
    mode = 0o666 & ~_umask()
    for run in runs:
        with suppress(OSError):
            of_run = os.stat(run.folder).st_mode
            mode &= ~(0o040 if not of_run & 0o010 else 0) & ~(0o004 if not of_run & 0o001 else 0)
    return mode


def _umask() -> int:
    umask = os.umask(0o077)  # there is no other way to read it
    os.umask(umask)
    return umask


@contextmanager
def _alone(runs: str) -> Iterator[None]:
    """Let nobody else write the page meanwhile: who began earlier would put an older state over a newer one."""
    try:
        lock = open(f"{runs}/{CACHE}/lock", "a")  # noqa: SIM115  closed below
    except PermissionError:  # the folder is shared, and another one's: both may write
        yield
        return
    with lock:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL_S)
            except OSError:  # a shared disk mounted without locks
                break
        yield


def _text(runs: str, rows: Sequence[row.Row], now: float) -> str:
    import jinja2  # only where a page is written

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    content = {
        "folder": media.one_line(os.path.abspath(runs)),
        "host": os.uname().nodename,
        "time": now,
        "pages": [[media.one_line(name), row.link(name)] for name in _other_pages(runs)],
        "rows": rows,
    }
    return environment.get_template("page.html.jinja").render(page=content, title=media.one_line(_title(runs)))


def _title(runs: str) -> str:
    folder = os.path.abspath(runs)
    name = os.path.basename(folder)
    return f"{os.path.basename(os.path.dirname(folder))}/{name}" if name == "runs" else name


def _other_pages(runs: str) -> list[str]:
    """Return the pages beside this one: those of searches."""
    return sorted(name for name in os.listdir(runs) if name.endswith(".html") and name != PAGE and name[0] != ".")
