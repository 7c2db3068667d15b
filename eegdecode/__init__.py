"""The science: from EEG and MEG recordings to decoders, and to figures that can be trusted."""

from pathlib import Path

_BESIDE = Path(__file__).parent / "configs"
RECIPES = _BESIDE if _BESIDE.is_dir() else _BESIDE.parent.parent / "configs"
"""The folder with our config files: inside the package when installed from a wheel, next to it in a checkout."""
