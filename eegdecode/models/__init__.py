"""The models by name, and the one way to build one. Light to import: a model's own file brings torch.

`eegdecode/models/NAME.py` holds the network of each name, its class Network(cfg, spec). A network is called with
([window, time, channel], whose [window]) and gives what the shape of the target asks for: [window, step, output] where
the target follows the signal in time, else [window, output]. What learns without a target gives what its objective
reads.
"""

import importlib
from typing import TYPE_CHECKING, Any, get_args

from eegdecode.models.config.convolutional import LFCNN, VARCNN, Conformer, Deep4, EEGNet, EEGNetSSVEP, Shallow
from eegdecode.models.config.encoders import Encoder
from eegdecode.models.config.external import EEGPT2, Braindecode, NeuroGPT
from eegdecode.models.config.fusion import Fusion, Multipath
from eegdecode.models.config.generators import DiffWave, DiT, UNet
from eegdecode.models.config.graphs import STGATE, Hybrid
from eegdecode.models.config.joined import Joined
from eegdecode.models.config.masked import EEGPT, MAE, TFC, EEGPTPretrain, MAEPretrain, TFCPretrain
from eegdecode.models.config.recurrent import BiLSTM
from eegdecode.models.config.speech import BrainModule
from eegdecode.models.config.streaming import TCN, Transformer
from eegdecode.signals import SignalSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "EEGPT", "EEGPT2", "LFCNN", "MAE", "MODELS", "STGATE", "TCN", "TFC", "VARCNN", "BiLSTM", "BrainModule",
    "Braindecode", "Conformer", "Deep4", "DiT", "DiffWave", "EEGNet", "EEGNetSSVEP", "EEGPTPretrain", "Encoder",
    "Fusion", "Hybrid", "Joined", "MAEPretrain", "Model", "Multipath", "NeuroGPT", "Shallow", "TFCPretrain",
    "Transformer", "UNet", "after_step", "build",
]  # fmt: skip

Refused = EEGPT2 | NeuroGPT
"""Names that people know and that are not here; they say why."""
Model = (
    Encoder | Fusion | Multipath | Joined | DiT | DiffWave | UNet | EEGPTPretrain | MAEPretrain | TFCPretrain | Refused
)
"""What a config may name; the biLSTM where it names none."""
MODELS: dict[str, type[Any]] = {kind.name: kind for kind in get_args(Model) if kind not in get_args(Refused)}


def build(cfg: Model, spec: SignalSpec) -> "nn.Module":
    """A network for that signal. Parameters are drawn from torch's own seed.

    Its `n_times` is the only length of windows that it takes, or None where it takes any. `heads` names its parts that
    make the outputs, `last` its last block (or the list that ends with it) and the norm behind, where there is one.
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
