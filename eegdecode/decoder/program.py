"""Models as programs of torch.export and ONNX, and whether these give the same outputs."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eegdecode.decoder import lstm
from eegdecode.decoder.decoder import Decoder
from hpc.runs.rundir import atomic_write

ENOUGH = 1e-5
"""Outputs of a file may differ from the model's by so much, relative to the largest if that is above 1."""
TRACED, TRIED = 3, (1, 5)
"""The number of windows that a program is made with, and those with which it is compared besides."""
REFUSED: dict[str, str] = {
    "eegpt_pretrain": "its target encoder runs without gradients, and torch cannot save a program with such a part",
}
"""Models that torch.export cannot take, and why."""

Program = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was compared."""

    inputs: dict[str, list[int | str]]
    """The shape of each input; `window` is any number."""
    output: list[int | str]
    difference: float
    """The largest to the model's outputs."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        inputs = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in self.inputs.items())
        return (
            f"{inputs} -> [{', '.join(map(str, self.output))}]; its outputs differ from the model's by "
            f"{self.difference:.1g} at most"
        )


def export(model: Decoder, path: Path, length_s: float | None = None) -> Exported:
    """Write a model to a file, .pt2 or .onnx, whole or not at all; raises ValueError if it cannot be."""
    _refuse_others(model)
    n_times = model.recipe.n_times or model.recipe.filled(model.recipe.length(length_s))
    outputs = Outputs(model)
    inputs = outputs.example(TRACED, n_times)
    about = {"recipe": json.dumps(model.recipe.to_json()), "classes": json.dumps(model.classes), "run": model.name}
    write, read = (as_pt2, of_pt2) if path.suffix == ".pt2" else (as_onnx, of_onnx)
    try:
        content = write(outputs, inputs, about)
        program = read(content)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{model.name} cannot be written as {path.suffix}: {type(error).__name__}: {reason}"
        ) from error
    difference = worst(outputs, program, (outputs.example(n, n_times) for n in (TRACED, *TRIED)))
    if not difference <= ENOUGH:
        raise ValueError(f"{path} would differ from the model by {difference:.2g}, so it is not written")
    atomic_write(path, lambda file: file.write(content))
    with torch.inference_mode():
        shape = outputs(*inputs.values()).shape[1:]
    shapes = {name: ["window", *value.shape[1:]] for name, value in inputs.items()}
    return Exported(shapes, ["window", *shape], difference)


def worst(network: nn.Module, program: Program, given: Iterator[Mapping[str, torch.Tensor]]) -> float:
    """The largest difference of outputs, relative to the largest number if that is above 1."""
    difference = 0.0
    for inputs in given:
        with torch.no_grad():
            ours = network(*inputs.values())
        away = (ours - program(*inputs.values())).abs().max() / ours.abs().max().clamp_min(1.0)
        difference = max(difference, float(away.nan_to_num(torch.inf)))
    return difference


class Outputs(nn.Module):
    """(signal [window, channel, time]) -> the outputs, in the units of the target. A second input is the number of the
    subject of each window, if the network has layers of its own for each."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        spec = model.spec
        self.network, self.n_channels, self.n_subjects = model.network, spec.n_channels, len(spec.subjects)
        self.has_layers_of_subjects = model.has_layers_of_subjects
        self.register_buffer("std", torch.tensor(spec.target_std or (1.0,)))
        self.register_buffer("mean", torch.tensor(spec.target_mean or (0.0,)))
        self.eval()

    def forward(self, signal: torch.Tensor, subject: torch.Tensor | None = None) -> torch.Tensor:
        if subject is None:
            subject = torch.zeros(signal.shape[0], dtype=torch.int64, device=signal.device)
        out: torch.Tensor = self.network(signal.mT, subject).float()
        return out * self.get_buffer("std") + self.get_buffer("mean")

    def example(self, n_windows: int, n_times: int) -> dict[str, torch.Tensor]:
        """Inputs of that shape, always the same."""
        drawn = torch.Generator().manual_seed(n_windows)
        inputs = {"signal": torch.randn(n_windows, self.n_channels, n_times, generator=drawn)}
        if self.has_layers_of_subjects:
            inputs["subject"] = torch.arange(n_windows) % self.n_subjects
        return inputs


def exported(network: nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.export.ExportedProgram:
    """A network as a program that takes any number of windows."""
    window = torch.export.Dim("window", min=1)
    with _quiet(), lstm.standing_in():
        return torch.export.export(
            network.eval(), tuple(inputs.values()), dynamic_shapes=tuple({0: window} for _ in inputs), strict=False
        )


def as_pt2(network: nn.Module, inputs: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> bytes:
    file = BytesIO()
    with _quiet():
        torch.export.save(lstm.as_aten(exported(network, inputs)), file, extra_files=dict(about))
    return file.getvalue()


def of_pt2(content: bytes) -> Program:
    with _quiet():
        module = torch.export.load(BytesIO(content)).module()

    def program(*inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = module(*inputs)
        return out

    return program


def as_onnx(network: nn.Module, inputs: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> bytes:
    with _quiet():
        made: Any = torch.onnx.export(
            exported(network, inputs),
            input_names=list(inputs),
            output_names=["output"],
            dynamo=True,
            verbose=False,
            custom_translation_table=lstm.translations(),
        )
    model = made.model_proto
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = model.SerializeToString()
    return content


def of_onnx(content: bytes) -> Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def program(*inputs: torch.Tensor) -> torch.Tensor:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of these packages on their own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _refuse_others(model: Decoder) -> None:
    if model.output_kind == "noise":
        raise ValueError(
            f"{model.name} generates step by step from noise, which is a loop around a network: use it by load_model, "
            "or export model.network by torch.export"
        )
    if model.output_kind != "outputs":
        raise ValueError(f"{model.name} is a pretraining, whose outputs are no predictions: export what starts from it")
    if reason := REFUSED.get(model.model_name):
        raise ValueError(f"model={model.model_name} cannot be exported: {reason}")
