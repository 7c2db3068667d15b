"""Begin with parameters that were trained elsewhere: what fits by name and shape is taken, what does not is said."""

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eegdecode.models.parts import trainable
from eegdecode.training import model_file
from eegdecode.training.config import Start
from eegdecode.weights import files, pickles
from hpc.checkpoint import checkpoint

log = logging.getLogger(__name__)

WRAPS = ("module.", "_orig_mod.", "model.", "network.", "state_dict.")
"""What other tools put before names."""


@dataclass(frozen=True)
class Transfer:
    """What of a model was found in a file."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    unlike: tuple[str, ...]
    """With another shape; both stand in the text."""

    def sentences(self) -> list[str]:
        found = [f"{len(self.loaded)} of {len(self.loaded) + len(self.missing) + len(self.unlike)} tensors found"]
        for what, names in (
            ("drawn anew, as not there", self.missing),
            ("drawn anew, as of another shape", self.unlike),
            ("not needed", self.unexpected),
        ):
            if names:
                found.append(f"{what}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''} ({len(names)})")
        return found


def begin(network: nn.Module, cfg: Start, source: Path) -> Transfer:
    """Load what fits into the network. `source`: where what cfg names is."""
    found = load(network, tensors(source), cfg.prefix)
    for sentence in found.sentences():
        log.info("%s: %s", cfg.source, sentence)
    heads = tuple(f"{head}." for head in trainable.heads_of(network))
    lacking = [name for name in (*found.missing, *(text.split(" ")[0] for text in found.unlike))]
    if cfg.need == "encoder":
        lacking = [name for name in lacking if not name.startswith(heads)]
    if not found.loaded or (cfg.need != "some" and lacking):
        raise ValueError(
            f"{cfg.source} has not what start.need={cfg.need} asks for: {'; '.join(found.sentences())}. Look at it "
            "with `python -m hpc.launch inspect`, give start.prefix, or say start.need=some"
        )
    return found


def load(network: nn.Module, given: Mapping[str, torch.Tensor], prefix: str = "") -> Transfer:
    """Into the network, what has the name and the shape of something there."""
    if prefix:
        given = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
    own = network.state_dict()
    while any(all(name.startswith(wrap) for name in given) and not set(given) & set(own) for wrap in WRAPS):
        given = {name.partition(".")[2]: value for name, value in given.items()}
    translate = getattr(network, "translate", None)
    if translate is not None:  # knows what others call its parts
        given = translate(given)
    given = {_bare(name, own): value for name, value in given.items()}
    fit = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    unlike = [
        f"{name} {tuple(given[name].shape)} there, {tuple(own[name].shape)} here"
        for name in own
        if name in given and name not in fit
    ]
    if not any(parameter.is_meta for parameter in network.parameters()):  # these have no place for numbers
        network.load_state_dict(fit, strict=False)
    missing = [name for name in own if name not in given]
    return Transfer(tuple(fit), tuple(missing), tuple(name for name in given if name not in own), tuple(unlike))


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's model, of a checkpoint or of a file. Nothing in it is executed."""
    if path.is_dir():
        if (path / "model.pt").is_file():
            return model_file.load(path).parameters
        if (path / "COMMIT").is_file():
            return checkpoint.load_from(path)["model"]
        raise ValueError(
            f"start.source {path} is a folder without a model.pt, and no checkpoint: name a train run, or a file"
        )
    if not path.is_file():
        raise ValueError(f"start.source {path} is not there: name a train run, or a file of parameters")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (*pickles.BROKEN, RuntimeError, OSError):  # what torch says of it is to load it with the code it brings
        raise ValueError(f"start.source: {_why_not(path)}") from None
    if not (tensors := flat(found)):
        raise ValueError(f"start.source: {path} holds no tensors by name, but a {type(found).__name__}")
    return tensors


def _why_not(path: Path) -> str:
    """Why the tensors of a file are not read, as a reader finds that runs nothing of it."""
    try:
        found = files.look(path)
    except ValueError as error:
        return str(error)
    if found.code:
        return (
            f"{path} cannot be read without running code from it ({', '.join(found.code[:5])}). Where you trust who "
            "made it, save its tensors alone: torch.save(model.state_dict(), …)"
        )
    how = (
        "pip install safetensors" if found.form == "safetensors" else "save it anew, torch.save(model.state_dict(), …)"
    )
    return f"{path} ({found.form}) cannot be read by torch: {how}"


def flat(found: Any) -> dict[str, torch.Tensor]:
    """The tensors of a file, in whatever dict it keeps them: the first of the usual names that is one of tensors."""
    for key in ("parameters", "state_dict", "model", "model_state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            return flat(found[key])
    if not isinstance(found, Mapping):
        return {}
    return {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}


def _bare(name: str, own: Mapping[str, torch.Tensor]) -> str:
    """A name without what others wrap models in, where only that makes it one of ours."""
    bare = name
    while bare not in own and bare.startswith(WRAPS):
        bare = bare.removeprefix(next(wrap for wrap in WRAPS if bare.startswith(wrap)))
    return bare if bare in own else name
