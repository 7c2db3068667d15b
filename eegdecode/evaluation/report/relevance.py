"""Which channels a decoder uses.

network     Permutation importance: how much the loss grows when a channel is taken from another window, or, for time
            courses, is shifted by half a window. Gradients say less, as they only see the smallest change.
ridge       The forward pattern of the linear decoder (Haufe 2014): r of its output with each channel, at the lag where
            it is largest. Weights would also reflect what is subtracted as noise.
bandpower   The forward pattern of each class: r of its score with the power of each channel, in the band where it is
            largest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from eegdecode import objectives
from eegdecode.evaluation.baselines.bandpower import bands, log_powers
from eegdecode.evaluation.config import Scoring
from eegdecode.evaluation.decode.predict import open_data
from eegdecode.evaluation.decode.predictions import Decoded
from eegdecode.evaluation.results import Result
from eegdecode.evaluation.statistics.correlation import correlation, unit
from eegdecode.plots import Head
from eegdecode.signals import SignalSpec
from eegdecode.topomap import Places
from eegdecode.training import model_file
from eegdecode.training.validator import Validator
from hpc.rank import ddp
from hpc.rank.context import Context, Preempted

PROBED = 64
"""Windows, or whole trials, for permutation importance: evenly spaced in the test set."""
MOST_LAGS = 33
"""Lags of the ridge's pattern."""
MOST_CLASSES = 6
"""With more classes, no patterns of each class are drawn."""


def of_channels(models: Sequence[Path], decoded: Decoded, cfg: Scoring, ctx: Context) -> dict[str, dict[str, float]]:
    """The permutation importance of channels for the network, the mean over several; and the patterns of baselines."""
    several = [of_network(model, decoded, cfg, ctx) for model in models]
    channels = model_file.load(models[0]).spec.channels
    importance = {"network": dict(zip(channels, np.mean(several, axis=0).tolist(), strict=True))}
    if decoded.kind == "sequence" and "ridge" in decoded.baselines:
        pattern = pattern_of(decoded.by("ridge"), model_file.load(models[0]), cfg, ctx)
        importance["ridge"] = dict(zip(channels, pattern.tolist(), strict=True))
    if "bandpower" in decoded.baselines and len(decoded.classes) <= MOST_CLASSES:
        band, patterns = patterns_of(decoded.by("bandpower"), model_file.load(models[0]), ctx)
        for name, pattern in zip(decoded.classes, patterns, strict=True):
            importance[f"bandpower: {name}, {band}"] = dict(zip(channels, pattern.tolist(), strict=True))
    return importance


def of_network(model: Path, decoded: Decoded, cfg: Scoring, ctx: Context) -> np.ndarray:
    """Permutation importance, [channel]: how much the loss grows."""
    trained = model_file.load(model)
    data, parts = open_data(trained, ctx)
    as_trained, device = trained.train(), ddp.device(ctx)
    network = trained.network().to(device)
    objective = objectives.build(as_trained.objective, data.spec(trained.target).knowing(trained.spec))
    validator = Validator(as_trained, parts.test, data, trained.spec, network)
    sizes = [len(places.start) for places in validator.batches]
    n = min(len(sizes), -(-PROBED // max(sizes)))
    chosen = [int(place) for place in np.linspace(0, len(sizes) - 1, n)]
    grown = np.zeros((len(chosen), trained.spec.n_channels))
    for done, number in enumerate(chosen):
        batch = validator.batch(number, device)
        others = _others(len(batch.signal), cfg.seed, number).to(device)
        late = decoded.kind == "sequence" or len(others) < 2
        with torch.no_grad():
            loss = float(objective(network, batch)[0])
            for channel in range(trained.spec.n_channels):
                ctx.progress("channels", done * trained.spec.n_channels + channel, grown.size)
                if ctx.should_stop():
                    raise Preempted
                signal = batch.signal.clone()
                own = batch.signal[:, :, channel]
                signal[:, :, channel] = own.roll(own.shape[1] // 2, dims=1) if late else own[others]
                grown[done, channel] = float(objective(network, batch._replace(signal=signal))[0]) - loss
    return np.average(grown, axis=0, weights=np.array(sizes)[chosen])


def _others(n: int, seed: int, number: int) -> torch.Tensor:
    """[n]: another window for each window."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + number))
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    return others


def pattern_of(linear: Decoded, trained: model_file.Trained, cfg: Scoring, ctx: Context) -> np.ndarray:
    """[channel]: the pattern at the lag where it is largest over channels."""
    _, patterns = patterns_by_lag(linear, trained, cfg, ctx)
    return patterns[int((patterns**2).sum(axis=1).argmax())]


def patterns_by_lag(
    linear: Decoded, trained: model_file.Trained, cfg: Scoring, ctx: Context
) -> tuple[np.ndarray, np.ndarray]:
    """The lags in samples, and [lag, channel]: r of the channel, so much later, with the output of the linear decoder;
    the mean over trials, and over the decoder's features."""
    data, _ = open_data(trained, ctx)
    recordings = {stored.name: stored for stored in data.recordings}
    furthest = round(cfg.lags_s * trained.spec.sfreq)
    lags = np.linspace(0, furthest, min(furthest + 1, MOST_LAGS)).astype(int)
    sums = np.zeros((len(lags), trained.spec.n_channels))
    for trial in linear.trials:
        ctx.beat()
        stored, output = recordings[trial.recording], trial.output.mean(axis=1, keepdims=True)
        first = round(trial.start_s * stored.sfreq)
        at = first + np.arange(len(output)) * stored.sfreq / linear.sfreq
        whole = stored.read(first, min(int(at[-1]) + furthest + 1, stored.n_times)).astype(np.float64)
        for index, lag in enumerate(lags):
            rows = np.minimum(at.astype(int) + lag - first, len(whole) - 1)
            sums[index] += correlation(whole[rows], np.broadcast_to(unit(output), (len(output), whole.shape[1])))
    return lags, sums / len(linear.trials)


def patterns_of(linear: Decoded, trained: model_file.Trained, ctx: Context) -> tuple[str, np.ndarray]:
    """The band, and [class, channel]: r of the channel's power with the score of the class, within subjects."""
    data, _ = open_data(trained, ctx)
    recordings = {stored.name: stored for stored in data.recordings}
    n_times = trained.spec.n_times
    assert n_times, "linear decoders of classes need windows of one length"
    powers = []
    for trial in linear.trials:
        ctx.beat()
        stored = recordings[trial.recording]
        first = round(trial.start_s * stored.sfreq)
        powers.append(log_powers(stored.read(first, first + n_times)[None], stored.sfreq)[0])
    names = list(bands(n_times, trained.spec.sfreq))
    scores = linear.output - linear.output.mean(axis=1, keepdims=True)  # of a log softmax, what is linear in the powers
    subjects = np.array([trial.subject for trial in linear.trials])
    own, power = scores.astype(np.float64), np.array(powers)
    for subject in set(subjects):
        mine = subjects == subject
        own[mine] -= own[mine].mean(axis=0)
        power[mine] -= power[mine].mean(axis=0)
    patterns = (unit(own).T @ unit(power)).reshape(own.shape[1], len(names), -1)  # [class, band, channel]
    most = int((patterns**2).sum(axis=(0, 2)).argmax())
    return names[most], patterns[:, most]


CAPTIONS = {
    "network": "Network: permutation importance, which is how much its loss grows when a channel is permuted over "
    "windows, or shifted in time.",
    "ridge": "Ridge: the forward pattern of the linear decoder, which is the correlation of its output with each "
    "channel (r), at the lag where it is largest.",
    "bandpower": "Bandpower: the forward pattern of each class for the linear decoder of band powers, which is the "
    "correlation of its score with the power of each channel (r), in the band where it is largest.",
}


@dataclass(frozen=True)
class ChannelMap:
    """The importance of channels on a head, for the network or a baseline."""

    name: str
    drawn: Head
    strongest: str
    largest: str


@dataclass(frozen=True)
class OnHead:
    """`captions`: what is drawn, or would be if positions were known."""

    heads: list[ChannelMap] = field(default_factory=list)
    captions: str = ""
    strongest: str = ""


def on_head(result: Result, spec: SignalSpec) -> OnHead:
    places = Places.of_spec(spec)
    if not result.channels:
        return OnHead()
    if not places.flat:
        return OnHead([], CAPTIONS["network"], _most(result.channels["network"]))
    heads = []
    for name, values in result.channels.items():
        known = {channel: value for channel, value in values.items() if channel in places.flat}
        lacking = f" {len(values) - len(known)} channels have no known position." if len(known) < len(values) else ""
        strongest = _most(known) + lacking
        drawn = places.head(known, f"Channels on the head, {name}. {strongest}")
        largest = f"{max(map(abs, known.values())):.2g}"
        heads.append(ChannelMap(name[0].upper() + name[1:], drawn, strongest, largest))
    kinds = dict.fromkeys(name.partition(":")[0] for name in result.channels)
    return OnHead(heads, " ".join(CAPTIONS[kind] for kind in kinds))


def _most(values: Mapping[str, float]) -> str:
    largest = sorted(values, key=lambda channel: -abs(values[channel]))[:5]
    return "Most: " + ", ".join(f"{channel} {values[channel]:.2g}".replace(" -", " −") for channel in largest) + "."
