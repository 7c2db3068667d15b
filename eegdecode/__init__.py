"""The science: from recordings of EEG and MEG to decoders and numbers one can trust.

The names below are for notebooks; each is imported when it is first used.
"""

from __future__ import annotations

from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from eegdecode.data.store.store import open_store
    from eegdecode.decoder.decoder import Decoder, load_model
    from eegdecode.decoder.estimator import EEGClassifier, EEGRegressor
    from eegdecode.decoder.predict import Predictions, predict
    from eegdecode.evaluation.decode.predictions import read as read_predictions
    from eegdecode.exchange.opened import open_run as open
    from eegdecode.training.model_file import load as read_model

__all__ = [
    "RECIPES", "Decoder", "EEGClassifier", "EEGRegressor", "Predictions", "load_model", "open", "open_store", "predict",
    "read_model", "read_predictions",
]  # fmt: skip

_BESIDE = Path(__file__).parent / "configs"
RECIPES = _BESIDE if _BESIDE.is_dir() else _BESIDE.parent.parent / "configs"
"""The folder of our config files: inside the package if it is installed from a wheel, next to it in a checkout."""

_AT = {
    "Decoder": ("eegdecode.decoder.decoder", "Decoder"),
    "EEGClassifier": ("eegdecode.decoder.estimator", "EEGClassifier"),
    "EEGRegressor": ("eegdecode.decoder.estimator", "EEGRegressor"),
    "Predictions": ("eegdecode.decoder.predict", "Predictions"),
    "load_model": ("eegdecode.decoder.decoder", "load_model"),
    "open": ("eegdecode.exchange.opened", "open_run"),
    "open_store": ("eegdecode.data.store.store", "open_store"),
    "predict": ("eegdecode.decoder.predict", "predict"),
    "read_model": ("eegdecode.training.model_file", "load"),
    "read_predictions": ("eegdecode.evaluation.decode.predictions", "read"),
}


def __getattr__(name: str) -> Any:
    if name not in _AT:
        raise AttributeError(f"module 'eegdecode' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _AT[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
