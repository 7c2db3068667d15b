"""Convert a file of weights to safetensors, whoever wrote it; no code of the file runs.

    python -m hpc.launch convert runs/train-k3f9 -o weights.safetensors
    python -m hpc.launch convert eegpt.ckpt prefix=target_encoder. input=eegpt -o eegpt.safetensors

Of a run it takes the config and the spec of its model along, and of weights whose input recipe is named, that recipe.
Training compares both with the signal it gets (eegdecode/weights/inputs.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegdecode.data.io.readers import safetensors
from eegdecode.models.pretrained import recipes
from hpc.runs.rundir import atomic_write


@dataclass(frozen=True)
class Convert:
    """What of a file of weights is written, and where to."""

    output: str = ""  # the file to write, NAME.safetensors
    prefix: str = ""  # take only the tensors whose names begin with it, and drop it
    input: str = ""  # the input recipe of these weights, as cbramod, if the file does not name it


def run(cfg: Convert, files: Sequence[Path], as_json: bool) -> str:
    """Write the parameters of a file, a checkpoint or a run as safetensors.

    python -m hpc.launch convert runs/train-k3f9 -o decoder.safetensors
    python -m hpc.launch convert eegpt.ckpt prefix=target_encoder. input=eegpt -o eegpt.safetensors
    """
    if len(files) != 1:
        raise ValueError(f"convert gets one file, but got {len(files)}: give a line for each")
    if not cfg.output.endswith(".safetensors"):
        raise ValueError(f"say which file to write, -o NAME.safetensors, but got {cfg.output or 'none'}")
    recipe = recipes.recipe(cfg.input) if cfg.input else None
    from eegdecode.weights import files as weights
    from eegdecode.weights import tensors

    file = weights.look(files[0])
    names = {name: name.removeprefix(cfg.prefix) for name in file.shapes if name.startswith(cfg.prefix)}
    if not names:
        raise ValueError(f"no tensor of {file.path} begins with {cfg.prefix!r}: hpc inspect lists them")
    read = tensors.read(file, names)
    about: dict[str, Any] = {"config": file.config, "spec": file.spec, "input": file.input}
    if recipe is not None:
        about["input"] = recipe.to_json()
    metadata = {key: json.dumps(value, sort_keys=True) for key, value in about.items() if value is not None}
    values = {names[name]: value for name, value in read.items()}
    output = Path(cfg.output)
    atomic_write(output, lambda out: safetensors.write(out, values, {"format": "pt", **metadata}))
    n_values = sum(value.numel() for value in values.values())
    if as_json:
        return json.dumps({"file": cfg.output, "tensors": len(values), "values": n_values, "with": sorted(metadata)})
    return f"wrote {cfg.output}: {len(values)} tensors, {n_values:,} values{_with(metadata)}"


def _with(metadata: dict[str, str]) -> str:
    words = {"config": "the config", "spec": "the spec of the signal", "input": "the input recipe"}
    there = [word for key, word in words.items() if key in metadata]
    return f", with {' and '.join(there)}" if there else ""
