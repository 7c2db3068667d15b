"""The target that a run of the stage features has made: its target.json, with paths from its own folder."""

from dataclasses import replace
from pathlib import Path

from eegdecode.data.targets.config import TargetConfig
from eegdecode.data.targets.embedding import Embedding
from eegdecode.data.targets.extra import Extra
from hpc import config
from hpc.runs import products

KINDS: dict[str, type[Embedding] | type[Extra]] = {"embedding": Embedding, "extra": Extra}


def target_of(folder: Path) -> TargetConfig:
    """The config of the target, its paths whole. Raises ValueError if the folder is not that of such a run."""
    values = products.read(folder / "target.json")
    if not isinstance(values, dict) or values.get("name") not in KINDS:
        raise ValueError(
            f"{folder} has no target.json: preprocess.features names a run of the stage features, or its `out`"
        )
    made = config.build(KINDS[values["name"]], values, "preprocess.features")
    if isinstance(made, Extra):
        return replace(made, file=str(folder / made.file))
    return replace(made, file=str(folder / made.file), index=str(folder / made.index))
