"""The way to a cluster over ssh, as far as it can be judged without one: tests/slurm/test_ssh.py goes it."""

import json
from pathlib import Path

import pytest

from hpc import config
from hpc.cli import options
from hpc.errors import ConfigError, Unreachable
from hpc.remote import places, ssh, verbs
from hpc.remote.places import Known
from hpc.remote.there import LOGIN_NODE, Code, project_of
from hpc.runs.rundir import Damaged
from hpc.runs.status import State
from hpc.site import profile
from hpc.site.profile import Login


@pytest.mark.parametrize(
    "line",
    [
        "train my.yaml seed=1 --nodes 2 --mem 16 --time 4h --name pilot --again",
        "sweep count n=1..4 --draws 3 --preset size=tiny --max-parallel 2 --yes",
        "logs train --rank 3 --attempt 2 -f",
        "status",
    ],
)
def test_options_are_written_as_they_were_read(line: str) -> None:
    args = options.read(line.split())
    again = options.read([args.verb, *args.words, *options.written(args)])
    assert vars(again) == vars(args)
    assert options.written(options.read(["logs", "x", "-f", "--rank=0"]), "follow") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("kex_exchange_identification: Connection closed by remote host\n", "kex_exchange_identification"),
        ("ssh: connect to host ui.wcss.pl port 22: Connection timed out\n", "Connection timed out"),
        ("ssh: Could not resolve hostname ui.wcss.pl: Temporary failure\n", "Could not resolve hostname"),
        ("", "it was closed"),
    ],
)
def test_what_may_pass_is_tried_again(words: str, sentence: str) -> None:
    failure = ssh.failure("me@ui.wcss.pl", words)
    assert isinstance(failure, Unreachable)
    assert str(failure).startswith("no connection to ui.wcss.pl (") and sentence in str(failure)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("me@ui.wcss.pl: Permission denied (publickey,password).\n", "ui.wcss.pl refuses the login"),
        ("Received disconnect from 1.2.3.4: Too many authentication failures\n", "ui.wcss.pl refuses the login"),
        ("No ED25519 host key is known for x.\nHost key verification failed.\n", "ssh does not know the host key"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n", "another host key"),
        ("/home/me/.ssh/config: line 3: Bad configuration option: x\n", "ssh cannot read its configuration"),
    ],
)
def test_what_only_the_user_can_mend_is_not_tried_again(words: str, sentence: str) -> None:
    failure = ssh.failure("me@ui.wcss.pl", words)
    assert isinstance(failure, ConfigError) and sentence in str(failure)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/x", "a b", "host;reboot", "$(id)"])
def test_a_host_is_a_name_and_no_option_of_ssh(host: str) -> None:
    with pytest.raises(ConfigError, match="host must be a name as ssh takes it"):
        config.build(Login, {"host": host}, "site x.login")


@pytest.mark.parametrize("path", ["~/hpc", "$(reboot)", "a b", '";reboot', "-rf"])
def test_a_path_over_there_is_no_command(path: str) -> None:
    with pytest.raises(ConfigError, match="must be a path"):
        config.build(Login, {"host": "x", "root": path}, "site x.login")


def test_your_own_lines_go_before_those_of_the_profile(tmp_path: Path) -> None:
    site = profile.load("lem-gpu")
    assert profile.login(site, tmp_path) == Login(host="ui.wcss.pl")
    own = tmp_path / ".config/hpc/logins.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("lem-gpu: {host: me@ui.wcss.pl, root: $PDDIR/hpc}\n")
    assert profile.login(site, tmp_path) == Login(host="me@ui.wcss.pl", root="$PDDIR/hpc")
    own.write_text("lem-gpu: me@ui.wcss.pl\n")
    with pytest.raises(ConfigError, match="lem-gpu needs lines as `host: me@ui.wcss.pl`"):
        profile.login(site, tmp_path)
    own.write_text("lem-gpu: {hots: x}\n")
    with pytest.raises(ConfigError, match="hots"):
        profile.login(site, tmp_path)


def test_a_line_is_for_ssh_only_from_a_machine_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"PATH": "/usr/bin:/bin"}
    monkeypatch.setattr(profile, "is_here", lambda site, environ: False)
    assert verbs.reached_by_ssh("lem-gpu", environ) == "lem-gpu"
    assert verbs.reached_by_ssh(None, environ | {"HPC_SITE": "lem-gpu"}) == "lem-gpu"
    assert verbs.reached_by_ssh("lem-gpu", environ | {LOGIN_NODE: "1"}) == ""
    assert [verbs.reached_by_ssh(name, environ) for name in (None, "local", "slurm", "athena")] == [""] * 4
    monkeypatch.setattr(profile, "is_here", lambda site, environ: True)
    assert verbs.reached_by_ssh("lem-gpu", environ) == ""


@pytest.mark.parametrize(
    ("folder", "name"), [("/home/me/EEG study (2)", "EEG-study-2-"), ("/x/.hidden", "hidden"), ("/", "project")]
)
def test_a_project_has_the_name_of_its_folder(folder: str, name: str) -> None:
    assert project_of(Path(folder)) == name


def seen(site: str, *runs: tuple[str, str, str]) -> Known:
    known = Known(site, "eeg", "runs", Code("0123456789abcdef"), {})
    states = []
    for run, label, job in runs:
        state = State(run)
        state.name, state.job, state.word = label, job, "running"
        states.append(state)
    return known.with_states(states)


def test_a_run_is_looked_for_where_it_was_seen(tmp_path: Path) -> None:
    runs = str(tmp_path)
    assert not places.any_in(runs)
    places.save(runs, seen("lem-gpu", ("train-k3f9x2ab", "pilot", "17_2")))
    assert places.any_in(runs) and places.of_run("whatever", runs).site == "lem-gpu", "the only one"
    places.save(runs, seen("lumi", ("train-x81hf02c", "", "18")))
    for word in ("train-k3f9x2ab", "train-k3", "k3f9x2ab", "pilot", "17_2", "17"):
        assert places.of_run(word, runs).site == "lem-gpu", word
    assert places.of_run("18", runs).site == "lumi"
    with pytest.raises(ConfigError, match="'train' is no run here, and could be on lem-gpu, lumi"):
        places.of_run("train", runs)


def test_what_was_seen_is_shown_with_its_age_and_unknown_fields_are_left_out(tmp_path: Path) -> None:
    known = seen("lumi", ("train-x81hf02c", "", "18"))
    assert known.may_change
    (state,) = places.last_seen(known, "no connection to lumi (it was closed)")
    assert state.site == "lumi" and state.text.startswith("as of ") and "no connection to lumi" in state.text
    newer = json.dumps([{"run": "a", "word": "finished", "carbon_kg": 3}])
    (state,) = places.states_in(newer, "lumi")
    assert (state.run, state.word, hasattr(state, "carbon_kg")) == ("a", "finished", False)


@pytest.mark.parametrize("content", ["{}", "[]", '{"site": "lumi"}', '{"code": 3}', "not json"])
def test_a_damaged_record_is_a_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / ".remote").mkdir()
    (tmp_path / ".remote/lumi.json").write_text(content)
    with pytest.raises(Damaged, match="lumi.json is damaged"):
        places.of_site(str(tmp_path), "lumi")
