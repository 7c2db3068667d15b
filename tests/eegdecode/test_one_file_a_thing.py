"""A model or a step is one file, its config included; found by its name, and read for its config without torch."""

import json
import subprocess
import sys

import pytest

PLACES = {
    "models": "eegdecode.models.config:MODELS",
    "steps": "eegdecode.preprocessing.steps.config:STEPS",
}
"""Where each of the choices by name is."""
HEAVY = ("torch", "mne", "h5py", "scipy")


@pytest.mark.parametrize("what", PLACES)
def test_all_configs_are_read_without_what_their_code_imports(what: str) -> None:
    module, name = PLACES[what].split(":")
    script = (
        f"import sys, json; from {module} import {name} as every; "
        "found = {name: [cls.__module__, cls.__name__] for name, cls in every.items()}; "
        f"print(json.dumps([found, [m for m in {HEAVY} if m in sys.modules]]))"
    )
    found, heavy = json.loads(subprocess.check_output([sys.executable, "-c", script], text=True))
    assert len(found) > 5 and heavy == []
    assert all(module.rpartition(".")[2] == name for name, (module, _) in found.items())
