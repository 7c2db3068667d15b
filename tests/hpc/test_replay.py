"""A finished run is computed again: the same on any number of ranks, and what differs is named with its cause."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc.config.stages import Leaves
from hpc.replay import causes, compare, values, verdict
from hpc.runs import products, provenance
from hpc.runs.rundir import RunDir, append_line, read_json, write_json
from tests.conftest import EXAMPLE, Launch, users_environ

# ---- computed again


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which 1 + 2 + 3 + 4 was counted."""
    launch = Launch(tmp_path_factory.mktemp("lab"), users_environ())
    launch("count", "n=4", "--on", "local")
    return launch.folder


@pytest.fixture
def run(lab: Path, launch: Launch) -> RunDir:
    """A copy of that run, with its code."""
    shutil.copytree(lab / "runs", launch.folder / "runs", symlinks=True)
    return RunDir(launch.runs()[0])


def verdict_of(launch: Launch, number: int = 1) -> dict[str, Any]:
    (path,) = launch.folder.glob(f"runs/.replay/*-{number}/verdict.json")
    content: dict[str, Any] = read_json(path)
    return content


@pytest.mark.ranks
def test_a_run_computed_again_is_equal_on_one_two_and_four_ranks(run: RunDir, launch: Launch) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for number, ranks in enumerate((1, 2, 4), start=1):
        done = launch("replay", "count", "--ranks", str(ranks))
        other = f" (other ranks: {ranks}, was 1)" if ranks > 1 else ""
        assert f"{run.name}: equal bit for bit{other}\n  compared: the metrics, 4 checkpoints, 1 product" in done.stdout
        again = RunDir(launch.folder / f"runs/.replay/{run.name}-{number}/{run.name}")
        assert (again.out / "total.txt").read_text() == "10" and provenance.read(again)["ranks"] == ranks
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert run.name in launch("status").stdout and len(launch.runs()) == 1, "replays are no runs of their own"


@pytest.mark.ranks
def test_the_verdict_is_json_for_scripts_and_a_dry_run_computes_nothing(run: RunDir, launch: Launch) -> None:
    planned = launch("replay", run.name, "--dry-run").stdout
    assert "the run's own copy of" in planned and not (launch.folder / "runs/.replay").exists()
    (answer,) = json.loads(launch("replay", run.name, "--json").stdout)
    assert answer["word"] == "equal bit for bit" and answer["equal"] and answer["run"] == run.name
    assert answer == verdict_of(launch)
    # One that was stopped goes on with the same line
    place = launch.folder / f"runs/.replay/{run.name}-1"
    (place / "verdict.json").unlink()
    assert f"was computed before, in {place / run.name}" in launch("replay", run.name).stdout
    assert verdict_of(launch)["equal"] and not place.with_name(f"{run.name}-2").exists()


# ---- a changed byte


@pytest.mark.ranks
def test_a_changed_byte_in_the_copy_of_the_code_is_named(run: RunDir, launch: Launch) -> None:
    archive = run.code / "code.zip"
    with zipfile.ZipFile(archive) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    (name,) = (name for name in files if name.endswith("counting/stages.py"))
    with zipfile.ZipFile(archive, "w") as packed:
        for each, content in files.items():
            packed.writestr(each, content.replace(b"total += step", b"total -= step") if each == name else content)
    refused = launch("replay", run.name, code=2).stderr
    assert f"code: {name} in " in refused and "was changed after submission" in refused and "--todays-code" in refused
    assert not (launch.folder / "runs/.replay").exists()


@pytest.mark.ranks
def test_todays_code_is_compared_file_by_file_and_the_first_step_is_named(launch: Launch, tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(EXAMPLE, package)
    launch.environ["PYTHONPATH"] = str(package)
    launch("count", "n=4", "--on", "local")
    (run,) = map(RunDir, launch.runs())
    source = package / "counting/stages.py"
    text = source.read_text()
    line = 1 + text[: text.index("        total += step")].count("\n")
    source.write_text(text.replace("        total += step", "        total += (step > 2) + step"))
    done = launch("replay", run.name, "--todays-code", code=1)
    assert "the first step that differs, of 2: checkpoint of step 3: total: 7, was 6" in done.stdout
    assert "the first product that differs, of 1: product total.txt: line 1[0]: 12, was 10" in done.stdout
    assert f"why: code: 1 file not as then: package/counting/stages.py; line {line} first" in done.stdout


@pytest.mark.ranks
def test_a_changed_setting_is_named(run: RunDir, launch: Launch) -> None:
    run.config.write_text(run.config.read_text().replace("n: 4", "n: 5"))
    refused = launch("replay", run.name, code=2).stderr
    assert f"config: {run.config} is not what ran: n is 5, and was 4. By its settings it is count-" in refused


@pytest.fixture
def tallied(launch: Launch) -> RunDir:
    """A run of `tally` that reads a folder from outside."""
    (launch.folder / "data").mkdir()
    (launch.folder / "data/total.txt").write_text("10")
    launch("tally", "of=./data", "--on", "local")
    return RunDir(launch.runs()[-1])


@pytest.mark.ranks
def test_a_changed_byte_in_the_data_is_named_before_anything_is_computed(launch: Launch, tallied: RunDir) -> None:
    assert provenance.read(tallied)["paths"]["./data"]["files"].keys() == {"total.txt"}
    (launch.folder / "data/total.txt").write_text("11")
    refused = launch("replay", tallied.name, code=2).stderr
    assert "data: " in refused and "data/total.txt has the SHA-256 4fc82b26aecb…, and 4a44dc15364…"[:60] in refused
    (launch.folder / "data/total.txt").write_text("100")
    done = launch("replay", tallied.name, "--anyway", code=1)
    assert "the first figure that differs, of 1: metrics: digits: 3, was 2" in done.stdout
    assert "why: data: ./data/total.txt is not what was read" in done.stdout
    assert "1 of the products are pages" in done.stdout


@pytest.mark.ranks
def test_a_changed_byte_in_a_product_is_named_before_anything_is_computed(launch: Launch, tallied: RunDir) -> None:
    """The comparison goes by the list of what was written: of this file it would say nothing."""
    (name, *_) = [name for name, product in (products.listed(tallied.out) or {}).items() if product.n_bytes]
    content = (tallied.out / name).read_bytes()
    (tallied.out / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    refused = launch("replay", tallied.name, code=2).stderr
    assert f"product: {tallied.out / name} is damaged: its SHA-256 is " in refused
    assert "equal bit for bit" in launch("replay", tallied.name, "--anyway").stdout
    (tallied.out / name).unlink()
    assert "equal bit for bit" in launch("replay", tallied.name).stdout, "what is not here is computed"


@pytest.mark.ranks
def test_data_are_looked_for_elsewhere_by_their_hash(launch: Launch, tallied: RunDir) -> None:
    (launch.folder / "elsewhere").mkdir()
    (launch.folder / "data").rename(launch.folder / "elsewhere/data")
    refused = launch("replay", tallied.name, code=2).stderr
    assert "1 input not here, ./data: 1 file of 0.0 MB, with the hash " in refused and "--data PATH" in refused
    assert "there is no such folder" in launch("replay", tallied.name, "--data", "nowhere", code=2).stderr
    (launch.folder / "data").mkdir()
    (launch.folder / "data/total.txt").write_text("9999")
    done = launch("replay", tallied.name, "--data", "elsewhere")
    assert f"./data is read from {launch.folder / 'elsewhere/data'}" in done.stdout
    assert "equal bit for bit" in done.stdout


@pytest.mark.ranks
def test_products_of_another_run_are_found_by_their_hash(run: RunDir, launch: Launch) -> None:
    launch("tally", f"of={run.name}", "--on", "local")
    run.path.rename(f"{run.path}-2")
    done = launch("replay", "tally")
    assert f"{run.name} is read from {run.path}-2, which has made the same" in done.stdout
    assert "equal bit for bit" in done.stdout
    shutil.rmtree(f"{run.path}-2")
    assert f"the products of {run.name}, with the hash" in launch("replay", "tally", code=2).stderr


@pytest.mark.ranks
def test_another_torch_and_processor_are_named(run: RunDir, launch: Launch) -> None:
    about = provenance.read(run)
    assert {"torch", "numpy"} <= about["environment"]["packages"].keys() and about["environment"]["processor"]
    about["environment"]["packages"]["torch"] = "2.0.1"
    about["environment"]["processor"] = "Abacus"
    write_json(run.provenance, about)
    done = launch("replay", run.name)
    assert "note    package: torch " in done.stdout and ", was 2.0.1" in done.stdout
    assert "processor: " in verdict_of(launch)["why"][1] and "was Abacus" in verdict_of(launch)["why"][1]


# ---- what cannot be replayed


@pytest.mark.ranks
def test_what_cannot_be_replayed_is_said_in_a_sentence(run: RunDir, launch: Launch) -> None:
    assert "replay which run?" in launch("replay", code=2).stderr
    assert "there is no run 'count-x' in" in launch("replay", "count-x", code=2).stderr
    assert "--nodes is for" in launch("capsule", run.name, "--nodes", "2", code=2).stderr
    assert "say --on local" in launch("replay", run.name, "--on", "debug", code=2).stderr
    run.result.unlink()
    refused = launch("replay", run.name, code=2).stderr
    assert f"{run.name} is " in refused and f"only a finished run can be compared: hpc resume {run.name}" in refused
    assert "only a finished run" in launch("capsule", run.name, code=2).stderr


# ---- values and verdicts


def arrays(*values: float) -> dict[str, Any]:
    return {"w": np.asarray(values, np.float32)}


@pytest.mark.parametrize(
    ("was", "now", "largest"),
    [
        (arrays(1.0, 100.0), arrays(1.00001, 100.0), 1e-7), (arrays(1.0), arrays(2.0), 0.5),
        (arrays(1.0, 2.0), arrays(1.0), np.inf), ({"a": 1}, {"a": "1"}, np.inf), ({"a": 1}, {"b": 1}, np.inf),
        (arrays(np.nan, 1.0), arrays(0.0, 1.0), np.inf), ({"a": True}, {"a": False}, np.inf),
        ({"a": 1}, {"a": 1, "b": 2}, np.inf), ({"a": 10**30}, {"a": 10**30 + 1}, np.inf), ({"a": 0.0}, {"a": -0.0}, 0),
    ],
)  # fmt: skip
def test_differences_are_parts_of_the_largest_number(was: Any, now: Any, largest: float) -> None:
    assert values.difference(values.flat(was), values.flat(was)) is None
    difference = values.difference(values.flat(was), values.flat(now))
    assert difference is not None and difference.largest == pytest.approx(largest, rel=0.1)


def test_nan_next_to_nan_is_equal_and_infinite_numbers_are_too() -> None:
    first, second = ({"a": np.array([np.nan, np.inf, 1.0 + each])} for each in (0.0, 1e-9))
    assert values.difference(values.flat(first), values.flat(first)) is None
    difference = values.difference(values.flat(first), values.flat(second))
    assert difference is not None and difference.largest == pytest.approx(1e-9, rel=0.1)


def a_run(folder: Path, loss: float, product: Any, seconds: float = 1.0) -> RunDir:
    """The folder of a finished run, with a line of metrics, a checkpoint and a product."""
    run = RunDir(folder / "count-x")
    run.out.mkdir(parents=True)
    append_line(
        run.metrics, {"step": 1, "loss": 1.0, "seconds": seconds}, {"step": 2, "loss": loss, "seconds": seconds}
    )
    write_json(run.checkpoints / "step-00000002/COMMIT", {"total": loss, "seconds": seconds})
    products.write_json(run.out / "report.json", product)
    products.write_text(run.out / "page.html", f"made at {seconds}")
    products.close(run.out, pages=["*.html"])
    write_json(run.plan, {"name": run.name, "stage": "count", "entry": "counting.stages:count", "schema": 2})
    write_json(run.result, {"metrics": {"r": loss, "fit_s": seconds}})
    return run


def test_times_and_pages_are_not_compared(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / str(n), 0.5, {"r": 0.5, "took_s": n}, seconds=n) for n in (1, 2)]
    assert products.digest(runs[0].out) != products.digest(runs[1].out), "took_s is in the product"
    comparison = compare.compare(*runs, Leaves())
    assert comparison.places == [] and comparison.n_pages == 1
    assert comparison.compared().startswith(
        "compared: the metrics, 2 lines, 1 checkpoint, 1 product; 1 of the products"
    )


@pytest.mark.parametrize(
    ("loss", "word", "first"),
    [
        (0.5, "equal bit for bit", ""),
        (0.5 + 1e-8, "equal to 1e-6", ""),
        (0.6, "not equal", "step 2 of metrics.jsonl: loss"),
    ],
)
def test_the_three_verdicts(tmp_path: Path, loss: float, word: str, first: str) -> None:
    was, now = a_run(tmp_path / "was", 0.5, {"r": 0.5}), a_run(tmp_path / "now", loss, {"r": loss})
    for run, ranks in ((was, 2), (now, 4)):
        environment = provenance.environment()
        write_json(
            run.provenance, {"ranks": ranks, "settings": {}, "environment": environment, "runs": {}, "paths": {}}
        )
    came = verdict.of(was, now)
    assert came.word == word and came.why == ("ranks: 4, was 2",)
    if word == "equal to 1e-6":
        assert came.lines[0] == "equal to 1e-6 (other number of ranks, 4, was 2)"
        assert "by 2.0e-08 of the largest number there" in came.lines[1]
    assert first in came.text()


def test_a_lost_line_checkpoint_and_product_are_named(tmp_path: Path) -> None:
    was, now = (a_run(tmp_path / name, 0.5, {"r": 0.5}) for name in ("was", "now"))
    shutil.rmtree(now.checkpoints)
    now.metrics.write_text(now.metrics.read_text().splitlines()[0] + "\n")
    (now.out / "report.json").unlink()
    (now.out / "products.jsonl").unlink()
    products.close(now.out)
    texts = [str(place) for place in compare.compare(was, now, Leaves()).places]
    assert len(texts) == 3
    for text, lacking in zip(
        texts, ("no line of step 2", "no checkpoint of step 2", "no product report.json"), strict=True
    ):
        assert lacking in text


# ---- what a run has read


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    folder, runs = tmp_path / "study", tmp_path / "study/runs"
    for name in ("a.edf", "sub/b.edf", ".hidden", "runs/x/out/c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    entry = provenance.hashes({"study": folder}, runs)["study"]
    assert entry["files"].keys() == {"a.edf", "sub/b.edf"} and entry["digest"] == provenance.digest_of(entry["files"])
    assert provenance.first_difference(folder, entry, runs) == ""
    for change, sentence in (
        (lambda: (folder / "new.edf").write_text("x"), "new.edf was not there when it was read"),
        (lambda: (folder / "sub/b.edf").write_text("sub/b.edF"), "sub/b.edf has the SHA-256"),
        (lambda: (folder / "a.edf").write_text("longer"), "a.edf has 6 bytes, and 5 were read"),
        (lambda: (folder / "a.edf").unlink(), "a.edf is gone"),
    ):
        change()
        assert sentence in provenance.first_difference(folder, entry, runs)
    assert "is not there" in provenance.first_difference(tmp_path / "none", entry, runs)


def test_of_terabytes_beginnings_and_ends_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "WHOLE_B", 10)
    monkeypatch.setattr(provenance, "ENDS_B", 4)
    path = tmp_path / "large.edf"
    path.write_bytes(b"begin" + bytes(100) + b"end.")
    entry = provenance.hashes({"x": path}, tmp_path / "runs")["x"]
    assert entry["files"][""][1].startswith(provenance.ENDS)
    path.write_bytes(b"begin" + bytes([1]) * 100 + b"end.")
    assert provenance.first_difference(path, entry, tmp_path) == "", "its middle is not read, so that hours are saved"
    path.write_bytes(b"begin" + bytes(100) + b"end!")
    assert "has the SHA-256" in provenance.first_difference(path, entry, tmp_path)


def test_settings_packages_and_variables_are_named() -> None:
    about = {
        "python": "3.11.1",
        "processor": "A",
        "system": "Linux",
        "variables": {},
        "packages": {"zoo": "1", "torch": "2"},
    }
    other = about | {"python": "3.12.0", "variables": {"MKL_CBWR": "AVX2"}, "packages": {"torch": "3"}}
    assert causes.packages({"environment": about}, {"environment": other}) == [
        "package: Python 3.12.0, was 3.11.1, torch 3, was 2, zoo not installed, was 1"
    ]
    assert causes.processor({"environment": about}, {"environment": other}) == ["processor: MKL_CBWR AVX2, was not set"]
    assert causes.settings({"optim": {"lr": 1e-3}, "n": [1, 2]}, {"optim": {"lr": 2e-3}, "n": [1]}) == [
        "config: optim.lr is 0.002, and was 0.001, n[1] is not there, and was 2"
    ]
