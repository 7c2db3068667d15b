"""The verb drill: break a planned run on purpose, and check that its results do not change."""

import sys
from collections.abc import Mapping

from hpc.cli import planner
from hpc.cli.options import Arguments
from hpc.codes import DONE, FAILED, REFUSED
from hpc.drill import drill
from hpc.drill.faults import FAULTS
from hpc.errors import ConfigError
from hpc.site import allocation
from hpc.submit import executors


def run_drill(args: Arguments, environ: Mapping[str, str]) -> int:
    if not args.words or "=" in args.words[0]:
        raise ConfigError("drill what? Say a stage first: drill train my-study.yaml --nodes 2")
    args.verb, *args.words = args.words
    if args.verb == "pipeline":
        raise ConfigError("drill is for one stage at a time: drill train my-study.yaml")
    if isinstance(args.nodes, str):
        raise ConfigError(f"--nodes {args.nodes}: a drill compares runs on one number of nodes: say one")
    plans = planner.make(args, environ)
    if len(plans) != 1:
        missing = " and ".join(plan.science.section for plan in plans[:-1])
        raise ConfigError(
            f"drill breaks {args.verb} alone, which reads what is not there yet ({missing}): make it first with "
            f"`python -m hpc.launch {' '.join(['pipeline', *args.words])}`"
        )
    if plans[0].resources.container and plans[0].site.container.runtime == "podman":
        raise ConfigError(
            "drill kills ranks by their numbers, and podman gives processes other numbers than they have outside: say "
            "--container none"
        )
    print(plans[0].render(), flush=True)
    allocation.check_usable(plans[0].site)
    faults = args.faults.split(",") if args.faults else list(FAULTS)
    try:
        return FAILED if drill.drill(plans[0], faults, args.repeat) else DONE
    except executors.SubmitError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
