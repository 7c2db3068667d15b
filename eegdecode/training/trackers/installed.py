"""Whether the packages of trackers are there; a plan asks, so it imports none of them."""

from collections.abc import Sequence
from importlib.util import find_spec


def missing(names: Sequence[str]) -> str:
    """A sentence for the plan about what is not installed; empty if all is."""
    specs = {name: find_spec(name) for name in names}  # a folder `wandb` in the working directory is found too
    absent = [name for name, spec in specs.items() if spec is None or spec.origin is None]
    return " · ".join(
        f"watch.trackers names {name}, which is not installed: the run goes on without it, or {how_to_install(name)}"
        for name in absent
    )


def how_to_install(name: str) -> str:
    return f"install it with `env/setup.sh cpu --extras {name}`, or pip install hpc-eegdecode[{name}]"
