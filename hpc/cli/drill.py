"""The verb drill: break what was planned, and see whether it ends the same."""

import sys
from collections.abc import Mapping

from hpc import DONE, FAILED, REFUSED
from hpc.cli import planner
from hpc.cli.options import Words
from hpc.drill import drill
from hpc.drill.faults import FAULTS
from hpc.errors import ConfigError
from hpc.site import allocation
from hpc.submit import executors


def run_drill(said: Words, environ: Mapping[str, str]) -> int:
    if not said.words or "=" in said.words[0]:
        raise ConfigError("drill what? Say a stage first: drill train my-study.yaml --nodes 2")
    said.verb, *said.words = said.words
    plans = planner.make(said, environ)
    if len(plans) != 1:
        raise ConfigError("drill one stage: the others run undisturbed before it, with `pipeline`")
    print(plans[0].render(), flush=True)
    allocation.check_usable(plans[0].site)
    faults = said.faults.split(",") if said.faults else list(FAULTS)
    try:
        return FAILED if drill.drill(plans[0], faults, said.repeat) else DONE
    except executors.SubmitError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
