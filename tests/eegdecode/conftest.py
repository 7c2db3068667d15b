"""One tiny study and its store, made once a session by the very stages a user runs."""

from pathlib import Path

import pytest

from eegdecode import stages
from eegdecode.data.store import store
from eegdecode.data.store.dataset import Store
from eegdecode.preprocessing.config import Preprocess
from eegdecode.synth.config import Music
from eegdecode.synth.study import make_study
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir

TINY = Music(n_subjects=2, n_pieces=4, piece_s=(5.0, 7.0), n_channels=8, response_uv=3.0)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS folder: sub-01 as EDF, sub-02 as BrainVision, four pieces each."""
    ctx = Context(World(), RunDir(tmp_path_factory.mktemp("runs") / "study"))
    make_study(TINY, ctx)
    return ctx.out


@pytest.fixture(scope="session")
def tiny_store(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """That study, preprocessed at 64 Hz with its envelope."""
    ctx = Context(World(), RunDir(tmp_path_factory.mktemp("store") / "run"))
    stages.preprocess(Preprocess(Input(str(study))), ctx)
    return store.open_store(ctx.out)
