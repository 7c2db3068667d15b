"""Anything that sbatch can say, from the line into the script, and what of it lasts."""

import json
from pathlib import Path

import pytest

from hpc.cli.options import OPTIONS, read
from hpc.errors import ConfigError
from hpc.runs.rundir import write_json
from hpc.site import allocation, profile
from hpc.slurm import sbatch_words, start_estimate
from tests.conftest import Launch

OURS = {"nodes": "--nodes N", "time": "--time 4h", "gres": "--gpus N", "qos": "--qos NAME", "mem": "--mem GB"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("--begin=now+1hour --exclusive", {"begin": "now+1hour", "exclusive": ""}),
        ("--begin now+1hour --switches 1", {"begin": "now+1hour", "switches": "1"}),
        ("-b now -O -m block", {"begin": "now", "overcommit": "", "distribution": "block"}),
        ("-bnow -S=2", {"begin": "now", "core-spec": "2"}),
        ("--comment='two words' --gres=nvme:1", {"comment": "two words", "gres": "nvme:1"}),
        ("--hold", {"hold": ""}),
    ],
)
def test_options_are_read_as_sbatch_reads_them(text: str, options: dict[str, str]) -> None:
    assert sbatch_words.parse(text, OURS) == options
    assert sbatch_words.parse(sbatch_words.text_of(options), OURS) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exclusive", "takes options of sbatch, as '--begin=now.1hour --exclusive', but got 'exclusive'"),
        ("--begin now now", "but got 'now'"),
        ("-Z 3", "but got '-Z'"),
        ("--Exclusive", "but got '--Exclusive'"),
        ("--comment='two", "a quote is not closed"),
        ("--nodes=3", "--nodes has an option of its own here: say --nodes N, outside the quotes"),
        ("-N 3", "--nodes has an option of its own"),
        ("--gres=gpu:3", "say --gpus N"),
        ("--output=x", "cannot take --output: the output of a run is in its folder"),
        ("--outp=x", "cannot take --output"),
        ("--mem-per-c=4G", "cannot take --mem-per-cpu: say --mem GB, of a node"),
        ("--no-req", "cannot take --no-requeue: a run goes back into the queue by itself"),
        ("--clusters=b", "say --on SITE of a profile with that `cluster`, or set SLURM_CLUSTERS"),
        ("--test-only", "it is about the command sbatch, not about a job"),
        ("--begin=now -b later", "has --begin twice: 'now' and 'later'"),
    ],
)
def test_what_hpc_holds_or_nobody_can_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sbatch_words.parse(text, OURS)


def test_words_given_twice_both_count() -> None:
    args = read(["count", "--sbatch", "--exclusive", "--sbatch=--begin=now", "--nice", "3"])
    assert args.sbatch == "--exclusive --begin=now" and args.nice == 3


def test_an_option_of_sbatch_without_one_of_ours_says_how_to_give_it() -> None:
    with pytest.raises(ConfigError, match="no option --exclusive: sbatch has it; say --sbatch '--exclusive …'"):
        read(["count", "--exclusive"])


def options_in(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


GIVEN = ["--qos", "long", "--nice", "7", "--licenses", "matlab:1", "--sbatch", "--begin=now+1hour --gres=nvme:1"]


def test_the_line_comes_first_and_gres_are_added_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(profile, "folders", lambda: [tmp_path])
    own = "kind: slurm\ngpus_per_node: 2\nmax_gpus_per_node: 2\ndirectives: {gres: disk:1, begin: later, qos: short}\n"
    (tmp_path / "own.yaml").write_text(own)
    site = allocation.load("own")
    asked = {"begin": "now", "gres": "nvme:1", "qos": "long", "exclusive": ""}
    chosen = allocation.sbatch_options(site, allocation.fit(site, allocation.Request(options=asked)))
    assert chosen == {"gres": "gpu:2,disk:1,nvme:1", "begin": "now", "qos": "long", "exclusive": True}


def test_plan_dry_run_and_export_have_them(launch: Launch) -> None:
    done = launch("count", "n=3", *GIVEN, "--on", "slurm", "--dry-run")
    assert "sbatch  --qos=long --licenses=matlab:1 --nice=7 --begin=now+1hour --gres=nvme:1" in done.stdout
    assert "--gres=nvme:1 not checked: no Slurm of slurm here" in done.stdout
    mine = {"--qos=long", "--nice=7", "--licenses=matlab:1", "--begin=now+1hour", "--gres=nvme:1"}
    assert mine <= set(options_in(done.stdout))
    launch("count", "n=3", *GIVEN, "--on", "slurm", "--prepare")
    (run,) = launch.runs()
    exported = launch("export", run.name).stdout
    assert mine <= set(options_in(exported))
    assert "--qos=long" not in options_in(launch("export", run.name, "--on", "lem-gpu", "--account", "x").stdout)


def test_a_job_that_follows_another_waits_for_no_time_but_keeps_the_rest(launch: Launch) -> None:
    launch("count", "n=3", *GIVEN, "--on", "slurm", "--prepare")
    (run,) = launch.runs()
    (script,) = (path for path in run.rglob("*.sbatch"))
    assert {"--qos=long", "--nice=7", "--gres=nvme:1"} <= set(options_in(script.read_text()))
    assert "begin" not in script.read_text()


def test_an_array_has_them_once_for_all(launch: Launch) -> None:
    done = launch("sweep", "count", "n=3..5", *GIVEN, "--on", "slurm", "--dry-run")
    assert {"--qos=long", "--begin=now+1hour", "--array=0-2%3"} <= set(options_in(done.stdout))


def test_resume_keeps_them_changes_them_and_gives_them_up(launch: Launch) -> None:
    launch("count", "n=3", *GIVEN, "--on", "slurm", "--prepare")
    (run,) = launch.runs()
    again = json.loads(launch("resume", run.name, "--dry-run", "--json").stdout)[0]
    before = {"qos": "long", "licenses": "matlab:1", "nice": "7", "begin": "now+1hour", "gres": "nvme:1"}
    assert again["resources"]["options"] == before
    fewer = launch(
        "resume", run.name, "--licenses", "none", "--sbatch", "none", "--qos", "short", "--dry-run", "--json"
    )
    assert json.loads(fewer.stdout)[0]["resources"]["options"] == {"qos": "short", "nice": "7"}


def test_on_this_machine_they_are_without_effect_and_said_to_be(launch: Launch) -> None:
    done = launch("count", "n=3", *GIVEN, "--on", "local", "--dry-run")
    assert "--qos, --licenses, --nice, --sbatch: for Slurm, without effect on local" in done.stdout
    assert "sbatch  " not in done.stdout


def test_a_run_that_was_submitted_before_these_options_existed_has_no_other_request(launch: Launch) -> None:
    launch("count", "n=3", "--on", "slurm", "--prepare")
    (run,) = launch.runs()
    plan = json.loads((run / "plan.json").read_text())
    for name in ("cluster", "container"):
        del plan["resources"][name]
        del plan["site"][name]
    write_json(run / "plan.json", plan)
    again = json.loads(launch("resume", run.name, "--dry-run", "--json").stdout)[0]
    assert (again["resources"]["cluster"], again["resources"]["container"]) == ("", "")


SAYS_NO = "sbatch: error: Batch job submission failed: Invalid qos specification"
"""A stand-in for sbatch, that takes what has no QOS."""
STAND_IN = f"""\
#!/bin/sh
if grep -q -- --qos; then echo '{SAYS_NO}' >&2; exit 1; fi
echo 'sbatch: Job 3 to start at 2031-01-02T03:04:05 using 2 processors on nodes n1 in partition cpu' >&2
"""


@pytest.fixture
def slurm_that_refuses(launch: Launch) -> Launch:
    place = launch.folder / "bin"
    place.mkdir()
    for name, text in (("sbatch", STAND_IN), ("scontrol", "#!/bin/sh\n")):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (launch.folder / "slurm.conf").write_text("ClusterName=any\n")
    launch.environ |= {"PATH": f"{place}:{launch.environ['PATH']}", "SLURM_CONF": str(launch.folder / "slurm.conf")}
    return launch


@pytest.mark.parametrize("verb", [["count", "n=3"], ["count", "n=3", "--dry-run"], ["sweep", "count", "n=3..5"]])
def test_what_slurm_takes_only_without_an_option_is_refused_before_anything_is_written(
    slurm_that_refuses: Launch, verb: list[str]
) -> None:
    done = slurm_that_refuses(*verb, "--qos", "nosuch", "--nice", "3", "--on", "slurm", code=2)
    assert (
        "Slurm would take this job without --qos=nosuch --nice=3, and not with it: Batch job submission" in done.stderr
    )
    assert slurm_that_refuses.runs() == []
    allowed = slurm_that_refuses("count", "n=3", "--nice", "3", "--on", "slurm", "--dry-run")
    assert "on n1, Slurm estimates" in allowed.stdout


def test_variables_of_sbatch_that_are_not_taken_over_are_named(launch: Launch) -> None:
    launch.environ |= {"SBATCH_QOS": "long", "SBATCH_ACCOUNT": "mine", "SBATCH_RESERVATION": "course"}
    done = launch("count", "n=3", "--on", "slurm", "--dry-run").stdout
    assert (
        "note    SBATCH_QOS, SBATCH_RESERVATION: not taken over from your environment; say --qos and the like" in done
    )
    assert "--account=mine" in options_in(done)
    assert "SBATCH_" not in launch("count", "n=3", "--on", "local", "--dry-run").stdout


def test_what_slurm_answers_is_read() -> None:
    job = "sbatch: Job 3 to start at 2031-01-02T03:04:05 using 2 processors on nodes n[1-2] in partition cpu"
    assert start_estimate.read(0, job).nodes == "n[1-2]" and start_estimate.read(0, job).start_s
    assert start_estimate.read(1, SAYS_NO).refusal == "Batch job submission failed: Invalid qos specification"
    assert start_estimate.read(1, SAYS_NO).is_final
    assert str(start_estimate.read(None, "no answer within 5 s")) == "not known: no answer within 5 s"


def test_all_options_that_sbatch_gets_unchanged_have_its_name() -> None:
    unchanged = {row.name for row in OPTIONS.values() if row.slurm == "as it is"}
    assert unchanged == {
        "--exclude", "--constraint", "--comment", "--qos", "--reservation", "--nodelist", "--licenses", "--nice"
    }  # fmt: skip
