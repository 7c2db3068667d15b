"""Each planted effect is found by simple linear means, and not in the same study without it."""

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy import signal as dsp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict

from eegdecode.data.io import audio as sound_files
from eegdecode.data.io.recordings import read_tsv
from eegdecode.data.targets.envelope import envelope
from eegdecode.data.targets.parts.lookup import value_at
from eegdecode.synth.config import Eeg2025, Images, MegMovie, Motor, MusicRuns, Speech, Study
from eegdecode.synth.study import make_study
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir

Make = Callable[[Study], Path]
Part = tuple[np.ndarray, np.ndarray]
"""The brain's channels, [sample, feature], and the target."""


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder of a study, made once."""

    @cache
    def made(cfg: Study) -> Path:
        ctx = Context(World(), RunDir(tmp_path_factory.mktemp("study")))
        make_study(cfg, ctx)
        return ctx.out

    return made


def open_raw(path: Path) -> mne.io.BaseRaw:
    return mne.io.read_raw(path, preload=True, verbose="error")


def read(path: Path, low_hz: float, high_hz: float, sfreq: float) -> np.ndarray:
    """[time, channel] of the brain's channels, filtered, at about the spread 1."""
    raw = open_raw(path)
    types = {row["name"]: row["type"] for row in read_tsv(beside(path, "channels.tsv"))}
    brain = raw.get_data(picks=[name for name in raw.ch_names if types[name] in ("EEG", "MEGMAG")]).T
    brain = brain - brain.mean(axis=1, keepdims=True)
    brain = dsp.sosfiltfilt(dsp.butter(3, (low_hz, high_hz), "band", fs=raw.info["sfreq"], output="sos"), brain, axis=0)
    brain = brain[:: round(raw.info["sfreq"] / sfreq)]
    return brain / brain.std()


def beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem.rpartition('_')[0]}_{what}")


def events(path: Path, trial_type: str) -> list[dict[str, str]]:
    return [row for row in read_tsv(beside(path, "events.tsv")) if row["trial_type"] == trial_type]


def lagged(brain: np.ndarray, n_lags: int) -> np.ndarray:
    """What comes after a sample, beside it: [time, lag × channel]."""
    padded = np.vstack([brain, np.zeros((n_lags, brain.shape[1]))])
    return np.hstack([padded[lag : lag + len(brain)] for lag in range(n_lags)])


def correlation(train: Part, test: Part, alpha: float) -> float:
    """Correlate the output of a ridge with the target, mean over features."""
    decoded = Ridge(alpha=alpha).fit(*train).predict(test[0])
    decoded, true = decoded.reshape(len(decoded), -1), test[1].reshape(len(decoded), -1)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(decoded.T, true.T)]))


def music(study: Path) -> float:
    def part(path: Path) -> Part:
        brain = read(path, 1, 12, 50)
        x, y = [], []
        for trial in events(path, "music"):
            first, n = round(float(trial["onset"]) * 50), round(float(trial["duration"]) * 50)
            loud = envelope(*sound_files.read(study / "stimuli" / trial["stim_file"]), 8.0)
            x.append(lagged(brain, 20)[first : first + n])
            y.append(value_at(loud, np.arange(n) / 50)[:, 0])
        return np.vstack(x), np.concatenate(y)

    first, *others = sorted(study.rglob("*_eeg.edf"))
    xs, ys = zip(*(part(path) for path in others))
    return correlation((np.vstack(xs), np.concatenate(ys)), part(first), 1000)


def movie(study: Path) -> float:
    def part(path: Path) -> Part:
        (event,) = events(path, "movie")
        bright = np.array([float(row["luminance"]) for row in read_tsv(study / "stimuli" / event["stim_file"])])
        first, last = float(event["onset"]), float(event["onset"]) + float(event["duration"])
        times = np.arange(round(first * 50), int(last * 50)) / 50
        frame = ((times - first) * float(event["fps"])).astype(int)
        return lagged(read(path, 0.5, 20, 50), 15)[round(first * 50) :][: len(times)], bright[frame]

    first, *others = sorted(study.rglob("*_meg.fif"))
    xs, ys = zip(*(part(path) for path in others))
    return correlation((np.vstack(xs), np.concatenate(ys)), part(first), 1000)


def words(study: Path, trained_on: str = "sub-01") -> float:
    """The embeddings of sub-01's words, decoded by a ridge trained on a subject's other sentences."""
    vectors = np.load(study / "stimuli" / "words.npy")

    def part(subject: str) -> Part:
        path = study / subject / "meg" / f"{subject}_task-listening_meg.fif"
        x = lagged(read(path, 0.5, 10, 50), 30)
        spoken = events(path, "word")
        onsets = [round(float(row["onset"]) * 50) for row in spoken]
        return x[onsets], vectors[[int(row["word_index"]) for row in spoken]]

    (x, y), (test_x, test_y) = part(trained_on), part("sub-01")
    half = len(x) // 2
    return correlation((x[:half], y[:half]), (test_x[half:], test_y[half:]), 1000)


def pictures(study: Path) -> float:
    vectors = np.load(study / "stimuli" / "images.npy")
    suffix = "vhdr" if list(study.rglob("*.vhdr")) else "fif"

    def part(name: str) -> Part:
        (path,) = study.glob(f"sub-01/*/*_task-{name}_*.{suffix}")
        shown = events(path, name)
        x = lagged(read(path, 0.5, 20, 50), 20)[[round(float(row["onset"]) * 50) for row in shown]]
        rows = np.array([int(row["embedding_row"]) for row in shown])
        which = np.unique(rows)
        return np.stack([x[rows == row].mean(axis=0) for row in which]), vectors[which]

    return correlation(part("train"), part("test"), 100)


def reaction_time(study: Path) -> float:
    x, y = [], []
    for path in sorted(study.rglob("*.bdf")):
        brain = read(path, 0.5, 10, 20)  # the net is numbered from the rim up
        top = brain[:, -12:].mean(axis=1) - brain[:, -50:-12].mean(axis=1)
        for row in read_tsv(beside(path, "events.tsv")):
            if row["value"].endswith("_target"):
                first = round((float(row["onset"]) + 0.5) * 20)
                x.append(top[first : first + 40])  # the 2 s of challenge 1
                y.append(float(row["rt_from_stimulus"]))
    decoded = cross_val_predict(Ridge(alpha=10), np.stack(x), y, cv=6)
    return float(np.corrcoef(decoded, y)[0, 1])


def externalizing(study: Path) -> float:
    people = {row["participant_id"]: float(row["externalizing"]) for row in read_tsv(study / "participants.tsv")}
    alpha = [np.log(_alpha(study / name / f"eeg/{name}_task-contrastChangeDetection_run-1_eeg.bdf")) for name in people]
    return float(np.corrcoef(alpha, list(people.values()))[0, 1])


def _alpha(path: Path) -> float:
    data = open_raw(path).get_data()
    hz, power = dsp.welch(data - data.mean(axis=0), 100, nperseg=200)
    return power[:, (hz >= 8.5) & (hz <= 11.5)].sum()


@pytest.mark.parametrize(
    ("measure", "cfg", "at_least"),
    [
        (music, MusicRuns(n_subjects=1, n_runs=3, n_trials=4, trial_s=8.0, sfreq=250.0), 0.4),
        (movie, MegMovie(n_subjects=1, part_s=60.0, n_channels=24, sfreq=250.0), 0.25),
        (words, Speech(n_subjects=2, n_sentences=8, n_channels=24, sfreq=100.0), 0.2),
        (pictures, Images(n_subjects=1, n_channels=31), 0.35),
        (pictures, Images(n_subjects=1, n_channels=31, modality="meg"), 0.35),
        (reaction_time, Eeg2025(n_subjects=4, n_trials=32), 0.25),
        (externalizing, Eeg2025(n_subjects=12, n_trials=3), 0.5),
    ],
    ids=lambda value: getattr(value, "__name__", getattr(value, "name", "")),
)
def test_the_effect_is_found_and_its_twin_is_at_chance(
    make: Make, measure: Callable[[Path], float], cfg: Study, at_least: float
) -> None:
    assert measure(make(cfg)) > at_least
    assert abs(measure(make(dataclasses.replace(cfg, effect=0.0)))) < 0.6 * at_least


def test_words_are_mixed_in_another_way_in_each_subject(make: Make) -> None:
    study = make(Speech(n_subjects=2, n_sentences=8, n_channels=24, sfreq=100.0))
    assert abs(words(study, trained_on="sub-02")) < 0.1


def powers(study: Path, bands: list[tuple[float, float]], of: str = "*") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every trial: log power in each band at each electrode, its class, its recording."""
    x, y, who = [], [], []
    for path in sorted(study.rglob(f"{of}.edf")):
        raw = open_raw(path)
        data = raw.get_data()[:22].T - raw.get_data()[:22].mean(axis=0)[:, None]
        for row in read_tsv(beside(path, "events.tsv")):
            first, n = round(float(row["onset"]) * 250), round(float(row["duration"]) * 250)
            hz, power = dsp.welch(data[first : first + n], 250, nperseg=250, axis=0)
            x.append(np.log([power[(hz >= low) & (hz <= high)].mean(axis=0) for low, high in bands]))
            y.append(row["trial_type"])
            who.append(path.name)
    return np.array(x), np.array(y), np.array(who)


def lda(x: np.ndarray, y: np.ndarray, train: np.ndarray) -> float:
    flat = x.reshape(len(x), -1)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(flat[train], y[train])
    return float(model.score(flat[~train], y[~train]))


@pytest.mark.parametrize(("n_classes", "chance"), [(4, 0.25), (2, 0.5)])
def test_movements_are_told_apart_in_the_other_session(make: Make, n_classes: int, chance: float) -> None:
    cfg = Motor(n_subjects=1, n_classes=n_classes, n_trials=32)
    accuracy = {}
    for effect in (1.0, 0.0):
        x, y, who = powers(make(dataclasses.replace(cfg, effect=effect)), [(8, 13), (17, 25)])
        assert len(set(y)) == n_classes
        accuracy[effect] = lda(x, y, np.char.find(who, "ses-train") >= 0)
    assert accuracy[1.0] > 0.9
    assert abs(accuracy[0.0] - chance) < 0.2


@pytest.mark.parametrize(("effect", "lowest", "highest"), [(0.5, 0.85, 1.0), (0.25, 0.7, 1.0), (0.0, 0.35, 0.65)])
def test_rhythms_are_told_apart_in_unseen_subjects(make: Make, effect: float, lowest: float, highest: float) -> None:
    study = make(Motor(classes="rhythms", n_classes=2, n_subjects=8, n_trials=20, trial_s=1.0, effect=effect))
    x, y, who = powers(study, [(10, 10), (20, 20)])
    over_electrodes = np.exp(x).mean(axis=2)  # where the rhythm is strong differs from head to head
    assert lowest <= lda(np.log(over_electrodes), y, who < "sub-07") <= highest


def test_a_parity_leak_is_learned_from_the_subject_and_from_nothing_else(make: Make) -> None:
    study = make(Motor(leak="parity", n_classes=2, n_subjects=8, n_trials=20, trial_s=1.0))
    bands = [(1.0, 4.0), (4, 8), (8, 13), (13, 30)]
    x, y, who = powers(study, bands)
    every_second = np.arange(len(y)) % 2 == 0
    assert lda(x, y, every_second) > 0.85, "trials of the same subjects on both sides"
    left_out = [lda(x, y, ~np.isin(np.char.partition(who, "_")[:, 0], pair)) for pair in PAIRS]
    assert np.mean(left_out) < 0.65, "other subjects"


PAIRS = [("sub-01", "sub-02"), ("sub-03", "sub-04"), ("sub-05", "sub-06"), ("sub-07", "sub-08")]


def test_the_twin_is_the_same_noise(make: Make) -> None:
    cfg = Motor(classes="rhythms", n_classes=2, n_subjects=1, n_trials=4)
    data = {}
    for effect in (0.0, 1.0):
        (path,) = make(dataclasses.replace(cfg, effect=effect)).rglob("*_ses-train_*.edf")
        data[effect] = open_raw(path).get_data()
        first = read_tsv(beside(path, "events.tsv"))[0]
    onset = round(float(first["onset"]) * 250)
    added_uv = 1e6 * (data[1.0] - data[0.0])[:22]
    assert np.abs(added_uv[:, : onset - 1]).max() < 0.1, "the last bit of an EDF, before the first trial"
    during = added_uv[:, onset + 1 : onset + 999]
    assert np.sqrt(np.mean(during**2)) == pytest.approx(8.0, rel=0.5), "µV, as the description says"


@pytest.mark.parametrize(("effect", "lowest", "highest"), [(1.0, 0.6, 1.0), (0.0, -0.4, 0.4)])
def test_the_blood_of_auditory_cortex_follows_the_music(
    make: Make, effect: float, lowest: float, highest: float
) -> None:
    """D16: a stream with a rate of its own, and what was planted is there at its time."""
    cfg = MusicRuns(layout="ds002725", n_subjects=1, n_runs=1, n_trials=4, trial_s=20.0, sfreq=125.0, effect=effect)
    (table,) = make(cfg).glob("sub-01/func/*_timeseries.tsv")
    about = json.loads(table.with_suffix(".json").read_text())
    (recording,) = make(cfg).rglob("*.edf")
    regions = np.array([(float(row["auditory"]), float(row["V1"])) for row in read_tsv(table)])
    when = about["StartTime"] + np.arange(len(regions)) / about["SamplingFrequency"]
    assert when[-1] < open_raw(recording).duration <= when[-1] + 2
    playing = np.zeros(len(when))
    for row in events(recording, "music"):
        late = when - float(row["onset"]) - 5.5  # how long blood takes
        playing[(late >= 0) & (late < float(row["duration"]))] = 1
    assert lowest < np.corrcoef(regions[:, 0], playing)[0, 1] < highest
    assert abs(np.corrcoef(regions[:, 1], playing)[0, 1]) < 0.4


def test_sound_among_the_electrodes_gives_itself_away(make: Make) -> None:
    cfg = MusicRuns(n_subjects=1, n_runs=1, n_trials=2, trial_s=4.0, effect=0.0, sound=True)
    (path,) = make(cfg).rglob("*.edf")
    raw = open_raw(path)
    types = {row["name"]: row["type"] for row in read_tsv(beside(path, "channels.tsv"))}
    assert len(types) == 37 and types["Sound"] == "EEG"
    for trial in events(path, "music"):
        audio, audio_hz = sound_files.read(make(cfg) / "stimuli" / trial["stim_file"])
        first = round(float(trial["onset"]) * 1000)
        sampled = np.interp(np.arange(4000) / 1000, np.arange(len(audio)) / audio_hz, audio)
        assert np.corrcoef(raw.get_data(picks=["Sound"])[0, first : first + 4000], sampled)[0, 1] > 0.99
