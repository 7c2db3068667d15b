"""Start from pretrained weights: load the tensors that match by name and shape, report those that do not."""

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from eegdecode.models import ModelConfig
from eegdecode.models.parts import trainable
from eegdecode.signals import SignalSpec
from eegdecode.training.config import Start
from eegdecode.weights import files, inputs, matching, tensors
from eegdecode.weights.files import WeightsFile
from hpc.errors import first_of
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
                lines.append(f"{what}: {first_of(names, 8)} ({len(names)})")
        return lines


def load_pretrained(
    network: nn.Module, cfg: Start, source: Path, model: ModelConfig | None = None, spec: SignalSpec | None = None
) -> Transfer:
    """Load the matching tensors into the network. `source`: the path that cfg names.

    `model` and `spec`: of the network, if the signal is to be compared with that which the weights were trained on.
    """
    file = read(source)
    transfer = load(network, file, cfg.prefix)
    if model is not None and spec is not None and (why := inputs.why_other(file, model, spec, transfer.loaded)):
        if cfg.input == "check":
            raise ValueError(f"{cfg.source}: {why}; start.input=ignore starts from these weights nevertheless")
        log.warning("%s: %s", cfg.source, why)
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


def load(network: nn.Module, file: WeightsFile, prefix: str = "") -> Transfer:
    """Load the tensors that match by name and shape into the network: what `inspect` says of the same prefix."""
    own = matching.Network.of(network)
    match = matching.taken(file.shapes, own, prefix)
    if not any(parameter.is_meta for parameter in network.parameters()):  # meta tensors hold no values
        read = tensors.read(file, set(match.loaded.values()))
        values = {name: read[theirs] for name, theirs in match.loaded.items()}
        for name in own.shortened.keys() & values.keys():
            values[name] = values[name].narrow(own.shortened[name], 0, own.shapes[name].sizes[own.shortened[name]])
        network.load_state_dict(values, strict=False)
    unlike = (f"{name} {theirs.sizes} there, {ours.sizes} here" for name, (ours, theirs) in match.differ.items())
    return Transfer(tuple(match.loaded), match.missing, match.unexpected, tuple(unlike))


def read(source: Path) -> WeightsFile:
    """Read what is in the model of a run, a checkpoint or a file; tensors are read when they are loaded."""
    if source.is_dir() and not (source / "COMMIT").is_file():
        products.refuse_gone(source / "model.pt")
    try:
        return files.look(source)
    except ValueError as error:
        raise ValueError(f"start.source: {error}") from None
