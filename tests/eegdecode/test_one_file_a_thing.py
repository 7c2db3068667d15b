"""What is chosen by its name is one file, its config included; its config is read without torch."""

import json
import subprocess
import sys

import pytest

PLACES = {
    "models": "eegdecode.models.config:MODELS",
    "objectives": "eegdecode.objectives.config:OBJECTIVES",
    "augmentations": "eegdecode.training.augmentations.config:AUGMENTATIONS",
    "targets": "eegdecode.data.targets.config:TARGETS",
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


@pytest.mark.parametrize(
    ("asked", "there", "read"),
    [
        ("completion.candidates(['train', 'model='])", "model=eegnet", ["bilstm"]),
        ("completion.candidates(['sweep', 'pipeline', 'train.model='])", "train.model=eegnet", ["bilstm"]),
        ("completion.candidates(['train', 'optim.l'])", "optim.lr=", ["bilstm"]),
        ("completion.candidates(['train', 'model=deep4', 'model.'])", "model.dropout=", ["bilstm", "deep4"]),
        ("help.text('train')", "deep4,", ["bilstm"]),
        (
            "reference.below(stages.schema(stages.load(stages.entry('train'))), 'model.deep4')[0]",
            "deep4",
            ["bilstm", "deep4"],
        ),
    ],
)
def test_names_are_offered_without_reading_the_files(asked: str, there: str, read: list[str]) -> None:
    """bilstm is the default, and is read for its settings."""
    script = (
        "import sys, json; from hpc.cli import completion, help; from hpc.config import reference, stages; "
        f"answer = {asked}; every = [m.rpartition('.') for m in sys.modules]; "
        "print(json.dumps([answer, [name for package, _, name in every if package == 'eegdecode.models']]))"
    )
    *_, last = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()
    answer, modules = json.loads(last)
    assert there in answer
    assert sorted({*modules} - {"config", "parts"}) == read
