"""What processes pass to one another through a run folder has types, and a version."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import ConfigError
from hpc.overview import table as status_table
from hpc.runs import folding, records, status
from hpc.runs.rundir import Damaged, RunDir, append_line, read_json, write_json
from hpc.slurm.squeue import Queue
from tests.conftest import Launch


def test_a_run_folder_has_a_version_and_its_records_are_those_of_their_types(launch: Launch) -> None:
    launch("count", "n=3", "--name", "mine")
    run = RunDir(launch.runs()[0])
    assert records.plan(run)["schema"] == records.SCHEMA
    (attempt,) = records.attempts(run)
    assert (attempt["attempt"], attempt["outcome"], attempt["from_step"]) == (1, "finished", 0)
    assert records.submissions(run)[0]["label"] == "mine" and records.result(run)["attempts"] == 1
    assert records.supervisor(run)["state"] == "finished" and records.heartbeat(run, 0)["done"] == 3
    assert records.events(run)[-1]["text"].startswith("finished after") and records.owner(run)["since"] > 0


def keys_of_types() -> dict[str, set[str]]:
    """The keys of each type in records.py, which exists for the checker alone."""
    keys: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(Path(records.__file__).read_text())):
        if isinstance(node, ast.ClassDef):
            keys[node.name] = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}  # type: ignore[union-attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "TypedDict":
            name, fields = node.args
            keys[ast.literal_eval(name)] = set(map(ast.literal_eval, fields.keys))  # type: ignore[attr-defined]
    return keys


def test_every_key_that_is_written_is_one_of_its_type(launch: Launch) -> None:
    launch("count", "n=3")
    run = RunDir(launch.runs()[0])
    written: dict[str, Any] = {
        "PlanRecord": records.plan(run), "Submission": records.submissions(run)[0], "Attempt": records.attempts(run)[0],
        "Event": records.events(run)[0], "Result": records.result(run), "Heartbeat": records.heartbeat(run, 0),
        "SupervisorHeartbeat": records.supervisor(run), "Owner": records.owner(run),
    }  # fmt: skip
    keys = keys_of_types()
    assert set(written) == set(keys)
    assert {name: set(record) - keys[name] for name, record in written.items() if set(record) - keys[name]} == {}


def test_a_folder_of_a_newer_version_is_refused_in_a_sentence(launch: Launch) -> None:
    launch("count", "n=3")
    run = RunDir(launch.runs()[0])
    plan = read_json(run.plan)
    assert plan is not None
    write_json(run.plan, plan | {"schema": records.SCHEMA + 1})
    sentence = "was written by a newer version of hpc (version 4 of run folders; this one reads up to 3): use that"
    for words in (["resume", run.name], ["count", "n=3"], ["export", run.name, "--on", "slurm"]):
        done = launch(*words, code=2)
        assert sentence in done.stderr and len(done.stderr.splitlines()) == 1
    with pytest.raises(ConfigError, match="newer version of hpc"):
        records.plan(run)


def test_a_plan_that_lacks_what_a_start_needs_is_named(launch: Launch) -> None:
    launch("count", "n=3", "--prepare")
    run = RunDir(launch.runs()[0])
    whole = read_json(run.plan)
    assert whole is not None and records.whole_plan(run)["site"]["kind"] == "local"
    for table, name in (("site", "kind"), ("resources", "nodes")):
        write_json(run.plan, whole | {table: {key: value for key, value in whole[table].items() if key != name}})
        with pytest.raises(Damaged, match=rf"plan\.json is damaged: of {table}, {name} is not there"):
            records.whole_plan(run)
    for site in ({"storage": {"scratch_local": 3}}, {"storage": [1]}):
        write_json(run.plan, whole | {"site": whole["site"] | site})
        with pytest.raises(Damaged, match=r"plan\.json is damaged: site is"):
            records.plan(run)


def test_a_folder_without_a_version_is_read(launch: Launch) -> None:
    """Those of 0.1.0 and before."""
    launch("count", "n=3")
    run = RunDir(launch.runs()[0])
    plan = json.loads(run.plan.read_text())
    del plan["schema"]
    write_json(run.plan, plan)
    run.result.unlink()
    assert "finished after" in launch("resume", run.name).stdout


def test_an_error_does_not_control_the_terminal(launch: Launch) -> None:
    launch("count", "n=3")
    run = RunDir(launch.runs()[0])
    run.result.unlink()
    heartbeat = records.supervisor(run)
    write_json(run.supervisor, heartbeat | {"state": "failed", "code": 1, "text": "\x1b[2J\x1b]0;gone\x07\r broken"})
    shown = launch("status").stdout
    assert "broken" in shown and not {"\x1b", "\x07", "\r"} & set(shown)


NOT_THAT: dict[str, dict[str, Any]] = {
    "heartbeat/supervisor.json": {"state": "failed", "time": "yesterday"},
    "plan.json": {"resources": [1]},
    "attempts.jsonl": {"started": None, "outcome": "crashed"},
    "jobs/submitted.jsonl": {"time": 1e300},
    "result.json": {"metrics": 3},
}


CONTENTS = {
    "list": "[1, 2]\n", "text": '"text"\n', "number": "NaN\n", "nested": "[" * 100_000, "huge": "9" * 5000,
}  # fmt: skip


def test_a_damaged_file_is_named_in_the_line_of_its_run_and_hides_no_other(launch: Launch) -> None:
    for n in (3, 4):
        launch("count", f"n={n}")
    whole = launch.folder / "runs"
    name_of_bad, name_of_good = (path.name for path in launch.runs())
    for name, field in NOT_THAT.items():
        for how in (*CONTENTS, "field", "folder", "pipe"):
            runs = launch.folder / "again"
            shutil.rmtree(runs, ignore_errors=True)
            shutil.copytree(whole, runs, symlinks=True)
            bad = RunDir(runs / name_of_bad)
            folding.unfold(bad)
            if name not in ("result.json", "plan.json"):
                bad.result.unlink()
            path = bad.path / name
            path.unlink()
            if how == "folder":
                path.mkdir()
            elif how == "pipe":
                os.mkfifo(path)
            else:
                path.write_text(CONTENTS.get(how) or f"{json.dumps(field)}\n")
            states = {state.run: state for state in status.look_all(status.all_runs(runs), Queue())}
            assert status_table.text(list(states.values())) and json.dumps([vars(state) for state in states.values()])
            assert (states[name_of_good].word, "damaged" in states[name_of_good].text) == ("finished", False)
            if how != "pipe" or path.name in ("plan.json", "result.json"):  # an empty file of lines has no damaged one
                assert re.search(rf"{name}(:| is damaged)", states[name_of_bad].text), (
                    name,
                    how,
                    vars(states[name_of_bad]),
                )
    done = launch("status", "--runs", "again")
    assert f"{name_of_good}  finished" in done.stdout and name_of_bad in done.stdout


def test_a_look_opens_no_file_of_a_run_twice(launch: Launch) -> None:
    """On a shared disk each time is a request to the one server that knows all names."""
    launch("count", "n=1")
    launch("count", "n=2", "--prepare")
    waiting = RunDir(next(path for path in launch.runs() if not (path / "result.json").exists()))
    append_line(waiting.submissions, {"kind": "refused", "text": "no", "time": time.time()})
    code = """if True:
        import collections, sys
        from hpc.runs import status
        from hpc.runs.rundir import RunDir
        from hpc.slurm.squeue import Queue
        opened = collections.Counter()
        # os.open has no mode, and is called by open
        sys.addaudithook(lambda event, args: opened.update([str(args[0])]) if event == "open" and args[1] else None)
        states = status.look_all([RunDir(path) for path in sys.argv[1:]], Queue())
        assert sorted(state.word for state in states) == ["finished", "stopped"], states
        print([path for path, times in opened.items() if times > 1 and "/runs/" in path])
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, launch.runs())], env=launch.environ, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    # The file of a supervisor that says nothing is looked at again, as it may be damaged
    assert done.stdout.strip() in ("[]", f"['{waiting.supervisor}']")
