"""The models by name, and the one way to build one. Light to import: a model's own file brings torch.

`eegdecode/models/NAME.py` holds the network of each name, its class Network(cfg, spec). A network is called with
([window, time, channel], whose [window]) and gives what the shape of the target asks for: [window, step, output] where
the target follows the signal in time, else [window, output]. What learns without a target gives what its objective
reads.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eegdecode.models.knobs.convolutional import LFCNN, VARCNN, Conformer, Deep4, EEGNet, EEGNetSSVEP, Shallow
from eegdecode.models.knobs.graphs import STGATE, Hybrid
from eegdecode.models.knobs.recurrent import BiLSTM
from eegdecode.models.knobs.streaming import TCN, Transformer
from eegdecode.signals import SignalSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "LFCNN",
    "MODELS",
    "STGATE",
    "TCN",
    "VARCNN",
    "BiLSTM",
    "Conformer",
    "Deep4",
    "EEGNet",
    "EEGNetSSVEP",
    "Hybrid",
    "Model",
    "Shallow",
    "Transformer",
    "after_step",
    "build",
    "from_plain",
]

Model = (
    BiLSTM | Conformer | Deep4 | EEGNet | EEGNetSSVEP | Hybrid | LFCNN | STGATE | Shallow | TCN | Transformer | VARCNN
)
MODELS: dict[str, type[Any]] = {
    "bilstm": BiLSTM,
    "conformer": Conformer,
    "deep4": Deep4,
    "eegnet": EEGNet,
    "eegnet_ssvep": EEGNetSSVEP,
    "hybrid": Hybrid,
    "lfcnn": LFCNN,
    "shallow": Shallow,
    "stgate": STGATE,
    "tcn": TCN,
    "transformer": Transformer,
    "varcnn": VARCNN,
}


def build(cfg: Model, spec: SignalSpec) -> "nn.Module":
    """A network for that signal. Parameters are drawn from torch's own seed.

    Its `n_times` is the only length of windows that it takes, or None where it takes any.
    """
    return importlib.import_module(f"eegdecode.models.{cfg.name}").Network(cfg, spec)


def after_step(network: "nn.Module", done: float) -> None:
    """To be called when the optimizer has moved the parameters. `done`: how much of the training, from 0 to 1.

    The parts that ask for it, by a method of that name, keep their weights within a norm or follow with an average.
    """
    for module in network.modules():
        act = getattr(module, "after_step", None)
        if act is not None:
            act(done)


def from_plain(values: Mapping[str, Any]) -> Model:
    """Knobs from the plain values of a saved run; `dataclasses.asdict` the other way round."""
    kind = MODELS[values["name"]]
    known = {field.name for field in dataclasses.fields(kind)}
    made: Model = kind(
        **{
            key: from_plain(value) if isinstance(value, Mapping) and value.get("name") in MODELS else value
            for key, value in values.items()
            if key in known
        }
    )
    return made
