"""What may be said on the command line: one table, from which come reading, --help and completion.

Not argparse: importing it costs more than all else that `--help` and `status` do (docs/decisions/0009).
"""

from hpc.errors import ConfigError, did_you_mean, notice_of_new_word

TYPE_CHECKING = False  # as typing has it, without importing it: --help and status answer at once
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "pipeline": ("", "run every stage of a config file, each when those it reads from are finished"),
    "sweep": ("STAGE", "run it for every combination: lr=1e-3,1e-4 seed=0..4; again: what is missing"),
    "status": ("[RUN ...]", "what has become of the runs (--watch, --json)"),
    "logs": ("RUN", "what rank 0 of a run has printed (--rank N, --attempt N, -f)"),
    "stop": ("RUN", "ask a run to save and end (--now: end it at once)"),
    "resume": ("RUN", "go on with a run that has stopped, also with other --nodes, --time, --on"),
    "drill": ("STAGE", "break a run on purpose and see whether it ends the same (--faults, --repeat)"),
    "export": ("RUN", "write a batch script that runs it without submitit (-o FILE)"),
    "recipes": ("", "the config files that come with what is installed, and those in configs/ here"),
    "sites": ("", "the clusters that have a profile, and which of them this machine is"),
    "site": ("refresh NAME", "write a profile of the cluster you are on, from what its Slurm says"),
    "settings": ("[STAGE[.KEY]]", "every setting of a stage: type, default and what it is for"),
    "inspect": ("FILE [FILE]", "what a file of parameters holds, what of it model=NAME would load; how two differ"),
    "completion": ("bash|zsh", "what a shell needs to complete verbs, options, runs and settings"),
}

SYNONYMS = {
    "cancel": "stop", "scancel": "stop", "kill": "stop RUN --now", "ls": "status", "list": "status", "ps": "status",
    "squeue": "status", "log": "logs", "tail": "logs RUN -f", "fit": "train", "run": "train, or pipeline",
    "submit": "train, or pipeline", "start": "train, or pipeline", "restart": "resume", "requeue": "resume",
    "config": "settings", "reference": "settings", "models": "settings train.model", "help": "--help, or VERB --help",
}  # fmt: skip
"""What others call it: named in the error."""

TEXT = """\
usage: python -m hpc.launch VERB [FILE.yaml or RECIPE ...] [key=value ...] [options]     (hpc VERB ... is the same)

Run a stage of an experiment on this machine or as a Slurm job.

verbs:
  STAGE                in this project: synthesize, survey, preprocess, audit, estimate, train, soup, evaluate, compare,
                       submission, stream
{verbs}
{options}

examples:
  python -m hpc.launch pipeline configs/demo.yaml
  python -m hpc.launch train configs/demo.yaml optim.lr=1e-3 --nodes 2
  python -m hpc.launch train --nodes 2 --on slurm --dry-run

Without a file, configs/default.yaml is read, or the recipe that comes with the stage. What a stage reads is
made first where it is not there yet. The same science twice is the same run: finished, it says so; stopped, it
goes on. RUN is a run's name, the beginning of it, its --name or its job. Exit codes: 0 done, 1 failed, 2 wrong
usage, 3 not taken by the scheduler, 75 stopped, can go on, 76 hung, 93 wrong for good.
"""


class Arguments:
    """What was said. None or False: it was not."""

    def __init__(self) -> None:
        self.verb = ""
        self.words: list[str] = []
        """Config files, key=value settings, or names of runs."""
        self.help = False
        self.version = False

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
        self.mpi: bool | None = None
        self.runs = "runs"
        self.exclude: str | None = None
        self.constraint: str | None = None
        self.comment: str | None = None
        self.mail: str | None = None
        self.after: str | None = None
        self.max_parallel: int | None = None

        self.preset: str | None = None
        self.draws: int | None = None
        self.name: str | None = None
        self.again = False
        self.only = False
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


def whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("a whole number")
    return int(text)


def natural(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def gigabytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("a number") from None
    if not abs(number) < 1e6:  # nan is not
        raise ValueError("a number below a million")
    return number


def one_line(text: str) -> str:
    if not text.isprintable():  # a batch script has a line for it
        raise ValueError("one line without control characters")
    return text


def run_name(text: str) -> str:
    import re

    if not re.fullmatch(r"[A-Za-z_][\w.-]{0,39}", text, re.ASCII):
        raise ValueError("a letter or _, then up to 39 letters, digits, _ . and -")
    return text


PLAN = "STAGE pipeline sweep resume drill export"
"""The verbs that make a plan; STAGE is for all stages."""
START = "STAGE pipeline sweep resume"
ONE = "STAGE pipeline resume"

Option = tuple[str, str, "Callable[[str], object] | None", str, str]
"""How it is said, the value it takes in capitals, how that is read (None: no value), for which verbs, what for."""

GROUPS: dict[str, list[Option]] = {
    "where and with what": [
        ("--on", "SITE", one_line, PLAN, "local, debug, slurm, or a profile of configs/site; found out if left out"),
        ("--nodes", "N", whole, PLAN, "how many nodes"),
        ("--gpus", "N", whole, PLAN, "GPUs a node, one rank each"),
        ("--ranks", "N", whole, PLAN, "processes a node, when not one a GPU"),
        ("--cpus", "N", whole, PLAN, "CPU cores a rank"),
        ("--mem", "GB", gigabytes, PLAN, "memory a node"),
        ("--time", "4h", one_line, PLAN, "walltime; at its end the run is saved and goes on in a new job"),
        ("--hang", "15m", one_line, PLAN, "a run of which no rank gets on for so long is ended and started again"),
        ("--partition", "NAME", one_line, PLAN, "other than the profile's"),
        ("--account", "NAME", one_line, PLAN, "the grant; docs/sites.md says where else it is looked for"),
        ("--scratch", "GB", whole, PLAN, "disk of the node's own, where a site has it to ask for"),
        ("--stage", "PATH", one_line, PLAN, "auto, off, or where data that is read often is copied to on each node"),
        ("--mpi", "", None, PLAN, "ranks are MPI processes: of mpiexec here, of srun --mpi on a cluster"),
        ("--runs", "DIR", str, f"{PLAN} status logs stop", "the folder of run folders (runs)"),
        ("--exclude", "NODES", one_line, PLAN, "nodes to keep off"),
        ("--constraint", "WORD", one_line, PLAN, "a feature the nodes must have"),
        ("--comment", "TEXT", one_line, PLAN, "for Slurm's books"),
        ("--mail", "ADDRESS", one_line, PLAN, "Slurm writes there when the job ends, fails or is requeued"),
        ("--after", "RUN", str, ONE, "start when that run has succeeded"),
        ("--max-parallel", "N", natural, "sweep", "how many runs at a time"),
    ],
    "how": [
        (
            "--preset",
            "NAME=VALUE",
            str,
            "STAGE pipeline sweep drill",
            "a preset of the file: size=tiny",
        ),
        (
            "--draws",
            "N",
            natural,
            "sweep",
            "so many combinations, drawn, also from lr=log:1e-4..1e-2 or dropout=0..0.5",
        ),
        ("--name", "WORD", run_name, f"{START} export", "what you call the run, wherever RUN is asked for"),
        ("--again", "", None, "STAGE pipeline sweep", "a new run of what is finished or begun already"),
        ("--only", "", None, "STAGE sweep", "refuse where what it reads is not there, instead of making it first"),
        ("--dry-run", "", None, START, "print the plan and the batch script, do nothing"),
        ("--prepare", "", None, START, "write the run folder, start nothing: for slurm/run.sbatch"),
        ("--follow", "", None, f"{ONE} logs", "watch a Slurm run, as a local one is anyway; logs: go on printing"),
        ("--yes", "", None, "sweep stop", "do not ask before it is done to many runs"),
        (
            "--json",
            "",
            None,
            f"{START} status stop inspect recipes sites settings",
            "what came of it as JSON, for scripts; all else goes to stderr",
        ),
        ("--output", "FILE", str, "export", "where it writes; else to the terminal"),
    ],
    "one verb each": [
        ("--watch", "", None, "status", "again every two seconds"),
        ("--rank", "N", whole, "logs", "whose"),
        ("--attempt", "N", natural, "logs", "of that start of the ranks; else the newest"),
        ("--save", "", None, "stop", "save first, as it does anyway"),
        ("--now", "", None, "stop", "at once, without saving"),
        ("--faults", "LIST", str, "drill", "of signal, term, kill9, supervisor, hang, damage, scancel, disk, ..."),
        ("--repeat", "N", natural, "drill", "so many faults, drawn at random"),
        ("--replace", "", None, "site", "refresh: may write over a profile of yours"),
    ],
}
SHORT = {"-f": "--follow", "-o": "--output", "-h": "--help"}
FORMER = {"--set": "--preset"}
"""Options that were called otherwise: the old word works for one version, and says so."""
OPTIONS: dict[str, Option] = {option[0]: option for group in GROUPS.values() for option in group}
OPTIONS["--help"] = ("--help", "", None, "", "this")
OPTIONS["--version"] = ("--version", "", None, "", "which hpc this is, and of which Python")


def fits(option: Option, verb: str) -> bool:
    """Whether a verb, or the stage of that name, takes an option."""
    return option[0] in ("--help", "--version") or (verb if verb in VERBS else "STAGE") in option[3].split()


def read(argv: "Sequence[str]") -> Arguments:
    """The words of a command line, in any order; `--nodes 2` and `--nodes=2` are the same, `--` ends the options."""
    args = Arguments()
    plain: list[str] = []
    used: list[Option] = []
    coming = iter(argv)
    for word in coming:
        if word == "--":
            plain += coming
        elif word.startswith("-") and len(word) > 1:
            name, equals, text = word.partition("=")
            name = SHORT.get(name, name)
            if name in FORMER:
                notice_of_new_word(name, FORMER[name])
                name = FORMER[name]
            if name not in OPTIONS:
                raise ConfigError(f"there is no option {name}.{did_you_mean(name, OPTIONS)}")
            option = OPTIONS[name]
            used.append(option)
            if option[2] is None and equals:
                raise ConfigError(f"{name} takes no value, but got {text!r}")
            value = True if option[2] is None else _value(option, text if equals else next(coming, None))
            if value != "":  # "$RUNS" of a script where it is not set: not said
                setattr(args, name[2:].replace("-", "_"), value)
        else:
            plain.append(word)
    if plain:
        args.verb, args.words = plain[0], plain[1:]
    elif not args.help and not args.version:
        raise ConfigError("say what to do: python -m hpc.launch VERB; --help lists the verbs")
    for option in used:
        if not args.help and not fits(option, args.verb):
            raise ConfigError(f"{option[0]} is for {_list(option[3].split())}, not for {args.verb}")
    return args


def _list(words: list[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _value(option: Option, text: str | None) -> object:
    name, metavar, convert, _, _ = option
    assert convert is not None
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
        lines = []
        for name, metavar, _, taken_by, what in options:
            how, whose = f"{short.get(name, '')}{name} {metavar}", "" if " " in taken_by else f"{taken_by}: "
            lines.append(f"  {how:<20} {whose}{what}")
        blocks.append("\n".join([f"\n{group}:", *lines]))
    return TEXT.format(verbs=verbs, options="\n".join(blocks))
