"""The synthetic music study: real files, the same bytes each time, and a response where it was planted."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy import signal as dsp

from eegdecode.data import targets
from eegdecode.data.config import BidsEvents
from eegdecode.data.events import events
from eegdecode.data.io import audio as sound_files
from eegdecode.data.io import recordings
from eegdecode.data.io.recordings import Entry
from eegdecode.data.targets.envelope import Envelope, envelope
from eegdecode.preprocessing import chains
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.preprocessing.steps.reference import Reference
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.signals import Stream, Trial
from eegdecode.synth.config import Music
from eegdecode.synth.study import make_study
from hpc.rank.context import Context, Preempted, World
from hpc.runs.rundir import RunDir

SMALL = Music(n_subjects=3, n_pieces=2, piece_s=(2.0, 3.0), n_channels=4)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def trials(study: Path, entry: Entry) -> tuple[Trial, ...]:
    return events.trials(BidsEvents(), entry.events(), recordings.open_entry(entry).stream, (), study).trials


def make(cfg: Music, run: Path, world: World = World()) -> dict[str, bytes]:  # noqa: B008 (frozen)
    ctx = Context(world, RunDir(run))
    make_study(cfg, ctx)
    return files(ctx.out)


def test_same_seed_same_bytes_whatever_the_number_of_ranks(tmp_path: Path) -> None:
    alone = make(SMALL, tmp_path / "alone")
    make(SMALL, tmp_path / "shared", World(1, 2))
    assert make(SMALL, tmp_path / "shared", World(0, 2)) == alone


def test_another_seed_is_another_study(tmp_path: Path) -> None:
    one, other = make(SMALL, tmp_path / "one"), make(Music(**vars(SMALL) | {"seed": 1}), tmp_path / "other")
    recording = "sub-01/eeg/sub-01_task-music_run-01_eeg.edf"
    assert one.keys() == other.keys()
    assert one[recording] != other[recording] and one["stimuli/piece-01.wav"] != other["stimuli/piece-01.wav"]


def test_interrupted_and_run_again_equals_uninterrupted(tmp_path: Path) -> None:
    asked = iter([False, True])
    ctx = Context(World(), RunDir(tmp_path / "twice"), should_stop=lambda: next(asked))
    with pytest.raises(Preempted):
        make_study(SMALL, ctx)
    first = ctx.out / "sub-01/eeg/sub-01_task-music_run-01_eeg.edf"
    written = first.stat().st_mtime_ns
    assert len(recordings.find(ctx.out)) == 1
    assert make(SMALL, tmp_path / "twice") == make(SMALL, tmp_path / "once")
    assert first.stat().st_mtime_ns == written, "a finished recording is kept, not written again"


def test_the_tree_is_bids(study: Path) -> None:
    assert json.loads((study / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"] == "eegdecode.synth"
    assert [row["participant_id"] for row in recordings.read_tsv(study / "participants.tsv")] == ["sub-01", "sub-02"]
    assert [entry.path.suffix for entry in recordings.find(study)] == [".edf", ".vhdr"]
    for entry in recordings.find(study):
        types = [row["type"] for row in recordings.read_tsv(recordings.sidecar(entry.path, "channels.tsv"))]
        about = json.loads(recordings.sidecar(entry.path, "eeg.json").read_text())
        assert types == ["EEG"] * 8 + ["VEOG", "RESP"]
        assert (about["EEGChannelCount"], about["SamplingFrequency"], about["PowerLineFrequency"]) == (8, 250.0, 50.0)
        assert about["RecordingDuration"] == recordings.open_entry(entry).stream.duration


def test_every_subject_hears_every_piece_once_in_an_own_order(study: Path) -> None:
    orders = [[trial.stimulus for trial in trials(study, entry)] for entry in recordings.find(study)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == [f"piece-{number:02d}.wav" for number in (1, 2, 3, 4)]


def test_pieces_have_unlike_lengths_and_change_at_the_rates_cortex_follows(study: Path) -> None:
    pieces = [sound_files.read(path) for path in sorted((study / "stimuli").iterdir())]
    lengths = [len(audio) / hz for audio, hz in pieces]
    assert len(set(lengths)) == 4 and min(lengths) >= 5 and max(lengths) <= 7
    for audio, audio_hz in pieces:
        assert 0.7 < np.abs(audio).max() < 0.85
        hz, power = dsp.welch(envelope(audio, audio_hz, 8.0).data[::125, 0], 64.0, nperseg=256)
        assert power[(hz > 0.5) & (hz < 8)].sum() > 0.8 * power[hz > 0.5].sum()
    with wave.open(str(study / "stimuli" / "piece-01.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)


def test_amplitudes_are_those_of_real_eeg(study: Path) -> None:
    for entry in recordings.find(study):
        microvolt = (
            1e6
            * chains.apply((Pick(), Bandpass(low_hz=1, high_hz=40)), recordings.open_entry(entry).stream).signal().data
        )
        assert 5 < np.median(microvolt.std(axis=0)) < 40
        frontal, central = np.abs(microvolt[:, 0]).max(), np.abs(microvolt[:, 6]).max()
        assert 60 < frontal < 600 and frontal > 1.5 * central, "blinks are large over the eyes, small at the vertex"


def test_mains_stand_out_where_they_were_put(study: Path) -> None:
    for entry in recordings.find(study):
        signal = chains.apply((Pick(),), recordings.open_entry(entry).stream).signal()
        hz, power = dsp.welch(signal.data, signal.sfreq, nperseg=500, axis=0)
        assert hz[(hz > 30) & (hz < 70)][power[(hz > 30) & (hz < 70)].mean(axis=1).argmax()] == 50.0


@pytest.mark.parametrize("lag_s", [0.05, 0.15, 0.3])
def test_the_answer_peaks_at_the_planted_lag(tmp_path: Path, lag_s: float) -> None:
    make(Music(n_subjects=1, n_pieces=2, piece_s=(10, 10), response_uv=200.0, lag_s=lag_s), tmp_path / "loud")
    (entry,) = recordings.find(tmp_path / "loud/out")
    chain = (Pick(), Reference(), Bandpass(high_hz=20), Resample())
    eeg = chains.apply(chain, recordings.open_entry(entry).stream).signal()
    target = targets.make(Envelope(), trials(tmp_path / "loud/out", entry), tmp_path / "loud/out", eeg.duration)
    assert isinstance(target, Stream)
    envelope = target.signal().data[:, 0]
    source = eeg.data @ np.linalg.svd(eeg.data, full_matrices=False)[2][0]
    change = np.gradient(envelope)
    # A step up in loudness gives the rising flank of the answer: their changes are most alike at the lag
    alike = [abs(np.corrcoef(change[: len(change) - k], np.gradient(source)[k:])[0, 1]) for k in range(40)]
    assert np.argmax(alike) / 64 == pytest.approx(lag_s, abs=0.025)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_subjects": 0}, "needs subjects and pieces, got 0 and 20"),
        ({"piece_s": (16.0, 10.0)}, r"\(shortest, longest\).* got \(16.0, 10.0\)"),
        ({"n_channels": 64}, "must be in 4–20.* got 64"),
        ({"sfreq": 100.0}, "at least 125.0 Hz, got 100.0"),
        ({"lag_s": 2.0}, "lag_s in 0–0.5 s, got .* and 2.0"),
    ],
)
def test_nonsense_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Music(**wrong)
