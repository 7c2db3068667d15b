"""Bad spans, from annotations and from the step reject: their trials are dropped or cut, with reasons, and no window
reads of them."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from eegdecode import stages
from eegdecode.data.config import AnnotationEvents, EpochWindows, GridWindows, Split
from eegdecode.data.events import bad_spans
from eegdecode.data.io.readers.opened import Annotation
from eegdecode.data.split import splits
from eegdecode.data.store import store
from eegdecode.data.targets.label import Label
from eegdecode.preprocessing import chains, record
from eegdecode.preprocessing.artefacts import muscle
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps import bandpass
from eegdecode.preprocessing.steps.reject import Reject
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.signals import BadSpan, Sensor, Signal, Stream, Trial
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir

SFREQ = 100.0
CHANNELS = ("C3", "C4", "Cz")


def write(path: Path, bad: Sequence[tuple[float, float, str]], seed: int = 0, n_trials: int = 6) -> None:
    """A trial `go` of 4 s every 5 s from 1 s on, and annotations beside them."""
    noise = 5e-6 * np.random.default_rng(seed).normal(size=(3, round(SFREQ * (5 * n_trials + 2))))
    raw = mne.io.RawArray(noise, mne.create_info(list(CHANNELS), SFREQ, "eeg"), verbose="error")
    marks = [(1.0 + 5 * k, 4.0, "go" if k % 2 else "stop") for k in range(n_trials)] + list(bad)
    onsets, durations, texts = zip(*marks, strict=True)
    raw.set_annotations(mne.Annotations(onsets, durations, texts))
    raw.save(path, verbose="error")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The second trial of s1 has half a bad second in it, and a bad span ends just before its fourth."""
    folder = tmp_path / "study"
    folder.mkdir()
    write(folder / "s1_raw.fif", [(7.0, 0.5, "BAD_movement"), (15.2, 0.6, "bad muscle")])
    write(folder / "s2_raw.fif", [], seed=1)
    write(folder / "s3_raw.fif", [], seed=2)
    return folder


def preprocess(study: Path, run: Path, **settings: Any) -> tuple[Path, dict[str, object]]:
    words: dict[str, Any] = {
        "files": "{subject}_raw.fif",
        "events": AnnotationEvents(stimuli={"go": "go", "stop": "stop"}),
        "targets": (Label(),),
        "steps": (Scale(),),
    }
    ctx = Context(World(), RunDir(run))
    metrics = stages.preprocess(Preprocess(Input(str(study)), **words | settings), ctx)
    return ctx.out, metrics


def starts(out: Path, recording: int = 0) -> list[float]:
    return [trial.start for trial in store.open_store(out).recordings[recording].trials]


def test_a_trial_with_a_bad_annotation_is_dropped_and_the_record_says_why(study: Path, tmp_path: Path) -> None:
    out, metrics = preprocess(study, tmp_path / "run")
    assert starts(out) == [1, 11, 16, 21, 26] and starts(out, 1) == [1, 6, 11, 16, 21, 26]
    assert metrics["dropped_trials"] == 1
    of_s1 = json.loads(record.file(out, "sub-s1").read_text())
    assert of_s1["trials"] == [
        {
            "start": 6.0, "duration": 4.0, "stimulus": "go", "decision": "dropped", "pieces": 0,
            "reasons": [{"reason": "BAD_movement", "detail": ""}],
        }
    ]  # fmt: skip
    assert of_s1["counts"]["dropped_by_reason"] == {"BAD_movement": 1} and of_s1["counts"]["bad_s"] == 1.1
    assert json.loads(record.file(out, "sub-s2").read_text())["counts"]["dropped_trials"] == 0


def test_masked_the_rests_of_a_trial_are_trials_of_pieces_of_its_stimulus(study: Path, tmp_path: Path) -> None:
    out, metrics = preprocess(study, tmp_path / "run", bad_spans="mask", shortest_s=1.0)
    trials = store.open_store(out).recordings[0].trials
    assert [(t.start, t.duration, t.stimulus) for t in trials[1:3]] == [
        (6.0, 1.0, "go#t=0,1"), (7.5, 2.5, "go#t=1.5,4"),
    ]  # fmt: skip
    assert (metrics["dropped_trials"], metrics["cut_trials"]) == (0, 1)
    store_of = store.open_store(out)
    assert store_of.recordings[0].values("stimulus")[:3].ravel().tolist() == [1, 0, 0]  # the class of the whole


def test_ignored_all_trials_stay(study: Path, tmp_path: Path) -> None:
    out, metrics = preprocess(study, tmp_path / "run", bad_spans="ignore")
    assert len(starts(out)) == 6 and metrics["dropped_trials"] == 0
    assert store.open_store(out).recordings[0].bad_spans == ()


@pytest.mark.parametrize("how", ["reject", "mask"])
def test_no_epoch_reads_of_a_bad_span_or_begins_behind_one(how: str, study: Path, tmp_path: Path) -> None:
    """One second before the trial at 16 s there is a bad span, which other windows do not reach."""
    out, _ = preprocess(study, tmp_path / "run", bad_spans=how, shortest_s=1.0)
    recordings = store.open_store(out).recordings
    by_trial = Split(by="trial", shared=("subject", "stimulus"))
    early = splits.split(by_trial, recordings, EpochWindows(tmin_s=-1.0, tmax_s=0.5))
    used = {s.trial.start for s in (*early.train, *early.val, *early.test) if s.recording == 0}
    assert used == ({1, 6, 11, 21, 26} if how == "mask" else {1, 11, 21, 26})
    assert early.n_bad == (2 if how == "mask" else 1)
    assert f"{early.n_bad} trials were left out, as their windows reach into bad spans." in early.audit()
    grid = splits.split(by_trial, recordings, GridWindows(length_s=1.0))
    assert grid.n_bad == 0 and 16 in {s.trial.start for s in (*grid.train, *grid.val, *grid.test) if s.recording == 0}


def test_a_record_that_is_gone_or_damaged_is_made_again(study: Path, tmp_path: Path) -> None:
    out, _ = preprocess(study, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in out.glob("*.decisions.json")}
    assert len(before) == 3
    record.file(out, "sub-s1").unlink()
    record.file(out, "sub-s2").write_text("{}")
    preprocess(study, tmp_path / "run")
    assert {path.name: path.read_bytes() for path in out.glob("*.decisions.json")} == before


def test_where_all_trials_are_bad_one_sentence_names_the_setting(study: Path, tmp_path: Path) -> None:
    write(study / "s4_raw.fif", [(0.0, 30.0, "BAD_all")])
    with pytest.raises(ValueError, match=r"all 6 trials were dropped \(6 × BAD_all\): set preprocess.bad_spans=mask"):
        preprocess(study, tmp_path / "run")
    with pytest.raises(
        ValueError, match="all 6 trials were dropped .* lower preprocess.shortest_s, as all that is left"
    ):
        preprocess(study, tmp_path / "masked", bad_spans="mask")
    with pytest.raises(ValueError, match="all 6 trials were dropped .* put it after the filters and before scale"):
        preprocess(study, tmp_path / "scaled", exclude=("sub-s4",), steps=(Scale(), Reject()))


def test_rows_of_a_table_are_bad_spans_too_and_no_trials() -> None:
    rows = [
        {"onset": "1", "duration": "2", "trial_type": "go"},
        {"onset": "3", "duration": "0.5", "trial_type": "BAD_jump"},
        {"onset": "9", "duration": "n/a", "trial_type": "n/a", "value": "Bad moment"},
    ]
    marks = [Annotation(3.0, 0.5, "BAD_jump"), Annotation(5.0, 1.0, "badly"), Annotation(6.0, 1.0, "go")]
    assert bad_spans.annotated(marks, rows) == (
        BadSpan(3.0, 3.5, "BAD_jump"), BadSpan(5.0, 6.0, "badly"), BadSpan(9.0, 9.0, "Bad moment"),
    )  # fmt: skip
    assert bad_spans.others(rows) == rows[:1]
    with pytest.raises(ValueError, match="marks BAD_jump at onset 'n/a', which is no number"):
        bad_spans.annotated((), [{"onset": "n/a", "trial_type": "BAD_jump"}])


def test_the_choice_of_trials_is_that_of_mne(study: Path) -> None:
    raw = mne.io.read_raw(study / "s1_raw.fif", verbose="error")
    events = mne.events_from_annotations(raw, {"go": 1, "stop": 2}, verbose="error")[0]
    epochs = mne.Epochs(raw, events, tmin=0, tmax=4, baseline=None, preload=True, verbose="error")
    mine, _ = bad_spans.applied(
        "reject",
        [Trial(onset / SFREQ, 4.0, "x") for onset in events[:, 0].tolist()],
        bad_spans.annotated([Annotation(a["onset"], a["duration"], a["description"]) for a in raw.annotations], None),
    )
    assert [round(trial.start * SFREQ) for trial in mine] == epochs.events[:, 0].tolist()


# ---- the step reject


def noisy(n_s: float = 20.0, sfreq: float = SFREQ) -> Signal:
    data = 5e-6 * np.random.default_rng(0).normal(size=(round(n_s * sfreq), 3))
    return Signal(data.astype(np.float32), sfreq, CHANNELS, dict.fromkeys(CHANNELS, Sensor("eeg")))


TRIALS = tuple(Trial(2.0 * k, 2.0, f"t{k}") for k in range(10))


def rejected(cfg: Reject, stream: Stream) -> dict[float, tuple[str, str]]:
    after = chains.apply([cfg], stream, trials=TRIALS)
    np.testing.assert_array_equal(after.signal().data, stream.signal().data)
    return {span.start: (span.reason, span.detail) for span in after.decisions.spans}


def test_trials_too_large_or_flat_are_marked_with_channel_and_numbers() -> None:
    signal = noisy()
    signal.data[450, 1] += 300e-6
    signal.data[1200:1400, 2] = 1e-6
    why = rejected(Reject(), signal.stream())
    assert list(why) == [4.0, 12.0]
    assert why[4.0][0] == "amplitude" and re.fullmatch(
        r"C4 with 3\d\d(\.\d)? µV peak to peak, above 150 µV", why[4.0][1]
    )
    assert why[12.0] == ("flat", "Cz with 0 µV peak to peak, below 1 µV")
    of_mne = mne.EpochsArray(
        signal.data.reshape(10, 200, 3).transpose(0, 2, 1).astype(float), mne.create_info(3, SFREQ, "eeg"),
        reject={"eeg": 150e-6}, flat={"eeg": 1e-6}, verbose="error",
    )  # fmt: skip
    assert [k for k, entry in enumerate(of_mne.drop_log) if entry] == [2, 6]


def test_a_channel_that_is_marked_bad_rejects_no_trial() -> None:
    signal = noisy()
    signal.data[:, 1] = 0
    assert len(rejected(Reject(), signal.stream())) == 10
    assert rejected(Reject(), replace(signal.stream(), bads=("C4",))) == {}


def test_muscle_activity_is_that_of_mne() -> None:
    sfreq = 500.0
    signal = noisy(sfreq=sfreq)
    burst = np.random.default_rng(1).normal(size=(250, 3))
    signal.data[2500:2750] += (20e-6 * burst).astype(np.float32)
    why = rejected(Reject(muscle_z=4.0), signal.stream())
    assert list(why) == [4.0] and why[4.0][1].startswith("muscle activity with z = ")
    raw = mne.io.RawArray(signal.data.T.astype(float), mne.create_info(list(CHANNELS), sfreq, "eeg"), verbose="error")
    spans, of_mne = mne.preprocessing.annotate_muscle_zscore(raw, threshold=4, ch_type="eeg", verbose="error")
    assert np.all((spans.onset > 4.8) & (spans.onset < 5.6))
    mine = muscle.scores(
        signal.stream(),
        list(CHANNELS),
        lambda low, high: bandpass.as_filter(bandpass.Bandpass(low_hz=low, high_hz=high), sfreq),
    )
    theirs = of_mne[: len(mine.z) * 50].reshape(-1, 50).mean(axis=1)
    assert np.corrcoef(mine.z[2:-2], theirs[2:-2])[0, 1] > 0.95


def test_blocks_are_marked_instead_of_trials_and_memory_holds_one_block() -> None:
    signal = noisy()
    signal.data[450, 1] += 300e-6
    reads: list[int] = []

    def read(first: int, stop: int) -> np.ndarray:
        reads.append(stop - first)
        return signal.data[first:stop]

    after = chains.apply([Reject(block_s=0.5)], replace(signal.stream(), read=read), trials=TRIALS)
    assert [(span.start, span.stop) for span in after.decisions.spans] == [(4.5, 5.0)]
    assert max(reads) == 50


def test_autoreject_takes_the_same_thresholds_each_time() -> None:
    pytest.importorskip("autoreject")
    signal = noisy()
    signal.data[450, 1] += 300e-6
    cfg = Reject(reject={}, flat={}, autoreject=True, seed=3)
    why = rejected(cfg, signal.stream())
    assert 4.0 in why and why == rejected(cfg, signal.stream())


def test_without_autoreject_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "autoreject", None)
    with pytest.raises(
        ValueError, match="needs the package autoreject, which is not installed: pip install autoreject"
    ):
        rejected(Reject(autoreject=True), noisy().stream())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"reject": {"meg": 1.0}}, "reject takes kinds among eeg, mag"),
        ({"reject": {"eeg": -1.0}}, "amplitudes above 0, as {eeg: 150e-6}, but got eeg: -1"),
        ({"reject": {"eeg": 1e-7}}, "flat is below reject, but for eeg they are 1e-06 and 1e-07"),
        ({"reject": {}, "flat": {}}, "reject has no criterion"),
        ({"muscle_z": -1.0}, "muscle_z is above 0, or 0 for none, and block_s too, got -1 and 0"),
    ],
)
def test_a_reject_that_makes_no_sense_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reject(**words)


def test_what_the_recording_cannot_give_is_refused() -> None:
    with pytest.raises(ValueError, match="muscle_z looks at 110 to 140 Hz and needs more than 280 Hz, .* 100 Hz"):
        rejected(Reject(muscle_z=4.0), noisy().stream())
    with pytest.raises(ValueError, match="reject has limits for mag, and this recording has eeg: set reject for these"):
        rejected(Reject(reject={"mag": 4e-12}, flat={}), noisy().stream())
