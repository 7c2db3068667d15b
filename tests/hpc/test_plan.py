"""A plan is pure: the same science is the same run, and mistakes are reported before anything happens."""

from pathlib import Path

import pytest

from hpc.cli import preflight
from hpc.errors import ConfigError
from hpc.plan import plan
from hpc.runs.rundir import RunDir, write_json

pytestmark = pytest.mark.usefixtures("example")


def science(*words: str, **values: object) -> plan.Science:
    return plan.sciences("count", values, list(words))[0]


def test_the_same_science_is_the_same_run_however_it_was_said() -> None:
    assert science("n=5").name == science().name == science(n=5).name == science(count={"n": 5}).name
    assert science("n=6").name != science().name
    assert science("rule=squares").name == science("rule.name=squares", "rule.power=2").name


def test_the_name_does_not_change_between_versions_unseen() -> None:
    # If this fails, runs that people have made are no longer found: say so in the CHANGELOG, and why
    assert science("n=5").name == "count-zotbtpw4"


def test_words_of_a_stage_need_not_name_its_section() -> None:
    file = {"count": {"n": 3}}
    assert science("step_s=1", **file).config["step_s"] == 1.0
    assert science("count.step_s=1", **file).config == science("step_s=1", **file).config


def test_a_pipeline_hands_each_run_the_names_of_those_it_reads() -> None:
    file = {"tally": {"of": "count"}, "count": {"n": 3}}
    count, tally = plan.sciences("pipeline", file, [])
    assert (count.stage, tally.stage) == ("count", "tally")
    assert tally.inputs == {"of": count.name} and tally.config == {"of": count.name}
    assert plan.sciences("tally", file, []) == [tally]
    assert plan.sciences("pipeline", file, ["count.n=4"])[1].name != tally.name, "another input is another run"
    with pytest.raises(ConfigError, match="count -> tally -> count. Let one of them read a run"):
        plan.sciences("pipeline", {"count": {"after": "tally"}, "tally": {"of": "count"}}, [])


@pytest.mark.parametrize(
    ("verb", "values", "words", "message"),
    [
        ("pipeline", {}, [], "a pipeline needs a config file with a section for each stage"),
        ("pipeline", {"cuont": {}, "count": {}}, [], "'cuont' is not the section of a stage. Did you mean 'count'"),
        ("pipeline", {"more": {"stage": "cuont"}}, [], "more.stage cannot be 'cuont'. Did you mean 'count'"),
        ("pipeline", {"more": {"stage": "count", "m": 3}}, [], "more has no setting 'm'"),
        (
            "pipeline",
            {"tally": {"stage": "count"}},
            [],
            "tally is a stage, so its .* of count: give the section another name",
        ),
        ("pipeline", {"count": 5}, [], "count is a stage, and its section needs settings, but got 5"),
        ("pipeline", {"count": {}}, ["n=3"], "'n=3' names no section of the file. .*There is: count"),
        ("cuont", {}, [], "there is no stage or verb 'cuont'. Did you mean 'count'"),
        ("wrong", {}, [], r"a stage is a function \(cfg, ctx\); counting.stages:wrong is"),
        ("count", {}, ["m=3"], "count has no setting 'm'.*There is: step_s, "),
        ("count", {"count": {}}, ["configs/"], "'configs/' is neither a file.yaml nor a key=value"),
        ("status", {}, [], "status is not a stage.*There is: "),
        ("count", {}, ["step_s=1", "n=0..4"], "needs a whole number, but got '0..4'. Several .*: sweep count n=0..4"),
        ("count", {}, ["rule=plain,squares"], "not one of the choices.*for sweep: sweep count rule=plain,squares"),
        ("pipeline", {"count": {}}, ["count.n=1,2"], "for sweep: sweep pipeline count.n=1,2"),
        ("count", {}, ["n=x", "step_s=1,2"], "count.n needs a whole number, but got 'x'$"),
    ],
)
def test_what_cannot_be_is_refused(verb: str, values: dict[str, object], words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan.sciences(verb, values, words, verbs=["status"])


def test_a_sweep_holds_what_its_runs_have_in_common_once() -> None:
    file = {"tally": {"of": "count"}, "count": {"n": 3}}
    swept = plan.sweep("pipeline", file, ["count.n=2,3", "count.rule=plain,squares"])
    assert [science.stage for science, _ in swept] == ["count"] * 4 + ["tally"] * 4
    assert swept[1][1] == "count.n=2 count.rule=squares"
    assert len({science.name for science, _ in swept}) == 8
    assert [science.stage for science, _ in plan.sweep("pipeline", file, ["count.n=3,3"])] == ["count", "tally"]


def test_draws_of_a_pipeline_share_what_they_have_in_common() -> None:
    file = {"first": {"stage": "count", "n": 3}, "count": {"after": "first"}}
    drawn = plan.sweep("pipeline", file, ["count.step_s=log:0.1..10"], 5)
    assert [science.section for science, _ in drawn] == ["first", *["count"] * 5]
    assert {science.inputs["after"] for science, _ in drawn[1:]} == {drawn[0][0].name}
    again = plan.sweep("pipeline", file, ["count.step_s=log:0.1..10"], 8)
    assert again[:6] == drawn, "said again with more, those that are there are found"


def test_two_sections_may_be_of_one_stage() -> None:
    file = {"tally": {"of": "second"}, "second": {"stage": "count", "after": "count"}, "count": {"n": 3}}
    count, second, tally = plan.sciences("pipeline", file, [])
    assert [(one.section, one.stage) for one in (second, count)] == [("second", "count"), ("count", "count")]
    assert (second.inputs, tally.inputs) == ({"after": count.name}, {"of": second.name})
    assert plan.sciences("second", file, []) == [second], "a section is a verb, as a stage is"
    assert plan.sciences("second", file, ["n=4"]) == [plan.sciences("pipeline", file, ["second.n=4"])[1]]
    assert second.name == science(f"after={count.name}").name, "a run does not know which section it was"
    swept = plan.sweep("pipeline", file, ["count.n=2,3"])
    assert [one.section for one, _ in swept] == ["count"] * 2 + ["second"] * 2 + ["tally"] * 2


def test_the_next_run_of_a_science_is_counted_by_its_runs_alone(tmp_path: Path) -> None:
    assert plan.next_again("count-a", tmp_path) == 1
    for name in ("count-a", "count-a-3", "count-a-old2", "count-a-3-9", "count-ab-7", "count-a-\u00b2"):
        (tmp_path / name).mkdir()
    assert plan.next_again("count-a", tmp_path) == 4


def test_inputs_must_be_there_or_on_their_way(tmp_path: Path) -> None:
    reads = science("after=count-abc")
    with pytest.raises(ConfigError, match="count.after is the run count-abc, which is not in .* make it first with"):
        preflight.check_inputs(reads, tmp_path)
    preflight.check_inputs(reads, tmp_path, coming=["count-abc"])
    (tmp_path / "count-abc").mkdir()
    with pytest.raises(ConfigError, match="which is not finished: see `python -m hpc.launch status count-abc`"):
        preflight.check_inputs(reads, tmp_path)
    write_json(RunDir(tmp_path / "count-abc").result, {})
    preflight.check_inputs(reads, tmp_path)
    with pytest.raises(ConfigError, match="count.after is no/where, but there is no such file or folder"):
        preflight.check_inputs(science("after=no/where"), tmp_path)


def test_a_stage_without_a_section_takes_words_and_reads_from_those_that_have_one(example: None) -> None:
    values = {"count": {"n": 4}}
    (counted,) = plan.sciences("count", values, [])
    (tallied,) = plan.sciences("tally", values, ["of=count"])
    assert tallied.inputs == {"of": counted.name}
    (elsewhere,) = plan.sciences("tally", values, ["of=./folder"])
    assert elsewhere.inputs == {"of": "./folder"}


def a_run(runs: Path, name: str, label: str, stage: str = "count") -> RunDir:
    write_json(RunDir(runs / name).plan, {"label": label, "stage": stage})
    return RunDir(runs / name)


def test_a_run_is_read_by_what_its_user_calls_it_and_it_is_the_same_science(tmp_path: Path) -> None:
    runs = {"pilot": [a_run(tmp_path, "count-abc", "pilot")]}
    (found,) = plan.sciences("count", {}, ["after=pilot"], named=lambda ref: runs.get(ref, []))
    assert found.inputs == {"after": "count-abc"} and found == science("after=count-abc")


def test_a_name_of_several_is_all_of_a_sweep_where_several_can_be_read(tmp_path: Path) -> None:
    swept = [a_run(tmp_path, f"evaluate-{number}", "folds", "evaluate") for number in "21"]
    mixed = [swept[0], a_run(tmp_path, "train-1", "both", "train")]
    runs = {"folds": swept, "both": mixed}
    (found,) = plan.sciences("compare", {}, ["runs=[folds,evaluate-9]"], named=lambda ref: runs.get(ref, []))
    assert found.config["runs"] == list(found.inputs.values()) == ["evaluate-1", "evaluate-2", "evaluate-9"]
    for stage, word in (("compare", "runs=both"), ("stream", "model=folds")):
        with pytest.raises(ConfigError, match=r"which could be evaluate-[12], .*: say which, by its whole name"):
            plan.sciences(stage, {}, [word], named=lambda ref: runs.get(ref, []))


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("st1", "count.after is st1, but no run in .* is called so: see .*, or give a folder, after=path/to/folder$"),
        ("st1,st2", r"count.after is one run, st1,st2, which is not there: several are \[st1,st2\]"),
        ("tally", "make it first with `python -m hpc.launch tally …`"),
    ],
)
def test_only_a_stage_is_advised_to_be_launched(tmp_path: Path, ref: str, message: str) -> None:
    reads = plan.sciences("count", {"count": {"after": ref}}, [])[0]
    with pytest.raises(ConfigError, match=message):
        preflight.check_inputs(reads, tmp_path)
