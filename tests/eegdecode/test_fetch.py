"""`hpc fetch SOURCE:NAME`: a data set of another package becomes a BIDS folder. The packages here are small ones of the
test's, which make what they would download; braindecode is the real one."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import mne_bids
import pytest

from eegdecode.exchange import sources
from hpc.cli import options, runs
from hpc.errors import ConfigError
from hpc.runs import products
from tests.conftest import Launch

MOABB = """
import os, pathlib, mne, numpy as np


class BNCI2014_001:
    code, doi, paradigm, interval = "BNCI2014-001", "10.3389/fnins.2012.00055", "imagery", [2, 6]
    event_id, subject_list = {"left_hand": 1, "right_hand": 2}, [1, 2]

    def get_data(self, subjects):
        with open(os.environ["ASKED"], "a") as log:
            print(*subjects, file=log)
        if subjects == [2] and pathlib.Path(os.environ["ASKED"]).with_name("no-net").exists():
            raise ConnectionError("Name or service not known")
        return {n: {f"{s}{word}": {"0": raw(n, s)} for s, word in enumerate(("train", "test"))} for n in subjects}


def raw(subject, session):
    info = mne.create_info(["Fz", "C3", "EOG1", "stim"], 100.0, ["eeg", "eeg", "eog", "stim"])
    montage = mne.channels.make_dig_montage({"Fz": (0, 0.07, 0.05), "C3": (-0.06, 0, 0.06)}, coord_frame="head")
    info.set_montage(montage, on_missing="ignore")
    data = np.random.default_rng([subject, session]).normal(size=(4, 3000)).astype("f4") * 1e-5
    data[3] = 0
    data[3, 100:2500:800] = [1, 2, 1]
    made = mne.io.RawArray(data, info, first_samp=300, verbose="error")
    made.info["bads"], made.info["line_freq"] = ["C3"], 50
    return made
"""
EEGDASH = """
import mne, numpy as np
from braindecode.datasets import BaseConcatDataset, RawDataset


class EEGDashDataset(BaseConcatDataset):
    def __init__(self, cache_dir, dataset, subject=None):
        super().__init__([one(each) for each in subject or ["002", "003"]])


def one(subject):
    info = mne.create_info(["Fz", "Cz"], 100.0, "eeg")
    raw = mne.io.RawArray(np.random.default_rng(0).normal(size=(2, 2000)) * 1e-5, info, first_samp=50, verbose="error")
    raw.set_annotations(mne.Annotations([1.0, 5.0, 7.0], [2.0, 2.0, 1.0], ["go", "stop", "BAD_x"]))
    return RawDataset(raw, {"subject": subject, "task": "Resting State", "age": 23.5, "session": None, "run": 1})
"""


@pytest.fixture
def installed(launch: Launch) -> Callable[[str, str], None]:
    """Install a package for the command line, of one file."""

    def install(module: str, text: str) -> None:
        file = launch.folder / f"packages/{module.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.parent.name != "packages":
            (file.parent / "__init__.py").touch()
        file.write_text(text)
        path = f"{launch.folder / 'packages'}{os.pathsep}{launch.environ['PYTHONPATH']}"
        launch.environ |= {"PYTHONPATH": path, "ASKED": str(launch.folder / "asked")}

    return install


def test_a_stopped_fetch_continues_and_what_it_writes_is_read_by_mne_bids_and_by_us(
    launch: Launch, installed: Callable[[str, str], None]
) -> None:
    installed("moabb.datasets", MOABB)
    (launch.folder / "no-net").touch()
    stopped = launch("fetch", "moabb:BNCI2014_001", "-o", "bnci", code=2).stderr
    assert "subject 2 of moabb:BNCI2014_001 could not be downloaded (ConnectionError: Name or service" in stopped
    assert not (launch.folder / "bnci").exists() and "Traceback" not in stopped
    (launch.folder / "no-net").unlink()
    done = launch("fetch", "moabb:BNCI2014_001", "-o", "bnci").stdout
    assert "wrote bnci: 4 recordings of 2 subjects. Next: hpc init bnci" in done
    assert (launch.folder / "asked").read_text().split() == ["1", "2", "2"]

    study = launch.folder / "bnci"
    path = mne_bids.BIDSPath(
        root=study, subject="01", session="0train", task="imagery", run="00", datatype="eeg", extension=".vhdr"
    )
    raw = mne_bids.read_raw_bids(path, verbose="error")
    scope: dict[str, Callable] = {}
    exec(MOABB, scope)
    assert (raw.get_data() == scope["raw"](1, 0).get_data()).all()
    assert raw.get_channel_types() == ["eeg", "eeg", "eog", "stim"] and raw.info["bads"] == ["C3"]
    assert raw.info["line_freq"] == 50
    assert [(each["onset"], each["duration"], each["description"]) for each in raw.annotations] == [
        (3.0, 4.0, "left_hand"), (11.0, 4.0, "right_hand"), (19.0, 4.0, "left_hand"),
    ]  # fmt: skip
    description = json.loads((study / "dataset_description.json").read_text())
    assert description["DatasetDOI"] == "doi:10.3389/fnins.2012.00055" and description["DatasetType"] == "raw"
    listed = products.listed(study)
    assert listed is not None and all(products.is_intact(study / each.file, each) for each in listed.values())

    assert "is there already" in launch("fetch", "moabb:BNCI2014_001", "-o", "bnci").stdout
    assert "something else" in launch("fetch", "moabb:BNCI2014_001", "subjects=[1]", "-o", "bnci", code=2).stderr
    words = ["preprocess.study=./bnci", "preprocess.targets=[{name: label, column: trial_type}]"]
    launch("preprocess", *words, "preprocess.steps=[{name: pick}]", "--on", "local")
    with open(next(study.rglob("*.eeg")), "r+b") as samples:
        samples.write(b"\0\0\1\0")
    assert "is not what was written" in launch("fetch", "moabb:BNCI2014_001", "-o", "bnci", code=2).stderr


def test_a_data_set_of_the_kind_of_braindecode_keeps_subjects_tasks_and_ages(
    launch: Launch, installed: Callable[[str, str], None]
) -> None:
    installed("eegdash", EEGDASH)
    answer = json.loads(launch("fetch", "eegdash:ds002718", "subjects=['003']", "--json").stdout)
    assert answer == {"folder": "ds002718", "subjects": 1, "recordings": 1}
    study = launch.folder / "ds002718"
    assert (study / "participants.tsv").read_text().split() == ["participant_id", "age", "sub-003", "23.5"]
    path = mne_bids.BIDSPath(
        root=study, subject="003", task="RestingState", run="01", datatype="eeg", extension=".vhdr"
    )
    raw = mne_bids.read_raw_bids(path, verbose="error")
    assert raw.annotations.description.tolist() == ["go", "stop", "BAD_x"]
    assert raw.annotations.onset.tolist() == [1.0, 5.0, 7.0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["moabb:BNCI2014_01"], "moabb has no data set 'BNCI2014_01'. Did you mean 'BNCI2014_001'"),
        (["moabb:BNCI2014_001", "subjects=[7]"], "BNCI2014_001 has no subject '7'"),
        (["moabb:BNCI2014_001", "options.colour=red"], "BNCI2014_001 cannot be made with these options"),
        (["moabb:"], "moabb: names no data set: moabb:NAME, as moabb:BNCI2014_001"),
        (["openneuro:ds1"], "openneuro:ds1: a data set is "),
        (["train-k3f9", "-o", "x"], "--output is for a data set"),
    ],
)
def test_what_cannot_be_fetched_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    (tmp_path / "moabb").mkdir()
    (tmp_path / "moabb/__init__.py").touch()
    (tmp_path / "moabb/datasets.py").write_text(MOABB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for module in ("moabb", "moabb.datasets"):
        monkeypatch.setitem(sys.modules, module, sys)  # which puts back what there was, also nothing
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        runs.fetch_runs(options.read(["fetch", *words]), {})
    assert os.listdir(tmp_path) == ["moabb"]


def test_it_is_refused_in_a_job_and_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    args = options.read(["fetch", "eegdash:ds1"])
    with pytest.raises(ConfigError, match="is for a login node, and this is job 4711"):
        runs.fetch_runs(args, {"SLURM_JOB_ID": "4711"})

    def absent(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(sources, "import_module", absent)
    with pytest.raises(ConfigError, match="eegdash is not installed, .*: pip install eegdash"):
        runs.fetch_runs(args, {})


def test_the_help_of_fetch_names_both_ways(launch: Launch) -> None:
    assert "moabb:BNCI2014_001" in launch("fetch", "--help").stdout


def test_all_sources_are_entry_points() -> None:
    from eegdecode.exchange.fetch import EXAMPLES
    from eegdecode.exchange.sources import PACKAGES, SOURCES
    from hpc.config import plugins

    assert {*plugins.points("hpc.sources")} - {"hf"} == {*SOURCES} == {*EXAMPLES} == {*PACKAGES}
