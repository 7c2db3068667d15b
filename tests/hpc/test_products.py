"""The list of a run's products: what was written is what is read, or a sentence names the file."""

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.cli.options import read as parse
from hpc.cli.verify import verify_runs
from hpc.codes import FAILED
from hpc.errors import ConfigError
from hpc.rank.context import Context, World
from hpc.rank.verification import Verification
from hpc.runs import products
from hpc.runs.products import LIST, DamagedProduct, Memory
from hpc.runs.rundir import RunDir, write_json
from tests.conftest import Launch


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A finished run with two products and a page that was written without being listed."""
    run = RunDir(tmp_path / "runs" / "preprocess-abc")
    run.out.mkdir(parents=True)
    write_json(run.plan, {"schema": 2, "name": run.name})
    write_json(run.result, {"metrics": {}, "attempts": 1, "seconds": 1.0, "ended": 1.0})
    alive = {"time": 1.0, "state": "finished", "code": 0, "text": "", "host": "elsewhere", "pid": 1}
    write_json(run.supervisor, alive)
    products.write_bytes(run.out / "a.bin", bytes(range(256)) * 20)
    products.write(run.out / "b.bin", lambda file: file.write(b"what was written"))
    (run.out / "page.html").write_text("a page")
    products.close(run.out)
    return run


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose bytes are read for their SHA-256, as they are read."""
    names: list[str] = []
    sha256 = products._sha256

    def noted(path: Path, count: Callable[[int], object] = int) -> products._Digest:
        names.append(path.name)
        return sha256(path, count)

    monkeypatch.setattr(products, "_sha256", noted)
    return names


def test_a_list_has_every_file_and_agrees_with_sha256sum(run: RunDir) -> None:
    first, *lines = [json.loads(line) for line in (run.out / LIST).read_text().splitlines()]
    assert first == {"run": "preprocess-abc", "files": 3}
    assert [line["file"] for line in lines] == ["a.bin", "b.bin", "page.html"]
    asked = "".join(f"{line['sha256']}  {line['file']}\n" for line in lines)
    (run.path / "sums").write_text(asked)
    assert os.system(f"cd {run.out} && sha256sum --quiet -c ../sums") == 0
    assert not list(run.out.glob(".products.*"))


@pytest.mark.parametrize("damage", ["flip", "cut", "zero", "longer", "swap"])
def test_damage_is_named_with_what_was_expected_and_what_to_run(run: RunDir, damage: str) -> None:
    path = run.out / "a.bin"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[777] ^= 1
    elif damage == "cut":
        del content[-1:]
    elif damage == "zero":
        content[:] = bytes(len(content))
    elif damage == "longer":
        content += b"\0"
    else:
        content[100], content[101] = content[101], content[100]
    path.write_bytes(content)
    with pytest.raises(DamagedProduct) as caught:
        Memory().verify(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    runs = f"--runs {run.path.parent}"
    assert f"hpc verify preprocess-abc {runs} --repair" in sentence and f"hpc resume preprocess-abc {runs}" in sentence
    if damage in ("cut", "longer"):
        assert f"has {len(content)} bytes, and 5120 were written" in sentence
    else:
        assert "its SHA-256 is" in sentence


def test_a_copy_on_a_node_leads_to_the_run_that_it_is_of(run: RunDir, tmp_path: Path) -> None:
    shutil.copytree(run.out, tmp_path / "node" / "3f9a" / "data")
    (copy := tmp_path / "node/3f9a/data/a.bin").write_bytes(b"junk")
    with pytest.raises(DamagedProduct, match=r"node/3f9a/data/a\.bin is damaged: .*hpc verify preprocess-abc --repair"):
        Memory().verify(copy)


def test_the_out_of_another_run_is_not_believed_list_and_all(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    other = RunDir(run.path.with_name("preprocess-xyz"))
    shutil.copytree(run.path, other.path)
    write_json(other.plan, {"schema": 2, "name": other.name})
    sentence = "preprocess-xyz/out/products.jsonl is that of preprocess-abc, and not of preprocess-xyz"
    with pytest.raises(DamagedProduct, match=sentence):
        Memory().verify(other.out / "a.bin")
    assert verify_runs(parse(["verify", other.name, "--runs", str(run.path.parent)]), {}) == 1
    assert sentence in capsys.readouterr().out


def test_a_run_folder_that_was_renamed_is_read(run: RunDir) -> None:
    Memory().verify(run.path.rename(run.path.with_name("mine")) / "out/a.bin")


def test_a_link_to_a_run_does_without_its_list_no_more_than_the_run(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(run.out)
    Memory().verify(tmp_path / "mine/a.bin")
    (run.out / LIST).unlink()
    with pytest.raises(DamagedProduct, match=r"a\.bin cannot be verified: .*products\.jsonl is gone"):
        Memory().verify(tmp_path / "mine/a.bin")


def test_a_file_that_nobody_listed_is_not_believed(run: RunDir) -> None:
    (run.out / "c.bin").write_bytes(b"from somewhere")
    with pytest.raises(DamagedProduct, match=r"c\.bin is none of the files that its run has written"):
        Memory().verify(run.out / "c.bin")


def test_a_damaged_list_is_said(run: RunDir) -> None:
    text = (run.out / LIST).read_bytes()
    at = text.index(b'"a.bin"')
    (run.out / LIST).write_bytes(text[:at] + b"\0" * 20 + text[at + 20 :])
    with pytest.raises(DamagedProduct, match=r"a\.bin cannot be verified: .*products\.jsonl is damaged: line 2 is no"):
        Memory().verify(run.out / "a.bin")
    Memory().verify(run.out / "b.bin")


def test_a_run_of_an_older_release_is_refused_until_it_is_accepted(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.out / LIST).unlink()
    write_json(run.plan, {"schema": 1, "name": run.name})
    with pytest.raises(DamagedProduct, match="hpc verify preprocess-abc --runs .* --accept"):
        Memory().verify(run.out / "a.bin")
    runs = ["--runs", str(run.path.parent)]
    assert verify_runs(parse(["verify", *runs]), {}) == 1
    assert "--accept" in capsys.readouterr().out
    assert verify_runs(parse(["verify", "preprocess-abc", "--accept", *runs]), {}) == 0
    Memory().verify(run.out / "a.bin")
    verify_runs(parse(["verify", *runs]), {})
    assert re.search(r"3 products of 0\.0 MB are as found and accepted on 20\d\d-", capsys.readouterr().out)
    with pytest.raises(ConfigError, match="there is nothing to accept"):
        verify_runs(parse(["verify", "preprocess-abc", "--accept", *runs]), {})


def test_what_is_empty_is_not_accepted(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    (run.out / LIST).unlink()
    (run.out / "b.bin").write_bytes(b"")
    write_json(run.plan, {"name": run.name})
    assert verify_runs(parse(["verify", "preprocess-abc", "--accept", "--runs", str(run.path.parent)]), {}) == 1
    assert "b.bin is empty, which no product is" in capsys.readouterr().out
    assert products.listed(run.out) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: text[: text.index(b"\n") + 1],
        lambda text: text[: text.index(b'{"file": "b.bin"')],
        lambda text: text[text.index(b"\n") + 1 :],
        lambda text: text.replace(b'"bytes": 16', b'"bytes": "x"'),
        lambda text: text.replace(b'"b.bin"', b'"../plan.json"'),
        lambda text: text.replace(b'"b.bin"', b'"/etc/hostname"'),
        lambda text: text.replace(b'"b.bin"', b'"x/../../../victim"'),
        lambda text: text.replace(b'"b.bin"', b'"b\\u001b[31m\\nbin"'),
        None,
    ],
    ids=["empty", "head", "cut", "no head", "no number", "up", "root", "far up", "escape", "gone"],
)
def test_a_list_that_is_not_whole_is_a_fault_and_leads_nowhere(
    run: RunDir, spoil: Callable[[bytes], bytes] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and the run can be resumed; nothing outside of its folder is touched or shown."""
    (victim := run.path.parent.parent / "victim").write_text("a thesis")
    path, plan = run.out / LIST, run.plan.read_bytes()
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    runs = ["--runs", str(run.path.parent)]
    assert verify_runs(parse(["verify", *runs]), {}) == 1
    said = capsys.readouterr().out
    assert "products.jsonl is" in said and "accept" not in said and "\x1b" not in said and "hostname" not in said
    assert verify_runs(parse(["verify", "preprocess-abc", "--repair", *runs]), {}) == 0
    assert not run.result.exists() and not path.exists()
    assert victim.read_text() == "a thesis" and run.plan.read_bytes() == plan
    assert verify_runs(parse(["verify", *runs]), {}) == 0, "what is missing now is made by resume"


def test_a_run_that_has_not_finished_is_not_called_old(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.result.unlink()
    (run.out / LIST).unlink()
    with pytest.raises(DamagedProduct, match="preprocess-abc has not finished: `hpc resume preprocess-abc --runs"):
        Memory().verify(run.out / "a.bin")
    verify_runs(parse(["verify", "--runs", str(run.path.parent)]), {})
    assert "--accept" not in capsys.readouterr().out


def test_a_damaged_result_is_found(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.result.write_text("[]")
    assert verify_runs(parse(["verify", "--runs", str(run.path.parent)]), {}) == 1
    assert "result.json is damaged" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    def fail(file: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    with pytest.raises(OSError, match="File too large") as caught:
        products.write(tmp_path / "model.pt", fail)
    assert caught.value.filename == str(tmp_path / "model.pt")


def test_a_file_from_outside_of_any_run_has_no_list_to_be_held_against(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"theirs")
    Memory().verify(tmp_path / "weights.pt")


def test_a_file_is_read_once_by_a_run_and_by_its_next_attempt(run: RunDir, tmp_path: Path, hashed: list[str]) -> None:
    first = Memory()
    first.keep_in(tmp_path / "verified", "rank-0000")
    for _ in range(3):
        first.verify(run.out / "a.bin")
    next_attempt = Memory()
    next_attempt.keep_in(tmp_path / "verified", "rank-0000")
    next_attempt.verify(run.out / "a.bin")
    assert hashed == ["a.bin"]
    os.utime(run.out / "a.bin", ns=(1, 1))  # it looks different: who knows what happened
    next_attempt.verify(run.out / "a.bin")
    assert hashed == ["a.bin", "a.bin"]
    # What was verified is of no use once the list says that something else was written
    products.write_bytes(run.out / "a.bin", b"written anew")
    os.utime(run.out / "a.bin", ns=(1, 1))
    next_attempt.verify(run.out / "a.bin")
    assert hashed == ["a.bin", "a.bin", "a.bin"]


def test_zeros_in_its_place_are_damage_in_the_next_attempt_too(run: RunDir, tmp_path: Path) -> None:
    """Whoever wrote them set the time of the last change back, as a copy that preserves times does."""
    first, next_attempt = Memory(), Memory()
    first.keep_in(tmp_path / "verified", "rank-0000")
    first.verify(run.out / "a.bin")
    entry = (run.out / "a.bin").stat()
    with open(run.out / "a.bin", "r+b") as file:
        file.write(bytes(entry.st_size))
    os.utime(run.out / "a.bin", ns=(entry.st_atime_ns, entry.st_mtime_ns))
    next_attempt.keep_in(tmp_path / "verified", "rank-0000")
    with pytest.raises(DamagedProduct, match="a.bin"):
        next_attempt.verify(run.out / "a.bin")


def test_a_line_that_a_power_cut_left_is_no_proof(run: RunDir, tmp_path: Path, hashed: list[str]) -> None:
    (tmp_path / "verified").mkdir()
    (tmp_path / "verified" / "rank-0000.jsonl").write_text('{"inode": 1}\n{"inode": 2, "by\n[]\n')
    memory = Memory()
    memory.keep_in(tmp_path / "verified")
    memory.verify(run.out / "a.bin")
    assert hashed == ["a.bin"]


def test_threads_that_want_one_file_read_it_once(run: RunDir, hashed: list[str]) -> None:
    memory = Memory()
    threads = [threading.Thread(target=memory.verify, args=(run.out / "a.bin",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hashed == ["a.bin"]


def test_a_product_that_is_written_again_is_listed_again(run: RunDir) -> None:
    memory = Memory()
    memory.verify(run.out / "b.bin")
    products.write_bytes(run.out / "b.bin", b"of the second attempt")
    memory.verify(run.out / "b.bin")
    (run.out / "page.html").write_text("another page, written without being listed")
    products.close(run.out)
    Memory().verify(run.out / "page.html")


def test_a_product_that_was_damaged_does_not_become_right_by_closing_the_list(run: RunDir) -> None:
    (run.out / "a.bin").write_bytes(bytes(5120))
    products.close(run.out)
    with pytest.raises(DamagedProduct):
        Memory().verify(run.out / "a.bin")


def test_ranks_share_the_work_and_tell_one_another(
    run: RunDir, tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [run.out / name for name in ("a.bin", "b.bin", "page.html")]
    train = RunDir(run.path.parent / "train-abc")
    train.path.mkdir()
    seen: list[list[str]] = []
    for rank in (1, 0):
        memory = Memory()
        memory.keep_in(train.verified, f"rank-{rank:04d}")
        monkeypatch.setattr("hpc.rank.verification.MEMORY", memory)
        monkeypatch.setattr("hpc.rank.verification.PATIENCE_S", 0.2)
        hashed.clear()
        Verification(Context(World(rank, 2, rank, 2), train), paths).wait()
        seen.append(sorted(hashed))
        assert all(memory.knows(path) for path in paths)
    assert seen == [["a.bin", "b.bin", "page.html"], []]  # rank 1 has waited in vain for rank 0, and then done it all


def test_ranks_at_the_same_time_read_each_file_once(
    run: RunDir, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [run.out / name for name in ("a.bin", "b.bin", "page.html")]
    train = RunDir(run.path.parent / "train-abc")
    train.path.mkdir()
    for rank in (0, 1):  # rank 0 begins, rank 1 begins, then both wait
        memory = Memory()
        memory.keep_in(train.verified, f"rank-{rank:04d}")
        monkeypatch.setattr("hpc.rank.verification.MEMORY", memory)
        begun = Verification(Context(World(rank, 2, rank, 2), train), paths)
        for thread in begun._threads:
            thread.join()
    begun.wait()
    assert sorted(hashed) == ["a.bin", "b.bin", "page.html"]


def test_a_recording_that_is_gone_is_named(run: RunDir) -> None:
    (run.out / "b.bin").unlink()
    train = RunDir(run.path.parent / "train-abc")
    train.path.mkdir()
    with pytest.raises(DamagedProduct, match=r"b\.bin is gone, and products\.jsonl lists it\. Run `hpc verify pre"):
        Verification(Context(World(), train), [run.out / "a.bin", run.out / "b.bin"]).wait()


STUDY = ("participants.tsv", "sub-01/eeg/x.edf", "sub-01/eeg/x_events.tsv", "sub-02/eeg/x.edf")


@pytest.fixture
def study(tmp_path: Path) -> RunDir:
    """A finished run whose product is a study: folders in folders."""
    run = RunDir(tmp_path / "runs" / "synthesize-abc")
    for name in STUDY:
        (path := run.out / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"what was written into " + name.encode())
    write_json(run.plan, {"schema": 2, "name": run.name})
    write_json(run.result, {"metrics": {}})
    products.close(run.out)
    return run


def trees_of(study: RunDir) -> dict[str, Path]:
    """The study as it can be named: in its run, by a link, and as a copy without a run."""
    (link := study.path.with_name("link")).symlink_to(study.out)
    return {"run": study.out, "link": link, "copy": Path(shutil.copytree(study.out, study.path.with_name("copy")))}


@pytest.mark.parametrize("named", ["run", "link", "copy"])
@pytest.mark.parametrize("damage", ["none", "flip", "swap", "gone", "added", "list cut"])
def test_a_folder_of_folders_is_verified_whole(study: RunDir, named: str, damage: str) -> None:
    folder = trees_of(study)[named]
    path = folder / "sub-01/eeg/x.edf"
    reason = {
        "flip": r"sub-01/eeg/x\.edf is damaged: its SHA-256", "swap": r"sub-01/eeg/x\.edf is damaged: its SHA-256",
        "gone": r"sub-01/eeg/x\.edf is gone, and products\.jsonl lists it",
        "added": r"sub-03/x\.edf is none of the files that its run has written",
        "list cut": r"cannot be verified: .*products\.jsonl is damaged: it lists 3 files",
    }  # fmt: skip
    if damage == "flip":
        path.write_bytes(b"W" + path.read_bytes()[1:])
    elif damage == "swap":
        path.write_bytes((folder / "sub-02/eeg/x.edf").read_bytes())
    elif damage == "gone":
        path.unlink()
    elif damage == "added":
        (folder / "sub-03").mkdir()
        (folder / "sub-03/x.edf").write_bytes(b"of somebody")
    elif damage == "list cut":
        lines = (folder / LIST).read_bytes().splitlines(keepends=True)
        (folder / LIST).write_bytes(b"".join(lines[:-1]))
    memory = Memory()
    if damage == "none":
        assert sorted(memory.tree(folder)) == sorted(folder / name for name in STUDY)
        memory.verify(path)
        assert memory.knows(path) and not memory.knows(folder / "participants.tsv")
        assert memory.tree(folder / "sub-02") == [folder / "sub-02/eeg/x.edf"] or named == "copy"
        return
    with pytest.raises(DamagedProduct, match=reason[damage]) as caught:
        list(map(memory.verify, memory.tree(folder)))
    mend = "It is a copy of what synthesize-abc has written" if named == "copy" else "hpc verify synthesize-abc --runs"
    assert mend in str(caught.value) or damage == "added"


def test_a_study_from_outside_has_no_list(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01/x.edf").write_bytes(b"theirs")
    assert Memory().tree(tmp_path) == []


def test_a_study_of_a_run_whose_list_is_gone_is_refused(study: RunDir) -> None:
    (study.out / LIST).unlink()
    with pytest.raises(DamagedProduct, match=r"synthesize-abc/out cannot be verified: .*products\.jsonl is gone"):
        Memory().tree(study.out)


def test_a_product_that_is_gone_is_not_taken_for_one_that_was_never_written(run: RunDir) -> None:
    assert products.read(run.out / "never.json") is None
    (run.out / "a.bin").unlink()
    with pytest.raises(DamagedProduct, match=r"a\.bin is gone, and products\.jsonl lists it"):
        products.read(run.out / "a.bin")
    run.result.unlink()  # and where the run is made again, it is about to be written
    assert products.read(run.out / "a.bin") is None


def test_digests_that_begin_alike_are_shown_whole(run: RunDir) -> None:
    text = (run.out / LIST).read_text()
    known = json.loads(text.splitlines()[1])["sha256"]
    other = known[:-1] + ("0" if known[-1] != "0" else "1")
    (run.out / LIST).write_text(text.replace(known, other))
    with pytest.raises(DamagedProduct, match=f"its SHA-256 is {known}, and that of what was written is {other}"):
        Memory().verify(run.out / "a.bin")


def test_damage_ends_the_verification(run: RunDir) -> None:
    (run.out / "b.bin").write_bytes(b"something else.")
    train = RunDir(run.path.parent / "train-abc")
    train.path.mkdir()
    with pytest.raises(DamagedProduct, match=r"b\.bin is damaged"):
        Verification(Context(World(), train), [run.out / "a.bin", run.out / "b.bin"]).wait()


def test_verify_names_damage_and_repair_sets_it_aside(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ["--runs", str(run.path.parent)]
    assert verify_runs(parse(["verify", *runs]), {}) == 0
    assert capsys.readouterr().out == "preprocess-abc: 3 products of 0.0 MB are what was written\n"
    (run.out / "a.bin").write_bytes(b"junk")
    (run.out / "b.bin").unlink()
    assert verify_runs(parse(["verify", "preprocess-abc", *runs]), {}) == 1
    out = capsys.readouterr().out
    assert "a.bin is damaged: it has 4 bytes, and 5120 were written" in out and "b.bin is gone" in out
    assert run.result.exists()
    assert verify_runs(parse(["verify", "preprocess-abc", "--repair", *runs]), {}) == 0
    assert "hpc resume preprocess-abc" in capsys.readouterr().out
    assert (run.path / "damaged" / "out" / "a.bin").read_bytes() == b"junk"
    assert not (run.out / "a.bin").exists() and not run.result.exists()


@pytest.mark.ranks
def test_a_run_whose_products_were_removed_says_so_and_makes_them_again(launch: Launch) -> None:
    first, second = ["count", "n=3", "--ranks", "1"], ["count", "n=4", "--ranks", "1"]
    launch(*first)
    (run,) = map(RunDir, launch.runs())
    before = sorted(path.name for path in run.out.iterdir())
    shutil.rmtree(run.out)
    gone = "its products are gone, its folder `out` is not there"
    assert gone in launch("status").stdout
    assert f"finished before, but {gone}" in launch(*first).stdout
    refused = launch(*second, f"after={run.name}", code=2).stderr
    assert f"count.after is the run {run.name}, which is finished, but {gone}" in refused
    for line in re.findall(r"`hpc ([^`]+)`", refused):
        launch(*line.split())
    assert sorted(path.name for path in run.out.iterdir()) == before
    launch(*second, f"after={run.name}")


@pytest.mark.ranks
def test_a_run_whose_result_is_damaged_says_what_makes_it_again(launch: Launch) -> None:
    launch("count", "n=3", "--ranks", "1")
    (run,) = map(RunDir, launch.runs())
    run.result.write_bytes(bytes(run.result.stat().st_size))
    table = launch("status").stdout
    assert "finished" in table and "result.json is damaged" in table
    for line in re.findall(r"`hpc ([^`]+)`", launch("why", run.name).stdout):
        launch(*line.split())
    assert "damaged" not in launch("status").stdout
    launch("verify")


def test_verify_says_which_run_to_repair(run: RunDir) -> None:
    runs = ["--runs", str(run.path.parent)]
    with pytest.raises(ConfigError, match="--repair which run"):
        verify_runs(parse(["verify", "--repair", *runs]), {})
    with pytest.raises(ConfigError, match="not both"):
        verify_runs(parse(["verify", "preprocess-abc", "--repair", "--accept", *runs]), {})


def test_a_damaged_plan_hides_no_other_damage(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    other = RunDir(run.path.parent / "zzz-later")
    shutil.copytree(run.path, other.path)
    run.plan.write_bytes(bytes(20))
    for each in (run, other):
        (each.out / "a.bin").write_bytes(b"\0" * (each.out / "a.bin").stat().st_size)
    assert verify_runs(parse(["verify", "--runs", str(run.path.parent)]), {}) == FAILED
    printed = capsys.readouterr().out
    assert f"{run.plan} is damaged" in printed and f"{run.out / 'a.bin'}" in printed
    assert f"{other.out / 'a.bin'}" in printed
