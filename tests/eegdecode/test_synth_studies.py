"""Each synthetic study has the files, channels, codes and pulses that it promises, and mne reads them."""

import dataclasses
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import mne
import numpy as np
import pytest

from eegdecode.data.io import audio as sound_files
from eegdecode.data.io.recordings import read_tsv
from eegdecode.signals import Sensor, Signal
from eegdecode.synth import head, movie
from eegdecode.synth.config import Eeg2025, Images, MegMovie, Motor, Music, MusicRuns, Speech, Study
from eegdecode.synth.fif import write_fif
from eegdecode.synth.formats import write_edf
from eegdecode.synth.study import PLANS, make_study
from hpc import config
from hpc.errors import ConfigError
from hpc.rank.context import Context, World
from hpc.runs.rundir import RunDir

CONFIGS = Path(__file__).parents[2] / "configs" / "synthesize"
TINY = {
    "music-runs": MusicRuns(n_runs=3, n_trials=2, trial_s=2.0),
    "meg-movie": MegMovie(n_subjects=1, part_s=20.0, n_channels=6),
    "speech": Speech(n_subjects=1, n_sentences=2, sentence_s=(3.0, 4.0), n_channels=6),
    "images": Images(n_subjects=1, n_train=12, n_test=3, n_repeats=4),
    "motor": Motor(n_subjects=2, n_trials=8, trial_s=1.0),
    "eeg2025": Eeg2025(n_subjects=2, n_trials=3),
}
Make = Callable[[Study], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder of a study, made once."""

    @cache
    def made(cfg: Study) -> Path:
        run = tmp_path_factory.mktemp("study")
        write(cfg, run)
        return run / "out"

    return made


def write(cfg: Study, run: Path, world: World = World()) -> dict[str, object]:  # noqa: B008 (frozen)
    return make_study(cfg, Context(world, RunDir(run)))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def recordings(study: Path) -> list[Path]:
    return sorted(path for path in study.rglob("*") if path.suffix in (".edf", ".bdf", ".vhdr", ".fif"))


def open_raw(path: Path) -> mne.io.BaseRaw:
    return mne.io.read_raw(path, preload=True, verbose="error")


def beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem.rpartition('_')[0]}_{what}")


def test_there_is_a_tiny_one_of_every_study() -> None:
    assert {"music", *TINY} == set(PLANS)


@pytest.mark.parametrize("cfg", TINY.values(), ids=TINY)
def test_same_knobs_same_bytes_whatever_the_number_of_ranks(cfg: Study, make: Make, tmp_path: Path) -> None:
    write(cfg, tmp_path, World(1, 2))
    counts = write(cfg, tmp_path, World(0, 2))
    assert files(tmp_path / "out") == files(make(cfg)) and counts["subjects"] == cfg.n_subjects


@pytest.mark.parametrize("cfg", TINY.values(), ids=TINY)
def test_what_stands_beside_a_recording_fits_it(cfg: Study, make: Make) -> None:
    study = make(cfg)
    assert "Planted" in (study / "README").read_text()
    for path in recordings(study):
        raw = open_raw(path)
        channels = read_tsv(beside(path, "channels.tsv"))
        about = json.loads(beside(path, f"{path.stem.rpartition('_')[2]}.json").read_text())
        assert [row["name"] for row in channels] == raw.ch_names
        assert about["SamplingFrequency"] == raw.info["sfreq"] == cfg.sfreq
        assert np.isfinite(raw.get_data()).all()
        for row in read_tsv(beside(path, "events.tsv")):
            assert 0 <= float(row["onset"]) <= float(row["onset"]) + float(row["duration"]) <= raw.duration
            if row.get("stim_file", "n/a") != "n/a":
                assert (study / "stimuli" / row["stim_file"]).is_file()


@pytest.mark.parametrize("cfg", TINY.values(), ids=TINY)
def test_the_description_says_how_much_is_planted_and_that_nothing_is(cfg: Study, make: Make) -> None:
    def said(study: Path) -> str:
        return json.loads((study / "dataset_description.json").read_text())["GeneratedBy"][0]["Description"]

    assert "effect=1.0" in said(make(cfg)) and "Made up, 0" not in said(make(cfg))
    twin = said(make(dataclasses.replace(cfg, effect=0.0)))
    assert re.search(r"Made up, (0 (µV|fT)|mu and beta 0 %)", twin) and "effect=0.0" in twin


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_example_of_a_study_names_it(file: Path) -> None:
    cfg = config.build(Study, config.load([file])["synthesize"], "synthesize")
    assert file.stem in (cfg.name, getattr(cfg, "layout", ""))


def test_music_is_made_where_no_study_is_named() -> None:
    assert config.build(Study, {"n_pieces": 3}, "synthesize") == Music(n_pieces=3)
    with pytest.raises(ConfigError, match="'motr' is not one of the choices. Did you mean 'motor'"):
        config.build(Study, {"name": "motr"}, "synthesize")


def test_two_music_studies_have_the_trials_and_hours_of_the_real_ones(tmp_path: Path) -> None:
    """D1: the events have 94 runs of 18 × 20 s and 96 runs of 18 × 40 s."""
    trials, n_bytes = [], 0
    for layout in ("ds002722", "ds002724"):
        cfg = config.build(Study, config.load([CONFIGS / f"{layout}.yaml"])["synthesize"], "synthesize")
        write(dataclasses.replace(cfg, sfreq=250.0), tmp_path / layout)
        runs = recordings(tmp_path / layout / "out")
        assert len(runs) == {"ds002722": 94, "ds002724": 96}[layout]
        n_bytes += sum(path.stat().st_size for path in runs)
        trials += [row for run in runs for row in read_tsv(beside(run, "events.tsv")) if row["trial_type"] == "music"]
    assert len(trials) == 3420
    assert sum(float(row["duration"]) for row in trials) / 3600 == pytest.approx(28.6, abs=0.1)
    assert (tmp_path / "ds002724/out/sub-08/ses-3/eeg/sub-08_ses-3_task-run1_eeg.edf").is_file()
    hollow = mne.io.read_raw(runs[-1], verbose="error")
    assert hollow.duration > 18 * 40 and np.ptp(hollow[:, 1000:1010][0]) == 0
    on_disk = sum(path.stat().st_blocks * 512 for path in runs)
    assert on_disk < n_bytes / 50, "zeros take no room"


def test_music_runs_have_the_channels_of_their_layout(make: Make) -> None:
    felt = ["GSR", "ECG", "VA1", "VA2", "VAtarg"]
    (first, *_) = recordings(make(TINY["music-runs"]))
    raw = open_raw(first)
    assert len(raw.ch_names) == 37 and raw.ch_names[32:] == felt and raw.info["sfreq"] == 1000
    assert first.name == "sub-01_task-run1_eeg.edf"


def test_the_music_channel_holds_the_number_of_the_piece(make: Make) -> None:
    study = make(MusicRuns(layout="ds002725", n_subjects=1, n_runs=5, n_trials=2, trial_s=3.0))
    runs = recordings(study)
    tasks = ["classicalMusic", "genMusic01", "genMusic02", "genMusic03", "washout"]
    assert [re.search("task-(.*)_eeg", run.name)[1] for run in runs] == tasks
    for run in runs:
        raw = open_raw(run)
        assert len(raw.ch_names) == 33 and raw.ch_names[-2:] == ["ECG", "music"]
        level = 1e6 * raw.get_data(picks=["music"])[0]
        rows = [row for row in read_tsv(beside(run, "events.tsv")) if row["trial_type"] == "music"]
        assert len(rows) == (0 if "washout" in run.name else 2)
        for row in rows:
            inside = level[round(float(row["onset"]) * 1000) + 2 :][:2996]
            assert round(np.median(inside) / 10) == int(row["stim_file"][6:9]) and inside.std() < 2
        assert abs(np.median(level[:1000])) < 1, "none before the first"


def rises(channel: np.ndarray, threshold: float) -> np.ndarray:
    above = channel > threshold
    return np.flatnonzero(above[1:] & ~above[:-1]) + 1


def test_fifteen_minutes_have_a_pulse_for_every_second_frame() -> None:
    cfg = MegMovie(part_s=900.0, drift_ppm=50.0)
    ntsc, *_, pal = movie.list_parts(cfg)
    pulses = movie.pulse_times_s(cfg, ntsc)
    assert len(pulses) == 13_486 and len(movie.pulse_times_s(cfg, pal)) == 11_250
    apart = np.diff(pulses)
    assert np.allclose(apart, 2 / 29.97 * (1 + 50e-6), atol=1e-9)
    assert pulses[-1] - pulses[0] == pytest.approx(13_485 * 2 / 29.97 + 0.045, abs=1e-4), "45 ms late at the end"


def test_pulses_are_where_frames_are_and_one_session_has_only_the_photodiode(make: Make) -> None:
    cfg = TINY["meg-movie"]
    sessions = recordings(make(cfg))
    assert len(sessions) == 4
    for path, part in zip(sessions, movie.list_parts(cfg)):
        raw = open_raw(path)
        assert raw.get_channel_types() == ["mag"] * 6 + ["stim", "misc"]
        expected = np.ceil(movie.pulse_times_s(cfg, part) * cfg.sfreq - 1e-9)
        digital, optical = raw.get_data(picks=[movie.DIGITAL, movie.OPTICAL])
        assert np.abs(rises(optical, 0.06) - expected).max() <= 1
        assert digital.any() == (part.fps != 25)
        if digital.any():
            assert (rises(digital, 0.5) == expected).all()


def test_movies_have_names_and_a_table_of_frames_in_their_place(make: Make) -> None:
    cfg = MegMovie(n_titles=10, n_parts=4)
    parts = movie.list_parts(cfg)
    pattern = re.compile(r"ID(\d\d)_([A-Za-z]+)Vol(\d)-(\d)_id(\d+)_MEG_DATAPixx_part(\d)\.mp4")
    matches = [pattern.fullmatch(part.mp4) for part in parts]
    assert all(matches) and len({match[2] for match in matches if match}) == 10 and len(parts) == 40
    assert {part.title for part in parts if part.fps == 25} == {10}
    study = make(TINY["meg-movie"])
    movies = read_tsv(study / "stimuli" / "movies.tsv")
    assert [row["fps"] for row in movies] == ["29.97", "29.97", "25", "25"]
    for row in movies:
        frames = read_tsv(study / "stimuli" / row["frames"])
        assert [int(frame["frame"]) for frame in frames] == list(range(int(row["n_frames"])))
        assert float(frames[-1]["time_s"]) == pytest.approx((len(frames) - 1) / float(row["fps"]), abs=1e-5)


def test_words_have_an_embedding_and_begin_within_their_sentence(make: Make) -> None:
    study = make(TINY["speech"])
    vectors, index = np.load(study / "stimuli" / "words.npy"), read_tsv(study / "stimuli" / "words.tsv")
    assert vectors.shape == (60, 8) and [int(row["row"]) for row in index] == list(range(60))
    (path,) = recordings(study)
    rows = read_tsv(beside(path, "events.tsv"))
    for place, row in enumerate(rows):
        if row["trial_type"] == "sentence":
            first, last = float(row["onset"]), float(row["onset"]) + float(row["duration"])
            audio, audio_hz = sound_files.read(study / "stimuli" / row["stim_file"])
            assert len(audio) / audio_hz == pytest.approx(float(row["duration"]), abs=1e-4)
            assert rows[place + 1]["trial_type"] == "word"
        else:
            assert first < float(row["onset"]) < last and index[int(row["word_index"])]["stimulus"] == row["word"]


def test_the_words_of_a_sentence_are_a_stream_beside_its_sound(make: Make) -> None:
    study = make(TINY["speech"])
    (path,) = recordings(study)
    vectors, (sentence, word, *_) = np.load(study / "stimuli" / "words.npy"), read_tsv(beside(path, "events.tsv"))
    stream = np.load((study / "stimuli" / sentence["stim_file"]).with_suffix(".npy"))
    assert len(stream) == pytest.approx(50 * float(sentence["duration"]), abs=1)
    middle_s = float(word["onset"]) + float(word["duration"]) / 2 - float(sentence["onset"])
    assert (stream[round(50 * middle_s)] == vectors[int(word["word_index"])]).all() and not stream[0].any()


@pytest.mark.parametrize("modality", ["eeg", "meg"])
def test_pictures_come_every_100_ms_and_test_pictures_again_and_again(make: Make, modality: str) -> None:
    study = make(dataclasses.replace(TINY["images"], modality=modality))
    index = {row["stimulus"]: row for row in read_tsv(study / "stimuli" / "images.tsv")}
    assert np.load(study / "stimuli" / "images.npy").shape == (15, 8) and len(index) == 15
    for path, part, times in zip(recordings(study), ("test", "train"), (4, 2)):
        assert open_raw(path).get_channel_types() == [{"eeg": "eeg", "meg": "mag"}[modality]] * 63
        rows = read_tsv(beside(path, "events.tsv"))
        assert np.allclose(np.diff([float(row["onset"]) for row in rows]), 0.1)
        shown = [row["stim_file"] for row in rows]
        assert {shown.count(name) for name in set(shown)} == {times}
        assert all(index[row["stim_file"]]["row"] == row["embedding_row"] for row in rows)
        assert {index[name]["part"] for name in shown} == {part}


def test_a_picture_is_a_png_that_others_read(make: Make) -> None:
    from matplotlib.image import imread

    pictures = sorted((make(TINY["images"]) / "stimuli").glob("*.png"))
    assert all(imread(path).shape == (12, 12, 3) for path in pictures)
    assert len({path.read_bytes() for path in pictures}) == 15


def test_movements_have_two_sessions_with_each_class_as_often(make: Make) -> None:
    study = make(TINY["motor"])
    names = [path.name for path in recordings(study)]
    assert names[:2] == ["sub-01_ses-test_task-imagery_eeg.edf", "sub-01_ses-train_task-imagery_eeg.edf"]
    for path in recordings(study):
        types = [row["type"] for row in read_tsv(beside(path, "channels.tsv"))]
        assert types == ["EEG"] * 22 + ["EOG"] * 3
        classes = [row["trial_type"] for row in read_tsv(beside(path, "events.tsv"))]
        assert {name: classes.count(name) for name in classes} == dict.fromkeys(
            ("left_hand", "right_hand", "feet", "tongue"), 2
        )


@pytest.mark.parametrize(("study", "n_electrodes"), [("motor", 22), ("images", 63), ("eeg2025", 129)])
def test_electrodes_have_places_in_metres(make: Make, study: str, n_electrodes: int) -> None:
    for table in sorted(make(TINY[study]).rglob("*_electrodes.tsv")):
        rows = read_tsv(table)
        places = np.array([[float(row[axis]) for axis in "xyz"] for row in rows])
        assert np.linalg.norm(places, axis=1) == pytest.approx(np.full(n_electrodes, 0.09), abs=1e-4)
        assert places[[row["name"] for row in rows].index("Cz")] == pytest.approx((0, 0, 0.09), abs=1e-5)
        about = json.loads(table.with_name(table.name.replace("electrodes.tsv", "coordsystem.json")).read_text())
        assert about["EEGCoordinateUnits"] == "m"
    assert len(list(make(TINY[study]).rglob("*_electrodes.tsv"))) == (4 if study == "motor" else TINY[study].n_subjects)


def test_leaks_are_what_they_are_called(make: Make) -> None:
    copied = recordings(make(dataclasses.replace(TINY["motor"], leak="copy")))
    assert copied[0].read_bytes() == copied[2].read_bytes() != copied[1].read_bytes()
    for path in recordings(make(dataclasses.replace(TINY["motor"], leak="parity", n_classes=2))):
        (only,) = {row["trial_type"] for row in read_tsv(beside(path, "events.tsv"))}
        assert only == ("right_hand" if path.name.startswith("sub-01") else "left_hand")


def test_children_have_a_score_and_press_as_late_as_the_events_say(make: Make) -> None:
    study = make(TINY["eeg2025"])
    people = read_tsv(study / "participants.tsv")
    assert len(people) == 2 and all(abs(float(person["externalizing"])) < 5 for person in people)
    for path in recordings(study):
        raw = open_raw(path)
        assert path.suffix == ".bdf" and len(raw.ch_names) == 129 and raw.ch_names[-1] == "Cz"
        rows = read_tsv(beside(path, "events.tsv"))
        for start, target, press in zip(rows[::3], rows[1::3], rows[2::3]):
            assert start["value"] == "contrastTrial_start" and press["value"].endswith("_buttonPress")
            waited = float(press["onset"]) - float(target["onset"])
            assert waited == pytest.approx(float(target["rt_from_stimulus"]), abs=2e-4)
            agrees = target["value"].split("_")[0] == press["value"].split("_")[0]
            assert agrees == (target["feedback"] == "smiley_face")


def test_bdf_has_24_bits(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(200, 3)) * (20e-6, 3e-3, 0.0)
    write_edf(tmp_path / "a.bdf", Signal(data, 100.0, ("Cz", "VEOG", "dead")))
    raw = open_raw(tmp_path / "a.bdf")
    one_bit = 2 * np.maximum(1e-6, np.ceil(1e6 * np.abs(data).max(axis=0)) * 1e-6) / (2**24 - 1)
    assert (tmp_path / "a.bdf").stat().st_size == 4 * 256 + 3 * 3 * 200
    assert (np.abs(raw.get_data().T - data).max(axis=0) <= 0.51 * one_bit).all()


def test_fif_keeps_samples_kinds_and_places_and_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    helmet = head.helmet(5)
    sensors = helmet.sensors() | {"STI 014": Sensor("stim"), "Cz": Sensor("eeg", (0.0, 0.0, 0.09))}
    data = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    signal = Signal(data, 250.0, (*helmet.names, "STI 014", "Cz"), sensors)
    write_fif(tmp_path / "a_meg.fif", signal)
    write_fif(tmp_path / "b_meg.fif", signal)
    assert (tmp_path / "a_meg.fif").read_bytes() == (tmp_path / "b_meg.fif").read_bytes()
    raw = open_raw(tmp_path / "a_meg.fif")
    assert raw.get_channel_types() == ["mag"] * 5 + ["stim", "eeg"]
    assert (data == raw.get_data().T).all() and raw.info["meas_date"] is None
    for name, channel in zip(signal.channels, raw.info["chs"]):
        if name != "STI 014":
            assert channel["loc"][:3] == pytest.approx(sensors[name].position, abs=1e-7)
    coil = raw.info["chs"][1]["loc"][3:].reshape(3, 3)
    assert np.allclose(coil @ coil.T, np.eye(3), atol=1e-6) and np.linalg.det(coil) == pytest.approx(1)
    assert not any(raw.info["file_id"]["machid"])


@pytest.mark.parametrize(
    ("make_cfg", "wrong", "message"),
    [
        (MusicRuns, {"n_runs": 1}, "the runs of all 2 subjects, so it must be 2 at least, got 1"),
        (MegMovie, {"drift_ppm": 5000.0}, "within ±1000, got 120.0 and 5000.0"),
        (Speech, {"sentence_s": (9.0, 3.0)}, r"\(shortest, longest\).* got \(9.0, 3.0\)"),
        (Images, {"n_channels": 64}, "63 electrodes, got n_channels 64"),
        (Motor, {"classes": "rhythms"}, "set n_classes to 2, got 4"),
        (Motor, {"n_subjects": 1, "leak": "copy"}, "the leak copy needs two subjects, got 1"),
        (Motor, {"effect": 2.0}, "effect must be 1.6 or less, .* got 2.0"),
        (Eeg2025, {"effect": -1.0}, "0 .no effect. or more, got -1.0"),
        (Eeg2025, {"sfreq": 99.5}, "must be whole, and 100 Hz at least .* got 99.5"),
    ],
)
def test_nonsense_is_refused(make_cfg: type, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_cfg(**wrong)
