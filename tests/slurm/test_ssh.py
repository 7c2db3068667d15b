"""From a laptop to a cluster and back, through a real sshd, as a second user, with a real Slurm behind it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpc.runs import products, records, seal
from hpc.runs.rundir import RunDir, committed_steps
from tests import archives
from tests.conftest import EXAMPLE, ROOT, Launch, users_environ
from tests.slurm.login_node import Cable, LoginNode, login_node, missing
from tests.waiting import open_gate, output_of, said_first, wait_for

pytestmark = pytest.mark.slurm
FAR = ["--on", "far"]
HELD = "hold_at=3"


@pytest.fixture(scope="module")
def node(slurm: str) -> Iterator[LoginNode]:
    if slurm != "bed":
        pytest.skip("its sshd is for the bed on this machine")
    if lacking := missing():
        if os.environ.get("REQUIRE_SLURM") == "1":
            pytest.fail(f"REQUIRE_SLURM=1, but {lacking}")
        pytest.skip(lacking)
    with login_node({name: os.environ[name] for name in ("SLURM_CONF", "PATH")}) as node:
        yield node


@dataclass
class Far:
    """A laptop, and the cluster `far` that ssh leads to."""

    node: LoginNode
    launch: Launch
    home: Path

    @property
    def cable(self) -> Cable:
        return self.node.cable

    @property
    def project(self) -> Path:
        """The folder there of the folder here."""
        return self.node.home / "hpc/eeg-study"

    def runs(self) -> list[RunDir]:
        return [RunDir(path.parent) for path in sorted(self.project.glob("runs/*/plan.json"))]

    def run(self) -> RunDir:
        (run,) = self.runs()
        return run

    def state(self, word: str) -> dict[str, object]:
        (state,) = json.loads(self.launch("status", word, "--json").stdout)
        found: dict[str, object] = state
        return found

    def profile(self, *lines: str, login: str = "") -> None:
        """Write the profile of the cluster in the home of the laptop."""
        text = (ROOT / "configs/site/bed.yaml").read_text()
        login = login or f"{{host: cluster, python: {self.node.python}}}"
        (self.home / ".config/hpc/site").mkdir(parents=True, exist_ok=True)
        (self.home / ".config/hpc/site/far.yaml").write_text("\n".join([text, f"login: {login}", *lines, ""]))

    def hang_up(self) -> None:
        """End the connection that is kept."""
        for socket in (self.home / "run").glob("hpc-ssh-*/*"):
            words = ["ssh", f"-oControlPath={socket}", "-O", "exit", "cluster"]
            subprocess.run(words, env=self.launch.environ, capture_output=True, check=False)

    def ssh_lines(self) -> str:
        """Everything that ssh was started with."""
        log = self.home / "ssh.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def far(node: LoginNode, tmp_path: Path) -> Iterator[Far]:
    home = node.folder / f"lap{len(list(node.folder.glob('lap*')))}"  # short, for the sockets of ssh
    inherited = {name: value for name, value in users_environ().items() if name != "HPC_SITE"}
    folder = tmp_path / "eeg study"
    folder.mkdir()
    far = Far(node, Launch(folder, inherited | node.laptop(home)), home)
    far.profile()
    yield far
    node.cable.mend()
    node.cable.left = None
    far.launch.end()
    open_gate(*far.runs())
    for run in far.runs():
        wait_for(lambda run=run: not on_its_way(far, run), f"{run.name} has ended")  # type: ignore[misc]
    far.hang_up()
    shutil.rmtree(far.project, ignore_errors=True)


def on_its_way(far: Far, run: RunDir) -> bool:
    """Whether Slurm still has a job of a run."""
    jobs = [str(line["job"]) for line in records.submissions(run) if "job" in line]
    listed = subprocess.run(["squeue", "-h", "-o", "%A"], capture_output=True, text=True, check=True).stdout.split()
    return not set(jobs).isdisjoint(listed)


def under_way(far: Far, *words: str) -> RunDir:
    """A run that was submitted from here, and waits there behind step 3."""
    far.launch(*words, HELD, *FAR)
    run = far.runs()[-1]
    wait_for(lambda: committed_steps(run.checkpoints)[-1:] == [3], "step 3 is saved")
    return run


def test_a_line_goes_there_and_what_it_made_comes_back(far: Far) -> None:
    done = far.launch("count", "n=3", "--nodes", "2", *FAR, "--follow")
    run, here = far.run(), RunDir(far.launch.folder / "runs/far" / far.run().name)
    assert run.path.owner() == far.node.user != Path(__file__).owner()
    assert "submitted count-" in done.stdout and "total             6" in done.stdout
    assert f"files             runs/far/{run.name}" in done.stdout
    assert (here.out / "total.txt").read_text() == "6" and records.result(here) == records.result(run)
    assert not here.checkpoints.exists() and not os.path.lexists(here.code)
    assert (
        far.launch("verify", f"runs/far/{run.name}/out").stdout
        == f"runs/far/{run.name}/out: 1 product of 0.0 MB is what was written\n"
    )
    again = far.launch("count", "n=3", "--nodes", "2", *FAR)
    assert "finished before" in again.stdout and "total             6" in again.stdout
    assert len(records.submissions(run)) == 1
    assert "files             runs/far/" in far.launch("fetch", run.name, "--all").stdout
    assert committed_steps(here.checkpoints) == [1, 2, 3]
    assert all("Be nice" not in text.stdout + text.stderr for text in (done, again)), "a banner is none of our words"


def test_the_run_there_is_of_the_code_here(far: Far) -> None:
    far.launch("count", "n=2", *FAR, "--follow")
    plan = records.plan(far.run())
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (code,) = plan["code"]
    assert code["commit"] == head.strip() and code["root"] == f"{os.uname().nodename}:{ROOT}"
    assert seal.difference(far.run().code, plan["snapshot"]) == ""
    (sent,) = (far.project / "runs/.code").iterdir()
    assert sent == far.run().code.resolve() and sent.name == plan["snapshot"][:16], "one copy, which the run uses"
    assert sorted(path.name for path in (far.launch.folder / "runs/.code").iterdir()) == [sent.name]


def test_all_goes_through_one_connection(far: Far) -> None:
    before = far.cable.n_connections
    far.launch("count", "n=2", *FAR, "--follow")
    far.launch("status")
    far.launch("logs", "count")
    assert far.cable.n_connections == before + 1


def test_what_has_not_changed_is_not_sent_again(far: Far) -> None:
    """Of changed code the changed files go; without a change, none."""
    lab = far.launch.folder.parent / "lab"
    shutil.copytree(EXAMPLE, lab)
    far.launch.environ["PYTHONPATH"] = str(lab)

    def sent(*words: str) -> int:
        before = far.cable.n_bytes
        far.launch("count", *words, *FAR, "--follow")
        return far.cable.n_bytes - before

    first, second = sent("n=2"), sent("n=3")
    (lab / "counting/more.py").write_text("# one file more\n")
    third = sent("n=4")
    assert first > 500_000
    assert second < first / 10 and third < first / 10, (first, second, third)
    copies = [path for path in (far.project / "runs/.code").iterdir() if path.name[0] != "."]
    assert len(copies) == 2 and not list((far.project / "runs/.code").glob(".*"))
    assert sum("lab/counting/more.py" in archives.files_of(copy / "code.zip") for copy in copies) == 1


def test_all_verbs_are_the_same_from_here(far: Far) -> None:
    run = under_way(far, "count", "n=6", "--name", "pilot")
    table = far.launch("status").stdout
    assert run.name in table and " running " in table and " far " in table and " pilot " in table
    job = records.submissions(run)[-1]["job"]
    assert far.state(run.name[:8])["job"] == far.state(job)["job"] == far.state("pilot")["job"] == job
    assert far.launch("logs", "pilot", "--rank", "1").stdout == "rank 1 of 2 starts at 0\n"
    assert "asked to save and end" in far.launch("stop", "pilot").stderr
    assert far.state("pilot")["word"] == "stopped"
    assert f"{run.name} is stopped" in far.launch("why", "pilot").stdout
    assert json.loads(far.launch("why", "pilot", "--json").stdout)["word"] == "stopped"
    assert "nothing to stop" in far.launch("stop", "pilot", code=2).stderr
    open_gate(run)
    assert "total             21" in far.launch("resume", "pilot", "--nodes", "2", "--follow").stdout
    assert [line["from_step"] for line in records.attempts(run)] == [0, 3]
    assert records.attempts(run)[-1]["ranks"] == 4
    (state,) = json.loads(far.launch("resume", "pilot", "--json").stdout)
    assert (state["word"], state["site"]) == ("finished", "far")
    assert "there is no run 'nobody'" in far.launch("status", "nobody", code=2).stderr


def test_stopped_at_once_too(far: Far) -> None:
    run = under_way(far, "count", "n=6")
    assert "the last checkpoint counts" in far.launch("stop", run.name, "--now").stderr
    wait_for(lambda: far.state(run.name)["word"] in ("stopped", "lost", "failed"))


def test_a_pipeline_and_a_sweep_with_files_of_this_folder(far: Far) -> None:
    configs = far.launch.folder / "my configs"
    configs.mkdir()
    (configs / "base.yaml").write_text("count: {n: 4}\n")
    (configs / "study.yaml").write_text("include: base.yaml\ntally: {of: count}\n")
    done = far.launch("pipeline", "my configs/study.yaml", *FAR, "--follow")
    (tally,) = (run for run in far.runs() if run.name.startswith("tally"))
    assert f"page              runs/far/{tally.name}/out/page.html" in done.stdout
    assert (far.launch.folder / f"runs/far/{tally.name}/out/page.html").read_text() == "<p>10</p>"
    whole = far.launch("count", str(configs / "study.yaml"), *FAR).stdout
    assert "finished before" in whole, "an absolute path to a file below this folder is the same file"
    (state, *others) = json.loads(far.launch("sweep", "count", "n=6..9", "--name", "many", *FAR, "--json").stdout)
    assert len(others) == 3 and state["site"] == "far"
    wait_for(lambda: {s["word"] for s in json.loads(far.launch("status", "many", "--json").stdout)} == {"finished"})
    outside = far.launch.folder.parent / "outside.yaml"
    outside.write_text("count: {n: 4}\n")
    assert "outside of this folder" in far.launch("count", str(outside), *FAR, code=2).stderr


def test_what_is_only_here_is_named_with_the_command_that_copies_it(far: Far) -> None:
    (far.launch.folder / "counted").mkdir()
    (far.launch.folder / "counted/total.txt").write_text("1234")
    error = far.launch("tally", "of=./counted", *FAR, code=2).stderr
    command = error.rpartition("to copy it there: ")[2].strip()
    assert "no such file or folder" in error and command == f"rsync -aR ./counted cluster:{far.project}/"
    subprocess.run(command, shell=True, cwd=far.launch.folder, env=far.launch.environ, check=True)
    products_there = far.project / "counted"
    products.close(products_there, run="")
    assert "digits            4" in far.launch("tally", "of=./counted", *FAR, "--follow").stdout


# --------------------------------------------------------------------------------------------------- broken connections


def test_wherever_a_connection_breaks_a_line_is_submitted_once(far: Far) -> None:
    """While the code goes over, and at places from the first greeting to the answer when it is there already."""

    def submitted(n: int, cut_after: int | None = None) -> int:
        """Submit a run, whose first connection breaks after so many bytes; return how many went over."""
        far.hang_up()
        before = far.cable.n_bytes
        far.cable.left = cut_after
        far.launch("count", f"n={n}", *FAR)
        assert far.cable.left is None, "it broke"
        wait_for(lambda: not any(on_its_way(far, run) for run in far.runs()), "it is finished")
        return far.cable.n_bytes - before

    whole, short = submitted(1), submitted(2)
    for number, part in enumerate((1, 3, 5), start=3):
        shutil.rmtree(far.project / "runs/.code")
        submitted(number, whole * part // 8)
    for number, part in enumerate(range(1, 8), start=6):
        submitted(number, short * part // 8)
    states = json.loads(far.launch("status", "--json").stdout)
    assert {state["word"] for state in states} == {"finished"} and len(states) == 12
    assert [len(records.submissions(run)) for run in far.runs()] == [1] * 12


def test_a_log_goes_on_where_it_was_when_the_connection_is_back(far: Far) -> None:
    run = under_way(far, "count", "n=6")
    follower = far.launch.start("logs", run.name, "-f")
    said_first(follower, "rank 0 of 2 starts at 0")
    far.cable.cut()
    said_first(follower, "it goes on there")
    far.cable.mend()
    with open(run.attempt(1).log(0), "a") as log:
        log.write("żółw, after the break\n")
    assert said_first(follower, "after the break").count("starts at 0") == 0, "nothing twice"
    open_gate(run)
    output_of(follower)
    assert follower.returncode == 0 and run.result.exists()
    wait_for(lambda: "logs" not in far.node.sh("ps -o args= -u $(id -u)"), "nobody there follows the log any more")


def test_who_ends_following_ends_it_there_too(far: Far) -> None:
    run = under_way(far, "count", "n=6")
    follower = far.launch.start("logs", run.name, "-f")
    said_first(follower, "starts at 0")
    follower.kill()
    wait_for(lambda: " logs " not in far.node.sh("ps -o args= -u $(id -u)"), "the process there ends")
    assert not run.result.exists()


def test_who_follows_a_run_is_told_and_waits_for_the_connection(far: Far) -> None:
    run = under_way(far, "count", "n=6")
    follower = far.launch.start("count", "n=6", HELD, *FAR, "--follow")
    said_first(follower, "running (attempt 1)")
    far.cable.cut()
    said_first(follower, "the run goes on there: looking again in 2 s")
    open_gate(run)
    wait_for(run.result.exists, "it finishes without us")
    far.cable.mend()
    assert "total             21" in output_of(follower)
    assert follower.returncode == 0 and len(records.submissions(run)) == 1


def test_without_a_connection_status_shows_what_was_seen_last(far: Far) -> None:
    run = under_way(far, "count", "n=6")
    far.launch("status")
    far.cable.cut()
    done = far.launch("status")
    assert run.name in done.stdout and " running " in done.stdout
    assert ": no connection to cluster (" in done.stdout and "as of " in done.stdout
    assert far.launch("logs", run.name, code=1).stderr.count("error: no connection to cluster") == 1
    error = far.launch("count", "n=9", *FAR, code=1).stderr
    assert error.count("trying again") == 1, "a look is tried twice"
    far.cable.mend()
    open_gate(run)
    wait_for(lambda: far.state(run.name)["word"] == "finished")


def test_a_stop_whose_answer_was_lost_is_not_asked_twice(far: Far) -> None:
    run = under_way(far, "count", "n=6")
    stopper = far.launch.start("stop", run.name)
    wait_for(lambda: (run.path / "heartbeat/stop").exists() or records.supervisor(run)["state"] == "stopped")
    far.cable.break_connections()
    text = output_of(stopper)
    assert stopper.returncode == 0, text
    assert far.state(run.name)["word"] == "stopped"


def test_code_that_was_cleaned_away_there_is_sent_again(far: Far) -> None:
    far.launch("count", "n=2", *FAR, "--follow")
    shutil.rmtree(far.project / "runs/.code")
    assert "the code is gone from far: sending today's" in far.launch("logs", "count").stderr
    (copy,) = (far.project / "runs/.code").iterdir()
    lost = copy / "code.zip"
    lost.unlink()
    assert "finished before" in far.launch("count", "n=2", *FAR).stdout
    assert lost.exists(), "what a disk that is cleaned has lost is there again"


# ------------------------------------------------------------------------------------------------------------ sentences


def refused(far: Far, code: int = 2) -> str:
    error = far.launch("count", "n=2", *FAR, code=code).stderr
    assert error.startswith("error: ") and "Traceback" not in error
    assert not far.runs()
    return error


def test_a_host_key_that_ssh_does_not_know(far: Far) -> None:
    (far.home / ".ssh/known_hosts").write_text("")
    assert "ssh does not know the host key of cluster: run `ssh cluster` once by hand" in refused(far)


def test_a_host_key_that_has_changed(far: Far) -> None:
    (far.home / ".ssh/known_hosts").write_text(f"cluster {(far.node.folder / 'client.pub').read_text()}")
    assert "shows another host key than the one that ssh knows" in refused(far)


def test_a_login_that_is_refused(far: Far) -> None:
    config = far.home / ".ssh/config"
    config.write_text(config.read_text().replace(f"User {far.node.user}", "User stranger"))
    error = refused(far)
    assert "cluster refuses the login (stranger@" in error and "ssh-add" in error
    assert far.ssh_lines().count("BatchMode=yes") == 1, "knocking again would lock the account"


@pytest.mark.parametrize("program", ["ssh", "rsync"])
def test_a_laptop_without_ssh_or_rsync(far: Far, program: str) -> None:
    tools = far.home / "tools"
    tools.mkdir()
    for name in {"git", "ssh", "rsync"} - {program}:
        there = shutil.which(name, path=far.launch.environ["PATH"])
        assert there
        (tools / name).symlink_to(there)
    far.launch.environ["PATH"] = str(tools)
    assert f"there is no {program} on this machine" in refused(far)


def without(program: str) -> str:
    """A line of the shell after which a program is not on the PATH."""
    keep = "sh cat ls mkdir find grep head tail tr wc mktemp rm mv sbatch rsync"
    links = f"for p in {keep}; do ln -sf $(command -v $p) $HOME/few/; done"
    return f"mkdir -p $HOME/few; {links}; rm -f $HOME/few/{program}; PATH=$HOME/few"


@pytest.mark.parametrize(("program", "named"), [("sbatch", "Slurm (no sbatch)"), ("rsync", "rsync")])
def test_a_cluster_without_slurm_or_rsync(far: Far, program: str, named: str) -> None:
    far.profile(login=f"{{host: cluster, python: {far.node.python}, setup: ['{without(program)}']}}")
    assert f"cluster has no {named} on the PATH that a command of ssh gets" in refused(far)


def test_what_only_a_login_shell_has_is_set_up_by_a_line_of_the_profile(far: Far) -> None:
    tools = far.node.home / "site-tools"
    tools.mkdir(exist_ok=True)
    (tools / "rsync").write_text('#!/bin/sh\ntouch "$HOME/used"\nexec /usr/bin/rsync "$@"\n')
    (tools / "rsync").chmod(0o755)
    far.profile(login=f"{{host: cluster, python: {far.node.python}, setup: ['PATH=$HOME/site-tools:$PATH']}}")
    assert "total             3" in far.launch("count", "n=2", *FAR, "--follow").stdout
    assert (far.node.home / "used").exists()


def test_a_cluster_without_our_environment_or_with_an_old_python(far: Far) -> None:
    far.profile(login="{host: cluster}")
    assert f"there is no {far.node.home}/hpc/.venv/bin/python on cluster: make the environment" in refused(far)
    old = far.node.home / "old-python"
    old.write_text("#!/bin/sh\necho 3.9.18\n")
    old.chmod(0o755)
    far.profile(login="{host: cluster}")
    logins = far.home / ".config/hpc/logins.yaml"
    logins.write_text(f"far: {{python: {old}}}\n")
    assert f"hpc needs Python 3.11 or newer: {old} on cluster is 3.9.18" in refused(far)
    logins.write_text(f"far: {{python: {far.node.python}}}\n")
    assert "total             3" in far.launch("count", "n=2", *FAR, "--follow").stdout


def test_another_torch_there_is_noted(far: Far) -> None:
    other = far.node.home / "other-python"
    other.write_text(f'#!/bin/sh\ncase "$2" in *torch*) echo 1.0.0 ;; *) exec {far.node.python} "$@" ;; esac\n')
    other.chmod(0o755)
    far.profile(login=f"{{host: cluster, python: {other}}}")
    assert "note: torch is 1.0.0 on far, " in far.launch("count", "n=2", *FAR).stderr


def test_a_full_disk_or_quota_there(far: Far) -> None:
    small = far.node.folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", small], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        far.profile(login=f"{{host: cluster, root: {small}, python: {far.node.python}}}")
        error = refused(far)
    finally:
        subprocess.run(["umount", small], check=True)
    assert "no room, or your quota is used up" in error and "No space left on device" in error


def test_a_run_of_this_machine_stays_here(far: Far) -> None:
    far.launch("count", "n=2", "--on", "local")
    (run,) = far.launch.runs()
    assert (
        f"{run.name} is a run of this machine, and its files are not on far"
        in far.launch("resume", run.name, *FAR, code=2).stderr
    )
    assert "is a run of this machine: its files are in runs" in (
        far.launch("count", "n=3", *FAR, "--follow") and far.launch("fetch", run.name, code=2).stderr
    )


# -------------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_goes_over_in_an_argument(far: Far) -> None:
    value = f"value-{os.urandom(8).hex()}"
    (far.home / ".config/hpc/secrets").write_text(f"WEBHOOK={value}\n")
    (far.home / ".config/hpc/secrets").chmod(0o600)
    far.launch.environ["SOME_TOKEN"] = value
    token = "ghp_0123456789abcdef0123456789"
    for words in (["count", "n=2", "--comment", token], ["train", f"data={token}"]):
        assert "looks like a secret" in far.launch(*words, *FAR, code=2).stderr
    assert far.ssh_lines() == "", "refused before anything was sent"
    far.launch("count", "n=2", *FAR, "--follow")
    assert not [word for word in (value, token) if word in far.ssh_lines()]
    whole = subprocess.run(["grep", "-rl", value, far.node.home], capture_output=True, check=False)
    assert whole.returncode == 1, "nor in a file"
    assert {path.stat().st_mode & 0o077 for path in far.project.rglob("*") if not path.is_symlink()} == {0}


# ----------------------------------------------------------------------------------------------------- what stays local


def test_what_is_here_knows_nothing_of_ssh(launch: Launch) -> None:
    launch("count", "n=2", "--on", "local")
    line = "import os, sys; from hpc.launch import main; main(['status'], os.environ); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", line], cwd=launch.folder, env=launch.environ, capture_output=True, text=True, check=True
    )
    assert "count-" in done.stdout
    assert not [name for name in ("hpc.remote", "subprocess", "torch", "tempfile") if f"'{name}'" in done.stdout]


def test_a_dry_run_needs_no_connection(far: Far) -> None:
    done = far.launch("count", "n=2", *FAR, "--dry-run")
    assert "#SBATCH --partition=cpu" in done.stdout and "ssh would take this line to far" in done.stdout
    assert "--nodes must be 1 to 4 on far" in far.launch("count", "--nodes", "9", *FAR, code=2).stderr
    assert "has no setting 'm'" in far.launch("count", "m=2", *FAR, code=2).stderr
    assert "far is reached by ssh: name one" in far.launch("count", "--on", "far,slurm", code=2).stderr
    assert far.ssh_lines() == "" and not (far.launch.folder / "runs").exists()


def test_where_a_line_has_come_by_ssh_it_goes_no_further(far: Far) -> None:
    """Whatever the profile says: a login node that its signs do not match would call itself for ever."""
    far.profile("detect: {cluster_names: [another]}")
    text = (far.home / ".config/hpc/site/far.yaml").read_text()
    (far.home / ".config/hpc/site/far.yaml").write_text(text.replace("detect: {cluster_names: [bed]}\n", ""))
    assert "total             3" in far.launch("count", "n=2", *FAR, "--follow").stdout


# ------------------------------------------------------------------------------------------------------------- the page


def test_the_commands_of_the_page_run_one_after_the_other(far: Far) -> None:
    """docs/laptop.md, with the bed as WCSS."""
    profile = (ROOT / "configs/site/bed.yaml").read_text()
    ours = (ROOT / "configs/site/lem-gpu.yaml").read_text()
    (login,) = re.findall(r"^login: .*$", ours, re.MULTILINE)
    (far.home / ".config/hpc/site/lem-gpu.yaml").write_text(f"{profile}{login}\n")
    ssh = far.home / ".ssh/config"
    ssh.write_text(ssh.read_text().replace("Host cluster", "Host cluster ui.wcss.pl"))
    environment = far.node.home / "decoding/.venv"
    environment.parent.mkdir()
    shutil.chown(environment.parent, far.node.user)
    environment.symlink_to(far.node.python.parents[1])
    environ = far.launch.environ | {"PATH": f"{far.home}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environ.pop("PYTHONPATH")
    script = "\n".join(
        re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/laptop.md").read_text(), re.DOTALL | re.MULTILINE)
    )
    try:
        done = subprocess.run(
            ["bash", "-exc", script], cwd=far.launch.folder, env=environ, capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(far.node.home / "decoding")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert re.search(r"report +runs/lem-gpu/evaluate-\w+/out/report.html", done.stdout)
    (report,) = far.launch.folder.glob("eeg/runs/lem-gpu/evaluate-*/out/report.html")
    assert report.stat().st_size > 10_000
    assert "#SBATCH" in done.stdout and "asked to save and end" in done.stderr + done.stdout
