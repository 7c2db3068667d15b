"""Between two log points no step reads a value of the device, and no copy to it blocks: every model, objective and
augmentation, on imitated CUDA tensors, or on those of a GPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench import spy
from eegdecode import models, objectives
from eegdecode.models import MODELS
from eegdecode.objectives import Batch
from eegdecode.objectives.classification import Classification
from eegdecode.objectives.clip import Clip
from eegdecode.objectives.config import OBJECTIVES
from eegdecode.objectives.diffusion import Diffusion
from eegdecode.objectives.eegpt import Alignment
from eegdecode.objectives.mae import MaskedPatches
from eegdecode.objectives.regression import Regression
from eegdecode.objectives.simclr import SimCLR
from eegdecode.objectives.tfc import TimeFrequency
from eegdecode.signals import SignalSpec
from eegdecode.training.augment import Augmentation
from eegdecode.training.augmentations.config import AUGMENTATIONS, partners_of
from eegdecode.training.augmentations.mixup import beta
from tests.eegdecode.test_models_all import CLASSES, N_TIMES, SEQUENCE, knobs
from tests.imitated import device

__all__ = ["device"]

LABELS = replace(CLASSES, n_outputs=1)
"""What the store knows of the labels: one number a window."""
VALUES = replace(LABELS, n_outputs=5, class_values=(), classes=())
KNOWN = {"target_mean": (0.5,) * 8, "target_std": (2.0,) * 8}

CASES: list[tuple[Any, SignalSpec]] = [
    (Classification(), LABELS),
    (
        Classification(focus=2.0, label_smoothing=0.1, balanced=True),
        replace(LABELS, class_weights=(1.0, 2.0, 0.5, 1.5)),
    ),
    (Regression(), SEQUENCE),
    (Regression(loss="mse", standardize=True), replace(SEQUENCE, **KNOWN)),
    (Regression(loss="mse", standardize=True), replace(VALUES, n_outputs=1, target_mean=(1.0,), target_std=(2.0,))),
    (Clip(), VALUES),
    (Clip(form="speech"), SEQUENCE),
    (SimCLR(size=4), LABELS),
    (TimeFrequency(), LABELS),
    (TimeFrequency(form="released"), LABELS),
    (MaskedPatches(), LABELS),
    (Alignment(), LABELS),
    (Diffusion(standardize=True), replace(SEQUENCE, **KNOWN)),
    (Diffusion(), SEQUENCE),
]
"""Every objective with the settings that take other paths, and a target that it learns."""


def pairs() -> list[Any]:
    """Each model with each objective that it can learn; each time, each of them with one at least."""
    pairs, tried = [], set()
    for name in sorted(set(MODELS) - {"braindecode"}):
        for number, (objective, spec) in enumerate(CASES):
            if MODELS[name].output_kind == objective.input_kind:
                marks = pytest.mark.slow if {name, str(number)} <= tried else ()
                tried |= {name, str(number)}
                pairs.append(pytest.param(name, objective, spec, id=f"{name}-{objective.name}-{number}", marks=marks))
    return pairs


PAIRS = pairs()


def test_every_objective_is_tried() -> None:
    assert {type(objective) for objective, _ in CASES} == set(OBJECTIVES.values())
    each_time = [pair for pair in PAIRS if not pair.marks]
    assert {pair.values[0] for pair in each_time} == set(MODELS) - {"braindecode"}
    assert all(any(objective is pair.values[1] for pair in each_time) for objective, _ in CASES)


def batch(spec: SignalSpec, device: torch.device, seed: int = 0, n_times: int = N_TIMES) -> Batch:
    torch.manual_seed(seed)
    rows = (spec.n_steps(n_times),) if spec.is_sequence else ()
    target = torch.randn(4, *rows, spec.n_outputs)
    if spec.class_values:
        target = torch.tensor(spec.class_values)[:, None]
    return Batch(
        *(x.to(device) for x in (torch.randn(4, n_times, 6), target, torch.tensor([0, 1, 1, 0]), torch.arange(4)))
    )


@pytest.mark.parametrize(("name", "cfg", "spec"), PAIRS)
def test_a_step_waits_for_nothing(name: str, cfg: Any, spec: SignalSpec, device: torch.device) -> None:
    if name == "diffwave":
        spec = replace(spec, n_outputs=1, **{what: known[:1] for what in KNOWN if (known := getattr(spec, what))})
    n_times = 64 if name == "bilstm" else N_TIMES  # a GPU has one operation for an LSTM, and this one many a sample
    torch.manual_seed(0)
    network = models.build(knobs(name), replace(cfg.asks(spec), n_times=n_times)).to(device)
    objective = objectives.build(cfg, spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    given, after_steps = batch(spec, device, n_times=n_times), models.after_steps(network)
    for step in range(2):
        with spy.counting() as counts:
            optimizer.zero_grad()
            loss, watched = objective(network, given)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            for after_step in after_steps:
                after_step(0.5)
        if step:  # constants were copied there in the first
            assert counts.silent, counts.where
    assert all(figure.isfinite() for figure in (loss, *watched.values()))


STEPS = [
    pytest.param([kind()], spec, id=f"{name} of {'a course in time' if spec.is_sequence else 'classes'}")
    for name, kind in AUGMENTATIONS.items()
    for spec in (SEQUENCE, LABELS)
    if not (spec.is_sequence and "same class" in partners_of(kind()))
]


@pytest.mark.parametrize(("steps", "spec"), STEPS)
def test_an_augmentation_waits_for_nothing(steps: Any, spec: SignalSpec, device: torch.device) -> None:
    augment = Augmentation(steps, spec, soft=bool(spec.class_values))
    given, others = batch(spec, device), [batch(spec, device, 1 + n) for n in range(len(augment.partners))]
    for step in range(2):
        with spy.counting() as counts:
            augment(given, others)
        if step:
            assert counts.silent, counts.where


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0, 20.0])
def test_a_gpu_mixes_windows_as_a_cpu_does(alpha: float, device: torch.device) -> None:
    keys = torch.arange(2000)
    there, here = beta(keys.to(device), 3, alpha), beta(keys, 3, alpha)
    assert there.is_cuda and (there.cpu() - here).abs().max() < 1e-6
