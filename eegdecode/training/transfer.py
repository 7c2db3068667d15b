"""Start from pretrained weights: load the tensors that match by name and shape, report those that do not."""

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eegdecode.data.io import guard
from eegdecode.models.parts import trainable
from eegdecode.training import model_file
from eegdecode.training.config import Start
from eegdecode.weights import files
from eegdecode.weights.matching import renamed
from hpc.checkpoint import checkpoint
from hpc.checkpoint.format import Damaged
from hpc.runs import products

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transfer:
    """The tensors of a model that a file has, and those that it lacks."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    unlike: tuple[str, ...]
    """Tensors of another shape; the text names both shapes."""

    def sentences(self) -> list[str]:
        lines = [f"{len(self.loaded)} of {len(self.loaded) + len(self.missing) + len(self.unlike)} tensors found"]
        for what, names in (
            ("initialised, because the file lacks them", self.missing),
            ("initialised, because of another shape", self.unlike),
            ("not used", self.unexpected),
        ):
            if names:
                lines.append(f"{what}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''} ({len(names)})")
        return lines


def load_pretrained(network: nn.Module, cfg: Start, source: Path) -> Transfer:
    """Load the matching tensors into the network. `source`: the path that cfg names."""
    transfer = load(network, tensors(source), cfg.prefix)
    for sentence in transfer.sentences():
        log.info("%s: %s", cfg.source, sentence)
    heads = tuple(f"{head}." for head in trainable.heads_of(network))
    lacking = [name for name in (*transfer.missing, *(text.split(" ")[0] for text in transfer.unlike))]
    if cfg.need == "encoder":
        lacking = [name for name in lacking if not name.startswith(heads)]
    if not transfer.loaded or (cfg.need != "some" and lacking):
        raise ValueError(
            f"{cfg.source} lacks tensors that start.need={cfg.need} asks for: {'; '.join(transfer.sentences())}. Look "
            "at it with `python -m hpc.launch inspect`, set start.prefix, or set start.need=some"
        )
    return transfer


def load(network: nn.Module, given: Mapping[str, torch.Tensor], prefix: str = "") -> Transfer:
    """Load the tensors that match by name and shape into the network."""
    own = network.state_dict()
    given = renamed(given, own, prefix, getattr(network, "translate", None))
    fit = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    unlike = [
        f"{name} {tuple(given[name].shape)} there, {tuple(own[name].shape)} here"
        for name in own
        if name in given and name not in fit
    ]
    if not any(parameter.is_meta for parameter in network.parameters()):  # meta tensors hold no values
        network.load_state_dict(fit, strict=False)
    missing = [name for name in own if name not in given]
    return Transfer(tuple(fit), tuple(missing), tuple(name for name in given if name not in own), tuple(unlike))


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a run's model, of a checkpoint or of a file. No code in it is executed."""
    if path.is_dir():
        if (path / "model.pt").is_file():
            return model_file.load(path).parameters
        if (path / "COMMIT").is_file():
            return _of_checkpoint(path)
        products.refuse_gone(path / "model.pt")
        raise ValueError(
            f"start.source {path} is a folder without a model.pt and not a checkpoint: name a train run, or a file"
        )
    if not path.is_file():
        guard.regular(path)
        raise ValueError(f"start.source {path} is not there: name a train run, or a file of parameters")
    products.verify(path)
    try:
        if is_zip := zipfile.is_zipfile(path):
            guard.archive(path)
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        tensors = flat(contents)
    except guard.Refused:
        raise
    except Exception:  # noqa: BLE001  it raises whatever it trips over; its own advice is to execute the code in the file
        raise ValueError(f"start.source: {_why_not(path)}") from None
    if not tensors:
        raise ValueError(f"start.source: {path} holds no tensors by name, but a {type(contents).__name__}")
    return tensors


def _of_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = checkpoint.load_from(path)
    except Damaged as error:
        raise ValueError(f"start.source: {error}") from None
    if not isinstance(state.get("model"), dict):
        raise ValueError(f"start.source: the checkpoint {path} has no model in it: name one of a train run")
    return dict(state["model"])


def _why_not(path: Path) -> str:
    """Explain why the tensors of a file cannot be read, without executing anything in it."""
    try:
        report = files.look(path)
    except ValueError as error:
        return str(error)
    if report.code:
        return (
            f"{path} cannot be read without running code from it ({', '.join(report.code[:5])}). If you trust its "
            "source, save its tensors alone: torch.save(model.state_dict(), …)"
        )
    how = (
        "pip install safetensors"
        if report.form == "safetensors"
        else "save it again, torch.save(model.state_dict(), …)"
    )
    return f"{path} ({report.form}) cannot be read by torch: {how}"


def flat(contents: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, in whichever dict it keeps them: the first of the usual names that holds a dict."""
    for key in ("parameters", "state_dict", "model", "model_state_dict"):
        if isinstance(contents, Mapping) and isinstance(contents.get(key), Mapping):
            return flat(contents[key])
    if not isinstance(contents, Mapping):
        return {}
    return {str(name): value for name, value in contents.items() if isinstance(value, torch.Tensor)}
