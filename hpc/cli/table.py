"""The verbs in one table: the sentence of each in --help, the function that carries it out, and its examples.

A package adds verbs of its own by entry points, as stages; they are about files, not about runs (hpc/cli/verbs.py).
"""

from hpc.config import plugins


class Verb:
    """A row of the table.

    Parameters
    ----------
    words
        The words that follow it on the line.
    what
        Its sentence in --help.
    where
        The function `(args, environ) -> exit code`, as `module:function`; it is imported when the verb is given.
    examples
        Lines that its own help shows as examples.
    more
        What its own help shows besides: a function that returns the text, as `module:function`.
    """

    def __init__(self, words: str, what: str, where: str, *examples: str, more: str = "") -> None:
        self.words = words
        self.what = what
        self.where = where
        self.examples = examples
        self.more = more


CONFIG = "[FILE.yaml or RECIPE ...] [key=value ...]"
PLAN = "hpc.cli.start:act"
"""The function that makes plans: for every stage, and for the verbs of several stages."""
SWEEPS = ("sweep", "bench")
"""The verbs that make many runs of a stage, which are arrays on a Slurm."""
VERBS = {
    "pipeline": Verb(
        CONFIG, "run all stages of a config file; each starts when the ones it reads from are finished", PLAN,
        "pipeline configs/demo.yaml --on local", "pipeline motor-eegnet --preset size=tiny --nodes 2",
    ),
    "sweep": Verb(
        f"STAGE|pipeline {CONFIG}",
        "run each combination of optim.lr=1e-3,1e-4 seed=0..4; given again, it submits what is missing", PLAN,
        "sweep train my-study.yaml optim.lr=1e-3,1e-4 seed=0..4 --max-parallel 8",
    ),
    "search": Verb(
        f"STAGE {CONFIG}",
        "find the best settings: optim.lr=log:1e-4..1e-2 by --trials N (--sampler, --halving, --each)",
        "hpc.cli.search:act",
        "search train my-study.yaml optim.lr=log:1e-4..1e-2 windows.batch=16,32 --trials 20",
        "search train my-study.yaml optim.lr=log:1e-4..1e-2 --halving 100 --each train.split.fold=0..4",
    ),
    "bench": Verb(
        "protocol=NAME ...",
        "run model=a,b on data=PATH as a public benchmark does, and show them beside its table",
        PLAN, "bench protocol=neuralbench-mental-arithmetic model=eegnet,shallow data=./eegmat",
    ),
    "status": Verb(
        "[RUN ...]", "show the state of these runs, or of all (--watch, --json)", "hpc.cli.runs:show_status",
        "status", "status train-k3f9 --watch",
    ),
    "book": Verb(
        "[RUN ...]", "say what runs have cost in hours, GPU-hours and energy, and how much was of use (--by, --csv)",
        "hpc.cli.runs:show_book", "book", "book --by month --csv 2026.csv", "book pilot --latex cost.tex",
    ),
    "page": Verb(
        "", "write one page of all runs: state, figures, curves, cost, reports; it is kept fresh (--serve)",
        "hpc.cli.runs:write_page", "page", "page --serve",
    ),
    "why": Verb(
        "RUN", "say why a run failed, waits or was ended, what to do now, and who said so (--json)",
        "hpc.cli.runs:explain_run", "why train-k3f9",
    ),
    "logs": Verb(
        "RUN", "print the output of rank 0 of a run (--rank N, --attempt N, -f)", "hpc.cli.runs:show_log",
        "logs train-k3f9 -f", "logs train-k3f9 --rank 3 --attempt 2",
    ),
    "stop": Verb(
        "RUN", "ask a run to save and end (--now: end it at once)", "hpc.cli.runs:stop_run",
        "stop train-k3f9", "stop pilot --now",
    ),
    "resume": Verb(
        "RUN", "continue a stopped run, with other --nodes, --time or --on if you like", PLAN,
        "resume train-k3f9 --time 12h",
    ),
    "fetch": Verb(
        "RUN ... | SOURCE:NAME", "bring files of runs here that ssh took to a cluster (--all), a data set, or weights",
        "hpc.cli.runs:fetch_runs", "fetch train-k3f9 --all", "fetch moabb:BNCI2014_001 -o my-study",
        "fetch hf:braindecode/cbramod-pretrained@main",
    ),
    "clean": Verb(
        "[RUN ...]", "remove unfinished files and, for all runs, code that none uses (--dry-run, --checkpoints)",
        "hpc.cli.clean:clean", "clean --dry-run", "clean train-k3f9 --checkpoints",
    ),
    "verify": Verb(
        "[RUN ...]", "check that the files of these runs, or of all, are what was written (--repair, --accept)",
        "hpc.cli.verify:verify_runs", "verify", "verify preprocess-x7m2 --repair",
    ),
    "replay": Verb(
        "RUN | FILE", "compute a finished run again, or that of a capsule, and say whether it is the same, or why not",
        "hpc.cli.replay:replay_run", "replay train-k3f9", "replay train-k3f9 --nodes 4 --on slurm",
        "replay train-k3f9.zip --data my-study",
    ),
    "capsule": Verb(
        "RUN", "pack what somebody else needs to replay a run, but for the data (-o FILE, --with-data)",
        "hpc.cli.replay:pack_run", "capsule train-k3f9 -o train-k3f9.zip",
    ),
    "drill": Verb(
        f"STAGE {CONFIG}", "break a run on purpose and check that its results do not change (--faults, --repeat)",
        "hpc.cli.drill:run_drill", "drill train my-study.yaml --nodes 2 --faults kill9,signal",
        more="hpc.drill.faults:help_text",
    ),
    "export": Verb(
        "RUN", "write a batch script that runs it without submitit (-o FILE)", PLAN, "export train-k3f9 -o job.sbatch"
    ),
    "recipes": Verb(
        "", "list the config files of the installed packages, and those in configs/ here", "hpc.cli.lists:list_recipes",
        "recipes", "recipes --json",
    ),
    "sites": Verb(
        "", "list the clusters that have a profile, and mark the one this machine belongs to",
        "hpc.cli.lists:list_sites", "sites",
    ),
    "site": Verb(
        "refresh NAME", "write a profile of the cluster you are on, from what its Slurm reports",
        "hpc.cli.lists:write_site", "site refresh my-cluster",
    ),
    "doctor": Verb(
        "[PROBE ...]", "probe a new cluster with a few short jobs, write its profile, and say what will not work",
        "hpc.cli.lists:run_doctor", "doctor --account GRANT -o my-cluster.yaml", "doctor --partition gpu --wait 2h",
        more="hpc.doctor.in_job:help_text",
    ),
    "settings": Verb(
        "[STAGE[.KEY]]", "show every setting of a stage: its type, its default and what it is for",
        "hpc.cli.help:show_settings", "settings train", "settings train.model.eegnet",
    ),
    "completion": Verb(
        "bash|zsh", "print the shell code that completes verbs, options, runs and settings",
        "hpc.cli.completion:show_completion", "completion bash",
    ),
}  # fmt: skip
TOOL = "hpc.cli.verbs:run_verb"
"""The function that carries out a verb from another package."""


def is_tool(name: str) -> bool:
    """Whether a package adds that verb."""
    return name not in VERBS and name in plugins.points("hpc.verbs")


def takes_run(name: str) -> bool:
    """Whether a verb is about runs that are there."""
    return name in VERBS and "RUN" in VERBS[name].words.replace("[", "").replace("]", "").split()


def where(name: str) -> str:
    """Return the function that carries out a verb; every other word is a stage."""
    return VERBS[name].where if name in VERBS else TOOL if is_tool(name) else PLAN


def verbs() -> dict[str, Verb]:
    """Return our verbs and those of installed packages; ours win if the name is the same."""
    theirs = {}
    for name, place in plugins.points("hpc.verbs").items():
        if name not in VERBS:
            examples = plugins.examples(place) or (f"{name} FILE ...",)
            words = examples[0].removeprefix(name).strip()
            theirs[name] = Verb(words, _sentence(place), TOOL, *examples)
    return VERBS | theirs


def _sentence(where: str) -> str:
    text = plugins.sentence(where)
    return f"{text[0].lower()}{text[1:]}" if text else f"a verb of {where.partition('.')[0].partition(':')[0]}"
