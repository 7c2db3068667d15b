"""`python -m tests.fuzz [N]`: N mutated files over all formats, a table of what became of them, and each that is bad.

make fuzz N=3000                                    minutes
python -m tests.fuzz --only 'mat 5:17'              one case again, with its traceback
python -m tests.fuzz 500 --only edf --seed 3        other mutations of one format
"""

import argparse
import os
import sys
import time

from tests.fuzz.corpus import BY_NAME
from tests.fuzz.outcomes import GOOD, Outcome, run, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("n", type=int, nargs="?", default=3000, help="how many files (3000)")
    parser.add_argument("--only", action="append", default=[], metavar="FORMAT[:NUMBER]", help=", ".join(BY_NAME))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    names = list(dict.fromkeys(word.partition(":")[0] for word in args.only)) or list(BY_NAME)
    if unknown := [name for name in names if name not in BY_NAME]:
        parser.error(f"there is no format {unknown[0]!r}: {', '.join(BY_NAME)}")
    chosen = [int(word.partition(":")[2]) for word in args.only if ":" in word]
    numbers = chosen or range(-(-args.n // len(names)))
    n, began, outcomes = len(names) * len(numbers), time.monotonic(), list[Outcome]()
    for outcome in run(names, numbers, args.seed, args.jobs):
        outcomes.append(outcome)
        if outcome.word not in GOOD or chosen:
            print(f"\n{outcome.word}: {outcome.mutation}\n  {outcome.command}\n  {outcome.text.strip()}", flush=True)
        if len(outcomes) % 500 == 0:
            print(f"{len(outcomes)} of {n} files, {time.monotonic() - began:.0f} s", flush=True)
    print(f"\n{table(outcomes)}")
    return int(any(outcome.word not in GOOD for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
