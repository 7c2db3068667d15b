"""The models by name, and the one way to build one. Light to import: a model's own file brings torch.

`eegdecode/models/NAME.py` holds the network of each name, its class Network(cfg, spec). A network is called with
([window, time, channel], whose [window]) and gives what the shape of the target asks for: [window, step, output] where
the target follows the signal in time, else [window, output]. What learns without a target gives what its objective
reads.
"""

import importlib
from typing import TYPE_CHECKING, Any

from eegdecode.models.knobs.external import EEGPT2, Braindecode, NeuroGPT
from eegdecode.models.knobs.masked import EEGPT, MAE, TFC, EEGPTPretrain, MAEPretrain, TFCPretrain
from eegdecode.models.knobs.recurrent import BiLSTM
from eegdecode.signals import SignalSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "EEGPT",
    "EEGPT2",
    "MAE",
    "MODELS",
    "TFC",
    "BiLSTM",
    "Braindecode",
    "EEGPTPretrain",
    "MAEPretrain",
    "Model",
    "NeuroGPT",
    "TFCPretrain",
    "after_step",
    "build",
]

Model = BiLSTM | Braindecode | EEGPT | EEGPT2 | EEGPTPretrain | MAE | MAEPretrain | NeuroGPT | TFC | TFCPretrain
"""What a config may name. EEGPT2 and NeuroGPT say why they are not among MODELS."""
MODELS: dict[str, type[Any]] = {
    "bilstm": BiLSTM,
    "braindecode": Braindecode,
    "eegpt": EEGPT,
    "eegpt_pretrain": EEGPTPretrain,
    "mae": MAE,
    "mae_pretrain": MAEPretrain,
    "tfc": TFC,
    "tfc_pretrain": TFCPretrain,
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
