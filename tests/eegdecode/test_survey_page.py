"""The page of a study: what its pictures show is what was planted, and a browser shows it on any screen."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from eegdecode import stages
from eegdecode.data.events.bad_spans import Dropped
from eegdecode.data.io.channels.table import Channel
from eegdecode.data.survey import drawings, evoked, oddities, page_data, spectra, study_page
from eegdecode.data.survey.table import RecordingRow, StudyTable
from eegdecode.preprocessing import record
from eegdecode.preprocessing.config import Preprocess
from eegdecode.preprocessing.steps.bad_channels import BadChannels
from eegdecode.preprocessing.steps.bandpass import Bandpass
from eegdecode.preprocessing.steps.ica import ICA
from eegdecode.preprocessing.steps.pick import Pick
from eegdecode.preprocessing.steps.resample import Resample
from eegdecode.preprocessing.steps.scale import Scale
from eegdecode.signals import BadSpan, Decisions, Signal, Stream, Trial
from hpc.rank.context import Context, Input, World
from hpc.runs.rundir import RunDir
from tests.eegdecode import browser

NAMES = ("Fp1", "Fp2", "C3", "Cz", "C4", "Pz", "O1", "O2")
SFREQ = 250.0


def planted(loud: float = 1.0, mains_uv: float = 0.0) -> tuple[Stream, tuple[Trial, ...]]:
    """A minute of noise of 10 µV; `go` evokes 8 µV at Pz after 0.3 s, `stop` nothing; C3 is flat."""
    rng = np.random.default_rng(0)
    data = rng.normal(0, 10e-6 * loud, (round(60 * SFREQ), len(NAMES)))
    seconds = np.arange(len(data)) / SFREQ
    data += mains_uv * 1e-6 * np.sin(2 * np.pi * 50 * seconds)[:, None]
    trials = tuple(Trial(2.0 + 1.4 * number, 0.8, ("go", "stop")[number % 2]) for number in range(40))
    for trial in trials[::2]:
        since = seconds - trial.start - 0.3
        data[:, 5] += 8e-6 * np.exp(-0.5 * (since / 0.05) ** 2)
    data[:, 2] = 0
    return Signal(data.astype(np.float32), SFREQ, NAMES).stream(), trials


def test_a_spectrum_has_its_unit_its_mains_and_its_dead_channel() -> None:
    stream, _ = planted(mains_uv=20)
    (of,) = spectra.looked_at(stream, False, ["C3"]).values()
    assert (of["unit"], of["n"]) == ("µV", 8)
    # White noise of 10 µV has 10² µV² / 125 Hz = -1 dB everywhere
    below_mains = [level for hz, level in zip(of["hz"], of["db"]["median"], strict=True) if 5 < hz < 40]
    assert np.allclose(below_mains, 10 * np.log10(100 / 125), atol=1.3)
    assert of["ratios"]["mains_50_db"] > 20 > 3 > of["ratios"]["mains_60_db"]
    assert of["loudness"]["C3"] == 0 and of["loudness"]["Cz"] == pytest.approx(17.3, rel=0.05)
    assert "C3" not in of["lines"], "silence has no spectrum"


def test_a_spectrum_of_tesla_is_no_zero_in_float32() -> None:
    stream, _ = planted()
    small = replace(stream, read=lambda first, stop: stream.read(first, stop) * np.float32(1e-9))
    ((_, of),) = spectra.looked_at(small, False, []).items()
    assert np.isfinite(of["db"]["median"]).all() and max(of["db"]["median"]) < -150


def test_no_spike_is_lost_in_the_traces() -> None:
    stream, _ = planted()
    data = np.array(stream.read(0, stream.n_times))
    data[777, 3] = 1e-3  # one sample of 1 mV
    seen = spectra.some_seconds(Signal(data, SFREQ, NAMES).stream(), False, ["Cz"], 2.0)
    assert max(seen["traces"][0]["row"]) == 2 * spectra.SPACING
    beside_dead = spectra.some_seconds(stream, False, ["C3", "Cz"], 2.0)
    assert beside_dead["spacing"] == {"µV": 50.0}, "a dead channel does not set the scale"
    assert len(seen["traces"][0]["row"]) < 900


def test_responses_are_those_that_were_planted_with_their_n() -> None:
    stream, trials = planted()
    made = evoked.conditions(trials)
    assert (made.by, made.names) == ("stimulus", ["go", "stop"])
    of = evoked.responses(stream, False, False, trials, made, ["C3"])
    assert of["channel"] == "Pz" and of["unit"] == "µV" and of["n_channels"] == 7
    assert [each["n"] for each in of["conditions"]] == [20, 20] and of["n_used"] == of["n_trials"] == 40
    times = of["time"]["start_s"] + of["time"]["step_s"] * np.arange(of["time"]["n"])
    at = int(np.abs(times - 0.3).argmin())
    go, stop = of["evoked"]
    assert go["mean"][at] - go["error"][at] > 3 and go["mean"][at] == pytest.approx(8, abs=3.5)
    assert abs(stop["mean"][at]) < 5 < 8 < stop["error"][at] * 4
    assert abs(of["maps"]["drawn"][0]["time_s"] - 0.3) < 0.1 or len(of["maps"]["drawn"]) == 3
    assert len(of["power"]["png"]) == 2


def test_conditions_are_what_was_asked_for_and_a_trial_at_the_edge_is_not_used() -> None:
    trials = [Trial(2.0 + number, 0.5, f"s{number}", {"side": "lr"[number % 2], "n": 1.0}) for number in range(8)]
    assert evoked.conditions(trials) == ("side", ["l", "r"], [0, 1] * 4)
    assert evoked.conditions(trials[:3]).names == ["all trials"]
    stream, _ = planted()
    edge = [Trial(0.1, 0.5, "x"), *trials, Trial(59.4, 0.5, "x")]
    of = evoked.responses(stream, False, True, edge, evoked.conditions(edge), [])
    assert (of["n_trials"], of["n_inside"], of["n_used"]) == (10, 8, 8) and of["filtered"] == [1.0, 30.0]
    assert evoked.responses(stream, False, True, edge[:2], evoked.conditions(edge[:2]), []) == {}


def test_looking_at_a_day_reads_no_more_than_looking_at_an_hour() -> None:
    counted = []

    def stream(hours: int) -> Stream:
        def read(first: int, stop: int) -> np.ndarray:
            counted.append(stop - first)
            return np.random.default_rng(first).normal(0, 1e-5, (stop - first, len(NAMES))).astype(np.float32)

        return Stream(NAMES, SFREQ, round(3600 * hours * SFREQ), read)

    sizes = []
    for hours in (1, 24):
        counted.clear()
        trials = [Trial(10.0 + number, 0.5, "ab"[number % 2]) for number in range(3000)]
        sizes.append(len(str(page_data.of(stream(hours), (), trials))))
        assert sum(counted) < 0.55 * 3600 * SFREQ and max(counted) < 10 * SFREQ
    assert sizes[1] < 1.1 * sizes[0]


def row(name: str, **more: Any) -> RecordingRow:
    return RecordingRow(
        name, name.split("_")[0], "", "1", {"eeg": 8}, SFREQ, 60.0, {"go": 20, "stop": 20}, drawn=name, **more
    )


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    """Six recordings; sub-3 is four times as loud, sub-5 has mains and two bad channels."""
    records = {}
    for number in range(1, 7):
        stream, trials = planted(4.0 if number == 3 else 1.0, 60.0 if number == 5 else 0.5)
        bad = {"C3": "flat", "C4": "louder"} if number == 5 else {}
        repaired = tuple({"name": name, "decision": "interpolated", "reason": why} for name, why in bad.items())
        decisions = Decisions(repaired, (component(0, "drop", 0.3), component(1, "keep", 0.1)))
        span = BadSpan(6.2, 7.0, "amplitude", "110 µV at Cz")
        dropped = [Dropped(trial, (span,)) for trial in trials[: 6 * (number == 6)]]
        decided = record.of_recording(f"sub-{number}_run-1", decisions, NAMES, trials[len(dropped) :], dropped)
        data = page_data.of(stream, (), trials[len(dropped) :], replace(stream, decisions=decisions))
        records[f"sub-{number}_run-1"] = page_data.joined(data, CHANNELS, decided)
    return records


CHANNELS = tuple(Channel(name, "eeg", unit="µV") for name in NAMES)


def component(index: int, decision: str, variance: float) -> dict[str, Any]:
    values = {name: float(place) for place, name in enumerate(NAMES)}
    reasons = ["follows VEOG, r = 0.80"] if decision == "drop" else []
    label = "eog" if reasons else "brain"
    return {"index": index, "decision": decision, "decided_by": "step", "label": label, "reasons": reasons,
            "variance": variance, "map": values}  # fmt: skip


def html(table: StudyTable, records: Mapping[str, Any]) -> dict[str, str]:
    return dict(study_page.pages("A study", table, lambda row: records.get(row.drawn)))


def test_what_is_odd_is_said_in_words_and_comes_first(records: dict[str, dict[str, Any]]) -> None:
    rows = [*(row(name) for name in records), RecordingRow("sub-7_run-1", "sub-7", failed="it is cut off")]
    (page,) = html(StudyTable(tuple(rows)), records).values()
    subjects = re.findall(r'<th scope="row">(?:<a [^>]*>)?(sub-\d)', page)
    assert subjects[:1] == ["sub-7"] and set(subjects[1:4]) == {"sub-3", "sub-5", "sub-6"}
    for words in (
        "1 recording cannot be used", "4.0 times louder than the median recording", "2 of 8 channels are bad",
        "mains (50 Hz)", "6 of 40 trials are dropped", "eog: follows VEOG, r = 0.80",
        "6 × dropped: amplitude", "110 µV at Cz", "go (n = 17)", "flat; interpolated",
        "chosen by looking",
    ):  # fmt: skip
        assert words in page, words
    assert page.count('class="recording"') == 6 and page.count(" open>") == 1


def test_one_recording_is_compared_with_nobody(records: dict[str, dict[str, Any]]) -> None:
    mine = oddities.measures(records["sub-3_run-1"])
    assert oddities.found(mine, [mine]).sentences == []
    short = replace(mine, seconds=5.0, n_trials=1)
    words = oddities.found(short, [mine] * 4 + [short]).sentences
    assert "5 s, where the median recording has 60 s" in words
    assert "1 trial, where the median recording has 40 trials" in words
    gap = replace(mine, gap="no trial for 5.0 min from 1.0 min on")
    assert oddities.found(gap, [gap]).sentences == [gap.gap]


def tables(page: str) -> dict[str, list[list[str]]]:
    links = re.findall(r'download="([^"]+)" href="data:text/csv;charset=utf-8,([^"]+)"', page)
    return {name: list(csv.reader(io.StringIO(unquote(text)))) for name, text in links}


def test_every_table_can_be_downloaded_as_csv(records: dict[str, dict[str, Any]]) -> None:
    (page,) = html(StudyTable(tuple(row(name) for name in records)), records).values()
    found = tables(page)
    # The navigable tables of the study, the channels of each recording, and the one drop log
    assert len(found) == page.count("<table>") == 2 + 6 + 1
    head, first, *_ = found["survey-subjects.csv"]
    assert head == ["subject", "what is odd", "recordings", "minutes", "trials", "bad channels", "score"]
    assert first[0] in ("sub-3", "sub-5", "sub-6") and first[4] == "40"
    channels = {line[0]: line for line in found["sub-5_run-1-channels.csv"]}
    head = ["name", "kind", "kind_by", "unit", "unit_by", "bad", "loudness"]
    assert channels["name"] == head and channels["C3"][5] == "flat; interpolated"


def test_parts_that_are_absent_leave_a_page_without_them(records: dict[str, dict[str, Any]]) -> None:
    whole = records["sub-1_run-1"]
    bare = page_data.joined(whole, (), {})
    (page,) = html(StudyTable((row("sub-1_run-1"),)), {"sub-1_run-1": bare}).values()
    assert "No channel is marked or was found as bad" in page
    assert "Independent components" not in page and "Drop log" not in page and "All channels" not in page
    stream, _ = planted()
    marked = (Channel("C3", "eeg", bad="marked bad"),)
    (page,) = html(
        StudyTable((row("x"),)), {"x": page_data.joined(page_data.of(stream, ["C3"], ()), marked, {})}
    ).values()
    assert "C3</b>: marked bad" in page and "there is no evoked response" in page
    (page,) = html(
        StudyTable((row("x"),)), {"x": page_data.joined(page_data.empty("ValueError: no"), marked, {})}
    ).values()
    assert "Not drawn: ValueError: no" in page and "<b>C3</b>" in page
    (page,) = html(StudyTable((row("x"),)), {}).values()
    assert "its page data are not there" in page


def test_many_recordings_are_several_files_of_bounded_size() -> None:
    names = [f"sub-{number:03d}" for number in range(study_page.MOST_SECTIONS + 1)]
    rng = np.random.default_rng(0)
    channels = tuple(f"E{number}" for number in range(64))
    stream = Signal(rng.normal(0, 1e-5, (30_000, 64)).astype(np.float32), 500.0, channels).stream()
    trials = [Trial(1.0 + number / 2, 0.5, "abcd"[number % 4]) for number in range(100)]
    of = page_data.joined(page_data.of(stream, (), trials, stream), (), {})
    pages = html(StudyTable(tuple(row(name) for name in names)), dict.fromkeys(names, of))
    assert list(pages) == ["survey.html", "survey-2.html"]
    assert pages["survey.html"].count('class="recording"') == study_page.MOST_SECTIONS
    assert 'href="survey-2.html#recording-60"' in pages["survey.html"]
    assert 'id="recording-60"' in pages["survey-2.html"] and "Subjects, the oddest" not in pages["survey-2.html"]
    assert len(pages["survey.html"]) * 40 / study_page.MOST_SECTIONS < 8e6


def test_units_differ_so_there_are_two_charts_and_none_is_called_microvolt(records: dict[str, dict[str, Any]]) -> None:
    stream, trials = planted()
    of = page_data.of(stream, (), trials, stream, scaled=True)
    kinds = [(side, of[side]["kinds"]) for side in ("before", "after")]
    above = [drawn.above for drawn in drawings.spectrum(kinds, "eeg")]
    assert above == ["EEG as recorded, dB of µV²/Hz", "EEG preprocessed, dB of (units of spread)²/Hz"]
    assert len(drawings.spectrum([(s, records["sub-1_run-1"][s]["kinds"]) for s in ("before", "after")], "eeg")) == 1


@pytest.fixture(scope="module")
def preprocessed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    preprocess(study, out)
    return out / "out"


STEPS = (Pick(kinds=("eeg", "eog")), BadChannels(), ICA(kurtosis=4.0), Pick(), Bandpass(), Resample(64.0), Scale())


def preprocess(study: Path, run: Path) -> None:
    ctx = Context(World(), RunDir(run))
    stages.preprocess(Preprocess(Input(str(study)), steps=STEPS), ctx)


def test_preprocessing_writes_its_page_and_what_its_steps_decided(preprocessed: Path) -> None:
    page = (preprocessed / "preprocess.html").read_text()
    assert "Traces as recorded" in page and "Traces preprocessed" in page and "units of spread" in page
    assert "Independent components" in page and len(re.findall('class="recording"', page)) == 2
    assert "components were removed" in page and "RECORDING.decisions.json" in page
    assert not (preprocessed / "survey.html").exists()
    (one, _) = sorted(preprocessed.glob("*.page.json"))
    assert one.stat().st_size < 200_000


def test_a_recording_without_its_record_is_made_again(preprocessed: Path, study: Path) -> None:
    one, two = sorted(preprocessed.glob("*.page.json"))
    before, stored = one.read_bytes(), preprocessed / one.name.replace(".page.json", ".h5")
    bytes_of, other = stored.read_bytes(), two.stat().st_mtime_ns
    one.unlink()
    preprocess(study, preprocessed.parent)
    assert one.read_bytes() == before and stored.read_bytes() == bytes_of
    assert two.stat().st_mtime_ns == other, "it was whole, and is left alone"


def test_a_picture_that_fails_costs_no_recording(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no picture")

    monkeypatch.setattr(spectra, "some_seconds", fail)
    preprocess(study, tmp_path / "run")
    page = (tmp_path / "run/out/preprocess.html").read_text()
    assert page.count("Not drawn: ZeroDivisionError: no picture") == 2 and "cannot be drawn" in caplog.text
    assert len(list((tmp_path / "run/out").glob("*.h5"))) == 2


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: pages are not looked at")
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_the_page_is_whole_and_legible_on_any_screen(
    width: int, dark: bool, records: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    rows = [*(row(name, notes=("a note",)) for name in records), RecordingRow("sub-7_run-1", "sub-7", failed="cut off")]
    (page,) = html(StudyTable(tuple(rows)), records).values()
    (tmp_path / "page.html").write_text(page.replace("<details", "<details open"))
    seen = browser.look(tmp_path / "page.html", width, dark, tmp_path / "profile")
    assert seen.errors == []
    assert all(request.startswith("data:image/png") for request in seen.requests)
    assert seen.width == width >= seen.scrolls_to
    assert len(seen.pictures) == 6 * 3 and all(width > 15 for width in seen.pictures)
    assert seen.contrasts[0][0] >= 4.5, seen.contrasts
