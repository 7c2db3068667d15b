"""Sounds and spectrograms: figures beside other pieces, and what a page shows and plays of them."""

import base64
import importlib.util
import io
import re
import wave
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eegdecode import plots
from eegdecode.data.targets.mel import Mel, mel
from eegdecode.evaluation import results
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.metrics import mel_gain_db, metrics
from eegdecode.evaluation.report import audio_player, examples, tables
from eegdecode.evaluation.statistics import nulls, sound
from eegdecode.evaluation.statistics.correlation import correlation
from hpc.runs.rundir import RunDir, write_json
from tests.eegdecode.reported import heard

OF_SPECTRA = {"spectrum_r", "spectrum_rank", "ssim", "ssim_rank"}
OF_SOUNDS = {"mel_gain_db", "si_sdr_db", "mcd_db", "lsd_db", "mr_stft"} | {
    name for name in metrics("sequence") if name.startswith("like_")
}
OF_TIME = {"r", "rank_accuracy", "match_mismatch"}


@pytest.mark.parametrize("target", ["audio", "mel"])
def test_a_clear_decoder_is_better_than_other_pieces_by_every_figure(target: str) -> None:
    result = results.evaluate(heard(target, 3.0), Scoring())
    assert result.verdict == "above chance"
    for name in (OF_TIME | OF_SPECTRA | OF_SOUNDS) & result.figures.keys():
        figure = result.figures[name]
        better = figure.value - figure.chance
        better = -better if metrics("sequence")[name].lower_is_better else better
        assert better > -0.01, name
        assert figure.p is None or figure.p < 0.05, name
    assert {"spectrum_r", "ssim", "ssim_rank"} <= result.figures.keys()
    assert OF_SOUNDS & result.figures.keys() == (OF_SOUNDS if target == "audio" else set())
    assert OF_TIME & result.figures.keys() == ({"r", "rank_accuracy"} if target == "mel" else set())
    assert result.headline == ("mel_gain_db" if target == "audio" else "r")


@pytest.mark.parametrize("target", ["audio", "mel"])
def test_pieces_that_are_swapped_are_at_chance(target: str) -> None:
    decoded = heard(target, 3.0)
    swapped = tuple(replace(trial, output=decoded.trials[i - 4].output) for i, trial in enumerate(decoded.trials))
    result = results.evaluate(replace(decoded, trials=swapped), Scoring())
    assert result.verdict == "not above chance"
    assert all(figure.p is None or figure.p > 0.02 for figure in result.figures.values())


def in_another_phase(sound: np.ndarray) -> np.ndarray:
    """The same sound to the ear: the phase of each frequency is a quarter of a turn later."""
    return np.fft.irfft(1j * np.fft.rfft(sound[:, 0]), len(sound))[:, None]


def test_a_vocoder_is_judged_by_what_is_heard_and_not_by_its_phase(tmp_path: Path) -> None:
    """Sounds as they are, but for their phase: r of the waveforms is 0, and they are found all the same."""
    decoded = heard("audio", 1.0)
    turned = tuple(replace(trial, output=in_another_phase(trial.target)) for trial in decoded.trials)
    assert max(abs(float(correlation(trial.output, trial.target)[0])) for trial in turned) < 0.01
    decoded = replace(decoded, trials=turned)
    result = results.evaluate(decoded, Scoring())
    assert result.verdict == "above chance" and result.figures["mel_gain_db"].value > 3
    assert all(row.value > row.bound for row in result.subjects)
    for name in ("lsd_db", "mcd_db", "mr_stft"):
        assert result.figures[name].value < 0.8 * result.figures[name].chance, name
    assert result.figures["si_sdr_db"].value < -10
    tables.write(tmp_path, result, decoded)
    head, first = (tmp_path / "predictions.csv").read_text().splitlines()[:2]
    assert head.endswith("mel_gain_db_network,mel_gain_db_ridge") and float(first.split(",")[-2]) > 1


def test_what_all_pieces_share_is_no_gain() -> None:
    """A decoder that knows how pieces fade in, and nothing else: 24 sets of pieces, each with its p."""
    ps = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        fade = np.linspace(0.01, 1, 16_000)[:, None]
        pieces, outputs = (fade * rng.normal(size=(n, *fade.shape)) for n in (4, 8))
        trials = [
            DecodedTrial(f"sub-{n % 2}", f"piece-{n // 2}", pieces[n // 2], output) for n, output in enumerate(outputs)
        ]
        decoded = Decoded(4001.0, tuple(trials), (), "sequence", "audio")
        null = mel_gain_db.null(decoded, Scoring(n_null=100))
        ps.append(float(nulls.p_value(mel_gain_db.gains(decoded)[:, 0].mean(), null)))
    assert np.mean(np.array(ps) < 0.05) <= 0.15 and 0.3 < np.mean(ps) < 0.7, sorted(ps)


def test_figures_are_of_what_has_them(caplog: pytest.LogCaptureFixture) -> None:
    def names(decoded: Decoded) -> set[str]:
        return set(results.evaluate(replace(decoded, baselines={}), Scoring(n_null=100)).figures)

    assert len(OF_SOUNDS) == 12 and names(heard("mel", 1.0)) >= OF_SPECTRA and not OF_SOUNDS & names(heard("mel", 1.0))
    one = heard("audio", 1.0)
    single = names(replace(one, trials=one.trials[:2]))
    assert single == {"mel_gain_db"}, "nothing beside a single piece, but other seconds of it"
    there = importlib.util.find_spec("pesq") is not None
    assert names(one) >= OF_SPECTRA | OF_SOUNDS
    assert ("pesq" in names(one)) == there == ("PESQ is a speech metric" in caplog.text)
    click = tuple(replace(trial, target=trial.target[:500], output=trial.output[:500]) for trial in one.trials)
    shorter = names(replace(one, trials=click))
    assert shorter >= {"r", "rank_accuracy"} and not OF_SOUNDS & shorter, "shorter than a few frames"


def test_a_wav_is_what_the_page_says_it_is() -> None:
    player = audio_player.player(np.sin(np.arange(60_000) / 3), 8000.0, 'a "name"')
    assert player.label == 'a "name"'
    with wave.open(io.BytesIO(base64.b64decode(player.wav))) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 8000 * audio_player.PLAYED_S)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert np.abs(samples).max() == round(0.9 * 32767)


def test_what_is_made_of_a_mel_spectrogram_has_that_spectrogram() -> None:
    rng, hz = np.random.default_rng(0), 8000.0
    time_s = np.arange(int(4 * hz)) / hz
    loudness = np.repeat(rng.uniform(size=(16, 3)), int(hz / 4), axis=0)
    notes = sum(loudness[:, i] * np.sin(2 * np.pi * f * time_s) for i, f in enumerate((300.0, 900.0, 2100.0)))
    cfg = Mel(sfreq=32.0, n_mels=16)
    rows = mel(cfg, np.asarray(notes), hz)
    step = round(rows.sfreq / 32)
    log_mel = rows.data[::step]
    again = mel(cfg, audio_player.from_mel(log_mel, 32.0, hz), hz).data[::step]
    n = min(len(again), len(log_mel))
    again, log_mel = again[:n], log_mel[:n]
    assert correlation(again.reshape(-1, 1), log_mel.reshape(-1, 1))[0] > 0.8
    loud = log_mel > log_mel.max() - 5
    assert np.abs(again - log_mel)[loud].mean() < 0.5, "in nepers, so that loudness is kept as well"
    once, twice = (audio_player.from_mel(log_mel, 32.0, hz) for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_bands_are_named_by_the_sounds_they_were_made_of(study: Path, tmp_path: Path) -> None:
    name = next((study / "stimuli").glob("*.wav")).name
    run = RunDir(tmp_path / "preprocess-a")
    write_json(run.plan, {"inputs": {"study": str(study)}})
    assert audio_player.rate_hz([run], name) == 8000.0
    decoded = heard("mel", 1.0, (name,))
    sides = [side for trial in examples.examples(decoded, [run]).trials for side in trial.sides]
    assert sides[0].name == f"True: {name}" and sides[1].name.startswith("Decoded from sub-")
    (source, *_) = [trial.source for trial in examples.examples(decoded, [run], "lstm of train-c").trials]
    words = (
        f"The mel of {name}, decoded by lstm of train-c from the signals of sub-\\d, recording rec-\\d, trial \\d, at"
    )
    assert re.match(words, source), source
    assert len(sides) == 6 and all("kHz" in side.picture.unit and side.sound for side in sides)
    write_json(run.plan, {"inputs": {"study": str(tmp_path)}})
    without = examples.examples(decoded, [run])
    assert "sound files are missing" in without.note
    assert not any(side.sound or "kHz" in side.picture.unit for trial in without.trials for side in trial.sides)


def test_a_picture_holds_its_values_upside_up() -> None:
    values = np.array([[0.0, 1.0], [0.5, 2.0], [-1.0, 0.25]])
    png = plots.png(values, 0.0, 1.0)
    size = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    assert png.startswith(b"\x89PNG") and size == (3, 2)
    at = png.index(b"IDAT")
    lines = zlib.decompress(png[at + 4 : at + 4 + int.from_bytes(png[at - 4 : at])])
    assert list(lines) == [0, 255, 255, 64, 0, 0, 128, 0]
    wide = plots.png(np.ones((5000, 2)), 0.0, 1.0)
    assert int.from_bytes(wide[16:20]) <= plots.MOST_COLUMNS


def test_centres_are_those_of_the_bands() -> None:
    hz = np.fft.rfftfreq(4096, 1 / 16000)
    peaks = hz[sound.mel_bands(hz, 16000.0).argmax(axis=1)]
    np.testing.assert_allclose(sound.mel_centres_hz(sound.N_MELS, 16000.0), peaks, atol=4)
