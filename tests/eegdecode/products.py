"""What the runs of a recipe left, in a few words that are the same on any processor."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from eegdecode.training import model_file
from hpc.runs.products import LIST
from hpc.runs.rundir import RunDir, read_lines

CAME_LATER = (
    "channels.tsv", "components.tsv", "window/session", "window/block",
    *(f"{name}.csv" for name in ("figures", "subjects", "classes", "curves", "predictions")),
    *(f"{name}/{part}" for name in ("validation", "confounds") for part in ("of", "value")),
    *(f"baseline/{name}" for name in ("mdm", "evoked", "xdawn", "fbcca", "trca", "filterbank")),
)  # fmt: skip
"""Files of a run, and tables in one, that came after the records."""
NOT_ALIKE = ("output", "baseline/")
"""What networks and baselines make of the data: trained sums differ with the processor."""


def fingerprint(run: RunDir) -> dict[str, Any]:
    """The name of a run, a hash of all that is exact in what it left, and figures of the rest.

    Exact are names, shapes, types, whole numbers and words: which recordings, trials and windows there are, in which
    order, and the parameters of a model by name and shape. Of floating-point numbers there are mean and spread, and of
    a training the loss of its first step.
    """
    exact: list[Any] = []
    numbers: dict[str, list[float]] = {}
    for path in sorted(run.out.rglob("*.h5")):
        _of_hdf5(path, exact, numbers)
    files = [path.relative_to(run.out) for path in run.out.rglob("*") if path.is_file()]
    drawn = re.compile(r".*\.(decisions|page)\.json|preprocess-\d+\.html")  # what came after the records as well
    files = [file for file in files if not drawn.fullmatch(file.name)]
    # The page of a store was called survey.html
    names = [Path("survey.html") if file.name == "preprocess.html" else file for file in files]
    exact += [str(name) for name in sorted(names) if str(name) not in (LIST, *CAME_LATER)]
    if (run.out / "model.pt").exists():
        parameters = model_file.load(run.out).parameters
        exact += [(name, list(value.shape), str(value.dtype)) for name, value in parameters.items()]
        numbers["first loss"] = [float(read_lines(run.metrics)[0]["loss"])]
    digest = hashlib.sha256(json.dumps(exact, ensure_ascii=False).encode()).hexdigest()
    return {"run": run.name, "exact": digest, "numbers": numbers}


def _of_hdf5(path: Path, exact: list[Any], numbers: dict[str, list[float]]) -> None:
    def look(name: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset) or name in ("about", *CAME_LATER):  # about has checksums of all numbers
            return
        exact.append((path.name, name, list(item.shape), str(item.dtype)))
        if item.dtype.kind == "f":
            if not name.startswith(NOT_ALIKE):
                values = np.asarray(item[()], float)
                numbers[f"{path.name}:{name}"] = [float(values.mean()), float(values.std())]
        elif item.dtype == object:
            exact.append([text.decode() for text in item[()].tolist()])
        else:
            exact.append(item[()].tolist())

    with h5py.File(path) as file:
        file.visititems(look)
