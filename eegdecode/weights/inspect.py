"""Show what is in a file of weights, and what a model would load of it; no code of the file runs.

    python -m hpc.launch inspect FILE                                              names, shapes, counts
    python -m hpc.launch inspect FILE model=bilstm model.hidden=250 n_channels=31  and what that model would load
    python -m hpc.launch inspect FILE OTHER                                        how two differ

Torch is imported only to build a model or to read one of our checkpoints.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegdecode import models
from eegdecode.data.io import guard
from eegdecode.models import Model
from eegdecode.signals import SignalSpec
from hpc import config

if TYPE_CHECKING:
    from eegdecode.weights.files import WeightsFile
    from eegdecode.weights.matching import Network


@dataclass(frozen=True)
class Inspect:
    """The model to compare with, and the data it is built for; our own model.pt has both."""

    model: Model | None = None
    channels: tuple[str, ...] = ()  # their names, for models that use names
    n_channels: int | None = None
    n_outputs: int | None = None
    n_times: int | None = None  # samples of a window
    sfreq: float | None = None  # Hz
    target_sfreq: float | None = None  # Hz; 0 for a target with one row a window

    def __post_init__(self) -> None:
        if self.channels and self.n_channels not in (None, len(self.channels)):
            raise ValueError(f"n_channels is {self.n_channels}, but {len(self.channels)} channels are named")


def run(cfg: Inspect, files: Sequence[Path], as_json: bool) -> str:
    """Show the weights in a file, and which of them model=NAME would load; compare two files.

    Gives the text to print. Raises ValueError with a sentence if a file cannot be read.
    """
    from eegdecode.weights import summary
    from eegdecode.weights.files import look
    from eegdecode.weights.matching import for_training

    if len(files) not in (1, 2):
        raise ValueError(f"inspect one file, or two to compare them, but got {len(files)}")
    inspected = [look(path) for path in files]
    report: dict[str, Any] = {"files": [summary.values(each) for each in inspected]}
    texts = [summary.text(each) for each in inspected[:1]] if len(inspected) == 1 else [summary.compared(*inspected)]
    for each in inspected:
        name, network = _network(cfg, each)
        if network is not None:
            matched = for_training(each.shapes, network)
            label = f"of {each.path.name}, {name}" if len(inspected) == 2 else name
            report.setdefault("loads", []).append(summary.match_values(name, matched))
            texts.append(summary.match_text(label, matched, network.shapes))
    return json.dumps(report, indent=1) if as_json else "\n\n".join(texts)


def _network(cfg: Inspect, file: "WeightsFile") -> tuple[str, "Network | None"]:
    """The configured model, or that of the file, by its name."""
    if cfg.model is None and (file.config is None or file.spec is None):
        return "", None
    import torch

    from eegdecode.weights.matching import Network

    try:
        model = cfg.model or config.build(models.Model, file.config["model"], "model")  # type: ignore[index,type-abstract]
        with torch.device("meta"):  # shapes without values, however large the file says the model is
            network = models.build(model, _spec(cfg, file))
    except ValueError:
        raise
    except (TypeError, KeyError, AttributeError, RuntimeError, OverflowError, ZeroDivisionError, IndexError) as error:
        raise guard.Refused(
            f"{file.path} does not say of which model it is, and of what data ({guard.reason(error)}): give model=NAME"
        ) from None
    return model.name, Network.of(network)


def _spec(cfg: Inspect, file: "WeightsFile") -> SignalSpec:
    """The data: as configured, else from the file, else one window of EEGPT's fine-tuning."""
    spec = SignalSpec((), 256.0, 4, n_times=1024)
    if file.spec is not None:
        spec = SignalSpec(**file.spec)
    n_channels = len(cfg.channels) or cfg.n_channels or spec.n_channels or 19
    channels = cfg.channels or (spec.channels if n_channels == spec.n_channels else ())
    overrides = {name: getattr(cfg, name) for name in ("n_outputs", "n_times", "sfreq", "target_sfreq")}
    return replace(
        spec,
        channels=channels or tuple(f"E{index}" for index in range(n_channels)),
        **{name: value for name, value in overrides.items() if value is not None},
    )
