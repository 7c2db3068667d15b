"""Pictures for the trackers: decoded validation windows next to their targets, saliency on the head, and histograms of
parameters and gradients."""

from typing import Any

import numpy as np
import torch
from torch import nn

from eegdecode.objectives import in_units
from eegdecode.signals import SignalSpec
from eegdecode.training.config import Watch
from eegdecode.training.trackers.feed import Trackers
from eegdecode.training.validator import Validator

BANDS = 8
"""The number of features from which a time course is drawn as a spectrogram."""


def draw(trackers: Trackers, cfg: Watch, step: int, network: nn.Module, validator: Validator) -> None:
    if cfg.histograms:
        for name, parameter in network.named_parameters():
            trackers.histogram(step, f"parameters/{name}", parameter.detach().float().cpu().numpy())
            if parameter.grad is not None:
                trackers.histogram(step, f"gradients/{name}", parameter.grad.detach().float().cpu().numpy())
    if not cfg.examples or not validator.spec.n_outputs:
        return
    device = next(network.parameters()).device
    saliency: list[np.ndarray] = []
    for number in range(len(validator.batches)):
        batch = validator.batch(number, device)
        n = min(cfg.examples - len(saliency), len(batch.signal))
        signal = batch.signal[:n].clone().requires_grad_()
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no backward of recurrent nets in eval mode
            decoded = network(signal, batch.subject[:n])
            decoded.square().sum().backward(inputs=[signal])
        if validator.spec.is_sequence:
            outputs = in_units(decoded.detach().float(), validator.spec).cpu()
            examples(trackers, step, len(saliency), batch.target[:n].cpu(), outputs, validator.spec)
        if signal.grad is not None:
            saliency += list(signal.grad.abs().mean(dim=1).cpu().numpy())
        if len(saliency) >= cfg.examples:
            break
    if any(validator.spec.positions):
        trackers.picture(step, "topography/saliency", topography(np.mean(saliency, axis=0), validator.spec))


def examples(
    trackers: Trackers, step: int, first: int, target: torch.Tensor, decoded: torch.Tensor, spec: SignalSpec
) -> None:
    """Show each as a sound, a spectrogram or a curve, like its target."""
    for number, (true, output) in enumerate(zip(target, decoded, strict=True), first):
        if spec.is_sound:
            for name, sound in (("heard", true), ("decoded", output)):
                loudest = sound.abs().max().clamp(min=1e-9)
                samples = (sound[:, 0] / loudest).numpy()
                trackers.sound(step, f"example {number}/{name}", samples, round(spec.target_sfreq))
        elif spec.n_outputs >= BANDS:
            trackers.picture(step, f"example {number}", _spectrograms(true.numpy(), output.numpy(), spec.target_sfreq))
        else:
            trackers.picture(step, f"example {number}", _curves(true.numpy(), output.numpy(), spec.target_sfreq))


def _spectrograms(true: np.ndarray, decoded: np.ndarray, sfreq: float) -> Any:
    figure = _figure()
    axes = figure.subplots(2, 1, sharex=True)
    for axis, name, drawn in zip(axes, ("true", "decoded"), (true, decoded), strict=True):
        axis.imshow(drawn.T, origin="lower", aspect="auto", extent=(0, len(drawn) / sfreq, 0, drawn.shape[1]))
        axis.set_ylabel(name)
    axes[-1].set_xlabel("seconds")
    return figure


def _curves(true: np.ndarray, decoded: np.ndarray, sfreq: float) -> Any:
    figure = _figure()
    axes = figure.subplots(true.shape[1], 1, sharex=True, squeeze=False)[:, 0]
    for feature, axis in enumerate(axes):
        for name, drawn in (("true", true), ("decoded", decoded)):
            curve = drawn[:, feature] - drawn[:, feature].mean()
            axis.plot(np.arange(len(curve)) / sfreq, curve / (curve.std() or 1.0), label=name, linewidth=0.8)
    axes[0].legend(loc="upper right")
    axes[-1].set_xlabel("seconds")
    return figure


def topography(values: np.ndarray, spec: SignalSpec) -> Any:
    """Draw one value a channel, seen from above, nose up; channels without a position are left out."""
    known = [index for index, place in enumerate(spec.positions) if place is not None]
    places = np.array([spec.positions[index] for index in known], float)
    radius = np.linalg.norm(places, axis=1)
    polar = np.arccos(np.clip(places[:, 2] / radius, -1, 1)) / (np.pi / 2)
    turn = np.arctan2(places[:, 1], places[:, 0])
    figure = _figure()
    axis = figure.subplots()
    dots = axis.scatter(polar * np.cos(turn), polar * np.sin(turn), c=values[known], s=160, cmap="viridis")
    axis.set_aspect("equal")
    axis.set_axis_off()
    figure.colorbar(dots, ax=axis, label="mean absolute gradient")
    return figure


def _figure() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4), layout="constrained")
