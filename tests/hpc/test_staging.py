"""Copies of inputs on the node: whole or absent, one for all that read it, and never in a run's way."""

import dataclasses
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc.errors import ConfigError
from hpc.rank import local_copy, staging
from hpc.rank.context import Context, Input, Preempted, World
from hpc.rank.staging import Staging
from hpc.runs import records
from hpc.runs.rundir import RunDir, write_json
from hpc.site import allocation
from hpc.site.allocation import Request
from hpc.site.profile import Site, Storage
from tests.conftest import ROOT, Launch

ME = f"hpc-{os.getuid()}"
ALONE = World()


@pytest.fixture
def shm() -> Iterator[Path]:
    """A folder in memory, another device than tmp_path."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of files, as a finished run leaves one."""
    folder = tmp_path / "runs/preprocess-a/out"
    (folder / "deeper/empty").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "deeper/sub-01 żółć.h5").write_bytes(os.urandom(3_000_000))
    return folder


def a_rank(
    runs: Path,
    *places: Path | str,
    world: World = ALONE,
    name: str = "train-a",
    mem_gb: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    **request: str,
) -> Staging:
    """A rank of a run on a site whose nodes have these places."""
    where = Site("here", "slurm", storage=Storage(scratch_local=tuple(map(str, places))))
    ctx = Context(world, RunDir(runs / name), should_stop=should_stop)
    resources = allocation.fit(where, Request(mem_gb=mem_gb, **request))  # type: ignore[arg-type]
    write_json(ctx.run.plan, {"site": dataclasses.asdict(where), "resources": dataclasses.asdict(resources)})
    ctx.stage_in = made = Staging(ctx, {"NODE_DISK": "/nowhere"})
    return made


def read(rank: Staging) -> Path:
    return rank.ctx.input(Input("preprocess-a"), often=True)


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", one, other], check=False).returncode == 0


def halves(place: Path) -> list[Path]:
    return list((place / ME).glob(".*.tmp"))


def test_a_copy_is_whole_and_on_the_node(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rank = a_rank(tmp_path / "runs", shm)
    there = read(rank)
    assert there.is_relative_to(shm) and same(there, data) and not halves(shm)
    assert read(rank) == there, "asked again, it is the same"
    assert f"{data} copied to {there}: 3 MB in" in caplog.text
    heartbeat = records.heartbeat(rank.ctx.run, 0)
    assert heartbeat and (heartbeat["what"], heartbeat["done"], heartbeat["total"]) == ("check data", 3, 3)
    rank.release()


def test_what_is_read_once_is_not_copied(data: Path, tmp_path: Path, shm: Path) -> None:
    assert a_rank(tmp_path / "runs", shm).ctx.input(Input("preprocess-a")) == data
    assert list(shm.iterdir()) == []


def test_the_ranks_of_a_node_share_a_copy_and_the_last_clears_memory(data: Path, tmp_path: Path, shm: Path) -> None:
    first, second = (a_rank(tmp_path / "runs", shm, world=World(rank, 2, rank, 2)) for rank in (0, 1))
    found: list[Path] = []
    waiting = threading.Thread(target=lambda: found.append(read(second)))
    waiting.start()
    assert read(first) != data
    waiting.join()
    assert found == [read(first)]
    first.release()
    assert same(read(second), data), "it is still read"
    second.release()
    assert list((shm / ME).iterdir()) == []


def test_on_a_disk_a_copy_stays_for_the_next_run(shm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (shm / "runs/preprocess-a/out").mkdir(parents=True)
    (shm / "runs/preprocess-a/out/a.h5").write_text("a")
    for name in ("train-a", "train-b"):
        rank = a_rank(shm / "runs", tmp_path, name=name)
        assert (read(rank) / "a.h5").read_text() == "a"
        rank.release()
    assert "is read from the copy that is in" in caplog.text
    (shm / "runs/preprocess-a/out/a.h5").write_text("b")
    assert (read(a_rank(shm / "runs", tmp_path)) / "a.h5").read_text() == "b", "another input is another copy"


SCRIPT = """
import logging, sys, time
from pathlib import Path
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir
from hpc.rank.staging import Staging
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
_, run, place, mode = sys.argv
def look() -> bool:
    if mode == "hang" and list(Path(place).glob("hpc-*/.*.tmp/data/*")):
        print("half", flush=True)
        time.sleep(600)
    return False
ctx = Context(World(), RunDir(Path(run)), should_stop=look)
ctx.stage_in = staging = Staging(ctx, {})
print(ctx.input(Input("preprocess-a"), often=True), flush=True)
sys.stdin.read()
staging.release()
"""


def start(rank: Staging, place: Path, mode: str = "") -> "subprocess.Popen[str]":
    """The rank as a process of its own; it reads its copy until its input ends."""
    command = [sys.executable, "-c", SCRIPT, str(rank.ctx.run.path), str(place), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.ranks
def test_of_two_runs_that_race_one_copies(data: Path, tmp_path: Path, shm: Path) -> None:
    ranks = [start(a_rank(tmp_path / "runs", shm, name=f"train-{n}"), shm) for n in "abc"]
    said = [[rank.stdout.readline(), rank.stdout.readline().strip()] for rank in ranks]  # type: ignore[union-attr]
    assert len({path for _, path in said}) == 1
    assert same(Path(said[0][1]), data)
    assert sorted("copied to" in line for line, _ in said) == [False, False, True]
    for rank in ranks:
        rank.communicate()
        assert rank.returncode == 0
    assert list((shm / ME).iterdir()) == []


@pytest.mark.ranks
def test_a_killed_copier_leaves_nothing_that_counts(data: Path, tmp_path: Path, shm: Path) -> None:
    killed = start(a_rank(tmp_path / "runs", shm), shm, "hang")
    assert killed.stdout and killed.stdout.readline() == "half\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert halves(shm)
    (data / "new").write_text("so that the next copy has another name")
    rank = a_rank(tmp_path / "runs", shm)
    assert same(read(rank), data)
    assert not halves(shm) and len(list((shm / ME).iterdir())) == 2, "the lock and the copy"


@pytest.mark.ranks
def test_a_waiting_run_goes_on_when_the_copier_is_killed(data: Path, tmp_path: Path, shm: Path) -> None:
    killed = start(a_rank(tmp_path / "runs", shm), shm, "hang")
    assert killed.stdout and killed.stdout.readline() == "half\n"
    looked: list[None] = []

    def kill_at_the_second_look() -> bool:
        looked.append(None)
        if len(looked) == 2:
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
        return False

    rank = a_rank(tmp_path / "runs", shm, name="train-b", should_stop=kill_at_the_second_look)
    assert same(read(rank), data) and read(rank) != data


def refused(rank: Staging, data: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Why it reads the shared disk."""
    assert read(rank) == data
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return line.removeprefix(f"{data} is read where it is, there is no copy of it on this node: ")


@pytest.mark.skipif(os.getuid() != 0, reason="a small disk is mounted, which takes root")
def test_a_disk_that_is_full_before_the_end(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    options = "size=8m,nr_inodes=7"  # room for the bytes, none for the last file
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", small], check=False).returncode != 0:
        pytest.skip("mount does not work here, as in a container")
    try:
        rank = a_rank(tmp_path / "runs", small, shm)
        assert read(rank).is_relative_to(shm), "the next place is taken"
        assert not halves(small)
        shutil.rmtree(shm / ME)
        said = refused(a_rank(tmp_path / "runs", small, name="train-b"), data, caplog)
        assert said.startswith(f"{small}: No space left on device, after ") and said.endswith(" of 3 MB")
        assert not halves(small)
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_write_that_fails_in_the_middle(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        said = refused(a_rank(tmp_path / "runs", shm), data, caplog)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.startswith(f"{shm}: File too large, after ")
    assert not halves(shm)


@pytest.mark.parametrize("damage", ["truncated", "written to", "removed", "without its mark", "mark of nonsense"])
def test_a_damaged_copy_is_found_and_made_anew(
    damage: str, data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed = a_rank(tmp_path / "runs", shm)
    first = read(killed)
    os.close(killed.locks[0][1])  # as the kernel does
    file, mark = first / "deeper/sub-01 żółć.h5", first.parent / "COMMIT"
    if damage == "written to":
        file.write_bytes(os.urandom(3_000_000))
        os.utime(file, ns=(0, 0))
    else:
        {"truncated": lambda: os.truncate(file, 2_999_999), "removed": file.unlink, "without its mark": mark.unlink,
         "mark of nonsense": lambda: mark.write_text("{")}[damage]()  # fmt: skip
    assert same(read(a_rank(tmp_path / "runs", shm)), data)
    assert "is damaged, or older than the node's last start: it is made again" in caplog.text


def test_a_damaged_copy_that_somebody_reads_is_left_to_him(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (read(a_rank(tmp_path / "runs", shm)) / "manifest.json").unlink()
    said = refused(a_rank(tmp_path / "runs", shm, name="train-b"), data, caplog)
    assert said == f"{shm}: the copy there is damaged, and another run reads it"


def test_what_is_too_big_for_memory_goes_to_the_disk(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = refused(a_rank(tmp_path / "runs", shm, mem_gb=1.0), _grown(data, 300e6), caplog)
    assert said == f"{shm}: its 303 MB are more than a quarter of the job's memory, 1,074 MB: more --mem"


def test_what_is_too_big_for_the_disk_first_takes_the_place_of_what_nobody_reads(
    tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = shm / "runs/preprocess-a/out"
    source.mkdir(parents=True)
    (source / "a.h5").write_text("a")
    unread = a_rank(shm / "runs", tmp_path)
    read(unread)
    unread.release()
    reader = a_rank(shm / "runs", tmp_path, name="train-c")
    (source / "a.h5").write_text("the one that is read")
    read(reader)
    said = refused(a_rank(shm / "runs", tmp_path, name="train-d"), _grown(source, 1e15), caplog)
    assert said.startswith(f"{tmp_path}: it needs 1,200,000,000 MB and ") and " MB are free: more --scratch" in said
    kept = {path for path in (tmp_path / ME).iterdir() if path.is_dir()}
    assert kept == {reader.copies[str(source)].folder}  # type: ignore[union-attr]


def _grown(folder: Path, by_b: float) -> Path:
    """With one more file, which is all hole."""
    (folder / "big.h5").touch()
    os.truncate(folder / "big.h5", int(by_b))
    return folder


def test_asked_to_stop_it_removes_its_half_and_stops(data: Path, tmp_path: Path, shm: Path) -> None:
    rank = a_rank(tmp_path / "runs", shm, should_stop=lambda: bool(halves(shm)))
    with pytest.raises(Preempted):
        read(rank)
    rank.release()
    assert not halves(shm)
    assert not [path for path in (shm / ME).iterdir() if path.is_dir()]
    neighbour = a_rank(tmp_path / "runs", shm, world=World(1, 2, 1, 2), should_stop=lambda: True)
    with pytest.raises(Preempted):
        read(neighbour)


def test_a_source_that_changes_meanwhile_is_not_copied(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def change() -> bool:
        (data / "manifest.json").write_text("{ }")
        return False

    said = refused(a_rank(tmp_path / "runs", shm, should_stop=change), data, caplog)
    assert said == f"{shm}: it was changed while it was copied"
    assert not halves(shm)


def test_a_copy_that_is_not_what_was_read_does_not_count(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def damage() -> bool:
        """Once all is written and nothing is read back yet."""
        for path in shm.glob("*/.*.tmp/data/manifest.json"):
            path.write_text("[]")
        return False

    said = refused(a_rank(tmp_path / "runs", shm, should_stop=damage), data, caplog)
    assert said == f"{shm}: what was written of manifest.json is not what was read"
    assert not halves(shm)


def test_a_copy_that_would_take_too_long_is_given_up(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_copy, "PROBE_S", 0)
    monkeypatch.setattr(local_copy, "LONGEST_S", 0)
    assert "0 min is the most" in refused(a_rank(tmp_path / "runs", shm), data, caplog)


def test_a_rank_does_not_wait_for_ever_for_its_neighbour(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "STALL_S", 0.1)
    neighbour = a_rank(tmp_path / "runs", shm, world=World(3, 4, 1, 2))
    said = refused(neighbour, data, caplog)
    assert said == "waited for another process to copy it, without progress for 0.1 s"


def test_what_stands_in_the_way_is_said(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(*places: Path | str, **request: str) -> str:
        caplog.clear()
        return refused(a_rank(tmp_path / "runs", *places, **request), data, caplog)

    assert said() == "the profile here knows no disk of the nodes' own (storage.scratch_local)"
    assert said("$TMPDIR_LOCAL", "/x/{account}") == "$TMPDIR_LOCAL, /x/{account}: not set in this job"
    assert said("$NODE_DISK") == "/nowhere: No such file or directory"
    assert said(shm, stage="/proc") == "/proc: No such file or directory"
    (data / "deeper/link").symlink_to(tmp_path)
    assert said(shm) == f"{data}/deeper/link is a link to a folder, which a copy would lack"
    (data / "deeper/link").unlink()
    (shm / ME).symlink_to("/")
    assert said(shm) == f"{shm}: {shm}/{ME} is not a folder of this user"


AS_NOBODY = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_what_another_user_has_put_there_first_is_refused(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a /tmp for all, a stranger makes our folder before us, with a copy that looks whole."""
    shm.chmod(0o1777)
    plant = "os.umask(0); os.makedirs(sys.argv[1] + '/data'); open(sys.argv[1] + '/COMMIT', 'w').write('{}')"
    name = local_copy.Listing.of(data).name
    subprocess.run([sys.executable, "-c", AS_NOBODY + plant, str(shm / ME / name)], check=True)
    assert (shm / ME).stat().st_uid == 65534
    assert refused(a_rank(tmp_path / "runs", shm), data, caplog) == f"{shm}: {shm}/{ME} is not a folder of this user"
    assert list(local_copy.half_copies(shm)) == [], "clean takes nothing from there"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_nobody_else_sees_what_a_node_has_of_a_run(data: Path, tmp_path: Path, shm: Path) -> None:
    shm.chmod(0o1777)
    before = os.umask(0)
    try:
        copy = read(a_rank(tmp_path / "runs", shm))
    finally:
        os.umask(before)
    assert copy.is_relative_to(shm)
    look = [sys.executable, "-c", AS_NOBODY + "os.listdir(sys.argv[1])", str(shm / ME)]
    assert "PermissionError" in subprocess.run(look, capture_output=True, text=True, check=False).stderr


def test_nothing_is_copied_where_there_is_no_use(
    data: Path, tmp_path: Path, shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for rank in (a_rank(tmp_path / "runs", shm, stage="off"), a_rank(tmp_path / "runs", shm, tmp_path / "runs")):
        assert read(rank) == data
    assert caplog.text == "" and list(shm.iterdir()) == []


def test_where_to_copy_to_is_the_sites_word_or_the_users() -> None:
    quiet = Site("quiet", "slurm", stage="off")
    assert allocation.fit(quiet, Request()).stage == "off"
    assert allocation.fit(quiet, Request(stage="$TMPDIR")).stage == "$TMPDIR"
    with pytest.raises(
        ConfigError, match=r"--stage must be auto, off, or a place on each node, /… or \$…, but got 'atuo'"
    ):
        allocation.fit(quiet, Request(stage="atuo"))


STAGES = """
import time
from dataclasses import dataclass
from hpc.rank.context import Context, Input

@dataclass(frozen=True)
class Make:
    text: str = "made"

def make(cfg: Make, ctx: Context) -> dict[str, object]:
    (ctx.out / "text").write_text(cfg.text)
    return {}

@dataclass(frozen=True)
class Read:
    of: Input

def read(cfg: Read, ctx: Context) -> dict[str, object]:
    place = ctx.input(cfg.of, often=True)
    print(f"rank {ctx.world.rank} reads {place}: {(place / 'text').read_text()}")
    here = ctx.run.attempt(ctx.attempt).path
    (here / f"here-{ctx.world.rank}").touch()
    while len(list(here.glob("here-*"))) < ctx.world.size:  # nobody leaves before all have come
        time.sleep(0.01)
    return {}
"""


@pytest.mark.ranks
def test_a_run_with_two_nodes_of_two_ranks_on_the_command_line(launch: Launch, tmp_path: Path, shm: Path) -> None:
    package = tmp_path / "package"
    (package / "reading-1.dist-info").mkdir(parents=True)
    (package / "reading.py").write_text(STAGES)
    (package / "reading-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: reading\nVersion: 1\n")
    (package / "reading-1.dist-info/entry_points.txt").write_text(
        "[hpc.stages]\nmake = reading:make\nread = reading:read\n"
    )
    profiles = tmp_path / "configs/site"
    profiles.mkdir(parents=True)
    (profiles / "local.yaml").write_text("kind: local\nmax_nodes: 2\nstorage: {scratch_local: [$NODE_DISK]}\n")
    (tmp_path / "study.yaml").write_text("make: {}\nread: {of: make}\n")
    launch.environ |= {"PYTHONPATH": f"{package}{os.pathsep}{ROOT}", "NODE_DISK": str(shm)}
    said = launch("pipeline", "study.yaml", "--nodes", "2", "--ranks", "2").stdout
    assert "copies  what is read often goes to $NODE_DISK of each node" in said
    (run,) = (RunDir(path) for path in (tmp_path / "runs").glob("read-*"))
    lines = [run.attempt(1).log(rank).read_text().splitlines()[-1] for rank in range(4)]
    places = {line.split("reads ")[1] for line in lines}
    assert len(places) == 1, lines
    assert places.pop().startswith(str(shm / ME)) and lines[3].endswith(": made")
    assert list((shm / ME).iterdir()) == [], "the last rank has cleared the memory"
