"""Run a comparison: `python -m bench NAME [PATH] [--quick]`, or all of them without a name.

Each prints a table of ours, the peers and the limit, then one line of JSON, {"goal": {"value", "bar", "ok"}}.
`python -m bench gpu` is for a machine with a GPU, and none of all.
`python -m bench busy [SECONDS]` compares nothing: it keeps the machine busy, for tests to be run beside it.
Exit codes: 0 every goal reached, 1 one falls short, 2 wrong usage, 3 a peer is not installed, or there is no GPU.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

from bench import busy
from bench.compare import PeerMissing
from hpc.rank import threads

NAMES = (
    "startup",
    "checkpoint",
    "staging",
    "formats",
    "preprocess",
    "day",
    "index",
    "trust",
    "loader",
    "metrics",
    "nulls",
    "folds",
    "models",
    "loop",
    "ddp",
    "speech",
    "recovery",
    "scale",
    "quiet",
    "page",
    "drills",
    "recipes",
)
TOOLS = ("busy",)
"""What is no comparison, and not one of all."""
ON_A_GPU = ("gpu",)
WITH_PATH = ("formats", "speech", "recipes")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=(*NAMES, *ON_A_GPU, *TOOLS), help="which comparison; all without it")
    parser.add_argument(
        "path",
        nargs="?",
        help="formats: a folder of recordings; speech: the set of Etard; recipes: one of them; busy: SECONDS",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer rounds, under a minute; recovery, quiet, speech, drills, recipes: longer",
    )
    parser.add_argument("--peers-python", default="", help="loader, metrics, models, gpu: a python that has the peers")
    parser.add_argument("--out", default="", metavar="FILE", help="gpu: write each figure there as soon as it is there")
    parser.add_argument("--imitated", action="store_true", help="gpu: in a tiny size on an imitated one, for no figure")
    options = parser.parse_args(argv)
    if options.path and options.name not in (*WITH_PATH, *TOOLS):
        parser.error(f"{options.name or 'all of them'} takes no path, only {', '.join(WITH_PATH)} do")
    if (options.out or options.imitated) and options.name not in ON_A_GPU:
        parser.error("--out and --imitated are for gpu")
    if options.out and Path(options.out).exists() and not Path(options.out).is_file():
        parser.error(f"--out is a file, new or old, but {options.out} is something else: name another one")
    if options.name in TOOLS:
        if options.path and not options.path.isdigit():
            parser.error(f"busy takes a whole number of seconds, or none for until Ctrl-C, but got {options.path!r}")
        busy.stay(int(options.path) if options.path else None)
        return 0
    threads.cap(threads.given(os.environ))  # as a rank that has this machine to itself
    code = 0
    for name in [options.name] if options.name else NAMES:
        try:
            elsewhere: list[object] = [options.peers_python]
            paths: list[object] = [options.path] if options.path else []
            more = {
                "formats": paths, "speech": paths, "recipes": paths,
                "loader": elsewhere, "metrics": elsewhere, "models": elsewhere,
                "gpu": [options.out, options.imitated, options.peers_python],
            }.get(name, [])  # fmt: skip
            reached = importlib.import_module(f"bench.{name}").run(options.quick, *more)
        except PeerMissing as missing:
            print(f"{name}: {missing}", file=sys.stderr)
            return 3
        code = code or (0 if reached else 1)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
