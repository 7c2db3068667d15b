"""The science: from recordings of EEG and MEG to decoders and numbers one can trust."""

from pathlib import Path

_BESIDE = Path(__file__).parent / "configs"
RECIPES = _BESIDE if _BESIDE.is_dir() else _BESIDE.parent.parent / "configs"
"""The folder of our config files: inside the package where it is installed from a wheel, beside it in a checkout."""
