"""A capsule has what a stranger needs to compute a run again, and nothing that is nobody's business."""

import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.codes import FAILED
from hpc.errors import ConfigError
from hpc.replay import capsule, crate
from hpc.runs import provenance, seal
from hpc.runs.rundir import RunDir
from tests.conftest import EXAMPLE, Launch, users_environ

pytestmark = pytest.mark.ranks
PLANTED = "correct-horse-battery-7f3a"


@pytest.fixture
def stranger(tmp_path: Path, environ: dict[str, str]) -> Iterator[Launch]:
    """Somebody else, in a folder of his own."""
    (tmp_path / "stranger").mkdir()
    launch = Launch(tmp_path / "stranger", environ)
    yield launch
    launch.end()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that reads another one, and its capsule."""
    launch = Launch(tmp_path_factory.mktemp("lab"), users_environ())
    launch("count", "n=3", "--on", "local")
    (count,) = launch.runs()
    launch("tally", f"of={count.name}", "--on", "local")
    text = launch("capsule", "tally", "-o", "tally.zip").stdout
    assert "wrote tally.zip, " in text and "with 1 run that it reads" in text and "hpc replay tally.zip" in text
    return launch.folder


@pytest.fixture
def packed_file(lab: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(lab / "tally.zip", tmp_path / "copy.zip"))


def run_of(lab: Path, stage: str) -> RunDir:
    (path,) = lab.glob(f"runs/{stage}-*")
    return RunDir(path)


def graph_of(path: Path) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as packed:
        about = json.loads(packed.read(crate.NAME))
    assert about["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    return {each["@id"]: each for each in about["@graph"]}


def test_a_stranger_computes_a_run_again_and_what_it_reads_first(packed_file: Path, stranger: Launch) -> None:
    planned = stranger("replay", str(packed_file), "--dry-run").stdout
    assert "it is computed first, from the capsule" in planned and not (stranger.folder / "runs").exists()
    done = stranger("replay", str(packed_file)).stdout
    verdicts = [line for line in done.splitlines() if "equal bit for bit" in line]
    assert [line.partition("-")[0] for line in verdicts] == ["count", "tally"]
    assert "compared: the metrics, 3 checkpoints, 1 product" in done, "by the fingerprints in the capsule"


def test_a_capsule_is_an_ro_crate(packed_file: Path) -> None:
    graph = graph_of(packed_file)
    root = graph["./"]
    assert graph[crate.NAME]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert {"name", "description", "datePublished", "license", "hasPart", "mainEntity"} <= root.keys()
    files = {each["name"] for each in graph.values() if each["@type"] == "File"}
    with zipfile.ZipFile(packed_file) as packed:
        assert {*packed.namelist()} == {*files, crate.NAME}
        assert "torch==" in packed.read("requirements.txt").decode()
    assert {part["@id"] for part in root["hasPart"]} <= graph.keys()
    actions = [each for each in graph.values() if each["@type"] == "CreateAction"]
    assert len(actions) == 2
    for action in actions:
        assert {ref["@id"] for ref in (*action["object"], *action["result"])} <= graph.keys()
        assert all(graph[ref["@id"]]["sha256"] for ref in action["result"])
    assert not any(name.endswith(("total.txt", "page.html", ".bin")) for name in files), "no data unless asked"


@pytest.mark.usefixtures("example")
def test_equal_runs_are_equal_capsules(lab: Path, tmp_path: Path) -> None:
    capsule.pack(run_of(lab, "tally"), tmp_path / "second.zip", with_data=False, environ={})
    assert (tmp_path / "second.zip").read_bytes() == (lab / "tally.zip").read_bytes()


def test_a_capsule_names_no_person_machine_or_folder(lab: Path, packed_file: Path) -> None:
    with zipfile.ZipFile(packed_file) as packed:
        records = b"".join(packed.read(name) for name in packed.namelist() if ".code/" not in name)
    for private in (str(lab), os.uname().nodename, "identity.json"):
        assert private.encode() not in records
    assert b'"cwd": ""' in records


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def changed(name_ends: str, new: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as packed:
            comment, files = packed.comment, {name: packed.read(name) for name in packed.namelist()}
        with zipfile.ZipFile(path, "w") as packed:
            packed.comment = comment
            for name, content in files.items():
                packed.writestr(name, new if name.endswith(name_ends) else content)

    return change


def flipped(path: Path) -> None:
    """A byte of the code, which is stored as it is."""
    with zipfile.ZipFile(path) as packed:
        info = next(info for info in packed.infolist() if info.filename.endswith("code.zip"))
    content = bytearray(path.read_bytes())
    content[info.header_offset + 5000] ^= 1
    path.write_bytes(content)


def with_another_file(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("../../evil.py", "")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "is no capsule of a run, or was cut off: pack it again"),
        (lambda path: path.write_text("no archive"), "is no capsule of a run"),
        (changed(crate.NAME, b'{"@graph": []}'), "is no capsule of a run"),
        (changed("config.yaml", b"n: 4\n"), "config.yaml was changed after it was packed: it has 5 bytes, and"),
        (flipped, "code.zip is damaged (Bad CRC-32"),
        (with_another_file, "../../evil.py was added after it was packed"),
        (Path.unlink, "there is no file"),
    ],
)  # fmt: skip
def test_a_capsule_that_was_cut_or_changed_is_refused(
    packed_file: Path, tmp_path: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(packed_file)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        capsule.unpack(capsule.opened(packed_file), tmp_path / "place/.capsule")
    assert not (tmp_path / "place").exists(), "nothing is left of it"


def test_a_cut_capsule_is_a_sentence_on_the_command_line(packed_file: Path, stranger: Launch) -> None:
    cut(packed_file)
    assert "is no capsule of a run, or was cut off" in stranger("replay", str(packed_file), code=2).stderr
    assert list(stranger.folder.iterdir()) == []


def test_what_is_missing_is_named_with_its_hash_and_taken_from_where_it_is(launch: Launch, stranger: Launch) -> None:
    (launch.folder / "data").mkdir()
    (launch.folder / "data/total.txt").write_text("10")
    launch("tally", "of=./data", "--on", "local")
    (run,) = launch.runs()
    digest = provenance.read(RunDir(run))["paths"]["./data"]["digest"][:12]
    lacking = f"./data: 1 file of 0.0 MB, with the hash {digest}…"
    assert f"not in it   {lacking}" in launch("capsule", run.name, "-o", "bare.zip").stdout
    bare = str(launch.folder / "bare.zip")
    assert f"missing {lacking}" in stranger("replay", bare, "--dry-run").stdout
    assert f"1 input not here, {lacking}: say where they are" in stranger("replay", bare, code=2).stderr
    shutil.copytree(launch.folder / "data", stranger.folder / "theirs")
    assert "equal bit for bit" in stranger("replay", bare, "--data", "theirs").stdout
    assert "not in it" not in launch("capsule", run.name, "-o", "whole.zip", "--with-data").stdout
    (stranger.folder / "theirs/total.txt").unlink()
    assert "equal bit for bit" in stranger("replay", str(launch.folder / "whole.zip")).stdout
    (launch.folder / "data/total.txt").write_text("11")
    assert "has the SHA-256" in launch("capsule", run.name, "-o", "x.zip", "--with-data", code=2).stderr
    assert not (launch.folder / "x.zip").exists()


def test_no_secret_enters_a_capsule(launch: Launch, tmp_path: Path) -> None:
    package, home = tmp_path / "package", tmp_path / "home"
    shutil.copytree(EXAMPLE, package)
    (home / ".config/hpc").mkdir(parents=True)
    own = home / ".config/hpc/secrets"
    own.write_text(f"MY_WEBHOOK={PLANTED}\n")
    own.chmod(0o600)
    launch.environ |= {"PYTHONPATH": str(package), "HOME": str(home), "MY_TOKEN": PLANTED}
    launch("count", "n=2", "--on", "local")
    (run,) = launch.runs()
    launch("capsule", run.name, "-o", "clean.zip")
    with zipfile.ZipFile(launch.folder / "clean.zip") as packed:
        assert not any(PLANTED.encode() in packed.read(name) for name in packed.namelist())
    (package / "counting/notes.py").write_text(f'HOOK = "{PLANTED}"\n')
    launch("count", "n=3", "--on", "local")
    (new,) = (path for path in launch.runs() if path != run)
    refused = launch("capsule", new.name, "-o", "leak.zip", code=2).stderr
    assert "package/counting/notes.py of the code holds a secret of yours, or a token: nothing is packed" in refused
    assert PLANTED not in refused and not (launch.folder / "leak.zip").exists()
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 1, "note": "API_KEY=abcdef123456"}\n')
    assert "metrics.jsonl holds what looks like a secret" in launch("capsule", run.name, "-o", "x.zip", code=2).stderr


def test_where_a_capsule_cannot_be_written_is_said(launch: Launch) -> None:
    assert "capsule of which run?" in launch("capsule", code=2).stderr
    launch("count", "n=2", "--on", "local")
    (run,) = launch.runs()
    assert f"is a folder: say a file, as runs/{run.name}.zip" in launch("capsule", "count", "-o", "runs", code=2).stderr
    (run / "provenance.json").unlink()
    assert "has no provenance.json, which earlier versions did not write" in launch("capsule", "count", code=2).stderr
    assert "equal bit for bit" in launch("replay", "count").stdout, "a run of an earlier version can be computed again"


def test_a_run_with_a_damaged_checkpoint_is_not_packed(lab: Path, stranger: Launch) -> None:
    shutil.copytree(lab / "runs", stranger.folder / "runs", symlinks=True)
    count = run_of(stranger.folder, "count")
    (count.checkpoints / "step-00000002/COMMIT").write_bytes(b"{")  # a disk that was full
    refused = stranger("capsule", count.name, "-o", "count.zip", code=FAILED).stderr
    assert refused.startswith("error: ") and "step-00000002/COMMIT is missing or cut off" in refused
    assert not (stranger.folder / "count.zip").exists()


# A capsule whose seals are right, but which nobody packed with hpc


def sealed(path: Path, change: Callable[[dict[str, bytes]], object], sizes: dict[str, int] | None = None) -> Path:
    """Pack the files of a capsule anew after a change, with right seals. `sizes`: what the metadata say of some."""
    with zipfile.ZipFile(path) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    about = json.loads(files.pop(crate.NAME))
    change(files)
    others = [each for each in about["@graph"] if each["@type"] != "File"]
    entries = {
        name: crate.Entry((sizes or {}).get(name, len(content)), hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    }
    about["@graph"] = [*others, *(crate._file(name, entry) for name, entry in entries.items())]
    text = json.dumps(about).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.comment = f"{capsule.COMMENT}{hashlib.sha256(text).hexdigest()}".encode()
        for name, content in {crate.NAME: text, **files}.items():
            packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tally_in(files: dict[str, bytes]) -> str:
    return next(name.removesuffix("/plan.json") for name in files if re.fullmatch("runs/tally-[^/]*/plan.json", name))


def edited(record: str, **new: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        name = f"{tally_in(files)}/{record}"
        files[name] = json.dumps(json.loads(files[name]) | new).encode()

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda files: files.update({"../evil.py": b""}), "'../evil.py' is in no place of a capsule, or leads out"),
        (lambda files: files.update({"/tmp/evil.py": b""}), "'/tmp/evil.py' is in no place of a capsule"),
        (lambda files: files.update({"data/../../evil": b""}), "'data/../../evil' is in no place of a capsule"),
        (lambda files: files.update({"runs/./evil/plan.json": b""}), "'runs/./evil/plan.json' is in no place"),
        (lambda files: files.update({"runs/x/code": b"/etc"}), "'runs/x/code' is in no place of a capsule"),
        (lambda files: files.update({"data/a": b"", "data/a/b": b""}), "'data/a' is there twice"),
        (lambda files: files.update({"data/" + "x" * 300: b""}), "cannot be unpacked: File name too long"),
        (edited("plan.json", snapshot="../../../../../etc"), "names no copy of its code"),
        (edited("provenance.json", runs={"../../../evil": "0" * 64}), "reads a run '../../../evil', which is no name"),
    ],
)
def test_a_capsule_that_leads_out_of_its_folder_is_refused(
    packed_file: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], object], sentence: str
) -> None:
    sealed(packed_file, change)
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        capsule.unpack(capsule.opened(packed_file), tmp_path / "place/deep/.capsule")
    assert set(tmp_path.iterdir()) <= {*before, tmp_path / "place"} and not list(tmp_path.rglob("*evil*"))


def test_a_capsule_that_is_larger_than_it_says_or_than_the_disk_is_refused(
    packed_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(files: dict[str, bytes]) -> None:
        files["data/zeros"] = bytes(1 << 20)

    sealed(packed_file, add, {"data/zeros": 10})
    with pytest.raises(ConfigError, match="it has 1048576 bytes, and 10 were written"):
        capsule.opened(packed_file)
    whole = capsule.opened(sealed(packed_file, add))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"unpacks to 0.0 GB, but .* has 0.0 GB left: say --runs"):
        capsule.unpack(whole, tmp_path / "place/.capsule")
    assert not (tmp_path / "place").exists()


def with_code(files: dict[str, bytes], change: Callable[[dict[str, bytes]], object], *more: tuple[str, bytes]) -> None:
    """Change the code of all runs, with right manifests and plans. `more`: what the archive has besides."""
    (archive,) = (name for name in files if name.endswith("code.zip"))
    with zipfile.ZipFile(io.BytesIO(files.pop(archive))) as packed:
        code = {name: packed.read(name) for name in packed.namelist()}
    files.pop(archive.replace("code.zip", "manifest.json"))
    change(code)
    manifest = seal.manifest({name: (content, False) for name, content in code.items()})
    snapshot, whole = hashlib.sha256(manifest).hexdigest(), io.BytesIO()
    with zipfile.ZipFile(whole, "w") as packed:
        for name, content in (*code.items(), *more):
            packed.writestr(name, content)
    place = f"runs/.code/{snapshot[:16]}"
    files |= {f"{place}/code.zip": whole.getvalue(), f"{place}/manifest.json": manifest}
    for name in [name for name in files if name.endswith("/plan.json")]:
        files[name] = json.dumps(json.loads(files[name]) | {"snapshot": snapshot}).encode()


@pytest.mark.usefixtures("stranger")
def test_code_that_is_not_here_is_named_before_it_runs_and_only_runs_if_trusted(
    packed_file: Path, stranger: Launch, tmp_path: Path
) -> None:
    assert "all of its code is that which is installed here" in stranger("replay", str(packed_file), "--dry-run").stdout
    mark = tmp_path / "it-ran"

    def infect(code: dict[str, bytes]) -> None:
        (name,) = (name for name in code if name.endswith("counting/__init__.py"))
        code[name] += f"\nopen({str(mark)!r}, 'w').close()\n".encode()

    sealed(packed_file, lambda files: with_code(files, infect))
    planned = stranger("replay", str(packed_file), "--dry-run").stdout
    assert re.search(
        r"code    1 of its \d+ files of code are not those that are installed here, and would run", planned
    )
    assert "counting/__init__.py" in planned
    refused = stranger("replay", str(packed_file), code=2).stderr
    assert "then say --yes, if you trust who gave you this file" in refused and not mark.exists()
    (archive,) = re.findall(r"unzip -p (\S+) NAME", refused)
    with zipfile.ZipFile(stranger.folder / archive) as packed:
        assert any(name.endswith("counting/__init__.py") for name in packed.namelist()), "one can look"
    stranger("replay", str(packed_file), "--yes")
    assert mark.exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "more", "sentence"),
    [
        (lambda code: None, [("__main__.py", b"print('mine')")], "__main__.py"),
        (lambda code: None, [("evil.py", b"")], "evil.py in "),
        (lambda code: code.update({"../../evil.py": b"x"}), [], "leads out of the copy"),
    ],
)
def test_an_archive_of_code_that_is_not_its_list_is_refused(
    packed_file: Path,
    stranger: Launch,
    change: Callable[[dict[str, bytes]], object],
    more: list[tuple[str, bytes]],
    sentence: str,
) -> None:
    sealed(packed_file, lambda files: with_code(files, change, *more))
    assert sentence in stranger("replay", str(packed_file), "--yes", code=2).stderr
    assert not list(stranger.folder.rglob("evil*"))
