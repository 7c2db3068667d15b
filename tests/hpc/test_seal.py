"""A run is what was submitted: ranks run the snapshot, to the byte, in the folder where they began, or they stop."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.plan import snapshot
from hpc.runs import heartbeats, records, seal, unpack
from hpc.runs import rundir as rundir_module
from hpc.runs.rundir import Gone, RunDir, forbid_making, make_folder, read_json, write_json
from hpc.runs.seal import Unsealed
from tests import archives
from tests.conftest import EXAMPLE, Launch
from tests.hpc.test_supervisor import FINISHED, Kept, program
from tests.waiting import output_of, wait_for

SOURCES = {"lib/pack/__init__.py": (b"SIZE = 1\n", False), "lib/tool": (b"#!/bin/sh\n", True)}


@pytest.fixture(autouse=True)
def unbound() -> Iterator[None]:
    yield
    rundir_module._NEVER_MADE.clear()


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[RunDir, dict[str, object]]:
    """A run folder with a snapshot, and the part of its plan that names it."""
    run = RunDir(tmp_path / "count-a")
    run.code.mkdir(parents=True)
    archives.write(run.code / seal.ARCHIVE, {name: content for name, (content, _) in SOURCES.items()})
    text = seal.manifest(SOURCES)
    (run.code / seal.MANIFEST).write_bytes(text)
    return run, {"snapshot": hashlib.sha256(text).hexdigest(), "packages": {"pack": "lib/pack"}}


Sealed = tuple[RunDir, dict[str, object]]


@pytest.fixture
def copy(sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy on this node, from which this process has imported."""
    run, _ = sealed
    monkeypatch.setattr(unpack, "PLACES", (str(tmp_path),))
    copy = unpack.unpack(run.code / seal.ARCHIVE, {})
    monkeypatch.setenv(unpack.UNPACKED, str(copy))
    return copy


def test_a_snapshot_as_it_was_submitted_is_run_and_bytecode_in_its_copy_is_not_believed(
    sealed: Sealed, copy: Path
) -> None:
    run, plan = sealed
    cache = copy / "lib/pack/__pycache__"
    cache.mkdir()
    (cache / "__init__.cpython-311.pyc").write_bytes(b"of other code")
    seal.verify(run, plan)
    assert not cache.exists()


def test_the_copy_on_a_node_is_mended_file_for_file(sealed: Sealed, copy: Path) -> None:
    run, plan = sealed
    (copy / "lib/pack/__init__.py").write_text("SIZE = 3\n")
    (copy / "lib/tool").unlink()
    (copy / "lib/numpy.py").write_text("")
    seal.verify(run, plan)
    assert (copy / "lib/pack/__init__.py").read_bytes() == b"SIZE = 1\n" and os.access(copy / "lib/tool", os.X_OK)
    assert not (copy / "lib/numpy.py").exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("lib/pack/__init__.py", b"SIZE = 2\n", "was changed after submission: expected 9 bytes"),
        ("lib/pack/__init__.py", None, "lib/pack/__init__.py, of the run's copy of the code, "),
        ("lib/numpy.py", b"", "lib/numpy.py in "),
    ],
)
def test_an_archive_that_is_not_what_was_submitted_is_refused_by_the_file(
    sealed: Sealed, name: str, content: bytes | None, sentence: str
) -> None:
    run, plan = sealed
    files = archives.files_of(run.code / seal.ARCHIVE)
    files.pop(name, None)
    archives.write(run.code / seal.ARCHIVE, files | ({} if content is None else {name: content}))
    with pytest.raises(Unsealed, match="resume count-a` copies today's code") as refused:
        seal.verify(run, plan)
    assert sentence in str(refused.value) and name in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("manifest.json", b"{}", "manifest.json was changed after submission"),
        ("manifest.json", None, "the run's copy of the code is gone"),
        ("code.zip", b"PK", "code.zip was changed after submission: it is no archive"),
        ("code.zip", None, "is gone"),
    ],
)
def test_a_snapshot_that_is_not_what_was_submitted_is_refused(
    sealed: Sealed, name: str, content: bytes | None, sentence: str
) -> None:
    run, plan = sealed
    (run.code / name).unlink()
    if content is not None:
        (run.code / name).write_bytes(content)
    with pytest.raises(Unsealed, match="resume count-a` copies today's code") as refused:
        seal.verify(run, plan)
    assert sentence in str(refused.value)


def test_a_snapshot_of_an_earlier_version_is_refused_in_a_sentence(sealed: Sealed) -> None:
    """It has its files one by one. `verify` still compares them."""
    run, plan = sealed
    for name, content in archives.files_of(run.code / seal.ARCHIVE).items():
        (run.code / name).parent.mkdir(parents=True, exist_ok=True)
        (run.code / name).write_bytes(content)
    (run.code / seal.ARCHIVE).unlink()
    with pytest.raises(Unsealed, match="as older versions of hpc made it, file by file.*resume count-a"):
        seal.verify(run, plan)
    assert seal.difference(run.code, str(plan["snapshot"])) == ""
    (run.code / "lib/tool").write_bytes(b"")
    assert "lib/tool was changed after submission" in seal.difference(run.code, str(plan["snapshot"]))


def test_a_copy_is_made_where_there_is_room_and_belongs_to_this_user(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = sealed
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / f"hpc-{os.getuid()}").symlink_to(tmp_path)
    monkeypatch.setattr(unpack, "PLACES", (str(tmp_path / "taken"),))
    with pytest.raises(OSError, match="can be unpacked nowhere on .* is not a folder of this user.*set TMPDIR"):
        unpack.unpack(run.code / seal.ARCHIVE, {})
    (tmp_path / "free").mkdir()
    copy = unpack.unpack(run.code / seal.ARCHIVE, {"TMPDIR": str(tmp_path / "free")})
    assert copy.parents[1] == tmp_path / "free" and (copy / "lib/tool").exists()


def test_a_copy_that_is_used_stays_and_another_goes_after_a_day(sealed: Sealed, copy: Path, tmp_path: Path) -> None:
    old = copy.with_name("code-0123456789abcdef")
    (old / "lib").mkdir(parents=True)
    for use in (Path(f"{old}.use"), Path(f"{copy}.use")):
        use.touch()
        os.utime(use, (time.time() - 2 * 24 * 3600,) * 2)
    assert list(unpack.unused(copy.parent, unpack.UNUSED_S)) == [old]
    unpack.unpack(sealed[0].code / seal.ARCHIVE, {})
    assert not old.exists() and copy.exists()


def test_a_changed_file_is_named_with_both_checksums(sealed: Sealed) -> None:
    run, plan = sealed
    archives.edit(run.code / seal.ARCHIVE, "lib/tool", lambda content: b"#!/bin/bash\n")
    old, new = (hashlib.sha256(content).hexdigest() for content in (b"#!/bin/sh\n", b"#!/bin/bash\n"))
    with pytest.raises(Unsealed, match=f"expected 10 bytes with SHA-256 {old}, found 12 with {new}"):
        seal.verify(run, plan)


def test_a_plan_without_a_snapshot_is_refused(sealed: Sealed) -> None:
    with pytest.raises(Unsealed, match="names no snapshot of the code, as an older version of hpc wrote it"):
        seal.verify(sealed[0], {})


def test_a_package_from_elsewhere_is_refused(
    sealed: Sealed, copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, plan = sealed
    (tmp_path / "live/pack").mkdir(parents=True)
    (tmp_path / "live/pack/__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "live")
    with pytest.raises(Unsealed, match="this rank would import pack from .*/live/pack, not from the run's copy"):
        seal.refuse_other_code(run, plan)
    monkeypatch.syspath_prepend(copy / "lib")
    seal.refuse_other_code(run, plan)


def test_a_folder_keeps_its_id_and_an_empty_one_is_given_anew(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    first = seal.identity(run)
    assert len(first) == 16 and seal.identity(run) == first == seal.identity_of(run)
    run.identity.write_bytes(b"")
    assert seal.identity(run) == seal.identity_of(run) != first


def test_a_process_never_makes_its_run_folder_anew(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    forbid_making(run.path)
    write_json(run.out / "deep/er/file.json", 1)
    make_folder(tmp_path / "run-2/out")  # another folder, whose name begins alike
    run.path.rename(tmp_path / "moved")
    for write in (
        lambda: heartbeats.write(run, 0, {0: heartbeats.slot_of({})}),
        lambda: write_json(run.result, 1), lambda: make_folder(run.out)
    ):  # fmt: skip
        with pytest.raises(Gone, match="was moved or deleted"):
            write()
    assert not run.path.exists()


def test_a_folder_that_is_gone_or_another_is_told_from_a_disk_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    mine = seal.identity(run)
    seal.check_identity(run, mine)
    with pytest.raises(Gone, match=f"is another one now \\(id {mine}, not 0123\\)"):
        seal.check_identity(run, "0123")

    def silent(path: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(seal, "read_json", silent)
        seal.check_identity(run, mine)
    shutil.rmtree(run.path)
    with pytest.raises(Gone, match="was moved or deleted while the run was working in it"):
        seal.check_identity(run, mine)


@pytest.fixture
def held(launch: Launch) -> "Held":
    return Held(launch)


class Held:
    """A run that waits after its second step, with a checkpoint, until the gate is opened."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.watcher = launch.start("count", "n=5", "hold_at=2")
        launch.wait_for(lambda: launch.runs() and (launch.runs()[0] / "checkpoints/step-00000002/COMMIT").exists())
        self.run = RunDir(launch.runs()[0])
        launch.wait_for(lambda: records.heartbeat(self.run, 0).get("done") == 2)
        self.pids = [records.heartbeat(self.run, 0)["pid"], records.supervisor(self.run)["pid"]]

    def end(self) -> tuple[int, str]:
        """Wait for the command that watches it; return its exit code and what it has printed."""
        text = output_of(self.watcher)
        return self.watcher.returncode, text

    def wait_until_all_have_ended(self) -> None:
        wait_for(lambda: not any(_lives(pid) for pid in self.pids), "rank and supervisor to end")

    def resume(self) -> str:
        (self.run.path / "gate").touch()
        return self.launch("resume", self.run.name).stdout


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.ranks
def test_an_attempt_without_its_code_does_not_run_the_checkout(held: Held) -> None:
    shutil.rmtree(held.launch.folder / "runs/.code")
    os.kill(held.pids[0], signal.SIGKILL)
    code, text = held.end()
    assert code == 93 and "the run's copy of the code is gone" in text, text
    assert len(records.attempts(held.run)) == 1
    assert "goes on from step 2" in (text := held.resume()) and "total             15" in text


@pytest.mark.ranks
def test_an_attempt_whose_code_was_edited_names_the_file(held: Held) -> None:
    (archive,) = (held.launch.folder / "runs/.code").glob("*/code.zip")
    archives.edit(archive, "counting/stages.py", lambda content: content.replace(b"total", b"sum"))
    os.kill(held.pids[0], signal.SIGKILL)
    code, text = held.end()
    assert code == 93 and "was changed after submission: expected" in text and "counting/stages.py" in text, text
    assert "total             15" in held.resume()
    assert not seal.difference(held.run.code, records.plan(held.run)["snapshot"])


@pytest.mark.ranks
def test_a_run_whose_folder_is_moved_away_ends_and_goes_on_where_the_folder_is_back(held: Held) -> None:
    away = held.launch.folder / "away"
    before = len(records.attempts(held.run))
    held.run.path.rename(away)
    held.wait_until_all_have_ended()
    assert not held.run.path.exists()
    assert "was moved or deleted while the run was working in it" in (away / "jobs/supervisor.log").read_text()
    assert "was moved or deleted" in (away / "jobs/attempt-0001/rank-0000.log").read_text()
    code, text = held.end()
    assert code == 93 and "was moved or deleted while it ran" in text, text
    away.rename(held.run.path)
    assert len(records.attempts(held.run)) == before
    assert "goes on from step 2" in (text := held.resume()) and "total             15" in text


@pytest.mark.ranks
def test_a_rank_that_is_asked_to_stop_before_it_has_seen_that_its_folder_is_gone_says_so(held: Held) -> None:
    """Where it waits for a core its supervisor finds out first."""
    away = held.launch.folder / "away"
    held.run.path.rename(away)
    os.kill(held.pids[0], signal.SIGTERM)
    held.wait_until_all_have_ended()
    log = (away / "jobs/attempt-0001/rank-0000.log").read_text()
    assert "was moved or deleted" in log and "can go on" not in log
    assert held.end()[0] == 93


@pytest.mark.ranks
def test_a_run_whose_folder_is_deleted_computes_no_further(held: Held) -> None:
    shutil.rmtree(held.run.path)
    held.wait_until_all_have_ended()
    assert sorted(path.name for path in (held.launch.folder / "runs").iterdir()) == [".code", ".lock"]
    assert held.end()[0] == 93


@pytest.mark.ranks
def test_a_run_whose_folder_is_another_one_now_leaves_it_alone(held: Held) -> None:
    held.run.path.rename(held.launch.folder / "away")
    shutil.copytree(held.launch.folder / "away", held.run.path, symlinks=True)
    write_json(held.run.identity, {"id": "another", "made": 0})
    files = {path: path.stat().st_mtime_ns for path in held.run.path.rglob("*")}
    time.sleep(0.5)  # what was being written
    files |= {path: path.stat().st_mtime_ns for path in held.run.path.rglob("*")}
    held.wait_until_all_have_ended()
    assert {path: path.stat().st_mtime_ns for path in held.run.path.rglob("*")} == files
    (held.run.path / "gate").touch()
    held.watcher.kill()


@pytest.mark.ranks
def test_a_stopped_run_can_be_copied_elsewhere_and_goes_on_there(launch: Launch, tmp_path: Path) -> None:
    failed = launch("count", "n=4", "fail_at=3", code=1)
    assert "told to fail" in failed.stderr
    run = launch.runs()[0]
    other = tmp_path / "disk/runs" / run.name
    shutil.copytree(run, other)  # links followed, as by cp -rL
    assert seal.identity_of(RunDir(other)) == seal.identity_of(RunDir(run))
    done = launch("resume", run.name, "--runs", str(other.parent), code=1)
    assert "goes on from step" in done.stdout and "told to fail" in done.stderr
    assert len(records.attempts(RunDir(other))) == len(records.attempts(RunDir(run))) + 2


@pytest.mark.ranks
def test_a_rank_that_its_pythonpath_does_not_reach_refuses(launch: Launch) -> None:
    launch("count", "n=2", "--prepare")
    run = RunDir(launch.runs()[0])
    run.attempt(1).path.mkdir()
    command = [sys.executable, "-P", "-m", "hpc.worker", str(run.path), "--attempt", "1"]
    done = subprocess.run(command, env=launch.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 93
    error = read_json(run.attempt(1).error(0))
    assert error is not None and "this rank would import hpc from" in error["error"]
    assert "PYTHONPATH is" in error["error"] and not run.checkpoints.exists()


@pytest.mark.ranks
def test_ranks_get_their_code_where_srun_passes_nothing_on(launch: Launch) -> None:
    job = Kept(launch, "bed")
    text = 'echo "$@" > "$SAID/srun.said"; while [ "${1#-}" != "$1" ]; do shift; done; exec env -i PATH="$PATH" "$@"'
    program(job.said / "srun", text)
    code, said = job()
    assert code == 0, said
    assert "--export=ALL" in (job.said / "srun.said").read_text()


@pytest.mark.ranks
def test_a_job_that_was_submitted_for_another_folder_of_that_name_does_nothing(launch: Launch) -> None:
    kept = Kept(launch, "local")
    kept.ranks_do(FINISHED)
    command = [sys.executable, "-m", "hpc.supervisor", str(kept.run.path), "--identity", "0123"]
    done = subprocess.run(command, env=kept.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 93 and "is another one now" in done.stdout
    assert not kept.run.owner.parent.exists()


def _own_package(folder: Path) -> Path:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "counting/table.csv").write_text("1,2\n")
    return folder / "counting/stages.py"


@pytest.mark.ranks
@pytest.mark.parametrize("folder", ["unpacked", "lib/python3.11/site-packages"])
def test_a_package_outside_of_git_is_copied_and_its_ranks_run_the_copy(
    launch: Launch, tmp_path: Path, folder: str
) -> None:
    source = _own_package(tmp_path / folder)
    launch.environ["PYTHONPATH"] = str(tmp_path / folder)
    assert f"copied from {tmp_path / folder}" in launch("count", "n=3", "--prepare").stdout
    run = RunDir(launch.runs()[0])
    source.write_text(source.read_text().replace("total += ", "total += 100 + "))
    launch("count", "n=4")
    place = records.plan(run)["packages"]["counting"]
    files = archives.files_of(run.code / seal.ARCHIVE)
    assert f"{place}/table.csv" in files and b"100 + " not in files[f"{place}/stages.py"]
    supervisor = [sys.executable, "-PB", str(run.code / seal.ARCHIVE), "-m", "hpc.supervisor", str(run.path)]
    subprocess.run(supervisor, env=launch.environ, check=True, capture_output=True)
    metrics = records.result(run)["metrics"]
    assert metrics is not None and metrics["total"] == 6


def test_what_pip_wrote_about_a_package_is_copied_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "site-packages"
    about = packages / "my_lab-1.2.dist-info"
    (packages / "mylab_x/__pycache__").mkdir(parents=True)
    (packages / "mylab_x/__init__.py").write_text("")
    (packages / "mylab_x/__pycache__/__init__.cpython-311.pyc").write_text("")
    (packages / "mylab_x/weights.bin").write_bytes(bytes(6_000_000))
    (packages / "other").mkdir()
    (packages / "other/__init__.py").write_text("")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("[hpc.stages]\nx = mylab_x:x\n")
    names = ["mylab_x/__init__.py", *(f"{about.name}/{name}" for name in ("METADATA", "entry_points.txt", "RECORD"))]
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    (packages / "alone_x.py").write_text("SIZE = 1\n")
    monkeypatch.syspath_prepend(packages)
    (code,) = snapshot.look(["mylab_x", "alone_x"])
    assert set(code.files) == {"mylab_x/__init__.py", "alone_x.py", *names[1:3]}
    assert (code.version, code.commit, code.too_large) == ("my-lab 1.2", "", ("mylab_x/weights.bin",))
    assert dict(code.packages) == {"mylab_x": "mylab_x", "alone_x": "alone_x.py"}


def test_two_checkouts_of_the_same_name_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("one_x", "two_x")):
        root = tmp_path / str(number) / "src"
        root.mkdir(parents=True)
        (root / f"{name}.py").write_text("")
        monkeypatch.syspath_prepend(root)
    codes = snapshot.look(["one_x", "two_x"])
    assert [code.folder for code in codes] == ["src", "src.2"]
    copy = snapshot.take(codes, tmp_path / "runs")
    assert sorted(json.loads((copy.folder / seal.MANIFEST).read_text())) == [
        "__main__.py",
        "code.diff",
        "imports.json",
        "src.2/two_x.py",
        "src/one_x.py",
    ]


def test_a_changed_snapshot_is_made_anew_at_the_next_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/three_x.py").write_text("SIZE = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "src")
    code = snapshot.look(["three_x"])
    copy = snapshot.take(code, tmp_path / "runs")
    assert copy.folder.name == copy.sha256[:16]
    archives.edit(copy.folder / seal.ARCHIVE, "three_x.py", lambda content: b"SIZE = 2\n")
    assert snapshot.take(code, tmp_path / "runs") == copy
    assert archives.files_of(copy.folder / seal.ARCHIVE)["src/three_x.py"] == b"SIZE = 1\n"
