"""One tiny study and its store, made once a session by the very stages a user runs."""

from pathlib import Path

import pytest

from eegdecode.data import Envelope, Music, raw, recordings, store, synth, targets
from eegdecode.data.stored import Store
from eegdecode.preprocessing import Bandpass, Notch, Reference, Resample, Scale, steps
from hpc.context import Context, World
from hpc.rundir import RunDir

TINY = Music(n_subjects=2, n_pieces=4, piece_s=(5.0, 7.0), n_channels=8, response_uv=3.0)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS folder: sub-01 as EDF, sub-02 as BrainVision, four pieces each."""
    ctx = Context(World(), RunDir(tmp_path_factory.mktemp("runs") / "study"))
    synth.make_study(TINY, ctx)
    return ctx.out


@pytest.fixture(scope="session")
def tiny_store(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """That study, preprocessed at 64 Hz with its envelope."""
    folder = tmp_path_factory.mktemp("store")
    entries = recordings.find(study)
    store.write_manifest(folder, [entry.name for entry in entries])
    for entry in entries:
        trials = recordings.trials_from_events(study, entry)
        signal = steps.apply((Reference(), Notch(), Bandpass(), Resample(), Scale()), raw.read(entry.path).stream())
        envelope = targets.stream(Envelope(), trials, study, signal.duration)
        store.write(folder, entry.recording(signal, trials, {"envelope": envelope.stream()}))
    return store.open_store(folder)
