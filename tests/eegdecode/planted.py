"""Windows with something to find in them, and how well a network finds it in subjects that it was not trained on."""

import torch
from torch.nn import functional

from eegdecode import models
from eegdecode.models import Model
from eegdecode.signals import SignalSpec

SFREQ, N_TRAIN, N_UNSEEN = 128.0, 6, 2


def two_rhythms(
    amplitude: float, n_channels: int = 22, n_times: int = 256, n_windows: int = 24
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Signal, class and subject of windows of 10 or 20 Hz in noise; each subject has it at the sensors in its own way,
    half as much apart from each other as alike. The last two subjects are not to be trained on."""
    draw = torch.Generator().manual_seed(0)
    alike = torch.randn(n_channels, generator=draw)
    signals = []
    label = torch.arange(n_windows) % 2
    turns = torch.outer(10.0 * (1 + label), torch.arange(n_times) / SFREQ)
    for _ in range(N_TRAIN + N_UNSEEN):
        seen_as = alike + 0.5 * torch.randn(n_channels, generator=draw)
        wave = torch.sin(2 * torch.pi * (turns + torch.rand(n_windows, 1, generator=draw)))
        noise = torch.randn(n_windows, n_times, n_channels, generator=draw)
        signals.append(noise + amplitude * wave[:, :, None] * seen_as)
    n_subjects = N_TRAIN + N_UNSEEN
    return torch.cat(signals), label.repeat(n_subjects), torch.arange(n_subjects).repeat_interleave(n_windows)


def spec_of(signal: torch.Tensor) -> SignalSpec:
    channels = tuple(f"E{index}" for index in range(signal.shape[2]))
    subjects = tuple(f"sub-{index}" for index in range(N_TRAIN + N_UNSEEN))
    return SignalSpec(channels, SFREQ, 2, subjects, n_times=signal.shape[1], class_values=(0.0, 1.0))


def trained(
    cfg: Model, signal: torch.Tensor, label: torch.Tensor, subject: torch.Tensor, steps: int, lr: float
) -> torch.nn.Module:
    """Train a network for n_steps on the windows of the first subjects."""
    n = int((subject < N_TRAIN).sum())
    torch.manual_seed(0)
    network = models.build(cfg, spec_of(signal)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    for _ in range(steps):
        pick = torch.randint(n, (32,))
        loss = functional.cross_entropy(network(signal[pick], subject[pick]), label[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for act in models.after_steps(network):
            act(0.0)
    return network.eval()


@torch.no_grad()
def accuracy(network: torch.nn.Module, signal: torch.Tensor, label: torch.Tensor, subject: torch.Tensor) -> float:
    """Of the windows of subjects that were not trained on."""
    unseen = subject >= N_TRAIN
    right = network(signal[unseen], subject[unseen]).argmax(dim=1) == label[unseen]
    return float(right.double().mean())
