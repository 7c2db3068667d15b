"""The command line as a user meets it: fast, helpful, and the same science is the same run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.cli import help, options, table
from hpc.codes import STOPPED
from hpc.rank.signals import Stop
from hpc.runs import folding, status, unpack
from hpc.runs.rundir import RunDir, append_line, read_json, write_json
from hpc.slurm.squeue import Queue
from hpc.submit import start, watch
from tests.conftest import EXAMPLE, Launch
from tests.waiting import output_of

HEAVY = {"torch", "mne", "submitit", "omegaconf", "h5py", "numpy", "rich"}


def imported_by(*words: str, cwd: Path) -> set[str]:
    """The packages that a command has imported when it ends."""
    code = f"import sys; sys.argv = {['launch', *words]!r}\n" + (
        "import atexit\n"
        "atexit.register(lambda: print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr))\n"
        "import runpy; runpy.run_module('hpc.launch', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("status",)])
def test_help_and_status_import_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    modules = imported_by(*words, cwd=tmp_path)
    assert "hpc" in modules
    assert not modules & HEAVY


def test_a_plan_is_made_without_torch_and_mne(tmp_path: Path) -> None:
    """On a login node with 1 GB of memory: the science's configs must not pull its libraries."""
    modules = imported_by("synthesize", "--dry-run", "--on", "local", cwd=tmp_path)
    assert "eegdecode" in modules
    assert not modules & {"torch", "mne", "h5py", "scipy", "submitit"}


def test_help_names_every_verb_and_exit_code(launch: Launch) -> None:
    text = launch("--help").stdout
    for word in ("train", "--dry-run", "--nodes", "75 stopped"):
        assert word in text
    for verb in table.verbs():
        assert re.search(rf"^  {verb}\b", text, re.MULTILINE), verb
    assert all(len(line) <= 120 for line in text.splitlines())
    assert launch("-h").stdout == text


def test_a_plan_imports_the_modules_of_its_stages_alone(launch: Launch) -> None:
    """Of twenty stages one is started: it waits for none of the others, nor for what they import."""
    code = (
        "import os, sys; from hpc.launch import main; "
        "main(['count', 'n=2', '--on', 'local', '--dry-run'], os.environ); print(*sys.modules, file=sys.stderr)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=launch.folder, env=launch.environ, capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    assert {"hpc", "counting", "omegaconf"} <= imported
    assert not imported & {"eegdecode", "numpy", "torch", "mne", "scipy"}


def test_every_stage_of_the_project_is_in_the_help(launch: Launch) -> None:
    from hpc.config import stages

    ours = [name for name in stages.names() if stages.entry(name).startswith("eegdecode")]
    shown = re.search(r"STAGE +one of ((?:\w+,\s+)*\w+)", launch("--help").stdout)
    assert shown and set(ours) < set(re.split(r",\s+", shown[1])), "and those of the example"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--node", "2"], "there is no option --node. Did you mean '--nodes'"),
        (["count", "--lr", "1e-3"], "Settings have no dashes: optim.lr=0.001"),
        (["count", "-N", "2"], "there is no option -N: say --nodes N"),
        (["count", "-t2h"], "there is no option -t2h: say --time 4h"),
        (
            ["settings", "lr"],
            "there is no stage 'lr'; settings of that name: held.optim.lr, descent.lr, estimate.optim.lr",
        ),
        (["settings", "train.lr"], "it has no setting 'lr': it is optim.lr"),
        (
            ["settings", "train.batch_size"],
            "it has no setting 'batch_size': windows.batch is the number of windows a step",
        ),
        (["count", "--gres=gpu:2"], "there is no option --gres: say --gpus N"),
        (["train", "data=./", "objective=mse"], "objective=regression with objective.loss=mse"),
        (["train", "data=./", "model=EEGNet"], "Did you mean 'eegnet'"),
        (["train", "data=./", "model=EEGNett"], "Did you mean 'eegnet'"),
        (["count", "--after", "x", "--dry-run"], "--after is for jobs of a Slurm site; runs on local come one after"),
        (["count", "--after", "x", "--dry-run", "--on", "bed"], "there is no run 'x'"),
        (["stauts"], "there is no stage or verb 'stauts'. Did you mean 'status'"),
        (["count", "nodes=2"], "count has no setting 'nodes': it is the option --nodes 2"),
        (["count", "gpu=1"], "count has no setting 'gpu': it is the option --gpus 1"),
        (["count", "--mem", "--dry-run"], "--mem needs a value: --mem GB"),
        (["cancel", "--help"], "there is no stage or verb 'cancel': say stop"),
        (["count", "missing.yaml"], "there is no config file missing.yaml"),
        (["count", "--on", "bedd"], "there is no site 'bedd'. Did you mean 'bed'"),
        (["count", "after=count-x"], "make it first with"),
        (["count", "--nodes", "two"], "--nodes needs a whole number, but got 'two'"),
        (["count", "--gpus", "-1"], "--gpus needs a whole number of at least 0, but got '-1'"),
        (["train", "data.on_device=true"], "train.data has no setting 'on_device': it is compute.data_on_device"),
        (["logs"], "logs of which run?"),
        (["status", "nothing"], "there is no run 'nothing'"),
        (["stop"], "stop which run?"),
        (["sweep", "n=1,2"], "sweep what? Say a stage or `pipeline` first"),
        (["resume"], "resume which run?"),
        (["resume", "nothing"], "there is no run 'nothing'"),
        ([], "say what to do"),
        (["count", "--nodes"], "--nodes needs a value: --nodes N"),
        (["count", "--again=1"], "--again takes no value"),
        (["sweep", "count", "--again"], "for other runs of the same, sweep over a seed"),
        (["stop", "x", "--save", "--now"], "stop --save or --now: not both"),
        (["completion"], "completion for which shell?"),
        (["count", "--name", "my 'best' $(touch oops)"], "--name needs a letter or _, then up to 39 letters, digits"),
        (["count", "--name", "x" * 41], "--name needs a letter or _, then up to 39"),
        (["count", "--comment", "a\n#SBATCH --wrap=x"], "--comment needs one line without control characters, but got"),
        (
            ["status", "--nodes", "3"],
            "--nodes is for STAGE, pipeline, sweep, search, bench, resume, drill, export and replay, not",
        ),
        (["count", "--watch"], "--watch is for status, not for count"),
        (["sweep", "count", "n=1,2", "--after", "x"], "--after is for STAGE, pipeline and resume, not for sweep"),
        (["count", "--mem", "nan"], "--mem needs a number below a million, but got 'nan'"),
        (["count", "--nodes", "\u00b2"], "--nodes needs a whole number, but got '\u00b2'"),
        (["count", "--time", "9999999d"], "--time 9999999d is more than 365d: ask for less, the run goes on"),
        (["sweep", "status"], "status is not a stage. "),
        (["sweep", "count", "n=1,,2"], "'n=1,,2' has nothing between two commas"),
        (["sweep", "count", "n=0..1000000"], "these are 1000001 combinations, and a sweep has 10000 at most"),
        (["count", "n=1,2"], "got '1,2'. Several values are for sweep: sweep count n=1,2"),
        (["logs", "x"], "there is no run 'x' in runs, nor any other"),
        (["cuont", "missing.yaml"], "there is no stage or verb 'cuont'. Did you mean 'count'"),
        (["count", "n", "=", "3"], "'n' is a setting: write it without spaces, n=3"),
        (["count", "rule.power", "3"], "'rule.power' is a setting: write it without spaces, rule.power=3"),
        (["count", "--mem", "4M"], "--mem needs a number of GB, as 16, but got '4M'"),
        (["sweep", "count"], "sweep over what? Say several values of a setting: sweep count seed=0..4"),
        (["sweep", "count", "n=[1,2]"], "In a sweep, several values stand without brackets: n=1,2"),
        (["resume", "x", "n=2"], "resume keeps the settings of its run: n=2 would be another run"),
        (["status", "--follow"], "--follow is for STAGE, pipeline, resume and logs, not for status: say --watch"),
        (["logs", "x", "--watch"], "--watch is for status, not for logs: say --follow"),
        (["count", "--exclusive"], "there is no option --exclusive: sbatch has it; say --sbatch '--exclusive …', or"),
        (["count", "--qos", "--nice", "3"], "--qos needs a value: --qos NAME"),
        (["count", "-J", "mine"], "there is no option -J: say --name WORD"),
        (["settings", "--output", "x.md"], "It writes one page: settings train --output x.md"),
        (["drill", "pipeline"], "drill is for one stage at a time: drill train my-study.yaml"),
        (["drill", "train", "motor-eegnet"], "it first with `python -m hpc.launch pipeline motor-eegnet`"),
        (["train", "motor-eegnet", "--preset", "tiny"], "--preset tiny: say which preset it is of, --preset size=tiny"),
        (["train", "data=./", "windows=5"], "train.windows needs settings (`name: …`), but got 5. There is: random,"),
        (["train", "data=./", "model="], "but got nothing. Did you mean"),
        (["train", "data=./", "optim=adam"], "`python -m hpc.launch settings train.optim` shows them"),
        (["version"], "there is no stage or verb 'version': say --version"),
        (
            ["train", "data=./", "windows.batch=4", "--ranks", "3"],
            "windows.batch is 4 for all ranks together, which 3 ranks",
        ),
    ],
)
def test_wrong_words_end_with_2_and_one_line_that_helps(launch: Launch, words: list[str], message: str) -> None:
    words = ["count", *words] if words and words[0].startswith("--") else words
    done = launch(*words, code=2)
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_disk_that_takes_nothing_is_named(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = launch("count", "--runs", "file", code=1)
    assert "file/count-" in done.stderr
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_beside_the_code_is_not_copied(launch: Launch, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(EXAMPLE, checkout, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "-C", str(checkout), "init", "-q"], check=True)
    (checkout / "subject.edf").write_text("much")
    (checkout / "password.txt").write_text("secret")
    launch.environ["PYTHONPATH"] = str(checkout)
    launch("count", "n=1")
    (run,) = launch.runs()
    with zipfile.ZipFile(run / "code/code.zip") as packed:
        copied = {Path(name).name for name in packed.namelist() if "checkout/" in name}
    assert copied == {"__init__.py", "searching.py", "stages.py", "training.py"}


def test_a_dry_run_does_nothing(launch: Launch, tmp_path: Path) -> None:
    text = launch("count", "n=3", "--nodes", "2", "--on", "bed", "--dry-run").stdout
    assert "2 nodes x 2 ranks = 4 ranks, 2 GPUs a node" in text
    assert "#SBATCH --signal=B:USR2@30" in text
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_sections_serves_a_stage_and_the_pipeline(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("count: {n: 4}\ntally: {of: count}\n")
    assert "make it first with" in launch("tally", "study.yaml", "--only", code=2).stderr
    text = launch("pipeline", "study.yaml").stdout
    assert "total             10" in text
    assert re.search(r"half +5.000 +chance 0.500", text)
    assert re.search(r"page +runs/tally-\w+/out/page.html", text)
    assert text.count("finished after") == 2
    assert launch("pipeline", "study.yaml").stdout.count("finished before") == 2
    assert launch("tally", "study.yaml", "count.n=4").stdout.count("finished before") == 1


def test_without_a_file_the_default_config_is_read(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/default.yaml").write_text("count: {n: 2}\n")
    assert "from configs/default.yaml" in launch("count", "--dry-run").stdout


def test_debug_runs_in_this_process_and_shows_the_trace(launch: Launch) -> None:
    assert "count 3/3" in launch("count", "n=3", "--on", "debug").stdout
    assert "RuntimeError: told to fail at step 2" in launch("count", "fail_at=2", "--on", "debug", code=1).stderr


def test_the_same_again_is_a_run_of_its_own(launch: Launch) -> None:
    launch("count", "n=3", "--name", "pilot")
    assert "finished before (--again makes a new run)" in launch("count", "n=3").stdout
    assert "total             6" in launch("count", "n=3", "--again").stdout
    launch("count", "n=3", "--again")
    first, second, third = (path.name for path in launch.runs())
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert "finished before" in launch("resume", second).stdout
    launch("pipeline", "--again", write(launch, "study.yaml", "count: {n: 3}\ntally: {of: count}\n"))
    assert [path.name for path in launch.runs()][3] == f"{first}-4"


def test_a_run_is_found_by_what_its_user_calls_it(launch: Launch) -> None:
    launch("count", "n=3", "--name", "pilot.1")
    launch("count", "n=4", "--name", "other")
    assert "starts at 0" in launch("logs", "pilot.1").stdout
    (state,) = json.loads(launch("status", "other", "--json").stdout)
    assert (state["name"], state["word"], state["code"]) == ("other", "finished", 0)
    assert "finished before" in launch("resume", "other").stdout
    assert "could be" in launch("logs", "count", code=2).stderr


def test_a_variable_of_a_script_that_is_empty_is_as_if_not_said(launch: Launch) -> None:
    launch.environ["HPC_SITE"] = ""
    launch("count", "n=1", "--runs", "", "--on=", "--comment", "")
    assert launch.runs()[0].parent == launch.folder / "runs"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_help_is_printed_in_any_encoding(launch: Launch, encoding: str) -> None:
    launch.environ["PYTHONIOENCODING"] = encoding
    assert "usage: " in launch("--help").stdout


def test_every_option_is_of_a_verb_that_is_there() -> None:
    verbs = {verb for row in options.OPTIONS.values() for verb in row.verbs}
    assert verbs <= {"STAGE", "FILES", "RUN", *table.verbs()}


@pytest.mark.parametrize("name", sorted(options.OPTIONS))
def test_a_row_of_the_table_is_the_option_the_argument_and_the_help(name: str) -> None:
    row = options.OPTIONS[name]
    verb = next((verb for verb in ["train", *table.verbs()] if row.fits(verb)), "")
    assert getattr(options.read([verb]), row.field) == row.default
    numbers = (options.whole, options.natural, options.port, options.gigabytes, options.node_counts)
    is_number = row.convert in numbers
    word = {options.readers: "group", options.hours_to_spend: "50gpuh"}.get(row.convert, "x1")
    value = [] if row.convert is None else ["3"] if is_number else [word]
    given = getattr(options.read([verb, name, *value]), row.field)
    assert given == (True if row.convert is None else 3 if is_number else word)
    if row.verbs:
        assert f"{name} {row.metavar}".rstrip() in options.help_text()
        assert f"{name} {row.metavar}".rstrip() in help.text(verb)


def test_an_option_of_two_verbs_has_the_sentence_of_each() -> None:
    row = options.OPTIONS["--follow"]
    assert row.for_verbs["logs"] in help.text("logs") and row.what not in help.text("logs")
    assert row.what in help.text("train") and row.for_verbs["logs"] not in help.text("train")


def test_mypy_knows_the_types_of_the_options(tmp_path: Path) -> None:
    """The table is written as a class so that `args.nodes` has a type; a word that is no option is an error."""
    pytest.importorskip("mypy", reason="mypy is of the extra dev")
    (tmp_path / "use.py").write_text(
        "from hpc.cli.options import Arguments\n\n"
        "args = Arguments()\n"
        "reveal_type(args.nodes)\nreveal_type(args.rank)\nreveal_type(args.again)\nargs.node\n"
    )
    code = "import sys; from mypy import api; sys.stdout.write(api.run(sys.argv[1:])[0])"
    config = Path(__file__).parents[2] / "setup.cfg"
    command = [
        sys.executable,
        "-c",
        code,
        "--config-file",
        str(config),
        "--follow-imports=silent",
        "--cache-dir",
        str(tmp_path / "cache"),
        "use.py",
    ]
    environ = os.environ | {"MYPYPATH": str(config.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()
    assert [line.partition(": ")[2] for line in told[:4]] == [
        'note: Revealed type is "int | str | None"',
        'note: Revealed type is "int"',
        'note: Revealed type is "bool"',
        'error: "Arguments" has no attribute "node"  [attr-defined]',
    ]


def test_a_dry_run_needs_no_account(launch: Launch) -> None:
    text = launch("count", "--on", "lem-gpu", "--dry-run").stdout
    assert "#SBATCH --account=ACCOUNT\n" in text
    assert "ACCOUNT stands where lem-gpu needs an account; to submit, say --account NAME, or set" in text
    assert "athena needs an account: say --account NAME" in launch("count", "--on", "athena", code=2).stderr


def test_with_json_a_script_reads_stdout(launch: Launch) -> None:
    done = launch("count", "n=3", "--json")
    (state,) = json.loads(done.stdout)
    assert state["run"].startswith("count-") and state["word"] == "finished"
    assert "layout  1 node x 1 rank" in done.stderr
    (plan,) = json.loads(launch("count", "n=3", "--nodes", "2", "--on", "bed", "--dry-run", "--json").stdout)
    assert plan["resources"]["nodes"] == 2 and "#SBATCH --nodes=2" in plan["sbatch"]


def test_an_exported_script_is_all_there_is_on_stdout(launch: Launch) -> None:
    launch("count", "n=3", "--prepare", "--on", "bed")
    text = launch("export", launch.runs()[0].name, "--on", "bed").stdout
    assert text.startswith("#!/bin/bash\n") and text.rstrip().endswith(str(launch.runs()[0]))


def test_the_plan_says_what_was_looked_at(launch: Launch) -> None:
    text = launch("count", "n=3", "--nodes", "2", "--on", "bed", "--dry-run").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("checks")]
    assert "count imports · config valid · " in line and " free · 4 tasks = 4 ranks" in line


def test_a_run_that_saves_slowly_is_not_given_too_little_time_for_it(launch: Launch) -> None:
    launch("count", "n=3", "--prepare", "--on", "bed")
    commit = launch.runs()[0] / "checkpoints/step-00000002/COMMIT"
    commit.parent.mkdir(parents=True)
    commit.write_text('{"total": 3, "seconds": 12.5}')
    assert "saves in 12.5 s of 30 s" in launch("count", "n=3", "--on", "bed", "--dry-run").stdout
    commit.write_text('{"total": 3, "seconds": 40.0}')
    assert "took 40 s, but it would be asked to save only 30 s" in launch("count", "n=3", "--on", "bed", code=2).stderr


def test_a_failed_input_leaves_no_run_waiting(launch: Launch) -> None:
    """A supervisor whose inputs are missing says so and ends, whoever started it."""
    launch("pipeline", write(launch, "study.yaml", "count: {n: 3}\ntally: {of: count}\n"), "--prepare")
    count, tally = launch.runs()
    supervisor = [sys.executable, "-m", "hpc.supervisor", str(tally)]
    (count / "heartbeat").mkdir()
    (count / "heartbeat/supervisor.json").write_text(
        '{"state": "failed", "time": 1.0, "text": "", "host": "here", "pid": 1}'
    )
    done = subprocess.run(supervisor, env=launch.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"it reads what is not there: {count.name} (failed)" in done.stdout


def test_a_plan_for_this_machine_says_what_has_no_effect_and_what_is_finished(launch: Launch) -> None:
    plan = launch("count", "n=1", "--partition", "gpu", "--mail", "me@example.org", "--dry-run").stdout
    assert "note    --partition, --mail: for Slurm, without effect on local" in plan and "finished before" not in plan
    launch("count", "n=1")
    again = launch("count", "n=1", "--dry-run").stdout
    assert re.search(r"^count-\w+ finished before: it would not run again", again, re.MULTILINE)


def test_what_is_wrong_for_good_ends_with_93(launch: Launch) -> None:
    """A ValueError in a stage is due to the user's input."""
    done = launch("count", "n=3", "bad_at=2", code=93)
    assert "ValueError: told to refuse step 2" in done.stderr
    assert json.loads(launch("status", "--json").stdout)[0]["code"] == 93


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """A folder with one run, finished, that is called pilot."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    launch = Launch(tmp_path_factory.mktemp("tab"), inherited | {"PYTHONPATH": str(EXAMPLE), "HPC_SITE": "local"})
    launch("count", "n=1", "--name", "pilot")
    return launch


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sta", ["status"]),
        ("count --nod", ["--nodelist", "--nodes"]),
        ("count --on loc", ["local"]),
        ("count --on=loc", ["local"]),
        ("count --nodes 2 rule.p", ["rule.power="]),
        ("pipeline count.ste", ["count.step_s="]),
        ("count rule.name=s", ["squares"]),
        ("count count.rule.name=", ["plain", "squares"]),
        ("tally of=co", ["RUN"]),
        ("status count-", ["RUN"]),
        ("logs pi", ["pilot"]),
        ("logs --runs elsewhere pi", []),
        ("logs --runs=./runs pi", ["pilot"]),
        ("stop ", []),
        ("logs --r", ["--rank", "--runs"]),
        ("count --output ", []),
        ("sweep cou", ["count"]),
        ("count rule=", ["plain", "squares"]),
        ("count rule=squares rule.", ["rule.name=", "rule.power="]),
        ("count rule=plain rule.", ["rule.name="]),
        ("settings count.rule.p", ["count.rule.power"]),
        ("pipeline motor-eeg", ["motor-eegnet"]),
        ("pipeline motor-eegnet --preset si", ["size=tiny"]),
        ("count --preset ", []),
    ],
)
def test_the_tab_key_completes(finished: Launch, line: str, found: list[str]) -> None:
    launch = finished
    found = [launch.runs()[0].name if word == "RUN" else word for word in found]
    script = launch("completion", "bash").stdout + (
        f"\nCOMP_LINE='python -m hpc.launch {line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE)"
        "\ncompopt() { :; }; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _hpc_launch; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=launch.folder, env=launch.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.stdout.split() == found, done.stderr


def test_what_is_not_ours_is_completed_as_before(launch: Launch) -> None:
    """Bash uses its own completion if ours offers nothing: files, also those with blanks."""
    script = launch("completion", "bash").stdout + (
        "COMP_LINE='python my'; COMP_POINT=9; COMP_WORDS=(python my); COMP_CWORD=1; _hpc_launch; "
        'echo "${#COMPREPLY[@]}"; complete -p python'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0\ncomplete -o bashdefault -o default -F _hpc_launch python\n"


def test_what_completed_python_before_still_does(launch: Launch) -> None:
    script = (
        "before() { COMPREPLY=(before $1); }; complete -F before python\n" + launch("completion", "bash").stdout + "\n"
        "COMP_LINE='python my'; COMP_POINT=9; COMP_WORDS=(python my); COMP_CWORD=1; _hpc_launch python; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "before python\n"


def test_the_command_hpc_is_completed_as_well(launch: Launch) -> None:
    script = launch("completion", "bash").stdout + (
        "\nCOMP_LINE='hpc sta'; COMP_POINT=7; COMP_WORDS=(hpc sta); COMP_CWORD=1; compopt() { :; }; _hpc hpc; "
        'echo "${COMPREPLY[@]}"; complete -p hpc'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=launch.folder, env=launch.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.stdout == "status\ncomplete -o bashdefault -o default -F _hpc hpc\n", done.stderr


def test_runs_of_the_same_code_share_a_copy_of_it(launch: Launch) -> None:
    launch("sweep", "count", "n=1..3", "--prepare")
    assert len({os.path.realpath(run / "code") for run in launch.runs()}) == 1
    (launch.runs()[0] / "code").resolve().rename(launch.folder / "cleaned")
    assert "total             1" in launch("count", "n=1").stdout


def test_one_damaged_file_does_not_hide_the_other_runs(launch: Launch) -> None:
    launch("sweep", "count", "n=2,3")
    first, second = launch.runs()
    launch.wait_for(lambda: not (first / "heartbeat").exists(), "its files are joined")
    folding.unfold(RunDir(first))
    (first / "heartbeat/supervisor.json").write_bytes(bytes(40))
    text = launch("status").stdout
    assert f"{first.name}  finished" in text and f"{second.name}  finished" in text
    (first / "result.json").unlink()
    (first / "jobs/submitted.jsonl").write_bytes(b"{")
    text = launch("status").stdout
    assert "never started" in text and f"{second.name}  finished" in text
    (first / "plan.json").write_text("")
    done = launch("resume", first.name, code=1)
    assert done.stderr.startswith("error: ") and "plan.json is damaged" in done.stderr


def test_a_run_folder_under_another_name_is_not_taken_for_the_run(launch: Launch) -> None:
    launch("count", "n=2")
    launch.runs()[0].rename(launch.folder / "runs/mine")
    assert "is a copy, or was renamed, or its config.yaml was changed" in launch("resume", "mine", code=2).stderr


def test_a_name_is_not_given_to_what_has_another(launch: Launch) -> None:
    launch("count", "n=2", "--name", "first")
    assert "is finished, as first; --again" in launch("count", "n=2", "--name", "second", code=2).stderr
    taken = launch.runs()[0].name
    assert "another run has that name already" in launch("count", "n=3", "--name", taken, code=2).stderr


def test_what_two_names_share_is_there_once(launch: Launch) -> None:
    (launch.folder / "both.yaml").write_text("first: {stage: count, n: 2}\ncount: {after: first}\n")
    words = ["pipeline", "both.yaml", "--json"]
    begun = [json.loads(launch(*words, f"count.n={n}", "--name", name).stdout) for n, name in ((3, "one"), (4, "two"))]
    (shared, one), (again, two) = begun
    assert shared["run"] == again["run"] and (shared["name"], again["name"]) == ("one", "one")
    assert (one["name"], two["name"]) == ("one", "two")


def test_an_empty_word_is_no_run(launch: Launch) -> None:
    launch("count", "n=2")
    assert "The name is empty" in launch("stop", "", code=2).stderr


def write(launch: Launch, name: str, text: str) -> str:
    (launch.folder / name).write_text(text)
    return name


def test_ugly_folder_names_do_no_harm(launch: Launch, tmp_path: Path) -> None:
    ugly = "runs of 'Ż' $HOME %j; touch oops"
    launch("count", "n=2", "--runs", ugly)
    assert [path.name for path in tmp_path.iterdir()] == [ugly]


def test_the_ranks_run_the_code_as_it_was_when_launched(launch: Launch, tmp_path: Path) -> None:
    """A package in a git checkout is copied; editing the checkout afterwards changes nothing."""
    checkout = tmp_path / "checkout"
    shutil.copytree(EXAMPLE, checkout, ignore=shutil.ignore_patterns("__pycache__"))
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(checkout), *words], check=True)
    source = checkout / "counting/stages.py"
    source.write_text(source.read_text().replace('"total": total,', '"total": -total,'))
    for name in ("new.py", "page.html.jinja", "report.html"):  # the last is what code made
        (checkout / "counting" / name).write_text("")
    latin = os.fsdecode(b"counting/caf\xe9.py")  # names and texts that are no UTF-8
    (checkout / latin).write_text("")
    with open(checkout / "counting/__init__.py", "ab") as file:
        file.write(b"# -*- caf\xe9\n")
    launch.environ["PYTHONPATH"] = str(checkout)
    done = launch("count", "n=3")
    assert "+ 5 changed files" in done.stdout and "total             -6" in done.stdout
    (run,) = launch.runs()
    with zipfile.ZipFile(run / "code/code.zip") as packed:
        names = {name.removeprefix("checkout/") for name in packed.namelist()}
        assert b"-total" in packed.read("checkout/counting/stages.py")
        diff = packed.read("code.diff")
    assert {"counting/new.py", "counting/page.html.jinja", unpack.entry_name(latin)} <= names
    assert "counting/report.html" not in names
    assert b'+    return {"total": -total,' in diff and b"caf\xe9" in diff
    assert json.loads((run / "plan.json").read_text())["code"][1]["modified"] == [
        "counting/__init__.py", "counting/caf\ufffd.py", "counting/new.py", "counting/page.html.jinja",
        "counting/stages.py",
    ]  # fmt: skip
    assert os.path.relpath(run / "code", tmp_path).startswith("runs/count-")


def test_a_finished_run_says_when_what_it_read_has_changed_since(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/old.edf").touch()
    launch("count", "n=2", "after=./data")
    assert "CAREFUL" not in launch("count", "n=2", "after=./data").stdout
    (tmp_path / "data/new.edf").touch()
    os.utime(tmp_path / "data/new.edf", (2e9, 2e9))
    said = launch("count", "n=2", "after=./data").stdout
    assert "CAREFUL: 1 files in ./data are newer than this result, data/new.edf for one" in said


def test_who_ends_the_launcher_stops_the_run_which_saves(launch: Launch) -> None:
    started = launch.start("count", "hold_at=3")
    launch.wait_for(
        lambda: list(launch.folder.glob("runs/*/checkpoints/*/COMMIT")) or started.poll() is not None,
        "a step is saved",
    )
    for _ in range(2):  # as `timeout` does
        started.send_signal(signal.SIGTERM)
    said = output_of(started)
    assert started.returncode == 75 and "the same command goes on from there" in said
    assert "at once;" not in said


def test_the_same_error_at_the_same_step_is_tried_twice_though_the_first_had_saved(launch: Launch) -> None:
    failed = launch("count", "n=5", "fail_at=4", code=1)
    assert "attempt 2 starts" in failed.stdout and "attempt 3 starts" not in failed.stdout


def test_an_input_may_be_what_its_user_calls_a_run(launch: Launch) -> None:
    launch("count", "n=2", "--name", "pilot")
    assert "digits" in launch("tally", "of=pilot").stdout
    assert "finished before" in launch("tally", f"of={launch.runs()[0].name}").stdout, "the same science"


def slurm_says(launch: Launch, **commands: str) -> None:
    """Stand-ins for Slurm's commands, which a login node has; each is a shell script."""
    folder = launch.folder / "slurm"
    folder.mkdir(exist_ok=True)
    for name, script in commands.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    launch.environ["PATH"] = f"{folder}:{launch.environ['PATH']}"


def test_after_a_refused_submission_all_verbs_still_find_their_runs(launch: Launch) -> None:
    launch("count", "n=2", "--on", "local")
    slurm_says(launch, sbatch="echo 'sbatch: error: Invalid account or account/partition combination' >&2; exit 1")
    assert "Invalid account" in launch("count", "n=3", "--on", "slurm", code=3).stderr
    states = {state["word"] for state in json.loads(launch("status", "count", "--json").stdout)}
    assert states == {"finished", "stopped"}
    assert "there is no run 'bogus'" in launch("status", "bogus", code=2).stderr
    assert "could be count-" in launch("logs", "count", code=2).stderr
    assert "nothing to stop" in launch("stop", "count", code=2).stderr


def test_jobs_of_a_slurm_that_is_gone_are_given_up_and_their_runs_go_on_here(launch: Launch) -> None:
    silent = "echo 'error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    slurm_says(launch, sbatch="echo Submitted batch job 7", squeue=silent, scancel=silent, scontrol=silent)
    (launch.folder / "study.yaml").write_text("count: {n: 4}\ntally: {of: count}\n")
    launch("tally", "study.yaml", "--on", "slurm")
    tally = next(run for run in launch.runs() if run.name.startswith("tally"))
    refused = launch("tally", "study.yaml", "--on", "local", code=3)
    assert "is a Slurm job already, 7" in refused.stderr and "also where that Slurm is gone for good" in refused.stderr
    assert "starts" not in refused.stdout, "nothing has begun"
    assert "scancel did not take 7" in launch("stop", "tally", code=2).stderr
    said = launch("stop", "tally", "count", "--now").stdout
    assert "gave up job 7, 7, as squeue does not answer" in said
    assert "given up, as squeue does not answer" in launch("status", tally.name).stdout
    assert launch("tally", "study.yaml", "--on", "local").stdout.count("finished after") == 2


def test_the_last_event_is_shown_though_the_result_is_there_before_it(
    launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A supervisor writes the result, then the event; on a busy machine much lies between."""
    launch("count", "n=1")
    (folder,) = launch.runs()
    run = RunDir(folder)
    launch.wait_for(lambda: not run.supervisor.parent.exists(), "its files are joined")
    folding.unfold(run)
    *before, last = run.events.read_text().splitlines(keepends=True)
    run.events.write_text("".join(before))
    result, owner = read_json(run.result), read_json(run.owner)
    assert result and owner and "finished after" in last
    write_json(run.result, result | {"ended": time.time()})
    write_json(run.owner, owner | {"pid": os.getpid()})
    event = json.loads(last) | {"time": time.time() + 1}
    supervisor = threading.Timer(0.5, append_line, (run.events, event))
    supervisor.start()
    assert watch.follow(run, mine=False).word == "finished"
    assert "finished after" in capsys.readouterr().out
    run.events.write_text("".join(before))
    with subprocess.Popen(["sleep", "60"]) as killed:
        write_json(run.owner, owner | {"pid": killed.pid})
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped yet: a child of who watches
        assert not watch._has_more_to_say(run)
        assert watch.follow(run, mine=False).word == "finished"
    assert "finished after" not in capsys.readouterr().out
    write_json(run.owner, owner)  # it was killed before its last word
    assert watch.follow(run, mine=False).word == "finished"
    assert "finished after" not in capsys.readouterr().out


def test_ctrl_c_ends_what_follows_even_if_the_run_finishes_first(
    launch: Launch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch("count", "n=1")
    run, looks = RunDir(launch.runs()[0]), iter([KeyboardInterrupt])

    def look(run: RunDir, queue: Queue) -> status.State:
        for interrupt in looks:
            raise interrupt
        return status.look_all([run], queue)[0]

    monkeypatch.setattr(watch.status, "look", look)
    stop = Stop()
    assert watch.follow(run, mine=True, ended=stop).word == "finished"
    next_one: Any = SimpleNamespace(science=SimpleNamespace(name="count-2", section="", stage="count"))
    assert start._one_by_one([next_one], stop) == STOPPED
    assert "stopped before count: the same command goes on" in capsys.readouterr().out


def test_a_folder_that_was_removed_is_named(launch: Launch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && {sys.executable} -P -m hpc.launch count --dry-run"
    done = subprocess.run(["bash", "-c", script], env=launch.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "error: the folder that you are in was removed: cd to one that is there\n",
    )
