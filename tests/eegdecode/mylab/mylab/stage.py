"""A stage: its config and its function."""

from dataclasses import dataclass

from hpc import Context, Input


@dataclass(frozen=True)
class SizeOfStore:
    data: Input  # a preprocess run


def size_of_store(cfg: SizeOfStore, ctx: Context) -> dict[str, object]:
    """How many bytes a store has."""
    return {"bytes": sum(path.stat().st_size for path in ctx.input(cfg.data).glob("*.h5"))}
