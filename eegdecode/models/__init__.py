"""The models by name, and `build`, which makes a network. Light to import: a model's own file imports torch.

`eegdecode/models/NAME.py` has the network of each name as the class Network(cfg, spec). A network is called with
([window, time, channel], subject [window]) and returns [window, step, output] if the target is a time course, else
[window, output]. A self-supervised model returns what its objective reads.
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
"""Known models that are not provided; their config says why."""
Model = (
    Encoder | Fusion | Multipath | Joined | DiT | DiffWave | UNet | EEGPTPretrain | MAEPretrain | TFCPretrain | Refused
)
"""The choices of a config; the biLSTM by default."""
MODELS: dict[str, type[Any]] = {kind.name: kind for kind in get_args(Model) if kind not in get_args(Refused)}


def build(cfg: Model, spec: SignalSpec) -> "nn.Module":
    """Build a network for that signal. Its parameters are initialised from torch's global seed.

    Its `n_times` is the only length of windows that it takes, or None if it takes any. `heads` names the parts that
    make the outputs, `last` the last block (or the list that ends with it) and the norm behind it, if there is one.
    The network of a config from another package is the class Network of the module that declares the config.
    """
    declared = type(cfg).__module__
    ours = declared.startswith("eegdecode.")
    network: nn.Module = importlib.import_module(f"eegdecode.models.{cfg.name}" if ours else declared).Network(
        cfg, spec
    )
    return network


def after_step(network: "nn.Module", done: float) -> None:
    """Call this after each optimizer step. `done`: the part of the training that is done, from 0 to 1.

    Modules with a method of that name clip the norm of their weights or update a moving average.
    """
    for module in network.modules():
        act = getattr(module, "after_step", None)
        if act is not None:
            act(done)
