"""The names in `import hpc` and `import eegdecode`, and the time that importing takes."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PUBLIC = {
    "hpc": [
        "Choices", "ConfigError", "Context", "DONE", "FAILED", "HUNG", "Input", "NEVER", "Preempted", "REFUSED",
        "RunDir", "STOPPED", "Secret", "USAGE", "World", "checked_by",
    ],
    "eegdecode": ["RECIPES", "open", "open_store", "read_model", "read_predictions"],
}  # fmt: skip
"""A name that goes from here breaks other people's code: announce it one version before."""


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these_and_each_can_be_had(package: str) -> None:
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__) == sorted(PUBLIC[package])
    for name in PUBLIC[package]:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", PUBLIC)
def test_importing_a_package_imports_nothing_heavy(package: str, tmp_path: Path) -> None:
    code = f"import sys; import {package}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "mne", "h5py", "numpy", "submitit", "omegaconf", "scipy"}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_says_that_it_has_types(package: str) -> None:
    module = importlib.import_module(package)
    assert (Path(str(module.__file__)).parent / "py.typed").is_file()
