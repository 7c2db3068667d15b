"""What may be said on the command line: one table, from which come reading, --help and completion.

Not argparse: importing it costs more than all else that `--help` and `status` do (docs/decisions/0009).
"""

from hpc.errors import ConfigError, did_you_mean

TYPE_CHECKING = False  # as typing has it, without importing it: --help and status answer at once
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "pipeline": ("", "run every stage of a config file, each when those it reads from are finished"),
    "sweep": ("STAGE", "run it for every combination: lr=1e-3,1e-4 seed=0..4; again: what is missing"),
    "status": ("[RUN …]", "what has become of the runs (--watch, --json)"),
    "logs": ("RUN", "what rank 0 of a run has printed (--rank N, --attempt N, -f)"),
    "stop": ("RUN", "ask a run to save and end (--now: end it at once)"),
    "resume": ("RUN", "go on with a run that has stopped, also with other --nodes, --time, --on"),
    "drill": ("STAGE", "break a run on purpose and see whether it ends the same (--faults, --repeat)"),
    "export": ("RUN", "write a batch script that runs it without submitit (-o FILE)"),
    "site": ("refresh NAME", "write a profile of the cluster you are on, from what its Slurm says"),
    "completion": ("bash|zsh", "what a shell needs to complete verbs, options, runs and settings"),
}

TEXT = """\
usage: python -m hpc.launch VERB [FILE.yaml …] [key=value …] [options]

Run a stage of an experiment on this machine or as a Slurm job.

verbs:
  STAGE                one stage; with this project: synthesize, preprocess, train, evaluate
{verbs}
{options}

examples:
  python -m hpc.launch pipeline configs/demo.yaml
  python -m hpc.launch train configs/demo.yaml optim.lr=1e-3 --nodes 2
  python -m hpc.launch train --nodes 2 --on slurm --dry-run

Without a file, configs/default.yaml is read. The same science twice is the same run: finished, it says so;
stopped, it goes on. RUN is a run's name, the beginning of it, its --name or its job. Exit codes: 0 done,
1 failed, 2 wrong usage, 3 not taken by the scheduler, 75 stopped, can go on, 76 hung, 93 wrong for good.
"""


class Words:
    """What was said. None or False: it was not."""

    def __init__(self) -> None:
        self.verb = ""
        self.words: list[str] = []
        """Config files, key=value settings, or names of runs."""
        self.help = False

        self.on: str | None = None
        self.nodes: int | None = None
        self.gpus: int | None = None
        self.ranks: int | None = None
        self.cpus: int | None = None
        self.mem: float | None = None
        self.time: str | None = None
        self.hang: str | None = None
        self.partition: str | None = None
        self.account: str | None = None
        self.scratch: int | None = None
        self.stage: str | None = None
        self.runs = "runs"
        self.exclude: str | None = None
        self.constraint: str | None = None
        self.comment: str | None = None
        self.mail: str | None = None
        self.after: str | None = None
        self.max_parallel: int | None = None

        self.name: str | None = None
        self.again = False
        self.dry_run = False
        self.prepare = False
        self.follow = False
        self.yes = False
        self.output: str | None = None
        self.json = False

        self.faults: str | None = None
        self.repeat: int | None = None
        self.watch = False
        self.rank = 0
        self.attempt: int | None = None
        self.save = False
        self.now = False
        self.replace = False


def natural(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def whole(text: str) -> int:
    if not text.isdigit():
        raise ValueError("a whole number")
    return int(text)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


Option = tuple[str, str, str, "Callable[[str], object] | None", str]
"""How it is said, the field of Words, the value it takes in capitals, how that is read (None: no value), what for."""

GROUPS: dict[str, list[Option]] = {
    "where and with what": [
        ("--on", "on", "SITE", str, "local, debug, slurm, or a profile of configs/site; found out if left out"),
        ("--nodes", "nodes", "N", whole, "how many nodes"),
        ("--gpus", "gpus", "N", whole, "GPUs a node, one rank each"),
        ("--ranks", "ranks", "N", whole, "processes a node, when not one a GPU"),
        ("--cpus", "cpus", "N", whole, "CPU cores a rank"),
        ("--mem", "mem", "GB", number, "memory a node"),
        ("--time", "time", "4h", str, "walltime; at its end the run is saved and goes on in a new job"),
        ("--hang", "hang", "15m", str, "a run of which no rank gets on for so long is ended and started again"),
        ("--partition", "partition", "NAME", str, "other than the profile's"),
        ("--account", "account", "NAME", str, "the grant; docs/sites.md says where else it is looked for"),
        ("--scratch", "scratch", "GB", whole, "disk of the node's own, where a site has it to ask for"),
        ("--stage", "stage", "PATH", str, "auto, off, or where data that is read often is copied to on each node"),
        ("--runs", "runs", "DIR", str, "the folder of run folders (runs)"),
        ("--exclude", "exclude", "NODES", str, "nodes to keep off"),
        ("--constraint", "constraint", "WORD", str, "a feature the nodes must have"),
        ("--comment", "comment", "TEXT", str, "for Slurm's books"),
        ("--mail", "mail", "ADDRESS", str, "Slurm writes there when the job ends, fails or is requeued"),
        ("--after", "after", "RUN", str, "start when that run has succeeded"),
        ("--max-parallel", "max_parallel", "N", natural, "how many runs of a sweep at a time"),
    ],
    "how": [
        ("--name", "name", "WORD", str, "what you call the run: in status, in Slurm, and wherever RUN is asked for"),
        ("--again", "again", "", None, "a new run of what is finished or begun already"),
        ("--dry-run", "dry_run", "", None, "print the plan and the batch script, do nothing"),
        ("--prepare", "prepare", "", None, "write the run folder, start nothing: for slurm/run.sbatch"),
        ("--follow", "follow", "", None, "watch a Slurm run (a local one is watched anyway); logs: go on printing"),
        ("--yes", "yes", "", None, "do not ask before a sweep of many runs"),
        ("--json", "json", "", None, "what came of it as JSON, for scripts; all else goes to stderr"),
        ("--output", "output", "FILE", str, "where export writes; else to the terminal"),
    ],
    "one verb each": [
        ("--watch", "watch", "", None, "status: again every two seconds"),
        ("--rank", "rank", "N", whole, "logs: whose"),
        ("--attempt", "attempt", "N", natural, "logs: of that start of the ranks; else the newest"),
        ("--save", "save", "", None, "stop: save first, as it does anyway"),
        ("--now", "now", "", None, "stop: at once, without saving"),
        (
            "--faults",
            "faults",
            "LIST",
            str,
            "drill: of signal, term, kill9, supervisor, hang, damage, scancel, disk, …",
        ),
        ("--repeat", "repeat", "N", natural, "drill: so many faults, drawn at random"),
        ("--replace", "replace", "", None, "site refresh: may write over a profile of yours"),
    ],
}
SHORT = {"-f": "--follow", "-o": "--output", "-h": "--help"}
OPTIONS: dict[str, Option] = {option[0]: option for group in GROUPS.values() for option in group}
OPTIONS["--help"] = ("--help", "help", "", None, "this")


def read(argv: "Sequence[str]") -> Words:
    """The words of a command line, in any order; `--nodes 2` and `--nodes=2` are the same, `--` ends the options."""
    said = Words()
    plain: list[str] = []
    coming = iter(argv)
    for word in coming:
        if word == "--":
            plain += coming
        elif word.startswith("-") and len(word) > 1:
            name, equals, value = word.partition("=")
            name = SHORT.get(name, name)
            if name not in OPTIONS:
                raise ConfigError(f"there is no option {name}.{did_you_mean(name, OPTIONS)}")
            _, field, metavar, convert, _ = OPTIONS[name]
            if convert is None and equals:
                raise ConfigError(f"{name} takes no value, but got {value!r}")
            if convert is None:
                setattr(said, field, True)
            else:
                setattr(said, field, _value(name, metavar, convert, value if equals else next(coming, None)))
        else:
            plain.append(word)
    if plain:
        said.verb, said.words = plain[0], plain[1:]
    elif not said.help:
        raise ConfigError("say what to do: python -m hpc.launch VERB; --help lists the verbs")
    return said


def _value(name: str, metavar: str, convert: "Callable[[str], object]", text: str | None) -> object:
    if text is None:
        raise ConfigError(f"{name} needs a value: {name} {metavar}")
    try:
        return convert(text)
    except ValueError as error:
        raise ConfigError(f"{name} needs {error}, but got {text!r}") from None


def help_text() -> str:
    verbs = "\n".join(f"  {f'{verb} {words}':<20} {what}" for verb, (words, what) in VERBS.items())
    short = {long: f"{letter}, " for letter, long in SHORT.items()}
    blocks = []
    for group, options in GROUPS.items():
        said = {short.get(name, "") + f"{name} {metavar}": what for name, _, metavar, _, what in options}
        lines = [f"  {how:<20} {what}" for how, what in said.items()]
        blocks.append("\n".join([f"\n{group}:", *lines]))
    return TEXT.format(verbs=verbs, options="\n".join(blocks))
