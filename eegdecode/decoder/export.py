"""A trained model as a file for programs without this package: `hpc export-model RUN -o model.onnx`.

A `.pt2` is a program of torch.export, which torch alone loads; an `.onnx` is what ONNX Runtime and others run. Either
takes any number of windows at once, [window, channel, time] as the model's preprocessing recipe makes them; the recipe
is in the file. Its outputs are compared with the model's before it is written.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ENDINGS = (".pt2", ".onnx")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What writes an .onnx, and compares it: the extra `onnx`."""


@dataclass(frozen=True)
class ExportModel:
    """Which file is written."""

    output: str = ""  # the file to write, NAME.pt2 for torch.export or NAME.onnx (default: RUN.pt2, here)
    runs: str = "runs"  # the folder that holds the run folders
    length_s: float | None = None  # length of a window in seconds, for models that were trained on whole trials


def run(cfg: ExportModel, files: Sequence[Path], as_json: bool) -> str:
    """Write a trained model as a program of torch.export or ONNX.

    python -m hpc.launch export-model RUN -o decoder.pt2
    python -m hpc.launch export-model train-k3f9 -o decoder.onnx
    """
    if len(files) != 1:
        raise ValueError(f"export-model writes one model, but got {len(files)}: give a line for each")
    path = Path(cfg.output or f"{files[0].name}.pt2")
    if path.suffix not in ENDINGS:
        raise ValueError(f"say which file to write, -o NAME.pt2 or -o NAME.onnx, but got {cfg.output}")
    if path.suffix == ".onnx" and (lacking := [name for name in PACKAGES if not find_spec(name)]):
        raise ValueError(
            f'to write {path} needs {" and ".join(lacking)}: pip install "hpc-eegdecode[onnx]", or write a .pt2'
        )
    from eegdecode.decoder import program
    from eegdecode.decoder.decoder import load_model

    written = program.export(load_model(files[0], cfg.runs), path, cfg.length_s)
    if as_json:
        return json.dumps({"file": str(path), **written.to_json()})
    return f"wrote {path}: {written}"
