"""Three example trials of the report, best, median and worst: as curves, spectrograms or sounds, like the target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eegdecode import plots
from eegdecode.evaluation import results
from eegdecode.evaluation.decode.predictions import Decoded, DecodedTrial
from eegdecode.evaluation.metrics import metrics
from eegdecode.evaluation.report import audio_player
from eegdecode.evaluation.report.audio_player import Player
from eegdecode.evaluation.statistics import sound
from eegdecode.evaluation.statistics.correlation import unit
from eegdecode.page import say
from eegdecode.plots import Chart, Colours, Line, Picture
from hpc.runs.rundir import RunDir

SHOWN_S = 40.0  # of a curve; more is too dense to see
DRAWN_S = 10.0  # of a spectrogram
SOFTEST_DB = -50.0
"""The lower end of the colour scale, below the loudest of a spectrogram."""
SPREAD = 2.5
"""The ends of the colour scale of a mel spectrogram, in standard deviations."""


@dataclass(frozen=True)
class Side:
    """`name`: what it is of."""

    name: str
    picture: Chart
    sound: Player | None


@dataclass(frozen=True)
class Example:
    """A trial as curves, or as two pictures side by side. `source`: what was decoded from what."""

    title: str
    source: str
    figures: str
    curves: Chart | None = None
    sides: Sequence[Side] = ()
    colours: Colours | None = None


@dataclass(frozen=True)
class Examples:
    """`note` is about all of them."""

    note: str
    trials: list[Example]


def examples(decoded: Decoded, runs: Sequence[RunDir], decoder: str = "the network") -> Examples:
    """By the headline metric of each trial. `decoder`: who decoded them, in words."""
    trials, values = decoded.trials, results.of_trials(decoded)
    others = {name: results.of_trials(decoded.by(name)) for name in decoded.baselines}
    order = np.argsort(-values, kind="stable")
    chosen = {int(order[len(order) // 2]): "Median", int(order[-1]): "Worst", int(order[0]): "Best"}
    show, note = _way(decoded, runs)
    shown = []
    for index in sorted(chosen, key=lambda index: -values[index]):
        trial, metric = trials[index], metrics("sequence")[results.headline(decoded)]
        baselines = [f"{name} {say(float(own[index]))}" for name, own in others.items()]
        figures = f"{metric.title} = {say(float(values[index]))}" + (f" ({', '.join(baselines)})" if baselines else "")
        title = f"{chosen[index]} trial: {trial.subject}, {trial.stimulus}"
        shown.append(show(trial, title, _source(trial, decoded, decoder), figures))
    return Examples(note, shown)


def _source(trial: DecodedTrial, decoded: Decoded, decoder: str) -> str:
    """What was decoded from what, in a sentence."""
    session = f", session {trial.session}" if trial.session else ""
    recording = f", recording {trial.recording}" if trial.recording else ""
    seconds = f"{trial.start_s:.1f} to {trial.start_s + len(trial.target) / decoded.sfreq:.1f} s"
    return (
        f"The {decoded.target or 'target'} of {trial.stimulus}, decoded by {decoder} from the signals of "
        f"{trial.subject}{session}{recording}, trial {trial.trial + 1}, at {seconds}."
    )


Show = Callable[[DecodedTrial, str, str, str], Example]


def _way(decoded: Decoded, runs: Sequence[RunDir]) -> tuple[Show, str]:
    """How to show a trial of such a target, and a note on all of them."""
    sfreq = decoded.sfreq
    if decoded.is_sound:
        return (
            lambda trial, title, source, figures: _sounds(trial, sfreq, title, source, figures),
            "Levels of mel bands below the loudest of each sound. The players have the first "
            f"{audio_player.PLAYED_S:g} s, normalised in loudness.",
        )
    if decoded.is_spectrogram:
        made_hz = audio_player.rate_hz(runs, decoded.trials[0].stimulus) if decoded.target == "mel" else None
        note = "Each band in standard deviations about its own mean."
        if made_hz:
            note += (
                f" The sounds, of the first {audio_player.PLAYED_S:g} s, are reconstructed from these spectrograms, "
                "the true one as well, with the algorithm of Griffin and Lim; the bands of the decoded one are scaled "
                "to the mean and spread of all true test pieces. This is only for listening: no waveform was decoded."
            )
        elif decoded.target == "mel":
            note += " The study's sound files are missing, so no sound can be reconstructed."
        level = Level.of(decoded)
        return lambda trial, title, source, figures: _bands(trial, sfreq, title, source, figures, made_hz, level), note
    n_outputs = decoded.trials[0].target.shape[1]
    mean = f", the mean of its {n_outputs} features" if n_outputs > 1 else ""
    return (
        lambda trial, title, source, figures: _curves(trial, sfreq, title, source, figures),
        f"Each curve in units of its own standard deviation{mean}.",
    )


def _curves(trial: DecodedTrial, sfreq: float, title: str, source: str, figures: str) -> Example:
    n_times = min(len(trial.target), round(SHOWN_S * sfreq))
    seconds = np.arange(n_times) / sfreq
    curves = {"heard": trial.target, "decoded": trial.output}
    lines = [
        Line(seconds, _standard(curve.mean(axis=1, keepdims=True))[:n_times, 0], style)
        for style, curve in curves.items()
    ]
    chart = plots.lines(lines, f"{title}: true and decoded over time, {figures}", "seconds")
    return Example(title, source, figures, chart)


@dataclass(frozen=True)
class Level:
    """Mean and spread of each band over all true pieces, [band]: a decoder may have learnt the course alone."""

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, decoded: Decoded) -> "Level":
        truth = decoded.truth
        return cls(truth.mean(axis=0), truth.std(axis=0))


def _bands(
    trial: DecodedTrial, sfreq: float, title: str, source: str, figures: str, made_hz: float | None, level: Level
) -> Example:
    n_bands = trial.target.shape[1]
    pair = []
    for name, rows in _both(trial):
        played: Player | None = None
        if made_hz:
            log_mel = rows if rows is trial.target else _standard(rows) * level.spread + level.mean
            waveform = audio_player.from_mel(log_mel, sfreq, made_hz)
            played = audio_player.player(waveform, made_hz, f"{title}. {name}, made from its mel spectrogram")
        pair.append((name, _standard(rows)[: round(DRAWN_S * sfreq)], played))
    hz = sound.mel_centres_hz(n_bands, made_hz) if made_hz else None
    seconds = min(len(trial.target) / sfreq, DRAWN_S)
    return _pair(pair, seconds, hz, (-SPREAD, SPREAD), "standard deviations", title, source, figures)


def _sounds(trial: DecodedTrial, sfreq: float, title: str, source: str, figures: str) -> Example:
    n_times = min(len(trial.target), round(DRAWN_S * sfreq))
    pair = []
    for name, rows in _both(trial):
        level_db = 10 * np.log10(sound.mel_powers(rows[:n_times, 0], sfreq))
        pair.append((name, level_db, audio_player.player(rows[:, 0], sfreq, f"{title}. {name}")))
    hz = sound.mel_centres_hz(sound.N_MELS, sfreq)
    return _pair(pair, n_times / sfreq, hz, (SOFTEST_DB, 0.0), "dB", title, source, figures)


def _pair(
    pair: Sequence[tuple[str, np.ndarray, Player | None]],
    seconds: float,
    hz: np.ndarray | None,
    colours: tuple[float, float],
    unit: str,
    title: str,
    source: str,
    figures: str,
) -> Example:
    sides = []
    for name, rows, played in pair:
        what = f"spectrogram, {name}, {rows.shape[1]} bands over {seconds:.1f} seconds"
        chart = plots.picture(Picture(rows, seconds, hz, *colours), f"{title}: {what}; {figures}")
        sides.append(Side(name, chart, played))
    return Example(title, source, figures, sides=sides, colours=Colours(*colours, unit))


def _both(trial: DecodedTrial) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
    return (f"True: {trial.stimulus}", trial.target), (f"Decoded from {trial.subject}", trial.output)


def _standard(values: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and variance 1 over time; all 0 where it is constant."""
    return unit(values) * np.sqrt(len(values))
