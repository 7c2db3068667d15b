"""A trained model on disk: parameters and plain values in one file. Loading it executes no code from it."""

import dataclasses
import io
import pickle
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from eegdecode import models
from eegdecode.data.config import Split
from eegdecode.data.io import guard
from eegdecode.data.io.guard import Refused
from eegdecode.models import Model
from eegdecode.objectives import AnyObjective, ObjectiveConfig
from eegdecode.signals import SignalSpec
from eegdecode.training.config import Train, without_receivers
from hpc import config
from hpc.rank.context import Input
from hpc.runs import products
from hpc.runs.rundir import RunDir


@dataclass(frozen=True)
class Trained:
    """A trained model, and how it was trained.

    Parameters
    ----------
    run
        The run that trained it.
    config
        Its config as plain values; the properties below have the parts that evaluation needs.
    spec
        The signal it reads and the number of its outputs.
    parameters
        Those with the lowest loss on the validation set.
    step, validation
        The step of the parameters, and their figures on the validation set: loss, r.
    preprocessing
        How the recordings were made, see `setup.preprocessing`; empty for models of earlier versions.
    """

    run: RunDir
    config: dict[str, Any]
    spec: SignalSpec
    parameters: dict[str, torch.Tensor]
    step: int
    validation: dict[str, float]
    preprocessing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def data(self) -> tuple[Input, ...]:
        return tuple(Input(name) for name in self.config["data"])

    @property
    def target(self) -> str:
        return str(self.config["target"])

    @property
    def model(self) -> Model:
        return self.train().model

    @property
    def objective(self) -> ObjectiveConfig:
        return config.build(AnyObjective, self.config["objective"], "objective")  # type: ignore[type-abstract]

    @property
    def split(self) -> Split:
        return Split(**self.config["split"])

    def train(self) -> Train:
        """The config of the training."""
        return config.build(Train, self.config, "train")

    @property
    def n_parameters(self) -> int:
        """The number of trained parameters, without the counts and averages of batch norms, which are in `parameters`
        too."""
        with torch.device("meta"):
            network = models.build(self.model, self.spec)
        return sum(parameter.numel() for parameter in network.parameters())

    @property
    def network_n_times(self) -> int | None:
        """The only length of windows that the network takes; None if it takes any."""
        with torch.device("meta"):
            return cast("int | None", models.build(self.model, self.spec).n_times)

    def network(self) -> torch.nn.Module:
        """The model with its parameters, ready to decode."""
        network = models.build(self.model, self.spec)
        network.load_state_dict(self.parameters)
        return network.eval()


def save(path: Path, cfg: Any, spec: SignalSpec, best: dict[str, Any]) -> None:
    """Save a model, with the fields of Trained in `best`."""
    fitted = {name: best[name] for name in ("parameters", "step", "validation")}
    fitted["preprocessing"] = best.get("preprocessing", [])
    science = config.blanked(dataclasses.asdict(cfg), [])  # whoever is told of alerts is no part of a model
    contents = _alike({"config": science, "spec": dataclasses.asdict(spec), **fitted})
    whole = io.BytesIO()
    torch.save(contents, whole)  # not to the file itself, because then torch does not report a full disk
    products.write_bytes(path, whole.getbuffer())


def _alike(value: Any) -> Any:
    """Return equal contents as the same objects, so that pickle writes the same bytes after a resume."""
    if isinstance(value, dict):
        return {_alike(key): _alike(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_alike(each) for each in value])
    return sys.intern(value) if isinstance(value, str) else value


def load(folder: Path, name: str = "model.pt") -> Trained:
    """Load a model that a train run left in its `out` folder."""
    path = folder / name
    if not path.is_file():
        guard.regular(path)
        products.refuse_gone(path)
        raise ValueError(f"{folder} holds no {name}: name a train run that has finished")
    products.verify(path)
    contents = _read(path)
    if not _is_model(contents):
        raise Refused(f"{path} is no model of a train run, or a damaged one: train again, or name another run")
    try:
        spec = SignalSpec(**contents["spec"])
    except (TypeError, ValueError) as error:
        raise Refused(f"{path} has a damaged description of its signal ({guard.reason(error)}): train again") from None
    science = without_receivers(contents["config"])
    return Trained(RunDir(folder.resolve().parent), **(contents | {"config": science, "spec": spec}))


KINDS = {
    "config": dict, "spec": dict, "parameters": dict, "step": int, "validation": dict, "preprocessing": list,
}  # fmt: skip
"""What `save` writes."""
LATER = {"preprocessing"}
"""What models of earlier versions lack."""


def _is_model(contents: Any) -> bool:
    return (
        isinstance(contents, dict)
        and set(KINDS) - LATER <= set(contents) <= set(KINDS)
        and all(isinstance(contents[name], KINDS[name]) for name in contents)
        and all(isinstance(value, torch.Tensor) for value in contents["parameters"].values())
    )


def _read(path: Path) -> Any:
    """Read a file and check it: torch saves a checksum of each part, but does not check it on loading."""
    try:
        guard.archive(path)
        with zipfile.ZipFile(path) as parts:
            broken = parts.testzip()
        if broken is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Refused as error:
        broken = str(error).removeprefix(f"{path} ")
    except pickle.UnpicklingError:  # torch's own advice is to execute the code in the file
        broken = "they make something else than tensors and plain values, which is not run"
    except Exception as error:  # noqa: BLE001  torch raises whatever it trips over
        broken = guard.reason(error).partition("weights_only")[0]
    raise Refused(
        f"{path} is damaged: its bytes are not those that were written ({broken}); copy it again, or train again"
    )
