"""Trials come from the configured source, with their labels; impossible ones are refused by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from eegdecode.data.config import (
    AnnotationEvents,
    BidsEvents,
    CodeEvents,
    Events,
    FilmEvents,
    FixedLengthEvents,
    TriggerEvents,
)
from eegdecode.data.events import events, stimuli
from eegdecode.data.io import recordings
from eegdecode.signals import Recording, Sensor, Stream, Trial
from eegdecode.synth.formats import write_wav
from hpc import config

HZ = 1000.0


@dataclass(frozen=True)
class Mark:
    onset_s: float
    duration_s: float
    text: str


def silent(duration_s: float, sfreq: float = HZ, **channels: np.ndarray) -> Stream:
    n_times = round(duration_s * sfreq)
    data = np.zeros((n_times, 1 + len(channels)), np.float32)
    for place, samples in enumerate(channels.values(), 1):
        data[: len(samples), place] = samples[:n_times]
    sensors = {name: Sensor("stim" if name == "STI" else "misc") for name in channels}
    return Stream(("Cz", *channels), sfreq, n_times, lambda first, stop: data[first:stop], sensors)


def trials_of(
    cfg: Events,
    stream: Stream,
    tmp_path: Path,
    tsv: str = "",
    marks: Sequence[Mark] = (),
    units: Mapping[str, str] | None = None,
) -> events.Trials:
    rows = None
    if tsv:
        (tmp_path / "events.tsv").write_text(tsv)
        rows = recordings.read_tsv(tmp_path / "events.tsv")
    read = events.trials(cfg, rows, stream, marks, tmp_path, {"name": "sub-01_run-02", "run": "02"}, units)
    Recording("sub-01_run-02", "sub-01", stream, read.trials)  # takes them
    return read


TSV = """onset\tduration\ttrial_type\tstim_file\tvalence\tnote
0.0\t1.0\trest\tn/a\tn/a\tn/a
6.0\t2.5\tmusic\tb.wav\t-3\tn/a
2.0\t3.25\tmusic\ta.wav\t4.5\tloud
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / "stimuli" / name, np.zeros(100), 8000)
    return tmp_path


def test_rows_become_trials_with_all_that_the_other_columns_say(study: Path) -> None:
    read = trials_of(BidsEvents(), silent(10), study, TSV)
    assert read.trials == (
        Trial(2.0, 3.25, "a.wav", {"trial_type": "music", "valence": 4.5, "note": "loud"}),
        Trial(6.0, 2.5, "b.wav", {"trial_type": "music", "valence": -3.0}),
    )
    assert read.trials[1].labels == {"trial_type": "music", "valence": -3.0}, "n/a is left out"
    conditions = trials_of(BidsEvents(stimulus="trial_type"), silent(10), study, TSV)
    assert [trial.stimulus for trial in conditions.trials] == ["rest", "music", "music"]
    only = trials_of(BidsEvents(stimulus="trial_type", only=("mus*",)), silent(10), study, TSV)
    assert [trial.labels["stim_file"] for trial in only.trials] == ["a.wav", "b.wav"]
    assert trials_of(BidsEvents(only=("c.wav",)), silent(10), study, TSV).notes == (
        "there is no trial in this recording",
    )


def test_durations_are_those_of_the_events_unless_one_is_set(study: Path) -> None:
    moments = "onset\tduration\ttrial_type\n1.0\t0\tleft\n3.0\tn/a\tright\n5.0\t0.7\tleft\n"
    read = trials_of(BidsEvents(stimulus="trial_type", duration_s=2.0), silent(10), study, moments)
    assert [trial.duration for trial in read.trials] == [2.0, 2.0, 2.0], "also of the event that has one of its own"
    with pytest.raises(
        ValueError,
        match=r"line 2 of events.tsv \(left\) has onset '1.0' and duration '0', so it marks a moment: .*duration_s=2 ",
    ):
        trials_of(BidsEvents(stimulus="trial_type"), silent(10), study, moments)


@pytest.mark.parametrize(
    ("tsv", "message"),
    [
        ("", "there is no events.tsv for this recording: add it, or take trials from elsewhere"),
        ("onset\tduration\n1\t2\n", "has no column stim_file, but trials need .*; there are onset, duration"),
        (
            "onset\tduration\tstim_file\n1\t2\tc.wav\n",
            r"line 2 of events.tsv names c.wav, but .*stimuli/c.wav is missing",
        ),
        ("onset\tduration\tstim_file\nn/a\t2\ta.wav\n", "has onset 'n/a' and duration '2'"),
        ("onset\tduration\tstim_file\n-1\t2\ta.wav\n", "has onset '-1'"),
        ("onset\tduration\tstim_file\n9\t2\ta.wav\n", r"'a.wav' \(9.00–11.00 s\) leaves .* ends at 10.00 s"),
        (
            "onset\tduration\tstim_file\n1\t2\ta.wav\n2.9\t1\tb.wav\n",
            r"trials 'a.wav' \(1.00–3.00 s\) and 'b.wav' \(2.90–3.90 s\) overlap: correct them, shorten duration_s",
        ),
    ],
)
def test_a_row_that_cannot_be_is_named(study: Path, tsv: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trials_of(BidsEvents(), silent(10), study, tsv)


def test_overlap_can_be_meant(study: Path) -> None:
    shown = "onset\tduration\tstim_file\n" + "".join(f"{0.2 * k:.1f}\t0\ta.wav\n" for k in range(10))
    assert len(trials_of(BidsEvents(duration_s=1.0, overlap=True), silent(10), study, shown).trials) == 10


def test_annotations_begin_and_end_a_story(tmp_path: Path) -> None:
    marks = [Mark(0.5, 0, "stimBegin"), Mark(2.0, 0, "storyBegin"), Mark(8.5, 0, "storyEnd"), Mark(9, 0, "stimEnd")]
    cfg = AnnotationEvents({"storyBegin": "story_{run}.wav"}, end="storyEnd")
    read = trials_of(cfg, silent(10), tmp_path, marks=marks)
    assert read.trials == (Trial(2.0, 6.5, "story_02.wav"),)
    assert read.notes == ("annotations that are not trials were left out: 1 × stimBegin, 1 × stimEnd",)
    for wrong, message in (
        (marks[:2], "the trial that began at 2.00 s has no annotation 'storyEnd' after it"),
        (marks[2:], "'storyEnd' at 8.50 s ends a trial that has not begun"),
        (marks[1:2] * 2, "'storyBegin' at 2.00 s begins a trial, but the one that began at 2.00 s has not ended"),
    ):
        with pytest.raises(ValueError, match=message):
            trials_of(cfg, silent(10), tmp_path, marks=wrong)


def test_annotations_are_matched_in_order_and_last_as_they_say_or_as_is_set(tmp_path: Path) -> None:
    marks = [Mark(1, 0.5, "S  1"), Mark(2, 0, "S  2"), Mark(4, 0, "boundary"), Mark(5, 1, "S 15")]
    cfg = AnnotationEvents({"S  1": "left hand", "S*": "{text}"}, duration_s=0.9)
    read = trials_of(cfg, silent(10), tmp_path, marks=marks)
    assert read.trials == (Trial(1, 0.9, "left hand"), Trial(2, 0.9, "S  2"), Trial(5, 0.9, "S 15"))
    with pytest.raises(ValueError, match="'S  2' at 2.00 s marks a moment: set duration_s, or set end"):
        trials_of(AnnotationEvents({"S*": "{text}"}), silent(10), tmp_path, marks=marks)
    with pytest.raises(
        ValueError, match=r"'\{part\}.wav' cannot be filled in: the known names are \{name\}, \{run\}, \{text\}"
    ):
        trials_of(AnnotationEvents({"S*": "{part}.wav"}), silent(10), tmp_path, marks=marks)


def test_stimulus_codes_of_an_analogue_channel_become_trials(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    planted = [(2.0, 40.0, 3.0), (45.0, 40.0, 1.0), (87.5, 40.0, 2.0)]
    music = np.zeros(130_000)
    for start_s, lasts_s, code in planted:
        music[int(start_s * HZ) : int((start_s + lasts_s) * HZ)] = code
    music += 0.1 * rng.normal(size=len(music)) + np.linspace(0, 0.8, len(music))
    cfg = CodeEvents({1.0: "classic-1.wav", 2.0: "classic-2.wav", 3.0: "gen.wav"})
    trials = trials_of(cfg, silent(130, music=music), tmp_path).trials
    assert [trial.stimulus for trial in trials] == ["gen.wav", "classic-1.wav", "classic-2.wav"]
    assert [trial.start for trial in trials] == pytest.approx([start_s for start_s, _, _ in planted], abs=0.002)
    assert [trial.duration for trial in trials] == pytest.approx([40.0] * 3, abs=0.004)


def test_levels_are_in_the_unit_that_the_file_says(tmp_path: Path) -> None:
    music = np.repeat([0.0, 10e-6, 0.0, 30e-6, 0.0], 5000)  # volt, as all that is read in µV
    cfg = CodeEvents({10.0: "a.wav", 20.0: "b.wav", 30.0: "c.wav"})
    trials = trials_of(cfg, silent(25, music=music), tmp_path, units={"music": "µV"}).trials
    assert [(trial.stimulus, round(trial.start, 2)) for trial in trials] == [("a.wav", 5.0), ("c.wav", 15.0)]
    message = r"none of the levels in codes \(10, 20, 30\) occurs in music, which stands at 0, 1e-05, 3e-05: corr"
    with pytest.raises(ValueError, match=message):
        trials_of(cfg, silent(25, music=music), tmp_path)
    with pytest.raises(ValueError, match=r"\(1000\) occurs in music, which stands at 0, 10, 30 uV: correct codes"):
        trials_of(CodeEvents({1000.0: "a.wav"}), silent(25, music=music), tmp_path, units={"music": "uV"})


def test_trigger_values_become_trials(tmp_path: Path) -> None:
    line = np.zeros(10_000)
    for first, value in ((1000, 1), (3000, 2), (5000, 9), (7000, 1)):
        line[first : first + 100] = value
    cfg = TriggerEvents(codes={"1": "cat.jpg", "2": "dog_{run}.jpg"}, duration_s=0.5)
    read = trials_of(cfg, silent(10, STI=line), tmp_path)
    assert read.trials == (Trial(1, 0.5, "cat.jpg"), Trial(3, 0.5, "dog_02.jpg"), Trial(7, 0.5, "cat.jpg"))
    assert read.notes == ("triggers that are not trials were left out: 1 × 9",)
    plain = trials_of(TriggerEvents(), silent(10, STI=line), tmp_path).trials
    assert [(trial.stimulus, trial.duration) for trial in plain] == [("1", 0.1), ("2", 0.1), ("9", 0.1), ("1", 0.1)]


def film_line(duration_s: float, *shown: tuple[float, float, float]) -> np.ndarray:
    """A line with a pulse every two frames for each (start, length, frames a second)."""
    line = np.zeros(round(duration_s * HZ))
    for start_s, lasts_s, fps in shown:
        for pulse_s in start_s + np.arange(round(lasts_s * fps / 2)) * 2 / fps:
            line[round(pulse_s * HZ) : round(pulse_s * HZ) + 15] = 1
    return line


FILM, FILM_25 = "ID03_SkyVol1-2_id5_MEG_DATAPixx_part1.mp4", "ID10_SeaVol1-4_id38_MEG_DATAPixx_part2.mp4"


def test_films_run_on_the_clock_of_their_pulses(tmp_path: Path) -> None:
    line = film_line(120, (5.0, 60.0, 29.97 * (1 - 50e-6)), (80.0, 30.0, 25.0))
    line[70_000:70_010] = 1  # a single one marks something else
    read = trials_of(FilmEvents((FILM, FILM_25)), silent(120, STI=line), tmp_path)
    first, second = read.trials
    assert (first.stimulus, second.stimulus) == (FILM, FILM_25)
    assert first.start == pytest.approx(5, abs=1e-3) and first.duration == pytest.approx(60 * (1 + 50e-6), abs=0.04)
    assert second.start == pytest.approx(80, abs=1e-3) and second.duration == pytest.approx(30, abs=0.04)
    assert (first.labels[events.FPS], second.labels[events.FPS]) == (29.97, 25.0)
    assert first.labels[events.SPEED] == pytest.approx(1 - 50e-6, abs=2e-6)
    assert read.notes[0] == "1 groups of fewer than 10 pulses are not a film: left out"
    assert "899 pulses in STI over 60.0 s: the clock drifts by +49.8 ppm" in read.notes[1]
    with pytest.raises(ValueError, match=r"films names 1, but STI has 2 trains of pulses \(59.9 s, 29.9 s\)"):
        trials_of(FilmEvents((FILM,)), silent(120, STI=line), tmp_path)
    with pytest.raises(ValueError, match="'film.mp4' does not have its frames a second: set fps"):
        trials_of(FilmEvents(("film.mp4", "b.mp4")), silent(120, STI=line), tmp_path)


def test_films_and_their_rates_can_stand_in_the_events(tmp_path: Path) -> None:
    line = film_line(120, (5.0, 60.0, 29.97), (80.0, 30.0, 25.0))
    tsv = "onset\tduration\tfilm\tfps\tmood\n79\t30\tb.mp4\t25\tcalm\n50\t0\tn/a\tn/a\tn/a\n4\t60\ta.mp4\t29.97\tn/a\n"
    first, second = trials_of(FilmEvents(column="film"), silent(120, STI=line), tmp_path, tsv).trials
    assert (first.stimulus, first.labels[events.FPS], second.stimulus, second.labels[events.FPS]) == (
        "a.mp4", 29.97, "b.mp4", 25.0,
    )  # fmt: skip
    assert first.start == pytest.approx(5, abs=1e-3) and second.labels["mood"] == "calm" and "mood" not in first.labels
    for cfg, rows, message in (
        (
            FilmEvents(column="stim_file"),
            tsv,
            "from the columns onset and stim_file of events.tsv, but there are onset",
        ),
        (FilmEvents(column="film"), "", "but there are none: write them there, or name them in films"),
        (FilmEvents(column="film"), tsv.replace("79\t", "n/a\t"), "events.tsv has no onset of b.mp4"),
        (FilmEvents(column="film"), tsv.replace("b.mp4", "n/a"), "film names 1, but STI has 2 trains"),
    ):
        with pytest.raises(ValueError, match=message):
            trials_of(cfg, silent(120, STI=line), tmp_path, rows)


def test_a_film_without_digital_triggers_is_found_by_its_light(tmp_path: Path) -> None:
    light = 0.3 * film_line(40, (5.0, 30.0, 29.97)) + 0.01 * np.random.default_rng(0).normal(size=40_000)
    read = trials_of(FilmEvents((FILM,), fallback="photo"), silent(40, STI=np.zeros(1), photo=light), tmp_path)
    assert read.notes[0] == "STI is flat: triggers are taken from photo, which has 450"
    assert read.trials[0].start == pytest.approx(5.0, abs=1e-3)


def test_film_names_tell_10_titles_and_40_parts() -> None:
    names = [
        f"ID{number:02d}_Title {number}_Vol{part}-{part + 1}_id{4 * number + part}_MEG_DATAPixx_part{part}.mp4"
        for number in range(1, 11)
        for part in range(1, 5)
    ]
    films = [film for name in names if (film := stimuli.film(name)) is not None]
    assert len({film.title for film in films}) == 10 and len({(film.title, film.part) for film in films}) == 40
    assert {film.fps for film in films if film.number == 10} == {25.0}
    assert {film.fps for film in films if film.number != 10} == {29.97}
    assert films[5] == stimuli.Film(2, "Title 2", (2, 3), 10, 2, 29.97)
    assert stimuli.film("ID1_Title.mp4") is None and stimuli.film(stimuli.piece(names[0], 60, 120)) == films[0]


def test_segments_of_a_recording_and_of_its_trials(tmp_path: Path, study: Path) -> None:
    read = trials_of(FixedLengthEvents(), silent(15 * 60 + 20, sfreq=100), tmp_path)
    assert len(read.trials) == 15 and all(trial.duration == 60 for trial in read.trials)
    assert read.trials[1].stimulus == "sub-01_run-02#t=60,120"
    assert read.notes == ("20.0 s at the ends are shorter than a piece of 60 s: left out",)
    pieces = trials_of(FixedLengthEvents(length_s=1.25, of=BidsEvents()), silent(10), study, TSV).trials
    assert [(trial.start, trial.stimulus) for trial in pieces] == [
        (2.0, "a.wav#t=0,1.25"), (3.25, "a.wav#t=1.25,2.5"), (6.0, "b.wav#t=0,1.25"), (7.25, "b.wav#t=1.25,2.5"),
    ]  # fmt: skip
    assert pieces[0].labels["valence"] == 4.5
    assert stimuli.whole("a.wav#t=1.25,2.5") == ("a.wav", 1.25) and stimuli.whole("a#b.wav") == ("a#b.wav", 0.0)


def test_a_piece_of_a_film_has_one_name_whatever_clock_recorded_it(tmp_path: Path) -> None:
    cfg = FixedLengthEvents(length_s=10.0, of=FilmEvents((FILM,)))
    of_clock = []
    for ppm in (-80.0, 0.0, 33.0):
        line = film_line(75, (5.0, 64.0, 29.97 / (1 + ppm * 1e-6)))
        of_clock.append(trials_of(cfg, silent(75, STI=line), tmp_path).trials)
        for number, trial in enumerate(of_clock[-1]):
            assert trial.start == pytest.approx(5 + 10 * number * (1 + ppm * 1e-6), abs=1e-3)
            assert trial.duration == pytest.approx(10 * (1 + ppm * 1e-6), abs=1e-4)
    names = [[trial.stimulus for trial in trials] for trials in of_clock]
    assert names[0] == names[1] == names[2] == [f"{FILM}#t={10 * k},{10 * k + 10}" for k in range(6)]


@pytest.mark.parametrize("seed", range(20))
def test_no_segment_crosses_another_or_the_end(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sfreq, length_s = float(rng.choice([250, 1000, 1017.25])), float(rng.uniform(0.2, 3))
    edges = np.sort(rng.uniform(0, 60, 12)).reshape(6, 2)
    marks = [Mark(start_s, stop_s - start_s, "x") for start_s, stop_s in edges.tolist()]
    cfg = FixedLengthEvents(length_s=length_s, of=AnnotationEvents({"x": "{text}"}))
    trials = trials_of(cfg, silent(60, sfreq=sfreq), tmp_path, marks=marks).trials
    taken = np.zeros(round(60 * sfreq), int)
    for trial in trials:
        (inside,) = [(a, b) for a, b in edges if a - 1e-9 <= trial.start and trial.start + trial.duration <= b + 1e-5]
        assert inside
        taken[
            np.ceil(trial.start * sfreq).astype(int) : np.ceil((trial.start + trial.duration) * sfreq).astype(int)
        ] += 1
    assert taken.max() <= 1
    assert len(trials) == sum(int((b - a) / length_s + 1e-6) for a, b in edges)


def test_events_are_written_in_yaml() -> None:
    @dataclass(frozen=True)
    class Stage:
        events: Events

    for cfg in (
        FixedLengthEvents(length_s=30.0, of=FilmEvents((FILM,), channel="STI101", fallback="MISC 1")),
        CodeEvents({0.5: "a.wav", 1.0: "b.wav"}),
        TriggerEvents(codes={"1": "a", "2": "b"}, bits=255),
        AnnotationEvents({"story*": "{text}"}),
    ):
        values = config.plain(Stage(cfg))
        assert config.build(Stage, values, "preprocess") == Stage(cfg)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BidsEvents(duration_s=0), "duration_s must be above 0 s, got 0"),
        (lambda: AnnotationEvents({}), "stimuli says which annotations are trials.* but it is empty"),
        (lambda: CodeEvents({0.0: "a"}), r"codes needs levels other than rest \(0\)"),
        (lambda: TriggerEvents(bits=0), "bits is a mask of one bit at least, .* got 0"),
        (lambda: TriggerEvents(gap_s=-1), "gap_s must be 0 s or more, got -1"),
        (lambda: FilmEvents(()), "set either films, the names of the films"),
        (lambda: FilmEvents(("a",), column="stim_file"), r"that has them, but got \('a',\) and 'stim_file'"),
        (lambda: FilmEvents(("a",), fps=0), "got 0 fps and a pulse every 2"),
        (lambda: FixedLengthEvents(length_s=0), "length_s must be above 0 s, got 0"),
    ],
)
def test_nonsense_is_refused(make: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
